//! Who of an audience gets a Coupon, and why the others do not. The operator and `preview recipients`
//! ask the same.

use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::draft::Ineligible;
use crate::api::campaign::Profile;
use crate::rules::budget::{Allowance, Spent};
use crate::rules::eligibility::{Eligibility, Facts, NotEligible};
use crate::rules::occurrence::{Occurrence, Timing};
use crate::schedule::AnniversaryError;

/// What a rule offers at an instant.
#[derive(Clone, Copy)]
pub struct Offer<'a> {
    pub timing: &'a Timing,
    pub eligibility: Option<&'a Eligibility>,
    pub campaign: &'a str,
    pub campaign_attributes: &'a BTreeMap<String, Value>,
    pub now: DateTime<Utc>,
}

/// Why somebody gets no Coupon. Status counts by what it says, so that it names no data.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    #[error("{0}")]
    NoDate(#[from] AnniversaryError),
    #[error("{0}")]
    NotEligible(#[from] NotEligible),
    #[error("{0}")]
    Budget(Spent),
    #[error("{}", .0.reason())]
    Binding(#[from] Ineligible),
}

impl Offer<'_> {
    /// The window of a recipient's anniversary of a year; none if it is not open.
    ///
    /// # Errors
    /// If the recipient has no date.
    pub fn anniversary(&self, profile: &Profile, year: i32, reopened: bool) -> Result<Option<Occurrence>, Refusal> {
        let attribute = |name: &str| profile.attributes.get(name).cloned();
        Ok(self.timing.anniversary_of(year, attribute, self.now, reopened)?)
    }

    /// Whether somebody whose window is open, and who has no Coupon for it, may get one.
    ///
    /// # Errors
    /// With the reason, if not.
    pub fn check(&self, profile: &Profile, allowance: &Allowance) -> Result<(), Refusal> {
        let facts = Facts { campaign: self.campaign, campaign_attributes: self.campaign_attributes, now: self.now };
        if let Some(eligibility) = self.eligibility {
            eligibility.check(profile, facts)?;
        }
        allowance.spent().map_or(Ok(()), |spent| Err(Refusal::Budget(spent)))
    }
}

/// Each id once: the first counts.
pub fn distinct(profiles: &[Profile]) -> impl Iterator<Item = &Profile> {
    let mut seen = HashSet::new();
    profiles.iter().filter(move |p| seen.insert(p.integration_id.trim()))
}

/// Recipients by the reason why they get nothing. Bounded, since it stands in status: what is rare when
/// there are many reasons is counted together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reasons(BTreeMap<String, i64>);

impl Reasons {
    const MOST: usize = 20;
    const OTHER: &str = "other reasons";

    pub fn note(&mut self, refusal: &Refusal) {
        let reason = refusal.to_string();
        let known = self.0.contains_key(&reason) || self.0.len() < Self::MOST;
        let count = self.0.entry(if known { reason } else { Self::OTHER.to_owned() }).or_default();
        *count = count.saturating_add(1);
    }

    #[must_use]
    pub fn into_counts(self) -> BTreeMap<String, i64> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_bounded() {
        let mut reasons = Reasons::default();
        for n in 0..30 {
            reasons.note(&Refusal::NotEligible(NotEligible::False(format!("clause {}", n % 25).into())));
        }
        let counts = reasons.into_counts();
        assert_eq!((counts.len(), counts["other reasons"]), (21, 5));
        assert_eq!(counts.values().sum::<i64>(), 30);
    }
}
