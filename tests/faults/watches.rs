//! Watches that stall, are cut, replay old objects or skip events; and two operators at once, one of them frozen
//! again and again.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::matrix::{Run, Shape, kill, seed};
use crate::proxy::Bend;

#[tokio::test(flavor = "multi_thread")]
async fn whatever_watches_show_the_promises_hold() {
    for bend in [Bend::Cut, Bend::Stall, Bend::Replay, Bend::Skip] {
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

/// No leader is elected yet: both send, and each loses the compare-and-swap to the other. One is frozen at random
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
