//! Who is eligible: a rule's CEL expression over a profile, its campaign, and the time.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use cel::common::types::{CelBool, CelMap, CelString, CelTimestamp};
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use chrono::{DateTime, Utc};
use serde_json::Value;

use super::expression::json::{key, object, value_of, weight_of};
use super::expression::{Expression, ExpressionError, HAS_PREFIX, Scope, Verdict};
use crate::api::campaign::Profile;

/// What an expression may name.
const SCOPE: Scope = Scope {
    variables: &[("profile", &["integrationId", "attributes"]), ("campaign", &["name", "attributes"]), ("now", &[])],
    known: "profile.integrationId, profile.attributes.X, campaign.name, campaign.attributes.X or now",
};

/// The most that the attributes of a profile may weigh where an expression looks at them, in bytes.
pub const MOST_ATTRIBUTE_BYTES: usize = 65_536;

/// A rule's condition, compiled.
#[derive(Clone, Debug, PartialEq)]
pub struct Eligibility(Expression);

/// What is the same for everybody in a pass.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    pub campaign: &'a str,
    pub campaign_attributes: &'a BTreeMap<String, Value>,
    /// The instant of the pass.
    pub now: DateTime<Utc>,
}

/// Why somebody is not eligible. What it says names only what the expression names, so that status can
/// count by it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotEligible {
    #[error("eligibility: {0} is false")]
    False(Arc<str>),
    #[error("eligibility: {clause}: {error}")]
    Error { clause: Arc<str>, error: super::expression::EvaluationError },
    #[error("eligibility: the profile's attributes have more than {MOST_ATTRIBUTE_BYTES} bytes")]
    TooLarge,
}

impl Eligibility {
    /// Compiles the condition of a rule.
    ///
    /// # Errors
    /// If it is no expression that is accepted.
    pub fn compile(source: &str) -> Result<Self, ExpressionError> {
        Expression::compile(source, &SCOPE).map(Self)
    }

    /// Whether somebody is eligible.
    ///
    /// # Errors
    /// With the reason, if not. An error of the evaluation is one.
    pub fn check(&self, profile: &Profile, facts: Facts<'_>) -> Result<(), NotEligible> {
        let weight = weight_of(&profile.attributes);
        if weight > MOST_ATTRIBUTE_BYTES {
            return Err(NotEligible::TooLarge);
        }
        let campaign = weight_of(facts.campaign_attributes);
        match self.0.evaluate(&Variables { profile, facts }, weight.saturating_add(campaign)) {
            Verdict::True => Ok(()),
            Verdict::False { clause } => Err(NotEligible::False(clause)),
            Verdict::Error { clause, error } => Err(NotEligible::Error { clause, error }),
        }
    }
}

/// Variables are looked up in the profile where they are named: `profile.attributes.x` is asked for as
/// a whole, so that no map is made of everything.
struct Variables<'a> {
    profile: &'a Profile,
    facts: Facts<'a>,
}

impl VariableResolver for Variables<'_> {
    fn resolve<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        if let Some(asked) = name.strip_prefix(HAS_PREFIX) {
            let (attributes, key) = self.attribute(asked)?;
            return Some(CowVal::owned(CelBool::from(attributes.contains_key(key))));
        }
        if let Some((attributes, key)) = self.attribute(name) {
            // With a dot in it, it is a field of an attribute: the interpreter asks for that next.
            return attributes.get(key).filter(|_| !key.contains('.')).map(|value| CowVal::Owned(value_of(value)));
        }
        Some(match name {
            "now" => CowVal::owned(CelTimestamp::from(self.facts.now.fixed_offset())),
            "profile.integrationId" => CowVal::owned(CelString::from(self.integration_id())),
            "profile.attributes" => CowVal::Owned(object(&self.profile.attributes)),
            "campaign.name" => CowVal::owned(CelString::from(self.facts.campaign)),
            "campaign.attributes" => CowVal::Owned(object(self.facts.campaign_attributes)),
            "profile" => both(("integrationId", self.integration_id()), &self.profile.attributes),
            "campaign" => both(("name", self.facts.campaign), self.facts.campaign_attributes),
            _ => return None,
        })
    }
}

impl Variables<'_> {
    fn integration_id(&self) -> &str {
        self.profile.integration_id.trim()
    }

    fn attribute<'n>(&self, name: &'n str) -> Option<(&BTreeMap<String, Value>, &'n str)> {
        let of_profile = name.strip_prefix("profile.attributes.").map(|key| (&self.profile.attributes, key));
        of_profile
            .or_else(|| name.strip_prefix("campaign.attributes.").map(|key| (self.facts.campaign_attributes, key)))
    }
}

fn both<'b>((name, value): (&'b str, &'b str), attributes: &'b BTreeMap<String, Value>) -> CowVal<'b, 'b> {
    let value: Box<dyn Val + 'b> = Box::new(CelString::from(value));
    let entries = [(key(name), value), (key("attributes"), object(attributes))];
    CowVal::owned(CelMap::from(HashMap::from(entries)))
}

#[cfg(test)]
mod tests;
