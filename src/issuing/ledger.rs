//! The ledger: the Coupons of a rule, read as a record of who got one.
//!
//! A rule may have a million records, so that of each only a digest of its recipient is kept, and the rest once for all
//! that have it in common.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use super::recipient::{RecipientDigest, digest};
use crate::api::campaign::{OccurrenceStatus, Shape, Window};
use crate::api::coupon::{Coupon, CouponSpec, CouponState};
use crate::delivery::progress::Standing;
use crate::records::Records;
use crate::rules::occurrence::{Occurrence, is_year};

/// The Coupons of one rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    grants: Vec<Grants>,
    /// Where in `grants` somebody is; who is in several has the others in `further`.
    /// A tree, since a table of a million doubles when it grows.
    holders: BTreeMap<RecipientDigest, Holder>,
    further: BTreeMap<RecipientDigest, BTreeSet<u32>>,
    /// The numbers of the chunks of each key.
    chunks: BTreeMap<String, BTreeSet<i32>>,
}

/// Somebody who is in a Coupon, or was seen in the audience.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Holder {
    /// Four bytes beside a flag: a million of them count.
    place: u32,
    seen: bool,
}

/// The place of somebody who is in no Coupon.
const NOWHERE: u32 = u32::MAX;

/// What many records have in common, and how they stand.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Grants {
    occurrence: String,
    window: Window,
    campaign_uid: Option<String>,
    /// When the first of them was issued.
    issued_at: Option<DateTime<Utc>>,
    tally: Tally,
}

/// What keeps somebody from getting a Coupon under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// A Coupon that counts for the occurrence: they get no other.
    Counts,
    /// One of this key, since the occurrence goes on as an earlier one, but of a window that has nothing to do
    /// with the one that is open: they get one under its own key.
    KeyOnly,
}

/// How the Coupons of an occurrence stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub issued: i64,
    pub delivered: i64,
    pub failed: i64,
    pub unknown: i64,
    pub by_earlier_campaign: i64,
}

impl Ledger {
    /// Adds the records of a Coupon that was issued; nothing of one that a person wrote.
    pub fn add(&mut self, coupon: &Coupon) {
        let Some(occurrence) = &coupon.spec.occurrence else { return };
        if let Some(number) = coupon.spec.chunk {
            self.chunks.entry(occurrence.clone()).or_default().insert(number);
        }
        let place = self.place(&coupon.spec, occurrence);
        if let Some(grants) = usize::try_from(place).ok().and_then(|place| self.grants.get_mut(place)) {
            grants.tally.add(&Tally::of(coupon));
        }
        for (_, recipient) in Records::of(&coupon.spec).recipients() {
            self.note(place, &recipient);
        }
    }

    /// Where the records of a Coupon belong.
    fn place(&mut self, spec: &CouponSpec, occurrence: &str) -> u32 {
        let window = spec.window.unwrap_or_default();
        let same = |g: &Grants| g.occurrence == occurrence && g.window == window && g.campaign_uid == spec.campaign_uid;
        let found = self.grants.iter().position(same).unwrap_or(self.grants.len());
        match self.grants.get_mut(found) {
            Some(grants) => {
                let first = grants.issued_at.into_iter().chain(spec.issued_at).min();
                grants.issued_at = first;
            }
            None => self.grants.push(Grants {
                occurrence: occurrence.to_owned(),
                window,
                campaign_uid: spec.campaign_uid.clone(),
                issued_at: spec.issued_at,
                tally: Tally::default(),
            }),
        }
        u32::try_from(found).unwrap_or(u32::MAX)
    }

    fn note(&mut self, place: u32, recipient: &str) {
        let digest = digest(recipient);
        let holder = self.holders.entry(digest).or_insert(Holder { place, seen: false });
        if holder.place == NOWHERE {
            holder.place = place;
        } else if holder.place != place {
            self.further.entry(digest).or_default().insert(place);
        }
    }

    /// Notes that somebody is in the audience. True the first time.
    pub fn see(&mut self, recipient: &str) -> bool {
        let holder = self.holders.entry(digest(recipient)).or_insert(Holder { place: NOWHERE, seen: false });
        !std::mem::replace(&mut holder.seen, true)
    }

    /// The number of the next chunk of a key: one that never was, though others may be missing.
    #[must_use]
    pub fn next_chunk(&self, key: &str) -> i32 {
        self.chunks.get(key).and_then(BTreeSet::last).map_or(1, |last| last.saturating_add(1))
    }

