//! Whether a Webhook can make requests. Pure: the spec and the values it names in, templates and
//! headers out.

use std::collections::BTreeMap;

use crate::api::conditions::reason;
use crate::api::webhook::{Header, WebhookSpec};
use crate::delivery::endpoint::{ResolvedHeader, SpecError, Templates};
use crate::delivery::secret::Redacted;

/// A key of a Secret or ConfigMap in the Webhook's namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reference {
    Secret { name: String, key: String },
    ConfigMap { name: String, key: String },
}

impl Reference {
    /// What a header's value comes from; none for one that is written in the spec.
    #[must_use]
    pub fn of(header: &Header) -> Option<Self> {
        let source = header.value_from.as_ref()?;
        let secret = source.secret_key_ref.as_ref().map(|r| Self::Secret { name: r.name.clone(), key: r.key.clone() });
        secret.or_else(|| {
            let reference = source.config_map_key_ref.as_ref()?;
            Some(Self::ConfigMap { name: reference.name.clone(), key: reference.key.clone() })
        })
    }

    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Secret { key, .. } | Self::ConfigMap { key, .. } => key,
        }
    }
}

/// What was found for a reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundValue {
    Value(Redacted<String>),
    NoObject,
    NoKey,
}

/// A Webhook that can make requests.
#[derive(Clone, Debug)]
pub struct Validated {
    pub templates: Templates,
    pub resolved: Vec<ResolvedHeader>,
}

/// Why a Webhook can make no requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// Its spec must be changed.
    Spec(Vec<SpecError>),
    /// Something it names is missing or unusable, and may come.
    Reference { reason: &'static str, message: String },
}

/// Whether a Webhook can make requests.
///
/// # Errors
/// Why it cannot, with what to do.
pub fn run(spec: &WebhookSpec, values: &BTreeMap<Reference, FoundValue>) -> Result<Validated, Invalid> {
    let templates = Templates::parse(spec).map_err(Invalid::Spec)?;
    let resolved = resolved("spec", &spec.headers, values)?;
    Ok(Validated { templates, resolved })
}

/// The headers whose values come from Secrets and ConfigMaps; `place` has them as `headers`.
///
/// # Errors
/// What is missing or unusable.
pub fn resolved(
    place: &str,
    headers: &[Header],
    values: &BTreeMap<Reference, FoundValue>,
) -> Result<Vec<ResolvedHeader>, Invalid> {
    let mut resolved = Vec::new();
    for (i, header) in headers.iter().enumerate() {
        if let Some(reference) = Reference::of(header) {
            let found = values.get(&reference).unwrap_or(&FoundValue::NoObject);
            resolved.push(resolve(&format!("{place}.headers[{i}]"), header, &reference, found)?);
        }
    }
    Ok(resolved)
}

fn resolve(place: &str, header: &Header, reference: &Reference, found: &FoundValue) -> Result<ResolvedHeader, Invalid> {
    let (kind, name, key, no_object, no_key) = match reference {
        Reference::Secret { name, key } => {
            ("Secret", name, key, reason::SECRET_NOT_FOUND, reason::SECRET_KEY_NOT_FOUND)
        }
        Reference::ConfigMap { name, key } => {
            ("ConfigMap", name, key, reason::CONFIG_MAP_NOT_FOUND, reason::CONFIG_MAP_KEY_NOT_FOUND)
        }
    };
    let field = format!("{place}.valueFrom ({})", header.name);
    let refuse = |reason, what: String| Err(Invalid::Reference { reason, message: format!("{field}: {what}") });
    match found {
        FoundValue::NoObject => {
            refuse(no_object, format!("{kind} {name} does not exist in this namespace: create it with the key {key}"))
        }
        FoundValue::NoKey => {
            refuse(no_key, format!("{kind} {name} has no key {key}: add it, or correct the key's name here"))
        }
        FoundValue::Value(value) => match ResolvedHeader::new(&header.name, value.reveal()) {
            Some(header) => Ok(header),
            None => refuse(
                reason::HEADER_VALUE_INVALID,
                format!(
                    "key {key} of {kind} {name} is empty or holds characters that a header cannot carry: correct it"
                ),
            ),
        },
    }
}

/// The messages of all spec errors, as one.
#[must_use]
pub fn joined(errors: &[SpecError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
