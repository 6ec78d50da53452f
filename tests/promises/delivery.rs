//! I3, I4, I5, I7: what is sent, and what the record says of it.

use std::time::Duration;

use clevertap_stand_in::Fault;
use coupon_operator::api::campaign::Campaign;
use coupon_operator::api::coupon::Coupon;
use coupon_operator::api::webhook::Webhook;
use futures::StreamExt;
use kube::ResourceExt;
use kube::api::{ListParams, WatchEvent, WatchParams};
use serde_json::{Value, json};

use crate::world::{CANARY, World, campaign, condition, said, state, webhook};

/// The outcome of a Coupon's last attempt.
fn outcome(coupon: &Coupon) -> (String, String) {
    let attempt = &json!(coupon)["status"]["deliveries"][0]["lastAttempt"];
    let text = |field: &str| attempt[field].as_str().unwrap_or_default().to_owned();
    (text("outcome"), text("reason"))
}

fn attempts(coupon: &Coupon) -> i64 {
    json!(coupon)["status"]["deliveries"][0]["attempts"].as_i64().unwrap_or_default()
}

/// A Webhook with some fields of its spec changed.
fn webhook_with(changes: &Value) -> Value {
    let mut webhook = webhook();
    for (field, value) in changes.as_object().unwrap() {
        webhook["spec"][field] = value.clone();
    }
    webhook
}

#[tokio::test]
async fn a_wrong_passcode_costs_one_request_and_all_goes_on_once_the_secret_is_right() {
    let world = World::new().await;
    let _operator = world.operator();
    world.apply_secret("WRONG-PASS").await;
    world.apply::<Webhook>(webhook()).await.unwrap();
    world.apply::<Campaign>(campaign(10)).await.unwrap();
    let refused = world
        .until::<Webhook>("send-clevertap-email", "CredentialsRejected", |w| {
            said(&json!(w), "Stalled").0 == "CredentialsRejected"
        })
        .await;
    assert!(said(&json!(refused), "Ready").1.contains("credentials or region"), "{refused:?}");
    let waiting = world
        .until::<Campaign>("new-year", "WebhookNotReady", |c| {
            said(&json!(c), "Ready").0 == "WebhookNotReady" && c.status.as_ref().unwrap().issued == Some(10)
        })
        .await;
    assert_eq!(condition(&json!(waiting), "Stalled"), "False");
    assert!(!world.stand_in.wait_for_requests(2, Duration::from_secs(2)).await, "one request for ten Coupons");
    world.apply_secret(CANARY).await;
    world.until_delivered(10).await;
    world.until_campaign_delivered(10).await;
    world.assert_each_got_one(10);
    assert_eq!(world.stand_in.requests().len(), 11);
    world.until::<Webhook>("send-clevertap-email", "Ready again", |w| said(&json!(w), "Ready").0 == "Accepted").await;
}

#[tokio::test]
async fn i7_no_secret_is_in_anything_that_was_written() {
    let world = World::new().await;
    let _operator = world.operator();
    world.stand_in.inject(Fault::status(401));
    world.stand_in.inject(Fault::ResetAfter);
    world.apply_scenario(2).await;
    world
        .until::<Webhook>("send-clevertap-email", "refused", |w| said(&json!(w), "Stalled").0 == "CredentialsRejected")
        .await;
    world.patch::<Webhook>("send-clevertap-email", json!({ "spec": { "title": "again" } })).await;
    world.until_delivered(2).await;
    let mut written = world.operator_logs();
    written += &json!([world.coupons().await, world.campaign().await, world.webhook().await]).to_string();
    assert!(
        written.contains("operator started") && written.contains("customer-1"),
        "this looks where things are written"
    );
    assert!(!written.contains(CANARY));
    assert!(
        world.stand_in.requests().iter().all(|r| r.header("x-clevertap-passcode") == Some(CANARY)),
        "and it was in use"
    );
}

