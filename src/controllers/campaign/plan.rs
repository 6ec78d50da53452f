//! What a Campaign does now, and when it looks again. Pure: it takes the time as an argument.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use kube::ResourceExt;

use super::missed::{self, Missed};
use super::reopen;
use super::validate::{PreparedRule, Validated};
use crate::api::campaign::{Campaign, CampaignStatus, OccurrenceStatus, Profile};
use crate::api::{ACCEPT_FAILED_ANNOTATION, ACCEPT_MISSING_ANNOTATION};
use crate::issuing::selection::distinct;
use crate::rules::budget::Allowance;
use crate::rules::guardrails::{TooManyFailed, too_many_failed};
use crate::rules::occurrence::{Occurrence, Timing, is_year, year_key};
use crate::schedule::MonthDay;

/// Passes, and with them writes of status, are at least this far apart.
const BETWEEN_PASSES: Duration = Duration::from_secs(1);

/// What is known from earlier reconciles in this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// How long ago the last pass over this generation was; none if there was none.
    pub since_pass: Option<Duration>,
    /// How many rules could act then.
    pub able: usize,
    /// The next boundary, as the last pass saw it.
    pub boundary: Option<DateTime<Utc>>,
    /// How long ago its Coupons were counted, if at all.
    pub since_count: Option<Duration>,
    /// A Coupon changed since.
    pub coupons_changed: bool,
    /// One is gone or settled since by what another did.
    pub counts_unknown: bool,
    pub audience_poll: Duration,
    /// What came of the last pass.
    pub outcome: PassOutcome,
}

/// What a pass has to say of its Campaign, until the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PassOutcome {
    /// What stopped an occurrence.
    pub stopped: Option<Stopped>,
    /// A budget that is spent, in words.
    pub exhausted: Option<String>,
    /// Others wait until those who went first are settled.
    pub canary: bool,
}

impl PassOutcome {
    /// An outcome that says no more than why it stopped.
    #[must_use]
    pub fn stopped(reason: &'static str, message: String) -> Self {
        Self { stopped: Some((reason, message)), ..Self::default() }
    }

    /// What this one says of its own, else the other.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            stopped: self.stopped.or(other.stopped),
            exhausted: self.exhausted.or(other.exhausted),
            canary: self.canary || other.canary,
        }
    }
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
    /// They are read from the API server, since what is known of them may not be all.
    pub read: bool,
    /// Windows that closed since status last spoke of it, and that nobody, or not everybody, was seen in.
    pub missed: Vec<Missed>,
    /// Windows closed after this instant, up to which status has spoken of them.
    pub closed_after: Option<DateTime<Utc>>,
    /// Windows are to be opened once more.
    pub reopening: bool,
    /// Windows that the annotation names and that were opened once more already, or are open anyway.
    pub reopened: Vec<String>,
    /// What is wrong with that annotation.
    pub warnings: Vec<String>,
    /// It is too early for another pass: look again after this.
    pub later: Option<Duration>,
    pub next_window: Option<DateTime<Utc>>,
    pub next_boundary: Option<DateTime<Utc>>,
    pub window_open: bool,
}

/// An occurrence to issue for.
#[derive(Clone, Debug, PartialEq)]
pub struct Issue {
    pub rule: PreparedRule,
    pub granting: Granting,
    /// The occurrence that this one is or goes on, as the Campaign's status fixed it.
    pub opened: Option<OccurrenceStatus>,
    /// How many missing Coupons a person accepted.
    pub accepted_missing: i64,
    /// Its window has closed, and a person opened it once more.
    pub reopened: bool,
    /// For those alone who have a code of the occurrence that this one goes on as, but of another window: a
    /// second pass, under its own key.
    pub own_key: bool,
}

/// Whom an occurrence is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Granting {
    Everybody(Occurrence),
    /// Everybody whose own anniversary of a year is now.
    Anniversary(i32),
}

impl Issue {
    /// The key of what is open, whatever occurrence it goes on as.
    #[must_use]
    pub fn own_key(&self) -> String {
        match &self.granting {
            Granting::Everybody(open) => open.key.clone(),
            Granting::Anniversary(year) => year_key(*year),
        }
    }

    /// The same under its own key, for those who have a code of the occurrence that it goes on as, but of
    /// another window.
    #[must_use]
    pub fn under_own_key(&self, occurrences: &[OccurrenceStatus]) -> Self {
        let key = self.own_key();
        let opened = occurrences.iter().find(|o| o.rule == self.rule.name && o.key == key).cloned();
        Self { opened, own_key: true, ..self.clone() }
    }
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
    pub outcome: PassOutcome,
    /// Windows that were missed.
    pub missed: Vec<Missed>,
    /// What a person opened once more and was issued to.
    pub reopened: Vec<String>,
    /// A pass was begun and ended early, since the Campaign changed: look again at once.
    pub again: bool,
}

