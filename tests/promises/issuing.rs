//! I1, I2: one code for each recipient, whatever happens.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::TimeDelta;
use coupon_operator::api::RESOLVE_ANNOTATION;
use coupon_operator::api::campaign::Campaign;
use coupon_operator::api::coupon::Coupon;
use coupon_operator::api::webhook::Webhook;
use kube::ResourceExt;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};

use crate::world::{World, campaign, condition, rehearsed, said, state, webhook};

fn codes(coupons: &[Coupon]) -> BTreeSet<(String, String)> {
    coupons
        .iter()
        .map(|c| (c.spec.recipient.clone().unwrap_or_default(), c.spec.code.clone().unwrap_or_default()))
        .collect()
}

#[tokio::test]
async fn the_scenario_gives_each_customer_one_code_that_clevertap_got() {
    let world = World::new().await;
    let _operator = world.operator();
    world.apply_scenario(2).await;
    let coupons = world.until_delivered(2).await;
    let campaign = world.until_campaign_delivered(2).await;
    world.assert_each_got_one(2);
    for event in world.stand_in.events() {
        assert_eq!(event.name, "Coupon Generated");
        let coupon = coupons.iter().find(|c| c.spec.recipient.as_ref() == Some(&event.identity)).unwrap();
        assert_eq!(event.data, json!({ "CouponCode": coupon.spec.code }));
        assert_eq!(coupon.spec.occurrence.as_deref(), Some("20230101"));
        assert_eq!(coupon.spec.redemption_limit, Some(100));
        assert!(coupon.metadata.owner_references.is_none(), "Coupons outlive their Campaign");
    }
    let status = campaign.status.clone().unwrap();
    let occurrence = &status.occurrences[0];
    assert_eq!((occurrence.matched, occurrence.issued, occurrence.delivered), (2, 2, 2));
    assert_eq!(said(&json!(campaign), "Ready").0, "Open");
    assert_eq!(condition(&json!(campaign), "Reconciling"), "False");
    assert_eq!(world.stand_in.emails().len(), 2);
    let request = &world.stand_in.requests()[0];
    assert_eq!(request.header("content-type"), Some("application/json; charset=utf-8"));
    assert_eq!(request.header("host"), Some("eu1.api.clevertap.com"));
}

#[tokio::test]
async fn i1_applying_again_deleting_and_reapplying_and_relabelling_grants_nobody_twice() {
    let world = World::new().await;
    let _operator = world.operator();
    world.apply_scenario(5).await;
    let first = codes(&world.until_delivered(5).await);

    world.apply_scenario(5).await;
    world.api::<Campaign>().delete("new-year", &DeleteParams::default()).await.unwrap();
    for coupon in world.coupons().await {
        assert!(coupon.metadata.deletion_timestamp.is_none(), "Coupons outlive their Campaign");
        world.patch::<Coupon>(&coupon.name_any(), json!({ "metadata": { "labels": null, "annotations": null } })).await;
    }
    world.apply_scenario(6).await;
    world.until_delivered(6).await;
    let campaign = world.until_campaign_delivered(6).await;
    let after = codes(&world.coupons().await);
    assert!(after.is_superset(&first) && after.len() == 6, "{after:?}");
    world.assert_each_got_one(6);
    let occurrence = &campaign.status.as_ref().unwrap().occurrences[0];
    assert_eq!(occurrence.issued_by_earlier_campaign, 5, "status says that they are an earlier Campaign's");
    assert!(
        said(&json!(campaign), "Ready").1.contains("5 Coupons of an earlier Campaign"),
        "{:?}",
        said(&json!(campaign), "Ready")
    );
}

#[tokio::test]
async fn i1_editing_the_dates_of_an_open_window_grants_nobody_twice() {
    let world = World::new().await;
    let _operator = world.operator();
    world.apply_scenario(3).await;
    world.until_delivered(3).await;
    for dates in [json!(["2022-12-31", "2023-01-01"]), json!(["2023-01-01", "2023-01-02"]), json!(["2023-01-01"])] {
        let mut edited = campaign(4);
        edited["spec"]["rules"][0]["schedules"][0]["onDates"] = dates;
        let applied = world.apply::<Campaign>(edited).await.unwrap();
        world
            .until::<Campaign>("new-year", "edit observed", |c| {
                c.status.as_ref().is_some_and(|s| {
                    Some(s.observed_generation) == applied.metadata.generation && s.delivered == Some(4)
                })
            })
            .await;
    }
    world.assert_each_got_one(4);
    let keys: BTreeSet<_> = world.coupons().await.into_iter().filter_map(|c| c.spec.occurrence).collect();
    assert_eq!(keys.len(), 1, "they go on under the key that was opened first: {keys:?}");
}

