//! The stand-in does what CleverTap does, as far as that is known, and what a fault says.

use std::time::Duration;

use chrono::{DateTime, Utc};
use clevertap_stand_in::{Config, Fault, LiveCampaign, Profile, StandIn};
use serde_json::{Value, json};

const HOST: &str = "eu1.api.clevertap.com";
const LONG: Duration = Duration::from_secs(20);

struct Bench {
    stand_in: StandIn,
    client: reqwest::Client,
}

impl Bench {
    async fn with(config: Config) -> Self {
        let stand_in = StandIn::start(config).await.unwrap();
        let authority = reqwest::Certificate::from_pem(stand_in.ca_pem().as_bytes()).unwrap();
        let mut builder =
            reqwest::Client::builder().tls_certs_only([authority]).no_proxy().retry(reqwest::retry::never());
        for host in [HOST, "in1.api.clevertap.com"] {
            builder = builder.resolve(host, stand_in.address());
        }
        Self { stand_in, client: builder.build().unwrap() }
    }

    async fn new() -> Self {
        Self::with(Config {
            profiles: vec![profile("c1", Some("ada@example.com")), profile("c2", None)],
            ..Config::default()
        })
        .await
    }

    fn request(&self, method: &str, host: &str, target: &str) -> reqwest::RequestBuilder {
        let url = format!("https://{host}:{}{target}", self.stand_in.address().port());
        self.client
            .request(method.parse().unwrap(), url)
            .header("host", host)
            .header("X-CleverTap-Account-Id", "TEST-W8W-6WR-846Z")
            .header("X-CleverTap-Passcode", "DEMO-PASS")
    }