    /// How many chunks of a key are missing before the last that is there.
    #[must_use]
    pub fn missing_chunks(&self, key: &str) -> i64 {
        let there = self.chunks.get(key).map_or(0, BTreeSet::len);
        i64::from(self.next_chunk(key).saturating_sub(1)).saturating_sub(i64::try_from(there).unwrap_or(i64::MAX))
    }

    /// In which shape the Coupons of a key are written; none if there are none.
    #[must_use]
    pub fn shape(&self, key: &str) -> Option<Shape> {
        if self.chunks.contains_key(key) {
            return Some(Shape::Batch);
        }
        self.grants.iter().any(|grants| grants.occurrence == key).then_some(Shape::Single)
    }

    /// What somebody has of an occurrence.
    #[must_use]
    pub fn held(&self, recipient: &str, occurrence: &Occurrence) -> Option<Held> {
        let digest = digest(recipient);
        let first = self.holders.get(&digest)?.place;
        let places = self.further.get(&digest).into_iter().flatten().chain([&first]);
        let grants = places.filter_map(|place| self.grants.get(usize::try_from(*place).ok()?));
        let held = |grants: &Grants| {
            let counts = occurrence.counts_by_time(&grants.occurrence, &grants.window).then_some(Held::Counts);
            counts.or_else(|| (grants.occurrence == occurrence.key).then_some(Held::KeyOnly))
        };
        grants.filter_map(held).max_by_key(|held| *held == Held::Counts)
    }

    /// True if somebody has a Coupon of an occurrence.
    #[must_use]
    pub fn has_one(&self, recipient: &str, occurrence: &Occurrence) -> bool {
        self.held(recipient, occurrence).is_some()
    }

    /// The key and window of the earliest Coupon whose window overlaps an occurrence that is open for
    /// everybody: what it goes on under when the Campaign's status does not remember it. Not that of an
    /// anniversary, whose key others have in other windows.
    #[must_use]
    pub fn earliest_overlapping(&self, occurrence: &Occurrence) -> Option<(&str, Window)> {
        self.grants
            .iter()
            .filter(|g| g.window.overlaps(&occurrence.window))
            .filter(|g| !is_year(&g.occurrence) || g.occurrence == occurrence.key)
            .min_by_key(|g| (g.window.start_time, g.issued_at))
            .map(|g| (g.occurrence.as_str(), g.window))
    }

    /// How the Coupons of a key stand. Those with another uid than the Campaign's were issued by an
    /// earlier Campaign of the same name.
    #[must_use]
    pub fn tally(&self, key: &str, campaign_uid: &str) -> Tally {
        let mut tally = Tally::default();
        for grants in self.grants.iter().filter(|g| g.occurrence == key) {
            tally.add(&grants.tally);
            if grants.campaign_uid.as_deref().is_some_and(|uid| uid != campaign_uid) {
                tally.by_earlier_campaign = tally.by_earlier_campaign.saturating_add(grants.tally.issued);
            }
        }
        tally
    }
}

impl Tally {
    /// How the records of a Coupon stand.
    #[must_use]
    pub fn of(coupon: &Coupon) -> Self {
        let standing = coupon.status.as_ref().map(|status| Standing::of(&coupon.spec, status));
        let mut tally = Self::default();
        for row in Records::of(&coupon.spec).all().iter() {
            tally.count(standing.as_ref().map(|standing| standing.row(row)).unwrap_or_default());
        }
        tally
    }

    fn count(&mut self, state: CouponState) {
        self.issued = self.issued.saturating_add(1);
        let place = match state {
            CouponState::Delivered => &mut self.delivered,
            CouponState::Failed | CouponState::PartiallyFailed | CouponState::Expired => &mut self.failed,
            CouponState::Held => &mut self.unknown,
            CouponState::Pending | CouponState::Sending => return,
        };
        *place = place.saturating_add(1);
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.issued = self.issued.saturating_add(other.issued);
        self.delivered = self.delivered.saturating_add(other.delivered);
        self.failed = self.failed.saturating_add(other.failed);
        self.unknown = self.unknown.saturating_add(other.unknown);
        self.by_earlier_campaign = self.by_earlier_campaign.saturating_add(other.by_earlier_campaign);
    }

    /// True if each Coupon has come to its end.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.delivered.saturating_add(self.failed).saturating_add(self.unknown) == self.issued
    }
}