/// What a Campaign does now for its audience.
#[must_use]
pub fn run(
    (campaign, profiles): (&Campaign, &[Profile]),
    validated: &Validated,
    memory: &Memory,
    now: DateTime<Utc>,
) -> Plan {
    let status = campaign.status.clone().unwrap_or_default();
    let timings = validated.timings.iter().map(|(_, timing)| (timing, dates(timing, profiles)));
    let timings: Vec<(_, BTreeSet<MonthDay>)> = timings.collect();
    let open: Vec<(&PreparedRule, Granting)> =
        validated.rules.iter().flat_map(|rule| openings(rule, profiles, now).map(move |open| (rule, open))).collect();
    let mut plan = Plan {
        next_window: timings.iter().filter_map(|(timing, dates)| timing.next_opening(dates, now)).min(),
        next_boundary: timings.iter().filter_map(|(timing, dates)| timing.next_boundary(dates, now)).min(),
        window_open: !open.is_empty(),
        ..Plan::default()
    };
    if plan.window_open {
        let zone = validated.timings.first().map(|(_, timing)| timing.zone()).unwrap_or_default();
        let allowance = Allowance::at(&campaign.spec.budgets, zone, now);
        plan.next_boundary = plan.next_boundary.into_iter().chain(allowance.next_period()).min();
    }
    missed::look(&mut plan, (campaign, profiles), validated, now);
    let reopened = reopen::issues(campaign, &status, validated, now);
    let is_new = |(rule, granting): &(&PreparedRule, Granting)| find_open(&status, &rule.name, granting).is_none();
    let unopened = !campaign.spec.suspend && open.iter().any(is_new);
    if !campaign.spec.suspend {
        let able = validated.rules.len();
        let settled = |(rule, granting): &(&PreparedRule, Granting)| {
            find_open(&status, &rule.name, granting).is_some_and(|o| is_settled(o) && !o.audience_seen)
        };
        // Those who went first are settled.
        let others_turn = memory.outcome.canary && open.iter().any(settled);
        if is_due(memory, &open, unopened, now) || others_turn || (memory.able != able && !open.is_empty()) {
            plan.issue = open.into_iter().map(|(rule, granting)| issue(campaign, &status, rule, granting)).collect();
            plan.issue.retain(|issue| issue.opened.as_ref().is_none_or(|o| stop(campaign, o).is_none()));
        }
        plan.reopening = !reopened.issues.is_empty();
        if looks_again(memory, now) {
            plan.issue.extend(reopened.issues);
        }
    }
    (plan.warnings, plan.reopened) = (reopened.warnings, reopened.done);
    plan.read = memory.counts_unknown || memory.since_pass.is_none();
    if plan.read || memory.coupons_changed {
        plan.count = countable(&status, &plan);
    }
    if let Some(since) = memory.since_pass.into_iter().chain(memory.since_count).min()
        && since < BETWEEN_PASSES
        && !unopened
        && !(plan.issue.is_empty() && plan.count.is_empty())
    {
        (plan.issue, plan.count) = (Vec::new(), Vec::new());
        plan.later = Some(BETWEEN_PASSES.saturating_sub(since));
    }
    plan
}

/// The dates in an audience that a rule goes by; none for a rule that goes by none.
fn dates(timing: &Timing, profiles: &[Profile]) -> BTreeSet<MonthDay> {
    let Some(calendar) = timing.anniversary() else { return BTreeSet::new() };
    distinct(profiles).filter_map(|p| calendar.month_day(|name| p.attributes.get(name).cloned()).ok()).collect()
}

/// What is open of a rule: one occurrence for everybody, or each year of which somebody's anniversary is
/// now.
fn openings(rule: &PreparedRule, profiles: &[Profile], now: DateTime<Utc>) -> impl Iterator<Item = Granting> + use<> {
    let everybody = rule.timing.open_at(now).map(Granting::Everybody);
    let years: BTreeSet<i32> = rule
        .timing
        .anniversary()
        .into_iter()
        .flat_map(|calendar| {
            let dates = dates(&rule.timing, profiles);
            dates.into_iter().flat_map(|date| calendar.open_at(date, now)).map(|(year, _)| year)
        })
        .collect();
    everybody.into_iter().chain(years.into_iter().map(Granting::Anniversary))
}

