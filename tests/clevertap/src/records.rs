//! What CleverTap refuses in a record, with its codes (its documentation of "Upload Events"). The
//! texts of 512, 522, 523, 524, 526, 528 and 555 are not known: assert on codes.

use serde_json::Value;

use crate::Config;

/// Why a record is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: i64,
    pub message: String,
}

/// An event that was taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Taken {
    pub identity: String,
    pub name: String,
    pub data: Value,
    pub timestamp: Option<i64>,
}

const RESERVED: [&str; 17] = [
    "Notification Sent",
    "Notification Viewed",
    "Notification Clicked",
    "Notification Delivered",
    "Notification Replied",
    "UTM Visited",
    "App Launched",
    "App Uninstalled",
    "App Version Changed",
    "Stayed",
    "Reply Sent",
    "Experiment Rendered",
    "Reachable By",
    "Identity Reset",
    "Identity Set",
    "Identity Error",
    "Web Page Viewed",
];
const PROHIBITED: &str = "%><!|&.:;$'\"\\";
/// Limits of an event's properties (CleverTap's documentation).
const LONGEST_KEY: usize = 120;
const LONGEST_VALUE: usize = 512;

/// Reads a record. None for a profile record, which is taken as it is.
pub fn read(record: &Value, config: &Config) -> Result<Option<Taken>, Refusal> {
    let identity = ["identity", "FBID", "GPID", "objectId"]
        .iter()
        .find_map(|key| record.get(key).map(|value| (*key, value.as_str().unwrap_or_default())));
    match record.get("type").and_then(Value::as_str) {
        Some("event") => {}
        Some("profile") if record.get("profileData").is_some_and(Value::is_object) => return Ok(None),
        _ => return refuse(524, "Record is neither an event nor a profile"),
    }
    let name = event_name(record)?;
    let data = record.get("evtData").filter(|data| data.is_object()).cloned();
    let Some(data) = data else { return refuse(512, "Event structure is invalid") };
    properties(&data, config)?;
    let identity = match identity {
        Some(("objectId", id)) if id.len() != 25 => return refuse(526, "Object ID is invalid"),
        Some((_, id)) if !id.is_empty() => id.to_owned(),
        _ => return refuse(523, "Identity is missing"),
    };
    let timestamp = timestamp(record)?;
    if config.discarded_events.contains(&name) {
        return refuse(528, "Event is discarded");
    }
    Ok(Some(Taken { identity, name, data, timestamp }))
}

fn event_name(record: &Value) -> Result<String, Refusal> {
    let name = record.get("evtName").and_then(Value::as_str).unwrap_or_default();
    if name.is_empty() {
        return refuse(509, "Event Name is incorrect. ErrorCode: 509 - Event name is mandatory");
    }
    if RESERVED.contains(&name) {
        return refuse(513, "Event Name is incorrect. ErrorCode: 513 - Trying to raise a restricted system event");
    }
    if name.chars().any(|c| PROHIBITED.contains(c)) {
        return refuse(512, "Event name holds prohibited characters");
    }
    Ok(name.to_owned())
}

fn properties(data: &Value, config: &Config) -> Result<(), Refusal> {
    let properties = data.as_object().into_iter().flatten();
    if properties.clone().count() > config.most_properties {
        return refuse(522, "Too many properties");
    }
    for (key, value) in properties {
        let long = value.as_str().map_or(0, str::len) > LONGEST_VALUE;
        if key.chars().count() > LONGEST_KEY || key.chars().any(|c| PROHIBITED.contains(c)) || long {
            return refuse(512, "Property is invalid");
        }
    }
    Ok(())
}

/// Epoch seconds; `0` is refused (CleverTap's documentation), and so are milliseconds.
fn timestamp(record: &Value) -> Result<Option<i64>, Refusal> {
    match record.get("ts") {
        None => Ok(None),
        Some(ts) => match ts.as_i64() {
            Some(seconds) if (1..100_000_000_000).contains(&seconds) => Ok(Some(seconds)),
            _ => refuse(525, "Timestamp should be present in the Unix Epoch format"),
        },
    }
}

fn refuse<T>(code: i64, message: &str) -> Result<T, Refusal> {
    Err(Refusal { code, message: message.to_owned() })
}