#[tokio::test]
async fn i1_repeated_and_padded_ids_are_one_customer() {
    let world = World::new().await;
    let _operator = world.operator();
    world.apply_scenario(0).await;
    let mut twice = campaign(2);
    twice["spec"]["audience"]["profiles"]
        .as_array_mut()
        .unwrap()
        .extend([json!({ "integrationId": " customer-1 " }), json!({ "integrationId": "customer-2\n" })]);
    world.apply::<Campaign>(twice).await.unwrap();
    let campaign = world.until_campaign_delivered(2).await;
    assert!(said(&json!(campaign), "Ready").1.contains("names 2 ids more than once"), "{campaign:?}");
    world.assert_each_got_one(2);
}

#[tokio::test]
async fn i1_missing_coupons_stop_the_occurrence_until_a_person_accepts_it() {
    let world = World::new().await;
    let _operator = world.operator();
    world.apply_scenario(3).await;
    let coupons = world.until_delivered(3).await;
    world.until_campaign_delivered(3).await;
    let lost = coupons.iter().find(|c| c.spec.recipient.as_deref() == Some("customer-2")).unwrap();
    world.api::<Coupon>().delete(&lost.name_any(), &DeleteParams::default()).await.unwrap();
    world.apply::<Campaign>(campaign(4)).await.unwrap();
    let stopped = world
        .until::<Campaign>("new-year", "CouponsMissing", |c| said(&json!(c), "Stalled").0 == "CouponsMissing")
        .await;
    let message = said(&json!(stopped), "Ready").1;
    assert!(message.contains("coupon-operator.dev/accept-missing: create-coupon-on-1-january/20230101=1"), "{message}");
    assert_eq!(world.coupons().await.len(), 2, "nothing is issued meanwhile");
    let accept = json!({ "metadata": { "annotations": { "coupon-operator.dev/accept-missing": "create-coupon-on-1-january/20230101=1" } } });
    world.patch::<Campaign>("new-year", accept).await;
    world.until_delivered(4).await;
    world.until::<Campaign>("new-year", "Ready again", |c| condition(&json!(c), "Ready") == "True").await;
    assert_eq!(world.stand_in.events().iter().filter(|e| e.identity == "customer-2").count(), 2, "as was accepted");
}

#[tokio::test]
async fn i1_a_coupon_of_that_name_that_records_something_else_is_not_adopted() {
    let world = World::new().await;
    let operator = world.operator();
    world.apply_scenario(1).await;
    let ours = world.until_delivered(1).await.remove(0);
    drop(operator);
    world.api::<Coupon>().delete(&ours.name_any(), &DeleteParams::default()).await.unwrap();
    world.api::<Campaign>().delete("new-year", &DeleteParams::default()).await.unwrap();
    let mut foreign = json!(ours);
    foreign["metadata"] = json!({ "name": ours.name_any() });
    foreign["spec"]["recipient"] = "somebody-else".into();
    foreign["spec"]["campaign"] = "another".into();
    world.api::<Coupon>().create(&PostParams::default(), &serde_json::from_value(foreign).unwrap()).await.unwrap();
    let _operator = world.operator();
    world.apply_scenario(1).await;
    let stopped =
        world.until::<Campaign>("new-year", "NameConflict", |c| said(&json!(c), "Stalled").0 == "NameConflict").await;
    assert!(said(&json!(stopped), "Ready").1.contains(&ours.name_any()));
    assert_eq!(world.coupons().await.len(), 1);
}

#[tokio::test]
async fn i2_too_small_a_keyspace_is_refused_with_what_to_do() {
    let world = World::new().await;
    let _operator = world.operator();
    world.apply_scenario(0).await;
    let mut small = campaign(5);
    small["spec"]["rules"][0]["effects"][0]["createCoupon"]["pattern"] = "A-##".into();
    world.apply::<Campaign>(small).await.unwrap();
    let stopped =
        world.until::<Campaign>("new-year", "refused", |c| said(&json!(c), "Stalled").0 == "KeyspaceTooSmall").await;
    assert!(
        said(&json!(stopped), "Ready").1.contains("makes 1024 codes, too few for 5"),
        "{:?}",
        said(&json!(stopped), "Ready")
    );
    assert!(world.coupons().await.is_empty());
}

