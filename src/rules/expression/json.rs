//! JSON as CEL has it.

use std::collections::HashMap;

use cel::common::types::{CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelUInt};
use cel::common::value::Val;
use serde_json::Value;

use super::spend;

/// The name of a field.
#[must_use]
pub fn key(name: &str) -> CelMapKey<'_> {
    CelMapKey::String(CelString::from(name))
}

/// An object of JSON as CEL has it.
#[must_use]
pub fn object<'b, 'k: 'b>(entries: impl IntoIterator<Item = (&'k String, &'b Value)>) -> Box<dyn Val + 'b> {
    let entries: HashMap<CelMapKey<'b>, Box<dyn Val + 'b>> =
        entries.into_iter().map(|(name, value)| (key(name), value_of(value))).collect();
    // A map costs many times what a value does.
    spend(entries.len().saturating_mul(4).saturating_add(4));
    Box::new(CelMap::from(entries))
}

/// A value of JSON as CEL has it. Texts are borrowed.
#[must_use]
pub fn value_of(value: &Value) -> Box<dyn Val + '_> {
    spend(1);
    match value {
        Value::Null => Box::new(CelNull),
        Value::Bool(value) => Box::new(CelBool::from(*value)),
        Value::String(text) => Box::new(CelString::from(text.as_str())),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Box::new(CelInt::from(number)),
            (None, Some(number)) => Box::new(CelUInt::from(number)),
            (None, None) => Box::new(CelDouble::from(number.as_f64().unwrap_or(f64::NAN))),
        },
        Value::Array(items) => Box::new(CelList::from(items.iter().map(value_of).collect::<Vec<_>>())),
        Value::Object(entries) => object(entries),
    }
}

/// How large an object's fields are, in bytes, roughly as JSON has them.
#[must_use]
pub fn weight_of<'a>(attributes: impl IntoIterator<Item = (&'a String, &'a Value)>) -> usize {
    attributes.into_iter().map(|(name, value)| name.len().saturating_add(weight(value))).fold(0, usize::saturating_add)
}

/// How large a value is, in bytes, roughly as JSON has it.
#[must_use]
pub fn weight(value: &Value) -> usize {
    let inner = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(weight).fold(0, usize::saturating_add),
        Value::Object(entries) => weight_of(entries),
    };
    inner.saturating_add(8)
}
