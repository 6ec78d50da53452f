//! I1, I3, I4, I5 for batches: many records in a Coupon, and in a request.

use std::collections::{BTreeMap, BTreeSet};

use clevertap_stand_in::{Fault, Received};
use coupon_operator::api::RESOLVE_ANNOTATION;
use coupon_operator::api::campaign::{Campaign, Shape};
use coupon_operator::api::coupon::{Coupon, CouponState, DeliveryStatus};
use coupon_operator::api::webhook::Webhook;
use coupon_operator::records::Records;
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::world::{CANARY, LONG, World, campaign, said, state, webhook};

/// The scenario's Webhook, with so many records in a request.
fn batched(size: usize) -> Value {
    let mut webhook = webhook();
    webhook["spec"]["batch"] = json!({ "maxSize": size, "recordsAt": "/d" });
    webhook["spec"]["timeoutSeconds"] = 2.into();
    webhook
}

async fn applied(customers: usize, webhook: Value) -> World {
    let world = World::new().await;
    world.apply_secret(CANARY).await;
    world.apply::<Webhook>(webhook).await.unwrap();
    world.apply::<Campaign>(campaign(customers)).await.unwrap();
    world
}

/// Codes by recipient: I1, each recipient is in one record only.
fn codes(coupons: &[Coupon]) -> BTreeMap<String, String> {
    let mut codes = BTreeMap::new();
    for coupon in coupons {
        for (_, record) in Records::of(&coupon.spec).iter() {
            let before = codes.insert(record.recipient().to_owned(), record.code().to_owned());
            assert!(before.is_none(), "I1: {} has two codes", record.recipient());
        }
    }
    codes
}

fn sizes(coupons: &[Coupon]) -> Vec<usize> {
    let mut sizes: Vec<(i32, usize)> = coupons.iter().map(|c| (c.spec.chunk.unwrap(), c.spec.rows.len())).collect();
    sizes.sort_unstable();
    sizes.into_iter().map(|(_, size)| size).collect()
}

fn delivery(coupon: &Coupon, i: usize) -> DeliveryStatus {
    coupon.status.as_ref().unwrap().deliveries[i].clone()
}

fn identities(request: &Received) -> Vec<String> {
    let body: Value = serde_json::from_str(&request.body).unwrap();
    body["d"].as_array().unwrap().iter().map(|r| r["identity"].as_str().unwrap().to_owned()).collect()
}

fn settled(coupon: &Coupon) -> bool {
    coupon.status.as_ref().is_some_and(|status| status.state.is_settled())
}

/// What CleverTap stored is what the Coupons say.
fn assert_stored_as_issued(world: &World, coupons: &[Coupon]) {
    let codes = codes(coupons);
    for event in world.stand_in.events() {
        assert_eq!(event.data["CouponCode"].as_str(), codes.get(&event.identity).map(String::as_str), "I3");
    }
}

#[tokio::test]
async fn records_are_merged_into_requests_and_late_joiners_get_a_chunk_of_their_own() {
    let world = applied(25, batched(10)).await;
    let _operator = world.operator();
    let coupons = world.until_coupons("three", |c| c.len() == 3 && c.iter().all(|c| state(c) == "Delivered")).await;
    assert_eq!(sizes(&coupons), [10, 10, 5]);
    assert_eq!(codes(&coupons).into_values().collect::<BTreeSet<_>>().len(), 25, "I2");
    assert_eq!(world.stand_in.requests().len(), 3);
    world.assert_each_got_one(25);
    assert_stored_as_issued(&world, &coupons);
    let mut summaries: Vec<_> = coupons.iter().map(|c| c.status.as_ref().unwrap().summary.clone().unwrap()).collect();
    summaries.sort();
    assert_eq!(summaries, ["10/10", "10/10", "5/5"]);
    let campaign_status = world.until_campaign_delivered(25).await.status.unwrap();
    assert_eq!((campaign_status.occurrences[0].shape, campaign_status.occurrences[0].issued), (Shape::Batch, 25));
    world.apply::<Campaign>(campaign(27)).await.unwrap();
    let coupons = world.until_coupons("four", |c| c.len() == 4 && c.iter().all(|c| state(c) == "Delivered")).await;
    assert_eq!(sizes(&coupons), [10, 10, 5, 2], "a short chunk is never filled later");
    codes(&coupons);
    world.assert_each_got_one(27);
}

