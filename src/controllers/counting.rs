//! The counts of campaigns, kept from one reading of the ledger to the next by what the watch shows and what this process
//! writes.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kube::ResourceExt;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::Event;

use super::own_writes::OwnWrites;
use crate::api::coupon::Coupon;
use crate::issuing::counts::Counts;

/// The counts of each Campaign that is looked at, by namespace and name.
#[derive(Default)]
pub struct CampaignCounts(Mutex<HashMap<(String, String), Counts>>);

impl CampaignCounts {
    pub fn with<T>(&self, namespace: &str, campaign: &str, look: impl FnOnce(&mut Counts) -> T) -> T {
        look(self.lock().entry((namespace.to_owned(), campaign.to_owned())).or_default())
    }

    /// Notes how a Coupon of a Campaign stands, if that is counted.
    pub fn note(&self, coupon: &Coupon) {
        let Some(key) = coupon.namespace().zip(coupon.spec.campaign.clone()) else { return };
        if let Some(counts) = self.lock().get_mut(&key) {
            counts.note(coupon);
        }
    }

    /// Nothing of it changes any more, or it is gone.
    pub fn forget(&self, namespace: &str, campaign: &str) {
        self.lock().remove(&(namespace.to_owned(), campaign.to_owned()));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(String, String), Counts>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a Campaign is to know of an event of its Coupons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// Its counts know.
    Counted,
    /// A Coupon is gone, or settled, by what another did: all are to be read again.
    Unknown,
}

/// Notes what the watch of Coupons shows.
pub fn note(event: &Event<DeserializeGuard<Coupon>>, own_writes: &OwnWrites, counts: &CampaignCounts) -> News {
    match event {
        Event::InitApply(DeserializeGuard(Ok(coupon))) => counts.note(coupon),
        Event::Apply(DeserializeGuard(Ok(coupon))) => {
            counts.note(coupon);
            own_writes.seen(coupon);
        }
        // How it stands is known by whoever wrote it: the watch shows it as it was before.
        Event::Delete(DeserializeGuard(Ok(coupon))) if !own_writes.gone(coupon) => return News::Unknown,
        Event::InitDone => own_writes.clear(),
        Event::Init | Event::InitApply(_) | Event::Apply(_) | Event::Delete(_) => {}
    }
    News::Counted
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn coupon(version: &str) -> DeserializeGuard<Coupon> {
        let metadata = json!({ "name": "c", "namespace": "n", "resourceVersion": version });
        let spec =
            json!({ "campaign": "c", "rule": "r", "occurrence": "k", "recipient": "r", "code": "C", "deliveries": [] });
        let object = json!({ "apiVersion": "coupon-operator.dev/v1alpha1", "kind": "Coupon", "metadata": metadata, "spec": spec });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn a_coupon_that_left_the_watch_is_known_only_to_whoever_wrote_it() {
        let (own_writes, counts) = (OwnWrites::default(), CampaignCounts::default());
        let (before, gone) = (coupon("1"), Event::Delete(coupon("2")));
        assert_eq!(note(&Event::Apply(coupon("1")), &own_writes, &counts), News::Counted);
        assert_eq!(note(&gone, &own_writes, &counts), News::Unknown);
        own_writes.begin(before.0.as_ref().unwrap());
        assert_eq!(note(&gone, &own_writes, &counts), News::Counted);
    }

    #[test]
    fn i8_only_campaigns_that_are_looked_at_are_counted() {
        let counts = CampaignCounts::default();
        note(&Event::InitApply(coupon("1")), &OwnWrites::default(), &counts);
        assert!(counts.lock().is_empty());
        counts.with("n", "c", |counts| {
            let reading = counts.begin();
            counts.end("r", reading, Some("0"));
        });
        note(&Event::Apply(coupon("1")), &OwnWrites::default(), &counts);
        assert_eq!(counts.with("n", "c", |counts| counts.tally("r", "k", "")).unwrap().issued, 1);
        counts.forget("n", "c");
        assert!(counts.lock().is_empty());
    }
}
