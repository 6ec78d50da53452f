//! The ledger: the Coupons of a rule, read as a record of who got one.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};

use crate::api::campaign::{OccurrenceStatus, Shape, Window};
use crate::api::coupon::{Coupon, CouponState};
use crate::delivery::progress::Standing;
use crate::records::Records;
use crate::rules::occurrence::{Occurrence, is_year};

/// One Coupon, as far as the ledger needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub recipient: String,
    pub occurrence: String,
    pub window: Window,
    pub issued_at: Option<DateTime<Utc>>,
    pub campaign_uid: Option<String>,
    pub state: CouponState,
}

impl Entry {
    /// The entries of an issued Coupon, one for each record; none for one that a person wrote.
    #[must_use]
    pub fn of(coupon: &Coupon) -> Vec<Self> {
        let Some(occurrence) = &coupon.spec.occurrence else { return Vec::new() };
        let standing = coupon.status.as_ref().map(|status| Standing::of(&coupon.spec, status));
        let entry = |(row, recipient): (u32, Cow<'_, str>)| Self {
            recipient: recipient.into_owned(),
            occurrence: occurrence.clone(),
            window: coupon.spec.window.unwrap_or_default(),
            issued_at: coupon.spec.issued_at,
            campaign_uid: coupon.spec.campaign_uid.clone(),
            state: standing.as_ref().map(|standing| standing.row(row)).unwrap_or_default(),
        };
        Records::of(&coupon.spec).recipients().map(entry).collect()
    }
}

/// The Coupons of one rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    entries: Vec<Entry>,
    /// The numbers of the chunks of each key.
    chunks: BTreeMap<String, BTreeSet<i32>>,
}

/// Who has which Coupons of a rule.
pub struct Holders<'a>(HashMap<&'a str, Vec<&'a Entry>>);

/// What keeps somebody from getting a Coupon under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// A Coupon that counts for the occurrence: they get no other.
    Counts,
    /// One of this key, since the occurrence goes on as an earlier one, but of a window that has nothing to do
    /// with the one that is open: they get one under its own key.
    KeyOnly,
}

impl Holders<'_> {
    /// What somebody has of an occurrence.
    #[must_use]
    pub fn held(&self, recipient: &str, occurrence: &Occurrence) -> Option<Held> {
        let entries = self.0.get(recipient)?;
        if entries.iter().any(|e| occurrence.counts_by_time(&e.occurrence, &e.window)) {
            return Some(Held::Counts);
        }
        entries.iter().any(|e| e.occurrence == occurrence.key).then_some(Held::KeyOnly)
    }

    /// True if somebody has a Coupon of an occurrence.
    #[must_use]
    pub fn has_one(&self, recipient: &str, occurrence: &Occurrence) -> bool {
        self.held(recipient, occurrence).is_some()
    }
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
    #[must_use]
    pub fn new(entries: Vec<Entry>) -> Self {
        Self { entries, chunks: BTreeMap::new() }
    }

    /// Adds the records of a Coupon that was issued.
    pub fn add(&mut self, coupon: &Coupon) {
        self.entries.extend(Entry::of(coupon));
        if let Some((key, number)) = coupon.spec.occurrence.as_ref().zip(coupon.spec.chunk) {
            self.chunks.entry(key.clone()).or_default().insert(number);
        }
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
        self.entries.iter().any(|entry| entry.occurrence == key).then_some(Shape::Single)
    }

    /// The Coupons by recipient.
    #[must_use]
    pub fn holders(&self) -> Holders<'_> {
        let mut holders: HashMap<&str, Vec<&Entry>> = HashMap::new();
        for entry in &self.entries {
            holders.entry(&entry.recipient).or_default().push(entry);
        }
        Holders(holders)
    }

    /// The key and window of the earliest Coupon whose window overlaps an occurrence that is open for
    /// everybody: what it goes on under when the Campaign's status does not remember it. Not that of an
    /// anniversary, whose key others have in other windows.
    #[must_use]
    pub fn earliest_overlapping(&self, occurrence: &Occurrence) -> Option<(&str, Window)> {
        self.entries
            .iter()
            .filter(|e| e.window.overlaps(&occurrence.window))
            .filter(|e| !is_year(&e.occurrence) || e.occurrence == occurrence.key)
            .min_by_key(|e| (e.window.start_time, e.issued_at))
            .map(|e| (e.occurrence.as_str(), e.window))
    }

    /// How the Coupons of a key stand. Those with another uid than the Campaign's were issued by an
    /// earlier Campaign of the same name.
    #[must_use]
    pub fn tally(&self, key: &str, campaign_uid: &str) -> Tally {
        let mut tally = Tally::default();
        for entry in self.entries.iter().filter(|e| e.occurrence == key) {
            tally.count(entry, campaign_uid);
        }
        tally
    }
}

