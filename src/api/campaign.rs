//! Campaign: who, when and what.
#![allow(clippy::duplicated_attributes)] // each printcolumn repeats type_ and json_path

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use super::audience::{Audience, AudienceFormat, ConfigMapAudience, HttpAudience, Profile};
use super::schedule::Schedule;

/// Who gets a coupon code, when, and what is done with it.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "coupon-operator.dev",
    version = "v1alpha1",
    kind = "Campaign",
    plural = "campaigns",
    shortname = "camp",
    category = "coupon-operator",
    namespaced,
    status = "CampaignStatus",
    doc = "Who gets a coupon code, when, and what is done with it.",
    derive = "PartialEq",
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$')")
        .message("metadata.name must be a DNS label: at most 63 lower-case letters, digits and -, for example new-year"),
    printcolumn(name = "Title", type_ = "string", json_path = ".spec.title"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Issued", type_ = "integer", json_path = ".status.issued"),
    printcolumn(name = "Delivered", type_ = "integer", json_path = ".status.delivered"),
    printcolumn(name = "Failed", type_ = "integer", json_path = ".status.failed", priority = 1),
    printcolumn(name = "Next", type_ = "string", json_path = ".status.nextWindowTime"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[cfg_attr(test, kube(cel))]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.startTime) || !has(self.endTime) || timestamp(self.startTime) < timestamp(self.endTime)")
        .message("endTime must be after startTime")
)]
pub struct CampaignSpec {
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub title: Option<String>,

    /// Values for `${$Campaign.Attributes.X}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "super::any_json_map")]
    pub attributes: BTreeMap<String, Value>,

    /// Issues and sends nothing while true. Nothing is lost: it goes on when it is false again.
    #[serde(default)]
    pub suspend: bool,

    /// The time zone of the schedules, an IANA name such as Europe/Berlin.
    #[serde(default = "default_time_zone")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9_+/-]+$')")
        .message("timeZone is an IANA name, for example Europe/Berlin or Etc/UTC"))]
    pub time_zone: String,

    /// Before this instant no window is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<DateTime<Utc>>,

    /// From this instant on no window is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<DateTime<Utc>>,

    /// Who the customers are.
    pub audience: Audience,

    /// What happens when.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub rules: Vec<CampaignRule>,

    /// How many coupons may be issued in a period, over all rules. When one is spent, the others wait for the next period.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["period".into()]))]
    pub budgets: Vec<Budget>,

    /// What keeps a mistake small: nobody mails a million people by what ten would have shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guardrails: Option<Guardrails>,
}

fn default_time_zone() -> String {
    "Etc/UTC".to_owned()
}

/// A rule: while it is open, each customer gets one code for its occurrence, never two.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.oncePer) || self.oncePer == 'Window' || !has(self.schedules) || !self.schedules.exists(s, has(s.anniversaryOf))")
        .message("oncePer: a rule with anniversaryOf gives one code for each anniversary: leave oncePer out")
)]
pub struct CampaignRule {
    /// The rule's name, part of the names of its Coupons. A renamed rule grants anew.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$')")
        .message("a rule's name is a DNS label: lower-case letters, digits and -, for example on-1-january"))]
    pub name: String,

    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub title: Option<String>,

    /// When the rule is open: when any of these holds. None: always.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(
        validation = Rule::new("self.all(s, has(s.onDates) || has(s.monthDays) || has(s.daysOfWeek) || has(s.timeOfDay) || has(s.after) || has(s.before) || has(s.cron) || has(s.rrule) || has(s.anniversaryOf))")
            .message("an entry of schedules says nothing of when it holds: give it a field such as onDates, or leave schedules out for a rule that is always open"),
        validation = Rule::new("self.all(s, !has(s.except) || s.except.all(e, has(e.onDates) || has(e.monthDays) || has(e.daysOfWeek) || has(e.timeOfDay) || has(e.after) || has(e.before) || has(e.cron) || has(e.rrule)))")
            .message("an entry of except is empty and would take everything away: give it a field such as onDates"),
        validation = Rule::new("self.all(s, !has(s.windowSeconds) || has(s.cron) || has(s.rrule)) && self.all(s, !has(s.except) || s.except.all(e, !has(e.windowSeconds) || has(e.cron) || has(e.rrule)))")
            .message("windowSeconds says how long a window is open after a tick: it goes with cron or rrule"),
        validation = Rule::new("self.all(s, has(s.anniversaryOf)) || !self.exists(s, has(s.anniversaryOf))")
            .message("anniversaryOf goes by each recipient's own date: let all entries of the rule have it, or make two rules")
    )]
    pub schedules: Vec<Schedule>,

    /// Who is eligible: a CEL expression over `profile` (`profile.integrationId`, `profile.attributes`), `campaign` (`campaign.name`, `campaign.attributes`) and `now`, such as `profile.attributes.tier in ["gold"]`. None: everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub eligibility: Option<String>,

    /// How often a customer gets a code: once in each window, or once in each local period however many windows it has.
    #[serde(default)]
    pub once_per: OncePer,

    /// What is done for each customer, in this order: one createCoupon, then one or more sendWebhook.
    #[schemars(length(min = 2, max = 8))]
    #[x_kube(
        validation = Rule::new("has(self[0].createCoupon) && self.filter(e, has(e.createCoupon)).size() == 1")
            .message("effects begin with exactly one createCoupon: the webhooks after it send its code"),
        validation = Rule::new("self.exists(e, has(e.sendWebhook))")
            .message("effects need at least one sendWebhook after createCoupon"),
        validation = Rule::new("self.all(e, has(e.createCoupon) != has(e.sendWebhook))")
            .message("each effect is either createCoupon or sendWebhook: write one of the two"),
        validation = Rule::new("self.filter(e, has(e.sendWebhook)).all(e, self.exists_one(o, has(o.sendWebhook) && (has(o.sendWebhook.name) ? o.sendWebhook.name : o.sendWebhook.webhookRef.name) == (has(e.sendWebhook.name) ? e.sendWebhook.name : e.sendWebhook.webhookRef.name)))")
            .message("two sendWebhook effects have the same name: give each a name of its own (it defaults to the Webhook's)")
    )]
    pub effects: Vec<Effect>,
}

