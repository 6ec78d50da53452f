//! Codes as other systems import them.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use crate::api::coupon::{Coupon, CouponState};
use crate::delivery::progress::Standing;
use crate::records::{Record, Records, RowError};

/// The columns of Talon.One's coupon import (Talon.One, "Importing coupons": value, expirydate, startdate,
/// recipientintegrationid, limitval, discountlimit, attributes).
pub const TALON_ONE: [&str; 7] =
    ["value", "expirydate", "startdate", "recipientintegrationid", "limitval", "discountlimit", "attributes"];

/// A code, with what a shop needs to accept it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IssuedCode<'a> {
    pub campaign: &'a str,
    pub rule: &'a str,
    pub occurrence: &'a str,
    pub recipient: String,
    pub code: String,
    /// Delivered if all webhooks accepted it.
    pub state: CouponState,
    pub issued_at: Option<DateTime<Utc>>,
    pub start_time: Option<DateTime<Utc>>,
    pub expiry_time: Option<DateTime<Utc>>,
    /// How often it may be redeemed; 0 is without limit.
    pub redemption_limit: Option<i32>,
    pub attributes: BTreeMap<String, String>,
}

/// The codes of a Coupon, or for each record that cannot be read why.
pub fn codes(coupon: &Coupon) -> impl Iterator<Item = Result<IssuedCode<'_>, RowError>> {
    let standing = coupon.status.as_ref().map(|status| Standing::of(&coupon.spec, status));
    let records = Records::of(&coupon.spec);
    records.all().iter().collect::<Vec<_>>().into_iter().map(move |row| {
        let state = standing.as_ref().map(|standing| standing.row(row)).unwrap_or_default();
        records.get(row).map(|record| code(coupon, &record, state))
    })
}

fn code<'a>(coupon: &'a Coupon, record: &Record<'_>, state: CouponState) -> IssuedCode<'a> {
    let spec = &coupon.spec;
    IssuedCode {
        campaign: spec.campaign.as_deref().unwrap_or_default(),
        rule: spec.rule.as_deref().unwrap_or_default(),
        occurrence: spec.occurrence.as_deref().unwrap_or_default(),
        recipient: record.recipient().to_owned(),
        code: record.code().to_owned(),
        state,
        issued_at: spec.issued_at,
        start_time: spec.start_time,
        expiry_time: spec.expiry_time,
        redemption_limit: spec.redemption_limit,
        attributes: spec.attributes.clone().into_iter().chain(record.attributes()).collect(),
    }
}

impl IssuedCode<'_> {
    /// The cells of Talon.One's import, in the order of its columns. What is not limited is left empty.
    #[must_use]
    pub fn talon_one(&self) -> [String; 7] {
        let instant =
            |at: Option<DateTime<Utc>>| at.map(|at| at.to_rfc3339_opts(SecondsFormat::Secs, true)).unwrap_or_default();
        let attributes =
            if self.attributes.is_empty() { String::new() } else { serde_json::json!(self.attributes).to_string() };
        [
            self.code.clone(),
            instant(self.expiry_time),
            instant(self.start_time),
            self.recipient.clone(),
            self.redemption_limit.map(|limit| limit.to_string()).unwrap_or_default(),
            String::new(),
            attributes,
        ]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn coupon(spec: &Value) -> Coupon {
        let mut whole = json!({ "campaign": "c", "rule": "r", "occurrence": "20230101",
            "issuedAt": "2023-01-01T00:00:00Z", "expiryTime": "2023-02-01T00:00:00Z", "redemptionLimit": 1,
            "deliveries": [{ "name": "tell", "webhookRef": { "name": "w" } }] });
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        Coupon::new("x", serde_json::from_value(whole).unwrap())
    }

    #[test]
    fn each_record_is_a_code_whatever_the_shape_of_its_coupon() {
        let single = coupon(&json!({ "recipient": " ada ", "code": "A-1", "attributes": { "tier": "gold" } }));
        let mut batch = coupon(&json!({ "columns": ["recipient", "code", "tell/P", "attribute:tier"],
            "rows": ["ada,A-1,x,gold", "\"b,ob\",B-2,y,\"\"", "broken"] }));
        batch.status = serde_json::from_value(json!({ "deliveries": [{ "name": "tell", "accepted": "1" }] })).ok();
        let of_single: Vec<_> = codes(&single).map(Result::unwrap).collect();
        let of_batch: Vec<_> = codes(&batch).collect();
        assert_eq!(of_single.len(), 1);
        let cells = ["A-1", "2023-02-01T00:00:00Z", "", "ada", "1", "", "{\"tier\":\"gold\"}"];
        assert_eq!(of_single[0].talon_one(), cells);
        let first = of_batch[0].as_ref().unwrap();
        assert_eq!((first.talon_one(), first.state), (cells.map(str::to_owned), CouponState::Delivered));
        let second = of_batch[1].as_ref().unwrap();
        assert_eq!((second.recipient.as_str(), second.state), ("b,ob", CouponState::Pending));
        assert_eq!(of_batch[2], Err(RowError::Cells { index: 2, found: 1, wanted: 4 }));
    }

    #[test]
    fn the_columns_are_those_of_talon_one_and_ndjson_says_all() {
        assert_eq!(
            TALON_ONE.join(","),
            "value,expirydate,startdate,recipientintegrationid,limitval,discountlimit,attributes"
        );
        let one = coupon(&json!({ "recipient": "ada", "code": "A-1", "redemptionLimit": 0 }));
        let code = codes(&one).next().unwrap().unwrap();
        assert_eq!(code.talon_one()[4], "0", "0 is without limit, there and here");
        assert_eq!(
            json!(code),
            json!({ "campaign": "c", "rule": "r", "occurrence": "20230101", "recipient": "ada", "code": "A-1",
                "state": "Pending", "issuedAt": "2023-01-01T00:00:00Z", "startTime": null,
                "expiryTime": "2023-02-01T00:00:00Z", "redemptionLimit": 0, "attributes": {} })
        );
    }
}
