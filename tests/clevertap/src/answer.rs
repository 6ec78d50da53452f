//! Answers, written as CleverTap writes them: with spaces.

use serde_json::Value;

use crate::records::Refusal;

/// An answer: status and body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub body: String,
    pub headers: Vec<(&'static str, String)>,
    pub content_type: &'static str,
}

impl Answer {
    pub fn new(status: u16, body: impl Into<String>) -> Self {
        Self { status, body: body.into(), headers: Vec::new(), content_type: "application/json;charset=utf-8" }
    }

    /// An error of the whole request. The envelope of 429 is known from third parties only.
    pub fn error(status: u16, error: &str) -> Self {
        Self::failed(status, error, i64::from(status))
    }

    /// An error with a code of its own.
    pub fn failed(status: u16, error: &str, code: i64) -> Self {
        let fields = [("status", text("fail")), ("error", text(error)), ("code", code.to_string())];
        Self::new(status, object(&fields))
    }

    /// What became of the records: HTTP 200 even when all failed (CleverTap's documentation).
    pub fn uploaded(total: usize, refused: &[(usize, Refusal, Value)]) -> Self {
        let processed = total - refused.len();
        let status = match (refused.len(), processed) {
            (0, _) => "success",
            (_, 0) => "fail",
            _ => "partial",
        };
        let unprocessed: Vec<String> = refused.iter().map(unprocessed).collect();
        let fields = [
            ("status", text(status)),
            ("processed", processed.to_string()),
            ("unprocessed", format!("[ {}]", unprocessed.join(" , "))),
        ];
        Self::new(200, object(&fields))
    }
}

fn unprocessed((number, refusal, record): &(usize, Refusal, Value)) -> String {
    let error = format!("{}. Skipped record number : {number}", refusal.message);
    let code = refusal.code.to_string();
    object(&[("status", text("fail")), ("code", code), ("error", text(&error)), ("record", spaced(&echoed(record)))])
}

fn text(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

/// An object with its fields in this order.
fn object(fields: &[(&str, String)]) -> String {
    let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{} : {value}", text(name))).collect();
    format!("{{ {}}}", fields.join(" , "))
}

/// The echo of a record has small changes: a phone number comes back as a number (CleverTap's samples).
fn echoed(record: &Value) -> Value {
    let mut echo = record.clone();
    if let Some(phone) = echo.pointer_mut("/profileData/Phone")
        && let Some(number) = phone.as_str().and_then(|p| p.trim_start_matches('+').parse::<i64>().ok())
    {
        *phone = number.into();
    }
    echo
}

/// `{ "status" : "success" , "processed" : 1 , "unprocessed" : [ ]}`, as in CleverTap's samples.
pub fn spaced(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            object(&fields.iter().map(|(name, value)| (name.as_str(), spaced(value))).collect::<Vec<_>>())
        }
        Value::Array(items) => format!("[ {}]", items.iter().map(spaced).collect::<Vec<_>>().join(" , ")),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_spaced_as_clevertaps_samples_are() {
        assert_eq!(Answer::uploaded(1, &[]).body, r#"{ "status" : "success" , "processed" : 1 , "unprocessed" : [ ]}"#);
        assert_eq!(
            Answer::error(401, "Account ID is not valid").body,
            r#"{ "status" : "fail" , "error" : "Account ID is not valid" , "code" : 401}"#
        );
    }
}
