//! A million recipients in a thousand Coupons.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::TimeDelta;
use clevertap_stand_in::Page;
use coupon_operator::api::campaign::Campaign;
use coupon_operator::api::coupon::Coupon;
use coupon_operator::api::webhook::Webhook;
use coupon_operator::records::Records;
use futures::StreamExt;
use kube::ResourceExt;
use kube::api::PostParams;
use serde_json::{Value, json};

use crate::world::{CANARY, World, campaign, rehearsed, state, webhook};

const COUPONS: u32 = 1000;
const ROWS: u32 = 1000;

/// A Coupon as the operator writes it.
fn chunk(campaign_uid: &str, number: u32) -> Coupon {
    let row = |row| format!("c{number}-{row},CODE-{number}-{row},c{number}-{row},CODE-{number}-{row}");
    let rows: Vec<String> = (0..ROWS).map(row).collect();
    serde_json::from_value(json!({
        "apiVersion": "coupon-operator.dev/v1alpha1", "kind": "Coupon", "metadata": { "name": format!("chunk-{number}") },
        "spec": {
            "campaign": "new-year", "campaignUid": campaign_uid, "rule": "create-coupon-on-1-january",
            "occurrence": "20230101", "issuedAt": rehearsed(), "chunk": number,
            "window": { "startTime": "2022-12-31T23:00:00Z", "endTime": "2023-01-01T23:00:00Z" },
            "columns": ["recipient", "code", "send-clevertap-email/ProfileID", "send-clevertap-email/CouponCode"],
            "rows": rows,
            "deliveries": [{ "name": "send-clevertap-email", "webhookRef": { "name": "send-clevertap-email" } }],
        },
    }))
    .unwrap()
}

fn suspended(suspend: bool) -> Value {
    json!({ "spec": { "suspend": suspend } })
}

#[tokio::test(flavor = "multi_thread")]
async fn suspend_in_the_middle_of_a_million_is_obeyed_within_a_second_and_it_goes_on() {
    let world = World::new().await;
    world.stand_in.set_latency(Duration::from_millis(500));
    world.apply_secret(CANARY).await;
    let mut batched = webhook();
    batched["spec"]["batch"] = json!({ "maxSize": ROWS, "recordsAt": "/d" });
    world.apply::<Webhook>(batched).await.unwrap();
    let uid = world.apply::<Campaign>(campaign(0)).await.unwrap().uid().unwrap();
    let (coupons, parameters) = (world.api::<Coupon>(), PostParams::default());
    let created = futures::stream::iter(1..=COUPONS).map(|number| {
        let (coupons, parameters, chunk) = (&coupons, &parameters, chunk(&uid, number));
        async move { coupons.create(parameters, &chunk).await.unwrap() }
    });
    assert_eq!(created.buffer_unordered(8).count().await, COUPONS as usize);

    let _operator = world.operator();
    assert!(world.stand_in.wait_for_requests(60, Duration::from_secs(60)).await, "{}", world.operator_logs());
    world.patch::<Campaign>("new-year", suspended(true)).await;
    let a_second_later = rehearsed() + world.age() + TimeDelta::seconds(1);
    let none_on_its_way = |coupons: &[Coupon]| coupons.iter().all(|c| state(c) != "Sending");
    world.until_rehearsed(a_second_later).await;
    let coupons = world.until_coupons("what was sent is recorded", none_on_its_way).await;
    let begun = coupons.iter().filter_map(|c| c.status.as_ref()?.deliveries.first()?.last_attempt.clone());
    let begun: Vec<_> = begun.map(|attempt| attempt.start_time).collect();
    let sent = begun.len();
    assert!(sent < COUPONS as usize, "all was sent before it could be suspended");
    let last = begun.into_iter().max().unwrap();
    assert!(last < a_second_later, "one was sent at {last}, which is {} later", last - a_second_later);
    assert!(!world.stand_in.wait_for_requests(sent + 1, Duration::from_secs(2)).await, "more was sent than recorded");
    let delivered = |coupons: &[Coupon]| coupons.iter().filter(|c| state(c) == "Delivered").count();
    assert_eq!(delivered(&coupons), sent);
    println!("{sent} of {COUPONS} requests when suspended");

    world.patch::<Campaign>("new-year", suspended(false)).await;
    let goes_on = world.stand_in.wait_for_requests(sent + 100, Duration::from_secs(60)).await;
    assert!(goes_on, "{} requests\n{}", world.stand_in.requests().len(), world.operator_logs());
    let requests = world.stand_in.requests();
    let by_first: BTreeSet<String> = requests.iter().map(|request| request.identities().remove(0)).collect();
    assert_eq!(by_first.len(), requests.len(), "none was sent twice");
}

