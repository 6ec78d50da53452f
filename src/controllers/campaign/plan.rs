//! What a Campaign does now, and when it looks again. Pure: it takes the time as an argument.

use std::time::Duration;

use chrono::{DateTime, Utc};
use kube::ResourceExt;

use super::validate::{PreparedRule, Validated};
use crate::api::ACCEPT_MISSING_ANNOTATION;
use crate::api::campaign::{Campaign, CampaignStatus, OccurrenceStatus, Window};

/// The longest sleep: a clock that jumps is noticed after it, without a call to the API server.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// Passes, and with them writes of status, are at least this far apart.
const BETWEEN_PASSES: Duration = Duration::from_secs(1);

/// What is known from earlier reconciles in this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// How long ago the last pass over this generation was; none if there was none.
    pub since_pass: Option<Duration>,
    /// A Coupon changed since.
    pub coupons_changed: bool,
    pub audience_poll: Duration,
    /// What stopped the last pass.
    pub stopped: Option<Stopped>,
}

/// What stopped an occurrence: reason and message.
pub type Stopped = (&'static str, String);

/// What is to be done now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Rules whose window is open: issue to whoever has no Coupon yet.
    pub issue: Vec<Issue>,
    /// Occurrences whose Coupons are counted, though nothing is issued.
    pub count: Vec<Count>,
    /// It is too early for another pass: look again after this.
    pub later: Option<Duration>,
    pub next_window: Option<DateTime<Utc>>,
    pub next_boundary: Option<DateTime<Utc>>,
    pub window_open: bool,
}

/// A window that is open.
#[derive(Clone, Debug, PartialEq)]
pub struct Issue {
    pub rule: PreparedRule,
    pub window: Window,
    /// The occurrence that this window belongs to, as the Campaign's status fixed it.
    pub opened: Option<OccurrenceStatus>,
    /// How many missing Coupons a person accepted.
    pub accepted_missing: i64,
}

/// An occurrence to be counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    pub rule: String,
    pub key: String,
}

/// What the apply step did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Applied {
    pub occurrences: Vec<OccurrenceStatus>,
    pub stopped: Option<Stopped>,
    /// A pass was begun and ended early, since the Campaign changed: look again at once.
    pub again: bool,
}

/// What a Campaign does now.
#[must_use]
pub fn run(campaign: &Campaign, validated: &Validated, memory: &Memory, now: DateTime<Utc>) -> Plan {
    let openings = validated.rules.iter().filter_map(|rule| rule.calendar.next_opening(now));
    let boundaries = validated.rules.iter().filter_map(|rule| rule.calendar.next_boundary(now));
    let open: Vec<(&PreparedRule, Window)> =
        validated.rules.iter().filter_map(|rule| Some((rule, rule.calendar.open_at(now)?))).collect();
    let mut plan = Plan {
        next_window: openings.min(),
        next_boundary: boundaries.min(),
        window_open: !open.is_empty(),
        ..Plan::default()
    };
    let status = campaign.status.clone().unwrap_or_default();
    let unopened = open.iter().any(|(rule, window)| find_open(&status, &rule.name, *window).is_none());
    if !campaign.spec.suspend && is_due(memory, &open, unopened) {
        plan.issue = open.iter().map(|(rule, window)| issue(campaign, &status, rule, *window)).collect();
    }
    if memory.coupons_changed || memory.since_pass.is_none() {
        plan.count = countable(&status, &plan);
    }
    if let Some(since) = memory.since_pass
        && since < BETWEEN_PASSES
        && !unopened
        && !(plan.issue.is_empty() && plan.count.is_empty())
    {
        (plan.issue, plan.count) = (Vec::new(), Vec::new());
        plan.later = Some(BETWEEN_PASSES.saturating_sub(since));
    }
    plan
}

/// A pass is due when none was made over this generation, when the audience is to be looked at again,
/// when Coupons changed, and when a window opened.
fn is_due(memory: &Memory, open: &[(&PreparedRule, Window)], unopened: bool) -> bool {
    let stale = memory.since_pass.is_none_or(|since| since >= memory.audience_poll);
    !open.is_empty() && (unopened || stale || memory.coupons_changed)
}

fn issue(campaign: &Campaign, status: &CampaignStatus, rule: &PreparedRule, window: Window) -> Issue {
    let opened = find_open(status, &rule.name, window).cloned();
    let accepted_missing = opened.as_ref().map_or(0, |o| accepted_missing(campaign, &rule.name, &o.key));
    Issue { rule: rule.clone(), window, opened, accepted_missing }
}

/// The earliest occurrence of a rule, as status remembers it, that a window belongs to.
fn find_open<'a>(status: &'a CampaignStatus, rule: &str, window: Window) -> Option<&'a OccurrenceStatus> {
    status
        .occurrences
        .iter()
        .filter(|o| o.rule == rule && o.window.overlaps(&window))
        .min_by_key(|o| o.window.start_time)
}

/// The annotation by which a person accepts that Coupons are missing.
#[must_use]
pub fn accept_missing_annotation(campaign: &Campaign) -> Option<&str> {
    campaign.annotations().get(ACCEPT_MISSING_ANNOTATION).map(String::as_str)
}

/// `<rule>/<key>=<n>`, several separated by commas or spaces.
fn accepted_missing(campaign: &Campaign, rule: &str, key: &str) -> i64 {
    let Some(text) = accept_missing_annotation(campaign) else { return 0 };
    text.split([',', ' '])
        .filter_map(|entry| entry.split_once('='))
        .filter(|(place, _)| place.trim().split_once('/') == Some((rule, key)))
        .filter_map(|(_, n)| n.trim().parse().ok())
        .max()
        .unwrap_or(0)
}

/// The occurrences that are not settled, or not known to be, and not issued to in this plan.
fn countable(status: &CampaignStatus, plan: &Plan) -> Vec<Count> {
    let issued_to = |o: &OccurrenceStatus| {
        plan.issue.iter().any(|i| i.opened.as_ref().is_some_and(|opened| opened.rule == o.rule && opened.key == o.key))
    };
    let unsettled = |o: &&OccurrenceStatus| !is_settled(o) && !issued_to(o);
    status.occurrences.iter().filter(unsettled).map(|o| Count { rule: o.rule.clone(), key: o.key.clone() }).collect()
}

/// True if all Coupons of the occurrence have come to their end.
#[must_use]
pub fn is_settled(occurrence: &OccurrenceStatus) -> bool {
    let ended = occurrence.delivered.saturating_add(occurrence.failed).saturating_add(occurrence.unknown);
    ended >= occurrence.issued
}

/// How long to sleep: until the next boundary, and at most a minute.
#[must_use]
pub fn wake(plan: &Plan, applied: &Applied, now: DateTime<Utc>) -> Duration {
    if applied.again {
        return Duration::from_millis(50);
    }
    let boundary = plan.next_boundary.and_then(|boundary| boundary.signed_duration_since(now).to_std().ok());
    boundary.into_iter().chain(plan.later).fold(LONGEST_SLEEP, Duration::min)
}

#[cfg(test)]
mod tests;
