//! What is next for a Coupon. Pure: it takes the time as an argument.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::resolve;
use crate::api::coupon::{Attempt, Coupon, CouponState, DeliveryStatus};
use crate::api::webhook::OnUnknown;
use crate::delivery::endpoint::Endpoint;
use crate::delivery::progress::{self, Link};
use crate::delivery::retry::{Deadlines, Passed};
use crate::records::{Records, RowSet};

/// How much longer than its timeout an attempt of another process may still be on its way.
const SENDER_GRACE: TimeDelta = TimeDelta::seconds(10);

/// A Coupon that was issued so long before it was created was restored or copied, and nobody knows
/// what was sent.
const RESTORED_AFTER: TimeDelta = TimeDelta::hours(1);

/// The Campaign of a Coupon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CampaignState {
    /// A person wrote the Coupon.
    NotNeeded,
    Running,
    /// Or its guardrails stopped the Coupon's occurrence.
    Suspended,
    Gone,
    /// The operator has just been started.
    NotYetKnown,
}

/// What a plan depends on.
#[derive(Clone, Copy)]
pub struct Circumstances<'a> {
    pub coupon: &'a Coupon,
    /// When the Coupon was created, by this process's clock.
    pub created: Option<DateTime<Utc>>,
    pub campaign: CampaignState,
    /// The endpoints that are ready, by Webhook.
    pub endpoints: &'a HashMap<String, Arc<Endpoint>>,
    /// Webhooks that send nothing now, by name.
    pub paused: &'a HashSet<String>,
    /// A task of this process is sending it now.
    pub active: bool,
    /// This process, as intents name it.
    pub sender: &'a str,
    pub now: DateTime<Utc>,
}

/// What is next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Nothing, until something changes.
    Nothing,
    /// Look again after a while.
    Wait(Duration),
    /// Send rows of a delivery, by its name, if its turn comes before it is too late.
    Send { delivery: String, rows: RowSet, until: Option<DateTime<Utc>> },
    /// Hold it: it was restored.
    HoldRestored,
    /// Give rows of a delivery up: their time has passed.
    Expire { delivery: String, rows: RowSet, why: &'static str },
    /// Hold rows of a delivery for a person: nobody knows what came of them, and its Webhook says Hold now.
    Hold { delivery: String, rows: RowSet },
    /// An attempt's sender is gone, and nobody knows what came of it.
    SenderLost { delivery: String, attempt: i32 },
    /// Do what a person decided by annotation.
    Resolve,
    /// Its Campaign is not there: it waits, and says so.
    CampaignGone,
    /// This process began an attempt and never came to send it: the answer to its intent was lost.
    NotSent { delivery: String, attempt: i32 },
    /// The Webhook has parameters that were not frozen in this Coupon. Looked at again after a while, if anything
    /// comes by itself.
    ParametersMissing { delivery: String, parameters: Vec<String>, again: Option<Duration> },
}

impl Plan {
    /// True if it is a write of status, and so is made of all records.
    #[must_use]
    pub fn writes(&self) -> bool {
        !matches!(self, Self::Nothing | Self::Wait(_) | Self::Send { .. })
    }
}

/// What is next for a Coupon.
#[must_use]
pub fn run(at: &Circumstances<'_>) -> Plan {
    let status = at.coupon.status.clone().unwrap_or_default();
    if at.active {
        return Plan::Nothing;
    }
    if status.is_empty() && was_restored(at) {
        // Before an annotation that was restored with it: it speaks of what is not known any more.
        return Plan::HoldRestored;
    }
    if status.state != CouponState::Sending && resolve::pending(at.coupon).is_some() {
        return Plan::Resolve;
    }
    if status.state.is_settled() {
        return Plan::Nothing;
    }
    let chain = progress::chain(&at.coupon.spec, &status);
    if let Some(plan) = chain.iter().find_map(|link| on_its_way(at, link)) {
        return plan;
    }
    if at.campaign == CampaignState::Gone {
        return Plan::CampaignGone;
    }
    let mut steps = Vec::new();
    let mut earlier_goes_on = false;
    for link in chain.iter().filter(|link| !link.open.is_empty()) {
        steps.push(step(at, link, earlier_goes_on));
        earlier_goes_on |= goes_on(at, link);
    }
    first(steps, at.now)
}

