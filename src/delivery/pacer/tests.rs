//! Tasks that wait for their turn.

use std::pin::Pin;
use std::time::Duration;

use futures::poll;

use super::super::account::{AccountKey, CredentialDigest};
use super::*;

type Turn = Pin<Box<dyn Future<Output = Option<Permit>> + Send>>;

fn key() -> LaneKey {
    LaneKey { namespace: "ns".into(), webhook: "w".into() }
}

fn setup(generation: i64, suspended: bool) -> LaneSetup {
    let account = AccountKey::Origin { namespace: "ns".into(), origin: "https://example.com".into() };
    let credential = CredentialDigest::of(&[1; 32], &account, &[]);
    LaneSetup { uid: "u".into(), generation, account, account_limit: 15, credential, max_in_flight: 1, suspended }
}

/// A pacer with one Webhook that sends one request at a time.
fn pacer() -> Arc<Pacer> {
    let pacer = Arc::new(Pacer::default());
    pacer.set_lane(&key(), setup(1, false));
    pacer
}

fn asks(pacer: &Arc<Pacer>) -> Turn {
    let pacer = pacer.clone();
    Box::pin(async move { pacer.admit(&key(), Sender::default()).await })
}

async fn granted(turn: &mut Turn) -> Permit {
    let turn = tokio::time::timeout(Duration::from_secs(10), turn).await;
    turn.expect("its turn comes").expect("it is let through")
}

#[tokio::test]
async fn each_waits_until_the_one_before_has_ended() {
    let pacer = pacer();
    let (mut first, mut second) = (asks(&pacer), asks(&pacer));
    let permit = granted(&mut first).await;
    assert!(poll!(&mut second).is_pending());
    permit.finish(Lesson::Proven, "");
    drop(granted(&mut second).await);
    drop(granted(&mut asks(&pacer)).await);
}

#[tokio::test]
async fn whoever_leaves_gives_its_place_back() {
    let pacer = pacer();
    let permit = granted(&mut asks(&pacer)).await;
    let (mut leaves, mut stays) = (asks(&pacer), asks(&pacer));
    assert!(poll!(&mut leaves).is_pending() && poll!(&mut stays).is_pending());
    drop(leaves);
    drop(permit);
    granted(&mut stays).await;
}

#[tokio::test]
async fn a_webhook_that_is_not_known_lets_nobody_through_and_a_suspended_one_later() {
    let pacer = Arc::new(Pacer::default());
    assert!(asks(&pacer).await.is_none());
    pacer.set_lane(&key(), setup(1, true));
    let mut turn = asks(&pacer);
    assert!(poll!(&mut turn).is_pending());
    pacer.set_lane(&key(), setup(2, false));
    granted(&mut turn).await;
}

#[tokio::test]
async fn when_the_process_stops_whoever_waits_is_sent_away() {
    let pacer = pacer();
    let permit = granted(&mut asks(&pacer)).await;
    let mut waits = asks(&pacer);
    assert!(poll!(&mut waits).is_pending());
    pacer.close();
    assert!(waits.await.is_none());
    drop(permit);
}

#[tokio::test]
async fn a_pause_is_told_with_its_reason_and_so_is_its_end() {
    let pacer = pacer();
    let mut pauses = pacer.pauses();
    granted(&mut asks(&pacer)).await.finish(Lesson::Nothing, "");
    assert!(!pauses.has_changed().unwrap() && pacer.pause(&key()).is_none());
    granted(&mut asks(&pacer)).await.finish(Lesson::CredentialRefused, "HTTP 401");
    assert!(pauses.has_changed().unwrap());
    pauses.mark_unchanged();
    let pause = pacer.pause(&key()).unwrap();
    assert_eq!((pause.message(), &pause), ("HTTP 401", &Pause::Credential { message: "HTTP 401".into() }));
    let mut waits = asks(&pacer);
    assert!(poll!(&mut waits).is_pending());
    pacer.set_lane(&key(), setup(2, false));
    granted(&mut waits).await;
    assert!(pacer.pause(&key()).is_none());
}

#[tokio::test]
async fn after_a_429_time_alone_lets_the_next_through() {
    let pacer = pacer();
    let timed = pacer.clone();
    let running = tokio::spawn(async move { timed.run_timer().await });
    for _ in 0..2 {
        let mut waits = asks(&pacer);
        let throttled = granted(&mut waits).await;
        let mut next = asks(&pacer);
        assert!(poll!(&mut next).is_pending());
        throttled.finish(Lesson::Throttled { retry_after: None }, "HTTP 429");
        assert!(poll!(&mut next).is_pending(), "the account rests first");
        granted(&mut next).await.finish(Lesson::Proven, "");
    }
    assert!(!running.is_finished());
    running.abort();
}
