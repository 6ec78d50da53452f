//! How each Coupon of a campaign stands, so that what changes is counted without reading the others again.
//!
//! Readings of the API server, what the watch shows and what this process writes come in any order: of a Coupon the
//! latest counts. Resource versions of an API server can be compared as numbers (Kubernetes 1.35, KEP-5504).

use std::collections::{BTreeSet, HashMap};

use kube::ResourceExt;

use super::ledger::Tally;
use crate::api::coupon::Coupon;

/// The Coupons of a campaign.
#[derive(Debug, Default)]
pub struct Counts {
    groups: Vec<Group>,
    coupons: HashMap<String, Counted>,
    /// Rules of which all Coupons are here.
    whole: BTreeSet<String>,
    readings: u64,
}

/// Coupons that are counted together.
#[derive(Debug, PartialEq, Eq)]
struct Group {
    rule: String,
    occurrence: String,
    campaign_uid: Option<String>,
}

#[derive(Debug)]
struct Counted {
    group: usize,
    tally: Tally,
    version: u64,
    /// The last reading that it was in.
    reading: u64,
}

/// A reading of all Coupons of a rule that has begun.
#[derive(Clone, Copy, Debug)]
pub struct Reading(u64);

/// A version that is no number, as of an API server that is none of Kubernetes', is taken as the latest.
fn version(text: Option<&str>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or(u64::MAX)
}

impl Counts {
    /// Notes a Coupon as it was seen or written. Nothing of one that a person wrote.
    pub fn note(&mut self, coupon: &Coupon) {
        self.see(coupon, None);
    }

    /// Begins a reading of all Coupons of a rule.
    pub fn begin(&mut self) -> Reading {
        self.readings = self.readings.saturating_add(1);
        Reading(self.readings)
    }

    /// Notes a Coupon that a reading found.
    pub fn read(&mut self, coupon: &Coupon, reading: Reading) {
        self.see(coupon, Some(reading));
    }

    /// Ends a reading: Coupons of the rule that are older than it and were not in it are gone.
    pub fn end(&mut self, rule: &str, reading: Reading, list_version: Option<&str>) {
        let as_of = version(list_version);
        let groups = &self.groups;
        let of_rule = |group: usize| groups.get(group).is_some_and(|group| group.rule == rule);
        self.coupons.retain(|_, c| !of_rule(c.group) || c.reading == reading.0 || c.version > as_of);
        self.whole.insert(rule.to_owned());
    }

    /// How the Coupons of an occurrence stand; none if they were not all read. Those with another uid than the
    /// Campaign's were issued by an earlier Campaign of the same name.
    #[must_use]
    pub fn tally(&self, rule: &str, occurrence: &str, campaign_uid: &str) -> Option<Tally> {
        if !self.whole.contains(rule) {
            return None;
        }
        let mut tally = Tally::default();
        for counted in self.coupons.values() {
            let Some(group) = self.groups.get(counted.group) else { continue };
            if group.rule != rule || group.occurrence != occurrence {
                continue;
            }
            tally.add(&counted.tally);
            if group.campaign_uid.as_deref().is_some_and(|uid| uid != campaign_uid) {
                tally.by_earlier_campaign = tally.by_earlier_campaign.saturating_add(counted.tally.issued);
            }
        }
        Some(tally)
    }

    fn see(&mut self, coupon: &Coupon, reading: Option<Reading>) {
        let Some(group) = self.group(coupon) else { return };
        let (version, reading) = (version(coupon.metadata.resource_version.as_deref()), reading.map_or(0, |r| r.0));
        let seen = || Counted { group, tally: Tally::of(coupon), version, reading };
        match self.coupons.get_mut(&coupon.name_any()) {
            Some(known) if known.version > version => known.reading = known.reading.max(reading),
            Some(known) => *known = Counted { reading: known.reading.max(reading), ..seen() },
            None => _ = self.coupons.insert(coupon.name_any(), seen()),
        }
    }