/// True if requests of a delivery are sent now, or when its next attempt is due.
fn goes_on(at: &Circumstances<'_>, link: &Link) -> bool {
    let paused = at.paused.contains(&link.webhook);
    let able = |endpoint: &Arc<Endpoint>| !endpoint.spec.suspend && missing_parameters(at, link, endpoint).is_empty();
    !paused && at.endpoints.get(&link.webhook).is_some_and(able)
}

/// What can be done for a delivery.
enum Step {
    Now(Plan),
    /// It waits for its Webhook, which is paused: only if nothing else can be done.
    WhenResumed(Send),
    After(Duration),
    /// It lacks parameters: said if nothing else can be done. Its deadline comes after so long.
    Stuck {
        delivery: String,
        parameters: Vec<String>,
        deadline: Option<Duration>,
    },
    /// Not before something changes.
    Blocked,
}

/// A request that could be sent.
struct Send {
    delivery: String,
    rows: RowSet,
    until: Option<DateTime<Utc>>,
}

impl From<Send> for Plan {
    fn from(Send { delivery, rows, until }: Send) -> Self {
        Self::Send { delivery, rows, until }
    }
}

/// One request of a Coupon at a time: of the first delivery in the chain that can go on.
fn first(steps: Vec<Step>, now: DateTime<Utc>) -> Plan {
    let (mut paused, mut stuck, mut after) = (None, None, None::<Duration>);
    let mut sooner = |duration: Option<Duration>| after = after.into_iter().chain(duration).min();
    for step in steps {
        match step {
            Step::Now(plan) => return plan,
            Step::WhenResumed(send) => paused = paused.or(Some(send)),
            Step::After(duration) => sooner(Some(duration)),
            Step::Stuck { delivery, parameters, deadline } => {
                stuck = stuck.or(Some((delivery, parameters)));
                sooner(deadline);
            }
            Step::Blocked => {}
        }
    }
    if let Some(send) = paused {
        // It waits in its lane, where a request finds out when its Webhook works again; and no longer than others.
        let others = after.and_then(|after| now.checked_add_signed(TimeDelta::from_std(after).ok()?));
        return Send { until: send.until.into_iter().chain(others).min(), ..send }.into();
    }
    match stuck {
        Some((delivery, parameters)) => Plan::ParametersMissing { delivery, parameters, again: after },
        None => after.map_or(Plan::Nothing, Plan::Wait),
    }
}

fn was_restored(at: &Circumstances<'_>) -> bool {
    at.coupon
        .spec
        .issued_at
        .zip(at.created)
        .is_some_and(|(issued, created)| created.signed_duration_since(issued) > RESTORED_AFTER)
}

/// What to do of an attempt without an outcome; none if there is no such attempt.
fn on_its_way(at: &Circumstances<'_>, link: &Link) -> Option<Plan> {
    let attempt = link.status.last_attempt.as_ref().filter(|a| a.outcome.is_none())?;
    if attempt.sender == at.sender {
        // Whoever sends does not end before the result is written down, and nobody is sending.
        return Some(Plan::NotSent { delivery: link.name.clone(), attempt: attempt.number });
    }
    let longest = attempt_timeout(at, link).checked_add(&SENDER_GRACE).unwrap_or(SENDER_GRACE);
    let left = longest.checked_sub(&at.now.signed_duration_since(attempt.start_time)).unwrap_or_default();
    Some(match left.to_std() {
        Ok(left) if !left.is_zero() => Plan::Wait(left),
        _ => Plan::SenderLost { delivery: link.name.clone(), attempt: attempt.number },
    })
}

/// The longest that an attempt may take. Without its Webhook, the longest that any may.
fn attempt_timeout(at: &Circumstances<'_>, link: &Link) -> TimeDelta {
    let seconds = at.endpoints.get(&link.webhook).map_or(300, |e| e.spec.timeout_seconds);
    TimeDelta::seconds(i64::from(seconds))
}