impl Tally {
    fn count(&mut self, entry: &Entry, campaign_uid: &str) {
        let earlier = entry.campaign_uid.as_deref().is_some_and(|uid| uid != campaign_uid);
        self.issued = self.issued.saturating_add(1);
        self.by_earlier_campaign = self.by_earlier_campaign.saturating_add(i64::from(earlier));
        let place = match entry.state {
            CouponState::Delivered => &mut self.delivered,
            CouponState::Failed | CouponState::PartiallyFailed | CouponState::Expired => &mut self.failed,
            CouponState::Held => &mut self.unknown,
            CouponState::Pending | CouponState::Sending => return,
        };
        *place = place.saturating_add(1);
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
    use super::*;

    fn window(start: i64, end: i64) -> Window {
        Window { start_time: DateTime::from_timestamp(start, 0), end_time: DateTime::from_timestamp(end, 0) }
    }

    fn entry(recipient: &str, key: &str, window: Window, state: CouponState) -> Entry {
        Entry {
            recipient: recipient.into(),
            occurrence: key.into(),
            window,
            issued_at: window.start_time,
            campaign_uid: Some("uid".into()),
            state,
        }
    }

    fn ledger() -> Ledger {
        Ledger::new(vec![
            entry("b", "later", window(20, 30), CouponState::Held),
            entry("a", "early", window(10, 20), CouponState::Delivered),
            entry("c", "early", window(10, 20), CouponState::Expired),
        ])
    }

    fn open(key: &str, window: Window) -> Occurrence {
        Occurrence { key: key.into(), window, period: None, anniversary: false }
    }

    #[test]
    fn i1_whoever_is_in_an_overlapping_window_gets_no_other() {
        let ledger = ledger();
        let has = |recipient: &str, window: Window| ledger.holders().has_one(recipient, &open("new", window));
        assert!(["a", "b", "c"].iter().all(|r| has(r, window(15, 25))));
        assert!(has("b", window(20, 25)) && !has("a", window(20, 25)), "a window ends before its end");
        assert!(!has("b", window(30, 40)) && has("b", Window::default()), "without bounds it overlaps all");
        assert!(ledger.holders().has_one("a", &open("early", window(30, 40))), "the same key");
        assert!(!has("nobody", Window::default()));
    }

    #[test]
    fn i1_an_edited_window_goes_on_under_the_earliest_overlapping_key() {
        let ledger = ledger();
        let key = |window| ledger.earliest_overlapping(&open("new", window)).map(|(key, _)| key);
        assert_eq!(key(window(0, 100)), Some("early"));
        assert_eq!(key(window(25, 100)), Some("later"));
        assert_eq!(key(window(30, 100)), None);
        let birthdays = Ledger::new(vec![entry("a", "2026", window(10, 20), CouponState::Delivered)]);
        assert_eq!(birthdays.earliest_overlapping(&open("20260615", window(10, 20))), None);
        assert!(birthdays.earliest_overlapping(&open("2026", window(10, 20))).is_some());
    }

    #[test]
    fn a_tally_counts_each_state_in_its_place() {
        assert_eq!(ledger().tally("early", "uid"), Tally { issued: 2, delivered: 1, failed: 1, ..Tally::default() });
        let earlier = ledger().tally("early", "another");
        assert_eq!(earlier.by_earlier_campaign, 2);
        assert!(ledger().tally("later", "uid").is_settled());
    }

    #[test]
    fn a_shortage_is_measured_against_what_status_remembers() {
        let remembered = OccurrenceStatus { issued: 3, accepted_missing: 1, ..OccurrenceStatus::default() };
        assert_eq!(missing(&remembered, ledger().tally("early", "uid"), 0), 2);
        assert_eq!(missing(&OccurrenceStatus::default(), ledger().tally("early", "uid"), 0), 0);
        assert_eq!(missing(&OccurrenceStatus::default(), ledger().tally("early", "uid"), 1), 1, "a chunk is missing");
    }
}