    async fn upload(&self, records: Value) -> (u16, String) {
        let answer = self.send(&json!({ "d": records })).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    async fn send(&self, body: &Value) -> reqwest::Result<reqwest::Response> {
        self.request("POST", HOST, "/1/upload").body(body.to_string()).send().await
    }

    /// The code that a record is refused with; 0 if it is taken.
    async fn code(&self, record: Value) -> i64 {
        let (status, body) = self.upload(json!([record])).await;
        assert_eq!(status, 200, "HTTP 200 even for a failure");
        let body: Value = serde_json::from_str(&body).unwrap();
        body["unprocessed"].as_array().unwrap().first().map_or(0, |u| u["code"].as_i64().unwrap())
    }
}

fn profile(identity: &str, email: Option<&str>) -> Profile {
    Profile { identity: identity.into(), name: "Ada".into(), email: email.map(str::to_owned), ..Profile::default() }
}

fn event(identity: &str) -> Value {
    json!({ "type": "event", "evtName": "Coupon Generated", "identity": identity, "$source": "Talon.One", "evtData": { "CouponCode": "X-1" } })
}

fn changed(change: impl FnOnce(&mut Value)) -> Value {
    let mut record = event("c1");
    change(&mut record);
    record
}

#[tokio::test]
async fn success_partial_and_fail_are_all_200_and_spaced() {
    let bench = Bench::new().await;
    assert_eq!(
        bench.upload(json!([event("c1")])).await,
        (200, r#"{ "status" : "success" , "processed" : 1 , "unprocessed" : [ ]}"#.into())
    );
    let (status, partial) = bench.upload(json!([event("c1"), {}])).await;
    assert_eq!(status, 200);
    assert!(
        partial.starts_with(
            r#"{ "status" : "partial" , "processed" : 1 , "unprocessed" : [ { "status" : "fail" , "code" : 524"#
        ),
        "{partial}"
    );
    assert!(partial.contains("Skipped record number : 2\" , \"record\" : { }"), "{partial}");
    let (status, fail) = bench.upload(json!([{}])).await;
    assert!(status == 200 && fail.starts_with(r#"{ "status" : "fail" , "processed" : 0"#), "{fail}");
    let answer = bench.send(&json!({ "d": [] })).await.unwrap();
    assert_eq!(answer.headers()["content-type"], "application/json;charset=utf-8");
}

#[tokio::test]
async fn each_code_has_its_cause() {
    let bench = Bench::with(Config { discarded_events: vec!["Dropped".into()], ..Config::default() }).await;
    let many: serde_json::Map<String, Value> = (0..101).map(|i| (format!("p{i}"), json!(i))).collect();
    for (code, record) in [
        (0, event("c1")),
        (0, changed(|r| r["ts"] = json!(1_672_531_200))),
        (0, json!({ "type": "profile", "identity": "c1", "profileData": { "Name": "A" } })),
        (509, changed(|r| r["evtName"] = json!(""))),
        (512, changed(|r| r["evtName"] = json!("50% off"))),
        (512, changed(|r| r["evtData"] = json!([]))),
        (512, changed(|r| r["evtData"] = json!({ "a.b": 1 }))),
        (512, changed(|r| r["evtData"] = json!({ "a": "x".repeat(513) }))),
        (512, changed(|r| r["evtData"] = json!({ "a".repeat(121): 1 }))),
        (513, changed(|r| r["evtName"] = json!("App Launched"))),
        (522, changed(|r| r["evtData"] = json!(many))),
        (523, changed(|r| r["identity"] = json!(""))),
        (524, changed(|r| r["type"] = json!("other"))),
        (525, changed(|r| r["ts"] = json!(0))),
        (525, changed(|r| r["ts"] = json!(1_672_531_200_000_i64))),
        (525, changed(|r| r["ts"] = json!("2023"))),
        (526, json!({ "type": "event", "evtName": "A", "objectId": "short", "evtData": {} })),
        (528, changed(|r| r["evtName"] = json!("Dropped"))),
    ] {
        assert_eq!(bench.code(record.clone()).await, code, "{record}");
    }
}

#[tokio::test]
async fn wrong_credentials_and_a_wrong_region_are_401() {
    let bench = Bench::new().await;
    let upload = |host| bench.request("POST", host, "/1/upload").body(json!({ "d": [] }).to_string());
    let account =
        bench.client.post(format!("https://{HOST}:{}/1/upload", bench.stand_in.address().port())).send().await.unwrap();
    assert_eq!(account.status(), 401);
    assert_eq!(
        account.text().await.unwrap(),
        r#"{ "status" : "fail" , "error" : "Account ID is not valid" , "code" : 401}"#
    );
    bench.stand_in.set_passcode("OTHER");
    assert_eq!(upload(HOST).send().await.unwrap().status(), 401);
    bench.stand_in.set_passcode("DEMO-PASS");
    assert_eq!(upload("in1.api.clevertap.com").send().await.unwrap().status(), 401);
    assert_eq!(upload(HOST).send().await.unwrap().status(), 200);
    assert!(bench.stand_in.events().is_empty());
}

#[tokio::test]
async fn what_is_not_understood_is_400_and_what_is_not_there_404() {
    let bench = Bench::new().await;
    for body in ["", "{", "{}", r#"{"d": 1}"#] {
        let answer = bench.request("POST", HOST, "/1/upload").body(body).send().await.unwrap();
        assert_eq!(answer.status(), 400, "{body}");
    }
    assert_eq!(bench.request("POST", HOST, "/2/upload").send().await.unwrap().status(), 404);
    assert_eq!(bench.request("POST", HOST, "/plain/shop").body("x").send().await.unwrap().status(), 200);
    assert_eq!(bench.stand_in.requests().last().unwrap().body, "x");
}

#[tokio::test]
async fn above_the_limit_of_15_in_flight_it_answers_429_without_retry_after() {
    let bench = Bench::new().await;
    bench.stand_in.set_lasting_fault(Some(Fault::HangBefore));
    let body = json!({ "d": [event("c1")] });
    let mut held: Vec<_> = (0..15).map(|_| Box::pin(bench.send(&body))).collect();
    let mut all = futures_all(&mut held);
    tokio::select! {
        () = &mut all => unreachable!("they hang"),
        reached = bench.stand_in.wait_for_requests(15, LONG) => assert!(reached),
    }
    let answer = bench.send(&body).await.unwrap();
    assert_eq!(answer.status(), 429);
    assert!(answer.headers().get("retry-after").is_none());
    assert_eq!(bench.stand_in.in_flight_peak(), 16);
}

/// Polls several requests; none of them ends.
fn futures_all<'a, F: Future<Output = reqwest::Result<reqwest::Response>> + Unpin + 'a>(
    held: &'a mut [F],
) -> std::pin::Pin<Box<dyn Future<Output = ()> + 'a>> {
    Box::pin(std::future::poll_fn(move |context| {
        for request in held.iter_mut() {
            let _ = std::pin::Pin::new(request).poll(context);
        }
        std::task::Poll::<()>::Pending
    }))
}

#[tokio::test]
async fn a_dry_run_answers_the_same_and_stores_nothing() {
    let bench = Bench::new().await;
    let body = json!({ "d": [event("c1"), {}] }).to_string();
    let dry = bench.request("POST", HOST, "/1/upload?dryRun=1").body(body.clone()).send().await.unwrap();
    let dry = dry.text().await.unwrap();
    assert!(bench.stand_in.events().is_empty());
    assert_eq!(bench.request("POST", HOST, "/1/upload").body(body).send().await.unwrap().text().await.unwrap(), dry);
    assert_eq!(bench.stand_in.events().len(), 1);
}

#[tokio::test]
async fn a_message_goes_only_to_profiles_with_an_email() {
    let bench = Bench::new().await;
    bench.upload(json!([event("c1"), event("c2"), event("nobody")])).await;
    let emails = bench.stand_in.emails();
    assert_eq!(emails.iter().map(|e| e.to.as_str()).collect::<Vec<_>>(), ["ada@example.com"]);
    assert!(emails[0].body.contains("your coupon code is X-1."), "{}", emails[0].body);
    assert!(
        bench.stand_in.profiles().iter().any(|p| p.identity == "nobody" && p.email.is_none()),
        "an unknown identity makes a profile"
    );
}

#[tokio::test]
async fn only_fresh_events_trigger_the_message() {
    let start: DateTime<Utc> = "2023-01-01T00:00:00Z".parse().unwrap();
    let profiles = vec![profile("c1", Some("ada@example.com"))];
    let bench = Bench::with(Config { clock_start: Some(start), profiles, ..Config::default() }).await;
    for (ts, sent) in [(-7300, 0), (-7000, 1), (100, 2), (300, 2)] {
        bench.upload(json!([changed(|r| r["ts"] = json!(start.timestamp() + ts))])).await;
        assert_eq!(bench.stand_in.emails().len(), sent, "{ts}");
    }
    assert_eq!(bench.stand_in.events().len(), 4, "all are stored");
}

#[tokio::test]
async fn a_message_can_abort() {
    let live_campaign = LiveCampaign { message: "{% abort %}".into(), ..LiveCampaign::default() };
    let bench = Bench::with(Config {
        live_campaign,
        profiles: vec![profile("c1", Some("a@example.com"))],
        ..Config::default()
    })
    .await;
    bench.upload(json!([event("c1")])).await;
    assert!(bench.stand_in.emails().is_empty());
}

#[tokio::test]
async fn nothing_is_deduplicated_and_duplicates_are_seen() {
    let bench = Bench::new().await;
    bench.upload(json!([event("c1")])).await;
    assert!(bench.stand_in.duplicates().is_empty());
    bench.upload(json!([event("c1"), event("c2")])).await;
    assert_eq!(bench.stand_in.events().len(), 3);
    assert_eq!(bench.stand_in.duplicates().len(), 1);
    let page = reqwest::get(bench.stand_in.outbox_url()).await.unwrap().text().await.unwrap();
    assert!(page.contains("<span class=wrong>1 of them duplicates"), "{page}");
    assert!(!page.contains("DEMO-PASS"));
}

#[tokio::test]
async fn faults_before_storing_store_nothing_and_faults_after_it_store() {
    let after = |status| Fault::Status { status, stored: true, retry_after: None, location: None };
    for (fault, stored) in [
        (Fault::ResetBeforeBody, 0),
        (Fault::ResetBefore, 0),
        (Fault::ResetAfter, 1),
        (Fault::status(500), 0),
        (Fault::status(503), 0),
        (after(500), 1),
        (after(503), 1),
        (Fault::SilentDrop, 0),
        (Fault::ShortBody, 1),
        (Fault::NotJson, 1),
        (Fault::WrongContentType, 1),
        (Fault::OversizedBody, 1),
    ] {
        let bench = Bench::new().await;
        bench.stand_in.inject(fault.clone());
        let seen = match bench.send(&json!({ "d": [event("c1")] })).await {
            Err(_) => "no answer".to_owned(),
            Ok(answer) => {
                let status = answer.status().as_u16();
                match answer.bytes().await {
                    Err(_) => "cut".to_owned(),
                    Ok(body) if body.len() > 1_000_000 => "large".to_owned(),
                    Ok(body) if serde_json::from_slice::<Value>(&body).is_err() => "no JSON".to_owned(),
                    Ok(_) => status.to_string(),
                }
            }
        };
        let expected = match fault {
            Fault::ResetBeforeBody | Fault::ResetBefore | Fault::ResetAfter => "no answer".to_owned(),
            Fault::Status { status, .. } => status.to_string(),
            Fault::ShortBody => "cut".to_owned(),
            Fault::NotJson => "no JSON".to_owned(),
            Fault::OversizedBody => "large".to_owned(),
            _ => "200".to_owned(),
        };
        assert_eq!((seen, bench.stand_in.events().len()), (expected, stored), "{fault:?}");
        assert_eq!(bench.upload(json!([event("c2")])).await.0, 200, "the next request is answered");
    }
}

#[tokio::test]
async fn a_hang_gives_no_answer_and_stores_before_or_after() {
    for (fault, stored) in [(Fault::HangBefore, 0), (Fault::HangAfter, 1)] {
        let bench = Bench::new().await;
        bench.stand_in.inject(fault);
        let body = json!({ "d": [event("c1")] });
        let answer = tokio::time::timeout(Duration::from_millis(300), bench.send(&body)).await;
        assert!(answer.is_err());
        assert_eq!(bench.stand_in.events().len(), stored);
    }
}

#[tokio::test]
async fn single_records_can_fail_with_555_and_faults_can_follow_an_identity() {
    let bench = Bench::new().await;
    bench.stand_in.inject(Fault::ServerError { records: vec![2] });
    let (_, body) = bench.upload(json!([event("c1"), event("c2")])).await;
    assert!(body.contains("\"code\" : 555") && body.contains("record number : 2"), "{body}");
    bench.stand_in.set_fault_for("c2", Some(Fault::status(500)));
    assert_eq!(bench.upload(json!([event("c1")])).await.0, 200);
    assert_eq!(bench.upload(json!([event("c2")])).await.0, 500);
    bench.stand_in.set_fault_for("c2", None);
    assert_eq!(bench.upload(json!([event("c2")])).await.0, 200);
}

#[tokio::test]
async fn profiles_are_exported_page_by_page() {
    let profiles = (0..5).map(|i| profile(&format!("c{i}"), None)).collect();
    let bench = Bench::with(Config { profiles, ..Config::default() }).await;
    let begin = bench
        .request("POST", HOST, "/1/profiles.json?batch_size=2")
        .body(r#"{"event_name":"App Launched","from":20230101,"to":20230102}"#);
    let export: Value = begin.send().await.unwrap().json().await.unwrap();
    bench.stand_in.set_not_ready(1);
    let (mut cursor, mut seen, mut waited) = (export["cursor"].as_str().map(str::to_owned), Vec::new(), 0);
    while let Some(at) = cursor {
        // The cursor arrives URL-encoded: it is used as it is.
        let page: Value = bench
            .request("GET", HOST, &format!("/1/profiles.json?cursor={at}"))
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        if page["code"] == 2 {
            waited += 1;
            cursor = Some(at);
            continue;
        }
        seen.extend(page["records"].as_array().unwrap().iter().map(|r| r["identity"].as_str().unwrap().to_owned()));
        cursor = page["next_cursor"].as_str().map(str::to_owned);
    }
    assert_eq!((seen.len(), waited), (5, 1));
    let one: Value =
        bench.request("GET", HOST, "/1/profile.json?identity=c3").send().await.unwrap().json().await.unwrap();
    assert_eq!(one["record"]["identity"], "c3");
    let too_large = bench
        .request("POST", HOST, "/1/profiles.json?batch_size=5001")
        .body(r#"{"event_name":"A"}"#)
        .send()
        .await
        .unwrap();
    assert_eq!(too_large.status(), 400);
}
