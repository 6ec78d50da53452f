//! Looks for what people decide of Coupons that are settled, and so are not watched otherwise. Nothing of
//! them is kept: the API server sends their metadata, and most have no such annotation.

use std::sync::Arc;

use futures::{StreamExt, stream};
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use tokio::sync::mpsc;

use super::apply::replace;
use super::resolve;
use crate::api::RESOLVE_ANNOTATION;
use crate::api::coupon::{Coupon, CouponState};
use crate::controllers::context::Context;
use crate::controllers::counting::News;
use crate::controllers::error::{Error, bounded};

/// Coupons that are resolved at once.
const AT_ONCE: usize = 8;

/// A Coupon to resolve, and how often that failed.
type Due = (PartialObjectMeta<Coupon>, u32);

/// Runs until it is dropped.
pub async fn run(api: Api<PartialObjectMeta<Coupon>>, context: &Arc<Context>) {
    // Without them no namespace would be one to work in.
    context.listed.namespaces.wait().await;
    let config = watcher::Config::default().fields(CouponState::TROUBLED_SELECTOR);
    let changes = watcher(api, config).default_backoff().filter_map(annotated).map(|coupon| (coupon, 0));
    let (again, due) = mpsc::unbounded_channel();
    let due = stream::unfold(due, |mut due| async { Some((due.recv().await?, due)) });
    let all = stream::select(changes, due);
    all.for_each_concurrent(AT_ONCE, |due| resolve(due, &again, context)).await;
}

async fn annotated(
    event: Result<watcher::Event<PartialObjectMeta<Coupon>>, watcher::Error>,
) -> Option<PartialObjectMeta<Coupon>> {
    match event {
        Ok(watcher::Event::InitApply(coupon) | watcher::Event::Apply(coupon)) => {
            coupon.annotations().contains_key(RESOLVE_ANNOTATION).then_some(coupon)
        }
        Ok(watcher::Event::Init | watcher::Event::InitDone | watcher::Event::Delete(_)) => None,
        Err(error) => {
            tracing::warn!(kind = "Coupon", error = %error, "the watch for annotations was interrupted");
            None
        }
    }
}

/// Follows the annotation of one Coupon. Until that succeeds it comes back, since nothing else would bring it; and
/// holds no place meanwhile, which one that is refused for ever would take from all others.
async fn resolve((seen, failures): Due, again: &mpsc::UnboundedSender<Due>, context: &Arc<Context>) {
    let (namespace, name) = (seen.namespace().unwrap_or_default(), seen.name_any());
    let Err(error) = once(&namespace, &name, context).await else { return };
    if error.is_not_found() {
        return;
    }
    if !error.is_conflict() {
        tracing::warn!(namespace, coupon = name, error = %error, "a resolution will be tried again");
    }
    let (again, wait) = (again.clone(), error.retry_after(failures));
    tokio::spawn(async move {
        tokio::time::sleep(wait).await;
        // Without its receiver the process is stopping.
        let _ = again.send((seen, failures.saturating_add(1)));
    });
}

async fn once(namespace: &str, name: &str, context: &Arc<Context>) -> Result<(), Error> {
    let api: Api<Coupon> = Api::namespaced(context.client.clone(), namespace);
    let Some(coupon) = bounded(api.get_opt(name)).await? else { return Ok(()) };
    // What is not settled is looked at by its own controller.
    let settled = coupon.status.as_ref().is_some_and(|status| status.state.is_settled());
    let Some(status) = resolve::run(&coupon, context.clock.now()).filter(|_| settled) else { return Ok(()) };
    if !context.works_in(namespace) {
        return Ok(());
    }
    let annotation = resolve::pending(&coupon).unwrap_or_default();
    let resolved = replace(&coupon, status, context).await?;
    tracing::info!(namespace, coupon = name, annotation, "resolved as a person decided");
    if let Some(campaign) = &coupon.spec.campaign {
        context.counts.note(&resolved);
        context.campaigns.coupon_changed(namespace, campaign, News::Counted);
        context.wake_campaigns.send();
    }
    Ok(())
}