#[tokio::test]
async fn i4_one_bad_record_fails_itself_only() {
    let mut webhook = batched(10);
    webhook["spec"]["parameters"].as_array_mut().unwrap().push(json!({ "name": "Event", "type": "String" }));
    webhook["spec"]["payload"] =
        webhook["spec"]["payload"].as_str().unwrap().replace("Coupon Generated", "${$Event}").into();
    let world = applied(0, webhook).await;
    let mut campaign = campaign(6);
    campaign["spec"]["rules"][0]["effects"][1]["sendWebhook"]["parameters"]["Event"] =
        "${$Profile.Attributes.event | \"Coupon Generated\"}".into();
    let profiles = &mut campaign["spec"]["audience"]["profiles"];
    profiles[2]["attributes"] = json!({ "event": "Discarded" });
    profiles[3]["attributes"] = json!({ "event": "50% off" });
    world.stand_in.inject(Fault::ServerError { records: vec![2] });
    let _operator = world.operator();
    world.apply::<Campaign>(campaign).await.unwrap();
    let coupon = world.until_coupons("settled", |c| c.len() == 1 && settled(&c[0])).await.remove(0);
    let status = coupon.status.clone().unwrap();
    assert_eq!((status.state, status.summary.as_deref()), (CouponState::PartiallyFailed, Some("4/6")));
    let delivery = delivery(&coupon, 0);
    assert_eq!((delivery.accepted.to_string(), delivery.failed.to_string()), ("1-2,5-6".into(), "3-4".into()));
    let failures: Vec<_> =
        delivery.failures.iter().map(|f| (f.row, f.recipient.as_deref().unwrap(), f.reason.as_str())).collect();
    assert_eq!(failures, [(4, "customer-4", "Invalid"), (3, "customer-3", "CleverTap528")]);
    assert!(delivery.failures[0].message.as_ref().unwrap().contains("prohibits the characters"));
    let requests = world.stand_in.requests();
    assert_eq!(requests.len(), 2, "{requests:?}");
    let sent: Vec<Vec<String>> = requests.iter().map(identities).collect();
    assert_eq!(sent[0], ["customer-1", "customer-2", "customer-3", "customer-5", "customer-6"]);
    assert_eq!(sent[1], ["customer-2"], "a resend carries only what is unresolved");
    assert_stored_as_issued(&world, &[coupon]);
    // Between the two requests status may say less.
    let counted = |c: &Campaign| {
        let occurrence = &c.status.as_ref().unwrap().occurrences[0];
        (occurrence.failed, occurrence.delivered) == (2, 4)
    };
    world.until::<Campaign>("new-year", "counted", counted).await;
}

#[tokio::test]
async fn i3_a_batch_of_unknown_outcome_is_sent_again_with_the_same_bytes_and_said_to_be_doubtful() {
    let world = applied(5, batched(5)).await;
    world.stand_in.inject(Fault::ResetAfter);
    let _operator = world.operator();
    let coupon = world.until_coupons("delivered", |c| c.len() == 1 && settled(&c[0])).await.remove(0);
    let requests = world.stand_in.requests();
    assert_eq!((requests.len(), &requests[0].body), (2, &requests[1].body));
    let delivery = delivery(&coupon, 0);
    assert_eq!((delivery.accepted.to_string(), delivery.unknown.to_string()), ("1-5".into(), "1-5".into()));
    assert_eq!(world.stand_in.duplicates().len(), 5, "and so it was");
}

#[tokio::test]
async fn i5_under_hold_a_batch_of_unknown_outcome_waits_for_a_person() {
    let mut webhook = batched(5);
    webhook["spec"]["onUnknown"] = "Hold".into();
    let world = applied(5, webhook).await;
    world.stand_in.inject(Fault::ResetAfter);
    let _operator = world.operator();
    let coupon = world.until_coupons("held", |c| c.len() == 1 && state(&c[0]) == "Held").await.remove(0);
    assert_eq!(delivery(&coupon, 0).held.to_string(), "1-5");
    assert_eq!(world.stand_in.requests().len(), 1);
    world.until::<Campaign>("new-year", "counted", |c| c.status.as_ref().unwrap().occurrences[0].unknown == 5).await;
}