#[tokio::test]
async fn a_recipient_without_a_value_is_counted_and_keeps_nobody_else_from_getting_one() {
    let world = World::new().await;
    let _operator = world.operator();
    world.apply_scenario(0).await;
    let mut picky = campaign(2);
    picky["spec"]["audience"]["profiles"][0]["attributes"] = json!({ "nick": "A\"da" });
    picky["spec"]["rules"][0]["effects"][0]["createCoupon"]["attributes"] =
        json!({ "for": "${$Profile.Attributes.nick}" });
    world.apply::<Campaign>(picky).await.unwrap();
    world.until_delivered(1).await;
    let campaign = world.until_campaign_delivered(1).await;
    let occurrence = &campaign.status.unwrap().occurrences[0];
    assert_eq!((occurrence.matched, occurrence.issued), (2, 1));
    let reasons: Vec<_> = occurrence.ineligible.iter().collect();
    assert_eq!(reasons, [(&"createCoupon.attributes.for: Missing Profile.Attributes.nick".to_owned(), &1)]);
    assert_eq!(world.coupons().await[0].spec.attributes["for"], "A\"da");
}

#[tokio::test]
async fn suspend_stops_issuing_and_sending_and_loses_nothing() {
    let world = World::new().await;
    let _operator = world.operator();
    let mut suspended = campaign(3);
    suspended["spec"]["suspend"] = true.into();
    world.apply_secret(crate::world::CANARY).await;
    world.apply::<Webhook>(webhook()).await.unwrap();
    world.apply::<Campaign>(suspended.clone()).await.unwrap();
    world.until::<Campaign>("new-year", "Suspended", |c| said(&json!(c), "Ready").0 == "Suspended").await;
    assert!(world.coupons().await.is_empty());
    // Held back by the Webhook, Coupons wait; then the Campaign is suspended over them.
    world.patch::<Webhook>("send-clevertap-email", json!({ "spec": { "suspend": true } })).await;
    world.until::<Webhook>("send-clevertap-email", "Suspended", |w| said(&json!(w), "Ready").0 == "Suspended").await;
    world.apply::<Campaign>(campaign(3)).await.unwrap();
    world.until_coupons("issued", |coupons| coupons.len() == 3).await;
    world.apply::<Campaign>(suspended).await.unwrap();
    world.until::<Campaign>("new-year", "Suspended", |c| said(&json!(c), "Ready").0 == "Suspended").await;
    world.patch::<Webhook>("send-clevertap-email", json!({ "spec": { "suspend": false } })).await;
    world.until::<Webhook>("send-clevertap-email", "Accepted", |w| said(&json!(w), "Ready").0 == "Accepted").await;
    assert!(!world.stand_in.wait_for_requests(1, Duration::from_secs(1)).await, "the Campaign is suspended");
    world.apply::<Campaign>(campaign(3)).await.unwrap();
    world.until_delivered(3).await;
    world.assert_each_got_one(3);
}

#[tokio::test]
async fn a_coupon_outlives_its_campaign_and_is_sent_when_it_is_back() {
    let world = World::new().await;
    let _operator = world.operator();
    world.apply_scenario(0).await;
    world.patch::<Webhook>("send-clevertap-email", json!({ "spec": { "suspend": true } })).await;
    world.until::<Webhook>("send-clevertap-email", "Suspended", |w| said(&json!(w), "Ready").0 == "Suspended").await;
    world.apply::<Campaign>(campaign(2)).await.unwrap();
    world.until_coupons("issued", |coupons| coupons.len() == 2).await;
    world.api::<Campaign>().delete("new-year", &DeleteParams::default()).await.unwrap();
    world.patch::<Webhook>("send-clevertap-email", json!({ "spec": { "suspend": false } })).await;
    assert!(!world.stand_in.wait_for_requests(1, Duration::from_secs(1)).await, "its Campaign is gone");
    assert_eq!(world.coupons().await.len(), 2);
    world.apply::<Campaign>(campaign(2)).await.unwrap();
    world.until_delivered(2).await;
    world.assert_each_got_one(2);
}

/// A Coupon as the operator writes it, issued so long before now.
fn issued(name: &str, ago: TimeDelta) -> Value {
    json!({
        "apiVersion": "coupon-operator.dev/v1alpha1", "kind": "Coupon", "metadata": { "name": name },
        "spec": {
            "campaign": "new-year", "rule": "create-coupon-on-1-january", "occurrence": "20230101",
            "issuedAt": rehearsed() - ago, "recipient": name, "code": name,
            "deliveries": [{ "name": "send-clevertap-email", "webhookRef": { "name": "send-clevertap-email" },
                "parameters": { "ProfileID": name, "CouponCode": name } }],
        },
    })
}

