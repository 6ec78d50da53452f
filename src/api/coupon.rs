//! Coupon: a code for a recipient, and what came of its deliveries.
#![allow(clippy::duplicated_attributes)] // each printcolumn repeats type_ and json_path

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::campaign::{LocalReference, Window};
use crate::records::{RowSet, Rows};

/// A code that a recipient got, or many, with the deliveries that tell of it. Its spec never changes.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "coupon-operator.dev",
    version = "v1alpha1",
    kind = "Coupon",
    plural = "coupons",
    shortname = "cpn",
    category = "coupon-operator",
    namespaced,
    status = "CouponStatus",
    doc = "A code that a recipient got, or many, with the deliveries that tell of it. Its spec never changes.",
    derive = "PartialEq",
    selectable = ".spec.campaign",
    selectable = ".spec.rule",
    selectable = ".spec.occurrence",
    selectable = ".status.state",
    printcolumn(name = "Campaign", type_ = "string", json_path = ".spec.campaign"),
    printcolumn(name = "Recipient", type_ = "string", json_path = ".spec.recipient"),
    printcolumn(name = "Code", type_ = "string", json_path = ".spec.code"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "Delivered", type_ = "string", json_path = ".status.summary"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        priority = 1
    ),
    printcolumn(name = "Occurrence", type_ = "string", json_path = ".spec.occurrence", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[cfg_attr(test, kube(cel))]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self == oldSelf")
        .message("a Coupon's spec never changes, since its code may have been sent: create another Coupon instead"),
    validation = Rule::new("has(self.recipient) != has(self.rows)")
        .message("a Coupon holds either one record (recipient and code) or several (columns and rows)"),
    validation = Rule::new("has(self.recipient) == has(self.code) && has(self.rows) == has(self.columns) && (has(self.rows) || !has(self.chunk))")
        .message("recipient and code belong together, and so do columns and rows"),
    validation = Rule::new("!has(self.columns) || ('recipient' in self.columns && 'code' in self.columns && self.deliveries.all(d, !has(d.parameters)))")
        .message("columns name recipient, code and <delivery>/<parameter>: the values of parameters stand in rows, not in deliveries"),
    validation = Rule::new("has(self.campaign) == has(self.issuedAt) && has(self.campaign) == has(self.rule) && has(self.campaign) == has(self.occurrence) && (has(self.campaign) || !has(self.campaignUid))")
        .message("campaign, campaignUid, rule, occurrence and issuedAt belong together and are the operator's: leave them all out of a Coupon written by hand")
)]
pub struct CouponSpec {
    /// The Campaign that issued it; absent if a person wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub campaign: Option<String>,
    /// The uid of that Campaign: a later Campaign of the same name counts its Coupons, and says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub campaign_uid: Option<String>,
    /// The rule that issued it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub rule: Option<String>,
    /// The key of the occurrence that it records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub occurrence: Option<String>,
    /// The occurrence's window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// When the code was drawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued_at: Option<DateTime<Utc>>,
    /// Who it is for, if it holds one record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub recipient: Option<String>,
    /// The code, if it holds one record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub code: Option<String>,
    /// Its number among the Coupons of its occurrence, from 1, if it holds several records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub chunk: Option<i32>,
    /// What the cells of each row are: `recipient`, `code`, `<delivery>/<parameter>`, `attribute:<name>`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 2, max = 512), inner(length(min = 1, max = 512)))]
    pub columns: Vec<String>,
    /// Records, numbered from 1, each a line of comma-separated values as in RFC 4180: text for a String or a Time, else JSON.
    #[serde(default, skip_serializing_if = "Rows::is_empty")]
    #[schemars(with = "Vec<String>", length(min = 1, max = 1000), inner(length(min = 1, max = 65536)))]
    pub rows: Rows,
    /// How often the code may be redeemed; 0 is without limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 999_999))]
    pub redemption_limit: Option<i32>,
    /// The code is valid from this instant on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<DateTime<Utc>>,
    /// The code is valid until this instant, and is not sent after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry_time: Option<DateTime<Utc>>,
    /// Further facts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub attributes: BTreeMap<String, String>,
    /// The webhooks that tell of it, one after the other.
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub deliveries: Vec<Delivery>,
}

impl CouponSpec {
    /// The same with none but the first of its rows, and how many there are.
    #[must_use]
    pub fn outline(&self) -> Self {
        Self { rows: self.rows.outline(), ..self.clone() }
    }
}

/// A webhook that tells of the code, with the values frozen when it was issued.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// Its name, unique in the Coupon.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The Webhook to send.
    pub webhook_ref: LocalReference,
    /// The value of each parameter: text for a String or a Time, else JSON.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub parameters: BTreeMap<String, String>,
}

/// What came of a Coupon.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CouponStatus {
    /// The generation that this status speaks of; -1 before the first.
    #[serde(default = "super::unseen_generation")]
    pub observed_generation: i64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "super::conditions::list_schema")]
    pub conditions: Vec<Condition>,
    /// Where it stands.
    #[serde(default)]
    pub state: CouponState,
    /// Records accepted of all, for example 1/1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// The annotation coupon-operator.dev/resolve that was acted on last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<String>,
    /// What came of each delivery.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub deliveries: Vec<DeliveryStatus>,
}

