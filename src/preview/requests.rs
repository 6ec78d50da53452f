//! The requests that would be sent. Nobody's secrets are known here: where one would stand, it says so.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;

use super::recipients::{Granted, circumstances};
use crate::api::coupon::{CouponSpec, Delivery};
use crate::api::webhook::{Header, Webhook};
use crate::delivery::endpoint::{Endpoint, OutgoingRequest, ResolvedHeader, Templates};
use crate::delivery::retry::FRESHNESS_PASSED;
use crate::issuing::chunks::Queue;
use crate::issuing::draft;
use crate::manifests::{CheckedCampaign, Manifests};
use crate::records::Records;

/// What stands in place of a secret.
const REDACTED: &str = "<redacted>";

/// A request, as it would be sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RequestRow {
    pub campaign: String,
    pub rule: String,
    pub occurrence: String,
    /// Null if the request is for several.
    pub recipient: Option<String>,
    /// How many records it carries.
    pub records: usize,
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

/// A request that cannot be shown, or a record that cannot be in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rule {rule}: {recipient}: {place}: {problem}")]
pub struct RequestError {
    pub rule: String,
    pub recipient: String,
    pub place: String,
    pub problem: String,
}

/// The requests of a Campaign, for those who would get a code. The codes are some that could be drawn.
pub struct Requests<'a> {
    manifests: &'a Manifests,
    checked: &'a CheckedCampaign<'a>,
    now: DateTime<Utc>,
    /// Records that wait until there are enough for a request, by rule.
    waiting: BTreeMap<String, (usize, Vec<CouponSpec>)>,
}

type Shown = Result<RequestRow, RequestError>;

/// A request, with what reads its answer.
pub struct Outgoing {
    pub endpoint: Endpoint,
    pub request: OutgoingRequest,
}

impl<'a> Requests<'a> {
    #[must_use]
    pub fn new(manifests: &'a Manifests, checked: &'a CheckedCampaign<'a>, now: DateTime<Utc>) -> Self {
        Self { manifests, checked, now, waiting: BTreeMap::new() }
    }

    /// Somebody who would get a code: the requests that can be made now, and what cannot.
    pub fn add(&mut self, granted: &Granted<'_>) -> Vec<Shown> {
        let rule = &granted.rule.name;
        let draft = match self.draft(granted) {
            Ok(draft) => draft,
            Err(error) => return vec![Err(error)],
        };
        let size = usize::try_from(granted.rule.batch).unwrap_or(1).max(1);
        let (_, drafts) = self.waiting.entry(rule.clone()).or_insert_with(|| (size, Vec::new()));
        drafts.push(draft);
        if drafts.len() < size { Vec::new() } else { self.flush(rule) }
    }

    /// The requests of those for whom there were not enough others.
    pub fn finish(&mut self) -> Vec<Shown> {
        let rules: Vec<String> = self.waiting.keys().cloned().collect();
        rules.iter().flat_map(|rule| self.flush(rule)).collect()
    }

    /// The Coupon of somebody who would get a code.
    ///
    /// # Errors
    /// Why there can be none.
    pub fn draft(&self, granted: &Granted<'_>) -> Result<CouponSpec, RequestError> {
        let failed = |problem: String| RequestError {
            rule: granted.rule.name.clone(),
            recipient: granted.profile.integration_id.trim().to_owned(),
            place: "createCoupon".to_owned(),
            problem,
        };
        let code = granted.rule.format.draw().map_err(|error| failed(error.to_string()))?;
        let circumstances = circumstances(self.checked, granted.rule, granted.occurrence, self.now);
        let draft = draft::coupon(&granted.rule.effects, circumstances, granted.profile, code);
        draft.map_err(|error| failed(error.to_string()))
    }

    fn flush(&mut self, rule: &str) -> Vec<Shown> {
        let Some((size, drafts)) = self.waiting.remove(rule) else { return Vec::new() };
        if size == 1 {
            return drafts.iter().flat_map(|draft| self.of_coupon(draft)).collect();
        }
        let mut queue = Queue::new(drafts);
        let mut shown = Vec::new();
        while let Some(chunk) = queue.take(size, 1) {
            shown.extend(self.of_coupon(&chunk.spec));
        }
        shown
    }