    fn group(&mut self, coupon: &Coupon) -> Option<usize> {
        let (rule, occurrence) = (coupon.spec.rule.clone()?, coupon.spec.occurrence.clone()?);
        let group = Group { rule, occurrence, campaign_uid: coupon.spec.campaign_uid.clone() };
        let found = self.groups.iter().position(|known| *known == group);
        found.or_else(|| {
            self.groups.push(group);
            self.groups.len().checked_sub(1)
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A Coupon of two rows, of which these were accepted.
    fn coupon(name: &str, version: &str, accepted: &str) -> Coupon {
        of("r", "uid", name, version, accepted)
    }

    fn of(rule: &str, uid: &str, name: &str, version: &str, accepted: &str) -> Coupon {
        let status = json!({ "deliveries": [{ "name": "tell", "accepted": accepted }] });
        serde_json::from_value(json!({
            "apiVersion": "coupon-operator.dev/v1alpha1", "kind": "Coupon",
            "metadata": { "name": name, "namespace": "n", "resourceVersion": version },
            "spec": { "campaign": "c", "campaignUid": uid, "rule": rule, "occurrence": "k", "columns": ["recipient", "code"],
                "rows": ["a,X", "b,Y"], "deliveries": [{ "name": "tell", "webhookRef": { "name": "w" } }] },
            "status": if accepted.is_empty() { Value::Null } else { status },
        }))
        .unwrap()
    }

    fn counts(coupons: &[Coupon]) -> Counts {
        let mut counts = Counts::default();
        let reading = counts.begin();
        for coupon in coupons {
            counts.read(coupon, reading);
        }
        counts.end("r", reading, Some("10"));
        counts
    }

    fn tally(counts: &Counts) -> (i64, i64) {
        counts.tally("r", "k", "uid").map(|tally| (tally.issued, tally.delivered)).unwrap()
    }

    #[test]
    fn nothing_is_said_of_a_rule_before_all_its_coupons_were_read() {
        let mut counts = Counts::default();
        counts.note(&coupon("a", "1", ""));
        assert_eq!(counts.tally("r", "k", "uid"), None);
        let reading = counts.begin();
        counts.end("r", reading, Some("0"));
        assert_eq!(tally(&counts), (2, 0), "it is later than the reading");
        assert_eq!(counts.tally("another", "k", "uid"), None);
        assert_eq!(counts.tally("r", "another", "uid"), Some(Tally::default()));
    }

    #[test]
    fn the_latest_counts_in_whatever_order_it_is_seen() {
        let mut counts = counts(&[coupon("a", "5", "1"), coupon("b", "7", "")]);
        assert_eq!(tally(&counts), (4, 1));
        counts.note(&coupon("a", "9", "1-2"));
        counts.note(&coupon("a", "8", "1"));
        assert_eq!(tally(&counts), (4, 2), "what the watch shows late is not taken back");
        counts.note(&coupon("a", "100", "2"));
        assert_eq!(tally(&counts), (4, 1), "versions are numbers");
        counts.note(&coupon("a", "100", "1-2"));
        assert_eq!(tally(&counts), (4, 2));
    }

    #[test]
    fn a_reading_finds_out_what_is_gone_and_not_what_came_since() {
        let mut counts = counts(&[coupon("a", "5", "1"), coupon("b", "7", ""), of("other", "uid", "o", "3", "")]);
        let reading = counts.begin();
        counts.note(&coupon("c", "12", "1-2"));
        counts.read(&coupon("a", "5", "1"), reading);
        counts.note(&coupon("a", "13", "1-2"));
        counts.end("r", reading, Some("11"));
        assert_eq!(tally(&counts), (4, 4), "b is gone, c was created meanwhile");
        let reading = counts.begin();
        counts.end("other", reading, Some("20"));
        assert_eq!(counts.tally("other", "k", "uid"), Some(Tally::default()));
        assert_eq!(tally(&counts), (4, 4), "nothing is said of other rules");
        let reading = counts.begin();
        counts.read(&coupon("a", "13", "1-2"), reading);
        counts.end("r", reading, Some("13"));
        assert_eq!(tally(&counts), (2, 2));
    }

    #[test]
    fn a_reading_that_is_behind_keeps_what_is_known_and_knows_that_it_is_there() {
        let mut counts = counts(&[coupon("a", "9", "1-2")]);
        let reading = counts.begin();
        counts.read(&coupon("a", "5", ""), reading);
        counts.end("r", reading, Some("20"));
        assert_eq!(tally(&counts), (2, 2));
    }

    #[test]
    fn what_an_earlier_campaign_of_the_name_issued_is_counted_apart() {
        let counts = counts(&[of("r", "old", "a", "1", "1"), coupon("b", "2", "")]);
        let tally = counts.tally("r", "k", "uid").unwrap();
        assert_eq!((tally.issued, tally.delivered, tally.by_earlier_campaign), (4, 1, 2));
    }

    #[test]
    fn what_a_person_wrote_is_not_counted() {
        let mut by_hand = coupon("a", "1", "1");
        (by_hand.spec.occurrence, by_hand.spec.rule) = (None, None);
        assert_eq!(tally(&counts(&[by_hand])), (0, 0));
    }
}
