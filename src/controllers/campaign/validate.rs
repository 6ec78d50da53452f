//! Whether a Campaign can act. Pure: its spec and the Webhooks that exist in, prepared rules out.

use std::collections::BTreeMap;

use std::sync::Arc;

use crate::api::campaign::{Audience, CampaignRule, CampaignSpec, CreateCoupon, SendWebhook};
use crate::api::conditions::reason;
use crate::api::webhook::Parameter;
use crate::audience;
use crate::issuing::codes::CodeFormat;
use crate::issuing::draft::{PreparedDelivery, PreparedEffects};
use crate::rules::eligibility::Eligibility;
use crate::rules::occurrence::Timing;
use crate::template::binding::Binding;

/// A Webhook that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownWebhook {
    pub parameters: Vec<Parameter>,
    /// The most records of a request.
    pub max_batch: u32,
    /// Why it is not ready, if so.
    pub problem: Option<String>,
}

/// What takes long to make of a rule: once for each revision of it.
#[derive(Clone, Debug, PartialEq)]
pub struct CompiledRule {
    pub timing: Result<Arc<Timing>, Problem>,
    pub eligibility: Result<Option<Eligibility>, Problem>,
}

/// A rule that can act.
#[derive(Clone, Debug, PartialEq)]
pub struct PreparedRule {
    pub name: String,
    pub timing: Arc<Timing>,
    pub eligibility: Option<Eligibility>,
    pub format: CodeFormat,
    pub effects: Arc<PreparedEffects>,
    /// How many records a Coupon holds.
    pub batch: u32,
    /// A Webhook of it that is not ready; its Coupons are issued and wait.
    pub webhook_problem: Option<String>,
}

/// Why a rule, and with it the Campaign, is not ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub reason: &'static str,
    /// True if only a change of the Campaign helps.
    pub stalled: bool,
    pub message: String,
}

/// What can act, and what cannot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Validated {
    pub rules: Vec<PreparedRule>,
    pub problems: Vec<Problem>,
    /// When each rule is open, by its name, also of those that cannot act.
    pub timings: Vec<(String, Arc<Timing>)>,
}

/// Compiles the rules of a Campaign.
#[must_use]
pub fn compile(spec: &CampaignSpec) -> Vec<CompiledRule> {
    let eligibility = |rule: &CampaignRule| {
        let compiled = rule.eligibility.as_deref().map(Eligibility::compile).transpose();
        compiled.map_err(|error| invalid(format!("spec.rules[{}].eligibility: {error}", rule.name)))
    };
    let timing = |rule| Timing::of(spec, rule).map(Arc::new).map_err(|error| invalid(error.to_string()));
    spec.rules.iter().map(|rule| CompiledRule { timing: timing(rule), eligibility: eligibility(rule) }).collect()
}

/// Which rules of a Campaign can act. A rule with a problem keeps no other from acting.
#[must_use]
pub fn run(spec: &CampaignSpec, compiled: &[CompiledRule], webhooks: &BTreeMap<String, KnownWebhook>) -> Validated {
    let mut validated = Validated::default();
    let mut names = std::collections::HashSet::new();
    for rule in spec.rules.iter().filter(|rule| !names.insert(&rule.name)) {
        validated.problems.push(invalid(format!("spec.rules[{}]: two rules have this name", rule.name)));
    }
    let Audience { profiles, config_map_ref, http, exclude_config_map_ref: _ } = &spec.audience;
    if [profiles.is_some(), config_map_ref.is_some(), http.is_some()].into_iter().filter(|written| *written).count()
        != 1
    {
        validated.problems.push(invalid("spec.audience: write one source: profiles, configMapRef or http".to_owned()));
    }
    validated.problems.extend(http.iter().flat_map(audience::http::problems).map(|error| invalid(error.to_string())));
    for (rule, compiled) in spec.rules.iter().zip(compiled) {
        if let Ok(timing) = &compiled.timing {
            validated.timings.push((rule.name.clone(), timing.clone()));
        }
        match prepare(rule, compiled, webhooks) {
            Ok(rule) => validated.rules.push(rule),
            Err(problems) => validated.problems.extend(problems),
        }
    }
    validated
}