#[tokio::test]
async fn a_coupon_restored_without_its_status_is_held_and_a_fresh_one_is_sent() {
    let world = World::new().await;
    let _operator = world.operator();
    world.apply_scenario(0).await;
    for (name, ago) in [("restored", TimeDelta::hours(2)), ("fresh", TimeDelta::minutes(5))] {
        world.apply::<Coupon>(issued(name, ago)).await.unwrap();
    }
    let held = world.until::<Coupon>("restored", "Held", |c| state(c) == "Held").await;
    assert_eq!(said(&json!(held), "Ready").0, "Restored");
    world.until::<Coupon>("fresh", "Delivered", |c| state(c) == "Delivered").await;
    assert_eq!(world.stand_in.events().iter().map(|e| e.identity.as_str()).collect::<Vec<_>>(), ["fresh"]);
    // As docs/operations.md says: a person who knows that it was not sent may let it go.
    let release = json!({ "metadata": { "annotations": { RESOLVE_ANNOTATION: "send-clevertap-email:Retry@0" } } });
    world.patch::<Coupon>("restored", release).await;
    world.until::<Coupon>("restored", "Delivered", |c| state(c) == "Delivered").await;
}

#[tokio::test]
async fn a_coupon_written_by_hand_is_delivered_and_counts_in_no_ledger() {
    let world = World::new().await;
    let _operator = world.operator();
    world.apply_scenario(1).await;
    world.until_delivered(1).await;
    let mut by_hand = issued("customer-1", TimeDelta::zero());
    for field in ["campaign", "rule", "occurrence", "issuedAt"] {
        by_hand["spec"].as_object_mut().unwrap().remove(field);
    }
    world.apply::<Coupon>(by_hand).await.unwrap();
    world.until_delivered(2).await;
    world.apply::<Campaign>(campaign(2)).await.unwrap();
    let campaign = world.until_campaign_delivered(2).await;
    assert_eq!(campaign.status.unwrap().issued, Some(2));
    assert_eq!(world.coupons().await.len(), 3);
}

#[tokio::test]
async fn only_namespaces_of_its_kind_are_worked_in() {
    let world = World::new().await;
    let _operator = world.operator();
    world.apply_scenario(1).await;
    world.until_delivered(1).await;
    let api = kube::Api::<k8s_openapi::api::core::v1::Namespace>::all(world.client.clone());
    let relabel = json!({ "metadata": { "labels": { coupon_operator::api::REHEARSAL_LABEL: "false" } } });
    api.patch(&world.namespace, &kube::api::PatchParams::default(), &kube::api::Patch::Merge(relabel)).await.unwrap();
    world.patch::<Webhook>("send-clevertap-email", json!({ "spec": { "title": "seen?" } })).await;
    world.apply::<Campaign>(campaign(2)).await.unwrap();
    assert!(!world.stand_in.wait_for_requests(2, Duration::from_secs(1)).await);
    assert_eq!(world.coupons().await.len(), 1, "a rehearsal does nothing outside of rehearsal namespaces");
}

#[tokio::test]
async fn i1_a_thousand_customers_each_get_one_code_that_nobody_else_has() {
    let world = World::new().await;
    let _operator = world.operator();
    world.stand_in.set_latency(Duration::from_millis(50));
    let begun = std::time::Instant::now();
    world.apply_scenario(1000).await;
    world.until_campaign_delivered(1000).await;
    println!("1000 customers, {:?} from apply to the Campaign's Delivered", begun.elapsed());
    world.assert_each_got_one(1000);
    let coupons = world.coupons().await;
    let codes: BTreeSet<String> = coupons.iter().map(|c| c.spec.code.as_deref().unwrap().to_lowercase()).collect();
    assert_eq!(codes.len(), 1000);
    assert!(world.stand_in.in_flight_peak() <= 15);
}

#[tokio::test]
async fn with_the_real_clock_it_works_everywhere_but_in_rehearsals() {
    let world = World::new().await;
    let _operator = world.operator_with_the_real_clock();
    let mut always = campaign(2);
    always["spec"]["rules"][0]["schedules"] = json!([]);
    world.apply_scenario(0).await;
    world.apply::<Campaign>(always).await.unwrap();
    assert!(!world.stand_in.wait_for_requests(1, Duration::from_secs(2)).await, "this is a rehearsal's namespace");
    let api = kube::Api::<k8s_openapi::api::core::v1::Namespace>::all(world.client.clone());
    let relabel = json!({ "metadata": { "labels": { coupon_operator::api::REHEARSAL_LABEL: null } } });
    api.patch(&world.namespace, &kube::api::PatchParams::default(), &kube::api::Patch::Merge(relabel)).await.unwrap();
    let coupons = world.until_delivered(2).await;
    world.assert_each_got_one(2);
    assert!(coupons.iter().all(|c| c.spec.occurrence.as_deref() == Some("open")));
    let status = world.until_campaign_delivered(2).await.status.unwrap();
    assert_eq!(status.occurrences[0].window, coupon_operator::api::campaign::Window::default());
}
