//! An endpoint: a Webhook, parsed and with its credentials, ready to make requests.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sha2::{Digest, Sha256};
use url::Url;

use super::account::{AccountKey, CLEVERTAP_IN_FLIGHT, CredentialDigest};
use super::clevertap::{self, RecordProblem};
use super::outcome::{AnswerFormat, Sent};
use super::retry::{CLEVERTAP_FRESHNESS_SECONDS, Deadlines};
use super::secret::Redacted;
use super::success::SuccessWhen;
use crate::api::webhook::{Header, Method, Parameter, ParameterType, ResponseFormat, WebhookSpec};
use crate::records::{Records, RowError, RowSet};
use crate::template::header::{HeaderTemplate, is_carried};
use crate::template::payload::PayloadTemplate;
use crate::template::url::UrlTemplate;
use crate::template::value::TypeMismatch;
use crate::template::{ParameterValue, RenderError, TemplateError, Values};

/// A Webhook with its templates parsed.
#[derive(Clone, Debug)]
pub struct Templates {
    parameters: Vec<Parameter>,
    url: UrlTemplate,
    headers: Vec<HeaderTemplate>,
    payload: Option<PayloadTemplate>,
    answers: AnswerFormat,
    method: Method,
}

/// Something wrong in a Webhook's spec, with its field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct SpecError {
    pub field: String,
    pub problem: String,
}

impl SpecError {
    fn template(field: impl Into<String>, error: &TemplateError) -> Self {
        Self { field: field.into(), problem: error.to_string() }
    }
}

impl Templates {
    /// Parses the templates of a Webhook.
    ///
    /// # Errors
    /// Everything that is wrong, each with its field.
    pub fn parse(spec: &WebhookSpec) -> Result<Self, Vec<SpecError>> {
        let mut errors = Vec::new();
        let mut note = |field: &str, error: &TemplateError| errors.push(SpecError::template(field, error));
        let url = UrlTemplate::parse(&spec.url, &spec.parameters).map_err(|e| note("spec.url", &e)).ok();
        let mut headers = Vec::new();
        for (i, (name, value)) in literal_headers(&spec.headers).enumerate() {
            match HeaderTemplate::parse(name, value, &spec.parameters) {
                Ok(header) => headers.push(header),
                Err(error) => note(&format!("spec.headers[{i}].value"), &error),
            }
        }
        let payload = payload(spec).map_err(|e| note("spec.payload", &e)).ok().flatten();
        let answers = answers(spec).map_err(|error| errors.push(error)).ok();
        let (Some(url), Some(answers), true) = (url, answers, errors.is_empty()) else { return Err(errors) };
        let parameters = spec.parameters.clone();
        let templates = Self { parameters, url, headers, payload, answers, method: spec.method };
        templates.one_for_all(spec)?.checked()
    }

    /// A request of several records has one url, the same headers, and one payload around the records.
    fn one_for_all(self, spec: &WebhookSpec) -> Result<Self, Vec<SpecError>> {
        if spec.max_batch() == 1 {
            return Ok(self);
        }
        let in_headers = literal_headers(&spec.headers).enumerate().zip(&self.headers);
        let in_headers = in_headers
            .filter_map(|((i, _), header)| Some((format!("spec.headers[{i}].value"), header.parameters().next()?)));
        let outside: Vec<(String, &str)> = (self.url.parameters().next().map(|name| ("spec.url".to_owned(), name)))
            .into_iter()
            .chain(in_headers)
            .chain(self.payload.as_ref().and_then(|p| Some(("spec.payload".to_owned(), p.outside_record()?))))
            .collect();
        let error = |(field, name): (String, &str)| SpecError {
            field,
            problem: format!(
                "${{${name}}} stands outside the record at spec.batch.recordsAt, where a request of several records has no value for it: move it into the record, or set spec.batch.maxSize to 1"
            ),
        };
        let errors: Vec<SpecError> = outside.into_iter().map(error).collect();
        if errors.is_empty() { Ok(self) } else { Err(errors) }
    }

