//! CleverTap's Upload Events API: what it answers for each record, and what it would refuse.
//!
//! Sources: CleverTap's documentation of "Upload Events" and of its error codes; message texts and
//! the envelope of some errors are known only from third parties' tests.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// The code of a record that failed on CleverTap's side ("server error"): the one per-record code
/// after which the record is sent again.
const SERVER_ERROR: i64 = 555;

/// Characters that event and property names must not hold.
const PROHIBITED: &str = "%><!|&.:;$'\"\\";
const MOST_PROPERTIES: usize = 100;
const LONGEST_KEY: usize = 120;
const LONGEST_VALUE: usize = 512;

const RESERVED_EVENTS: [&str; 17] = [
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

/// What CleverTap said of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordResult {
    Accepted,
    /// Refused for good, with CleverTap's code.
    Rejected {
        code: i64,
        error: String,
    },
    /// Failed on CleverTap's side, surely not stored: it is sent again.
    NotApplied {
        code: i64,
        error: String,
    },
}

/// An answer that does not say what became of the records, though its HTTP status is 2xx.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    #[error("CleverTap's answer is not JSON as documented")]
    NotUnderstood,
    #[error("CleverTap's answer counts other records than were sent")]
    CountsDiffer,
    #[error("CleverTap's answer names failed records that cannot be matched")]
    Unmatched,
}

#[derive(Deserialize)]
struct Answer {
    status: String,
    #[serde(default)]
    processed: i64,
    #[serde(default)]
    unprocessed: Vec<Unprocessed>,
}

#[derive(Deserialize)]
struct Unprocessed {
    code: i64,
    #[serde(default)]
    error: String,
    #[serde(default)]
    record: Value,
}

/// Reads a 2xx answer: one result for each record that was sent, in order.
///
/// # Errors
/// If the answer leaves open what became of a record; then nobody knows.
pub fn read_answer(body: &[u8], sent: &[Value]) -> Result<Vec<RecordResult>, AnswerError> {
    let answer: Answer = serde_json::from_slice(body).map_err(|_| AnswerError::NotUnderstood)?;
    if !matches!(answer.status.as_str(), "success" | "partial" | "fail") {
        return Err(AnswerError::NotUnderstood);
    }
    let mut failures: BTreeMap<usize, Unprocessed> = BTreeMap::new();
    for unprocessed in answer.unprocessed {
        let place = place_of(&unprocessed, sent).ok_or(AnswerError::Unmatched)?;
        if failures.insert(place, unprocessed).is_some() {
            return Err(AnswerError::Unmatched);
        }
    }
    let accepted = sent.len().saturating_sub(failures.len());
    if usize::try_from(answer.processed) != Ok(accepted) {
        return Err(AnswerError::CountsDiffer);
    }
    Ok((0..sent.len()).map(|i| failures.remove(&i).map_or(RecordResult::Accepted, RecordResult::from)).collect())
}

/// Where in what was sent a failed record stands: by its number, else by its echo, else because there
/// is only one.
fn place_of(unprocessed: &Unprocessed, sent: &[Value]) -> Option<usize> {
    let by_number = record_number(&unprocessed.error).map(|number| number.checked_sub(1));
    if let Some(place) = by_number {
        return place.filter(|i| *i < sent.len());
    }
    let mut echoes = sent.iter().enumerate().filter(|(_, record)| **record == unprocessed.record).map(|(i, _)| i);
    match (echoes.next(), echoes.next()) {
        (Some(place), None) => Some(place),
        _ => (sent.len() == 1).then_some(0),
    }
}

