//! Manifests in files: read, and checked as far as that is possible without a cluster. The same pure
//! steps as the controllers', so that what passes here is accepted there.

pub mod cluster;
pub mod regrants;
mod schema;

use std::collections::BTreeMap;
use std::path::Path;

use kube::ResourceExt;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api::campaign::{Campaign, CampaignSpec};
use crate::api::coupon::Coupon;
use crate::api::webhook::{Parameter, ParameterType, Webhook};
use crate::api::{GROUP, conditions::reason};
use crate::controllers::campaign::validate::{self as campaign, KnownWebhook, Problem, Validated};
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

/// The objects of our kinds in some files, each with its file.
#[derive(Default)]
pub struct Manifests {
    webhooks: Vec<(String, Webhook)>,
    campaigns: Vec<(String, Campaign)>,
    data_keys: cluster::DataKeys,
    seen: bool,
    findings: Vec<Finding>,
}

/// A Campaign of a file, checked.
pub struct CheckedCampaign<'a> {
    pub file: &'a str,
    pub campaign: &'a Campaign,
    pub validated: Validated,
}

impl Manifests {
    /// Reads a file's documents; `-` is standard input. Kinds that are not ours are passed over.
    pub fn read(&mut self, path: &Path) {
        let standard_input = path.as_os_str() == "-";
        let file = if standard_input { "standard input".to_owned() } else { path.display().to_string() };
        let text =
            if standard_input { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(path) };
        match text {
            Ok(text) => self.read_text(&file, &text),
            Err(error) => self.error(&file, "", format!("cannot be read: {error}")),
        }
    }

    /// Reads the documents of a text, YAML or JSON.
    pub fn read_text(&mut self, file: &str, text: &str) {
        // JSON is YAML too, but the reader of JSON is many times faster.
        if let Some(document) = text.trim_start().starts_with('{').then(|| serde_json::from_str(text).ok()).flatten() {
            return self.document(file, document);
        }
        match serde_saphyr::from_multiple_with_options::<Value>(text, yaml_options()) {
            Ok(documents) => documents.into_iter().for_each(|document| self.document(file, document)),
            Err(error) => self.error(file, "", format!("is not YAML: {}", first_line(&error.to_string()))),
        }
    }

    /// The Webhooks in the files, with their file.
    pub fn webhooks(&self) -> impl Iterator<Item = (&str, &Webhook)> {
        self.webhooks.iter().map(|(file, webhook)| (file.as_str(), webhook))
    }

    /// The Webhook of a name beside a Campaign.
    #[must_use]
    pub fn webhook(&self, namespace: Option<&str>, name: &str) -> Option<&Webhook> {
        let beside =
            |w: &&Webhook| w.metadata.namespace.as_deref() == namespace && w.metadata.name.as_deref() == Some(name);
        self.webhooks.iter().map(|(_, webhook)| webhook).find(beside)
    }

