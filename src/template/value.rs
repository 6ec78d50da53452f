//! The typed value of a parameter.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Number, Value};

use crate::api::webhook::ParameterType;

/// The value of a parameter.
#[derive(Clone, Debug, PartialEq)]
pub enum ParameterValue {
    String(String),
    Boolean(bool),
    Number(Number),
    /// RFC 3339, as it was written.
    Time(String),
    StringList(Vec<String>),
    NumberList(Vec<Number>),
}

/// A value that is not of the parameter's type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} is wanted, and this is {found}", described(*.wanted))]
pub struct TypeMismatch {
    pub wanted: ParameterType,
    pub found: &'static str,
}

fn described(type_: ParameterType) -> &'static str {
    match type_ {
        ParameterType::String => "a String",
        ParameterType::Boolean => "a Boolean (true or false)",
        ParameterType::Number => "a Number",
        ParameterType::Time => "a Time (RFC 3339, such as 2023-01-01T09:00:00Z)",
        ParameterType::StringList => "a list of strings",
        ParameterType::NumberList => "a list of numbers",
    }
}

impl ParameterValue {
    /// From a JSON value, such as a profile's attribute. Text that reads as a number or as true or
    /// false will do for those types, since a CSV knows only text.
    ///
    /// # Errors
    /// If it is not of the type.
    pub fn from_json(type_: ParameterType, value: &Value) -> Result<Self, TypeMismatch> {
        let mismatch = || TypeMismatch { wanted: type_, found: kind(value) };
        match (type_, value) {
            (ParameterType::StringList, Value::Array(items)) => {
                items.iter().map(|v| plain_text(v).ok_or_else(mismatch)).collect::<Result<_, _>>().map(Self::StringList)
            }
            (ParameterType::NumberList, Value::Array(items)) => {
                items.iter().map(|v| number(v).ok_or_else(mismatch)).collect::<Result<_, _>>().map(Self::NumberList)
            }
            (ParameterType::Boolean, Value::Bool(b)) => Ok(Self::Boolean(*b)),
            (ParameterType::Number, Value::Number(n)) => Ok(Self::Number(n.clone())),
            (ParameterType::String, _) => plain_text(value).map(Self::String).ok_or_else(mismatch),
            (_, Value::String(text)) => Self::from_text(type_, text),
            _ => Err(mismatch()),
        }
    }

    /// From text: a template that is more than one placeholder, a default, a cell.
    ///
    /// # Errors
    /// If it is not of the type.
    pub fn from_text(type_: ParameterType, text: &str) -> Result<Self, TypeMismatch> {
        let mismatch = || TypeMismatch { wanted: type_, found: "other text" };
        match type_ {
            ParameterType::String => Ok(Self::String(text.to_owned())),
            ParameterType::Boolean => text.trim().parse().map(Self::Boolean).map_err(|_| mismatch()),
            ParameterType::Number => text.trim().parse().map(Self::Number).map_err(|_| mismatch()),
            ParameterType::Time => {
                DateTime::parse_from_rfc3339(text).map(|_| Self::Time(text.to_owned())).map_err(|_| mismatch())
            }
            ParameterType::StringList | ParameterType::NumberList => match serde_json::from_str(text) {
                Ok(list @ Value::Array(_)) => Self::from_json(type_, &list),
                _ => Err(mismatch()),
            },
        }
    }

    /// From an instant: epoch seconds for a Number, RFC 3339 otherwise.
    ///
    /// # Errors
    /// If the type can hold no instant.
    pub fn from_time(type_: ParameterType, time: DateTime<Utc>) -> Result<Self, TypeMismatch> {
        let text = time.to_rfc3339_opts(SecondsFormat::Secs, true);
        match type_ {
            ParameterType::Number => Ok(Self::Number(time.timestamp().into())),
            ParameterType::String => Ok(Self::String(text)),
            ParameterType::Time => Ok(Self::Time(text)),
            _ => Err(TypeMismatch { wanted: type_, found: "an instant" }),
        }
    }

    /// The value as a Coupon keeps it: text for a String or a Time, else JSON. A frozen format.
    #[must_use]
    pub fn to_cell(&self) -> String {
        match self {
            Self::String(text) | Self::Time(text) => text.clone(),
            other => other.to_json().to_string(),
        }
    }

    /// Reads what [`Self::to_cell`] wrote.
    ///
    /// # Errors
    /// If the cell is not of the type, as when the Webhook's parameter changed its type since.
    pub fn from_cell(type_: ParameterType, cell: &str) -> Result<Self, TypeMismatch> {
        Self::from_text(type_, cell)
    }

    /// The value as JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match self {
            Self::String(text) | Self::Time(text) => Value::String(text.clone()),
            Self::Boolean(b) => Value::Bool(*b),
            Self::Number(n) => Value::Number(n.clone()),
            Self::StringList(items) => items.iter().map(|s| Value::String(s.clone())).collect(),
            Self::NumberList(items) => items.iter().map(|n| Value::Number(n.clone())).collect(),
        }
    }

    /// The value as text, for a place inside a string, a url or a header.
    #[must_use]
    pub fn to_text(&self) -> String {
        self.to_cell()
    }
}

/// A scalar as text; none for null, lists and objects.
pub(super) fn plain_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(n) => Some(n.to_string()),
        Value::Bool(b) => Some(b.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn number(value: &Value) -> Option<Number> {
    match value {
        Value::Number(n) => Some(n.clone()),
        _ => None,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list of other things",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number() -> impl Strategy<Value = Number> {
        prop_oneof![any::<i64>().prop_map(Number::from), any::<f64>().prop_filter_map("finite", Number::from_f64)]
    }

    fn any_value() -> impl Strategy<Value = (ParameterType, ParameterValue)> {
        prop_oneof![
            "(?s).*".prop_map(|text| (ParameterType::String, ParameterValue::String(text))),
            any::<bool>().prop_map(|b| (ParameterType::Boolean, ParameterValue::Boolean(b))),
            number().prop_map(|n| (ParameterType::Number, ParameterValue::Number(n))),
            Just((ParameterType::Time, ParameterValue::Time("2023-01-01T09:00:00+01:00".into()))),
            prop::collection::vec("(?s).*", 0..5)
                .prop_map(|l| (ParameterType::StringList, ParameterValue::StringList(l))),
            prop::collection::vec(number(), 0..5)
                .prop_map(|l| (ParameterType::NumberList, ParameterValue::NumberList(l))),
        ]
    }

    proptest! {
        #[test]
        fn i3_a_frozen_value_reads_back_equal((type_, value) in any_value()) {
            prop_assert_eq!(ParameterValue::from_cell(type_, &value.to_cell()), Ok(value));
        }
    }
}
