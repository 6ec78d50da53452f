//! What is watched, and what of it wakes which controller.

use std::sync::{Arc, Mutex, PoisonError};

use futures::stream::{self, BoxStream, StreamExt};
use k8s_openapi::api::core::v1::Namespace;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{Controller, WatchStreamExt, watcher};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};

use super::context::{Listed, Noted};
use super::counting::{self, News};
use super::run::{Guarded, Scope};
use super::standing::Standings;
use crate::api::campaign::Campaign;
use crate::api::coupon::Coupon;
use crate::api::webhook::Webhook;

/// A controller that notes when its objects were listed, keeps of each what `keep` leaves, and shows each event.
pub(super) fn controller<K>(
    api: Api<Guarded<K>>,
    config: watcher::Config,
    listed: &Arc<Listed>,
    keep: impl FnMut(&mut Guarded<K>) + Send + 'static,
    note: impl Fn(&watcher::Event<Guarded<K>>) + Send + 'static,
) -> Controller<Guarded<K>>
where
    Guarded<K>: Resource<DynamicType = ()> + DeserializeOwned + Clone + std::fmt::Debug + Send + Sync + 'static,
{
    let (reader, writer) = reflector::store();
    let listed = listed.clone();
    let events = reflector::reflector(writer, watcher(api, config).modify(keep)).inspect(move |event| {
        event.iter().for_each(&note);
        if matches!(event, Ok(watcher::Event::InitDone)) {
            listed.set();
        }
    });
    Controller::for_stream(events.applied_objects(), reader)
}

/// A Campaign is looked at again when a Webhook that it may name changes.
pub(super) fn watch_webhooks(campaigns: Controller<Guarded<Campaign>>, scope: &Scope) -> Controller<Guarded<Campaign>> {
    let store = campaigns.store();
    let of_webhook = move |webhook: PartialObjectMeta<Webhook>| {
        let namespace = webhook.metadata.namespace;
        let beside = store.state().into_iter().filter(move |c| c.meta().namespace == namespace);
        beside.map(|c| ObjectRef::from_obj(&*c)).collect::<Vec<_>>()
    };
    campaigns.watches(scope.api::<PartialObjectMeta<Webhook>>(), watcher::Config::default(), of_webhook)
}

/// A cache of the namespaces' labels, and a stream that says when it changed.
pub(super) fn namespaces(
    scope: &Scope,
    listed: &Arc<Listed>,
) -> (Store<PartialObjectMeta<Namespace>>, BoxStream<'static, ()>) {
    let (reader, writer) = reflector::store();
    let named = scope.namespace.as_ref().map(|name| format!("metadata.name={name}"));
    let config = named.map_or_else(watcher::Config::default, |name| watcher::Config::default().fields(&name));
    let events = watcher(Api::<PartialObjectMeta<Namespace>>::all(scope.client.clone()), config);
    let listed = listed.clone();
    let events = reflector::reflector(writer, events).default_backoff().filter_map(move |event| {
        if matches!(event, Ok(watcher::Event::InitDone)) {
            listed.set();
        }
        std::future::ready(match event {
            Ok(watcher::Event::Init | watcher::Event::InitApply(_)) => None,
            Ok(_) => Some(()),
            Err(error) => {
                tracing::warn!(error = %error, "the watch of namespaces was interrupted");
                None
            }
        })
    });
    (reader, events.boxed())
}

/// What the cache holds of a Coupon: its rows are read when its turn comes, and who managed which field never is.
pub(super) fn outline(coupon: &mut Guarded<Coupon>) {
    if let Ok(coupon) = &mut coupon.0 {
        coupon.spec.rows = coupon.spec.rows.outline();
        coupon.metadata.managed_fields = None;
    }
}

/// The Campaign that a Coupon was issued by.
fn issuer(coupon: &Guarded<Coupon>) -> Option<ObjectRef<Guarded<Campaign>>> {
    let coupon = coupon.0.as_ref().ok()?;
    Some(ObjectRef::new(coupon.spec.campaign.as_ref()?).within(coupon.metadata.namespace.as_ref()?))
}

fn object<K>(event: &watcher::Event<K>) -> Option<&K> {
    match event {
        watcher::Event::InitApply(object) | watcher::Event::Apply(object) | watcher::Event::Delete(object) => {
            Some(object)
        }
        watcher::Event::Init | watcher::Event::InitDone => None,
    }
}

/// What was looked at before the objects that it depends on were listed found none, and nothing else would wake it
/// soon: of a Webhook that needs no write there is no further event.
pub(super) fn once(listed: Arc<Listed>) -> impl futures::Stream<Item = ()> + Send {
    stream::once(async move { listed.wait().await })
}

pub(super) fn changes(receiver: watch::Receiver<u64>) -> impl futures::Stream<Item = ()> + Send {
    stream::unfold(receiver, |mut receiver| async move { receiver.changed().await.ok().map(|()| ((), receiver)) })
}

pub(super) fn received<T: Send + 'static>(
    receiver: mpsc::UnboundedReceiver<T>,
) -> impl futures::Stream<Item = T> + Send {
    stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) })
}

/// Campaigns that a controller is told of.
type Campaigns = mpsc::UnboundedReceiver<ObjectRef<Guarded<Campaign>>>;

/// Campaigns of Coupons that changed, and what is known of that.
pub(super) type Issuers = mpsc::UnboundedReceiver<(ObjectRef<Guarded<Campaign>>, News)>;

/// What is to be done with each event of the watch of Coupons; and the Campaigns of those that changed.
pub(super) fn of_coupons(noted: &Noted) -> (impl Fn(&watcher::Event<Guarded<Coupon>>) + Send + 'static, Issuers) {
    let (changed, issuers) = mpsc::unbounded_channel();
    let noted = noted.clone();
    let note = move |event: &watcher::Event<Guarded<Coupon>>| {
        let news = counting::note(event, &noted.own_writes, &noted.counts);
        // Without its receiver there is nobody to tell.
        object(event).and_then(issuer).map(|campaign| changed.send((campaign, news)));
    };
    (note, issuers)
}

/// The Campaigns whose Coupons are to be looked at again, from their watch.
pub(super) fn of_campaigns(noted: &Noted) -> (impl Fn(&watcher::Event<Guarded<Campaign>>) + Send + 'static, Campaigns) {
    let (changed, standing) = mpsc::unbounded_channel();
    let standings = Mutex::new(Standings::default());
    let noted = noted.clone();
    let note = move |event: &watcher::Event<Guarded<Campaign>>| {
        if let watcher::Event::Delete(campaign) = event {
            let (namespace, name) = (campaign.namespace().unwrap_or_default(), campaign.name_any());
            noted.counts.forget(&namespace, &name);
            noted.campaigns.forget(&namespace, &name);
        }
        let campaigns = standings.lock().unwrap_or_else(PoisonError::into_inner).changed(event);
        // Without its receiver there is nobody to tell.
        for campaign in campaigns {
            let _ = changed.send(campaign);
        }
    };
    (note, standing)
}

/// The Coupons of Campaigns that wait in the cache.
pub(super) fn coupons_of(
    campaigns: Campaigns,
    coupons: Store<Guarded<Coupon>>,
) -> impl futures::Stream<Item = ObjectRef<Guarded<Coupon>>> + Send {
    received(campaigns).flat_map(move |campaign| {
        let of_it = coupons.state().into_iter().filter(move |coupon| issuer(coupon).as_ref() == Some(&campaign));
        stream::iter(of_it.map(|coupon| ObjectRef::from_obj(&*coupon)).collect::<Vec<_>>())
    })
}
