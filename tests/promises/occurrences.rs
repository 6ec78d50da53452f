//! Occurrences: what a code is given for, once to each recipient, through edits, periods and years.

use std::collections::{BTreeMap, BTreeSet};

use coupon_operator::api::campaign::{Campaign, CampaignStatus, OccurrenceStatus};
use coupon_operator::api::coupon::Coupon;
use coupon_operator::api::webhook::Webhook;
use k8s_openapi::api::core::v1::Event;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};

use crate::steered::SteeredOperator;
use crate::world::{CANARY, World, campaign, said, webhook};

/// The scenario's Campaign with other schedules.
pub fn scheduled(customers: usize, schedules: Value) -> Value {
    let mut campaign = campaign(customers);
    campaign["spec"]["rules"][0]["schedules"] = schedules;
    campaign
}

pub async fn prepare(world: &World) {
    world.apply_secret(CANARY).await;
    world.apply::<Webhook>(webhook()).await.unwrap();
}

pub fn status(campaign: &Campaign) -> CampaignStatus {
    campaign.status.clone().unwrap_or_default()
}

fn occurrence<'a>(status: &'a CampaignStatus, key: &str) -> Option<&'a OccurrenceStatus> {
    status.occurrences.iter().find(|o| o.key == key)
}

/// Applies a Campaign and waits until a pass over it has been made, or it is seen that none is due.
pub async fn apply_and_see(world: &World, campaign: Value) -> Campaign {
    let applied = world.apply::<Campaign>(campaign).await.unwrap();
    world
        .until::<Campaign>("new-year", "edit observed", |c| {
            status(c).observed_generation == applied.metadata.generation.unwrap()
        })
        .await
}

/// Waits until an occurrence has so many Coupons.
pub async fn until_issued(world: &World, key: &str, issued: i64) -> Campaign {
    let what = format!("{issued} issued for {key}");
    world
        .until::<Campaign>("new-year", &what, |c| {
            occurrence(&status(c), key).is_some_and(|o| o.issued == issued && o.audience_seen)
        })
        .await
}

/// Who has how many codes of each key; nobody may have two of one.
pub async fn grants(world: &World) -> BTreeMap<String, BTreeSet<String>> {
    let mut grants: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for coupon in world.coupons().await {
        let key = coupon.spec.occurrence.clone().unwrap();
        let first = grants.entry(key).or_default().insert(coupon.spec.recipient.clone().unwrap_or_default());
        assert!(first, "I1: {} has two codes for one occurrence", coupon.name_any());
    }
    grants
}

fn customers(n: usize) -> BTreeSet<String> {
    (1..=n).map(|i| format!("customer-{i}")).collect()
}

