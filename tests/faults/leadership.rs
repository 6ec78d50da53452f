//! Of several replicas one works. What holds when that one is killed, frozen, cut off or asked to stop.

use std::time::Duration;

use control_plane::GuardedChild;
use coupon_operator::api::campaign::Campaign;
use coupon_operator::api::coupon::Coupon;
use k8s_openapi::api::coordination::v1::Lease;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;

use crate::matrix::{Run, Shape, seed};
use crate::world::{World, campaign};

/// Whoever leads gives up after two seconds without the API server; another leads after three.
const SHORT: [u64; 3] = [3, 2, 1];

/// Nobody takes this over within a test: it is handed over, or not at all.
const LONG: [u64; 3] = [600, 300, 1];

const WITHIN: Duration = Duration::from_secs(30);

fn lease_name(world: &World) -> String {
    format!("coupon-operator-rehearsal-in-{}", world.namespace)
}

/// Waits for a leader that is not `other`; its identity.
async fn until_led(world: &World, other: Option<&str>) -> String {
    let holder = |lease: &Lease| lease.spec.as_ref().and_then(|s| s.holder_identity.clone()).filter(|h| !h.is_empty());
    let led = |lease: &Lease| holder(lease).is_some_and(|holder| Some(holder.as_str()) != other);
    let lease = world.until::<Lease>(&lease_name(world), "a leader", led).await;
    holder(&lease).unwrap()
}

fn senders(coupons: &[Coupon]) -> std::collections::BTreeSet<String> {
    let sender = |c: &Coupon| json!(c)["status"]["deliveries"][0]["lastAttempt"]["sender"].as_str().map(str::to_owned);
    coupons.iter().filter_map(sender).collect()
}

fn ended(replica: &mut GuardedChild) -> bool {
    replica.wait_for(WITHIN).unwrap().expect("it did not end").success()
}

/// The issue is not who may send, which the intents decide, but that exactly one tries to.
#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_replicas_works_and_hands_over_at_once_when_it_is_asked_to_stop() {
    let run = Run::new(Shape::Single).await;
    let mut first = run.world.replica(&run.proxy.kubeconfig, LONG);
    let leader = until_led(&run.world, None).await;
    let mut second = run.world.replica(&run.proxy.kubeconfig, LONG);
    let mut third = run.world.replica(&run.proxy.kubeconfig, LONG);
    run.finished().await;
    let coupons = run.world.coupons().await;
    assert_eq!(senders(&coupons).len(), 1);
    assert!(leader.ends_with(senders(&coupons).first().unwrap()), "{leader}");
    run.world.until_logged("leadership lease is held by another candidate", 2).await;

    third.signal("TERM").unwrap();
    assert!(ended(&mut third), "one that waits ends well, and at once");

    first.signal("TERM").unwrap();
    assert!(ended(&mut first));
    let next = until_led(&run.world, Some(&leader)).await;
    run.world.apply::<Campaign>(campaign(23)).await.unwrap();
    run.world.until_delivered(23).await;
    run.world.assert_each_got_one(23);
    let both = senders(&run.world.coupons().await);
    assert_eq!(both.len(), 2);
    assert!(both.iter().any(|sender| next.ends_with(sender)));

    second.signal("TERM").unwrap();
    assert!(ended(&mut second));
}

/// Stopped at random points and continued after another leads, or killed: everybody gets one, and the record says
/// of each whether that is certain.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_frozen_or_killed_anywhere_is_replaced_and_does_no_harm_when_it_wakes() {
    let mut random = StdRng::seed_from_u64(seed());
    let rounds = if std::env::var("FAULTS").is_ok_and(|which| which == "all") { 24 } else { 4 };
    for round in 0..rounds {
        let shape = if round % 2 == 0 { Shape::Single } else { Shape::Batch };
        let freezes = round % 4 < 2;
        let run = Run::new(shape).await;
        run.world.stand_in.set_latency(Duration::from_millis(30));
        let mut first = run.world.replica(&run.proxy.kubeconfig, SHORT);
        let leader = until_led(&run.world, None).await;
        let _second = run.world.replica(&run.proxy.kubeconfig, SHORT);
        tokio::time::sleep(Duration::from_millis(random.random_range(5..600))).await;
        first.signal(if freezes { "STOP" } else { "KILL" }).unwrap();
        until_led(&run.world, Some(&leader)).await;
        if freezes {
            tokio::time::sleep(Duration::from_millis(random.random_range(0..500))).await;
            first.signal("CONT").unwrap();
            assert!(!ended(&mut first), "one that lost its Lease says so");
            assert!(run.world.operator_logs().contains("stopping: waiting for requests in flight"));
        }
        run.finished().await;
        run.settled().await;
        run.verdict().await.unwrap_or_else(|why| panic!("round {round}: {why}"));
    }
}

/// It cannot know whether another leads already: it must have stopped by then.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_the_api_server_does_not_answer_has_stopped_before_another_starts() {
    let run = Run::new(Shape::Single).await;
    let mut first = run.world.replica(&run.proxy.kubeconfig, SHORT);
    let leader = until_led(&run.world, None).await;
    run.finished().await;
    let _second = run.world.replica(&run.world.kubeconfig(), SHORT);
    run.proxy.fall_silent();
    until_led(&run.world, Some(&leader)).await;
    assert!(run.world.operator_logs().contains("giving up leadership"));
    assert!(first.ended().unwrap().is_some_and(|status| !status.success()), "nothing was in flight: it has ended");
    run.world.apply::<Campaign>(campaign(23)).await.unwrap();
    run.world.until_delivered(23).await;
    run.world.assert_each_got_one(23);
}