#[tokio::test]
async fn a_request_that_is_too_large_is_sent_again_in_halves() {
    let world = applied(10, batched(10)).await;
    world.stand_in.set_lasting_fault(Some(Fault::RefusedAbove { records: 3 }));
    let _operator = world.operator();
    world.until_coupons("delivered", |c| c.len() == 1 && state(&c[0]) == "Delivered").await;
    world.assert_each_got_one(10);
    let sent: Vec<usize> = world.stand_in.requests().iter().map(|r| identities(r).len()).collect();
    assert_eq!(sent[..3], [10, 5, 3], "{sent:?}");
}

#[tokio::test]
async fn i4_the_one_record_for_which_a_batch_is_refused_is_found() {
    let world = applied(9, batched(9)).await;
    world.stand_in.set_fault_for("customer-7", Some(Fault::status(422)));
    let _operator = world.operator();
    let coupon = world.until_coupons("settled", |c| c.len() == 1 && settled(&c[0])).await.remove(0);
    let delivery = delivery(&coupon, 0);
    assert_eq!((delivery.accepted.to_string(), delivery.failed.to_string()), ("1-6,8-9".into(), "7".into()));
    assert!(world.stand_in.duplicates().is_empty());
    assert_eq!(world.stand_in.events().len(), 8);
}

#[tokio::test]
async fn i1_max_size_is_edited_in_the_window_and_nobody_gets_two() {
    let mut suspended = batched(10);
    suspended["spec"]["suspend"] = true.into();
    let world = applied(8, suspended).await;
    let _operator = world.operator();
    world.until_coupons("issued", |c| c.len() == 1).await;
    world.apply::<Webhook>(batched(3)).await.unwrap();
    world.until_coupons("delivered", |c| state(&c[0]) == "Delivered").await;
    let sent: Vec<Vec<String>> = world.stand_in.requests().iter().map(identities).collect();
    assert_eq!(sent.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 2], "slices of the present maxSize");
    let in_order: Vec<String> = (1..=8).map(|i| format!("customer-{i}")).collect();
    assert_eq!(sent.concat(), in_order);
    // Without batch at all: the shape of the occurrence stays what it was.
    world.apply::<Webhook>(webhook()).await.unwrap();
    world.apply::<Campaign>(campaign(20)).await.unwrap();
    let coupons =
        world.until_coupons("all", |c| codes(c).len() == 20 && c.iter().all(|c| state(c) == "Delivered")).await;
    assert_eq!(sizes(&coupons), [8, 10, 2]);
    world.assert_each_got_one(20);
}

#[tokio::test]
async fn i1_a_single_occurrence_stays_single_when_its_webhook_learns_batches() {
    let world = applied(2, webhook()).await;
    let _operator = world.operator();
    world.until_delivered(2).await;
    world.apply::<Webhook>(batched(10)).await.unwrap();
    world.apply::<Campaign>(campaign(5)).await.unwrap();
    let coupons = world.until_delivered(5).await;
    assert!(coupons.iter().all(|c| c.spec.chunk.is_none()));
    world.assert_each_got_one(5);
}