/// Edits of times, zone, oncePer and except in the middle of a window: whoever has a code of it gets no
/// other, and all go on under the key that was opened first.
#[tokio::test(flavor = "multi_thread")]
async fn i1_edits_in_the_middle_of_a_window_grant_nobody_twice() {
    let world = World::new().await;
    prepare(&world).await;
    let _operator = SteeredOperator::start(&world, "2023-01-01T12:00:00Z");
    let day = json!([{ "onDates": ["2023-01-01"] }]);
    apply_and_see(&world, scheduled(1, day.clone())).await;
    until_issued(&world, "20230101", 1).await;
    let edits: Vec<(&str, Value)> = vec![
        (
            "times",
            json!({ "schedules": [{ "onDates": ["2023-01-01"], "timeOfDay": { "from": "09:00", "to": "20:00" } }] }),
        ),
        ("before", json!({ "schedules": [{ "after": "2022-12-25T00:00", "before": "2023-01-07T00:00" }] })),
        (
            "once a day",
            json!({ "schedules": [{ "after": "2022-12-25T00:00", "before": "2023-01-07T00:00" }], "oncePer": "Day" }),
        ),
        ("once a week", json!({ "schedules": day, "oncePer": "Week" })),
        ("once a year", json!({ "schedules": day, "oncePer": "Year" })),
        ("once", json!({ "schedules": [], "oncePer": "Campaign" })),
        ("always", json!({ "schedules": [], "oncePer": "Window" })),
        (
            "except",
            json!({ "schedules": [{ "onDates": ["2023-01-01"], "except": [{ "timeOfDay": { "from": "06:00", "to": "10:00" } }] }] }),
        ),
        ("ticks", json!({ "schedules": [{ "cron": "0 * * * *" }] })),
        ("birthdays", json!({ "schedules": [{ "anniversaryOf": { "attribute": "birthday" } }] })),
    ];
    for (n, (what, rule)) in edits.into_iter().enumerate() {
        let mut edited = campaign(n + 2);
        for profile in edited["spec"]["audience"]["profiles"].as_array_mut().unwrap() {
            profile["attributes"] = json!({ "birthday": "1990-01-01" });
        }
        rule.as_object().unwrap().iter().for_each(|(field, value)| edited["spec"]["rules"][0][field] = value.clone());
        apply_and_see(&world, edited).await;
        world.until_coupons(&format!("{what}: one more code"), |coupons| coupons.len() == n + 2).await;
        let recipients: BTreeSet<String> = world.coupons().await.into_iter().filter_map(|c| c.spec.recipient).collect();
        assert_eq!(recipients, customers(n + 2), "{what}");
        grants(&world).await;
    }
    // Another zone moves the window, and it still overlaps.
    let mut moved = scheduled(12, json!([{ "onDates": ["2023-01-01"] }]));
    moved["spec"]["timeZone"] = "Pacific/Auckland".into();
    apply_and_see(&world, moved.clone()).await;
    moved["spec"]["timeZone"] = "America/New_York".into();
    apply_and_see(&world, moved).await;
    world.until_coupons("New York", |coupons| coupons.len() == 12).await;
    grants(&world).await;
    assert_eq!(world.stand_in.events().len(), world.until_delivered(12).await.len());
}

