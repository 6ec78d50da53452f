//! How a Coupon's status follows from what happens to it. Pure.

use chrono::{DateTime, TimeDelta, Utc};

use kube::ResourceExt;

use crate::api::RESOLVE_ANNOTATION;
use crate::api::conditions::{self, Fact, Verdict as Condition, reason};
use crate::api::coupon::{Attempt, AttemptOutcome, Coupon, CouponState, CouponStatus, DeliveryStatus, RecordFailure};
use crate::api::webhook::OnUnknown;
use crate::delivery::outcome::{Lesson, Outcome, Verdict};
use crate::delivery::progress::{self, Link, Standing};
use crate::delivery::retry::backoff;
use crate::records::{Records, RowSet};

/// Rows that are given up without a request, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenUp {
    pub row: u32,
    pub expired: bool,
    pub reason: &'static str,
    pub message: String,
}

/// The status with an attempt begun, and rows given up that could not be in it.
#[must_use]
pub fn with_intent(
    coupon: &Coupon,
    delivery: &str,
    attempt: &Attempt,
    given_up: &[GivenUp],
    now: DateTime<Utc>,
) -> CouponStatus {
    let mut status = begun(coupon);
    if let Some(delivery) = find(&mut status, delivery) {
        delivery.attempts = attempt.number;
        delivery.next_attempt_time = None;
        delivery.retrying = delivery.retrying.minus(&attempt.rows);
        delivery.last_attempt = Some(attempt.clone());
        give_up(delivery, coupon, given_up);
    }
    finished(status, coupon, None, now)
}

/// The status with an attempt's outcome. None if the status no longer speaks of that attempt.
#[must_use]
pub fn with_outcome(
    coupon: &Coupon,
    (delivery, number): (&str, i32),
    outcome: &Outcome,
    on_unknown: OnUnknown,
    now: DateTime<Utc>,
) -> Option<CouponStatus> {
    let mut status = begun(coupon);
    let delivery = find(&mut status, delivery)?;
    let mut attempt = delivery.last_attempt.clone().filter(|a| a.number == number)?;
    if attempt.outcome.is_some() {
        // Another process gave the attempt up, and its answer came after all.
        take_back(delivery, &mut attempt)?;
    }
    let rows = attempt.rows.clone();
    let ends = Ends::of(&rows, outcome, coupon);
    attempt.unknown = ends.unknown.minus(&delivery.unknown);
    attempt.completion_time = Some(now);
    attempt.http_status = outcome.http_status.map(i32::from);
    attempt.reason = Some(outcome.reason.clone());
    attempt.message = (!outcome.message.is_empty()).then(|| outcome.message.clone());
    attempt.outcome = Some(ends.summary(&rows));
    delivery.last_attempt = Some(attempt);
    ends.apply(delivery, on_unknown);
    delivery.max_rows = max_rows(delivery.max_rows, outcome, &rows);
    delivery.fruitless = if ends.is_fruitless() && outcome.verdict != Verdict::Divide {
        delivery.fruitless.saturating_add(1)
    } else {
        0
    };
    let (next, name) = (next_attempt(delivery, outcome, now), delivery.name.clone());
    let link = progress::chain(&coupon.spec, &status).into_iter().find(|link| link.name == name)?;
    // What was never sent need not wait for what is sent again, as long as requests bring something.
    let goes_on = link.status.fruitless == 0 && !link.fresh().is_empty();
    find(&mut status, &name)?.next_attempt_time = next.filter(|_| !goes_on && !link.open.is_empty());
    let why = (outcome.reason.as_str(), outcome.message.as_str());
    Some(finished(status, coupon, Some(why), now))
}

/// Rows whose sender was given up become what its late answer says. None if a person has decided since, or
/// the attempt had an answer of its own.
fn take_back(delivery: &mut DeliveryStatus, attempt: &mut Attempt) -> Option<()> {
    let rows = &attempt.rows;
    let waiting = delivery.retrying.or(&delivery.held).and(rows) == *rows;
    if attempt.reason.as_deref() != Some(SENDER_LOST) || !waiting || !delivery.approved.and(rows).is_empty() {
        return None;
    }
    delivery.retrying = delivery.retrying.minus(rows);
    delivery.held = delivery.held.minus(rows);
    delivery.unknown = delivery.unknown.minus(&attempt.unknown);
    Some(())
}

/// Why an attempt that has no outcome is called unknown.
pub const SENDER_LOST: &str = "SenderLost";

/// What became of the rows of an attempt.
#[derive(Default)]
struct Ends {
    accepted: RowSet,
    failed: RowSet,
    not_applied: RowSet,
    unknown: RowSet,
    failures: Vec<RecordFailure>,
}