/// The period within which a customer gets one code.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OncePer {
    /// In each window.
    #[default]
    Window,
    Day,
    /// The ISO week, from Monday on.
    Week,
    Month,
    Year,
    Campaign,
}

/// A limit on the number of coupons.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Budget {
    /// The local period that the limit holds for.
    pub period: BudgetPeriod,
    /// How many coupons the campaign issues in a period.
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub max_coupons: i64,
}

/// Bounds within which a campaign goes on by itself.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Guardrails {
    /// Nothing is issued while the audience names more customers than this: it is not the audience that was meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub max_recipients: Option<i64>,
    /// So many customers of an occurrence get their code first. The others wait until those Coupons are settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub canary_recipients: Option<i64>,
    /// Issuing and sending stop for an occurrence when so many percent of its records that came to their end failed or have an unknown outcome; judged by 20 at least, or by all. They go on when a person resolves the failures, or accepts them with the annotation coupon-operator.dev/accept-failed: <rule>/<key>=<number>.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub stop_when_failed_percent: Option<i32>,
}

/// A local period of the campaign's time zone.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum BudgetPeriod {
    Day,
    /// The ISO week, from Monday on.
    Week,
    Month,
    Year,
    Campaign,
}

/// One thing to do: create a coupon, or send a webhook.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Effect {
    /// Draws a code and writes it down as a Coupon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create_coupon: Option<CreateCoupon>,
    /// Sends the coupon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_webhook: Option<SendWebhook>,
}

/// How a coupon is made.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.startTime) || !has(self.validAfterSeconds)")
        .message("write startTime or validAfterSeconds, not both"),
    validation = Rule::new("!has(self.expiryTime) || !has(self.validForSeconds)")
        .message("write expiryTime or validForSeconds, not both")
)]
pub struct CreateCoupon {
    /// Who it is for.
    #[serde(default)]
    pub recipient: Recipient,

    /// What a code looks like: each `#` becomes a random character, the rest stays, for example SUMMER-####-####.
    #[serde(default = "default_pattern")]
    #[schemars(length(min = 3, max = 100))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9._%+@#-]+$') && self.contains('#')")
        .message("pattern needs at least one # for a random character, and otherwise letters, digits and . _ % + @ - only, for example SUMMER-####-####"))]
    pub pattern: String,

    /// The characters that `#` stands for. The default leaves out what people confuse: I, O, 0, 1.
    #[serde(default = "default_characters")]
    #[schemars(length(min = 2, max = 100))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9._%+@-]+$')")
        .message("characters holds letters, digits and . _ % + @ - only, for example ABCDEFGHJKLMNPQRSTUVWXYZ23456789"))]
    pub characters: String,

    /// How often the code may be redeemed; 0 is without limit.
    #[serde(default = "default_redemption_limit")]
    #[schemars(range(min = 0, max = 999_999))]
    pub redemption_limit: i32,

    /// The code is valid from this instant on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<DateTime<Utc>>,

    /// The code is valid from this many seconds after it was issued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 315_360_000))]
    pub valid_after_seconds: Option<i64>,

    /// The code is valid until this instant; it is not sent any more after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry_time: Option<DateTime<Utc>>,

    /// The code is valid for this many seconds after it was issued; it is not sent any more after that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 315_360_000))]
    pub valid_for_seconds: Option<i64>,

    /// Further facts, written into the Coupon. Placeholders may stand in them as in a webhook's parameters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub attributes: BTreeMap<String, String>,
}

/// What a code looks like when a campaign does not say.
#[must_use]
pub fn default_pattern() -> String {
    "####-####-####".to_owned()
}

