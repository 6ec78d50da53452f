//! How far the rows of a Coupon have come along its chain of deliveries. Pure.

use crate::api::coupon::{CouponSpec, CouponState, CouponStatus, DeliveryStatus};
use crate::records::{Records, RowSet};

/// A delivery of the chain, with the rows that it is for.
pub struct Link {
    pub name: String,
    pub webhook: String,
    pub status: DeliveryStatus,
    /// Rows that the deliveries before it accepted: those it is for, so far.
    pub base: RowSet,
    /// Of those, rows that have not come to their end.
    pub open: RowSet,
    /// Rows of an earlier delivery have not come to their end: its base may grow.
    pub may_grow: bool,
}

/// The chain, in order.
#[must_use]
pub fn chain(spec: &CouponSpec, status: &CouponStatus) -> Vec<Link> {
    let mut base = Records::of(spec).all();
    let mut may_grow = false;
    let mut links = Vec::with_capacity(spec.deliveries.len());
    for delivery in &spec.deliveries {
        let status = status.delivery(&delivery.name).cloned().unwrap_or_default();
        let open = base.minus(&ended(&status));
        let accepted = status.accepted.and(&base);
        let grows = may_grow || !open.is_empty();
        let (name, webhook) = (delivery.name.clone(), delivery.webhook_ref.name.clone());
        links.push(Link { name, webhook, status, base, open, may_grow });
        (base, may_grow) = (accepted, grows);
    }
    links
}

/// Rows with which nothing more happens by itself.
fn ended(status: &DeliveryStatus) -> RowSet {
    status.accepted.or(&status.failed).or(&status.expired).or(&status.held)
}

impl Link {
    /// Rows that were sent and are sent again.
    #[must_use]
    pub fn again(&self) -> RowSet {
        self.status.retrying.and(&self.open)
    }

    /// Rows that were never sent.
    #[must_use]
    pub fn fresh(&self) -> RowSet {
        self.open.minus(&self.status.retrying)
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> CouponState {
        let status = &self.status;
        if status.last_attempt.as_ref().is_some_and(|attempt| attempt.outcome.is_none()) {
            return CouponState::Sending;
        }
        if !self.open.is_empty() || self.may_grow {
            return CouponState::Pending;
        }
        match (&status.held, &status.accepted, &status.failed) {
            (held, ..) if !held.is_empty() => CouponState::Held,
            (_, accepted, _) if *accepted == self.base => CouponState::Delivered,
            (_, accepted, _) if !accepted.is_empty() => CouponState::PartiallyFailed,
            (.., failed) if !failed.is_empty() => CouponState::Failed,
            _ => CouponState::Expired,
        }
    }
}

/// Where each row of a Coupon stands.
pub struct Standing {
    all: RowSet,
    delivered: RowSet,
    ended: RowSet,
    held: RowSet,
}

impl Standing {
    #[must_use]
    pub fn of(spec: &CouponSpec, status: &CouponStatus) -> Self {
        let chain = chain(spec, status);
        let none = RowSet::default;
        let delivered = chain.last().map_or_else(none, |last| last.status.accepted.and(&last.base));
        let ended = chain.iter().fold(none(), |all, l| all.or(&l.status.failed).or(&l.status.expired));
        let held = chain.iter().fold(none(), |all, l| all.or(&l.status.held));
        Self { all: Records::of(spec).all(), delivered, ended, held }
    }

    /// Rows that the whole chain accepted.
    #[must_use]
    pub fn delivered(&self) -> u32 {
        self.delivered.len()
    }

    /// `998/1000`.
    #[must_use]
    pub fn summary(&self) -> String {
        format!("{}/{}", self.delivered.len(), self.all.len())
    }

    /// Where a row stands, as the ledger counts it.
    #[must_use]
    pub fn row(&self, row: u32) -> CouponState {
        if self.delivered.contains(row) {
            CouponState::Delivered
        } else if self.ended.contains(row) {
            CouponState::Failed
        } else if self.held.contains(row) {
            CouponState::Held
        } else {
            CouponState::Pending
        }
    }
}
