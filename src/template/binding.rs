//! A binding: what a Campaign writes for a webhook's parameter, such as `${$Profile.IntegrationId}`.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::pieces::{self, Piece, Placeholder};
use super::value::{ParameterValue, TypeMismatch, plain_text};
use super::{Problem, TemplateError};
use crate::api::webhook::ParameterType;

/// What may stand in a binding, for error messages.
pub(super) const KNOWN: &str = "Profile.IntegrationId, Profile.Attributes.<name>, Coupon.Code, Coupon.ExpiryTime, Coupon.RedemptionLimit, Coupon.IssuedAt, Campaign.Name, Campaign.Attributes.<name>, Rule.Name, Occurrence.Key";

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    ProfileIntegrationId,
    ProfileAttribute(String),
    CouponCode,
    CouponExpiryTime,
    CouponRedemptionLimit,
    CouponIssuedAt,
    CampaignName,
    CampaignAttribute(String),
    RuleName,
    OccurrenceKey,
}

impl Source {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "Profile.IntegrationId" => Self::ProfileIntegrationId,
            "Coupon.Code" => Self::CouponCode,
            "Coupon.ExpiryTime" => Self::CouponExpiryTime,
            "Coupon.RedemptionLimit" => Self::CouponRedemptionLimit,
            "Coupon.IssuedAt" => Self::CouponIssuedAt,
            "Campaign.Name" => Self::CampaignName,
            "Rule.Name" => Self::RuleName,
            "Occurrence.Key" => Self::OccurrenceKey,
            other => return Self::parse_attribute(other),
        })
    }

    fn parse_attribute(name: &str) -> Option<Self> {
        if let Some(attribute) = name.strip_prefix("Profile.Attributes.") {
            return Some(Self::ProfileAttribute(attribute.to_owned()));
        }
        name.strip_prefix("Campaign.Attributes.").map(|attribute| Self::CampaignAttribute(attribute.to_owned()))
    }
}

/// A value found for a source.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    Json(Value),
    Time(DateTime<Utc>),
}

impl Found {
    fn typed(&self, type_: ParameterType) -> Result<ParameterValue, TypeMismatch> {
        match self {
            Self::Json(value) => ParameterValue::from_json(type_, value),
            Self::Time(time) => ParameterValue::from_time(type_, *time),
        }
    }

    fn text(&self) -> Option<String> {
        match self {
            Self::Json(value) => plain_text(value),
            Self::Time(time) => ParameterValue::from_time(ParameterType::String, *time).ok().map(|v| v.to_text()),
        }
    }
}

/// A recipient for whom a binding has no value: that recipient's error, nobody else's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindingError {
    #[error("{0} is missing: give the recipient a value, or the binding a default, as in ${{${0} | \"there\"}}")]
    Missing(String),
    #[error("{0} is a list or an object and cannot stand inside text")]
    NotText(String),
    #[error(transparent)]
    Type(#[from] TypeMismatch),
}

/// A parsed binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Value { source: Source, name: String, default: Option<String> },
}

impl Binding {
    /// Parses a binding.
    ///
    /// # Errors
    /// With line and column, if a placeholder is malformed or names nothing that is known.
    pub fn parse(source: &str) -> Result<Self, TemplateError> {
        let parts = pieces::split(source)?
            .into_iter()
            .map(|piece| match piece {
                Piece::Text(text) => Ok(Part::Text(text.text)),
                Piece::Placeholder(placeholder) => Part::parse(placeholder),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { parts })
    }

    /// The value for a recipient. A binding that is one placeholder keeps the type of what it finds;
    /// one with more around it is text.
    ///
    /// # Errors
    /// If something is missing and has no default, or is not of the parameter's type.
    pub fn evaluate(
        &self,
        type_: ParameterType,
        lookup: &impl Fn(&Source) -> Option<Found>,
    ) -> Result<ParameterValue, BindingError> {
        if let [Part::Value { source, name, default }] = self.parts.as_slice() {
            return match (lookup(source), default) {
                (Some(found), _) => Ok(found.typed(type_)?),
                (None, Some(default)) => Ok(ParameterValue::from_text(type_, default)?),
                (None, None) => Err(BindingError::Missing(name.clone())),
            };
        }
        let text = self.parts.iter().map(|part| part.text(lookup)).collect::<Result<String, _>>()?;
        Ok(ParameterValue::from_text(type_, &text)?)
    }

    /// A check before anybody is known: plain text that can never be of the type.
    ///
    /// # Errors
    /// If no recipient could have a value of this type.
    pub fn check(&self, type_: ParameterType) -> Result<(), TypeMismatch> {
        for part in &self.parts {
            if let Part::Value { default: Some(default), .. } = part
                && self.parts.len() == 1
            {
                ParameterValue::from_text(type_, default)?;
            }
        }
        let plain: Option<String> = self
            .parts
            .iter()
            .map(|part| if let Part::Text(text) = part { Some(text.as_str()) } else { None })
            .collect();
        plain.map_or(Ok(()), |text| ParameterValue::from_text(type_, &text).map(drop))
    }
}

impl Part {
    fn parse(placeholder: Placeholder) -> Result<Self, TemplateError> {
        match Source::parse(&placeholder.name) {
            Some(source) => Ok(Self::Value { source, name: placeholder.name, default: placeholder.default }),
            None => Err(placeholder.error(Problem::UnknownSource(placeholder.name.clone()))),
        }
    }