fn step(at: &Circumstances<'_>, link: &Link, earlier_goes_on: bool) -> Step {
    match at.campaign {
        CampaignState::Suspended | CampaignState::Gone | CampaignState::NotYetKnown => return Step::Blocked,
        CampaignState::NotNeeded | CampaignState::Running => {}
    }
    let Some(endpoint) = at.endpoints.get(&link.webhook) else { return Step::Blocked };
    let deadlines = deadlines(at, link, endpoint);
    if let Some(passed) = deadlines.passed(at.now) {
        let rows = match passed {
            Passed::Expiry => link.open.clone(),
            Passed::Webhook => link.open.minus(&link.status.approved),
            Passed::Freshness => stale(at, link, endpoint),
        };
        return Step::Now(Plan::Expire { delivery: link.name.clone(), rows, why: passed.why() });
    }
    let until = deadlines.earliest();
    let doubtful = link.again().and(&link.status.unknown).minus(&link.status.approved);
    if endpoint.spec.on_unknown == OnUnknown::Hold && !doubtful.is_empty() {
        return Step::Now(Plan::Hold { delivery: link.name.clone(), rows: doubtful });
    }
    let missing = missing_parameters(at, link, endpoint);
    if !missing.is_empty() {
        let deadline = until.and_then(|until| until.signed_duration_since(at.now).to_std().ok());
        return Step::Stuck { delivery: link.name.clone(), parameters: missing, deadline };
    }
    let rows = rows(link, endpoint, earlier_goes_on);
    if endpoint.spec.suspend || rows.is_empty() {
        return after(until, at.now);
    }
    if let Some(next) = link.status.next_attempt_time.filter(|next| *next > at.now) {
        return after(until.into_iter().chain([next]).min(), at.now);
    }
    let send = Send { delivery: link.name.clone(), rows, until };
    if at.paused.contains(&link.webhook) { Step::WhenResumed(send) } else { Step::Now(send.into()) }
}

fn after(at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Step {
    let left = at.and_then(|at| at.signed_duration_since(now).to_std().ok());
    left.map_or(Step::Blocked, Step::After)
}

/// The rows of the next request: those that are sent again, and those that were never sent. A short slice
/// of the latter waits for those that an earlier delivery is about to accept, unless it is the first.
fn rows(link: &Link, endpoint: &Endpoint, earlier_goes_on: bool) -> RowSet {
    let most = link.status.max_rows.and_then(|most| u32::try_from(most).ok()).unwrap_or(u32::MAX);
    let most = most.min(endpoint.spec.max_batch()).max(1);
    let fresh = link.fresh();
    let waits = earlier_goes_on && link.status.attempts > 0 && fresh.len() < most;
    let all = if waits { link.again() } else { link.again().or(&fresh) };
    all.first(most)
}

fn missing_parameters(at: &Circumstances<'_>, link: &Link, endpoint: &Endpoint) -> Vec<String> {
    endpoint.missing_parameters(&Records::of(&at.coupon.spec).parameter_names(&link.name))
}

fn deadlines(at: &Circumstances<'_>, link: &Link, endpoint: &Endpoint) -> Deadlines {
    let since = at.coupon.spec.issued_at.or(at.created);
    let records = Records::of(&at.coupon.spec);
    // A person's word to send rows again outlives the Webhook's deadline.
    let since = since.filter(|_| !link.open.minus(&link.status.approved).is_empty());
    Deadlines {
        webhook: since.and_then(|since| Deadlines::after(since, endpoint.spec.deadline_seconds)),
        expiry: at.coupon.spec.expiry_time,
        // A value that cannot be filled in is found when it is sent; it has no ts of its own.
        freshness: records.sample(&link.open).and_then(|row| endpoint.fresh_until(records, &link.name, row)),
    }
}

/// The rows that CleverTap would no longer take as fresh.
fn stale(at: &Circumstances<'_>, link: &Link, endpoint: &Endpoint) -> RowSet {
    let records = Records::of(&at.coupon.spec);
    let until = |row: &u32| endpoint.fresh_until(records, &link.name, *row);
    link.open.iter().filter(|row| until(row).is_some_and(|until| until <= at.now)).collect()
}

/// The attempt that follows the last, as it is written before anything is sent.
#[must_use]
pub fn intent(
    status: &DeliveryStatus,
    rows: RowSet,
    payload_digest: String,
    sender: &str,
    now: DateTime<Utc>,
) -> Attempt {
    Attempt {
        number: status.attempts.saturating_add(1),
        rows,
        unknown: RowSet::default(),
        start_time: now,
        completion_time: None,
        payload_digest,
        sender: sender.to_owned(),
        outcome: None,
        http_status: None,
        reason: None,
        message: None,
    }
}

#[cfg(test)]
mod tests;
