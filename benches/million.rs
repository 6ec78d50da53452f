//! A million recipients from a web address, in Coupons of a thousand: from the apply of a Campaign whose window is open until
//! its status counts all as delivered, beside
//! what 15 requests in flight take at best, and the operator's memory. `MILLION_LATENCY_MS` (1000) is what a call takes.
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_precision_loss)]

#[path = "../tests/promises/world.rs"]
#[allow(dead_code)]
mod world;

#[path = "raw/mod.rs"]
mod raw;

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{Duration, Instant};

use clevertap_stand_in::Page;
use coupon_operator::api::campaign::Campaign;
use coupon_operator::api::webhook::Webhook;
use serde_json::json;

use world::{CANARY, World, campaign, mebibytes, webhook};

const ROWS: usize = 1000;
const IN_FLIGHT: usize = 15;
/// The design's figures.
const WANTED_MEMORY: f64 = 128.0;

fn number(name: &str, otherwise: usize) -> usize {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(otherwise)
}

#[tokio::main]
async fn main() {
    let recipients = number("MILLION", 1_000_000);
    let latency = Duration::from_millis(number("MILLION_LATENCY_MS", 1000) as u64);
    let world = World::new().await;
    let customers = packed(recipients);
    println!("{recipients} customers, {:.1} MiB as sent", customers.len() as f64 / 1_048_576.0);
    let page = Page::new(customers).with_header("ETag", "\"one\"").with_header("Content-Type", "application/gzip");
    world.stand_in.publish("/customers", page);
    world.stand_in.set_latency(latency);
    world.apply_secret(CANARY).await;
    let mut batched = webhook();
    batched["spec"]["batch"] = json!({ "maxSize": ROWS, "recordsAt": "/d" });
    world.apply::<Webhook>(batched).await.unwrap();
    let operator = world.quiet_operator();
    let ready = |w: &Webhook| world::condition(&json!(w), "Ready") == "True";
    world.until::<Webhook>("send-clevertap-email", "Ready", ready).await;
    let begun = Instant::now();
    let mut everybody = campaign(0);
    everybody["spec"]["audience"] = json!({ "http": { "url": "https://shop.example/customers", "pollSeconds": 3600 } });
    world.apply::<Campaign>(everybody).await.unwrap();
    let first = async {
        assert!(world.stand_in.wait_for_requests(2, Duration::from_secs(600)).await);
        println!("the first batch was sent after {:.1?}", begun.elapsed());
    };
    let wanted = i64::try_from(recipients).unwrap();
    let done = async {
        loop {
            let status = world.campaign().await.status.unwrap_or_default();
            let (issued, delivered) = (status.issued.unwrap_or_default(), status.delivered.unwrap_or_default());
            let resident = mebibytes(operator.id(), "VmRSS:");
            println!(
                "{:>4.0} s: {issued} issued, {delivered} delivered, {resident:.0} MiB",
                begun.elapsed().as_secs_f64()
            );
            if delivered == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::join!(first, done);
    let took = begun.elapsed();
    let floor = latency.mul_f64(recipients.div_ceil(ROWS) as f64 / IN_FLIGHT as f64);
    let peak = mebibytes(operator.id(), "VmHWM:");
    println!(
        "{recipients} recipients at {latency:?} a call: {took:.1?}, {:.2} x the floor of {floor:.1?}; at most {peak:.1} MiB resident (wanted {WANTED_MEMORY} MiB); {} duplicates",
        took.as_secs_f64() / floor.as_secs_f64(),
        world.stand_in.duplicates().len()
    );
    assert!(world.stand_in.duplicates().is_empty());
    drop(operator);
    let sample = world.coupons().await.remove(0);
    let raw = raw::ceiling(&sample, 300).await;
    let least = recipients.div_ceil(ROWS) as f64 / raw;
    println!(
        "raw API server: {raw:.0} Coupons of {ROWS}/s (a create and two writes of status each, whole): {least:.1} s for all"
    );
}

fn packed(recipients: usize) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut lines = String::new();
    for i in 1..=recipients {
        writeln!(
            lines,
            "{{\"integrationId\":\"customer-{i}\",\"attributes\":{{\"tier\":\"gold\",\"city\":\"Berlin\"}}}}"
        )
        .unwrap();
        if lines.len() > 1 << 20 {
            encoder.write_all(lines.as_bytes()).unwrap();
            lines.clear();
        }
    }
    encoder.write_all(lines.as_bytes()).unwrap();
    encoder.finish().unwrap()
}
