//! Who did not get their code, and why.

use serde::Serialize;

use kube::ResourceExt;

use crate::api::coupon::{Coupon, DeliveryStatus};
use crate::records::{Records, RowSet};

/// How a record did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum End {
    /// It was refused, or could not be sent.
    Failed,
    /// It was too late.
    Expired,
    /// Nobody can know whether it arrived: a person decides.
    Held,
}

/// A record that did not arrive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    pub campaign: String,
    pub rule: String,
    pub occurrence: String,
    pub coupon: String,
    pub delivery: String,
    /// Its number in the Coupon.
    pub row: u32,
    pub recipient: String,
    pub end: End,
    pub reason: String,
    /// Of the first twenty of a delivery their own; of the others that of its last request.
    pub message: String,
}

/// Each record of a Coupon that did not arrive.
pub fn failures(coupon: &Coupon) -> impl Iterator<Item = Failure> {
    let deliveries = coupon.status.iter().flat_map(|status| &status.deliveries);
    deliveries.flat_map(move |delivery| {
        let ends = [(End::Failed, &delivery.failed), (End::Expired, &delivery.expired), (End::Held, &delivery.held)];
        ends.into_iter().flat_map(move |(end, rows)| of_rows(coupon, delivery, end, rows))
    })
}

fn of_rows<'a>(
    coupon: &'a Coupon,
    delivery: &'a DeliveryStatus,
    end: End,
    rows: &'a RowSet,
) -> impl Iterator<Item = Failure> {
    let of = |text: &Option<String>| text.clone().unwrap_or_default();
    rows.iter().map(move |row| {
        let (reason, message) = why(delivery, row);
        let record = Records::of(&coupon.spec).get(row);
        Failure {
            campaign: of(&coupon.spec.campaign),
            rule: of(&coupon.spec.rule),
            occurrence: of(&coupon.spec.occurrence),
            coupon: coupon.name_any(),
            delivery: delivery.name.clone(),
            row,
            recipient: record.map(|record| record.recipient().to_owned()).unwrap_or_default(),
            end,
            reason,
            message,
        }
    })
}

fn why(delivery: &DeliveryStatus, row: u32) -> (String, String) {
    let own = delivery.failures.iter().find(|failure| u32::try_from(failure.row) == Ok(row));
    if let Some(own) = own {
        return (own.reason.clone(), own.message.clone().unwrap_or_default());
    }
    let last = delivery.last_attempt.as_ref().map(|last| (last.reason.clone(), last.message.clone()));
    let (reason, message) = last.unwrap_or_default();
    (reason.unwrap_or_default(), message.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_record_that_did_not_arrive_is_named_with_its_reason() {
        let spec = json!({ "campaign": "c", "rule": "r", "occurrence": "k", "columns": ["recipient", "code"],
            "rows": ["ada,A", "bob,B", "cem,C", "dan,D", "eve,E"],
            "deliveries": [{ "name": "tell", "webhookRef": { "name": "w" } }] });
        let mut coupon = Coupon::new("x", serde_json::from_value(spec).unwrap());
        assert_eq!(failures(&coupon).count(), 0);
        let attempt = json!({ "number": 1, "startTime": "2023-01-01T00:00:00Z", "payloadDigest": "d", "sender": "s",
            "rows": "1-5", "outcome": "PartlyAccepted", "reason": "Partly", "message": "some" });
        let own = json!([{ "row": 2, "recipient": "bob", "reason": "512", "message": "too long" }]);
        coupon.status = serde_json::from_value(json!({ "deliveries": [{ "name": "tell", "accepted": "1",
            "failed": "2-3", "expired": "4", "held": "5", "failures": own, "lastAttempt": attempt }] }))
        .ok();
        let found: Vec<Failure> = failures(&coupon).collect();
        let shown: Vec<_> = found.iter().map(|f| (f.recipient.as_str(), f.row, f.end, f.reason.as_str())).collect();
        assert_eq!(
            shown,
            [
                ("bob", 2, End::Failed, "512"),
                ("cem", 3, End::Failed, "Partly"),
                ("dan", 4, End::Expired, "Partly"),
                ("eve", 5, End::Held, "Partly")
            ]
        );
        assert_eq!((found[0].message.as_str(), found[1].message.as_str()), ("too long", "some"));
        assert_eq!((found[0].coupon.as_str(), found[0].delivery.as_str()), ("x", "tell"));
    }
}