#[tokio::test]
async fn i5_what_was_surely_not_applied_is_sent_again_with_the_same_code() {
    for fault in [
        Fault::status(429),
        Fault::Status { status: 429, stored: false, retry_after: Some("1".into()), location: None },
        Fault::status(408),
        Fault::ServerError { records: vec![1] },
    ] {
        let world = World::new().await;
        let _operator = world.operator();
        world.stand_in.inject(fault.clone());
        world.apply_scenario(1).await;
        let coupon = world.until_delivered(1).await.remove(0);
        world.assert_each_got_one(1);
        assert_eq!(attempts(&coupon), 2, "{fault:?}");
        let bodies: Vec<String> = world.stand_in.requests().into_iter().map(|r| r.body).collect();
        assert_eq!(bodies[0], bodies[1], "I3: a resend carries the same code and the same values");
    }
}

#[tokio::test]
async fn i4_a_record_that_clevertap_refuses_is_failed_and_said_so_and_not_sent_again() {
    let world = World::new().await;
    let _operator = world.operator();
    world.apply_scenario(0).await;
    // CleverTap calls the property too long only when it is filled in; ours says so beforehand.
    let mut long = campaign(2);
    long["spec"]["rules"][0]["effects"][1]["sendWebhook"]["parameters"]["CouponCode"] =
        format!("${{$Coupon.Code}}{}", "x".repeat(600)).into();
    world.apply::<Campaign>(long).await.unwrap();
    let failed = world.until_coupons("failed", |c| c.len() == 2 && c.iter().all(|c| state(c) == "Failed")).await;
    assert!(
        said(&json!(failed[0]), "Ready").1.contains("evtData.CouponCode is longer than 512 bytes"),
        "{:?}",
        failed[0]
    );
    assert!(world.stand_in.requests().is_empty(), "nothing is sent that is known to be refused");
    let campaign =
        world.until::<Campaign>("new-year", "counted", |c| c.status.as_ref().unwrap().failed == Some(2)).await;
    assert_eq!(condition(&json!(campaign), "Delivered"), "False");
}

#[tokio::test]
async fn i4_answers_are_read_per_record_and_by_response_format() {
    for (status, state_of, reason) in [(400, "Failed", "Rejected"), (409, "Failed", "Rejected")] {
        let world = World::new().await;
        let _operator = world.operator();
        world.stand_in.set_fault_for("customer-1", Some(Fault::status(status)));
        world.apply_scenario(2).await;
        let coupons = world
            .until_coupons("settled", |c| {
                c.len() == 2 && c.iter().all(|c| state(c) != "Pending" && state(c) != "Sending")
            })
            .await;
        let refused = coupons.iter().find(|c| c.spec.recipient.as_deref() == Some("customer-1")).unwrap();
        assert_eq!((state(refused).as_str(), outcome(refused).1.as_str()), (state_of, reason), "{status}");
        assert_eq!(coupons.iter().filter(|c| state(c) == "Delivered").count(), 1, "one bad record fails itself only");
    }
}

#[tokio::test]
async fn i5_an_unknown_outcome_is_sent_again_under_retry_and_held_under_hold() {
    for (policy, fault, requests) in [
        ("Retry", Fault::ResetAfter, 2),
        ("Hold", Fault::ResetAfter, 1),
        ("Hold", Fault::ResetBefore, 1),
        ("Hold", Fault::ShortBody, 1),
        ("Hold", Fault::NotJson, 1),
        ("Hold", Fault::OversizedBody, 1),
        ("Hold", Fault::status(500), 1),
        ("Hold", Fault::HangAfter, 1),
    ] {
        let world = World::new().await;
        let _operator = world.operator();
        world.stand_in.inject(fault.clone());
        world.apply_secret(CANARY).await;
        world.apply::<Webhook>(webhook_with(&json!({ "onUnknown": policy, "timeoutSeconds": 2 }))).await.unwrap();
        world.apply::<Campaign>(campaign(1)).await.unwrap();
        let expected = if policy == "Hold" { "Held" } else { "Delivered" };
        let coupon = world.until_coupons(expected, |c| c.len() == 1 && state(&c[0]) == expected).await.remove(0);
        assert_eq!(world.stand_in.requests().len(), requests, "{policy} {fault:?}");
        if policy == "Hold" {
            assert_eq!(outcome(&coupon).0, "Unknown", "{fault:?}");
            let campaign = world
                .until::<Campaign>("new-year", "unknown is counted", |c| {
                    c.status.as_ref().unwrap().occurrences[0].unknown == 1
                })
                .await;
            assert_eq!(condition(&json!(campaign), "Delivered"), "False");
        }
    }
}