impl Default for CouponStatus {
    fn default() -> Self {
        Self {
            observed_generation: super::unseen_generation(),
            conditions: Vec::new(),
            state: CouponState::default(),
            summary: None,
            resolved: None,
            deliveries: Vec::new(),
        }
    }
}

impl CouponStatus {
    /// True if no controller has written it yet. The API server fills in only the defaults.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.deliveries.is_empty() && self.conditions.is_empty()
    }

    /// The status of a delivery by its name.
    #[must_use]
    pub fn delivery(&self, name: &str) -> Option<&DeliveryStatus> {
        self.deliveries.iter().find(|d| d.name == name)
    }
}

/// Where a Coupon stands.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum CouponState {
    /// Something is still to be sent.
    #[default]
    Pending,
    /// A request is on its way, or was when its sender stopped.
    Sending,
    /// All was accepted.
    Delivered,
    /// Some of its deliveries were accepted, another was refused for good.
    PartiallyFailed,
    /// Refused for good.
    Failed,
    /// Waits for a person.
    Held,
    /// Its time passed before it was accepted.
    Expired,
}

impl CouponState {
    /// True if nothing more happens by itself. A settled Coupon is neither listed nor watched.
    #[must_use]
    pub fn is_settled(self) -> bool {
        !matches!(self, Self::Pending | Self::Sending)
    }

    /// Selects the Coupons that came to another end than they should: a person may decide on them.
    pub const TROUBLED_SELECTOR: &'static str = "status.state!=Delivered,status.state!=Pending,status.state!=Sending";

    /// Selects the Coupons that are not settled.
    pub const UNSETTLED_SELECTOR: &'static str = "status.state!=Delivered,status.state!=PartiallyFailed,status.state!=Failed,status.state!=Held,status.state!=Expired";
}

/// What came of one delivery. Each row that it is for is in one of these sets, or has not been sent yet, or is
/// on its way.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryStatus {
    /// The delivery's name.
    pub name: String,
    /// Where it stands.
    #[serde(default)]
    pub state: CouponState,
    /// How many requests were begun.
    #[serde(default)]
    pub attempts: i32,
    /// Rows that were accepted, such as `1-17,19`. A Coupon with one record has row 1.
    #[serde(default, skip_serializing_if = "RowSet::is_empty")]
    pub accepted: RowSet,
    /// Rows that were refused for good, or could not be sent.
    #[serde(default, skip_serializing_if = "RowSet::is_empty")]
    pub failed: RowSet,
    /// Rows whose time passed before they were accepted.
    #[serde(default, skip_serializing_if = "RowSet::is_empty")]
    pub expired: RowSet,
    /// Rows that were surely not applied and are sent again.
    #[serde(default, skip_serializing_if = "RowSet::is_empty")]
    pub retrying: RowSet,
    /// Rows that wait for a person, since nobody can know whether they were applied.
    #[serde(default, skip_serializing_if = "RowSet::is_empty")]
    pub held: RowSet,
    /// Rows with a request of which nobody can know whether it was applied, whatever came of them later: those that were accepted by another request may have been delivered twice.
    #[serde(default, skip_serializing_if = "RowSet::is_empty")]
    pub unknown: RowSet,
    /// Rows that a person said to send again, whatever onUnknown says.
    #[serde(default, skip_serializing_if = "RowSet::is_empty")]
    pub approved: RowSet,
    /// The first failures, in full.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub failures: Vec<RecordFailure>,
    /// Requests in a row by which no row came to its end: the next waits longer.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub fruitless: i32,
    /// The most rows of a request, after the endpoint refused larger ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_rows: Option<i32>,
    /// When it is tried again, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_time: Option<DateTime<Utc>>,
    /// The last request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_attempt: Option<Attempt>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's skip_serializing_if passes a reference
fn is_zero(n: &i32) -> bool {
    *n == 0
}

/// A record that was not delivered.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RecordFailure {
    /// Its row.
    pub row: i32,
    /// Who it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    /// Why, in one word.
    pub reason: String,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// One request: written before it is sent, and again when its answer is known.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// Its number, from 1.
    pub number: i32,
    /// The rows that it carries.
    #[serde(default)]
    pub rows: RowSet,
    /// The rows that became unknown by it.
    #[serde(default, skip_serializing_if = "RowSet::is_empty")]
    pub unknown: RowSet,
    /// When it was begun.
    pub start_time: DateTime<Utc>,
    /// When its outcome was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<DateTime<Utc>>,
    /// SHA-256 of the payload.
    pub payload_digest: String,
    /// The process that sends it: random for each start of the operator.
    pub sender: String,
    /// What came of it; absent while it is on its way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<AttemptOutcome>,
    /// The status of the answer, if one came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_status: Option<i32>,
    /// Why, in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What came of a request.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// The endpoint took all records.
    Accepted,
    /// The endpoint took some records, and refused others.
    PartlyAccepted,
    /// The endpoint refused all records for good.
    Rejected,
    /// The records were surely not applied, and may be sent again.
    NotApplied,
    /// Nobody can know whether the records were applied.
    Unknown,
}
