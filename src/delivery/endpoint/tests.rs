use serde_json::json;

use super::*;
use crate::api::coupon::CouponSpec;

fn spec() -> WebhookSpec {
    serde_json::from_value(json!({
        "url": "https://eu1.api.clevertap.com/1/upload", "responseFormat": "CleverTap",
        "parameters": [{ "name": "ProfileID", "type": "String" }, { "name": "CouponCode", "type": "String" }],
        "headers": [{ "name": "X-Trace", "value": "${$ProfileID}" },
            { "name": "X-CleverTap-Passcode", "valueFrom": { "secretKeyRef": { "name": "s", "key": "k" } } }],
        "payload": r#"{"d":[{"type":"event","evtName":"Coupon Generated","identity":"${$ProfileID}","evtData":{"CouponCode":"${$CouponCode}"}}]}"#,
    }))
    .unwrap()
}

fn endpoint(resolved: &[(&str, &str)]) -> Endpoint {
    let resolved = resolved.iter().map(|(n, v)| ResolvedHeader::new(n, v).unwrap()).collect();
    let templates = Templates::parse(&spec()).unwrap();
    Endpoint::new(("ns", "uid".into(), 1), spec(), templates, resolved, &[7; 32])
}

fn cells(id: &str) -> std::collections::BTreeMap<String, String> {
    [("ProfileID", id), ("CouponCode", "A-1")].map(|(k, v)| (k.to_owned(), v.to_owned())).into()
}

fn coupon(cells: &std::collections::BTreeMap<String, String>) -> CouponSpec {
    serde_json::from_value(json!({ "recipient": "r", "code": "A-1",
        "deliveries": [{ "name": "tell", "webhookRef": { "name": "w" }, "parameters": cells }] }))
    .unwrap()
}

fn request_of(
    endpoint: &Endpoint,
    cells: &std::collections::BTreeMap<String, String>,
) -> Result<OutgoingRequest, RecordError> {
    let coupon = coupon(cells);
    let prepared = endpoint.request(Records::of(&coupon), "tell", &RowSet::up_to(1), DateTime::UNIX_EPOCH);
    prepared.request.ok_or_else(|| prepared.unfit[0].1.clone())
}

#[test]
fn i7_a_request_never_prints_its_secrets() {
    let request = request_of(&endpoint(&[("X-CleverTap-Passcode", "PASS\n")]), &cells("c1")).unwrap();
    assert_eq!(request.headers[1].1.reveal(), "PASS", "white space around a value is not part of it");
    let printed = format!("{request:?} {:?}", endpoint(&[("X-CleverTap-Passcode", "PASS")]));
    assert!(!printed.contains("PASS"), "{printed}");
}

#[test]
fn a_bad_value_fails_its_own_record_before_anything_is_sent() {
    let endpoint = endpoint(&[]);
    assert!(matches!(
        request_of(&endpoint, &cells("a\r\nX: y")),
        Err(RecordError::Render(RenderError::HeaderValue(_)))
    ));
    let mut lacking = cells("c1");
    lacking.remove("CouponCode");
    let frozen = lacking.keys().map(String::as_str).collect();
    assert_eq!(endpoint.missing_parameters(&frozen), ["CouponCode"]);
    assert!(matches!(request_of(&endpoint, &lacking), Err(RecordError::Render(RenderError::ParameterMissing(_)))));
    assert!(matches!(request_of(&endpoint, &cells("")), Err(RecordError::CleverTap(RecordProblem::NoIdentity))));
}

#[test]
fn i9_whoever_uses_an_account_shares_it_and_other_credentials_are_told_apart() {
    let id = ("X-CleverTap-Account-Id", "ACC");
    let (right, wrong) = (endpoint(&[id, ("P", "right")]), endpoint(&[id, ("P", "wrong")]));
    assert_eq!(right.account, wrong.account);
    assert_eq!(right.account, AccountKey::CleverTap { host: "api.clevertap.com".into(), account_id: "ACC".into() });
    assert_ne!(right.credential, wrong.credential);
    assert_eq!(right.credential, endpoint(&[id, ("P", "right")]).credential);
}

#[test]
fn every_error_of_a_webhook_is_named_with_its_field() {
    let mut bad = spec();
    bad.url = "https://${$ProfileID}/".into();
    bad.headers[0].value = Some("${$Nope}".into());
    bad.payload = Some("{".into());
    let fields: Vec<String> = Templates::parse(&bad).unwrap_err().into_iter().map(|e| e.field).collect();
    assert_eq!(fields, ["spec.url", "spec.headers[0].value", "spec.payload"]);
    let mut reserved = spec();
    reserved.payload = reserved.payload.map(|p| p.replace("Coupon Generated", "Stayed"));
    assert!(
        Templates::parse(&reserved).unwrap_err()[0].to_string().starts_with("spec.payload: d[0].evtName: \"Stayed\"")
    );
}