#[tokio::test]
async fn a_refused_endpoint_stops_until_it_is_edited() {
    let world = World::new().await;
    let _operator = world.operator();
    world.apply_secret(CANARY).await;
    let wrong = webhook_with(&json!({ "url": "https://eu1.api.clevertap.com/1/uploads" }));
    world.apply::<Webhook>(wrong).await.unwrap();
    world.apply::<Campaign>(campaign(5)).await.unwrap();
    world
        .until::<Webhook>("send-clevertap-email", "refused", |w| said(&json!(w), "Stalled").0 == "EndpointRejected")
        .await;
    assert!(!world.stand_in.wait_for_requests(2, Duration::from_secs(1)).await);
    world.apply::<Webhook>(webhook()).await.unwrap();
    world.until_delivered(5).await;
    world.assert_each_got_one(5);
}

#[tokio::test]
async fn a_broken_endpoint_is_asked_by_one_request_at_a_time_and_coupons_cost_no_writes_meanwhile() {
    let world = World::new().await;
    let _operator = world.operator();
    world.stand_in.set_lasting_fault(Some(Fault::status(503)));
    world.apply_scenario(60).await;
    let failing = |w: &Webhook| said(&json!(w), "Reconciling").0 == "EndpointFailing";
    let webhook = world.until::<Webhook>("send-clevertap-email", "EndpointFailing", failing).await;
    assert!(said(&json!(webhook), "Ready").1.contains("HTTP 503"), "{webhook:?}");
    world.until_coupons("issued", |c| c.len() == 60).await;
    let (before, since) = (world.stand_in.requests().len(), std::time::Instant::now());
    assert!(before <= 20, "{before} requests before it was noticed");
    // Rests of 1, 2 and 4 seconds: no more than one request each.
    assert!(!world.stand_in.wait_for_requests(before + 4, Duration::from_secs(5)).await, "{:?}", since.elapsed());
    let untouched = world.coupons().await.iter().filter(|c| attempts(c) == 0).count();
    assert!(untouched >= 35, "{untouched} Coupons were not even begun");
    world.stand_in.set_lasting_fault(None);
    world.until_delivered(60).await;
    world.assert_each_got_one(60);
    world.until::<Webhook>("send-clevertap-email", "Ready again", |w| said(&json!(w), "Ready").0 == "Accepted").await;
}