impl Ends {
    fn of(rows: &RowSet, outcome: &Outcome, coupon: &Coupon) -> Self {
        let mut by_verdict: [Vec<u32>; 4] = Default::default();
        let mut failures = Vec::new();
        for (i, row) in rows.iter().enumerate() {
            let record = outcome.records.get(i);
            let verdict = record.map_or(outcome.verdict, |record| record.verdict);
            let [accepted, failed, not_applied, unknown] = &mut by_verdict;
            match verdict {
                Verdict::Accepted => accepted.push(row),
                Verdict::NotApplied { .. } | Verdict::Divide => not_applied.push(row),
                Verdict::Unknown => unknown.push(row),
                Verdict::Rejected => {
                    failed.push(row);
                    let (reason, message) =
                        record.map_or((&outcome.reason, &outcome.message), |record| (&record.reason, &record.message));
                    failures.push(failure(coupon, row, reason, message));
                }
            }
        }
        let [accepted, failed, not_applied, unknown] = by_verdict.map(RowSet::from_iter);
        Self { accepted, failed, not_applied, unknown, failures }
    }

    fn is_fruitless(&self) -> bool {
        self.accepted.is_empty() && self.failed.is_empty()
    }

    fn summary(&self, rows: &RowSet) -> AttemptOutcome {
        match () {
            () if self.accepted == *rows => AttemptOutcome::Accepted,
            () if self.failed == *rows => AttemptOutcome::Rejected,
            () if self.unknown == *rows => AttemptOutcome::Unknown,
            () if self.is_fruitless() => AttemptOutcome::NotApplied,
            () => AttemptOutcome::PartlyAccepted,
        }
    }

    fn apply(&self, delivery: &mut DeliveryStatus, on_unknown: OnUnknown) {
        let held = if on_unknown == OnUnknown::Hold { self.unknown.clone() } else { RowSet::default() };
        let again = self.unknown.minus(&held);
        delivery.accepted = delivery.accepted.or(&self.accepted);
        delivery.failed = delivery.failed.or(&self.failed);
        delivery.retrying = delivery.retrying.or(&self.not_applied).or(&again);
        delivery.held = delivery.held.or(&held);
        delivery.unknown = delivery.unknown.or(&self.unknown);
        // A person's word is good for one request.
        delivery.approved = delivery.approved.minus(&self.unknown);
        delivery.failures.extend(self.failures.iter().cloned());
        delivery.failures.truncate(MOST_FAILURES);
    }
}

/// So many failures of a delivery are shown in full.
const MOST_FAILURES: usize = 20;

fn failure(coupon: &Coupon, row: u32, reason: &str, message: &str) -> RecordFailure {
    let recipient = Records::of(&coupon.spec).get(row).ok().map(|record| record.recipient().to_owned());
    RecordFailure {
        row: i32::try_from(row).unwrap_or(i32::MAX),
        recipient,
        reason: reason.to_owned(),
        message: (!message.is_empty()).then(|| message.to_owned()),
    }
}

fn give_up(delivery: &mut DeliveryStatus, coupon: &Coupon, given_up: &[GivenUp]) {
    let rows = |expired: bool| given_up.iter().filter(|g| g.expired == expired).map(|g| g.row).collect::<RowSet>();
    delivery.failed = delivery.failed.or(&rows(false));
    delivery.expired = delivery.expired.or(&rows(true));
    delivery.retrying = delivery.retrying.minus(&delivery.failed).minus(&delivery.expired);
    let shown = given_up.iter().take(MOST_FAILURES.saturating_sub(delivery.failures.len()));
    delivery.failures.extend(shown.map(|g| failure(coupon, g.row, g.reason, &g.message)));
}

/// The most rows of the next request: half as many after one that was refused for its size or for one of
/// its records, twice as many after one that was not.
fn max_rows(before: Option<i32>, outcome: &Outcome, rows: &RowSet) -> Option<i32> {
    const MOST: i32 = 1000;
    let sent = i32::try_from(rows.len()).unwrap_or(MOST);
    match outcome.verdict {
        Verdict::Divide => Some(sent.saturating_add(1).div_euclid(2).max(1)),
        Verdict::Accepted => before.map(|most| most.saturating_mul(2)).filter(|most| *most < MOST),
        _ => before,
    }
}

/// When it is tried again. After a pause it is not a matter of time: the pacer knows. Halves are sent at once.
fn next_attempt(delivery: &DeliveryStatus, outcome: &Outcome, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let paused = matches!(outcome.lesson, Lesson::CredentialRefused | Lesson::EndpointRefused | Lesson::AddressRefused);
    if paused || outcome.verdict == Verdict::Divide {
        return None;
    }
    let asked = match outcome.verdict {
        Verdict::NotApplied { retry_after } => retry_after,
        _ => None,
    };
    now.checked_add_signed(TimeDelta::from_std(backoff(delivery.fruitless.max(1), asked)).unwrap_or_default())
}