#[test]
fn in_a_batch_placeholders_stand_only_inside_the_record() {
    let batched = |change: fn(&mut WebhookSpec)| {
        let mut spec = spec();
        spec.headers.remove(0);
        spec.batch = serde_json::from_value(json!({ "maxSize": 5, "recordsAt": "/d" })).ok();
        change(&mut spec);
        Templates::parse(&spec).map(|_| ()).map_err(|errors| errors[0].to_string())
    };
    assert_eq!(batched(|_| ()), Ok(()));
    let outside = |field: &str| format!("{field}: ${{$ProfileID}} stands outside the record at spec.batch.recordsAt");
    let error = batched(|spec| spec.url += "?id=${$ProfileID}").unwrap_err();
    assert!(error.starts_with(&outside("spec.url")), "{error}");
    let header = |spec: &mut WebhookSpec| {
        spec.headers = serde_json::from_value(json!([{ "name": "X", "value": "${$ProfileID}" }])).unwrap();
    };
    assert!(batched(header).unwrap_err().starts_with(&outside("spec.headers[0].value")));
    let around = |spec: &mut WebhookSpec| {
        spec.payload = spec.payload.as_ref().map(|p| p.replacen('{', r#"{"for":"${$ProfileID}","#, 1));
    };
    assert!(batched(around).unwrap_err().starts_with(&outside("spec.payload")));
    let elsewhere = |spec: &mut WebhookSpec| spec.batch.as_mut().unwrap().records_at = Some("/records".into());
    assert!(batched(elsewhere).unwrap_err().contains("no array with one record at /records"));
    assert_eq!(
        batched(|spec| {
            spec.batch = None;
            spec.url += "?id=${$ProfileID}";
        }),
        Ok(()),
        "one record a request"
    );
}

#[test]
fn a_secret_that_no_header_can_carry_is_refused() {
    for bad in ["", " \n", "a\nb", "ü"] {
        assert!(ResolvedHeader::new("X", bad).is_none(), "{bad:?}");
    }
}

#[test]
fn a_webhook_knows_its_parameters_and_what_its_account_takes_at_once() {
    let endpoint = endpoint(&[("X-CleverTap-Account-Id", "ACC")]);
    let names: Vec<&str> = endpoint.templates.parameters().iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["ProfileID", "CouponCode"]);
    assert_eq!(endpoint.account_limit(), 15, "CleverTap's documented limit of uploads in flight");
    let mut plain = spec();
    plain.response_format = ResponseFormat::HttpStatus;
    let templates = Templates::parse(&plain).unwrap();
    let plain = Endpoint::new(("ns", "uid".into(), 1), plain, templates, Vec::new(), &[7; 32]);
    assert_eq!(plain.account_limit(), usize::MAX);
}

#[test]
fn a_record_is_stale_from_two_hours_after_its_ts_on() {
    let mut spec = spec();
    spec.payload = spec.payload.map(|p| p.replace(r#""type""#, r#""ts":1000,"type""#));
    let templates = Templates::parse(&spec).unwrap();
    let endpoint = Endpoint::new(("ns", "uid".into(), 1), spec, templates, Vec::new(), &[7; 32]);
    let cells = cells("c1");
    let coupon = coupon(&cells);
    let at = |second| {
        let now = DateTime::from_timestamp(second, 0).unwrap();
        let prepared = endpoint.request(Records::of(&coupon), "tell", &RowSet::up_to(1), now);
        (prepared.request.is_some(), prepared.stale)
    };
    assert_eq!(at(1000 + 7199), (true, vec![]));
    assert_eq!(at(1000 + 7200), (false, vec![1]));
    let until = endpoint.fresh_until(Records::of(&coupon), "tell", 1);
    assert_eq!(until, DateTime::from_timestamp(1000 + 7200, 0));
}

#[test]
fn a_payloads_digest_is_its_sha_256() {
    let request = OutgoingRequest {
        method: Method::Post,
        url: "https://example.com/".parse().unwrap(),
        headers: Vec::new(),
        body: Some("abc".into()),
        count: 1,
        records: Vec::new(),
    };
    // The example of FIPS 180-2, appendix B.1.
    assert_eq!(request.payload_digest(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}