#[tokio::test]
async fn i6_a_webhook_that_hangs_keeps_nobody_else_waiting() {
    let world = World::new().await;
    let _operator = world.operator();
    world.apply_scenario(0).await;
    let shop = json!({
        "metadata": { "name": "hangs" },
        "spec": { "url": "https://shop.example/plain", "parameters": [{ "name": "Id", "type": "String" }],
            "payload": r#"{"d": [{"identity": "${$Id}"}]}"#, "maxInFlight": 100 },
    });
    world.apply::<Webhook>(shop).await.unwrap();
    let mut slow = campaign(50);
    slow["metadata"]["name"] = "slow".into();
    slow["spec"]["rules"][0]["effects"][1]["sendWebhook"] =
        json!({ "webhookRef": { "name": "hangs" }, "parameters": { "Id": "hang" } });
    world.stand_in.set_fault_for("hang", Some(Fault::HangBefore));
    world.apply::<Campaign>(slow).await.unwrap();
    assert!(world.stand_in.wait_for_requests(1, Duration::from_secs(20)).await);
    world.apply::<Campaign>(campaign(50)).await.unwrap();
    world.until_campaign_delivered(50).await;
    world.assert_each_got_one(50);
}

#[tokio::test]
async fn a_host_that_the_rehearsal_does_not_name_is_never_dialled() {
    let world = World::new().await;
    let _operator = world.operator();
    world.apply_secret(CANARY).await;
    world.apply::<Webhook>(webhook_with(&json!({ "url": "https://in1.api.clevertap.com/1/upload" }))).await.unwrap();
    world.apply::<Campaign>(campaign(1)).await.unwrap();
    let refused = world
        .until::<Webhook>("send-clevertap-email", "refused", |w| said(&json!(w), "Stalled").0 == "AddressRefused")
        .await;
    assert!(said(&json!(refused), "Ready").1.contains("--connect-to"));
    assert!(world.stand_in.requests().is_empty());
}

#[tokio::test]
async fn a_deadline_that_passed_expires_the_coupon() {
    let world = World::new().await;
    let _operator = world.operator();
    world.stand_in.set_lasting_fault(Some(Fault::status(408)));
    world.apply_secret(CANARY).await;
    world.apply::<Webhook>(webhook_with(&json!({ "deadlineSeconds": 2 }))).await.unwrap();
    world.apply::<Campaign>(campaign(1)).await.unwrap();
    let coupon = world.until_coupons("Expired", |c| c.len() == 1 && state(&c[0]) == "Expired").await.remove(0);
    assert!(said(&json!(coupon), "Ready").1.contains("deadlineSeconds"));
}

#[tokio::test]
async fn a_deadline_that_passes_while_the_webhook_is_paused_expires_the_coupon_too() {
    let world = World::new().await;
    let _operator = world.operator();
    world.apply_secret("WRONG-PASS").await;
    world.apply::<Webhook>(webhook_with(&json!({ "deadlineSeconds": 3 }))).await.unwrap();
    world.apply::<Campaign>(campaign(3)).await.unwrap();
    world.until_coupons("Expired", |c| c.len() == 3 && c.iter().all(|c| state(c) == "Expired")).await;
    assert_eq!(world.stand_in.requests().len(), 1);
}

#[tokio::test]
async fn a_plain_webhook_carries_typed_values_in_url_headers_and_payload_and_a_chain_goes_in_order() {
    let world = World::new().await;
    let _operator = world.operator();
    world.apply_scenario(0).await;
    let shop = json!({
        "metadata": { "name": "register" },
        "spec": {
            "url": "https://shop.example/plain/coupons/${$Code}?for=${$Id}", "method": "PUT",
            "parameters": [{ "name": "Code", "type": "String" }, { "name": "Id", "type": "String" }, { "name": "Limit", "type": "Number" }, { "name": "At", "type": "Number" }],
            "headers": [{ "name": "X-Limit", "value": "${$Limit}" }],
            "payload": r#"{"limit": ${$Limit}, "for": "${$Id}", "at": ${$At}}"#,
        },
    });
    world.apply::<Webhook>(shop).await.unwrap();
    let mut chain = campaign(1);
    chain["spec"]["audience"]["profiles"][0]["integrationId"] = "a/b \"ü\"".into();
    chain["spec"]["rules"][0]["effects"].as_array_mut().unwrap().insert(1, json!({ "sendWebhook": {
        "webhookRef": { "name": "register" },
        "parameters": { "Code": "${$Coupon.Code}", "Id": "${$Profile.IntegrationId}", "Limit": "${$Coupon.RedemptionLimit}", "At": "${$Coupon.IssuedAt}" },
    } }));
    world.stand_in.inject(Fault::status(408));
    world.apply::<Campaign>(chain).await.unwrap();
    let coupon = world.until_delivered(1).await.remove(0);
    let requests = world.stand_in.requests();
    let paths: Vec<&str> = requests.iter().map(|r| r.target.split('/').nth(1).unwrap()).collect();
    assert_eq!(paths, ["plain", "plain", "1"], "CleverTap is told only after the shop took it");
    assert_eq!(
        requests[0].target,
        format!("/plain/coupons/{}?for=a%2Fb%20%22%C3%BC%22", coupon.spec.code.as_deref().unwrap())
    );
    assert_eq!((requests[0].method.as_str(), requests[0].header("x-limit")), ("PUT", Some("100")));
    let body: Value = serde_json::from_str(&requests[0].body).unwrap();
    assert_eq!(body, json!({ "limit": 100, "for": "a/b \"ü\"", "at": coupon.spec.issued_at.unwrap().timestamp() }));
}

#[tokio::test]
async fn i4_success_when_reads_what_a_2xx_says() {
    let world = World::new().await;
    let _operator = world.operator();
    world.apply_scenario(0).await;
    let webhook = json!({ "metadata": { "name": "shop" }, "spec": {
        "url": "https://shop.example/plain", "onUnknown": "Hold", "successWhen": "response.body.ok",
        "parameters": [{ "name": "Id", "type": "String" }], "payload": r#"{"d": [{"identity": "${$Id}"}]}"#,
    } });
    world.apply::<Webhook>(webhook).await.unwrap();
    for (identity, body) in [("customer-1", r#"{"ok":true}"#), ("customer-2", r#"{"ok":false}"#), ("customer-3", "{}")]
    {
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        world.stand_in.set_fault_for(identity, Some(Fault::Raw { answer, hangs: false }));
    }
    let mut campaign = campaign(3);
    campaign["spec"]["rules"][0]["effects"][1]["sendWebhook"] =
        json!({ "webhookRef": { "name": "shop" }, "parameters": { "Id": "${$Profile.IntegrationId}" } });
    world.apply::<Campaign>(campaign).await.unwrap();
    let settled = |c: &Coupon| c.status.as_ref().is_some_and(|status| status.state.is_settled());
    let coupons = world.until_coupons("settled", |c| c.len() == 3 && c.iter().all(settled)).await;
    let mut found: Vec<(String, String, String)> = coupons
        .iter()
        .map(|c| {
            let attempt = &json!(c)["status"]["deliveries"][0]["lastAttempt"];
            (c.spec.recipient.clone().unwrap(), state(c), attempt["message"].as_str().unwrap_or_default().to_owned())
        })
        .collect();
    found.sort();
    let expected = [
        ("customer-1", "Delivered", ""),
        ("customer-2", "Failed", "successWhen: response.body.ok is false"),
        ("customer-3", "Held", "successWhen: response.body.ok: ok is missing"),
    ];
    assert_eq!(found, expected.map(|(who, state, why)| (who.to_owned(), state.to_owned(), why.to_owned())));
    assert_eq!(world.stand_in.requests().len(), 3, "none is sent again");
}

#[tokio::test]
async fn a_coupon_costs_one_create_and_two_writes_of_status() {
    let world = World::new().await;
    let _operator = world.operator();
    world.apply_scenario(1).await;
    world.until_delivered(1).await;
    world.until_campaign_delivered(1).await;
    // Every version that the API server keeps of the second Coupon.
    let start = world.api::<Coupon>().list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    let api = world.api::<Coupon>();
    let mut changes = api.watch(&WatchParams::default(), &start).await.unwrap().boxed();
    world.apply::<Campaign>(campaign(2)).await.unwrap();
    let mut writes = Vec::new();
    while let Some(Ok(change)) = changes.next().await {
        let (WatchEvent::Added(coupon) | WatchEvent::Modified(coupon)) = change else { continue };
        writes.push(state(&coupon));
        if state(&coupon) == "Delivered" {
            break;
        }
    }
    assert_eq!(writes, ["Pending", "Sending", "Delivered"]);
    world.until_campaign_delivered(2).await;
    // I8: settled objects cost nothing, though the window is open and its audience is looked at each second.
    let version = || async { (world.campaign().await.resource_version(), world.webhook().await.resource_version()) };
    let settled = version().await;
    assert!(
        tokio::time::timeout(Duration::from_secs(3), changes.next()).await.is_err(),
        "no write after it is settled"
    );
    assert_eq!(version().await, settled);
}

#[tokio::test]
async fn i9_no_more_than_15_requests_are_in_flight_for_an_account() {
    let world = World::new().await;
    let _operator = world.operator();
    world.stand_in.set_latency(Duration::from_millis(100));
    world.apply_scenario(60).await;
    world.until_delivered(60).await;
    world.assert_each_got_one(60);
    let peak = world.stand_in.in_flight_peak();
    assert!((3..=15).contains(&peak), "{peak} in flight");
    assert!(world.stand_in.requests().iter().all(|r| r.answered == Some(200)), "no 429");
}

#[tokio::test]
async fn i4_two_operators_at_once_send_nothing_twice() {
    let world = World::new().await;
    let _operators = [world.operator(), world.operator()];
    world.stand_in.set_latency(Duration::from_millis(20));
    world.apply_scenario(40).await;
    world.until_delivered(40).await;
    world.assert_each_got_one(40);
    assert_eq!(world.coupons().await.len(), 40);
    let senders: std::collections::BTreeSet<String> = world
        .coupons()
        .await
        .iter()
        .map(|c| json!(c)["status"]["deliveries"][0]["lastAttempt"]["sender"].as_str().unwrap().to_owned())
        .collect();
    assert!(!senders.is_empty(), "sender is random for each start: {senders:?}");
}
