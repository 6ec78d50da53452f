//! I1 to I5 through crashes: the real binary, killed where it hurts.

use std::time::Duration;

use clevertap_stand_in::Fault;
use coupon_operator::api::campaign::Campaign;
use coupon_operator::api::coupon::Coupon;
use coupon_operator::api::webhook::Webhook;
use serde_json::json;

use crate::world::{CANARY, LONG, World, campaign, said, state, webhook};

/// The operator is killed after each few steps of a run, and started again: everybody gets one code,
/// and CleverTap gets each record once unless the record says that it could not be known.
#[tokio::test]
async fn killed_at_any_moment_and_restarted_everybody_still_gets_one_code() {
    let world = World::new().await;
    world.stand_in.set_latency(Duration::from_millis(30));
    world.apply_secret(CANARY).await;
    let mut quick = webhook();
    quick["spec"]["timeoutSeconds"] = 1.into();
    world.apply::<Webhook>(quick).await.unwrap();
    world.apply::<Campaign>(campaign(20)).await.unwrap();
    for round in 1..=6_usize {
        let mut operator = world.operator();
        // Kill it as soon as something more has happened: a Coupon, or a request.
        let (coupons, requests) = (world.coupons().await.len(), world.stand_in.requests().len());
        let progressed = async {
            if round % 2 == 0 {
                world.stand_in.wait_for_requests(requests + round, LONG).await;
            } else {
                world.until_coupons("one more", |c| c.len() > coupons || c.len() == 20).await;
            }
        };
        progressed.await;
        operator.kill().unwrap();
    }
    let _operator = world.operator();
    let coupons = world.until_delivered(20).await;
    assert_eq!(coupons.len(), 20);
    let codes: std::collections::BTreeSet<&str> = coupons.iter().filter_map(|c| c.spec.code.as_deref()).collect();
    assert_eq!(codes.len(), 20);
    for event in world.stand_in.events() {
        let coupon = coupons.iter().find(|c| c.spec.recipient.as_ref() == Some(&event.identity)).unwrap();
        assert_eq!(
            event.data["CouponCode"].as_str(),
            coupon.spec.code.as_deref(),
            "I3: a resend carries the same code"
        );
    }
    for coupon in &coupons {
        let events =
            world.stand_in.events().iter().filter(|e| Some(&e.identity) == coupon.spec.recipient.as_ref()).count();
        let attempts = json!(coupon)["status"]["deliveries"][0]["attempts"].as_u64().unwrap();
        assert!(
            events >= 1 && events as u64 <= attempts,
            "{} was sent {events} times in {attempts} attempts",
            kube::ResourceExt::name_any(coupon)
        );
    }
}

/// Killed between intent and result: nobody can know, and the record says so before it is sent again. The next
/// process has the same pod's name and host name, as a container that is restarted has, and does not take the intent for
/// its own.
#[tokio::test]
async fn i5_killed_between_intent_and_result_and_restarted_under_the_same_pod_name_the_outcome_is_unknown() {
    for (policy, expected) in [("Retry", "Delivered"), ("Hold", "Held")] {
        let world = World::new().await;
        world.stand_in.inject(Fault::HangAfter);
        world.apply_secret(CANARY).await;
        let mut webhook = webhook();
        webhook["spec"]["timeoutSeconds"] = 1.into();
        webhook["spec"]["onUnknown"] = policy.into();
        world.apply::<Webhook>(webhook).await.unwrap();
        world.apply::<Campaign>(campaign(1)).await.unwrap();
        let mut operator = world.operator();
        assert!(world.stand_in.wait_for_requests(1, LONG).await);
        operator.kill().unwrap();
        let coupon = world.coupons().await.remove(0);
        assert_eq!(state(&coupon), "Sending", "the intent is durable before anything is sent");
        let sender = |coupon: &Coupon| json!(coupon)["status"]["deliveries"][0]["lastAttempt"]["sender"].clone();
        let killed = sender(&coupon);
        assert!(killed.is_string());
        let _operator = world.operator();
        let coupon = world.until_coupons(expected, |c| state(&c[0]) == expected).await.remove(0);
        let attempts = json!(coupon)["status"]["deliveries"][0]["attempts"].as_u64().unwrap();
        let sent = world.stand_in.requests().len();
        assert_eq!((attempts, sent), if policy == "Retry" { (2, 2) } else { (1, 1) }, "{policy}");
        assert_eq!(json!(coupon)["status"]["deliveries"][0]["unknown"], "1", "{policy}: the record says so");
        assert_eq!(sender(&coupon) == killed, policy == "Hold", "{policy}: who sent it is told apart");
    }
}

/// Requests that only wait for their turn do not hold up the end.
#[tokio::test]
async fn asked_to_stop_while_paused_it_ends_at_once_and_loses_nothing() {
    let world = World::new().await;
    let mut operator = world.operator();
    world.apply_secret("WRONG-PASS").await;
    world.apply::<Webhook>(webhook()).await.unwrap();
    world.apply::<Campaign>(campaign(5)).await.unwrap();
    let refused = |w: &Webhook| said(&json!(w), "Stalled").0 == "CredentialsRejected";
    world.until::<Webhook>("send-clevertap-email", "refused", refused).await;
    world.until_coupons("issued", |c| c.len() == 5).await;
    operator.signal("TERM").unwrap();
    let ended = tokio::task::spawn_blocking(move || operator.wait_for(Duration::from_secs(5)).unwrap()).await.unwrap();
    assert!(ended.is_some_and(|status| status.success()), "{}", world.operator_logs());
    world.apply_secret(CANARY).await;
    let _operator = world.operator();
    world.until_delivered(5).await;
    world.assert_each_got_one(5);
}

/// Asked to stop, it ends what is in flight and writes the results down.
#[tokio::test]
async fn asked_to_stop_it_records_what_is_in_flight() {
    let world = World::new().await;
    let mut operator = world.operator();
    world.stand_in.inject(Fault::Slow { delay: Duration::from_secs(2) });
    world.apply_scenario(1).await;
    assert!(world.stand_in.wait_for_requests(1, LONG).await);
    operator.signal("TERM").unwrap();
    let ended = tokio::task::spawn_blocking(move || operator.wait_for(Duration::from_secs(20)).unwrap()).await.unwrap();
    assert!(ended.is_some_and(|status| status.success()), "{}", world.operator_logs());
    let coupon = world.coupons().await.remove(0);
    assert_eq!(state(&coupon), "Delivered");
}
