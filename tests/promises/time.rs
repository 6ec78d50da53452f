//! Clocks that step, processes that pause, budgets, conditions, and a pass that is suspended.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use coupon_operator::api::campaign::Campaign;
use coupon_operator::api::coupon::Coupon;
use serde_json::{Value, json};

use crate::occurrences::{apply_and_see, grants, prepare, scheduled, status, until_issued};
use crate::steered::SteeredOperator;
use crate::world::{World, campaign, rehearsed, said};

/// Stepped back and forth by an hour, over the opening, within the window, and over its end.
#[tokio::test(flavor = "multi_thread")]
async fn i1_a_clock_that_steps_by_an_hour_grants_nobody_twice_and_misses_no_open_window() {
    let world = World::new().await;
    prepare(&world).await;
    let operator = SteeredOperator::start(&world, "2023-01-01T08:30:00Z");
    let mut morning = scheduled(2, json!([{ "timeOfDay": { "from": "09:00", "to": "11:00" } }]));
    morning["spec"]["timeZone"] = "Etc/UTC".into();
    apply_and_see(&world, morning.clone()).await;
    operator.step(TimeDelta::hours(1)); // 09:30, over the opening
    until_issued(&world, "20230101T0900", 2).await;
    for hours in [-1, 1, 1, -1, 1] {
        operator.step(TimeDelta::hours(hours));
        morning["spec"]["title"] = format!("{}", operator.now()).into();
        apply_and_see(&world, morning.clone()).await;
    }
    operator.step_to("2023-01-01T12:00:00Z");
    world.until::<Campaign>("new-year", "closed", |c| said(&json!(c), "Ready").0 == "Scheduled").await;
    operator.step(TimeDelta::hours(-2));
    world.until::<Campaign>("new-year", "open again", |c| said(&json!(c), "Ready").0 == "Open").await;
    morning["spec"]["audience"]["profiles"] = campaign(3)["spec"]["audience"]["profiles"].clone();
    apply_and_see(&world, morning).await;
    until_issued(&world, "20230101T0900", 3).await;
    assert_eq!(grants(&world).await.len(), 1);
    operator.step_to("2023-01-02T09:00:01Z");
    until_issued(&world, "20230102T0900", 3).await;
    assert_eq!(status(&world.campaign().await).missed_windows, 0);
}

/// A clock that jumps over a whole window and is put right again: the window opens after all.
#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_a_wrong_clock_called_missed_opens_when_the_clock_is_right() {
    let world = World::new().await;
    prepare(&world).await;
    let operator = SteeredOperator::start(&world, "2022-12-31T12:00:00Z");
    apply_and_see(&world, campaign(2)).await;
    operator.step_to("2023-01-05T00:00:00Z");
    world.until::<Campaign>("new-year", "missed", |c| status(c).missed_windows == 1).await;
    operator.step_to("2023-01-01T12:00:00Z");
    let open = until_issued(&world, "20230101", 2).await;
    assert!(status(&open).occurrences.iter().all(|o| !o.missed));
}

fn signal(name: &str, pid: u32) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

