use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::validate::{self, KnownWebhook};
use super::*;

const DAY: &str = "2023-01-01T12:00:00Z";

fn campaign(changes: &Value) -> Campaign {
    let mut object = json!({
        "apiVersion": "coupon-operator.dev/v1alpha1", "kind": "Campaign", "metadata": { "name": "c" },
        "spec": {
            "audience": { "profiles": [] },
            "rules": [{ "name": "r", "schedules": [{ "onDates": ["2023-01-01", "2023-03-01"] }], "effects": [
                { "createCoupon": {} }, { "sendWebhook": { "webhookRef": { "name": "w" } } }] }],
        },
    });
    for (pointer, value) in changes.as_object().into_iter().flatten() {
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        object.pointer_mut(parent).unwrap()[field] = value.clone();
    }
    serde_json::from_value(object).unwrap()
}

fn memory(since_pass: Option<u64>, coupons_changed: bool) -> Memory {
    Memory {
        since_pass: since_pass.map(Duration::from_secs),
        coupons_changed,
        audience_poll: Duration::from_secs(300),
        stopped: None,
    }
}

fn occurrence(key: &str, start: &str, end: &str, issued: i64, delivered: i64) -> Value {
    json!({ "rule": "r", "key": key, "window": { "startTime": start, "endTime": end }, "issued": issued, "delivered": delivered })
}

fn opened(issued: i64, delivered: i64) -> Value {
    json!({ "/status": { "occurrences": [occurrence("20230101", "2023-01-01T00:00:00Z", "2023-01-02T00:00:00Z", issued, delivered)] } })
}

fn planned(changes: &Value, memory: &Memory, now: &str) -> Plan {
    let campaign = campaign(changes);
    let webhooks = BTreeMap::from([("w".to_owned(), KnownWebhook { parameters: Vec::new(), problem: None })]);
    let validated = validate::run(&campaign.spec, &webhooks);
    assert!(validated.problems.is_empty(), "{:?}", validated.problems);
    run(&campaign, &validated, memory, now.parse().unwrap())
}

#[test]
fn a_window_that_opens_is_issued_to_at_once_even_after_a_pass_a_moment_ago() {
    let plan = planned(&json!({}), &memory(Some(0), false), DAY);
    assert_eq!(plan.issue.len(), 1);
    assert!(plan.issue[0].opened.is_none() && plan.window_open && plan.later.is_none());
    assert_eq!(plan.next_boundary, Some("2023-01-02T00:00:00Z".parse().unwrap()));
    assert_eq!(plan.next_window, Some("2023-03-01T00:00:00Z".parse().unwrap()));
}

#[test]
fn i8_an_open_window_costs_nothing_until_its_audience_is_looked_at_again() {
    assert!(planned(&opened(1, 1), &memory(Some(299), false), DAY).issue.is_empty());
    assert_eq!(planned(&opened(1, 1), &memory(Some(300), false), DAY).issue.len(), 1);
    assert_eq!(planned(&opened(1, 1), &memory(Some(9), true), DAY).issue.len(), 1, "a Coupon changed");
    assert_eq!(planned(&opened(1, 1), &memory(None, false), DAY).issue.len(), 1, "an edit, or a restart");
    let plan = planned(&opened(1, 1), &memory(Some(299), false), "2023-01-15T00:00:00Z");
    assert!(plan.issue.is_empty() && plan.count.is_empty());
}

#[test]
fn passes_are_a_second_apart() {
    let plan = planned(&opened(2, 1), &memory(Some(0), true), DAY);
    assert!(plan.issue.is_empty() && plan.count.is_empty());
    assert_eq!(plan.later, Some(Duration::from_secs(1)));
}

#[test]
fn a_suspended_campaign_issues_nothing_and_goes_on_counting() {
    let mut changes = opened(2, 1);
    changes["/spec/suspend"] = true.into();
    let plan = planned(&changes, &memory(Some(9), true), DAY);
    assert!(plan.issue.is_empty());
    assert_eq!(plan.count, [Count { rule: "r".into(), key: "20230101".into() }]);
}

#[test]
fn coupons_of_a_closed_window_are_counted_until_they_are_settled() {
    let after = "2023-01-15T00:00:00Z";
    assert_eq!(planned(&opened(2, 1), &memory(Some(9), true), after).count.len(), 1);
    assert!(planned(&opened(2, 2), &memory(Some(9), true), after).count.is_empty());
}

#[test]
fn i1_an_edited_window_goes_on_as_the_earliest_occurrence_that_it_overlaps() {
    let occurrences = json!([
        occurrence("20230101T1000", "2023-01-01T10:00:00Z", "2023-01-01T13:00:00Z", 1, 1),
        occurrence("20221231", "2022-12-31T00:00:00Z", "2023-01-01T01:00:00Z", 1, 1),
        occurrence("20221101", "2022-11-01T00:00:00Z", "2022-11-02T00:00:00Z", 1, 1),
    ]);
    let plan = planned(&json!({ "/status": { "occurrences": occurrences } }), &memory(None, false), DAY);
    assert_eq!(plan.issue[0].opened.as_ref().unwrap().key, "20221231");
}

#[test]
fn accepted_missing_is_read_for_its_own_rule_and_key() {
    for (text, accepted) in [
        ("r/20230101=2", 2),
        ("other/20230101=9, r/20230101=3 r/20230101=1", 3),
        ("r/20230102=2", 0),
        ("r/20230101", 0),
        ("r/20230101=many", 0),
    ] {
        let mut changes = opened(1, 1);
        changes["/metadata/annotations"] = json!({ ACCEPT_MISSING_ANNOTATION: text });
        assert_eq!(planned(&changes, &memory(None, false), DAY).issue[0].accepted_missing, accepted, "{text}");
    }
}

#[test]
fn it_sleeps_until_the_next_boundary_and_never_over_a_minute() {
    let now: DateTime<Utc> = "2023-01-01T23:59:50Z".parse().unwrap();
    let sleep = |boundary: Option<&str>, later, again| {
        let plan = Plan { next_boundary: boundary.map(|b| b.parse().unwrap()), later, ..Plan::default() };
        wake(&plan, &Applied { again, ..Applied::default() }, now)
    };
    assert_eq!(sleep(Some("2023-01-02T00:00:00Z"), None, false), Duration::from_secs(10));
    assert_eq!(sleep(Some("2023-03-01T00:00:00Z"), None, false), LONGEST_SLEEP);
    assert_eq!(sleep(None, None, false), LONGEST_SLEEP);
    assert_eq!(sleep(None, Some(Duration::from_secs(1)), false), Duration::from_secs(1));
    assert!(sleep(None, None, true) < Duration::from_secs(1));
}
