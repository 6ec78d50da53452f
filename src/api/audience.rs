//! A Campaign's audience: who its customers are, or where that is written.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::webhook::Header;

/// Who the customers are: from one source.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.profiles), has(self.configMapRef), has(self.http)].filter(written, written).size() == 1")
        .message("an audience has one source: write profiles, configMapRef or http")
)]
pub struct Audience {
    /// The customers, written here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1000))]
    pub profiles: Option<Vec<Profile>>,
    /// A ConfigMap that holds them. It is read when a window opens, and again while one is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<ConfigMapAudience>,
    /// A web address that holds them. It is read when a window opens, and again while one is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpAudience>,
    /// A ConfigMap of customers who never get anything, written as an audience is: of each the `integrationId` counts. While it cannot be read whole, nothing is issued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclude_config_map_ref: Option<ConfigMapAudience>,
}

impl Audience {
    /// The customers that are written in the Campaign itself.
    #[must_use]
    pub fn written(&self) -> &[Profile] {
        self.profiles.as_deref().unwrap_or_default()
    }
}

/// A key of a ConfigMap in the Campaign's namespace that holds an audience.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapAudience {
    /// The ConfigMap's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in its data, or in its binaryData.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
    /// How it is written: `NDJSON`, a JSON object a line; `CSV` (RFC 4180) with a header row and a column `integrationId`; or `JSON`, one array.
    #[serde(default)]
    pub format: AudienceFormat,
}

/// A web address that answers GET with an audience, gzipped or not. An answer with a header `Link: <…>; rel="next"` (RFC 8288) is followed by that page.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HttpAudience {
    /// Where it is: https only. Redirects are not followed.
    #[schemars(length(min = 9, max = 2048))]
    #[x_kube(validation = Rule::new("self.startsWith('https://')").message("url must begin with https://"))]
    pub url: String,
    /// Headers of each request, with values written here or taken from a Secret or ConfigMap. There are no placeholders.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub headers: Vec<Header>,
    /// How it is written: `NDJSON`, a JSON object a line; `CSV` (RFC 4180) with a header row and a column `integrationId`; or `JSON`, one array. Each page is written so.
    #[serde(default)]
    pub format: AudienceFormat,
    /// How often it is read again while a window is open, in seconds; 300 unless the operator was started with another number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 86400))]
    pub poll_seconds: Option<i64>,
}

/// How an audience is written.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum AudienceFormat {
    #[default]
    #[serde(rename = "NDJSON")]
    Ndjson,
    #[serde(rename = "CSV")]
    Csv,
    #[serde(rename = "JSON")]
    Json,
}

/// A customer.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    /// The customer's id in your system and at CleverTap (its `identity`). Space around it is ignored.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("self.trim() != ''").message("integrationId must not be empty"))]
    pub integration_id: String,
    /// Values for `${$Profile.Attributes.X}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "super::any_json_map")]
    pub attributes: BTreeMap<String, Value>,
}