    fn of_coupon(&self, coupon: &CouponSpec) -> Vec<Shown> {
        coupon.deliveries.iter().flat_map(|delivery| self.of_delivery(coupon, delivery)).collect()
    }

    /// Slices of as many records as the Webhook takes.
    fn of_delivery(&self, coupon: &CouponSpec, delivery: &Delivery) -> Vec<Shown> {
        let records = Records::of(coupon);
        let wrong = |row: u32, problem: String| RequestError {
            rule: coupon.rule.clone().unwrap_or_default(),
            recipient: records.get(row).map(|record| record.recipient().to_owned()).unwrap_or_default(),
            place: delivery.name.clone(),
            problem,
        };
        let redacted = |webhook: &Webhook| webhook.spec.headers.iter().filter_map(placeholder).collect();
        let made = self.webhook(delivery).and_then(|webhook| endpoint(webhook, redacted(webhook)));
        let endpoint = match made {
            Ok(endpoint) => endpoint,
            Err(problem) => return vec![Err(wrong(1, problem))],
        };
        let mut rest = records.all();
        let mut shown = Vec::new();
        while !rest.is_empty() {
            let slice = rest.first(endpoint.spec.max_batch());
            rest = rest.minus(&slice);
            let prepared = endpoint.request(records, &delivery.name, &slice, self.now);
            shown.extend(prepared.unfit.iter().map(|(row, error)| Err(wrong(*row, error.to_string()))));
            shown.extend(prepared.stale.iter().map(|row| Err(wrong(*row, FRESHNESS_PASSED.to_owned()))));
            shown.extend(prepared.request.map(|request| Ok(self.row(coupon, delivery, &request))));
        }
        shown
    }

    /// The Webhook of a delivery.
    ///
    /// # Errors
    /// If it is not in the files.
    pub fn webhook(&self, delivery: &Delivery) -> Result<&'a Webhook, String> {
        let name = &delivery.webhook_ref.name;
        let namespace = self.checked.campaign.metadata.namespace.as_deref();
        self.manifests.webhook(namespace, name).ok_or_else(|| format!("Webhook {name} is not in the files"))
    }

    /// The request of a Coupon of one record, with the values of its headers as they are.
    ///
    /// # Errors
    /// Why there can be none.
    pub fn outgoing(
        &self,
        coupon: &CouponSpec,
        delivery: &Delivery,
        resolved: Vec<ResolvedHeader>,
    ) -> Result<Outgoing, String> {
        let endpoint = endpoint(self.webhook(delivery)?, resolved)?;
        let records = Records::of(coupon);
        let prepared = endpoint.request(records, &delivery.name, &records.all(), self.now);
        let unfit = prepared.unfit.first().map(|(_, error)| error.to_string());
        let request = prepared.request.ok_or_else(|| unfit.unwrap_or_else(|| FRESHNESS_PASSED.to_owned()))?;
        Ok(Outgoing { endpoint, request })
    }

    fn row(&self, coupon: &CouponSpec, delivery: &Delivery, request: &OutgoingRequest) -> RequestRow {
        RequestRow {
            campaign: super::name(self.checked),
            rule: coupon.rule.clone().unwrap_or_default(),
            occurrence: coupon.occurrence.clone().unwrap_or_default(),
            recipient: coupon.recipient.clone(),
            records: request.count,
            delivery: delivery.name.clone(),
            webhook: delivery.webhook_ref.name.clone(),
            method: json_text(&serde_json::json!(request.method)),
            url: request.url.to_string(),
            headers: request.headers.iter().map(|(name, value)| (name.clone(), value.reveal().clone())).collect(),
            body: request.body.clone(),
        }
    }
}

fn json_text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn endpoint(webhook: &Webhook, resolved: Vec<ResolvedHeader>) -> Result<Endpoint, String> {
    let templates = Templates::parse(&webhook.spec)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
    Ok(Endpoint::new(("", String::new(), 0), webhook.spec.clone(), templates, resolved, &[0; 32]))
}

/// A header whose value is elsewhere.
fn placeholder(header: &Header) -> Option<ResolvedHeader> {
    let config_map = header.value_from.as_ref()?.config_map_key_ref.as_ref();
    let stands_for = config_map.map_or_else(|| REDACTED.to_owned(), |key| format!("<from ConfigMap {}>", key.name));
    ResolvedHeader::new(&header.name, &stands_for)
}
