//! A document against its CRD's schema: unknown fields, types, required fields and bounds, each with the
//! field's path. CEL rules and the length of lists are left to the API server.

use regex::Regex;
use serde_json::Value;

/// What is wrong in a document's spec, one line each.
#[must_use]
pub fn check(kind: &str, document: &Value) -> Vec<String> {
    let crd = crate::api::crds::all().into_iter().find(|crd| crd.spec.names.kind == kind);
    let schema = crd.and_then(|crd| crd.spec.versions.into_iter().next()?.schema?.open_api_v3_schema);
    let Some(schema) = schema.and_then(|schema| serde_json::to_value(schema).ok()) else { return Vec::new() };
    let part = |name: &str| {
        let (schema, value) = (schema.pointer(&format!("/properties/{name}"))?, document.get(name)?);
        Some(
            found_in(schema, value).into_iter().map(|(path, what)| format!("{name}{path}: {what}")).collect::<Vec<_>>(),
        )
    };
    if document.get("spec").is_none() {
        return vec!["spec: is missing".to_owned()];
    }
    part("spec").into_iter().chain(part("status")).flatten().collect()
}

/// Where, seen from a value, and what.
type Found = Vec<(String, String)>;

fn found_in(schema: &Value, value: &Value) -> Found {
    if value.is_null() {
        return Vec::new();
    }
    match (schema.get("type").and_then(Value::as_str), value) {
        (Some("object"), Value::Object(_)) => object(schema, value),
        (Some("array"), Value::Array(items)) => array(schema, items),
        (Some("string"), Value::String(text)) => string(schema, text),
        (Some("integer" | "number"), Value::Number(number)) => numeric(schema, number),
        (Some("boolean"), Value::Bool(_)) | (None, _) => Vec::new(),
        (Some(wanted), found) => here(format!("is {}: {}", kind_of(found), wanted_words(wanted, found))),
    }
}

fn here(what: String) -> Found {
    vec![(String::new(), what)]
}

fn below(step: &str, found: Found) -> Found {
    found.into_iter().map(|(path, what)| (format!("{step}{path}"), what)).collect()
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "empty",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object with fields",
    }
}

fn wanted_words(wanted: &str, found: &Value) -> String {
    match wanted {
        "string" if found.is_number() || found.is_boolean() => format!("write it in quotes, \"{found}\""),
        "string" => "write a text".to_owned(),
        "array" if found.is_string() || found.is_object() => format!("write a list, [{}]", short(found)),
        "array" => "write a list".to_owned(),
        "object" => "write an object with fields".to_owned(),
        "boolean" => "write true or false".to_owned(),
        _ => "write a whole number".to_owned(),
    }
}

fn short(value: &Value) -> String {
    if value.is_object() { "{…}".to_owned() } else { value.to_string().chars().take(40).collect() }
}

fn object(schema: &Value, value: &Value) -> Found {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        // A map: its values are all of one kind.
        let Some(values) = schema.get("additionalProperties").filter(|s| s.is_object()) else { return Vec::new() };
        let fields = value.as_object().into_iter().flatten();
        return fields.flat_map(|(name, value)| below(&format!("[{name}]"), found_in(values, value))).collect();
    };
    let known: Vec<&str> = properties.keys().map(String::as_str).collect();
    let fields = value.as_object().into_iter().flatten();
    let mut found: Found = fields
        .flat_map(|(name, value)| match properties.get(name) {
            Some(schema) if is_leaf_of_right_kind(schema, value) => Vec::new(),
            Some(schema) => below(&format!(".{name}"), found_in(schema, value)),
            None => vec![(format!(".{name}"), unknown(name, &known))],
        })
        .collect();
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let missing = required.filter(|name| value.get(*name).is_none_or(Value::is_null));
    found.extend(missing.map(|name| (format!(".{name}"), "is missing".to_owned())));
    found
}

/// Most values are free text: they are passed over without a path being made for them.
fn is_leaf_of_right_kind(schema: &Value, value: &Value) -> bool {
    let preserved = schema.get("x-kubernetes-preserve-unknown-fields").is_some();
    preserved || (schema.get("properties").is_none() && value.is_boolean() && schema["type"] == "boolean")
}

fn unknown(name: &str, known: &[&str]) -> String {
    let close = |other: &&&str| distance(&name.to_lowercase(), &other.to_lowercase()) <= 2;
    match known.iter().find(close) {
        Some(meant) => format!("no such field: did you mean {meant}?"),
        None => format!("no such field: there are {}", known.join(", ")),
    }
}