/// A pass is due when the audience is to be looked at again, when Coupons may be gone, and when a window opened.
fn is_due(memory: &Memory, open: &[(&PreparedRule, Granting)], unopened: bool, now: DateTime<Utc>) -> bool {
    !open.is_empty() && (unopened || looks_again(memory, now) || memory.counts_unknown)
}

/// True if no pass was made over this generation, or the last is so long ago that the audience is to be looked
/// at again, or a boundary has passed since.
fn looks_again(memory: &Memory, now: DateTime<Utc>) -> bool {
    let stale = memory.since_pass.is_none_or(|since| since >= memory.audience_poll);
    stale || memory.boundary.is_some_and(|boundary| boundary <= now)
}

fn issue(campaign: &Campaign, status: &CampaignStatus, rule: &PreparedRule, granting: Granting) -> Issue {
    let opened = find_open(status, &rule.name, &granting).cloned();
    let accepted_missing = opened.as_ref().map_or(0, |o| accepted_missing(campaign, &rule.name, &o.key));
    Issue { rule: rule.clone(), granting, opened, accepted_missing, reopened: false, own_key: false }
}

/// The earliest occurrence of a rule, as status remembers it, that this one is or goes on: after an edit
/// of its times it keeps its key.
#[must_use]
pub fn find_open<'a>(status: &'a CampaignStatus, rule: &str, granting: &Granting) -> Option<&'a OccurrenceStatus> {
    let goes_on = |o: &&OccurrenceStatus| match granting {
        Granting::Anniversary(year) => o.key == year_key(*year),
        Granting::Everybody(occurrence) => {
            o.key == occurrence.key || (!is_year(&o.key) && o.window.overlaps(&occurrence.window))
        }
    };
    let of_rule = status.occurrences.iter().filter(|o| o.rule == rule);
    of_rule.filter(goes_on).min_by_key(|o| o.window.start_time)
}

/// Why nothing is issued or sent of an occurrence: too many of its records failed.
#[must_use]
pub fn stop(campaign: &Campaign, occurrence: &OccurrenceStatus) -> Option<TooManyFailed> {
    let guardrails = campaign.spec.guardrails.as_ref()?;
    let accepted = accepted(campaign, ACCEPT_FAILED_ANNOTATION, (&occurrence.rule, &occurrence.key));
    too_many_failed(guardrails, occurrence, accepted)
}

/// What a person is told of an occurrence that was stopped.
#[must_use]
pub fn said_of_stop(campaign: &Campaign, occurrence: &OccurrenceStatus, why: &TooManyFailed) -> String {
    let (name, rule, key) = (campaign.name_any(), &occurrence.rule, &occurrence.key);
    let all = occurrence.failed.saturating_add(occurrence.unknown);
    format!(
        "rule {rule}, occurrence {key}: {why}: nothing is issued or sent of it. `coupon-operator failures {name}` says what failed: mend that and send them again with `coupon-operator resolve {name} --as Retry`, or accept them with the annotation {ACCEPT_FAILED_ANNOTATION}: {rule}/{key}={all}"
    )
}

/// How many missing Coupons of an occurrence a person accepted.
#[must_use]
pub fn accepted_missing(campaign: &Campaign, rule: &str, key: &str) -> i64 {
    accepted(campaign, ACCEPT_MISSING_ANNOTATION, (rule, key))
}

/// `<rule>/<key>=<n>`, several separated by commas or spaces.
fn accepted(campaign: &Campaign, annotation: &str, (rule, key): (&str, &str)) -> i64 {
    let Some(text) = campaign.annotations().get(annotation) else { return 0 };
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
    // A person may resolve what failed or is unknown.
    let unsettled = |o: &&OccurrenceStatus| (!is_settled(o) || o.failed > 0 || o.unknown > 0) && !issued_to(o);
    status.occurrences.iter().filter(unsettled).map(|o| Count { rule: o.rule.clone(), key: o.key.clone() }).collect()
}

/// True if all Coupons of the occurrence have come to their end.
#[must_use]
pub fn is_settled(occurrence: &OccurrenceStatus) -> bool {
    let ended = occurrence.delivered.saturating_add(occurrence.failed).saturating_add(occurrence.unknown);
    ended >= occurrence.issued
}

/// How long to sleep: until the next boundary, and no longer than `longest`, so that a clock that jumps is
/// noticed, without a call to the API server.
#[must_use]
pub fn wake(plan: &Plan, applied: &Applied, longest: Duration, now: DateTime<Utc>) -> Duration {
    if applied.again {
        return Duration::from_millis(50);
    }
    let boundary = plan.next_boundary.and_then(|boundary| boundary.signed_duration_since(now).to_std().ok());
    boundary.into_iter().chain(plan.later).fold(longest, Duration::min)
}

#[cfg(test)]
mod tests;