    fn text(&self, lookup: &impl Fn(&Source) -> Option<Found>) -> Result<String, BindingError> {
        match self {
            Self::Text(text) => Ok(text.clone()),
            Self::Value { source, name, default } => match (lookup(source), default) {
                (Some(found), _) => found.text().ok_or_else(|| BindingError::NotText(name.clone())),
                (None, Some(default)) => Ok(default.clone()),
                (None, None) => Err(BindingError::Missing(name.clone())),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[allow(clippy::unnecessary_wraps)]
    fn lookup(source: &Source) -> Option<Found> {
        match source {
            Source::ProfileIntegrationId => Some(Found::Json(json!("customer-1"))),
            Source::ProfileAttribute(name) if name == "age" => Some(Found::Json(json!(42))),
            Source::ProfileAttribute(name) if name == "tags" => Some(Found::Json(json!(["a", 1]))),
            Source::CouponIssuedAt => DateTime::from_timestamp(1_672_527_600, 0).map(Found::Time),
            _ => None,
        }
    }

    fn value(source: &str, type_: ParameterType) -> Result<Value, BindingError> {
        Binding::parse(source).unwrap().evaluate(type_, &lookup).map(|v| v.to_json())
    }

    #[test]
    fn one_placeholder_keeps_its_type_and_more_is_text() {
        assert_eq!(value("${$Profile.Attributes.age}", ParameterType::Number), Ok(json!(42)));
        assert_eq!(value("${$Profile.Attributes.age}", ParameterType::String), Ok(json!("42")));
        assert_eq!(value("${$Profile.Attributes.tags}", ParameterType::StringList), Ok(json!(["a", "1"])));
        assert_eq!(value("Id ${$Profile.IntegrationId}!", ParameterType::String), Ok(json!("Id customer-1!")));
        assert_eq!(value("1${$Profile.Attributes.age}", ParameterType::Number), Ok(json!(142)));
        assert_eq!(value("${$Coupon.IssuedAt}", ParameterType::Number), Ok(json!(1_672_527_600)));
        assert_eq!(value("${$Coupon.IssuedAt}", ParameterType::Time), Ok(json!("2022-12-31T23:00:00Z")));
        assert_eq!(value("plain", ParameterType::String), Ok(json!("plain")));
    }

    #[test]
    fn a_missing_attribute_is_an_error_unless_there_is_a_default() {
        assert!(matches!(value("${$Profile.Attributes.name}", ParameterType::String), Err(BindingError::Missing(_))));
        assert_eq!(value("Hi ${$Profile.Attributes.name | \"there\"}", ParameterType::String), Ok(json!("Hi there")));
        assert_eq!(value("${$Profile.Attributes.name | \"7\"}", ParameterType::Number), Ok(json!(7)));
    }

    #[test]
    fn a_value_of_another_type_is_an_error() {
        for (source, type_) in [
            ("${$Profile.IntegrationId}", ParameterType::Number),
            ("${$Profile.Attributes.tags}", ParameterType::String),
            ("${$Profile.Attributes.tags}", ParameterType::NumberList),
            ("x ${$Profile.Attributes.tags}", ParameterType::String),
            ("${$Coupon.IssuedAt}", ParameterType::Boolean),
            ("${$Profile.Attributes.age}", ParameterType::Time),
        ] {
            assert!(value(source, type_).is_err(), "{source}");
        }
    }

    #[test]
    fn what_can_never_be_of_the_type_is_found_before_anybody_is_known() {
        let check = |source, type_| Binding::parse(source).unwrap().check(type_);
        assert!(check("many", ParameterType::Number).is_err());
        assert!(check("${$Profile.Attributes.age | \"many\"}", ParameterType::Number).is_err());
        assert!(check("${$Profile.Attributes.age}", ParameterType::Number).is_ok());
        assert!(check("12", ParameterType::Number).is_ok());
    }

    #[test]
    fn an_unknown_source_is_named_with_those_that_are_known() {
        let error = Binding::parse("Hello ${$Profile.Name}").unwrap_err().to_string();
        assert!(
            error.starts_with("line 1, column 7: Profile.Name is not known: write one of Profile.IntegrationId"),
            "{error}"
        );
    }
}
