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
    #[error("audience.excludeConfigMapRef names them")]
    Excluded,
    #[error("they wait until those who go first (guardrails.canaryRecipients) are settled")]
    Canary,
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
    use serde_json::json;

    use super::*;

    fn profile(attributes: &Value) -> Profile {
        serde_json::from_value(json!({ "integrationId": "c", "attributes": attributes })).unwrap()
    }

    fn timing(schedule: &Value) -> Timing {
        let rule = json!({ "name": "r", "schedules": [schedule], "effects": [] });
        let spec = json!({ "audience": { "profiles": [] }, "rules": [rule] });
        let spec: crate::api::campaign::CampaignSpec = serde_json::from_value(spec).unwrap();
        Timing::of(&spec, &spec.rules[0]).unwrap()
    }

    #[test]
    fn an_offer_is_for_whom_the_condition_holds_while_the_budget_lasts() {
        let (timing, none_at_all) = (timing(&json!({ "onDates": ["2023-01-01"] })), BTreeMap::new());
        let gold = Eligibility::compile("profile.attributes.tier == 'gold'").unwrap();
        let now = "2023-01-01T12:00:00Z".parse().unwrap();
        let offer =
            |eligibility| Offer { timing: &timing, eligibility, campaign: "c", campaign_attributes: &none_at_all, now };
        let none = Allowance::default();
        let [is_gold, is_silver] = ["gold", "silver"].map(|tier| profile(&json!({ "tier": tier })));
        assert_eq!(offer(Some(&gold)).check(&is_gold, &none), Ok(()));
        assert!(matches!(offer(Some(&gold)).check(&is_silver, &none), Err(Refusal::NotEligible(_))));
        assert_eq!(offer(None).check(&is_silver, &none), Ok(()));
        let budget = serde_json::from_value(json!({ "period": "Campaign", "maxCoupons": 1 })).unwrap();
        let mut allowance = Allowance::at(&[budget], timing.zone(), now);
        assert_eq!(offer(None).check(&is_gold, &allowance), Ok(()));
        allowance.take();
        assert!(matches!(offer(None).check(&is_gold, &allowance), Err(Refusal::Budget(_))));
    }

    #[test]
    fn an_anniversary_is_offered_on_its_day() {
        let timing = timing(&json!({ "anniversaryOf": { "attribute": "birthday" } }));
        let none_at_all = BTreeMap::new();
        let at = |now: &str| {
            let now = now.parse().unwrap();
            let offer =
                Offer { timing: &timing, eligibility: None, campaign: "c", campaign_attributes: &none_at_all, now };
            let found = |birthday: &str| offer.anniversary(&profile(&json!({ "birthday": birthday })), 2023, false);
            (found("1990-01-01").map(|o| o.map(|o| o.key)), found("never").is_err())
        };
        assert_eq!(at("2023-01-01T12:00:00Z"), (Ok(Some("2023".into())), true));
        assert_eq!(at("2023-01-02T12:00:00Z"), (Ok(None), true));
    }

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
