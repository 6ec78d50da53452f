//! What a person decides of rows whose outcome nobody can know, or that failed: by annotation, once for the
//! attempt that it names. Pure.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use kube::ResourceExt;

use super::status;
use crate::api::RESOLVE_ANNOTATION;
use crate::api::coupon::{Coupon, CouponState, CouponStatus, DeliveryStatus};
use crate::records::RowSet;

/// What is to become of the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Send them again.
    Retry,
    /// They were delivered: the person knows.
    Delivered,
    /// Do not send them.
    Abandon,
}

/// A decision on a delivery, as it was after so many attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    pub delivery: String,
    pub decision: Decision,
    pub attempt: i32,
}

/// An annotation that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    #[error(
        "annotation {RESOLVE_ANNOTATION}: \"{0}\" is not <delivery>:Retry@<attempt>, <delivery>:Delivered@<attempt> or <delivery>:Abandon@<attempt>"
    )]
    Malformed(String),
    #[error("annotation {RESOLVE_ANNOTATION}: this Coupon has no delivery {0}")]
    NoDelivery(String),
    #[error(
        "annotation {RESOLVE_ANNOTATION}: delivery {delivery} has had {attempts} attempts by now, and @{named} speaks of an earlier one: look at its status again"
    )]
    OtherAttempt { delivery: String, attempts: i32, named: i32 },
}

impl FromStr for Resolution {
    type Err = ResolveError;

    fn from_str(text: &str) -> Result<Self, ResolveError> {
        let malformed = || ResolveError::Malformed(text.to_owned());
        let (rest, attempt) = text.rsplit_once('@').ok_or_else(malformed)?;
        let (delivery, decision) = rest.rsplit_once(':').ok_or_else(malformed)?;
        let decision = match decision {
            "Retry" => Decision::Retry,
            "Delivered" => Decision::Delivered,
            "Abandon" => Decision::Abandon,
            _ => return Err(malformed()),
        };
        let attempt = attempt.parse().map_err(|_| malformed())?;
        Ok(Self { delivery: delivery.to_owned(), decision, attempt })
    }
}

impl std::fmt::Display for Resolution {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{:?}@{}", self.delivery, self.decision, self.attempt)
    }
}

/// The annotation, if it was not acted on yet.
#[must_use]
pub fn pending(coupon: &Coupon) -> Option<&str> {
    let text = coupon.annotations().get(RESOLVE_ANNOTATION)?.as_str();
    let acted_on = coupon.status.as_ref().and_then(|status| status.resolved.as_deref());
    (acted_on != Some(text)).then_some(text)
}

/// The status that follows from the annotation. None if there is nothing to act on, or a request is on its
/// way, whose outcome comes first.
#[must_use]
pub fn run(coupon: &Coupon, now: DateTime<Utc>) -> Option<CouponStatus> {
    let text = pending(coupon)?;
    let before = coupon.status.clone().unwrap_or_default();
    if before.state == CouponState::Sending {
        return None;
    }
    let resolved = parse(text, &before, coupon);
    let mut changed = status::begun(coupon);
    changed.resolved = Some(text.to_owned());
    for resolution in resolved.iter().flatten() {
        if let Some(delivery) = status::find(&mut changed, &resolution.delivery) {
            decide(delivery, resolution.decision, coupon);
        }
    }
    let resolved = resolved.as_ref().map(|_| text).map_err(ToString::to_string);
    Some(status::after_resolution(changed, coupon, &resolved, now))
}

/// What follows a semicolon is a person's note, by which the same decision can be made once more.
fn parse(text: &str, status: &CouponStatus, coupon: &Coupon) -> Result<Vec<Resolution>, ResolveError> {
    let decisions = text.split(';').next().unwrap_or_default();
    let mut resolutions = Vec::new();
    for part in decisions.split([',', ' ']).filter(|part| !part.is_empty()) {
        let resolution: Resolution = part.parse()?;
        if !coupon.spec.deliveries.iter().any(|d| d.name == resolution.delivery) {
            return Err(ResolveError::NoDelivery(resolution.delivery));
        }
        let attempts = status.delivery(&resolution.delivery).map_or(0, |d| d.attempts);
        if attempts != resolution.attempt {
            let Resolution { delivery, attempt: named, .. } = resolution;
            return Err(ResolveError::OtherAttempt { delivery, attempts, named });
        }
        resolutions.push(resolution);
    }
    Ok(resolutions)
}

/// Rows of a delivery that a decision is about: those that are held, or would be sent again though nobody knows what
/// came of them; and those that failed or expired, but for giving them up.
#[must_use]
pub fn undecided(delivery: &DeliveryStatus, decision: Decision) -> RowSet {
    let unknown = delivery.held.or(&delivery.retrying.and(&delivery.unknown));
    match decision {
        Decision::Abandon => unknown,
        Decision::Retry | Decision::Delivered => unknown.or(&delivery.failed).or(&delivery.expired),
    }
}

fn decide(delivery: &mut DeliveryStatus, decision: Decision, coupon: &Coupon) {
    let rows = undecided(delivery, decision);
    delivery.held = RowSet::default();
    if decision == Decision::Abandon {
        return status::abandon(delivery, coupon, &rows);
    }
    (delivery.failed, delivery.expired) = (RowSet::default(), RowSet::default());
    delivery.failures.clear();
    if decision == Decision::Retry {
        delivery.retrying = delivery.retrying.or(&rows);
        delivery.approved = delivery.approved.or(&rows);
        (delivery.next_attempt_time, delivery.fruitless) = (None, 0);
    } else {
        delivery.accepted = delivery.accepted.or(&rows);
        delivery.retrying = delivery.retrying.minus(&rows);
        // The person knows what nobody could.
        delivery.unknown = delivery.unknown.minus(&rows);
    }
}

#[cfg(test)]
mod tests;
