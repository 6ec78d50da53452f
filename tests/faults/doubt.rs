//! The ledger of doubt: over many faults, the records that statuses call unknown are exactly those whose outcome the
//! operator could not have known.
//!
//! `DOUBTS` says over how many faults; without it over some hundred.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clevertap_stand_in::Fault;
use coupon_operator::api::campaign::Campaign;
use coupon_operator::api::coupon::Coupon;
use coupon_operator::api::webhook::Webhook;
use coupon_operator::records::Records;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use crate::matrix::{Shape, seed, webhook_of};
use crate::world::{CANARY, World, campaign};

/// A fault, and whether whoever sees it from outside can know what came of the request.
fn fault(random: &mut StdRng, policy_holds: bool) -> Option<Fault> {
    let status = |status| Some(Fault::status(status));
    let stored = |status| Some(Fault::Status { status, stored: true, retry_after: None, location: None });
    match random.random_range(0..40) {
        0 => Some(Fault::HangBefore),
        1 => Some(Fault::HangAfter),
        2 => Some(Fault::ResetBefore),
        3 => Some(Fault::ResetAfter),
        4 => status(500),
        5 => stored(500),
        6 => stored(503),
        7 => Some(Fault::ShortBody),
        8 => Some(Fault::NotJson),
        9 => Some(Fault::OversizedBody),
        10 => stored(504),
        11 => status(408),
        12 => status(425),
        13 => Some(Fault::WrongContentType),
        14 => Some(Fault::ServerError { records: vec![1] }),
        15 if !policy_holds => status(429),
        16 => Some(Fault::Slow { delay: Duration::from_millis(50) }),
        _ => None,
    }
}

/// By the name of the fault that the stand-in played.
fn cannot_be_known(played: &str) -> bool {
    let unknowable = ["HangBefore", "HangAfter", "ResetBefore", "ResetAfter", "ShortBody", "NotJson", "OversizedBody"];
    unknowable.contains(&played) || played.starts_with("Status { status: 5")
}

fn identities(body: &str) -> Vec<String> {
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    let records = body["d"].as_array().cloned().unwrap_or_default();
    records.iter().filter_map(|record| record["identity"].as_str().map(str::to_owned)).collect()
}

/// One campaign of a thousand at most. Returns how many faults were played, and how many records were in doubt.
async fn one(shape: Shape, policy: &str, customers: usize, seed: u64) -> (usize, usize) {
    let world = World::new().await;
    let mut random = StdRng::seed_from_u64(seed);
    let holds = policy == "Hold";
    world.stand_in.set_chooser(move || fault(&mut random, holds));
    world.apply_secret(CANARY).await;
    let mut webhook = webhook_of(shape, 2);
    webhook["spec"]["onUnknown"] = policy.into();
    world.apply::<Webhook>(webhook).await.unwrap();
    world.apply::<Campaign>(campaign(customers)).await.unwrap();
    let _operator = world.operator();
    let settled = |coupon: &Coupon| coupon.status.as_ref().is_some_and(|status| status.state.is_settled());
    let all = |coupons: &[Coupon]| {
        coupons.iter().map(|c| Records::of(&c.spec).count() as usize).sum::<usize>() == customers
            && coupons.iter().all(settled)
    };
    let coupons = world.until_coupons_within(Duration::from_secs(600), "all settled", all).await;
    let mut doubtful = BTreeSet::new();
    let mut last: BTreeMap<String, bool> = BTreeMap::new();
    let mut faults = 0;
    for request in world.stand_in.requests() {
        let played = request.fault.unwrap_or_default();
        faults += usize::from(!played.is_empty());
        for identity in identities(&request.body) {
            last.insert(identity.clone(), cannot_be_known(&played));
            if cannot_be_known(&played) {
                doubtful.insert(identity);
            }
        }
    }
    let mut said = BTreeSet::new();
    for coupon in &coupons {
        let delivery = &coupon.status.as_ref().unwrap().deliveries[0];
        for (row, record) in Records::of(&coupon.spec).iter() {
            if delivery.unknown.contains(row) {
                said.insert(record.recipient().to_owned());
            }
            let held = last[record.recipient()] && holds;
            assert_eq!(delivery.held.contains(row), held, "{policy} {}: {delivery:?}", record.recipient());
            assert_eq!(delivery.accepted.contains(row), !held, "{policy} {}: {delivery:?}", record.recipient());
        }
    }
    let (missing, extra) = (doubtful.difference(&said).count(), said.difference(&doubtful).count());
    assert_eq!((missing, extra), (0, 0), "{shape:?} {policy}: missing and extra, of {}", doubtful.len());
    if holds {
        // I5: nothing is sent again of which nobody knows.
        let twice: BTreeSet<String> = world.stand_in.duplicates().into_iter().map(|e| e.identity).collect();
        assert!(twice.is_empty(), "{twice:?}");
    }
    (faults, doubtful.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_called_unknown_is_exactly_what_nobody_could_know() {
    let wanted = std::env::var("DOUBTS").ok().and_then(|n| n.parse().ok()).unwrap_or(150_usize);
    let customers = if wanted > 1000 { 1000 } else { 100 };
    let mut random = StdRng::seed_from_u64(seed());
    let (mut faults, mut doubtful, mut runs) = (0, 0, 0_usize);
    while faults < wanted || runs < 4 {
        let shape = if runs.is_multiple_of(2) { Shape::Single } else { Shape::Batch };
        let policy = if (runs / 2).is_multiple_of(2) { "Retry" } else { "Hold" };
        let (played, unknown) = one(shape, policy, customers, random.random()).await;
        (faults, doubtful, runs) = (faults + played, doubtful + unknown, runs + 1);
        println!("{runs} runs, {faults} faults, {doubtful} records in doubt");
    }
}