/// The number in `… Skipped record number : 2`, from 1.
fn record_number(error: &str) -> Option<usize> {
    const MARK: &str = "skipped record number";
    let lower = error.to_ascii_lowercase();
    let after = lower.get(lower.find(MARK)?.saturating_add(MARK.len())..)?;
    let digits: String = after.trim_start_matches([' ', ':']).chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

impl From<Unprocessed> for RecordResult {
    fn from(unprocessed: Unprocessed) -> Self {
        let Unprocessed { code, error, .. } = unprocessed;
        if code == SERVER_ERROR { Self::NotApplied { code, error } } else { Self::Rejected { code, error } }
    }
}

/// The records of a payload, `{"d": […]}`.
#[must_use]
pub fn records(payload: &Value) -> Option<&[Value]> {
    payload.get("d").and_then(Value::as_array).map(Vec::as_slice)
}

/// The `ts` that a record was given, in epoch seconds.
#[must_use]
pub fn timestamp(record: &Value) -> Option<i64> {
    record.get("ts").and_then(Value::as_i64)
}

/// Something that CleverTap would refuse or drop.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordProblem {
    #[error("the payload must be {{\"d\": [one record]}}, as CleverTap's Upload Events API takes it")]
    NoRecord,
    #[error("d[0].{0} is missing: CleverTap needs it for an event")]
    Missing(&'static str),
    #[error("d[0].type must be \"event\"")]
    NotAnEvent,
    #[error("d[0] needs one of identity, FBID, GPID and objectId to say whom it is about")]
    NoIdentity,
    #[error("d[0].evtName: \"{0}\" is reserved by CleverTap: choose another event name")]
    ReservedEvent(String),
    #[error("{0}: CleverTap prohibits the characters % > < ! | & . : ; $ ' \" \\ in names")]
    ProhibitedCharacter(String),
    #[error("d[0].evtData has {0} properties, and CleverTap takes {MOST_PROPERTIES}")]
    TooManyProperties(usize),
    #[error("d[0].evtData: the name {0} is longer than {LONGEST_KEY} characters")]
    KeyTooLong(String),
    #[error("d[0].evtData.{0} is longer than {LONGEST_VALUE} bytes")]
    ValueTooLong(String),
}

/// Checks a whole payload with one record: the shape, the names and sizes that CleverTap documents.
///
/// # Errors
/// The first thing that CleverTap would refuse.
pub fn check(payload: &Value) -> Result<(), RecordProblem> {
    let Some([record]) = records(payload) else { return Err(RecordProblem::NoRecord) };
    check_record(record)
}

/// Checks a record before it is sent.
///
/// # Errors
/// The first thing that CleverTap would refuse.
pub fn check_record(record: &Value) -> Result<(), RecordProblem> {
    if record.get("type").and_then(Value::as_str) != Some("event") {
        return Err(RecordProblem::NotAnEvent);
    }
    if !["identity", "FBID", "GPID", "objectId"].iter().any(|id| record.get(id).is_some_and(|v| v != "")) {
        return Err(RecordProblem::NoIdentity);
    }
    check_event_name(record)?;
    check_properties(record)
}

fn check_event_name(record: &Value) -> Result<(), RecordProblem> {
    let name = record.get("evtName").and_then(Value::as_str).filter(|name| !name.is_empty());
    let name = name.ok_or(RecordProblem::Missing("evtName"))?;
    if RESERVED_EVENTS.contains(&name) {
        return Err(RecordProblem::ReservedEvent(name.to_owned()));
    }
    check_characters("d[0].evtName", name)
}

fn check_properties(record: &Value) -> Result<(), RecordProblem> {
    let properties = record.get("evtData").and_then(Value::as_object).ok_or(RecordProblem::Missing("evtData"))?;
    if properties.len() > MOST_PROPERTIES {
        return Err(RecordProblem::TooManyProperties(properties.len()));
    }
    for (key, value) in properties {
        check_characters(&format!("d[0].evtData, property {key}"), key)?;
        if key.chars().count() > LONGEST_KEY {
            return Err(RecordProblem::KeyTooLong(key.clone()));
        }
        if value.as_str().map_or_else(|| value.to_string().len(), str::len) > LONGEST_VALUE {
            return Err(RecordProblem::ValueTooLong(key.clone()));
        }
    }
    Ok(())
}

fn check_characters(place: &str, name: &str) -> Result<(), RecordProblem> {
    if name.chars().any(|c| PROHIBITED.contains(c)) {
        return Err(RecordProblem::ProhibitedCharacter(format!("{place}: \"{name}\"")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sent(count: usize) -> Vec<Value> {
        (0..count).map(|i| json!({ "identity": format!("c{i}") })).collect()
    }

    #[test]
    fn http_200_is_not_success() {
        let body = br#"{ "status" : "fail" , "processed" : 0 , "unprocessed" : [ { "status" : "fail" , "code" : 525 , "error" : "Timestamp should be present in the Unix Epoch format. Skipped record number : 1" , "record" : { }}]}"#;
        assert!(matches!(read_answer(body, &sent(1)).unwrap().as_slice(), [RecordResult::Rejected { code: 525, .. }]));
        let body = br#"{ "status" : "success" , "processed" : 1 , "unprocessed" : [ ]}"#;
        assert_eq!(read_answer(body, &sent(1)).unwrap(), [RecordResult::Accepted]);
    }

    #[test]
    fn failures_are_matched_by_number_else_by_echo() {
        let body = json!({ "status": "partial", "processed": 2, "unprocessed": [
            { "code": 555, "error": "oops. Skipped record number : 2" }, { "code": 512, "error": "bad", "record": { "identity": "c3" } } ] });
        let results = read_answer(body.to_string().as_bytes(), &sent(4)).unwrap();
        assert_eq!(results[0], RecordResult::Accepted);
        assert!(
            matches!(results[1], RecordResult::NotApplied { code: 555, .. }),
            "555 is the one code that is sent again"
        );
        assert_eq!(results[2], RecordResult::Accepted);
        assert!(matches!(results[3], RecordResult::Rejected { code: 512, .. }));
    }

    #[test]
    fn an_answer_that_leaves_a_record_open_is_no_answer() {
        for (body, error) in [
            ("", AnswerError::NotUnderstood),
            ("<html>", AnswerError::NotUnderstood),
            (r#"{"status":"ok"}"#, AnswerError::NotUnderstood),
            (r#"{"status":"success","processed":0,"unprocessed":[]}"#, AnswerError::CountsDiffer),
            (r#"{"status":"success","processed":3,"unprocessed":[]}"#, AnswerError::CountsDiffer),
            (r#"{"status":"success"}"#, AnswerError::CountsDiffer),
            (r#"{"status":"partial","processed":1,"unprocessed":[{"code":512,"error":"?"}]}"#, AnswerError::Unmatched),
            (
                r#"{"status":"partial","processed":1,"unprocessed":[{"code":512,"error":"Skipped record number : 3"}]}"#,
                AnswerError::Unmatched,
            ),
            (
                r#"{"status":"partial","processed":1,"unprocessed":[{"code":512,"error":"Skipped record number : 0"}]}"#,
                AnswerError::Unmatched,
            ),
        ] {
            assert_eq!(read_answer(body.as_bytes(), &sent(2)), Err(error), "{body}");
        }
    }

    fn problem(change: impl Fn(&mut Value)) -> Result<(), RecordProblem> {
        let mut payload = json!({ "d": [{ "type": "event", "evtName": "Coupon Generated", "identity": "c1", "evtData": { "CouponCode": "X" } }] });
        change(&mut payload["d"][0]);
        check(&payload)
    }

    #[test]
    fn what_clevertap_would_refuse_is_found_beforehand() {
        assert_eq!(problem(|_| ()), Ok(()));
        assert_eq!(check(&json!({ "d": [] })), Err(RecordProblem::NoRecord));
        assert_eq!(problem(|r| r["type"] = json!("profile")), Err(RecordProblem::NotAnEvent));
        assert_eq!(problem(|r| r["identity"] = json!("")), Err(RecordProblem::NoIdentity));
        assert_eq!(problem(|r| r["evtName"] = json!("")), Err(RecordProblem::Missing("evtName")));
        assert_eq!(problem(|r| r["evtName"] = json!("Stayed")), Err(RecordProblem::ReservedEvent("Stayed".into())));
        assert!(matches!(problem(|r| r["evtName"] = json!("50% off")), Err(RecordProblem::ProhibitedCharacter(_))));
        assert!(matches!(problem(|r| r["evtData"] = json!({ "a.b": 1 })), Err(RecordProblem::ProhibitedCharacter(_))));
        assert_eq!(problem(|r| r["evtData"] = json!(null)), Err(RecordProblem::Missing("evtData")));
        assert_eq!(
            problem(|r| r["evtData"]["k"] = json!("é".repeat(257))),
            Err(RecordProblem::ValueTooLong("k".into()))
        );
        assert!(matches!(problem(|r| r["evtData"][&"k".repeat(121)] = json!(1)), Err(RecordProblem::KeyTooLong(_))));
        let many = |count: i32| -> Value { (0..count).map(|i| (format!("p{i}"), json!(i))).collect() };
        assert_eq!(problem(|r| r["evtData"] = many(101)), Err(RecordProblem::TooManyProperties(101)));
        assert_eq!(problem(|r| r["evtData"] = many(100)), Ok(()), "CleverTap takes 100");
        assert_eq!(
            problem(|r| r["evtData"][&"é".repeat(120)] = json!("é".repeat(256))),
            Ok(()),
            "120 characters, 512 bytes"
        );
    }
}
