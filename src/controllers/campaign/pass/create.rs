//! Writes Coupons. Their names say what they record, so that the API server refuses a second one.

use std::sync::atomic::{AtomicBool, Ordering};

use futures::stream::{self, StreamExt};
use kube::Api;
use kube::api::PostParams;
use kube::core::ObjectMeta;

use super::Pass;
use crate::api::coupon::{Coupon, CouponSpec};
use crate::controllers::error::{Error, bounded};
use crate::issuing::names::{Grant, coupon_name};

/// Creates in flight: names make them safe side by side.
const CREATES_AT_ONCE: usize = 8;

/// A Coupon that could not be written.
pub(super) enum CreateError {
    Api(Error),
    NameConflict(String),
}

impl Pass<'_> {
    /// Writes Coupons until all are there, one fails, or the Campaign is suspended. Returns those that
    /// are there.
    pub(super) async fn create_all(&self, drafts: Vec<CouponSpec>) -> (Vec<Coupon>, Option<CreateError>) {
        let stop = AtomicBool::new(false);
        let goes_on = |_: &CouponSpec| std::future::ready(!stop.load(Ordering::Relaxed) && self.goes_on());
        let mut results =
            stream::iter(drafts).take_while(goes_on).map(|draft| self.create(draft)).buffered(CREATES_AT_ONCE);
        let (mut created, mut failed) = (Vec::new(), None);
        while let Some(result) = results.next().await {
            match result {
                Ok(coupon) => created.push(coupon),
                // Those already on their way are let finish, so that they are counted.
                Err(error) => {
                    stop.store(true, Ordering::Relaxed);
                    failed = failed.or(Some(error));
                }
            }
        }
        drop(results);
        (created, failed)
    }

    /// Writes one Coupon. If one of that name is there, it must record the same grant.
    async fn create(&self, spec: CouponSpec) -> Result<Coupon, CreateError> {
        let name = coupon_name(grant(&spec));
        let api: Api<Coupon> = Api::namespaced(self.context.client.clone(), &self.fetched.namespace);
        let metadata = ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() };
        let coupon = Coupon { metadata, spec, status: None };
        match bounded(api.create(&PostParams::default(), &coupon)).await {
            Ok(created) => Ok(created),
            Err(error) if error.is_conflict() => {
                let there = bounded(api.get(&name)).await.map_err(CreateError::Api)?;
                if grant(&there.spec) == grant(&coupon.spec) {
                    return Ok(there);
                }
                Err(CreateError::NameConflict(format!(
                    "Coupon {name} exists and records something else, so {} gets no code: delete or rename that Coupon",
                    coupon.spec.recipient
                )))
            }
            Err(error) => Err(CreateError::Api(error)),
        }
    }
}

fn grant(spec: &CouponSpec) -> Grant<'_> {
    Grant {
        campaign: spec.campaign.as_deref().unwrap_or_default(),
        rule: spec.rule.as_deref().unwrap_or_default(),
        occurrence: spec.occurrence.as_deref().unwrap_or_default(),
        recipient: &spec.recipient,
    }
}
