//! Manifests in files: read, and checked as far as that is possible without a cluster. The same pure
//! steps as the controllers', so that what passes here is accepted there.

use std::collections::BTreeMap;
use std::path::Path;

use kube::ResourceExt;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api::campaign::Campaign;
use crate::api::coupon::Coupon;
use crate::api::webhook::Webhook;
use crate::api::{GROUP, conditions::reason};
use crate::controllers::campaign::validate::{self as campaign, KnownWebhook};
use crate::delivery::endpoint::Templates;

/// Something wrong, or worth a warning, in a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub file: String,
    pub object: String,
    pub message: String,
    pub severity: Severity,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Error,
    Warning,
}

/// The objects of our kinds in some files.
#[derive(Default)]
pub struct Manifests {
    webhooks: Vec<(String, Webhook)>,
    campaigns: Vec<(String, Campaign)>,
    findings: Vec<Finding>,
}

impl Manifests {
    /// Reads a file's documents. Kinds that are not ours are passed over.
    pub fn read(&mut self, path: &Path) {
        let file = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => self.read_text(&file, &text),
            Err(error) => self.error(&file, "", format!("cannot be read: {error}")),
        }
    }

    /// Reads the documents of a text.
    pub fn read_text(&mut self, file: &str, text: &str) {
        match serde_saphyr::from_multiple::<Value>(text) {
            Ok(documents) => documents.into_iter().for_each(|document| self.document(file, document)),
            Err(error) => self.error(file, "", format!("is not YAML: {error}")),
        }
    }

    fn document(&mut self, file: &str, document: Value) {
        let text = |pointer| document.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (version, kind, name) = (text("/apiVersion"), text("/kind"), text("/metadata/name"));
        if version.split('/').next() != Some(GROUP) {
            return;
        }
        let object = format!("{kind}/{name}");
        if version != format!("{GROUP}/v1alpha1") {
            return self.error(file, &object, format!("apiVersion {version} is not known: write {GROUP}/v1alpha1"));
        }
        for field in unknown_fields(&kind, &document) {
            self.error(file, &object, format!("{field}: no such field"));
        }
        match kind.as_str() {
            "Webhook" => {
                let read = self.typed(file, &object, document);
                self.webhooks.extend(read.map(|w| (file.to_owned(), w)));
            }
            "Campaign" => {
                let read = self.typed(file, &object, document);
                self.campaigns.extend(read.map(|c| (file.to_owned(), c)));
            }
            "Coupon" => drop(self.typed::<Coupon>(file, &object, document)),
            _ => self.error(file, &object, format!("kind {kind} is not known: write Webhook, Campaign or Coupon")),
        }
    }

    fn typed<K: DeserializeOwned>(&mut self, file: &str, object: &str, document: Value) -> Option<K> {
        match serde_json::from_value(document) {
            Ok(typed) => Some(typed),
            Err(error) => {
                self.error(file, object, error.to_string());
                None
            }
        }
    }

    /// Everything that is wrong, and what is worth a warning.
    #[must_use]
    pub fn check(mut self) -> Vec<Finding> {
        let mut known: BTreeMap<(Option<String>, String), KnownWebhook> = BTreeMap::new();
        for (file, webhook) in std::mem::take(&mut self.webhooks) {
            self.webhook(&file, &webhook);
            let parameters = webhook.spec.parameters.clone();
            known.insert((webhook.namespace(), webhook.name_any()), KnownWebhook { parameters, problem: None });
        }
        for (file, campaign) in std::mem::take(&mut self.campaigns) {
            let beside = |(key, webhook): (&(Option<String>, String), &KnownWebhook)| {
                (key.0 == campaign.namespace()).then(|| (key.1.clone(), webhook.clone()))
            };
            let webhooks = known.iter().filter_map(beside).collect();
            self.campaign(&file, &campaign, &webhooks);
        }
        self.findings
    }

    fn webhook(&mut self, file: &str, webhook: &Webhook) {
        let object = format!("Webhook/{}", webhook.name_any());
        match Templates::parse(&webhook.spec) {
            Err(errors) => errors.iter().for_each(|error| self.error(file, &object, error.to_string())),
            Ok(templates) => {
                for name in templates.unused() {
                    let message = format!("spec.parameters[{name}]: nothing uses this parameter");
                    self.add(file, &object, message, Severity::Warning);
                }
            }
        }
    }

    fn campaign(&mut self, file: &str, campaign: &Campaign, webhooks: &BTreeMap<String, KnownWebhook>) {
        let object = format!("Campaign/{}", campaign.name_any());
        for problem in campaign::run(&campaign.spec, &campaign::compile(&campaign.spec), webhooks).problems {
            // The Webhook may be in the cluster and not in these files.
            let severity =
                if problem.reason == reason::WEBHOOK_NOT_FOUND { Severity::Warning } else { Severity::Error };
            self.add(file, &object, problem.message, severity);
        }
    }

    fn error(&mut self, file: &str, object: &str, message: String) {
        self.add(file, object, message, Severity::Error);
    }

    fn add(&mut self, file: &str, object: &str, message: String, severity: Severity) {
        self.findings.push(Finding { file: file.to_owned(), object: object.to_owned(), message, severity });
    }
}

