//! The requests that would be sent. Nobody's secrets are known here: where one would stand, it says so.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;

use super::recipients::{Granted, circumstances};
use crate::api::webhook::{Header, Webhook};
use crate::delivery::endpoint::{Endpoint, ResolvedHeader, Templates};
use crate::issuing::draft;
use crate::manifests::{CheckedCampaign, Manifests};

/// What stands in place of a secret.
const REDACTED: &str = "<redacted>";

/// A request, as it would be sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RequestRow {
    pub campaign: String,
    pub rule: String,
    pub occurrence: String,
    pub recipient: String,
    pub delivery: String,
    pub webhook: String,
    pub method: String,
    pub url: String,
    /// In the order in which they are sent.
    #[serde(serialize_with = "as_object")]
    pub headers: Vec<(String, String)>,
    pub body: Option<String>,
}

fn as_object<S: serde::Serializer>(headers: &[(String, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(headers.iter().map(|(name, value)| (name, value)))
}

/// A request that cannot be shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{delivery}: {problem}")]
pub struct RequestError {
    pub delivery: String,
    pub problem: String,
}

/// The requests for somebody who would get a code. The code is one that could be drawn.
///
/// # Errors
/// For each that cannot be made, with what is wrong.
#[must_use]
pub fn requests(
    manifests: &Manifests,
    checked: &CheckedCampaign<'_>,
    granted: &Granted<'_>,
    now: DateTime<Utc>,
) -> Vec<Result<RequestRow, RequestError>> {
    let failed = |problem: String| vec![Err(RequestError { delivery: granted.rule.name.clone(), problem })];
    let code = match granted.rule.format.draw() {
        Ok(code) => code,
        Err(error) => return failed(error.to_string()),
    };
    let circumstances = circumstances(checked, granted.rule, granted.occurrence, now);
    let spec = match draft::coupon(&granted.rule.effects, circumstances, granted.profile, code) {
        Ok(spec) => spec,
        Err(error) => return failed(error.to_string()),
    };
    let namespace = checked.campaign.metadata.namespace.as_deref();
    let one = |delivery: &crate::api::coupon::Delivery| {
        let wrong = |problem: String| RequestError { delivery: delivery.name.clone(), problem };
        let name = &delivery.webhook_ref.name;
        let webhook =
            manifests.webhook(namespace, name).ok_or_else(|| wrong(format!("Webhook {name} is not in the files")))?;
        let endpoint = endpoint(webhook).map_err(wrong)?;
        let request = endpoint.request(&delivery.parameters).map_err(|error| wrong(error.to_string()))?;
        Ok(RequestRow {
            campaign: super::name(checked),
            rule: granted.rule.name.clone(),
            occurrence: granted.occurrence.key.clone(),
            recipient: spec.recipient.clone(),
            delivery: delivery.name.clone(),
            webhook: name.clone(),
            method: json_text(&serde_json::json!(request.method)),
            url: request.url.to_string(),
            headers: request.headers.iter().map(|(name, value)| (name.clone(), value.reveal().clone())).collect(),
            body: request.body.clone(),
        })
    };
    spec.deliveries.iter().map(one).collect()
}

fn json_text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn endpoint(webhook: &Webhook) -> Result<Endpoint, String> {
    let templates = Templates::parse(&webhook.spec)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
    let resolved = webhook.spec.headers.iter().filter_map(placeholder).collect();
    Ok(Endpoint::new(("", String::new(), 0), webhook.spec.clone(), templates, resolved, &[0; 32]))
}

/// A header whose value is elsewhere.
fn placeholder(header: &Header) -> Option<ResolvedHeader> {
    let config_map = header.value_from.as_ref()?.config_map_key_ref.as_ref();
    let stands_for = config_map.map_or_else(|| REDACTED.to_owned(), |key| format!("<from ConfigMap {}>", key.name));
    ResolvedHeader::new(&header.name, &stands_for)
}