/// How many Coupons the ledger lacks, measured against what status remembers of an occurrence.
#[must_use]
pub fn missing(remembered: &OccurrenceStatus, tally: Tally, missing_chunks: i64) -> i64 {
    let fewer = remembered.issued.saturating_add(remembered.accepted_missing).saturating_sub(tally.issued);
    // Whose codes a missing chunk held is not known: it counts as one, where status does not know better.
    fewer.max(missing_chunks).max(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn window(start: i64, end: i64) -> Window {
        Window { start_time: DateTime::from_timestamp(start, 0), end_time: DateTime::from_timestamp(end, 0) }
    }

    /// A Coupon of these recipients, of whom each was accepted, or else all failed in this way.
    fn coupon(recipients: &[&str], key: &str, window: Window, state: &str) -> Coupon {
        let rows: Vec<String> = recipients.iter().map(|recipient| format!("{recipient},X")).collect();
        let spec = json!({ "campaign": "c", "rule": "r", "occurrence": key, "window": window, "campaignUid": "uid",
            "issuedAt": window.start_time, "columns": ["recipient", "code"], "rows": rows,
            "deliveries": [{ "name": "tell", "webhookRef": { "name": "w" } }] });
        let mut coupon = Coupon::new("x", serde_json::from_value(spec).unwrap());
        let all = format!("1-{}", recipients.len());
        coupon.status = serde_json::from_value(json!({ "deliveries": [{ "name": "tell", state: all }] })).ok();
        assert!(coupon.status.is_some());
        coupon
    }

    fn of(coupons: &[Coupon]) -> Ledger {
        let mut ledger = Ledger::default();
        for coupon in coupons {
            ledger.add(coupon);
        }
        ledger
    }

    fn ledger() -> Ledger {
        of(&[
            coupon(&["b"], "later", window(20, 30), "held"),
            coupon(&["a"], "early", window(10, 20), "accepted"),
            coupon(&["c"], "early", window(10, 20), "expired"),
        ])
    }

    fn open(key: &str, window: Window) -> Occurrence {
        Occurrence { key: key.into(), window, period: None, anniversary: false }
    }

    #[test]
    fn i1_whoever_is_in_an_overlapping_window_gets_no_other() {
        let ledger = ledger();
        let has = |recipient: &str, window: Window| ledger.has_one(recipient, &open("new", window));
        assert!(["a", "b", "c"].iter().all(|r| has(r, window(15, 25))));
        assert!(has("b", window(20, 25)) && !has("a", window(20, 25)), "a window ends before its end");
        assert!(!has("b", window(30, 40)) && has("b", Window::default()), "without bounds it overlaps all");
        assert!(ledger.has_one("a", &open("early", window(30, 40))), "the same key");
        assert!(!has("nobody", Window::default()));
    }

    #[test]
    fn i1_an_edited_window_goes_on_under_the_earliest_overlapping_key() {
        let ledger = ledger();
        let key = |window| ledger.earliest_overlapping(&open("new", window)).map(|(key, _)| key);
        assert_eq!(key(window(0, 100)), Some("early"));
        assert_eq!(key(window(25, 100)), Some("later"));
        assert_eq!(key(window(30, 100)), None);
        let birthdays = of(&[coupon(&["a"], "2026", window(10, 20), "accepted")]);
        assert_eq!(birthdays.earliest_overlapping(&open("20260615", window(10, 20))), None);
        assert!(birthdays.earliest_overlapping(&open("2026", window(10, 20))).is_some());
    }

    #[test]
    fn a_tally_counts_each_state_in_its_place() {
        assert_eq!(ledger().tally("early", "uid"), Tally { issued: 2, delivered: 1, failed: 1, ..Tally::default() });
        let earlier = ledger().tally("early", "another");
        assert_eq!(earlier.by_earlier_campaign, 2);
        assert!(ledger().tally("later", "uid").is_settled());
        let mut waiting = coupon(&["d", "e"], "early", window(10, 20), "accepted");
        waiting.status = None;
        let mut ledger = ledger();
        ledger.add(&waiting);
        assert_eq!(ledger.tally("early", "uid"), Tally { issued: 4, delivered: 1, failed: 1, ..Tally::default() });
        assert!(!ledger.tally("early", "uid").is_settled());
        assert_eq!(ledger.tally("later", "uid"), Tally { issued: 1, unknown: 1, ..Tally::default() });
    }

    #[test]
    fn i1_somebody_in_several_coupons_has_what_each_of_them_says() {
        let ledger = of(&[
            coupon(&["a", "b"], "one", window(10, 20), "accepted"),
            coupon(&["b", "c"], "two", window(20, 30), "accepted"),
            coupon(&["b"], "three", window(30, 40), "accepted"),
        ]);
        let of = |recipient: &str, window: Window| ledger.held(recipient, &open("two", window));
        let in_each = [window(10, 20), window(20, 30), window(30, 40)];
        assert_eq!(in_each.map(|w| of("b", w)), [Some(Held::Counts); 3]);
        assert_eq!(in_each.map(|w| of("c", w)), [Some(Held::KeyOnly), Some(Held::Counts), Some(Held::KeyOnly)]);
        assert_eq!(in_each.map(|w| of("a", w)), [Some(Held::Counts), None, None]);
        assert_eq!(of(" c ", window(20, 30)), Some(Held::Counts), "ids are trimmed");
    }

    #[test]
    fn whoever_was_seen_has_nothing_by_that_and_is_seen_once() {
        let mut ledger = of(&[coupon(&["a"], "one", window(10, 20), "accepted")]);
        assert_eq!(["a", "b", " b", "a"].map(|who| ledger.see(who)), [true, true, false, false]);
        let open = open("one", window(10, 20));
        assert_eq!([ledger.held("a", &open), ledger.held("b", &open)], [Some(Held::Counts), None]);
        ledger.add(&coupon(&["b"], "one", window(10, 20), "accepted"));
        assert_eq!((ledger.held("b", &open), ledger.see("b")), (Some(Held::Counts), false));
    }

    #[test]
    fn what_an_earlier_campaign_of_the_name_issued_is_counted_apart() {
        let by = |uid: &str, recipient: &str| {
            let mut coupon = coupon(&[recipient], "k", window(10, 20), "accepted");
            coupon.spec.campaign_uid = Some(uid.to_owned());
            coupon
        };
        let ledger = of(&[by("new", "a"), by("old", "b"), by("new", "c"), by("older", "d")]);
        let tally = ledger.tally("k", "new");
        assert_eq!((tally.issued, tally.by_earlier_campaign), (4, 2));
        assert_eq!(ledger.grants.len(), 3, "one for each, however many Coupons it has");
    }

    #[test]
    fn the_first_issued_of_several_with_the_same_window_says_when_it_began() {
        let mut later = coupon(&["a"], "late", window(10, 20), "accepted");
        later.spec.issued_at = DateTime::from_timestamp(15, 0);
        let mut first = coupon(&["b"], "late", window(10, 20), "accepted");
        first.spec.issued_at = DateTime::from_timestamp(11, 0);
        let mut between = coupon(&["c"], "between", window(10, 20), "accepted");
        between.spec.issued_at = DateTime::from_timestamp(13, 0);
        let key = |coupons: &[Coupon]| {
            of(coupons).earliest_overlapping(&open("new", window(10, 20))).map(|(key, _)| key.to_owned())
        };
        assert_eq!(key(&[later.clone(), between.clone()]).as_deref(), Some("between"));
        assert_eq!(key(&[later, between, first]).as_deref(), Some("late"));
    }

    #[test]
    fn chunks_are_numbered_on_and_gaps_are_counted() {
        let numbered = |number: i32| {
            let mut coupon = coupon(&["a"], "k", window(10, 20), "accepted");
            coupon.spec.chunk = Some(number);
            coupon
        };
        let ledger = of(&[numbered(1), numbered(4)]);
        assert_eq!((ledger.next_chunk("k"), ledger.missing_chunks("k"), ledger.shape("k")), (5, 2, Some(Shape::Batch)));
        assert_eq!((ledger.next_chunk("new"), ledger.missing_chunks("new"), ledger.shape("new")), (1, 0, None));
        assert_eq!(super::tests::ledger().shape("early"), Some(Shape::Single));
    }

    #[test]
    fn what_a_person_wrote_counts_in_no_ledger() {
        let mut by_hand = coupon(&["a"], "k", window(10, 20), "accepted");
        by_hand.spec.occurrence = None;
        by_hand.spec.chunk = Some(1);
        assert_eq!(of(&[by_hand]), Ledger::default());
    }

    #[test]
    fn a_shortage_is_measured_against_what_status_remembers() {
        let remembered = OccurrenceStatus { issued: 3, accepted_missing: 1, ..OccurrenceStatus::default() };
        assert_eq!(missing(&remembered, ledger().tally("early", "uid"), 0), 2);
        assert_eq!(missing(&OccurrenceStatus::default(), ledger().tally("early", "uid"), 0), 0);
        assert_eq!(missing(&OccurrenceStatus::default(), ledger().tally("early", "uid"), 1), 1, "a chunk is missing");
    }
}
