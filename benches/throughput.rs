//! Records delivered a second, beside the raw ceiling of the API server in the same run on the same machine: a create
//! and two writes of status of objects of the same size. One record a request, the stand-in at 50 ms, 15 in flight.
//! And what one account that hangs does to another.
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_precision_loss)]

#[path = "../tests/promises/world.rs"]
#[allow(dead_code)]
mod world;

#[path = "raw/mod.rs"]
mod raw;

use std::time::{Duration, Instant};

use clevertap_stand_in::Fault;
use coupon_operator::api::campaign::Campaign;
use coupon_operator::api::coupon::Coupon;
use coupon_operator::api::webhook::Webhook;
use serde_json::{Value, json};

use world::{CANARY, World, campaign, state, webhook};

/// The design's figures.
const WANTED_SHARE: f64 = 0.6;
const LATENCY: Duration = Duration::from_millis(50);
const IN_FLIGHT: f64 = 15.0;
const CAMPAIGNS: usize = 3;
const CUSTOMERS: usize = 1000;

#[tokio::main]
async fn main() {
    let delivered = one_record_a_request().await;
    let raw = raw::ceiling(&delivered.sample, 1500).await;
    let ceiling = raw.min(IN_FLIGHT / LATENCY.as_secs_f64());
    let share = delivered.rate / ceiling;
    println!("raw API server: {raw:.0} Coupons/s (a create and two writes of status each)");
    println!("15 in flight at 50 ms: {:.0} requests/s", IN_FLIGHT / LATENCY.as_secs_f64());
    println!(
        "delivered: {:.0}/s, {:.0}% of the smaller (wanted {:.0}%); {} duplicates",
        delivered.rate,
        100.0 * share,
        100.0 * WANTED_SHARE,
        delivered.duplicates
    );
    let (alone, beside) = (p99(false).await, p99(true).await);
    println!(
        "300 Coupons of one account, p99 from the apply to the result: {alone:.2?} alone, {beside:.2?} beside one that hangs ({:.2} x)",
        beside.as_secs_f64() / alone.as_secs_f64()
    );
    assert_eq!(delivered.duplicates, 0);
}

struct Delivered {
    rate: f64,
    duplicates: usize,
    sample: Coupon,
}

fn named(customers: usize, name: &str) -> Value {
    let mut campaign = campaign(customers);
    campaign["metadata"]["name"] = name.into();
    campaign
}

/// Campaigns of a thousand customers each, from the first apply to the last status.
async fn one_record_a_request() -> Delivered {
    let world = World::new().await;
    world.stand_in.set_latency(LATENCY);
    world.apply_secret(CANARY).await;
    world.apply::<Webhook>(webhook()).await.unwrap();
    let _operator = world.quiet_operator();
    let accepted = |webhook: &Webhook| world::said(&json!(webhook), "Ready").0 == "Accepted";
    world.until::<Webhook>("send-clevertap-email", "ready", accepted).await;
    let begun = Instant::now();
    for i in 0..CAMPAIGNS {
        world.apply::<Campaign>(named(CUSTOMERS, &format!("campaign-{i}"))).await.unwrap();
    }
    let all = CAMPAIGNS * CUSTOMERS;
    assert!(world.stand_in.wait_for_events(all, Duration::from_secs(300)).await);
    let done = |coupons: &[Coupon]| coupons.len() == all && coupons.iter().all(|c| state(c) == "Delivered");
    let coupons = world.until_coupons("all delivered", done).await;
    let rate = all as f64 / begun.elapsed().as_secs_f64();
    Delivered { rate, duplicates: world.stand_in.duplicates().len(), sample: coupons.into_iter().next().unwrap() }
}

/// When 99 of a hundred Coupons had their result, beside an account whose requests all hang or without.
async fn p99(hangs: bool) -> Duration {
    let world = World::new().await;
    world.stand_in.set_latency(LATENCY);
    world.apply_secret(CANARY).await;
    world.apply::<Webhook>(webhook()).await.unwrap();
    let _operator = world.quiet_operator();
    let accepted = |webhook: &Webhook| world::said(&json!(webhook), "Ready").0 == "Accepted";
    world.until::<Webhook>("send-clevertap-email", "ready", accepted).await;
    if hangs {
        let shop = json!({
            "metadata": { "name": "hangs" },
            "spec": { "url": "https://shop.example/plain", "parameters": [{ "name": "Id", "type": "String" }],
                "payload": r#"{"d": [{"identity": "${$Id}"}]}"#, "maxInFlight": 100, "timeoutSeconds": 60 },
        });
        world.apply::<Webhook>(shop).await.unwrap();
        world.stand_in.set_fault_for("hang", Some(Fault::HangBefore));
        let mut slow = named(300, "slow");
        slow["spec"]["rules"][0]["effects"][1]["sendWebhook"] =
            json!({ "webhookRef": { "name": "hangs" }, "parameters": { "Id": "hang" } });
        world.apply::<Campaign>(slow).await.unwrap();
        world.until_coupons("issued", |coupons| coupons.len() == 300).await;
    }
    let begun = Instant::now();
    world.apply::<Campaign>(named(300, "quick")).await.unwrap();
    let quick = |c: &&Coupon| c.spec.campaign.as_deref() == Some("quick");
    let done = |coupons: &[Coupon]| coupons.iter().filter(quick).filter(|c| state(c) == "Delivered").count() >= 297;
    world.until_coupons("99 of a hundred", done).await;
    begun.elapsed()
}
