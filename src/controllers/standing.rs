//! Which Campaigns began to be, were suspended or went on: seen at their watch, since a reconcile may be in the middle
//! of a long pass while somebody suspends a Campaign and lets it go on.

use std::collections::HashMap;

use kube::ResourceExt;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher::Event;

use crate::api::campaign::Campaign;

type Guarded = DeserializeGuard<Campaign>;

/// What the Coupons of a Campaign look at.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Standing {
    uid: Option<String>,
    suspended: bool,
    deleted: bool,
    /// Occurrences, by rule and key, of which nothing is sent.
    stopped: Vec<(String, String)>,
}

impl Standing {
    fn of(campaign: &Guarded) -> Option<(ObjectRef<Guarded>, Self)> {
        let found = campaign.0.as_ref().ok()?;
        let deleted = found.metadata.deletion_timestamp.is_some();
        let occurrences = found.status.iter().flat_map(|status| &status.occurrences).filter(|o| o.stopped);
        let stopped = occurrences.map(|o| (o.rule.clone(), o.key.clone())).collect();
        Some((
            ObjectRef::from_obj(campaign),
            Self { uid: found.uid(), suspended: found.spec.suspend, deleted, stopped },
        ))
    }
}

/// How the Campaigns stand, as far as their watch has shown.
#[derive(Debug, Default)]
pub struct Standings {
    known: HashMap<ObjectRef<Guarded>, Standing>,
    listing: HashMap<ObjectRef<Guarded>, Standing>,
}

impl Standings {
    /// The Campaigns whose Coupons are to be looked at again after an event. Of a listing they are told at its end,
    /// when the cache has it.
    pub fn changed(&mut self, event: &Event<Guarded>) -> Vec<ObjectRef<Guarded>> {
        match event {
            Event::Init => self.listing.clear(),
            Event::InitApply(campaign) => self.listing.extend(Standing::of(campaign)),
            Event::InitDone => {
                let before = std::mem::replace(&mut self.known, std::mem::take(&mut self.listing));
                let changed = self.known.iter().filter(|(campaign, now)| before.get(*campaign) != Some(now));
                return changed.map(|(campaign, _)| campaign.clone()).collect();
            }
            Event::Apply(campaign) => {
                let Some((campaign, now)) = Standing::of(campaign) else { return Vec::new() };
                let before = self.known.insert(campaign.clone(), now.clone());
                return (before != Some(now)).then_some(campaign).into_iter().collect();
            }
            Event::Delete(campaign) => _ = self.known.remove(&ObjectRef::from_obj(campaign)),
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn campaign(name: &str, uid: &str, suspend: bool) -> Guarded {
        let spec = json!({ "suspend": suspend, "audience": { "profiles": [] }, "rules": [] });
        serde_json::from_value(json!({
            "apiVersion": "coupon-operator.dev/v1alpha1", "kind": "Campaign",
            "metadata": { "name": name, "namespace": "n", "uid": uid }, "spec": spec,
        }))
        .unwrap()
    }

    fn names(changed: Vec<ObjectRef<Guarded>>) -> Vec<String> {
        let mut names: Vec<String> = changed.into_iter().map(|campaign| campaign.name).collect();
        names.sort();
        names
    }

    #[test]
    fn each_change_that_matters_to_coupons_is_told_once() {
        let mut standings = Standings::default();
        let mut told = |event| names(standings.changed(&event));
        assert_eq!(told(Event::Apply(campaign("c", "1", false))), ["c"], "it began to be");
        assert!(told(Event::Apply(campaign("c", "1", false))).is_empty(), "something else changed");
        assert_eq!(told(Event::Apply(campaign("c", "1", true))), ["c"], "it was suspended");
        assert_eq!(told(Event::Apply(campaign("c", "1", false))), ["c"], "it went on");
        assert_eq!(told(Event::Apply(campaign("c", "2", false))), ["c"], "another of that name");
        assert!(told(Event::Delete(campaign("c", "2", false))).is_empty());
        assert_eq!(told(Event::Apply(campaign("c", "2", false))), ["c"], "it is back");
    }

    #[test]
    fn what_a_listing_shows_is_told_at_its_end_and_what_it_lacks_is_forgotten() {
        let mut standings = Standings::default();
        for name in ["same", "gone", "other"] {
            standings.changed(&Event::Apply(campaign(name, "1", true)));
        }
        standings.changed(&Event::Init);
        for (name, suspended) in [("same", true), ("other", false), ("new", false)] {
            assert!(standings.changed(&Event::InitApply(campaign(name, "1", suspended))).is_empty());
        }
        assert_eq!(names(standings.changed(&Event::InitDone)), ["new", "other"]);
        assert_eq!(names(standings.changed(&Event::Apply(campaign("gone", "1", true)))), ["gone"]);
    }
}
