//! A campaign of a million holds up nobody. Alone in its process, so that no other test takes its time.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../promises/world.rs"]
#[allow(dead_code)]
mod world;

use std::time::{Duration, Instant};

use clevertap_stand_in::Page;
use coupon_operator::api::campaign::Campaign;
use coupon_operator::api::webhook::Webhook;
use serde_json::{Value, json};

use world::{CANARY, World, campaign, webhook};

const MILLION: usize = 1_000_000;
const WANTED: Duration = Duration::from_secs(2);

/// A campaign by a Webhook of the same account, but of one record a request.
fn of_ten() -> [Value; 2] {
    let (mut single, mut small) = (webhook(), campaign(10));
    single["metadata"]["name"] = "one-by-one".into();
    small["metadata"]["name"] = "small".into();
    small["spec"]["rules"][0]["effects"][1]["sendWebhook"]["webhookRef"]["name"] = "one-by-one".into();
    [single, small]
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_recipients_wait_for_no_million_that_came_before_them() {
    let world = World::new().await;
    let everybody: Vec<String> = (1..=MILLION).map(|i| format!("{{\"integrationId\":\"c{i}\"}}\n")).collect();
    world.stand_in.publish("/customers", Page::new(everybody.concat()));
    drop(everybody);
    world.stand_in.set_latency(Duration::from_millis(100));
    world.apply_secret(CANARY).await;
    let mut batched = webhook();
    batched["spec"]["batch"] = json!({ "maxSize": 1000, "recordsAt": "/d" });
    world.apply::<Webhook>(batched).await.unwrap();
    let [single, small] = of_ten();
    world.apply::<Webhook>(single).await.unwrap();
    let _operator = world.quiet_operator();
    let mut large = campaign(0);
    large["spec"]["audience"] = json!({ "http": { "url": "https://shop.example/customers" } });
    world.apply::<Campaign>(large).await.unwrap();
    assert!(world.stand_in.wait_for_requests(30, Duration::from_secs(120)).await, "{}", world.operator_logs());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let begun = Instant::now();
    world.apply::<Campaign>(small).await.unwrap();
    let all = |c: &Campaign| c.status.as_ref().is_some_and(|status| status.delivered == Some(10));
    world.until::<Campaign>("small", "all ten delivered", all).await;
    let took = begun.elapsed();
    let of_large = world.campaign().await.status.unwrap();
    println!("ten delivered after {took:.1?}, beside {:?} of a million", of_large.issued);
    assert!(of_large.issued < Some(1_000_000), "the large one was over");
    assert!(took <= WANTED, "{took:?}\n{}", world.operator_logs());
}