#[tokio::test]
async fn a_chain_goes_row_by_row() {
    let world = applied(0, batched(10)).await;
    let second = json!({
        "metadata": { "name": "second" },
        "spec": { "url": "https://shop.example/plain/told", "batch": { "maxSize": 10, "recordsAt": "/d" },
            "parameters": [{ "name": "Id", "type": "String" }, { "name": "Code", "type": "String" }],
            "payload": r#"{"d": [{"identity": "${$Id}", "code": "${$Code}"}]}"# },
    });
    world.apply::<Webhook>(second).await.unwrap();
    let mut chain = campaign(6);
    chain["spec"]["rules"][0]["effects"].as_array_mut().unwrap().push(json!({ "sendWebhook": {
        "webhookRef": { "name": "second" }, "parameters": { "Code": "${$Coupon.Code}", "Id": "${$Profile.IntegrationId}" } } }));
    world.stand_in.inject(Fault::ServerError { records: vec![2, 4] });
    let _operator = world.operator();
    world.apply::<Campaign>(chain).await.unwrap();
    let coupon = world.until_coupons("delivered", |c| c.len() == 1 && state(&c[0]) == "Delivered").await.remove(0);
    let requests = world.stand_in.requests();
    let to_second: Vec<Vec<String>> =
        requests.iter().filter(|r| r.target.starts_with("/plain")).map(identities).collect();
    let names = |rows: &[usize]| rows.iter().map(|i| format!("customer-{i}")).collect::<Vec<_>>();
    assert_eq!(
        to_second,
        [names(&[1, 3, 5, 6]), names(&[2, 4])],
        "those that the first accepted, then those freed later"
    );
    let order: Vec<bool> = requests.iter().map(|r| r.target.starts_with("/plain")).collect();
    assert_eq!(order, [false, true, false, true]);
    assert_stored_as_issued(&world, &[coupon]);
}

#[tokio::test]
async fn i1_killed_at_any_moment_everybody_is_in_one_chunk_and_is_told_once_or_said_to_be_doubtful() {
    let world = applied(60, batched(4)).await;
    world.stand_in.set_latency(std::time::Duration::from_millis(30));
    for round in 1..=6_usize {
        let mut operator = world.operator();
        let (coupons, requests) = (world.coupons().await.len(), world.stand_in.requests().len());
        if round % 2 == 0 {
            world.stand_in.wait_for_requests(requests + round, LONG).await;
        } else {
            world.until_coupons("one more", |c| c.len() > coupons || c.len() == 15).await;
        }
        operator.kill().unwrap();
    }
    let _operator = world.operator();
    let coupons =
        world.until_coupons("all", |c| codes(c).len() == 60 && c.iter().all(|c| state(c) == "Delivered")).await;
    assert_eq!(codes(&coupons).into_values().collect::<BTreeSet<_>>().len(), 60);
    assert_stored_as_issued(&world, &coupons);
    let events = world.stand_in.events();
    for coupon in &coupons {
        let delivery = delivery(coupon, 0);
        for (row, record) in Records::of(&coupon.spec).iter() {
            let times = events.iter().filter(|e| e.identity == record.recipient()).count();
            let doubtful = delivery.unknown.contains(row);
            assert!(times == 1 || (times > 1 && doubtful), "row {row}: {times} times, {delivery:?}");
        }
    }
}

#[tokio::test]
async fn a_batch_written_by_hand_is_delivered_and_a_row_that_does_not_fit_fails_itself() {
    let world = applied(0, batched(10)).await;
    let _operator = world.operator();
    let by_hand = json!({
        "metadata": { "name": "by-hand" },
        "spec": {
            "columns": ["recipient", "code", "tell/ProfileID", "tell/CouponCode"],
            "rows": ["customer-1,AAA,customer-1,AAA", "customer-2,BBB", "customer-3,CCC,customer-3,CCC"],
            "deliveries": [{ "name": "tell", "webhookRef": { "name": "send-clevertap-email" } }],
        },
    });
    world.apply::<Coupon>(by_hand).await.unwrap();
    let coupon = world.until_coupons("settled", |c| c.len() == 1 && settled(&c[0])).await.remove(0);
    assert_eq!(delivery(&coupon, 0).accepted.to_string(), "1,3");
    assert!(said(&json!(coupon), "Ready").0 == "Failed");
    let failure = &delivery(&coupon, 0).failures[0];
    assert_eq!(failure.message.as_deref(), Some("nothing was sent: spec.rows[1] has 2 cells, and there are 4 columns"));
}

#[tokio::test]
async fn i5_a_person_resolves_many_at_once_and_each_decision_is_good_for_one_attempt() {
    let mut webhook = batched(5);
    webhook["spec"]["onUnknown"] = "Hold".into();
    let world = applied(15, webhook).await;
    world.stand_in.set_lasting_fault(Some(Fault::ResetBefore));
    let _operator = world.operator();
    world.until_coupons("held", |c| c.len() == 3 && c.iter().all(|c| state(c) == "Held")).await;
    world.stand_in.set_lasting_fault(None);
    let resolve = |arguments: &'static [&'static str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_coupon-operator"));
        command.args(["resolve", "new-year", "--namespace", &world.namespace]).args(arguments);
        let output = command.env("KUBECONFIG", world.kubeconfig()).output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let rehearsal = resolve(&["--as", "Retry", "--dry-run"]);
    assert_eq!(rehearsal, (true, "3 Coupons with 15 records would be annotated\n".into()));
    assert!(resolve(&["--as", "Retry", "--state", "Failed"]).1.starts_with("0 Coupons"));
    assert_eq!(
        resolve(&["--as", "Retry", "--state", "Held"]).1,
        "3 Coupons with 15 records annotated, and the operator follows\n"
    );
    world.until_coupons("delivered", |c| c.iter().all(|c| state(c) == "Delivered")).await;
    world.until_campaign_delivered(15).await;
    world.assert_each_got_one(15);
    assert_eq!(world.stand_in.requests().len(), 6, "each was sent once more");
}

#[tokio::test]
async fn a_person_says_that_a_held_coupon_was_delivered_and_the_campaign_counts_it() {
    let mut webhook = batched(5);
    webhook["spec"]["onUnknown"] = "Hold".into();
    let world = applied(5, webhook).await;
    world.stand_in.inject(Fault::ResetAfter);
    let _operator = world.operator();
    let held = world.until_coupons("held", |c| c.len() == 1 && state(&c[0]) == "Held").await.remove(0);
    world.until::<Campaign>("new-year", "counted", |c| c.status.as_ref().unwrap().occurrences[0].unknown == 5).await;
    let annotate = |text: &str| json!({ "metadata": { "annotations": { RESOLVE_ANNOTATION: text } } });
    let name = held.name_any();
    world.patch::<Coupon>(&name, annotate("send-clevertap-email:Delivered@7")).await;
    let refused = world.until::<Coupon>(&name, "refused", |c| said(&json!(c), "Resolved").0 == "Invalid").await;
    assert!(said(&json!(refused), "Resolved").1.contains("has had 1 attempts by now"));
    assert_eq!(state(&refused), "Held");
    world.patch::<Coupon>(&name, annotate("send-clevertap-email:Delivered@1")).await;
    world.until::<Coupon>(&name, "delivered", |c| state(c) == "Delivered").await;
    world.until_campaign_delivered(5).await;
    assert_eq!(world.stand_in.requests().len(), 1);
}

#[tokio::test]
async fn i2_the_codes_of_a_batch_count_each_when_a_pattern_has_too_few() {
    let world = applied(1000, batched(1000)).await;
    let _operator = world.operator();
    world.until_campaign_delivered(1000).await;
    let mut short = campaign(100);
    short["metadata"]["name"] = "short".into();
    // 32⁴ codes, fewer than 1000 for each of 1100.
    short["spec"]["rules"][0]["effects"][0]["createCoupon"]["pattern"] = "####".into();
    world.apply::<Campaign>(short).await.unwrap();
    let stopped =
        world.until::<Campaign>("short", "too few", |c| said(&json!(c), "Stalled").0 == "KeyspaceTooSmall").await;
    assert!(said(&json!(stopped), "Ready").1.contains("1100"), "{stopped:?}");
    assert_eq!(world.coupons().await.len(), 1);
}

#[tokio::test]
async fn i6_a_recipient_whose_record_is_too_large_is_counted_and_stops_nobody() {
    for size in [1, 10] {
        let world = applied(0, batched(size)).await;
        let mut campaign = campaign(3);
        let effects = &mut campaign["spec"]["rules"][0]["effects"];
        effects[0]["createCoupon"]["attributes"] = json!({ "note": "${$Profile.Attributes.note | \"\"}" });
        campaign["spec"]["audience"]["profiles"][1]["attributes"] = json!({ "note": "\"".repeat(33_000) });
        world.apply::<Campaign>(campaign).await.unwrap();
        let _operator = world.operator();
        let status = world.until_campaign_delivered(2).await.status.unwrap();
        let reasons = [("TooLarge: its record takes over 65536 bytes".to_owned(), 1)];
        assert_eq!(status.occurrences[0].ineligible, reasons.into());
    }
}

/// The API server refuses to write the status of Coupons with the label `refused`, in this namespace.
async fn refuse_labelled(world: &World, one: &str) {
    let policy: ValidatingAdmissionPolicy = serde_json::from_value(json!({
        "metadata": { "name": world.namespace },
        "spec": {
            "matchConstraints": {
                "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": world.namespace } },
                "objectSelector": { "matchLabels": { "refused": "true" } },
                "resourceRules": [{ "apiGroups": ["coupon-operator.dev"], "apiVersions": ["*"], "operations": ["UPDATE"],
                    "resources": ["coupons/status"] }] },
            "validations": [{ "expression": "false", "message": "refused for a test" }] },
    }))
    .unwrap();
    let binding: ValidatingAdmissionPolicyBinding = serde_json::from_value(json!({
        "metadata": { "name": world.namespace },
        "spec": { "policyName": world.namespace, "validationActions": ["Deny"] },
    }))
    .unwrap();
    let (policies, bindings) = (Api::all(world.client.clone()), Api::all(world.client.clone()));
    policies.create(&PostParams::default(), &policy).await.unwrap();
    bindings.create(&PostParams::default(), &binding).await.unwrap();
    let attempted = || async {
        let changed = Patch::Merge(json!({ "status": { "observedGeneration": 7 } }));
        world.api::<Coupon>().patch_status(one, &PatchParams::default(), &changed).await
    };
    let refused = tokio::time::timeout(LONG, async { while attempted().await.is_ok() {} });
    refused.await.expect("the policy is in force");
}