/// How many letters differ: insertions, deletions and changes (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut next = vec![i.saturating_add(1)];
        for (j, to) in b.iter().enumerate() {
            let cell = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(usize::MAX);
            let (insert, delete) =
                (cell(&next, j).saturating_add(1), cell(&row, j.saturating_add(1)).saturating_add(1));
            let change = cell(&row, j).saturating_add(usize::from(from != *to));
            next.push(insert.min(delete).min(change));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

fn array(schema: &Value, items: &[Value]) -> Found {
    let least = schema.get("minItems").and_then(Value::as_u64).unwrap_or(0);
    if (items.len() as u64) < least {
        return here(format!("has {} entries: write at least {least}, or leave it out", items.len()));
    }
    let Some(of) = schema.get("items") else { return Vec::new() };
    items.iter().enumerate().flat_map(|(i, item)| in_item(i, found_in(of, item))).collect()
}

/// Nearly all items of a long list are right: a path is made only for those that are not.
fn in_item(i: usize, found: Found) -> Found {
    if found.is_empty() { found } else { below(&format!("[{i}]"), found) }
}

fn string(schema: &Value, text: &str) -> Found {
    let bound = |name: &str| schema.get(name).and_then(Value::as_u64);
    let length = text.chars().count() as u64;
    if let Some(values) = schema.get("enum").and_then(Value::as_array)
        && !values.iter().any(|value| value == text)
    {
        let known: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
        return here(format!("{text} is not known: write {}", known.join(", ")));
    }
    if schema.get("format").is_some_and(|format| format == "date-time")
        && chrono::DateTime::parse_from_rfc3339(text).is_err()
    {
        return here(format!("{text} is no time with an offset: write it like 2023-01-01T09:00:00+01:00"));
    }
    if bound("minLength").is_some_and(|least| length < least) {
        return here("is empty, or too short".to_owned());
    }
    if let Some(most) = bound("maxLength").filter(|most| length > *most) {
        return here(format!("has {length} characters, and {most} are possible"));
    }
    let pattern = schema.get("pattern").and_then(Value::as_str).and_then(|pattern| Regex::new(pattern).ok());
    if pattern.is_some_and(|pattern| !pattern.is_match(text)) {
        return here(format!("{text} is not written as it should be: {}", described(schema)));
    }
    Vec::new()
}

/// The first sentence of a field's description says how it is written.
fn described(schema: &Value) -> String {
    schema.get("description").and_then(Value::as_str).unwrap_or("see kubectl explain").to_owned()
}

fn numeric(schema: &Value, number: &serde_json::Number) -> Found {
    let value = number.as_f64().unwrap_or_default();
    if schema["type"] == "integer" && number.as_i64().is_none() && number.as_u64().is_none() {
        return here(format!("{number} is no whole number"));
    }
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    match (bound("minimum"), bound("maximum")) {
        (Some(least), _) if value < least => here(format!("{number} is too small: write at least {least}")),
        (_, Some(most)) if value > most => here(format!("{number} is too large: write at most {most}")),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(changes: &Value) -> Vec<String> {
        let mut campaign = json!({ "spec": {
            "audience": { "profiles": [{ "integrationId": "a", "attributes": { "x": { "y": [1] } } }] },
            "rules": [{ "name": "r", "schedules": [{ "onDates": ["2023-01-01"] }],
                "effects": [{ "createCoupon": {} }, { "sendWebhook": { "webhookRef": { "name": "w" } } }] }],
        } });
        for (pointer, value) in changes.as_object().unwrap() {
            let (parent, field) = pointer.rsplit_once('/').unwrap();
            campaign.pointer_mut(parent).unwrap()[field] = value.clone();
        }
        check("Campaign", &campaign)
    }

    #[test]
    fn what_is_wrong_is_said_with_its_field() {
        assert!(said(&json!({})).is_empty());
        for (pointer, value, words) in [
            (
                "/spec/startTime",
                json!("2026-12-24T09:00"),
                "spec.startTime: 2026-12-24T09:00 is no time with an offset",
            ),
            ("/spec/timezone", json!("Etc/UTC"), "spec.timezone: no such field: did you mean timeZone?"),
            (
                "/spec/rules/0/schedules/0/monthDays",
                json!("12-24"),
                "spec.rules[0].schedules[0].monthDays: is a text: write a list, [\"12-24\"]",
            ),
            ("/spec/rules/0/schedules/0/onDates", json!([]), "schedules[0].onDates: has 0 entries: write at least 1"),
            (
                "/spec/rules/0/schedules/0/onDates",
                json!(["1.1.2023"]),
                "onDates[0]: 1.1.2023 is not written as it should be",
            ),
            ("/spec/rules/0/schedules/0/timeOfDay", json!("18:00-24:00"), "timeOfDay: is a text: write an object"),
            ("/spec/rules/0/schedules/0/timeOfDay", json!({ "from": "18:00" }), "timeOfDay.to: is missing"),
            (
                "/spec/rules/0/schedules/0/daysOfWeek",
                json!(["Mon"]),
                "daysOfWeek[0]: Mon is not known: write Monday, Tuesday",
            ),
            ("/spec/rules/0/schedules/0/windowSeconds", json!(0), "windowSeconds: 0 is too small: write at least 1"),
            ("/spec/rules/0/schedules/0/windowSeconds", json!("90m"), "windowSeconds: is a text: write a whole number"),
            (
                "/spec/rules/0/schedules/0/anniversaryOf",
                json!({ "attribute": "b", "daysBefore": -3 }),
                "daysBefore: -3 is too small",
            ),
            ("/spec/rules/0/eligibility", json!(true), "eligibility: is true or false: write it in quotes"),
            (
                "/spec/audience/profiles",
                json!([{ "integrationId": 7 }]),
                "spec.audience.profiles[0].integrationId: is a number: write it in quotes, \"7\"",
            ),
            ("/spec/budgets", json!([{ "period": "Day", "max": 1 }]), "spec.budgets[0].max: no such field: there are"),
        ] {
            let found = said(&json!({ pointer: value })).join("\n");
            assert!(found.contains(words), "{pointer}: {found}");
        }
        assert_eq!(check("Campaign", &json!({})), ["spec: is missing"]);
    }
}
