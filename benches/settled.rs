//! What settled Coupons cost: an operator that starts beside `SETTLED` (10,000) of them, of a thousand rows each, with their
//! window over, and then idles for a minute.
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_precision_loss)]

#[path = "../tests/faults/proxy.rs"]
#[allow(dead_code)]
mod proxy;
#[path = "../tests/promises/world.rs"]
#[allow(dead_code)]
mod world;

use std::time::{Duration, Instant};

use coupon_operator::api::campaign::Campaign;
use coupon_operator::api::coupon::Coupon;
use coupon_operator::api::webhook::Webhook;
use futures::StreamExt;
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use serde_json::json;

use proxy::Proxy;
use world::{CANARY, World, campaign, mebibytes, said, state, webhook};

/// The design's figures.
const WANTED_MEMORY: f64 = 64.0;
const WANTED_PERCENT: f64 = 0.1;
const ROWS: usize = 1000;
const IDLE: Duration = Duration::from_secs(60);
const AFTER_THE_WINDOW: Duration = Duration::from_secs(3 * 86_400);

#[tokio::main]
async fn main() {
    let wanted = std::env::var("SETTLED").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000_usize);
    let world = World::new().await;
    let sample = one_settled(&world).await;
    let begun = Instant::now();
    fill(&world, &sample, wanted).await;
    println!("{wanted} settled Coupons of {ROWS} rows, made in {:.0?}", begun.elapsed());
    let proxy = Proxy::start(world.client.clone(), world.folder.path(), &world.namespace).await;
    let operator = world.operator_through(&proxy.kubeconfig, AFTER_THE_WINDOW);
    let over = |c: &Campaign| said(&json!(c), "Ready").0 != "Open";
    world.until::<Campaign>("new-year", "its window is over", over).await;
    quiet(&proxy).await;
    let (writes, calls, ticks) = (proxy.writes(), proxy.calls(), ticks(operator.id()));
    tokio::time::sleep(IDLE).await;
    let (writes, calls) = (proxy.writes() - writes, proxy.calls() - calls);
    let percent = (self::ticks(operator.id()) - ticks) as f64 / IDLE.as_secs_f64();
    let (now, peak) = (mebibytes(operator.id(), "VmRSS:"), mebibytes(operator.id(), "VmHWM:"));
    println!("resident: {now:.1} MiB, at most {peak:.1} MiB (wanted {WANTED_MEMORY} MiB)");
    println!(
        "idle for {IDLE:?}: {writes} writes, {calls} other calls, {percent:.2}% of a core (wanted {WANTED_PERCENT}%)"
    );
    assert_eq!(writes, 0);
    assert!(peak <= WANTED_MEMORY && percent <= WANTED_PERCENT);
}

/// A Coupon of a thousand rows as the operator makes, delivers and settles it.
async fn one_settled(world: &World) -> Coupon {
    world.apply_secret(CANARY).await;
    let mut webhook = webhook();
    webhook["spec"]["batch"] = json!({ "maxSize": ROWS, "recordsAt": "/d" });
    world.apply::<Webhook>(webhook).await.unwrap();
    world.apply::<Campaign>(campaign(ROWS)).await.unwrap();
    let mut operator = world.quiet_operator();
    let done = |coupons: &[Coupon]| coupons.len() == 1 && state(&coupons[0]) == "Delivered";
    let sample = world.until_coupons("delivered", done).await.remove(0);
    world.until_campaign_delivered(i64::try_from(ROWS).unwrap()).await;
    operator.kill().unwrap();
    sample
}

async fn fill(world: &World, sample: &Coupon, wanted: usize) {
    let api = world.api::<Coupon>();
    let made = futures::stream::iter(1..wanted).map(|i| copy(api.clone(), sample, i)).buffer_unordered(16);
    made.enumerate()
        .for_each(|(done, ())| {
            if done % 1000 == 999 {
                println!("{} made", done + 1);
            }
            std::future::ready(())
        })
        .await;
}

async fn copy(api: Api<Coupon>, sample: &Coupon, i: usize) {
    let coupon = Coupon::new(&format!("{}-{i}", sample.name_any()), sample.spec.clone());
    let mut coupon = api.create(&PostParams::default(), &coupon).await.unwrap();
    coupon.status.clone_from(&sample.status);
    api.replace_status(&coupon.name_any(), &PostParams::default(), &coupon).await.unwrap();
}

/// Waits until nothing was written for some seconds.
async fn quiet(proxy: &Proxy) {
    let mut before = (proxy.writes(), Instant::now());
    while before.1.elapsed() < Duration::from_secs(10) {
        tokio::time::sleep(Duration::from_millis(200)).await;
        if proxy.writes() != before.0 {
            before = (proxy.writes(), Instant::now());
        }
    }
}

/// The processor time that a process had, in hundredths of a second (`USER_HZ` of Linux).
fn ticks(process: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