/// Fields of a document that the CRD does not have: a misspelt field would be dropped silently.
fn unknown_fields(kind: &str, document: &Value) -> Vec<String> {
    let crd = crate::api::crds::all().into_iter().find(|crd| crd.spec.names.kind == kind);
    let schema = crd.and_then(|crd| crd.spec.versions.into_iter().next()?.schema?.open_api_v3_schema);
    let Some(schema) = schema.and_then(|schema| serde_json::to_value(schema).ok()) else { return Vec::new() };
    let mut unknown = Vec::new();
    for part in ["spec", "status"] {
        if let (Some(schema), Some(value)) = (schema.pointer(&format!("/properties/{part}")), document.get(part)) {
            collect_unknown(schema, value, part, &mut unknown);
        }
    }
    unknown
}

fn collect_unknown(schema: &Value, value: &Value, path: &str, unknown: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            let Some(properties) = schema.get("properties") else { return };
            for (name, value) in fields {
                match properties.get(name) {
                    Some(schema) => collect_unknown(schema, value, &format!("{path}.{name}"), unknown),
                    None => unknown.push(format!("{path}.{name}")),
                }
            }
        }
        Value::Array(items) => {
            let Some(schema) = schema.get("items") else { return };
            for (i, item) in items.iter().enumerate() {
                collect_unknown(schema, item, &format!("{path}[{i}]"), unknown);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> Vec<String> {
        let mut manifests = Manifests::default();
        manifests.read_text("f.yaml", text);
        manifests.check().into_iter().map(|f| format!("{:?} {} {}", f.severity, f.object, f.message)).collect()
    }

    #[test]
    fn a_misspelt_field_is_named() {
        let found = findings(
            "apiVersion: coupon-operator.dev/v1alpha1\nkind: Webhook\nmetadata: {name: w}\nspec: {url: 'https://a.example/', header: [], parameters: [{name: A, type: String, x: 1}]}",
        );
        assert_eq!(
            found[..2],
            ["Error Webhook/w spec.header: no such field", "Error Webhook/w spec.parameters[0].x: no such field"]
        );
        assert_eq!(found[2], "Warning Webhook/w spec.parameters[A]: nothing uses this parameter");
    }

    #[test]
    fn other_kinds_are_passed_over_and_other_versions_are_not() {
        assert!(findings("apiVersion: v1\nkind: Secret\nmetadata: {name: s}").is_empty());
        assert!(
            findings("apiVersion: coupon-operator.dev/v9\nkind: Webhook\nmetadata: {name: w}")[0]
                .contains("v9 is not known")
        );
        assert!(findings("a: [")[0].contains("is not YAML"));
    }
}
