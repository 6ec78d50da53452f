//! How a Coupon's status follows from what happens to it. Pure.

use chrono::{DateTime, TimeDelta, Utc};

use crate::api::conditions::{self, Fact, Verdict as Condition, reason};
use crate::api::coupon::{Attempt, AttemptOutcome, Coupon, CouponState, CouponStatus, DeliveryStatus};
use crate::api::webhook::OnUnknown;
use crate::delivery::outcome::{Lesson, Outcome, Verdict};
use crate::delivery::retry::backoff;

/// The status with an attempt begun.
#[must_use]
pub fn with_intent(coupon: &Coupon, delivery: &str, attempt: &Attempt, now: DateTime<Utc>) -> CouponStatus {
    let mut status = begun(coupon);
    if let Some(delivery) = find(&mut status, delivery) {
        delivery.state = CouponState::Sending;
        delivery.attempts = attempt.number;
        delivery.next_attempt_time = None;
        delivery.last_attempt = Some(attempt.clone());
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
    let attempt = delivery.last_attempt.as_mut().filter(|a| a.number == number && a.outcome.is_none())?;
    attempt.completion_time = Some(now);
    attempt.http_status = outcome.http_status.map(i32::from);
    attempt.reason = Some(outcome.reason.clone());
    attempt.message = (!outcome.message.is_empty()).then(|| outcome.message.clone());
    let (recorded, state) = match (outcome.verdict, on_unknown) {
        (Verdict::Accepted, _) => (AttemptOutcome::Accepted, CouponState::Delivered),
        (Verdict::Rejected, _) => (AttemptOutcome::Rejected, CouponState::Failed),
        (Verdict::NotApplied { .. }, _) => (AttemptOutcome::NotApplied, CouponState::Pending),
        (Verdict::Unknown, OnUnknown::Retry) => (AttemptOutcome::Unknown, CouponState::Pending),
        (Verdict::Unknown, OnUnknown::Hold) => (AttemptOutcome::Unknown, CouponState::Held),
    };
    attempt.outcome = Some(recorded);
    delivery.state = state;
    delivery.next_attempt_time = (state == CouponState::Pending).then(|| next_attempt(number, outcome, now)).flatten();
    let why = (outcome.reason.as_str(), outcome.message.as_str());
    Some(finished(status, coupon, Some(why), now))
}

/// When it is tried again. After a pause it is not a matter of time: the pacer knows.
fn next_attempt(number: i32, outcome: &Outcome, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    if matches!(outcome.lesson, Lesson::CredentialRefused | Lesson::EndpointRefused | Lesson::AddressRefused) {
        return None;
    }
    let asked = match outcome.verdict {
        Verdict::NotApplied { retry_after } => retry_after,
        _ => None,
    };
    now.checked_add_signed(TimeDelta::from_std(backoff(number, asked)).unwrap_or_default())
}

/// The status of a delivery that is given up without a request.
#[must_use]
pub fn with_end(coupon: &Coupon, delivery: &str, state: CouponState, why: &str, now: DateTime<Utc>) -> CouponStatus {
    let mut status = begun(coupon);
    if let Some(delivery) = find(&mut status, delivery) {
        delivery.state = state;
        delivery.next_attempt_time = None;
    }
    finished(status, coupon, Some(("", why)), now)
}

/// The status of a Coupon that was restored or copied.
#[must_use]
pub fn held_as_restored(coupon: &Coupon, now: DateTime<Utc>) -> CouponStatus {
    let mut status = begun(coupon);
    for delivery in &mut status.deliveries {
        delivery.state = CouponState::Held;
    }
    let mut status = finished(status, coupon, None, now);
    let verdict = Condition::stalled(
        reason::RESTORED,
        "this Coupon was issued over an hour before it was created here, so it is a restored or copied one, and nobody knows whether it was sent: it is held, and nothing is sent",
    );
    write_conditions(&mut status, coupon, &verdict, now);
    status
}

/// The status of a Coupon that lacks parameters its Webhook needs now.
#[must_use]
pub fn lacking_parameters(coupon: &Coupon, delivery: &str, parameters: &[String], now: DateTime<Utc>) -> CouponStatus {
    let mut status = finished(begun(coupon), coupon, None, now);
    let verdict = Condition::stalled(
        reason::PARAMETERS_MISSING,
        format!(
            "delivery {delivery}: the Webhook has parameters that this Coupon was issued without ({}): remove them from the Webhook, or use another Webhook for them",
            parameters.join(", ")
        ),
    );
    write_conditions(&mut status, coupon, &verdict, now);
    status
}

/// The status with an entry for each delivery.
fn begun(coupon: &Coupon) -> CouponStatus {
    let mut status = coupon.status.clone().unwrap_or_default();
    for delivery in &coupon.spec.deliveries {
        if status.delivery(&delivery.name).is_none() {
            status.deliveries.push(DeliveryStatus { name: delivery.name.clone(), ..DeliveryStatus::default() });
        }
    }
    status
}

fn find<'a>(status: &'a mut CouponStatus, delivery: &str) -> Option<&'a mut DeliveryStatus> {
    status.deliveries.iter_mut().find(|d| d.name == delivery)
}

/// Derives the Coupon's own state, summary and conditions from its deliveries.
fn finished(mut status: CouponStatus, coupon: &Coupon, why: Option<(&str, &str)>, now: DateTime<Utc>) -> CouponStatus {
    let of_deliveries: Vec<CouponState> = status.deliveries.iter().map(|d| d.state).collect();
    status.state = overall(&of_deliveries);
    if status.state.is_settled() {
        // A later webhook of a chain is not sent when an earlier one did not take the record.
        for delivery in status.deliveries.iter_mut().filter(|d| d.state == CouponState::Pending) {
            delivery.state = status.state;
        }
    }
    status.summary = Some(if status.state == CouponState::Delivered { "1/1" } else { "0/1" }.to_owned());
    let verdict = verdict(status.state, why);
    write_conditions(&mut status, coupon, &verdict, now);
    status
}

fn overall(states: &[CouponState]) -> CouponState {
    let any = |state| states.contains(&state);
    if any(CouponState::Held) {
        CouponState::Held
    } else if any(CouponState::Failed) || any(CouponState::Expired) {
        match (any(CouponState::Delivered), any(CouponState::Failed)) {
            (true, _) => CouponState::PartiallyFailed,
            (false, true) => CouponState::Failed,
            (false, false) => CouponState::Expired,
        }
    } else if any(CouponState::Sending) {
        CouponState::Sending
    } else if any(CouponState::Pending) {
        CouponState::Pending
    } else {
        CouponState::Delivered
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
            format!("{said}. It is held since the Webhook says onUnknown: Hold"),
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