/// Letters and digits that nobody confuses when reading them out.
#[must_use]
pub fn default_characters() -> String {
    "ABCDEFGHJKLMNPQRSTUVWXYZ23456789".to_owned()
}

fn default_redemption_limit() -> i32 {
    1
}

/// Who a coupon is for.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Recipient {
    #[default]
    CurrentCustomer,
}

/// A webhook to send for each coupon.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SendWebhook {
    /// The name of this delivery in the Coupon's status; the Webhook's name if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$')")
        .message("a delivery's name holds lower-case letters, digits, - and ., for example tell-the-shop"))]
    pub name: Option<String>,

    /// The Webhook to send, in the Campaign's namespace.
    pub webhook_ref: LocalReference,

    /// A value for each of the Webhook's parameters: text and placeholders such as `${$Profile.IntegrationId}` or `${$Coupon.Code}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub parameters: BTreeMap<String, String>,
}

impl SendWebhook {
    /// The delivery's name: its own, else the Webhook's.
    #[must_use]
    pub fn delivery_name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.webhook_ref.name)
    }
}

/// An object in the same namespace.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct LocalReference {
    /// The object's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// What a Campaign does now, and did.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CampaignStatus {
    /// The generation that this status speaks of; -1 before the first.
    #[serde(default = "super::unseen_generation")]
    pub observed_generation: i64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "super::conditions::list_schema")]
    pub conditions: Vec<Condition>,
    /// When the next window opens; absent if none will.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_window_time: Option<DateTime<Utc>>,
    /// Windows that closed up to this instant were either issued to or counted as missed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub windows_checked_until: Option<DateTime<Utc>>,
    /// Windows that closed before everybody in the audience had been seen, since the operator did not run or the Campaign was suspended. They are not made up for: annotation coupon-operator.dev/reopen opens one once more.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub missed_windows: i64,
    /// Of the annotation coupon-operator.dev/reopen, what was carried out: `<rule>/<key>`, separated by spaces. What is removed from the annotation and written again is carried out again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reopened: Option<String>,
    /// Codes issued, over the occurrences listed here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued: Option<i64>,
    /// Codes delivered, over the occurrences listed here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered: Option<i64>,
    /// Codes whose delivery failed, over the occurrences listed here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<i64>,
    /// The occurrences that can still grant, and the last ten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub occurrences: Vec<OccurrenceStatus>,
}

impl Default for CampaignStatus {
    fn default() -> Self {
        Self {
            observed_generation: super::unseen_generation(),
            conditions: Vec::new(),
            next_window_time: None,
            windows_checked_until: None,
            missed_windows: 0,
            reopened: None,
            issued: None,
            delivered: None,
            failed: None,
            occurrences: Vec::new(),
        }
    }
}

/// One window of one rule that was opened, and what came of it.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct OccurrenceStatus {
    /// The rule.
    pub rule: String,
    /// The occurrence's key: the window's local start, for example 20230101; `open` if it has none.
    pub key: String,
    /// The window that was last open for it.
    #[serde(default)]
    pub window: Window,
    /// Until when more can be granted under its key: the end of its window, or of its period. Absent if without end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grants_until: Option<DateTime<Utc>>,
    /// Everybody who was in the audience at some time while it was open has been seen.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub audience_seen: bool,
    /// Its window closed before everybody in the audience had been seen.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub missed: bool,
    /// How records are written down, fixed when the occurrence was opened.
    #[serde(default)]
    pub shape: Shape,
    /// How many records a Coupon of the shape Batch holds at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_size: Option<i32>,
    /// The uid of the Campaign that opened it.
    #[serde(default)]
    pub campaign_uid: String,
    /// Customers whom the last pass saw in the audience.
    #[serde(default)]
    pub matched: i64,
    /// Customers who have a code.
    #[serde(default)]
    pub issued: i64,
    /// Of those, whose deliveries were all accepted.
    #[serde(default)]
    pub delivered: i64,
    /// Of those, with a delivery that was refused for good or expired.
    #[serde(default)]
    pub failed: i64,
    /// Of those, held because nobody can know what came of a request.
    #[serde(default)]
    pub unknown: i64,
    /// Customers who got no code, by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ineligible: BTreeMap<String, i64>,
    /// Of the issued codes, those that an earlier Campaign of the same name issued.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub issued_by_earlier_campaign: i64,
    /// Nothing is issued or sent of it: more failed than guardrails.stopWhenFailedPercent allows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopped: bool,
    /// Coupons that a person accepted as missing.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub accepted_missing: i64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's skip_serializing_if passes a reference
fn is_zero(n: &i64) -> bool {
    *n == 0
}

/// A stretch of time: from `startTime` inclusive to `endTime` exclusive; absent is without bound.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct Window {
    /// The first instant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<DateTime<Utc>>,
    /// The first instant after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<DateTime<Utc>>,
}

/// How records are written down.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Shape {
    /// One Coupon for each recipient.
    #[default]
    Single,
    /// Coupons of many recipients.
    Batch,
}