    /// What CleverTap would refuse for every record is found with a value of each type.
    fn checked(self) -> Result<Self, Vec<SpecError>> {
        if self.answers != AnswerFormat::CleverTap {
            return Ok(self);
        }
        let samples: Values = self.parameters.iter().map(|p| (p.name.clone(), sample(p.type_))).collect();
        let wrong = |problem: String| vec![SpecError { field: "spec.payload".into(), problem }];
        let record = self.record(&samples).map_err(|error| wrong(error.to_string()))?;
        let body = self.body(&[record], &samples).map_err(|error| wrong(error.to_string()))?;
        let json = serde_json::from_str(&body.unwrap_or_default()).unwrap_or(Value::Null);
        clevertap::check(&json).map(|()| self).map_err(|problem| wrong(problem.to_string()))
    }

    /// One record's part of the payload; empty if the payload has no array of records.
    fn record(&self, values: &Values) -> Result<String, RenderError> {
        self.payload.as_ref().map_or_else(|| Ok(String::new()), |payload| payload.record(values))
    }

    fn body(&self, records: &[String], values: &Values) -> Result<Option<String>, RenderError> {
        self.payload.as_ref().map(|payload| payload.around(records, values)).transpose()
    }

    /// How answers are read.
    #[must_use]
    pub fn answers(&self) -> &AnswerFormat {
        &self.answers
    }

    /// The declared parameters.
    #[must_use]
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Declared parameters that nothing uses.
    #[must_use]
    pub fn unused(&self) -> Vec<&str> {
        let used: Vec<&str> = self
            .url
            .parameters()
            .chain(self.headers.iter().flat_map(HeaderTemplate::parameters))
            .chain(self.payload.iter().flat_map(PayloadTemplate::parameters))
            .collect();
        self.parameters.iter().map(|p| p.name.as_str()).filter(|name| !used.contains(name)).collect()
    }

    /// The account that requests count for.
    #[must_use]
    pub fn account(&self, namespace: &str, resolved: &[ResolvedHeader]) -> AccountKey {
        let account_id = resolved
            .iter()
            .find(|h| h.name.eq_ignore_ascii_case("X-CleverTap-Account-Id"))
            .map(|h| h.value.reveal().clone())
            .or_else(|| {
                let header = self.headers.iter().find(|h| h.name().eq_ignore_ascii_case("X-CleverTap-Account-Id"))?;
                header.render(&Values::new()).ok()
            });
        match (&self.answers, account_id) {
            (AnswerFormat::CleverTap, Some(account_id)) => {
                AccountKey::CleverTap { host: clevertap_region(self.url.host()), account_id }
            }
            _ => AccountKey::Origin { namespace: namespace.to_owned(), origin: self.url.origin() },
        }
    }
}

fn answers(spec: &WebhookSpec) -> Result<AnswerFormat, SpecError> {
    if spec.response_format == ResponseFormat::CleverTap {
        return Ok(AnswerFormat::CleverTap);
    }
    let success_when = spec.success_when.as_deref().map(SuccessWhen::compile).transpose();
    let success_when =
        success_when.map_err(|error| SpecError { field: "spec.successWhen".to_owned(), problem: error.to_string() })?;
    Ok(AnswerFormat::HttpStatus { success_when })
}

/// CleverTap's payload has its records at `/d`, whether or not the Webhook says so.
fn payload(spec: &WebhookSpec) -> Result<Option<PayloadTemplate>, TemplateError> {
    let Some(source) = &spec.payload else { return Ok(None) };
    let said = spec.batch.as_ref().and_then(|batch| batch.records_at.as_deref());
    if said.is_none() && spec.response_format == ResponseFormat::CleverTap {
        let divided = PayloadTemplate::parse(source, &spec.parameters, Some("/d"));
        if let Ok(divided) = divided {
            return Ok(Some(divided));
        }
    }
    PayloadTemplate::parse(source, &spec.parameters, said).map(Some)
}

/// `eu1.api.clevertap.com` and `api.clevertap.com` are the same region.
fn clevertap_region(host: &str) -> String {
    if host == "eu1.api.clevertap.com" { "api.clevertap.com".to_owned() } else { host.to_owned() }
}

fn literal_headers(headers: &[Header]) -> impl Iterator<Item = (&str, &str)> {
    headers.iter().filter_map(|h| Some((h.name.as_str(), h.value.as_deref()?)))
}

