//! Webhook: how to call CleverTap's Upload Events API, or any JSON API.
#![allow(clippy::duplicated_attributes)] // each printcolumn repeats type_ and json_path

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How to call CleverTap's Upload Events API, or any JSON API over HTTPS.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "coupon-operator.dev",
    version = "v1alpha1",
    kind = "Webhook",
    plural = "webhooks",
    shortname = "wh",
    category = "coupon-operator",
    namespaced,
    status = "WebhookStatus",
    doc = "How to call CleverTap's Upload Events API, or any JSON API over HTTPS.",
    derive = "PartialEq",
    printcolumn(name = "Title", type_ = "string", json_path = ".spec.title"),
    printcolumn(name = "Format", type_ = "string", json_path = ".spec.responseFormat"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[cfg_attr(test, kube(cel))]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.responseFormat != 'CleverTap' || (self.method == 'POST' && has(self.payload))")
        .message("responseFormat CleverTap needs method POST and a payload: CleverTap's Upload Events API takes POST with {\"d\": […]}"),
    validation = Rule::new("self.method != 'GET' || !has(self.payload)")
        .message("a GET request carries no payload: remove payload, or set method to POST"),
    validation = Rule::new("!has(self.batch) || has(self.payload)")
        .message("batch merges records into one payload: write a payload, or remove batch"),
    validation = Rule::new("!has(self.successWhen) || self.responseFormat == 'HTTPStatus'")
        .message("successWhen goes with responseFormat HTTPStatus: CleverTap's answer says of each record what became of it")
)]
pub struct WebhookSpec {
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub title: Option<String>,

    /// What a Campaign must supply for each request, used as `${$Name}` in url, headers and payload.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub parameters: Vec<Parameter>,

    /// The HTTP method.
    #[serde(default)]
    pub method: Method,

    /// Where requests go: https only. `${$Name}` may stand in the path and the query, and is percent-encoded there.
    #[schemars(length(min = 9, max = 2048))]
    #[x_kube(validation = Rule::new("self.startsWith('https://')")
        .message("url must begin with https:// (for CleverTap: https://<region>.api.clevertap.com/1/upload)"))]
    pub url: String,

    /// Headers of each request, with values written here or taken from a Secret or ConfigMap.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub headers: Vec<Header>,

    /// The body: JSON once its placeholders are filled. Inside a JSON string a value is escaped; a placeholder that is a whole JSON value takes its parameter's type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65536))]
    pub payload: Option<String>,

    /// How long one request may take, from connecting to the end of the answer, in seconds.
    #[serde(default = "default_timeout")]
    #[schemars(range(min = 1, max = 300))]
    pub timeout_seconds: i32,

    /// How an answer is read: `CleverTap` reads CleverTap's answer for each record (its HTTP 200 is not success); `HTTPStatus` takes any 2xx as success, unless `successWhen` says otherwise.
    #[serde(default)]
    pub response_format: ResponseFormat,

    /// With `HTTPStatus`: a CEL expression that says of a 2xx answer whether it means success, for APIs that report errors in their bodies: `response.body.errors.size() == 0`. It may name `response.status`, and `response.body`, which is what the body's JSON holds, or a text if it is no JSON. False: the records are refused for good. If it cannot be evaluated, the outcome is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub success_when: Option<String>,

    /// Merges records into one request. Without it each request carries one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<Batch>,

    /// How many requests of this Webhook may be in flight at once. CleverTap allows 15 for an account.
    #[serde(default = "default_in_flight")]
    #[schemars(range(min = 1, max = 100))]
    pub max_in_flight: i32,

    /// How long a Coupon is tried before it expires, in seconds since it was issued.
    #[serde(default = "default_deadline")]
    #[schemars(range(min = 1, max = 31_536_000))]
    pub deadline_seconds: i64,

    /// What follows when nobody can know whether a request was applied: `Retry` sends again (at least once), `Hold` waits for a person (at most once).
    #[serde(default)]
    pub on_unknown: OnUnknown,

    /// Sends nothing while true. Coupons wait and go on when it is false again.
    #[serde(default)]
    pub suspend: bool,
}