    /// The Campaigns in the files, with what the operator would make of them.
    #[must_use]
    pub fn campaigns(&self) -> Vec<CheckedCampaign<'_>> {
        self.campaigns.iter().map(|(file, campaign)| checked(file, campaign, &self.known_beside(campaign))).collect()
    }

    /// The same for a preview: a Webhook that is not in the files is taken to have the parameters that the
    /// Campaign binds. Each with the names of those.
    #[must_use]
    pub fn previewed(&self) -> Vec<(CheckedCampaign<'_>, Vec<String>)> {
        let mut previewed = Vec::new();
        for (file, campaign) in &self.campaigns {
            let mut known = self.known_beside(campaign);
            let absent = absent_webhooks(&campaign.spec, &known);
            let names = absent.keys().cloned().collect();
            known.extend(absent);
            previewed.push((checked(file, campaign, &known), names));
        }
        previewed
    }

    fn known_beside(&self, campaign: &Campaign) -> BTreeMap<String, KnownWebhook> {
        let known = |w: &Webhook| KnownWebhook {
            parameters: w.spec.parameters.clone(),
            max_batch: w.spec.max_batch(),
            problem: None,
        };
        let beside = self.webhooks.iter().filter(|(_, w)| w.metadata.namespace == campaign.metadata.namespace);
        beside.map(|(_, w)| (w.name_any(), known(w))).collect()
    }

    fn document(&mut self, file: &str, mut document: Value) {
        let text = |pointer| document.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (version, kind, name) = (text("/apiVersion"), text("/kind"), text("/metadata/name"));
        if kind == "List" && version == "v1" {
            let Some(Value::Array(items)) = document.get_mut("items").map(Value::take) else { return };
            return items.into_iter().for_each(|item| self.document(file, item));
        }
        if version == "v1" {
            return self.note_data(&kind, text("/metadata/namespace"), name, &document);
        }
        if version.split('/').next() != Some(GROUP) {
            return;
        }
        let object = format!("{kind}/{name}");
        if version != format!("{GROUP}/v1alpha1") {
            return self.error(file, &object, format!("apiVersion {version} is not known: write {GROUP}/v1alpha1"));
        }
        self.seen = true;
        let wrong = schema::check(&kind, &document);
        let said = !wrong.is_empty();
        for what in wrong {
            self.error(file, &object, what);
        }
        match kind.as_str() {
            "Webhook" => {
                let read = self.typed(file, &object, document, said);
                self.webhooks.extend(read.map(|w| (file.to_owned(), w)));
            }
            "Campaign" => {
                let read = self.typed(file, &object, document, said);
                self.campaigns.extend(read.map(|c| (file.to_owned(), c)));
            }
            "Coupon" => drop(self.typed::<Coupon>(file, &object, document, said)),
            _ => self.error(file, &object, format!("kind {kind} is not known: write Webhook, Campaign or Coupon")),
        }
    }

    /// Of a Secret or a ConfigMap, that it is there, and its keys: never a value.
    fn note_data(&mut self, kind: &str, namespace: String, name: String, document: &Value) {
        let Some(kind) = ["Secret", "ConfigMap"].into_iter().find(|known| *known == kind) else { return };
        let fields = ["data", "stringData"].into_iter().filter_map(|field| document.get(field)?.as_object());
        let keys = fields.flat_map(|values| values.keys().cloned()).collect();
        self.data_keys.insert((kind, Some(namespace).filter(|n| !n.is_empty()), name), keys);
    }

    /// The object of a document. What is wrong with it may have been said already, with its field.
    fn typed<K: DeserializeOwned>(&mut self, file: &str, object: &str, document: Value, said: bool) -> Option<K> {
        match serde_json::from_value(document) {
            Ok(typed) => Some(typed),
            Err(_) if said => None,
            Err(error) => {
                self.error(file, object, error.to_string());
                None
            }
        }
    }

    /// True if there was an object of our kinds in the files, whatever was wrong with it.
    #[must_use]
    pub fn any(&self) -> bool {
        self.seen
    }

    /// Everything that is wrong, and what is worth a warning.
    #[must_use]
    pub fn check(&self) -> Vec<Finding> {
        let twice = self.twice();
        let webhooks = self.webhooks.iter().flat_map(|(file, webhook)| of_webhook(file, webhook));
        let campaigns = self.campaigns().into_iter().flat_map(|campaign| of_campaign(&campaign));
        self.findings.iter().cloned().chain(twice).chain(webhooks).chain(campaigns).collect()
    }

    /// Objects that are in the files more than once: of those the last would be kept.
    fn twice(&self) -> Vec<Finding> {
        let webhooks = self.webhooks.iter().map(|(file, w)| (file, "Webhook", w.namespace(), w.name_any()));
        let campaigns = self.campaigns.iter().map(|(file, c)| (file, "Campaign", c.namespace(), c.name_any()));
        let mut seen = std::collections::HashSet::new();
        let again = webhooks
            .chain(campaigns)
            .filter(|(_, kind, namespace, name)| !seen.insert((*kind, namespace.clone(), name.clone())));
        let message = "is in the files more than once: remove all but one".to_owned();
        again
            .map(|(file, kind, _, name)| {
                Finding::new(file, &format!("{kind}/{name}"), message.clone(), Severity::Error)
            })
            .collect()
    }

    fn error(&mut self, file: &str, object: &str, message: String) {
        self.findings.push(Finding::new(file, object, message, Severity::Error));
    }
}