/// The status with rows of a delivery given up without a request.
#[must_use]
pub fn with_given_up(coupon: &Coupon, delivery: &str, given_up: &[GivenUp], now: DateTime<Utc>) -> CouponStatus {
    let mut status = begun(coupon);
    if let Some(delivery) = find(&mut status, delivery) {
        give_up(delivery, coupon, given_up);
        delivery.next_attempt_time = None;
    }
    let first = given_up.first().map(|g| (g.reason, g.message.as_str()));
    finished(status, coupon, first, now)
}

/// The status with rows of a delivery expired.
#[must_use]
pub fn with_expired(coupon: &Coupon, delivery: &str, rows: &RowSet, why: &str, now: DateTime<Utc>) -> CouponStatus {
    let expired = |row| GivenUp { row, expired: true, reason: reason::EXPIRED, message: why.to_owned() };
    with_given_up(coupon, delivery, &rows.iter().map(expired).collect::<Vec<_>>(), now)
}

/// The status with rows held for a person: nobody knows what came of them.
#[must_use]
pub fn with_held(coupon: &Coupon, delivery: &str, rows: &RowSet, now: DateTime<Utc>) -> CouponStatus {
    let mut status = begun(coupon);
    if let Some(delivery) = find(&mut status, delivery) {
        delivery.held = delivery.held.or(rows);
        delivery.retrying = delivery.retrying.minus(rows);
    }
    finished(status, coupon, None, now)
}

/// Rows of a delivery that a person gives up.
pub(super) fn abandon(delivery: &mut DeliveryStatus, coupon: &Coupon, rows: &RowSet) {
    let message = || "a person gave it up: nobody can know whether it was applied".to_owned();
    let given_up = |row| GivenUp { row, expired: false, reason: reason::ABANDONED, message: message() };
    give_up(delivery, coupon, &rows.iter().map(given_up).collect::<Vec<_>>());
}

/// The status after a person's decision, or with why it cannot be followed.
pub(super) fn after_resolution(
    changed: CouponStatus,
    coupon: &Coupon,
    resolved: &Result<&str, String>,
    now: DateTime<Utc>,
) -> CouponStatus {
    let mut status = match resolved {
        Ok(text) => finished(changed, coupon, Some(("", &format!("as a person decided: {text}"))), now),
        Err(_) => changed,
    };
    let fact = match resolved {
        Ok(text) => Fact::new(conditions::RESOLVED, true, reason::AS_ANNOTATED, text),
        Err(why) => Fact::new(conditions::RESOLVED, false, reason::INVALID, why),
    };
    conditions::set_all(&mut status.conditions, &[fact], coupon.metadata.generation.unwrap_or_default(), now);
    status
}

/// The status of a Coupon that was restored or copied.
#[must_use]
pub fn held_as_restored(coupon: &Coupon, now: DateTime<Utc>) -> CouponStatus {
    let mut status = begun(coupon);
    // In each delivery: what a person knows of one says nothing of another.
    for delivery in &mut status.deliveries {
        delivery.held = Records::of(&coupon.spec).all();
        delivery.unknown = delivery.held.clone();
    }
    // An annotation that was restored with it speaks of what is not known any more.
    status.resolved = coupon.annotations().get(RESOLVE_ANNOTATION).cloned();
    let verdict = Condition::stalled(
        reason::RESTORED,
        format!(
            "this Coupon was issued over an hour before it was created here, so it is a restored or copied one, and nobody knows whether it was sent: nothing is sent until a person decides with the annotation {RESOLVE_ANNOTATION}: <delivery>:Retry@0, or Delivered, or Abandon, for each delivery"
        ),
    );
    said(derived(status, coupon), coupon, |_| verdict, now)
}

/// The status of a Coupon that lacks parameters its Webhook needs now.
#[must_use]
pub fn lacking_parameters(coupon: &Coupon, delivery: &str, parameters: &[String], now: DateTime<Utc>) -> CouponStatus {
    let verdict = Condition::stalled(
        reason::PARAMETERS_MISSING,
        format!(
            "delivery {delivery}: the Webhook has parameters that this Coupon was issued without ({}): remove them from the Webhook, or use another Webhook for them",
            parameters.join(", ")
        ),
    );
    said(derived(begun(coupon), coupon), coupon, |_| verdict, now)
}

