//! Watches that stall, are cut, replay old objects or skip events; and two operators at once, one of them frozen
//! again and again.

use std::time::Duration;

use coupon_operator::api::campaign::Campaign;
use coupon_operator::api::coupon::Coupon;
use coupon_operator::api::webhook::Webhook;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;

use crate::matrix::{Edit, Run, Shape, kill, seed};
use crate::proxy::Bend;
use crate::world::campaign;

#[tokio::test(flavor = "multi_thread")]
async fn whatever_watches_show_the_promises_hold() {
    for bend in [Bend::Cut, Bend::Stall, Bend::Replay, Bend::Skip, Bend::Late] {
        for shape in [Shape::Single, Shape::Batch] {
            let run = Run::new(shape).await;
            run.proxy.bend(Some(bend));
            let operator = run.operator(Duration::ZERO);
            run.finished().await;
            kill(&operator);
            run.verdict().await.unwrap_or_else(|why| panic!("{bend:?} {shape:?}: {why}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_what_this_process_wrote_and_its_watch_does_not_show_yet_costs_no_write() {
    for shape in [Shape::Single, Shape::Batch] {
        let run = Run::new(shape).await;
        run.proxy.bend(Some(Bend::Late));
        let operator = run.operator(Duration::ZERO);
        run.finished().await;
        run.settled().await;
        kill(&operator);
        let coupons = run.world.coupons().await.len();
        let (applied, refused) = (run.proxy.applied().len(), run.proxy.refused());
        assert_eq!((applied, refused), (2 * coupons, 0), "{shape:?}: intent and result");
    }
}

/// The ledger is read from the API and selected by what nobody can change: a cache that is behind and labels that
/// somebody took away give nobody a second code. The Campaign's status, which remembers what was issued, is gone too.
#[tokio::test(flavor = "multi_thread")]
async fn i1_with_late_watches_and_labels_stripped_the_ledger_gives_nobody_a_second_code() {
    for bend in [Bend::Late, Bend::Stall] {
        for shape in [Shape::Single, Shape::Batch] {
            let mut run = Run::new(shape).await;
            run.proxy.bend(Some(bend));
            let first = run.operator(Duration::ZERO);
            run.finished().await;
            for coupon in run.world.coupons().await {
                let stripped = json!({ "metadata": { "labels": null, "annotations": null, "managedFields": [{}] } });
                run.world.patch::<Coupon>(&coupon.name_any(), stripped).await;
            }
            let coupons = run.world.coupons().await;
            assert!(coupons.iter().all(|c| c.labels().is_empty() && c.annotations().is_empty()));
            // The one that knows them goes on with late joiners, and so does one that knows nothing.
            run.edit(Edit::Audience).await;
            run.finished().await;
            kill(&first);
            let forgotten = json!({ "status": null });
            let api = run.world.api::<Campaign>();
            api.patch_status("new-year", &PatchParams::default(), &Patch::Merge(forgotten)).await.unwrap();
            // The window has another key of its own now: only the Coupons say under which it goes on.
            let mut moved = campaign(23);
            moved["spec"]["rules"][0]["schedules"] = json!([{ "onDates": ["2022-12-31", "2023-01-01"] }]);
            run.world.apply::<Campaign>(moved).await.unwrap();
            let second = run.operator(Duration::from_secs(60));
            let occurrence = |c: &Campaign| c.status.as_ref().is_some_and(|s| !s.occurrences.is_empty());
            run.world.until::<Campaign>("new-year", "an occurrence", occurrence).await;
            run.finished().await;
            run.settled().await;
            kill(&second);
            run.verdict().await.unwrap_or_else(|why| panic!("{bend:?} {shape:?}: {why}"));
        }
    }
}

/// What is seen first at a start is not what comes first: Coupons before their Campaign and Webhook, and so on.
#[tokio::test(flavor = "multi_thread")]
async fn whichever_kind_is_listed_last_the_operator_goes_on_where_it_was() {
    for kind in ["campaigns", "webhooks", "coupons", "namespaces"] {
        let run = Run::new(Shape::Single).await;
        let suspended = |suspend: bool| json!({ "spec": { "suspend": suspend } });
        run.world.patch::<Webhook>("send-clevertap-email", suspended(true)).await;
        let first = run.operator(Duration::ZERO);
        run.world.until_coupons("issued", |coupons| coupons.len() == 20).await;
        kill(&first);
        run.world.patch::<Webhook>("send-clevertap-email", suspended(false)).await;
        run.world.apply::<Campaign>(campaign(22)).await.unwrap();
        run.proxy.slow_lists_of(kind);
        let second = run.operator(Duration::ZERO);
        run.world.until_delivered(22).await;
        kill(&second);
        run.world.assert_each_got_one(22);
    }
}

/// As if there were no Lease: both send, and each loses the compare-and-swap to the other. One is frozen at random
/// moments, for longer than its requests may take, and goes on with what it had begun.
#[tokio::test(flavor = "multi_thread")]
async fn two_operators_at_once_one_frozen_again_and_again_the_promises_hold() {
    let mut random = StdRng::seed_from_u64(seed());
    for shape in [Shape::Single, Shape::Batch] {
        // The other's clock is ahead: it takes the frozen one's requests for lost at once, or never.
        for ahead in [Duration::ZERO, Duration::from_secs(60)] {
            let run = Run::new(shape).await;
            run.world.stand_in.set_latency(Duration::from_millis(20));
            let frozen = run.operator(Duration::ZERO);
            let other = run.operator(ahead);
            let finished = run.finished();
            tokio::pin!(finished);
            let mut freezing = true;
            loop {
                let signal = if freezing { "STOP" } else { "CONT" };
                if let Some(operator) = frozen.lock().unwrap().as_mut() {
                    operator.signal(signal).unwrap();
                }
                let longest = if freezing { 2500 } else { 300 };
                freezing = !freezing;
                let pause = tokio::time::sleep(Duration::from_millis(random.random_range(20..longest)));
                tokio::select! {
                    () = &mut finished => break,
                    () = pause => {}
                }
            }
            if let Some(operator) = frozen.lock().unwrap().as_mut() {
                operator.signal("CONT").unwrap();
            }
            // What it had begun is written down, or refused, before it is judged.
            run.settled().await;
            [&frozen, &other].into_iter().for_each(kill);
            run.verdict().await.unwrap_or_else(|why| panic!("{shape:?} {ahead:?}: {why}"));
        }
    }
}