fn checked<'a>(
    file: &'a str,
    campaign: &'a Campaign,
    webhooks: &BTreeMap<String, KnownWebhook>,
) -> CheckedCampaign<'a> {
    let compiled = campaign::compile(&campaign.spec);
    CheckedCampaign { file, campaign, validated: campaign::run(&campaign.spec, &compiled, webhooks) }
}

/// Webhooks that a Campaign names and that are not known, as they would have to be.
fn absent_webhooks(spec: &CampaignSpec, known: &BTreeMap<String, KnownWebhook>) -> BTreeMap<String, KnownWebhook> {
    let mut absent: BTreeMap<String, KnownWebhook> = BTreeMap::new();
    let sends = spec.rules.iter().flat_map(|rule| &rule.effects).filter_map(|effect| effect.send_webhook.as_ref());
    for send in sends.filter(|send| !known.contains_key(&send.webhook_ref.name)) {
        let parameter = |name: &String| Parameter { name: name.clone(), type_: ParameterType::String };
        let parameters = send.parameters.keys().map(parameter).collect();
        let webhook = KnownWebhook { parameters, max_batch: 1, problem: None };
        absent.entry(send.webhook_ref.name.clone()).or_insert(webhook);
    }
    absent
}

impl Finding {
    pub(crate) fn new(file: &str, object: &str, message: String, severity: Severity) -> Self {
        Self { file: file.to_owned(), object: object.to_owned(), message, severity }
    }
}

fn of_webhook(file: &str, webhook: &Webhook) -> Vec<Finding> {
    let object = format!("Webhook/{}", webhook.name_any());
    let found = |message: String, severity| Finding::new(file, &object, message, severity);
    match Templates::parse(&webhook.spec) {
        Err(errors) => errors.iter().map(|error| found(error.to_string(), Severity::Error)).collect(),
        Ok(templates) => {
            let unused = |name: &str| format!("spec.parameters[{name}]: nothing uses this parameter");
            templates.unused().into_iter().map(|name| found(unused(name), Severity::Warning)).collect()
        }
    }
}

fn of_campaign(checked: &CheckedCampaign<'_>) -> Vec<Finding> {
    let object = format!("Campaign/{}", checked.campaign.name_any());
    let found = |problem: &Problem| {
        // The Webhook may be in the cluster and not in these files.
        let outside = problem.reason == reason::WEBHOOK_NOT_FOUND;
        let severity = if outside { Severity::Warning } else { Severity::Error };
        Finding::new(checked.file, &object, problem.message.clone(), severity)
    };
    checked.validated.problems.iter().map(found).collect()
}

/// What the reader of YAML says in one line, without its advice to programmers.
fn first_line(error: &str) -> String {
    let line = error.lines().next().unwrap_or_default();
    let line = line.strip_prefix("error: ").unwrap_or(line);
    line.split(", set DuplicateKeyPolicy").next().unwrap_or(line).to_owned()
}

/// Manifests are the user's own files: a campaign of a thousand profiles is not refused for its size.
fn yaml_options() -> serde_saphyr::Options {
    let mut options = serde_saphyr::Options::default();
    options.budget = None;
    options
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
            [
                "Error Webhook/w spec.header: no such field: did you mean headers?",
                "Error Webhook/w spec.parameters[0].x: no such field: there are name, type"
            ]
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