fn default_timeout() -> i32 {
    30
}

fn default_in_flight() -> i32 {
    15
}

fn default_deadline() -> i64 {
    86_400
}

/// How records are merged into one request.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.maxSize == 1 || has(self.recordsAt)")
        .message("a batch needs recordsAt, a JSON pointer to the payload's array of records (for CleverTap: /d)")
)]
pub struct Batch {
    /// The most records of a request. CleverTap takes 1000.
    #[serde(default = "default_batch")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_size: i32,
    /// A JSON pointer (RFC 6901) to the array in the payload whose one element is repeated for each record, such as `/d`. With maxSize over 1, placeholders stand only inside that element.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = Rule::new("self.startsWith('/')").message("recordsAt is a JSON pointer and begins with /, for example /d"))]
    pub records_at: Option<String>,
}

fn default_batch() -> i32 {
    1
}

impl WebhookSpec {
    /// The most records of a request.
    #[must_use]
    pub fn max_batch(&self) -> u32 {
        self.batch.as_ref().and_then(|batch| u32::try_from(batch.max_size).ok()).unwrap_or(1).max(1)
    }
}

/// A value that each request needs.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Parameter {
    /// The name used as `${$Name}`.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z][A-Za-z0-9_]*$')")
        .message("a parameter's name is a letter followed by letters, digits or _, for example CouponCode"))]
    pub name: String,
    /// The type of its value.
    #[serde(rename = "type")]
    pub type_: ParameterType,
}

/// The type of a parameter's value, as in Talon.One's webhooks.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ParameterType {
    String,
    Boolean,
    Number,
    Time,
    StringList,
    NumberList,
}

/// The HTTP method of a request.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    #[default]
    Post,
    Put,
    Patch,
    Get,
    Delete,
}

/// How an answer is read.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ResponseFormat {
    #[default]
    #[serde(rename = "HTTPStatus")]
    HttpStatus,
    CleverTap,
}

/// What follows when a request's outcome cannot be known.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnUnknown {
    #[default]
    Retry,
    Hold,
}

/// A header of each request.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.value) != has(self.valueFrom)")
        .message("a header has either value or valueFrom: write one of the two")
)]
pub struct Header {
    /// The header's name.
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(
        validation = Rule::new("self.matches('^[A-Za-z0-9!#$%&*+.^_|~-]+$')")
            .message("a header's name holds letters, digits and - only, for example X-CleverTap-Passcode"),
        validation = Rule::new("!(self.lowerAscii() in ['host', 'content-length', 'transfer-encoding', 'connection', 'upgrade', 'te', 'trailer', 'expect', 'keep-alive', 'proxy-authorization', 'proxy-connection'])")
            .message("this header belongs to the HTTP client: remove it (the host comes from url)")
    )]
    pub name: String,
    /// The header's value, where `${$Name}` may stand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub value: Option<String>,
    /// Where the value is read from. It is taken as it is, without placeholders, and never shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<ValueSource>,
}

/// Where a header's value is read from, in the Webhook's own namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.secretKeyRef) != has(self.configMapKeyRef)")
        .message("valueFrom has either secretKeyRef or configMapKeyRef: write one of the two")
)]
pub struct ValueSource {
    /// A key of a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<KeyReference>,
    /// A key of a ConfigMap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<KeyReference>,
}

/// A key of an object in the same namespace.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct KeyReference {
    /// The object's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in its data.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// What the operator knows of a Webhook.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct WebhookStatus {
    /// The generation that this status speaks of; -1 before the first.
    #[serde(default = "super::unseen_generation")]
    pub observed_generation: i64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "super::conditions::list_schema")]
    pub conditions: Vec<Condition>,
}

impl Default for WebhookStatus {
    fn default() -> Self {
        Self { observed_generation: super::unseen_generation(), conditions: Vec::new() }
    }
}
