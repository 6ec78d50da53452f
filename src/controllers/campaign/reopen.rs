//! Windows that a person opens once more, by annotation. Pure.

use chrono::{DateTime, Utc};
use kube::ResourceExt;

use super::plan::{Granting, Issue, accepted_missing, find_open};
use super::validate::{PreparedRule, Validated};
use crate::api::REOPEN_ANNOTATION;
use crate::api::campaign::{Campaign, CampaignStatus};
use crate::rules::occurrence::Occurrence;

/// What the annotation asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reopened {
    pub issues: Vec<Issue>,
    /// What of it was carried out, or is open anyway.
    pub done: Vec<String>,
    /// What of it cannot be done, in words.
    pub warnings: Vec<String>,
}

/// The annotation, if there is one.
#[must_use]
pub fn annotation(campaign: &Campaign) -> Option<&str> {
    campaign.annotations().get(REOPEN_ANNOTATION).map(|text| text.trim()).filter(|text| !text.is_empty())
}

/// `<rule>/<key>` of what is issued to.
#[must_use]
pub fn place(issue: &Issue) -> String {
    format!("{}/{}", issue.rule.name, issue.own_key())
}

/// What is to be issued to once more, and what was already.
pub fn issues(campaign: &Campaign, status: &CampaignStatus, validated: &Validated, now: DateTime<Utc>) -> Reopened {
    let mut reopened = Reopened::default();
    let Some(text) = annotation(campaign) else { return reopened };
    let before: Vec<&str> = status.reopened.as_deref().unwrap_or_default().split(' ').collect();
    for place in text.split([',', ' ']).filter(|place| !place.is_empty()) {
        if before.contains(&place) {
            reopened.done.push(place.to_owned());
            continue;
        }
        match one(place, campaign, status, validated, now) {
            Ok(Some(issue)) => reopened.issues.push(issue),
            Ok(None) => reopened.done.push(place.to_owned()),
            Err(why) => reopened.warnings.push(format!("annotation {REOPEN_ANNOTATION}: {place}: {why}")),
        }
    }
    reopened
}

fn one(
    place: &str,
    campaign: &Campaign,
    status: &CampaignStatus,
    validated: &Validated,
    now: DateTime<Utc>,
) -> Result<Option<Issue>, &'static str> {
    let (rule, key) = place.split_once('/').ok_or("write <rule>/<key>, as status.occurrences has them")?;
    let rule = validated.rules.iter().find(|r| r.name == rule).ok_or("there is no rule of this name that can act")?;
    let granting = closed(rule, key, status, now)?;
    let Some(granting) = granting else { return Ok(None) };
    let opened = find_open(status, &rule.name, &granting).filter(|o| o.key == key).cloned();
    let accepted_missing = accepted_missing(campaign, &rule.name, key);
    Ok(Some(Issue { rule: rule.clone(), granting, opened, accepted_missing, reopened: true, own_key: false }))
}

/// The closed window of a key; none if it is open.
fn closed(
    rule: &PreparedRule,
    key: &str,
    status: &CampaignStatus,
    now: DateTime<Utc>,
) -> Result<Option<Granting>, &'static str> {
    const UNKNOWN: &str = "no window that has closed has this key";
    if rule.timing.anniversary().is_some() {
        let year = key.parse().ok().filter(|_| key.len() == 4).ok_or("the key of an anniversary is its year")?;
        return Ok(Some(Granting::Anniversary(year)));
    }
    if rule.timing.open_at(now).is_some_and(|open| open.key == key) {
        return Ok(None);
    }
    // After an edit of its times, status remembers a window that the schedule no longer has.
    let remembered = status.occurrences.iter().find(|o| o.rule == rule.name && o.key == key);
    let remembered = remembered.filter(|o| o.window.end_time.is_some_and(|end| end <= now)).map(|o| Occurrence {
        key: key.to_owned(),
        window: o.window,
        period: None,
        anniversary: false,
    });
    remembered.or_else(|| rule.timing.closed(key, now)).map(|found| Some(Granting::Everybody(found))).ok_or(UNKNOWN)
}