/// The real binary, stopped before a window opens and continued while it is open; then stopped over its
/// end and the next opening.
#[tokio::test(flavor = "multi_thread")]
async fn i1_a_process_paused_over_boundaries_grants_nobody_twice_and_misses_no_open_window() {
    let world = World::new().await;
    prepare(&world).await;
    let operator = world.operator();
    let begins = rehearsed() + TimeDelta::seconds(3) + TimeDelta::from_std(world.age()).unwrap();
    let schedule = |customers: usize| {
        let bound = |seconds: i64| json!((begins + TimeDelta::seconds(seconds)).to_rfc3339());
        scheduled(
            customers,
            json!([
                { "after": bound(0), "before": bound(12) },
                { "after": bound(14), "before": bound(3600) },
            ]),
        )
    };
    apply_and_see(&world, schedule(2)).await;
    signal("-STOP", operator.id());
    world.until_rehearsed(begins + TimeDelta::seconds(2)).await;
    assert!(world.coupons().await.is_empty(), "it was stopped before the window opened");
    signal("-CONT", operator.id());
    world.until_coupons("the open window is not missed", |coupons| coupons.len() == 2).await;
    world.until_campaign_delivered(2).await;
    signal("-STOP", operator.id());
    world.until_rehearsed(begins + TimeDelta::seconds(16)).await;
    signal("-CONT", operator.id());
    world.until_coupons("the second window", |coupons| coupons.len() == 4).await;
    assert_eq!(grants(&world).await.values().map(BTreeSet::len).collect::<Vec<_>>(), [2, 2]);
    world.until_campaign_delivered(4).await;
    assert_eq!(world.stand_in.events().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn budgets_are_counted_from_the_ledger_and_the_next_period_goes_on() {
    let world = World::new().await;
    prepare(&world).await;
    let operator = SteeredOperator::start(&world, "2023-01-01T12:00:00Z");
    let mut limited = scheduled(5, json!([]));
    limited["spec"]["timeZone"] = "Etc/UTC".into();
    limited["spec"]["rules"][0]["oncePer"] = "Campaign".into();
    limited["spec"]["budgets"] = json!([{ "period": "Day", "maxCoupons": 2 }]);
    apply_and_see(&world, limited.clone()).await;
    let spent = |c: &Campaign| said(&json!(c), "Ready").0 == "Exhausted";
    let exhausted = world.until::<Campaign>("new-year", "Exhausted", spent).await;
    let message = said(&json!(exhausted), "Ready").1;
    assert_eq!(
        message,
        "the budget of 2 coupons for the Day is spent: whoever has no code waits until 2023-01-02T00:00:00+00:00"
    );
    assert_eq!(crate::world::condition(&json!(exhausted), "Ready"), "True");
    let waiting = status(&exhausted).occurrences[0].ineligible.clone();
    assert_eq!(waiting, BTreeMap::from([("the budget of 2 coupons for the Day is spent".to_owned(), 3)]));
    // A restart does not forget.
    drop(operator);
    let operator = SteeredOperator::start(&world, "2023-01-01T13:00:00Z");
    limited["spec"]["title"] = "after a restart".into();
    apply_and_see(&world, limited).await;
    world.until::<Campaign>("new-year", "Exhausted", spent).await;
    assert_eq!(world.coupons().await.len(), 2);
    operator.step_to("2023-01-02T00:00:01Z");
    until_issued(&world, "campaign", 4).await;
    world.until::<Campaign>("new-year", "Exhausted again", spent).await;
    operator.step_to("2023-01-03T00:00:01Z");
    until_issued(&world, "campaign", 5).await;
    world.until::<Campaign>("new-year", "nobody waits", |c| said(&json!(c), "Ready").0 == "Open").await;
    grants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_eligible_is_counted_by_reason_and_stops_nobody_else() {
    let world = World::new().await;
    prepare(&world).await;
    let _operator = SteeredOperator::start(&world, "2023-01-01T12:00:00Z");
    let mut gold = campaign(0);
    gold["spec"]["rules"][0]["eligibility"] =
        r#"profile.attributes.tier == "gold" && profile.attributes.age >= 18"#.into();
    gold["spec"]["audience"]["profiles"] = json!([
        { "integrationId": "ada", "attributes": { "tier": "gold", "age": 36 } },
        { "integrationId": "young", "attributes": { "tier": "gold", "age": 12 } },
        { "integrationId": "silver", "attributes": { "tier": "silver", "age": 40 } },
        { "integrationId": "silver-too", "attributes": { "tier": "silver", "age": 41 } },
        { "integrationId": "unknown", "attributes": { "tier": "gold" } },
        { "integrationId": "text", "attributes": { "tier": "gold", "age": "36" } },
        { "integrationId": "grace", "attributes": { "tier": "gold", "age": 85 } },
    ]);
    apply_and_see(&world, gold.clone()).await;
    let seen = until_issued(&world, "20230101", 2).await;
    let occurrence = &status(&seen).occurrences[0];
    assert_eq!(occurrence.matched, 7);
    let reasons = [
        ("eligibility: profile.attributes.age >= 18 is false", 1),
        (r#"eligibility: profile.attributes.tier == "gold" is false"#, 2),
        ("eligibility: profile.attributes.age >= 18: age is missing", 1),
        ("eligibility: profile.attributes.age >= 18: >= does not go with (string, int)", 1),
    ];
    assert_eq!(occurrence.ineligible, reasons.map(|(reason, n)| (reason.to_owned(), n)).into());
    // Nobody is forgotten: who becomes eligible while the window is open gets a code.
    gold["spec"]["audience"]["profiles"][4]["attributes"]["age"] = 18.into();
    apply_and_see(&world, gold.clone()).await;
    until_issued(&world, "20230101", 3).await;
    gold["spec"]["rules"][0]["eligibility"] = "profile.tier == 'gold'".into();
    apply_and_see(&world, gold).await;
    let invalid = world.until::<Campaign>("new-year", "Invalid", |c| said(&json!(c), "Stalled").0 == "Invalid").await;
    let message = said(&json!(invalid), "Ready").1;
    assert!(
        message.starts_with("spec.rules[create-coupon-on-1-january].eligibility: profile.tier is not known"),
        "{message}"
    );
}

/// In the middle of a large pass: nothing more is issued or sent after a second, and nothing is lost or
/// repeated afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn suspend_in_the_middle_of_a_large_pass_is_obeyed_within_a_second() {
    let world = World::new().await;
    prepare(&world).await;
    let _operator = world.operator();
    world.stand_in.set_latency(Duration::from_millis(50));
    world.apply::<Campaign>(campaign(1000)).await.unwrap();
    world.until_coupons("the pass has begun", |coupons| coupons.len() >= 30).await;
    assert!(world.stand_in.wait_for_requests(10, Duration::from_secs(30)).await);
    world.patch::<Campaign>("new-year", json!({ "spec": { "suspend": true } })).await;
    let suspended = Instant::now();
    tokio::time::sleep_until((suspended + Duration::from_secs(1)).into()).await;
    let (issued, sent) = (world.coupons().await.len(), world.stand_in.requests().len());
    assert!(issued < 1000, "the pass was over before it could be suspended");
    world.until::<Campaign>("new-year", "Suspended", |c| said(&json!(c), "Ready").0 == "Suspended").await;
    assert!(
        !world.stand_in.wait_for_requests(sent + 1, Duration::from_secs(2)).await,
        "something was sent a second after"
    );
    assert_eq!(world.coupons().await.len(), issued, "something was issued a second after");
    world.patch::<Campaign>("new-year", json!({ "spec": { "suspend": false } })).await;
    world.until_campaign_delivered(1000).await;
    world.assert_each_got_one(1000);
}

/// Ten that are over, and every one that can still grant.
#[tokio::test(flavor = "multi_thread")]
async fn status_says_what_is_open_what_is_next_and_the_last_ten() {
    let world = World::new().await;
    prepare(&world).await;
    let operator = SteeredOperator::start(&world, "2023-01-01T09:00:01Z");
    let mut daily = scheduled(1, json!([{ "timeOfDay": { "from": "09:00", "to": "10:00" } }]));
    daily["spec"]["timeZone"] = "Etc/UTC".into();
    apply_and_see(&world, daily).await;
    for day in 1..=13 {
        operator.step_to(&format!("2023-01-{day:02}T09:00:01Z"));
        until_issued(&world, &format!("202301{day:02}T0900"), 1).await;
        world.until_delivered(day).await;
    }
    let open = world
        .until::<Campaign>("new-year", "Open", |c| {
            said(&json!(c), "Ready").0 == "Open" && status(c).occurrences.iter().all(|o| o.delivered == 1)
        })
        .await;
    let keys: Vec<String> = status(&open).occurrences.iter().map(|o| o.key.clone()).collect();
    let expected: Vec<String> = (3..=13).map(|day| format!("202301{day:02}T0900")).collect();
    assert_eq!(keys, expected);
    assert_eq!(status(&open).next_window_time, "2023-01-14T09:00:00Z".parse().ok());
    let recipients: BTreeSet<String> =
        world.coupons().await.into_iter().filter_map(|c: Coupon| c.spec.recipient).collect();
    assert_eq!(recipients.len(), 1);
    let value: Value = json!(open);
    assert!(value["status"]["occurrences"][0]["window"]["startTime"].is_string());
}