fn prepare(
    rule: &CampaignRule,
    compiled: &CompiledRule,
    webhooks: &BTreeMap<String, KnownWebhook>,
) -> Result<PreparedRule, Vec<Problem>> {
    let mut problems = Vec::new();
    let timing = compiled.timing.clone().map_err(|problem| problems.push(problem)).ok();
    let eligibility = compiled.eligibility.clone().map_err(|problem| problems.push(problem)).ok();
    let create = rule.effects.iter().find_map(|e| e.create_coupon.clone());
    let Some(create) = create else {
        problems.push(invalid(format!("spec.rules[{}].effects: begin with createCoupon", rule.name)));
        return Err(problems);
    };
    if !create.pattern.contains('#') {
        let place = format!("spec.rules[{}].effects[0].createCoupon.pattern", rule.name);
        problems.push(invalid(format!(
            "{place}: {} has no # for a random character: everybody would get the same code",
            create.pattern
        )));
    }
    let attributes = attributes(rule, &create, &mut problems);
    let sends = rule.effects.iter().enumerate().filter_map(|(i, e)| Some((i, e.send_webhook.as_ref()?)));
    let deliveries: Vec<PreparedDelivery> =
        sends.clone().filter_map(|(i, send)| delivery(rule, i, send, webhooks, &mut problems)).collect();
    let batch = chunk_size(sends.clone().filter_map(|(_, send)| Some(webhooks.get(&send.webhook_ref.name)?.max_batch)));
    let webhook_problem = sends
        .filter_map(|(_, send)| Some((&send.webhook_ref.name, webhooks.get(&send.webhook_ref.name)?.problem.as_ref()?)))
        .map(|(name, problem)| format!("Webhook {name} is not ready ({problem})"))
        .next();
    match timing.zip(eligibility) {
        Some((timing, eligibility)) if problems.is_empty() => Ok(PreparedRule {
            name: rule.name.clone(),
            timing,
            eligibility,
            format: CodeFormat::of(&create),
            effects: Arc::new(PreparedEffects { create, attributes, deliveries }),
            batch,
            webhook_problem,
        }),
        _ => Err(problems),
    }
}

/// As many records as the largest request of any Webhook takes, but no more than so many requests of the smallest:
/// each of them writes the Coupon's status twice, and the API server keeps the whole object at each writing.
fn chunk_size(requests: impl Iterator<Item = u32> + Clone) -> u32 {
    const MOST_REQUESTS: u32 = 20;
    let smallest = requests.clone().min().unwrap_or(1).max(1);
    requests.max().unwrap_or(1).min(smallest.saturating_mul(MOST_REQUESTS))
}

fn attributes(rule: &CampaignRule, create: &CreateCoupon, problems: &mut Vec<Problem>) -> Vec<(String, Binding)> {
    let mut parsed = Vec::new();
    for (name, text) in &create.attributes {
        match Binding::parse(text) {
            Ok(binding) => parsed.push((name.clone(), binding)),
            Err(error) => problems.push(invalid(format!(
                "spec.rules[{}].effects[0].createCoupon.attributes[{name}]: {error}",
                rule.name
            ))),
        }
    }
    parsed
}

fn delivery(
    rule: &CampaignRule,
    i: usize,
    send: &SendWebhook,
    webhooks: &BTreeMap<String, KnownWebhook>,
    problems: &mut Vec<Problem>,
) -> Option<PreparedDelivery> {
    let field = format!("spec.rules[{}].effects[{i}].sendWebhook", rule.name);
    let mut bindings = BTreeMap::new();
    for (name, text) in &send.parameters {
        match Binding::parse(text) {
            Ok(binding) => drop(bindings.insert(name.as_str(), binding)),
            Err(error) => problems.push(invalid(format!("{field}.parameters[{name}]: {error}"))),
        }
    }
    let webhook_name = &send.webhook_ref.name;
    let Some(webhook) = webhooks.get(webhook_name) else {
        problems.push(waiting(
            reason::WEBHOOK_NOT_FOUND,
            format!("{field}.webhookRef: Webhook {webhook_name} does not exist in this namespace: create it, or correct the name"),
        ));
        return None;
    };
    let mismatches = mismatches(&field, webhook_name, send, webhook);
    problems.extend(mismatches.into_iter().map(|message| waiting(reason::PARAMETERS_MISMATCH, message)));
    let mut typed = Vec::new();
    for parameter in &webhook.parameters {
        let Some(binding) = bindings.remove(parameter.name.as_str()) else { continue };
        if let Err(error) = binding.check(parameter.type_) {
            problems
                .push(waiting(reason::PARAMETERS_MISMATCH, format!("{field}.parameters[{}]: {error}", parameter.name)));
        }
        typed.push((parameter.name.clone(), parameter.type_, binding));
    }
    Some(PreparedDelivery { name: send.delivery_name().to_owned(), webhook: webhook_name.clone(), bindings: typed })
}

/// Parameters that the Webhook needs and the Campaign does not bind, and the other way round.
fn mismatches(field: &str, webhook_name: &str, send: &SendWebhook, webhook: &KnownWebhook) -> Vec<String> {
    let declared: Vec<&str> = webhook.parameters.iter().map(|p| p.name.as_str()).collect();
    let unbound = declared.iter().filter(|name| !send.parameters.contains_key(**name)).map(|name| {
        format!(
            "{field}.parameters: Webhook {webhook_name} needs {name}: add it, for example {name}: \"${{$Coupon.Code}}\""
        )
    });
    let unknown = send.parameters.keys().filter(|name| !declared.contains(&name.as_str())).map(|name| {
        let known = if declared.is_empty() { "none".to_owned() } else { declared.join(", ") };
        format!("{field}.parameters[{name}]: Webhook {webhook_name} has no such parameter (it has {known}): remove it, or add it to the Webhook")
    });
    unbound.chain(unknown).collect()
}

fn invalid(message: String) -> Problem {
    Problem { reason: reason::INVALID, stalled: true, message }
}

/// A Webhook may come, or change, by itself.
fn waiting(reason: &'static str, message: String) -> Problem {
    Problem { reason, stalled: false, message }
}

#[cfg(test)]
mod tests;
