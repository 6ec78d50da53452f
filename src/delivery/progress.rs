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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rows(text: &str) -> RowSet {
        text.parse().unwrap()
    }

    /// A Coupon of six rows, told to a shop and then to CleverTap.
    fn spec() -> CouponSpec {
        let rows: Vec<String> = (1..=6).map(|i| format!("c{i},X{i}")).collect();
        serde_json::from_value(json!({ "columns": ["recipient", "code"], "rows": rows, "deliveries": [
            { "name": "shop", "webhookRef": { "name": "register" } },
            { "name": "tell", "webhookRef": { "name": "send" } } ] }))
        .unwrap()
    }

    fn status(shop: serde_json::Value, tell: serde_json::Value) -> CouponStatus {
        let named = |mut delivery: serde_json::Value, name: &str| {
            delivery["name"] = name.into();
            delivery
        };
        serde_json::from_value(json!({ "deliveries": [named(shop, "shop"), named(tell, "tell")] })).unwrap()
    }

    #[test]
    fn a_later_delivery_is_for_the_rows_that_the_one_before_accepted() {
        let links = chain(&spec(), &status(json!({ "accepted": "1-3", "failed": "4", "retrying": "5" }), json!({})));
        let [shop, tell] = links.as_slice() else { panic!("two deliveries") };
        assert_eq!((shop.name.as_str(), shop.webhook.as_str(), tell.webhook.as_str()), ("shop", "register", "send"));
        assert_eq!((&shop.base, &shop.open, shop.may_grow), (&rows("1-6"), &rows("5-6"), false));
        assert_eq!((shop.again(), shop.fresh()), (rows("5"), rows("6")));
        assert_eq!((&tell.base, &tell.open, tell.may_grow), (&rows("1-3"), &rows("1-3"), true));
        let links = chain(&spec(), &status(json!({ "accepted": "1-6" }), json!({ "accepted": "1", "expired": "2" })));
        assert_eq!((&links[1].open, links[1].may_grow), (&rows("3-6"), false), "all have come so far");
        let three = json!({ "deliveries": [{ "name": "a", "webhookRef": { "name": "w" } },
            { "name": "b", "webhookRef": { "name": "w" } }, { "name": "c", "webhookRef": { "name": "w" } }],
            "recipient": "r", "code": "C" });
        let links = chain(&serde_json::from_value(three).unwrap(), &CouponStatus::default());
        assert_eq!(links.iter().map(|l| l.may_grow).collect::<Vec<_>>(), [false, true, true]);
    }

    #[test]
    fn where_a_delivery_stands_is_what_its_rows_came_to() {
        for (shop, expected) in [
            (json!({}), CouponState::Pending),
            (json!({ "accepted": "1-5", "retrying": "6" }), CouponState::Pending),
            (json!({ "accepted": "1-6" }), CouponState::Delivered),
            (json!({ "accepted": "1-5", "held": "6" }), CouponState::Held),
            (json!({ "failed": "1-5", "held": "6" }), CouponState::Held),
            (json!({ "accepted": "1", "failed": "2-6" }), CouponState::PartiallyFailed),
            (json!({ "accepted": "1", "expired": "2-6" }), CouponState::PartiallyFailed),
            (json!({ "failed": "1", "expired": "2-6" }), CouponState::Failed),
            (json!({ "expired": "1-6" }), CouponState::Expired),
        ] {
            let links = chain(&spec(), &status(shop.clone(), json!({})));
            assert_eq!(links[0].state(), expected, "{shop}");
        }
        let attempt = json!({ "number": 1, "startTime": "2023-01-01T00:00:00Z", "payloadDigest": "d", "sender": "s", "rows": "1-6" });
        let links = chain(&spec(), &status(json!({ "lastAttempt": attempt }), json!({})));
        assert_eq!(links[0].state(), CouponState::Sending);
        let links =
            chain(&spec(), &status(json!({ "accepted": "1-5", "retrying": "6" }), json!({ "accepted": "1-5" })));
        assert_eq!(links[1].state(), CouponState::Pending, "more may come");
    }

    #[test]
    fn a_row_is_delivered_when_the_whole_chain_accepted_it() {
        use CouponState::{Delivered, Failed, Held, Pending};
        let shop = json!({ "accepted": "1-4", "failed": "5" });
        let standing =
            Standing::of(&spec(), &status(shop, json!({ "accepted": "1-2,6", "held": "3", "expired": "4" })));
        assert_eq!((standing.delivered(), standing.summary().as_str()), (2, "2/6"), "6 never came to the second");
        let stands: Vec<CouponState> = (1..=6).map(|row| standing.row(row)).collect();
        assert_eq!(stands, [Delivered, Delivered, Held, Failed, Failed, Pending]);
        let nothing: CouponSpec =
            serde_json::from_value(json!({ "recipient": "r", "code": "C", "deliveries": [] })).unwrap();
        assert_eq!(Standing::of(&nothing, &CouponStatus::default()).delivered(), 0);
    }
}
