//! What is next for a Coupon. Pure: it takes the time as an argument.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::api::coupon::{Attempt, Coupon, CouponState, Delivery, DeliveryStatus};
use crate::delivery::endpoint::Endpoint;
use crate::delivery::retry::{CLEVERTAP_FRESHNESS_SECONDS, Deadlines};

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
    Suspended,
    Gone,
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
    /// A task of this process is sending it now.
    pub active: bool,
    pub now: DateTime<Utc>,
}

/// What is next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Nothing, until something changes.
    Nothing,
    /// Look again after a while.
    Wait(Duration),
    /// Send a delivery, by its name, if its turn comes before it is too late.
    Send { delivery: String, until: Option<DateTime<Utc>> },
    /// Hold it: it was restored.
    HoldRestored,
    /// Give a delivery up: its time has passed.
    Expire { delivery: String, why: &'static str },
    /// An attempt's sender is gone, and nobody knows what came of it.
    SenderLost { delivery: String, attempt: i32 },
    /// The Webhook has parameters that were not frozen in this Coupon.
    ParametersMissing { delivery: String, parameters: Vec<String> },
}

/// What is next for a Coupon.
#[must_use]
pub fn run(at: &Circumstances<'_>) -> Plan {
    let status = at.coupon.status.clone().unwrap_or_default();
    if status.state.is_settled() || at.active {
        return Plan::Nothing;
    }
    if status.is_empty() && was_restored(at) {
        return Plan::HoldRestored;
    }
    let open = |d: &&Delivery| status.delivery(&d.name).is_none_or(|s| s.state != CouponState::Delivered);
    let Some(delivery) = at.coupon.spec.deliveries.iter().find(open) else { return Plan::Nothing };
    let delivery_status = status.delivery(&delivery.name).cloned().unwrap_or_default();
    on_its_way(at, delivery, &delivery_status).unwrap_or_else(|| next_attempt(at, delivery, &delivery_status))
}

fn was_restored(at: &Circumstances<'_>) -> bool {
    at.coupon
        .spec
        .issued_at
        .zip(at.created)
        .is_some_and(|(issued, created)| created.signed_duration_since(issued) > RESTORED_AFTER)
}

/// What to do of an attempt without an outcome; none if there is no such attempt.
fn on_its_way(at: &Circumstances<'_>, delivery: &Delivery, status: &DeliveryStatus) -> Option<Plan> {
    let attempt = status.last_attempt.as_ref().filter(|a| a.outcome.is_none())?;
    let longest = attempt_timeout(at, delivery).checked_add(&SENDER_GRACE).unwrap_or(SENDER_GRACE);
    let left = longest.checked_sub(&at.now.signed_duration_since(attempt.start_time)).unwrap_or_default();
    Some(match left.to_std() {
        Ok(left) if !left.is_zero() => Plan::Wait(left),
        _ => Plan::SenderLost { delivery: delivery.name.clone(), attempt: attempt.number },
    })
}

/// The longest that an attempt may take. Without its Webhook, the longest that any may.
fn attempt_timeout(at: &Circumstances<'_>, delivery: &Delivery) -> TimeDelta {
    let seconds = at.endpoints.get(&delivery.webhook_ref.name).map_or(300, |e| e.spec.timeout_seconds);
    TimeDelta::seconds(i64::from(seconds))
}

fn next_attempt(at: &Circumstances<'_>, delivery: &Delivery, status: &DeliveryStatus) -> Plan {
    match at.campaign {
        CampaignState::Suspended | CampaignState::Gone => return Plan::Nothing,
        CampaignState::NotNeeded | CampaignState::Running => {}
    }
    let Some(endpoint) = at.endpoints.get(&delivery.webhook_ref.name) else { return Plan::Nothing };
    let deadlines = deadlines(at, delivery, endpoint);
    if let Some(why) = deadlines.passed(at.now) {
        return Plan::Expire { delivery: delivery.name.clone(), why };
    }
    let missing = endpoint.missing_parameters(&delivery.parameters);
    if !missing.is_empty() {
        let parameters = missing.into_iter().map(str::to_owned).collect();
        return Plan::ParametersMissing { delivery: delivery.name.clone(), parameters };
    }
    if endpoint.spec.suspend {
        return Plan::Nothing;
    }
    match status.next_attempt_time.and_then(|next| next.signed_duration_since(at.now).to_std().ok()) {
        Some(left) if !left.is_zero() => Plan::Wait(left),
        _ => Plan::Send { delivery: delivery.name.clone(), until: deadlines.earliest() },
    }
}

fn deadlines(at: &Circumstances<'_>, delivery: &Delivery, endpoint: &Endpoint) -> Deadlines {
    let since = at.coupon.spec.issued_at.or(at.created);
    // A value that cannot be rendered is found when it is sent; it has no ts of its own.
    let timestamp = endpoint.request(&delivery.parameters).ok().and_then(|request| request.timestamp());
    Deadlines {
        webhook: since.and_then(|since| Deadlines::after(since, endpoint.spec.deadline_seconds)),
        expiry: at.coupon.spec.expiry_time,
        freshness: timestamp
            .and_then(|ts| DateTime::from_timestamp(ts, 0))
            .and_then(|ts| Deadlines::after(ts, CLEVERTAP_FRESHNESS_SECONDS)),
    }
}

/// The attempt that follows the last, as it is written before anything is sent.
#[must_use]
pub fn intent(status: &DeliveryStatus, payload_digest: String, sender: &str, now: DateTime<Utc>) -> Attempt {
    Attempt {
        number: status.attempts.saturating_add(1),
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