/// A renamed rule grants anew: its name is part of what a code is for. That is what people are warned of.
#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_rule_is_another_rule() {
    let world = World::new().await;
    prepare(&world).await;
    let _operator = SteeredOperator::start(&world, "2023-01-01T12:00:00Z");
    apply_and_see(&world, campaign(2)).await;
    until_issued(&world, "20230101", 2).await;
    let mut renamed = campaign(2);
    renamed["spec"]["rules"][0]["name"] = "on-new-year".into();
    apply_and_see(&world, renamed).await;
    world.until_coupons("two for the new rule", |coupons| coupons.len() == 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_once_per_day_gives_one_code_however_many_windows_and_again_the_next_day() {
    let world = World::new().await;
    prepare(&world).await;
    let operator = SteeredOperator::start(&world, "2023-01-02T09:00:01Z");
    let twice = || json!([{ "timeOfDay": { "from": "09:00", "to": "11:00" } }, { "timeOfDay": { "from": "14:00", "to": "16:00" } }]);
    let daily = |customers: usize| {
        let mut daily = scheduled(customers, twice());
        daily["spec"]["timeZone"] = "Etc/UTC".into();
        daily["spec"]["rules"][0]["oncePer"] = "Day".into();
        daily
    };
    apply_and_see(&world, daily(2)).await;
    until_issued(&world, "2023-01-02", 2).await;
    operator.step_to("2023-01-02T12:00:00Z");
    world
        .until::<Campaign>("new-year", "closed", |c| status(c).next_window_time == "2023-01-02T14:00:00Z".parse().ok())
        .await;
    operator.step_to("2023-01-02T14:00:01Z");
    apply_and_see(&world, daily(3)).await;
    until_issued(&world, "2023-01-02", 3).await;
    operator.step_to("2023-01-03T09:00:01Z");
    until_issued(&world, "2023-01-03", 3).await;
    // In the middle of the day, once a window instead: who was in the morning's window gets one in the
    // afternoon's, since that is what it says now.
    let mut each = daily(3);
    each["spec"]["rules"][0]["oncePer"] = "Window".into();
    apply_and_see(&world, each).await;
    operator.step_to("2023-01-03T14:00:01Z");
    until_issued(&world, "20230103T1400", 3).await;
    // And once a week: this week everybody has one.
    let mut weekly = daily(4);
    weekly["spec"]["rules"][0]["oncePer"] = "Week".into();
    apply_and_see(&world, weekly).await;
    world.until_coupons("only the fourth", |coupons| coupons.len() == 10).await;
    operator.step_to("2023-01-04T09:00:01Z");
    let now = until_issued(&world, "2023-W01", 0).await;
    assert_eq!(occurrence(&status(&now), "2023-W01").unwrap().matched, 4);
    operator.step_to("2023-01-09T09:00:01Z");
    until_issued(&world, "2023-W02", 4).await;
    assert_eq!(grants(&world).await.into_values().map(|who| who.len()).sum::<usize>(), 14);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_window_is_cut_at_its_periods_and_each_grants_once() {
    let world = World::new().await;
    prepare(&world).await;
    let operator = SteeredOperator::start(&world, "2023-01-30T12:00:00Z");
    for (once_per, steps) in [
        ("Day", vec![("2023-01-30T12:01:00Z", "2023-01-30"), ("2023-01-31T00:00:01Z", "2023-01-31")]),
        ("Month", vec![("2023-02-27T12:00:00Z", "2023-02"), ("2023-03-01T00:00:01Z", "2023-03")]),
        ("Year", vec![("2024-02-27T12:00:00Z", "2024"), ("2025-01-01T00:00:01Z", "2025")]),
    ] {
        let mut always = scheduled(2, json!([]));
        always["spec"]["timeZone"] = "Etc/UTC".into();
        always["spec"]["rules"][0]["oncePer"] = once_per.into();
        for (time, key) in steps {
            operator.step_to(time);
            apply_and_see(&world, always.clone()).await;
            until_issued(&world, key, 2).await;
        }
    }
    let campaign = world.campaign().await;
    assert_eq!(status(&campaign).next_window_time, "2026-01-01T00:00:00Z".parse().ok());
    assert_eq!(grants(&world).await.len(), 6);
}

/// In the night in which 02:00 to 03:00 comes twice, the window opens once.
#[tokio::test(flavor = "multi_thread")]
async fn i1_a_repeated_hour_grants_nobody_twice() {
    let world = World::new().await;
    prepare(&world).await;
    let operator = SteeredOperator::start(&world, "2026-10-24T23:50:00Z");
    apply_and_see(&world, scheduled(2, json!([{ "timeOfDay": { "from": "02:15", "to": "02:45" } }]))).await;
    operator.step_to("2026-10-25T00:15:01Z");
    until_issued(&world, "20261025T0215", 2).await;
    for time in ["2026-10-25T00:45:01Z", "2026-10-25T01:15:01Z", "2026-10-25T01:30:00Z", "2026-10-25T01:45:01Z"] {
        operator.step_to(time);
        let next = "2026-10-26T01:15:00Z".parse().ok();
        world
            .until::<Campaign>("new-year", "closed", |c| {
                status(c).next_window_time == next && said(&json!(c), "Ready").0 == "Scheduled"
            })
            .await;
    }
    assert_eq!(grants(&world).await.len(), 1);
    operator.step_to("2026-10-26T01:15:01Z");
    until_issued(&world, "20261026T0215", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn anniversaries_are_by_recipient_and_two_years_may_be_open_at_once() {
    let world = World::new().await;
    prepare(&world).await;
    let operator = SteeredOperator::start(&world, "2026-06-14T12:00:00Z");
    let mut birthdays = scheduled(0, json!([{ "anniversaryOf": { "attribute": "birthday" } }]));
    birthdays["spec"]["timeZone"] = "Etc/UTC".into();
    birthdays["spec"]["audience"]["profiles"] = json!([
        { "integrationId": "ada", "attributes": { "birthday": "1990-06-15" } },
        { "integrationId": "grace", "attributes": { "birthday": "1985-06-16" } },
        { "integrationId": "leap", "attributes": { "birthday": "1992-02-29" } },
        { "integrationId": "nobody", "attributes": { "birthday": "soon" } },
    ]);
    let seen = apply_and_see(&world, birthdays.clone()).await;
    assert_eq!(status(&seen).next_window_time, "2026-06-15T00:00:00Z".parse().ok());
    operator.step_to("2026-06-15T00:00:01Z");
    let june = until_issued(&world, "2026", 1).await;
    let year = occurrence(&status(&june), "2026").unwrap().clone();
    assert_eq!(
        year.ineligible,
        BTreeMap::from([("profile.attributes.birthday is no date: write it as YYYY-MM-DD or MM-DD".to_owned(), 1)])
    );
    operator.step_to("2026-06-16T08:00:00Z");
    until_issued(&world, "2026", 2).await;
    operator.step_to("2027-02-28T08:00:00Z");
    until_issued(&world, "2027", 1).await;
    assert_eq!(status(&world.campaign().await).missed_windows, 0, "nobody was overlooked");
    // Two years of one rule at once: two codes, one for each.
    birthdays["spec"]["rules"][0]["schedules"] =
        json!([{ "anniversaryOf": { "attribute": "birthday", "daysBefore": 200, "daysAfter": 200 } }]);
    operator.step_to("2027-12-20T00:00:00Z");
    apply_and_see(&world, birthdays).await;
    until_issued(&world, "2028", 3).await;
    let grants = grants(&world).await;
    let of = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(grants["2026"], of(&["ada", "grace"]));
    assert_eq!(grants["2027"], of(&["ada", "grace", "leap"]));
    assert_eq!(grants["2028"], of(&["ada", "grace", "leap"]));
}

/// N joined after an edit, and so has a code of the occurrence that was edited: of the windows that follow, N
/// gets one each, as everybody who has no code of an overlapping window.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_joins_after_an_edit_is_not_left_out_of_the_windows_that_follow() {
    let world = World::new().await;
    prepare(&world).await;
    let operator = SteeredOperator::start(&world, "2023-01-01T12:00:00Z");
    let in_utc = |customers: usize, schedules: Value| {
        let mut campaign = scheduled(customers, schedules);
        campaign["spec"]["timeZone"] = "Etc/UTC".into();
        campaign
    };
    apply_and_see(&world, in_utc(1, json!([{ "after": "2023-01-01T00:00", "before": "2023-01-08T00:00" }]))).await;
    until_issued(&world, "20230101", 1).await;
    operator.step_to("2023-01-03T10:00:00Z");
    let daily = json!([{ "timeOfDay": { "from": "09:00", "to": "17:00" } }]);
    apply_and_see(&world, in_utc(2, daily)).await;
    until_issued(&world, "20230101", 2).await;
    operator.step_to("2023-01-04T10:00:00Z");
    until_issued(&world, "20230104T0900", 1).await;
    operator.step_to("2023-01-08T10:00:00Z");
    world.until_coupons("both, once the first week is over", |coupons| coupons.len() >= 5).await;
    let grants = grants(&world).await;
    assert_eq!(grants["20230104T0900"], BTreeSet::from(["customer-2".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_anniversary_that_nobody_could_be_served_in_is_counted() {
    let world = World::new().await;
    prepare(&world).await;
    let operator = SteeredOperator::start(&world, "2026-06-01T12:00:00Z");
    let mut birthdays = scheduled(0, json!([{ "anniversaryOf": { "attribute": "birthday" } }]));
    birthdays["spec"]["timeZone"] = "Etc/UTC".into();
    birthdays["spec"]["rules"][0]["eligibility"] = "profile.attributes.vip".into();
    birthdays["spec"]["audience"]["profiles"] = json!([
        { "integrationId": "ada", "attributes": { "birthday": "1990-06-15", "vip": true } },
        { "integrationId": "grace", "attributes": { "birthday": "1990-06-15", "vip": false } },
    ]);
    apply_and_see(&world, birthdays).await;
    drop(operator);
    let _operator = SteeredOperator::start(&world, "2026-06-20T12:00:00Z");
    world.until::<Campaign>("new-year", "ada's was missed", |c| status(c).missed_windows == 1).await;
    let reopen =
        json!({ "metadata": { "annotations": { "coupon-operator.dev/reopen": "create-coupon-on-1-january/2026" } } });
    world.patch::<Campaign>("new-year", reopen).await;
    until_issued(&world, "2026", 1).await;
    assert_eq!(grants(&world).await["2026"], BTreeSet::from(["ada".to_owned()]));
}

async fn events(world: &World, reason: &str) -> Vec<Event> {
    let events = world.api::<Event>().list(&ListParams::default()).await.unwrap().items;
    events.into_iter().filter(|e| e.reason.as_deref() == Some(reason)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_window_is_never_replayed_but_counted_and_can_be_opened_once_more() {
    let world = World::new().await;
    prepare(&world).await;
    let operator = SteeredOperator::start(&world, "2022-12-30T12:00:00Z");
    let days = json!([{ "onDates": ["2023-01-01", "2023-01-03", "2023-01-05"] }]);
    apply_and_see(&world, scheduled(2, days.clone())).await;
    // Down over the first.
    drop(operator);
    let operator = SteeredOperator::start(&world, "2023-01-02T12:00:00Z");
    let missed = world.until::<Campaign>("new-year", "one missed", |c| status(c).missed_windows == 1).await;
    assert!(occurrence(&status(&missed), "20230101").is_some_and(|o| o.missed && o.issued == 0));
    // Suspended over the second.
    let mut suspended = scheduled(2, days.clone());
    suspended["spec"]["suspend"] = true.into();
    apply_and_see(&world, suspended).await;
    operator.step_to("2023-01-03T12:00:00Z");
    operator.step_to("2023-01-04T12:00:00Z");
    world.until::<Campaign>("new-year", "two missed", |c| status(c).missed_windows == 2).await;
    apply_and_see(&world, scheduled(2, days)).await;
    assert!(world.coupons().await.is_empty(), "nothing is made up for");
    let said: Vec<String> = events(&world, "WindowMissed").await.into_iter().filter_map(|e| e.message).collect();
    for key in ["create-coupon-on-1-january/20230101", "create-coupon-on-1-january/20230103"] {
        assert!(said.iter().any(|note| note.contains(key)), "{said:?}");
    }
    operator.step_to("2023-01-05T12:00:00Z");
    until_issued(&world, "20230105", 2).await;
    let reopen = |text: &str| json!({ "metadata": { "annotations": { "coupon-operator.dev/reopen": text } } });
    world.patch::<Campaign>("new-year", reopen("create-coupon-on-1-january/20230101")).await;
    let reopened = until_issued(&world, "20230101", 2).await;
    assert!(!occurrence(&status(&reopened), "20230101").unwrap().missed);
    world.until::<Campaign>("new-year", "carried out", |c| status(c).reopened.is_some()).await;
    world.patch::<Campaign>("new-year", reopen("create-coupon-on-1-january/19990101")).await;
    let warned = |c: &Campaign| {
        crate::world::said(&json!(c), "Ready").1.contains("19990101: no window that has closed has this key")
    };
    world.until::<Campaign>("new-year", "an unknown key is said", warned).await;
    assert_eq!(grants(&world).await.keys().cloned().collect::<Vec<_>>(), ["20230101", "20230105"]);
    world.until_delivered(4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_an_occurrence_goes_on_when_its_campaign_was_deleted_and_applied_again() {
    let world = World::new().await;
    prepare(&world).await;
    let operator = SteeredOperator::start(&world, "2023-01-02T09:00:01Z");
    let weekly = |customers: usize| {
        let mut weekly = scheduled(customers, json!([{ "timeOfDay": { "from": "09:00", "to": "11:00" } }]));
        weekly["spec"]["timeZone"] = "Etc/UTC".into();
        weekly["spec"]["rules"][0]["oncePer"] = "Week".into();
        weekly
    };
    apply_and_see(&world, weekly(2)).await;
    until_issued(&world, "2023-W01", 2).await;
    world.api::<Campaign>().delete("new-year", &DeleteParams::default()).await.unwrap();
    operator.step_to("2023-01-04T09:00:01Z");
    apply_and_see(&world, weekly(3)).await;
    until_issued(&world, "2023-W01", 3).await;
    assert_eq!(grants(&world).await["2023-W01"].len(), 3);
    let labels = world.coupons().await.iter().map(|c: &Coupon| c.labels().len()).sum::<usize>();
    assert_eq!(labels, 0, "the ledger needs no labels");
}