#[tokio::test]
async fn i6_resolutions_that_are_refused_for_ever_keep_no_other_from_its_own() {
    let world = applied(0, webhook()).await;
    for i in 1..=12 {
        let restored = json!({
            "metadata": { "name": format!("restored-{i}") },
            "spec": { "campaign": "new-year", "campaignUid": "restored", "rule": "greet", "occurrence": "20221231",
                "issuedAt": "2022-12-31T00:00:00Z", "recipient": format!("customer-{i}"), "code": format!("CODE-{i}"),
                "deliveries": [{ "name": "send-clevertap-email", "webhookRef": { "name": "send-clevertap-email" },
                    "parameters": { "ProfileID": format!("customer-{i}"), "CouponCode": format!("CODE-{i}") } }] },
        });
        world.apply::<Coupon>(restored).await.unwrap();
    }
    let operator = world.operator();
    let held = world.until_coupons("held", |c| c.len() == 12 && c.iter().all(|c| state(c) == "Held")).await;
    drop(operator);
    let annotations = json!({ RESOLVE_ANNOTATION: "send-clevertap-email:Retry@0" });
    let (last, others) = held.split_last().unwrap();
    for coupon in others {
        let labelled = json!({ "metadata": { "labels": { "refused": "true" }, "annotations": annotations } });
        world.patch::<Coupon>(&coupon.name_any(), labelled).await;
    }
    refuse_labelled(&world, &others[0].name_any()).await;
    let _operator = world.operator();
    world.until_logged("refused for a test", 8).await;
    world.patch::<Coupon>(&last.name_any(), json!({ "metadata": { "annotations": annotations } })).await;
    world.until::<Coupon>(&last.name_any(), "delivered", |c| state(c) == "Delivered").await;
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(world.client.clone());
    bindings.delete(&world.namespace, &DeleteParams::default()).await.unwrap();
    // Neither goes with the namespace.
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(world.client.clone());
    policies.delete(&world.namespace, &DeleteParams::default()).await.unwrap();
    world.until_coupons("all delivered", |c| c.iter().all(|c| state(c) == "Delivered")).await;
    world.assert_each_got_one(12);
}