fn sample(type_: ParameterType) -> ParameterValue {
    match type_ {
        ParameterType::String => ParameterValue::String("x".into()),
        ParameterType::Boolean => ParameterValue::Boolean(true),
        ParameterType::Number => ParameterValue::Number(1.into()),
        ParameterType::Time => ParameterValue::Time("2023-01-01T00:00:00Z".into()),
        ParameterType::StringList => ParameterValue::StringList(Vec::new()),
        ParameterType::NumberList => ParameterValue::NumberList(Vec::new()),
    }
}

/// A header with the value of its Secret or ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedHeader {
    name: String,
    value: Redacted<String>,
}

impl ResolvedHeader {
    /// A value as it was found: white space around it is not part of it, since keys are often written
    /// with a newline at their end. None if a header cannot carry what is left, or nothing is.
    #[must_use]
    pub fn new(name: &str, found: &str) -> Option<Self> {
        let value = found.trim();
        (!value.is_empty() && is_carried(value))
            .then(|| Self { name: name.to_owned(), value: Redacted::new(value.to_owned()) })
    }

    /// Its name and value.
    #[must_use]
    pub fn into_pair(self) -> (String, Redacted<String>) {
        (self.name, self.value)
    }
}

/// A Webhook, ready to make requests.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub uid: String,
    pub generation: i64,
    pub templates: Templates,
    pub resolved: Vec<ResolvedHeader>,
    pub account: AccountKey,
    pub credential: CredentialDigest,
    pub spec: WebhookSpec,
}

impl Endpoint {
    /// Puts a Webhook together. `digest_key` is random for each process.
    #[must_use]
    pub fn new(
        identity: (&str, String, i64),
        spec: WebhookSpec,
        templates: Templates,
        resolved: Vec<ResolvedHeader>,
        digest_key: &[u8; 32],
    ) -> Self {
        let (namespace, uid, generation) = identity;
        let account = templates.account(namespace, &resolved);
        let secrets: Vec<(&str, &str)> =
            resolved.iter().map(|h| (h.name.as_str(), h.value.reveal().as_str())).collect();
        let credential = CredentialDigest::of(digest_key, &account, &secrets);
        Self { uid, generation, templates, resolved, account, credential, spec }
    }

    /// How many requests the account takes at once.
    #[must_use]
    pub fn account_limit(&self) -> usize {
        match self.account {
            AccountKey::CleverTap { .. } => CLEVERTAP_IN_FLIGHT,
            AccountKey::Origin { .. } => usize::MAX,
        }
    }

    /// The request for records of a Coupon, in the order of their numbers, and those that cannot be in it.
    #[must_use]
    pub fn request(&self, records: Records<'_>, delivery: &str, rows: &RowSet, now: DateTime<Utc>) -> Prepared {
        let mut prepared = Prepared::default();
        let mut all = Vec::new();
        let mut first = None;
        for row in rows.iter() {
            match self.record(records, delivery, row) {
                Ok(record) if record.is_stale(now) => prepared.stale.push(row),
                Ok(record) => {
                    first.get_or_insert(record.values);
                    all.push((row, record.text, record.json));
                }
                Err(error) => prepared.unfit.push((row, error)),
            }
        }
        if let Some(values) = first {
            let rows: Vec<u32> = all.iter().map(|(row, ..)| *row).collect();
            let (texts, json): (Vec<String>, _) = all.into_iter().map(|(_, text, json)| (text, json)).unzip();
            match self.around(&texts, json, &values) {
                Ok(request) => {
                    prepared.rows = rows.into_iter().collect();
                    prepared.request = Some(request);
                }
                // Outside of records a placeholder stands only where each request has one record.
                Err(error) => prepared.unfit.extend(rows.into_iter().map(|row| (row, error.clone()))),
            }
        }
        prepared
    }

    /// One record, filled in and checked.
    fn record(&self, records: Records<'_>, delivery: &str, row: u32) -> Result<FilledRecord, RecordError> {
        let values = self.values(&records.get(row)?.parameters(delivery))?;
        let text = self.templates.record(&values)?;
        let mut json = Value::Null;
        if self.templates.answers == AnswerFormat::CleverTap {
            json = serde_json::from_str(&text).unwrap_or(Value::Null);
            clevertap::check_record(&json)?;
        }
        Ok(FilledRecord { values, text, json })
    }