/// The status of a Coupon whose Campaign is not there.
#[must_use]
pub fn without_campaign(coupon: &Coupon, now: DateTime<Utc>) -> CouponStatus {
    let name = coupon.spec.campaign.as_deref().unwrap_or_default();
    let verdict = Condition::waiting(
        reason::CAMPAIGN_GONE,
        format!("Campaign {name} is not there or is being deleted: nothing is sent until it is applied again"),
    );
    said(derived(begun(coupon), coupon), coupon, |_| verdict, now)
}

/// The status with an entry for each delivery.
pub(super) fn begun(coupon: &Coupon) -> CouponStatus {
    let mut status = coupon.status.clone().unwrap_or_default();
    for delivery in &coupon.spec.deliveries {
        if status.delivery(&delivery.name).is_none() {
            status.deliveries.push(DeliveryStatus { name: delivery.name.clone(), ..DeliveryStatus::default() });
        }
    }
    status
}

pub(super) fn find<'a>(status: &'a mut CouponStatus, delivery: &str) -> Option<&'a mut DeliveryStatus> {
    status.deliveries.iter_mut().find(|d| d.name == delivery)
}

/// Derives states, summary and conditions from what became of the rows.
fn finished(status: CouponStatus, coupon: &Coupon, why: Option<(&str, &str)>, now: DateTime<Utc>) -> CouponStatus {
    said(derived(status, coupon), coupon, |state| verdict(state, why), now)
}

/// Writes the conditions, once: each writing moves the times of those that change.
fn said(
    mut status: CouponStatus,
    coupon: &Coupon,
    verdict: impl FnOnce(CouponState) -> Condition,
    now: DateTime<Utc>,
) -> CouponStatus {
    let verdict = verdict(status.state);
    write_conditions(&mut status, coupon, &verdict, now);
    status
}

/// Derives states and summary from what became of the rows.
fn derived(mut status: CouponStatus, coupon: &Coupon) -> CouponStatus {
    let chain = progress::chain(&coupon.spec, &status);
    let standing = Standing::of(&coupon.spec, &status);
    status.state = overall(&chain);
    status.summary = Some(standing.summary());
    for link in &chain {
        // A later webhook of a chain is not sent when an earlier one took no record.
        let never = link.base.is_empty() && status.state.is_settled();
        let state = if never { status.state } else { link.state() };
        if let Some(delivery) = find(&mut status, &link.name) {
            delivery.state = state;
        }
    }
    status
}

fn overall(chain: &[Link]) -> CouponState {
    let states: Vec<CouponState> = chain.iter().map(Link::state).collect();
    let any = |of: fn(&DeliveryStatus) -> &RowSet| chain.iter().any(|link| !of(&link.status).is_empty());
    if states.contains(&CouponState::Sending) {
        CouponState::Sending
    } else if states.contains(&CouponState::Pending) {
        CouponState::Pending
    } else if any(|d| &d.held) {
        CouponState::Held
    } else if !any(|d| &d.failed) && !any(|d| &d.expired) {
        CouponState::Delivered
    } else if any(|d| &d.accepted) {
        CouponState::PartiallyFailed
    } else if any(|d| &d.failed) {
        CouponState::Failed
    } else {
        CouponState::Expired
    }
}

fn verdict(state: CouponState, why: Option<(&str, &str)>) -> Condition {
    let (word, message) = why.unwrap_or_default();
    let said = match (word, message) {
        ("" | "Accepted", message) => message.to_owned(),
        (word, "") => word.to_owned(),
        (word, message) => format!("{word}: {message}"),
    };
    match state {
        CouponState::Pending => Condition::waiting(reason::RETRYING, said),
        CouponState::Sending => Condition::waiting(reason::SENDING, said),
        CouponState::Delivered => Condition::ready(reason::DELIVERED, said),
        CouponState::Failed | CouponState::PartiallyFailed => Condition::stalled(reason::FAILED, said),
        CouponState::Expired => Condition::stalled(reason::EXPIRED, said),
        CouponState::Held => Condition::stalled(
            reason::UNKNOWN_OUTCOME,
            format!(
                "{said}. It waits for a person: annotate it with {}: <delivery>:Retry@<attempts>, or Delivered, or Abandon",
                crate::api::RESOLVE_ANNOTATION
            ),
        ),
    }
}

fn write_conditions(status: &mut CouponStatus, coupon: &Coupon, verdict: &Condition, now: DateTime<Utc>) {
    let delivered = status.state == CouponState::Delivered;
    let delivered_reason = if delivered { reason::DELIVERED } else { reason::UNDELIVERED };
    let generation = coupon.metadata.generation.unwrap_or_default();
    status.observed_generation = generation;
    conditions::set_all(&mut status.conditions, &verdict.conditions(), generation, now);
    let fact = Fact::new(conditions::DELIVERED, delivered, delivered_reason, "");
    conditions::set_all(&mut status.conditions, &[fact], generation, now);
}

#[cfg(test)]
mod tests;
