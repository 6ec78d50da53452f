//! The endpoints.

use serde_json::{Value, json};

use crate::answer::{Answer, spaced};
use crate::http::Head;
use crate::records::{self, Refusal};
use crate::store::Store;
use crate::{Fault, Profile, tls};

const LARGEST_BATCH: usize = 5000;

/// Why a request is refused before it is read: credentials, region, and too many at once.
pub fn refused(store: &Store, head: &Head) -> Option<Answer> {
    let host = head.header("host").unwrap_or_default().split(':').next().unwrap_or_default();
    if head.header("x-clevertap-account-id") != Some(store.config.account_id.as_str()) {
        return Some(Answer::error(401, "Account ID is not valid"));
    }
    // A wrong region answers 401 too (known from third parties).
    let wrong_region = !store.config.region_hosts.is_empty()
        && tls::HOSTS.contains(&host)
        && !store.config.region_hosts.iter().any(|right| right == host);
    if wrong_region || head.header("x-clevertap-passcode") != Some(store.config.passcode.as_str()) {
        return Some(Answer::error(401, "Invalid Credentials"));
    }
    let too_many = if head.path() == "/1/upload" {
        store.uploads_in_flight > store.config.in_flight_limit
    } else {
        store.others_in_flight > store.config.other_in_flight_limit
    };
    too_many.then(|| Answer::error(429, "Too many concurrent requests"))
}

/// `POST /1/upload`. `number` is the request's.
pub fn upload(store: &mut Store, head: &Head, body: &[u8], number: u64, fault: Option<&Fault>) -> Answer {
    let parsed: Option<Value> = serde_json::from_slice(body).ok();
    let Some(sent) = parsed.as_ref().and_then(|b| b.get("d")).and_then(Value::as_array) else {
        return Answer::error(400, "Malformed request");
    };
    let dry_run = head.query("dryRun").as_deref() == Some("1");
    let stores = fault.is_none_or(Fault::stores) && !dry_run;
    let failing: &[usize] = if let Some(Fault::ServerError { records }) = fault { records } else { &[] };
    let mut refused = Vec::new();
    for (i, record) in sent.iter().enumerate() {
        let place = i + 1;
        let read = if failing.contains(&place) {
            Err(Refusal { code: 555, message: "Server error".into() })
        } else {
            records::read(record, &store.config)
        };
        match read {
            Err(refusal) => refused.push((place, refusal, record.clone())),
            Ok(Some(taken)) if stores => store.store(taken, number, place),
            Ok(_) => {}
        }
    }
    Answer::uploaded(sent.len(), &refused)
}

/// `POST /1/profiles.json` begins an export by event; `GET` with its cursor reads a page.
pub fn profiles(store: &mut Store, head: &Head, body: &[u8]) -> Answer {
    if let Some(cursor) = head.query("cursor") {
        return page(store, &cursor);
    }
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let Some(event) = body.get("event_name").and_then(Value::as_str) else {
        return Answer::error(400, "Malformed request");
    };
    if store.config.discarded_events.iter().any(|e| e == event) {
        return Answer::error(400, "Export not allowed for this event");
    }
    let size = head.query("batch_size").and_then(|s| s.parse().ok()).unwrap_or(LARGEST_BATCH);
    if size == 0 || size > LARGEST_BATCH {
        return Answer::error(400, "Malformed request");
    }
    let records: Vec<Value> = store.profiles.values().map(shown).collect();
    let pages: Vec<&[Value]> = records.chunks(size).collect();
    let cursor = |i: usize| format!("export/{}+{i}=", store.exports.len());
    let names: Vec<String> = (0..pages.len().max(1)).map(cursor).collect();
    let mut answers = Vec::new();
    for (i, name) in names.iter().enumerate() {
        let mut answer = json!({ "status": "success", "records": pages.get(i).copied().unwrap_or_default() });
        if let Some(next) = names.get(i + 1) {
            answer["next_cursor"] = encoded(next).into();
        }
        answers.push((name.clone(), vec![answer]));
    }
    store.exports.extend(answers);
    Answer::new(200, spaced(&json!({ "status": "success", "cursor": encoded(&names[0]) })))
}

/// Cursors come URL-encoded (known from third parties): encoded once more they are not found.
fn encoded(cursor: &str) -> String {
    url::form_urlencoded::byte_serialize(cursor.as_bytes()).collect()
}

fn page(store: &mut Store, cursor: &str) -> Answer {
    if store.not_ready > 0 {
        store.not_ready -= 1;
        return Answer::failed(200, "Request still in progress, please retry later", 2);
    }
    match store.exports.get(cursor).and_then(|pages| pages.first()) {
        Some(page) => Answer::new(200, spaced(page)),
        None => Answer::error(400, "Malformed request"),
    }
}

/// `GET /1/profile.json?identity=…|email=…`.
pub fn profile(store: &Store, head: &Head) -> Answer {
    let (identity, email) = (head.query("identity"), head.query("email"));
    let wanted = |p: &&Profile| identity.as_ref() == Some(&p.identity) || (email.is_some() && email == p.email);
    match store.profiles.values().find(wanted) {
        Some(profile) => Answer::new(200, spaced(&json!({ "status": "success", "record": shown(profile) }))),
        None => Answer::new(200, spaced(&json!({ "status": "success", "record": {} }))),
    }
}

fn shown(profile: &Profile) -> Value {
    json!({
        "identity": profile.identity, "name": profile.name, "email": profile.email,
        "profileData": profile.properties, "events": {},
    })
}