/// So many customers, of whom the web address names others at each reading: it leaves out some, and puts new ones first.
fn audience(recipients: usize, edition: usize) -> String {
    let new = (0..edition * 50).map(|i| format!("new-{i}"));
    let old = (0..recipients).filter(|i| i % 7 != edition).map(|i| format!("c{i}"));
    new.rev().chain(old).map(|id| format!("{{\"integrationId\":\"{id}\"}}\n")).collect::<Vec<_>>().concat()
}

/// The operator is killed while it issues and sends, and each time the audience is another. `CRASH_RECIPIENTS` makes it larger.
#[tokio::test(flavor = "multi_thread")]
async fn i1_killed_in_the_middle_of_a_large_audience_that_changes_everybody_gets_one_and_nobody_two() {
    let recipients = std::env::var("CRASH_RECIPIENTS").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000_usize);
    let size = recipients / 200;
    let world = World::new().await;
    world.stand_in.set_latency(Duration::from_millis(50));
    world.apply_secret(CANARY).await;
    let mut batched = webhook();
    batched["spec"]["batch"] = json!({ "maxSize": size, "recordsAt": "/d" });
    batched["spec"]["timeoutSeconds"] = 5.into();
    // What was on its way when the operator was killed is held, so that no repeat is excused.
    batched["spec"]["onUnknown"] = "Hold".into();
    world.apply::<Webhook>(batched).await.unwrap();
    let mut everybody = campaign(0);
    everybody["spec"]["audience"] = json!({ "http": { "url": "https://shop.example/customers" } });
    world.apply::<Campaign>(everybody).await.unwrap();
    let publish = |edition| world.stand_in.publish("/customers", Page::new(audience(recipients, edition)));
    let mut interrupted = Vec::new();
    for edition in 0..3 {
        publish(edition);
        let operator = world.quiet_operator();
        let sent = world.stand_in.requests().len();
        assert!(
            world.stand_in.wait_for_requests(sent + 25, Duration::from_secs(120)).await,
            "{}",
            world.operator_logs()
        );
        drop(operator);
        interrupted.push(world.coupons().await.len());
    }
    publish(3);
    let _operator = world.quiet_operator();
    let settled = |c: &Campaign| {
        let status = c.status.clone().unwrap_or_default();
        status
            .occurrences
            .first()
            .is_some_and(|o| o.audience_seen && o.delivered + o.unknown + o.failed == o.issued && o.matched <= o.issued)
    };
    world.until::<Campaign>("new-year", "all came to their end", settled).await;

    let coupons = world.coupons().await;
    assert!(interrupted.windows(2).all(|two| two[0] < two[1]) && interrupted[2] < coupons.len(), "{interrupted:?}");
    let mut numbers: Vec<i32> = coupons.iter().filter_map(|coupon| coupon.spec.chunk).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=i32::try_from(coupons.len()).unwrap()).collect::<Vec<_>>(), "no number is missing");
    let recorded =
        coupons.iter().flat_map(|c| Records::of(&c.spec).recipients().map(|(_, r)| r.into_owned()).collect::<Vec<_>>());
    let all: Vec<String> = recorded.collect();
    let each: BTreeSet<&String> = all.iter().collect();
    assert_eq!(each.len(), all.len(), "nobody is in two");
    let last = audience(recipients, 3);
    let missing = last.lines().map(|line| line.split('"').nth(3).unwrap().to_owned()).filter(|id| !each.contains(id));
    assert_eq!(missing.count(), 0, "everybody who was in the last reading has one");
    let events = world.stand_in.events();
    let told: BTreeSet<&String> = events.iter().map(|event| &event.identity).collect();
    assert_eq!(told.len(), events.len(), "nobody was told twice");
    let held: i64 = world.campaign().await.status.unwrap().occurrences.iter().map(|o| o.unknown).sum();
    println!("{} recipients in {} Coupons, killed at {interrupted:?}; {held} held", all.len(), coupons.len());
    assert!(i64::try_from(all.len() - told.len()).unwrap() <= held, "whoever was not told is held");
}