    fn around(&self, texts: &[String], json: Vec<Value>, values: &Values) -> Result<OutgoingRequest, RecordError> {
        let templates = &self.templates;
        let url = templates.url.render(values)?;
        let mut headers = Vec::new();
        for template in &templates.headers {
            headers.push((template.name().to_owned(), Redacted::new(template.render(values)?)));
        }
        headers.extend(self.resolved.iter().map(|h| (h.name.clone(), h.value.clone())));
        let body = templates.body(texts, values)?;
        Ok(OutgoingRequest { method: templates.method, url, headers, body, count: texts.len(), records: json })
    }

    /// Until when CleverTap takes a record as fresh, if it has a `ts` of its own.
    #[must_use]
    pub fn fresh_until(&self, records: Records<'_>, delivery: &str, row: u32) -> Option<DateTime<Utc>> {
        self.record(records, delivery, row).ok()?.fresh_until()
    }

    /// Declared parameters that a frozen Coupon lacks.
    #[must_use]
    pub fn missing_parameters(&self, frozen: &std::collections::BTreeSet<&str>) -> Vec<String> {
        let names = self.templates.parameters.iter().map(|p| &p.name);
        names.filter(|name| !frozen.contains(name.as_str())).cloned().collect()
    }

    fn values(&self, cells: &std::collections::BTreeMap<String, String>) -> Result<Values, RecordError> {
        let mut values = Values::new();
        for parameter in &self.templates.parameters {
            let Some(cell) = cells.get(&parameter.name) else { continue };
            let value = ParameterValue::from_cell(parameter.type_, cell)
                .map_err(|error| RecordError::Type { parameter: parameter.name.clone(), error })?;
            values.insert(parameter.name.clone(), value);
        }
        Ok(values)
    }
}

/// A request that cannot be made for this record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error(transparent)]
    Render(#[from] RenderError),
    #[error("parameter {parameter}: {error}")]
    Type { parameter: String, error: TypeMismatch },
    #[error(transparent)]
    CleverTap(#[from] RecordProblem),
    #[error(transparent)]
    Row(#[from] RowError),
}

/// What is to be sent of some rows, and what cannot.
#[derive(Debug, Default)]
pub struct Prepared {
    /// None if no row can be sent.
    pub request: Option<OutgoingRequest>,
    /// The rows that it carries.
    pub rows: RowSet,
    /// Rows that no request can be made of.
    pub unfit: Vec<(u32, RecordError)>,
    /// Rows that CleverTap would no longer take as fresh.
    pub stale: Vec<u32>,
}

struct FilledRecord {
    values: Values,
    text: String,
    /// Read where CleverTap's answer is read beside it.
    json: Value,
}

impl FilledRecord {
    fn fresh_until(&self) -> Option<DateTime<Utc>> {
        let timestamp = DateTime::from_timestamp(clevertap::timestamp(&self.json)?, 0)?;
        Deadlines::after(timestamp, CLEVERTAP_FRESHNESS_SECONDS)
    }

    fn is_stale(&self, now: DateTime<Utc>) -> bool {
        self.fresh_until().is_some_and(|until| until <= now)
    }
}

/// A request, ready to be sent.
#[derive(Clone, Debug)]
pub struct OutgoingRequest {
    pub method: Method,
    pub url: Url,
    pub headers: Vec<(String, Redacted<String>)>,
    pub body: Option<String>,
    /// How many records it carries.
    pub count: usize,
    /// The records: CleverTap's answer is read beside them.
    pub records: Vec<Value>,
}

impl OutgoingRequest {
    /// SHA-256 of the body, which identifies it without showing it.
    #[must_use]
    pub fn payload_digest(&self) -> String {
        hex::encode(Sha256::digest(self.body.as_deref().unwrap_or_default()))
    }

    /// What its outcome is read beside.
    #[must_use]
    pub fn sent(&self) -> Sent<'_> {
        Sent { count: self.count, records: &self.records }
    }
}

#[cfg(test)]
mod tests;
