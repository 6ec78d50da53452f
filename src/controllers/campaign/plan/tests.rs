use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::validate::{self, KnownWebhook};
use super::*;

const LONGEST: Duration = Duration::from_secs(60);
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
        able: 1,
        since_count: None,
        coupons_changed,
        counts_unknown: false,
        boundary: None,
        audience_poll: Duration::from_secs(300),
        outcome: PassOutcome::default(),
    }
}

fn occurrence(key: &str, start: &str, end: &str, issued: i64, delivered: i64) -> Value {
    json!({ "rule": "r", "key": key, "window": { "startTime": start, "endTime": end }, "issued": issued, "delivered": delivered })
}

fn opened(issued: i64, delivered: i64) -> Value {
    json!({ "/status": { "occurrences": [occurrence("20230101", "2023-01-01T00:00:00Z", "2023-01-02T00:00:00Z", issued, delivered)] } })
}

fn everybody(issue: &Issue) -> &Occurrence {
    match &issue.granting {
        Granting::Everybody(occurrence) => occurrence,
        Granting::Anniversary(year) => panic!("{year}"),
    }
}

fn planned(changes: &Value, memory: &Memory, now: &str) -> Plan {
    let campaign = campaign(changes);
    let webhooks =
        BTreeMap::from([("w".to_owned(), KnownWebhook { parameters: Vec::new(), max_batch: 1, problem: None })]);
    let validated = validate::run(&campaign.spec, &validate::compile(&campaign.spec), &webhooks);
    assert!(validated.problems.is_empty(), "{:?}", validated.problems);
    run((&campaign, campaign.spec.audience.written()), &validated, memory, now.parse().unwrap())
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
    let unknown = Memory { counts_unknown: true, ..memory(Some(9), true) };
    assert_eq!(planned(&opened(1, 1), &unknown, DAY).issue.len(), 1, "a Coupon may be gone");
    assert_eq!(planned(&opened(1, 1), &memory(None, false), DAY).issue.len(), 1, "an edit, or a restart");
    let plan = planned(&opened(1, 1), &memory(Some(299), false), "2023-01-15T00:00:00Z");
    assert!(plan.issue.is_empty() && plan.count.is_empty());
}

#[test]
fn coupons_that_changed_are_counted_without_a_pass_or_a_reading() {
    let plan = planned(&opened(2, 1), &memory(Some(9), true), DAY);
    assert_eq!((plan.issue.len(), plan.count.len(), plan.read), (0, 1, false));
    let unknown = Memory { counts_unknown: true, ..memory(Some(9), true) };
    let plan = planned(&opened(2, 1), &unknown, "2023-01-15T00:00:00Z");
    assert_eq!((plan.issue.len(), plan.count.len(), plan.read), (0, 1, true), "one may be gone");
    assert!(planned(&opened(2, 1), &memory(None, false), "2023-01-15T00:00:00Z").read, "after a restart");
}

#[test]
fn passes_and_counts_are_a_second_apart() {
    let of = |since_pass, since_count: Option<u64>| Memory {
        since_count: since_count.map(Duration::from_secs),
        ..memory(Some(since_pass), true)
    };
    for just_now in [of(0, None), of(0, Some(9)), of(300, Some(0))] {
        let plan = planned(&opened(2, 1), &just_now, DAY);
        assert!(plan.issue.is_empty() && plan.count.is_empty(), "{just_now:?}");
        assert_eq!(plan.later, Some(Duration::from_secs(1)));
    }
    let plan = planned(&opened(2, 1), &of(1, Some(1)), DAY);
    assert_eq!((plan.count.len(), plan.later), (1, None), "a second later");
    assert_eq!(planned(&opened(2, 1), &of(300, Some(9)), DAY).issue.len(), 1, "counting puts no pass off");
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
        wake(&plan, &Applied { again, ..Applied::default() }, LONGEST, now)
    };
    assert_eq!(sleep(Some("2023-01-02T00:00:00Z"), None, false), Duration::from_secs(10));
    assert_eq!(sleep(Some("2023-03-01T00:00:00Z"), None, false), LONGEST);
    assert_eq!(sleep(None, None, false), LONGEST);
    assert_eq!(sleep(None, Some(Duration::from_secs(1)), false), Duration::from_secs(1));
    assert!(sleep(None, None, true) < Duration::from_secs(1));
}

#[test]
fn a_boundary_that_has_passed_makes_a_pass_due() {
    let at = |boundary: &str| Memory { boundary: boundary.parse().ok(), ..memory(Some(9), false) };
    assert_eq!(planned(&opened(1, 1), &at("2023-01-01T11:59:59Z"), DAY).issue.len(), 1);
    assert!(planned(&opened(1, 1), &at("2023-01-01T12:00:01Z"), DAY).issue.is_empty());
}

/// At a start Campaigns may be seen before their Webhooks: what is counted then is no pass over the rule.
#[test]
fn a_rule_that_could_not_act_is_issued_to_as_soon_as_it_can() {
    assert!(planned(&opened(1, 1), &memory(Some(9), false), DAY).issue.is_empty());
    let before = Memory { able: 0, ..memory(Some(9), false) };
    assert_eq!(planned(&opened(1, 1), &before, DAY).issue.len(), 1);
    let just_now = planned(&opened(1, 1), &Memory { able: 0, ..memory(Some(0), false) }, DAY);
    assert_eq!((just_now.issue.len(), just_now.later), (0, Some(Duration::from_secs(1))));
}

/// With `oncePer`, the second window of a day goes on under the key of the first.
#[test]
fn i1_windows_of_one_period_are_one_occurrence() {
    let mut changes = json!({
        "/spec/rules/0/schedules": [{ "timeOfDay": { "from": "09:00", "to": "10:00" } }, { "timeOfDay": { "from": "11:00", "to": "13:00" } }],
        "/spec/rules/0/oncePer": "Day",
    });
    let morning = occurrence("2023-01-01", "2023-01-01T09:00:00Z", "2023-01-01T10:00:00Z", 1, 1);
    changes["/status"] = json!({ "occurrences": [morning] });
    let plan = planned(&changes, &memory(None, false), DAY);
    assert_eq!(plan.issue[0].opened.as_ref().unwrap().key, "2023-01-01");
    assert_eq!(everybody(&plan.issue[0]).window.start_time, "2023-01-01T11:00:00Z".parse().ok());
}

fn checked(occurrences: &[Value]) -> Value {
    json!({
        "/metadata/generation": 1,
        "/status": { "observedGeneration": 1, "windowsCheckedUntil": "2022-12-30T00:00:00Z", "occurrences": occurrences },
    })
}

fn first_of_january(seen: bool) -> Value {
    let mut known = occurrence("20230101", "2023-01-01T00:00:00Z", "2023-01-02T00:00:00Z", 1, 1);
    known["audienceSeen"] = seen.into();
    known
}

#[test]
fn a_window_that_closed_unseen_is_missed_and_one_that_was_seen_is_not() {
    let after = "2023-01-05T00:00:00Z";
    let missed = |changes: &Value, now: &str| {
        let plan = planned(changes, &memory(None, false), now);
        (plan.closed_after.is_some(), plan.missed.iter().map(|m| (m.key.clone(), m.partly)).collect::<Vec<_>>())
    };
    assert_eq!(missed(&checked(&[]), after), (true, vec![("20230101".to_owned(), false)]));
    assert_eq!(missed(&checked(&[first_of_january(false)]), after), (true, vec![("20230101".to_owned(), true)]));
    assert_eq!(missed(&checked(&[first_of_january(true)]), after), (true, vec![]));
    assert_eq!(missed(&checked(&[]), DAY), (false, vec![]), "it is still open");
    assert_eq!(missed(&json!({}), after), (false, vec![]), "a Campaign that is new has missed nothing");
    let mut counted = first_of_january(false);
    counted["missed"] = true.into();
    assert_eq!(missed(&checked(&[counted]), after), (true, vec![]), "it is counted once");
    let mut earlier = first_of_january(true);
    (earlier["key"], earlier["window"]) =
        ("20230101".into(), json!({ "startTime": "2022-12-01T00:00:00Z", "endTime": "2022-12-02T00:00:00Z" }));
    assert_eq!(missed(&checked(&[earlier]), after).1.len(), 1, "another window of the same key was seen");
    let mut suspended = checked(&[]);
    suspended["/spec/suspend"] = true.into();
    assert_eq!(missed(&suspended, after).1.len(), 1);
}

/// Windows that an edit puts into the past were never announced, so nobody missed them. But if an announced
/// one has passed before the edit was seen, nobody looked.
#[test]
fn an_edit_owes_nothing_of_the_time_before_it_but_what_was_announced() {
    let edited = |next: &str| {
        let mut changes = checked(&[]);
        changes["/metadata/generation"] = 2.into();
        changes["/status"]["nextWindowTime"] = next.into();
        let plan = planned(&changes, &memory(None, false), "2023-01-05T00:00:00Z");
        (plan.closed_after.is_some(), plan.missed.len())
    };
    assert_eq!(edited("2023-03-01T00:00:00Z"), (true, 0));
    assert_eq!(edited("2023-01-01T00:00:00Z"), (true, 1));
}

/// What was open and unseen when status was written, and has no window any more.
#[test]
fn an_occurrence_that_an_edit_cut_off_unseen_is_missed() {
    let mut changes = checked(&[first_of_january(false)]);
    changes["/metadata/generation"] = 2.into();
    changes["/spec/rules/0/schedules"] = json!([{ "onDates": ["2023-06-01"] }]);
    let missed = |changes: &Value| {
        let plan = planned(changes, &memory(None, false), "2023-01-05T00:00:00Z");
        plan.missed.into_iter().map(|m| m.key).collect::<Vec<_>>()
    };
    assert_eq!(missed(&changes), ["20230101"]);
    let second = occurrence("other", "2023-01-01T00:00:00Z", "2023-01-03T00:00:00Z", 1, 1);
    changes["/status"]["occurrences"] = json!([first_of_january(false), second]);
    assert_eq!(missed(&changes), ["20230101", "other"]);
    let year = occurrence("2023", "2023-01-01T00:00:00Z", "2023-01-03T00:00:00Z", 1, 1);
    let mut counted = first_of_january(false);
    counted["missed"] = true.into();
    let seen = first_of_january(true);
    let open = occurrence("open", "2023-01-01T00:00:00Z", "2023-01-09T00:00:00Z", 1, 1);
    let earlier = occurrence("earlier", "2022-01-01T00:00:00Z", "2022-01-02T00:00:00Z", 1, 1);
    for known in [year, counted, seen, open, earlier] {
        changes["/status"]["occurrences"] = json!([known]);
        assert!(missed(&changes).is_empty(), "{known}");
    }
    // What the schedule still has, and what status remembers of it, is one window.
    let mut kept = checked(&[first_of_january(false)]);
    kept["/metadata/generation"] = 2.into();
    kept["/status"]["nextWindowTime"] = "2023-01-01T00:00:00Z".into();
    assert_eq!(missed(&kept), ["20230101"]);
}

#[test]
fn a_closed_window_is_issued_to_once_more_when_a_person_says_so() {
    let after = "2023-01-05T00:00:00Z";
    let asked = |text: &str, status: Value, now: &str| {
        let changes = json!({ "/metadata/annotations": { crate::api::REOPEN_ANNOTATION: text }, "/status": status });
        planned(&changes, &memory(None, false), now)
    };
    let plan = asked("r/20230101", json!({}), after);
    assert!(plan.issue[0].reopened && plan.reopening && plan.warnings.is_empty() && !plan.window_open);
    assert!(!planned(&json!({}), &memory(None, false), after).reopening);
    assert_eq!(everybody(&plan.issue[0]).key, "20230101");
    let done = asked("r/20230101", json!({ "reopened": "r/20230101" }), after);
    assert!(done.issue.is_empty() && done.reopened == ["r/20230101"], "it was carried out");
    let mut suspended = json!({ "/metadata/annotations": { crate::api::REOPEN_ANNOTATION: "r/20230101" }, "/status": { "reopened": "r/20230101" } });
    suspended["/spec/suspend"] = true.into();
    assert_eq!(planned(&suspended, &memory(None, false), after).reopened, ["r/20230101"], "it is not forgotten");
    let open = asked("r/20230101", json!({}), DAY);
    assert!(open.issue.len() == 1 && !open.issue[0].reopened && open.reopened == ["r/20230101"], "it is open anyway");
    assert_eq!(reopen::place(&plan.issue[0]), "r/20230101");
    // What status remembers of this rule and key, and nothing else.
    let known = |rule: &str, key: &str, end: &str| {
        let mut known = occurrence(key, "2023-01-03T00:00:00Z", end, 1, 1);
        known["rule"] = rule.into();
        known
    };
    let of = |known: Value| asked("r/20230103", json!({ "occurrences": [known] }), after);
    let remembered = of(known("r", "20230103", "2023-01-04T00:00:00Z"));
    assert_eq!(everybody(&remembered.issue[0]).window.start_time, "2023-01-03T00:00:00Z".parse().ok());
    assert!(remembered.issue[0].opened.as_ref().is_some_and(|o| o.key == "20230103"));
    assert!(of(known("r", "20230103", after)).issue.len() == 1, "it closes now");
    for other in [
        known("other", "20230103", "2023-01-04T00:00:00Z"),
        known("r", "20230104", "2023-01-04T00:00:00Z"),
        known("r", "20230103", "2023-01-06T00:00:00Z"),
    ] {
        assert_eq!(of(other).warnings.len(), 1);
    }
    let both = asked("r/20230101, other/20230101", json!({}), after);
    assert!(both.issue.len() == 1 && both.warnings.len() == 1 && both.reopened.is_empty(), "each for itself");
    for (text, words) in [
        ("r/20230102", "r/20230102: no window that has closed has this key"),
        ("r/20230301", "no window that has closed"),
        ("other/20230101", "there is no rule of this name"),
        ("20230101", "write <rule>/<key>"),
    ] {
        let plan = asked(text, json!({}), after);
        assert!(plan.issue.is_empty() && plan.warnings[0].contains(words), "{:?}", plan.warnings);
    }
}

#[test]
fn anniversaries_are_issued_to_by_year_and_wake_at_each_recipients_boundary() {
    let changes = json!({
        "/spec/rules/0/schedules": [{ "anniversaryOf": { "attribute": "birthday" } }],
        "/spec/audience/profiles": [
            { "integrationId": "a", "attributes": { "birthday": "1990-01-01" } },
            { "integrationId": "b", "attributes": { "birthday": "1985-01-03" } },
            { "integrationId": "c", "attributes": { "birthday": "never" } },
        ],
    });
    let plan = planned(&changes, &memory(None, false), DAY);
    assert_eq!(plan.issue.iter().map(|i| i.granting.clone()).collect::<Vec<_>>(), [Granting::Anniversary(2023)]);
    assert_eq!(plan.next_boundary, "2023-01-02T00:00:00Z".parse().ok());
    assert_eq!(plan.next_window, "2023-01-03T00:00:00Z".parse().ok());
    assert!(planned(&changes, &memory(None, false), "2023-01-02T12:00:00Z").issue.is_empty());
    let mut known = changes.clone();
    let year = |key: &str, issued| occurrence(key, "2022-01-01T00:00:00Z", "2024-01-01T00:00:00Z", issued, 0);
    known["/status"] = json!({ "occurrences": [year("2022", 5), year("2023", 6)] });
    let plan = planned(&known, &memory(None, false), DAY);
    assert_eq!(plan.issue[0].opened.as_ref().map(|o| o.issued), Some(6), "its own year");
}

#[test]
fn an_open_window_wakes_when_a_budgets_period_ends() {
    let changes = json!({
        "/spec/rules/0/schedules": [], "/spec/budgets": [{ "period": "Day", "maxCoupons": 5 }],
    });
    assert_eq!(planned(&changes, &memory(None, false), DAY).next_boundary, "2023-01-02T00:00:00Z".parse().ok());
}

#[test]
fn an_issue_knows_its_own_key_and_what_is_known_of_it() {
    let issue = planned(&opened(1, 1), &memory(None, false), DAY).issue.remove(0);
    assert_eq!(issue.own_key(), "20230101");
    assert_eq!(Issue { granting: Granting::Anniversary(2023), ..issue.clone() }.own_key(), "2023");
    let known = |rule: &str, key: &str, issued| OccurrenceStatus {
        rule: rule.into(),
        key: key.into(),
        issued,
        ..OccurrenceStatus::default()
    };
    let occurrences = [known("other", "20230101", 1), known("r", "20221231", 2), known("r", "20230101", 3)];
    let own = issue.under_own_key(&occurrences);
    assert_eq!((own.own_key, own.opened.map(|o| o.issued)), (true, Some(3)));
    assert_eq!(issue.under_own_key(&occurrences[..2]).opened, None);
}

#[test]
fn what_may_still_change_is_counted_unless_it_is_issued_to_anyway() {
    let known = |rule: &str, key: &str, [delivered, failed, unknown]: [i64; 3]| {
        let mut known = occurrence(key, "2022-01-01T00:00:00Z", "2022-01-02T00:00:00Z", 2, delivered);
        (known["rule"], known["failed"], known["unknown"]) = (rule.into(), failed.into(), unknown.into());
        known
    };
    let mut open = occurrence("20230101", "2023-01-01T00:00:00Z", "2023-01-02T00:00:00Z", 2, 1);
    open["rule"] = "r".into();
    let occurrences = [
        known("r", "waits", [1, 0, 0]),
        known("r", "failed", [1, 1, 0]),
        known("r", "unknown", [1, 0, 1]),
        known("r", "delivered", [2, 0, 0]),
        known("other", "20230101", [1, 0, 0]),
        open,
    ];
    let unknown = Memory { counts_unknown: true, ..memory(Some(9), true) };
    let plan = planned(&json!({ "/status": { "occurrences": occurrences } }), &unknown, DAY);
    assert_eq!(plan.issue.len(), 1);
    let counted: Vec<(&str, &str)> = plan.count.iter().map(|c| (c.rule.as_str(), c.key.as_str())).collect();
    assert_eq!(counted, [("r", "waits"), ("r", "failed"), ("r", "unknown"), ("other", "20230101")]);
}

#[test]
fn the_key_of_an_anniversary_is_its_year() {
    let asked = |key: &str| {
        let changes = json!({
            "/spec/rules/0/schedules": [{ "anniversaryOf": { "attribute": "birthday" } }],
            "/metadata/annotations": { crate::api::REOPEN_ANNOTATION: format!("r/{key}") },
        });
        let plan = planned(&changes, &memory(None, false), DAY);
        (plan.issue.first().map(|issue| issue.granting.clone()), plan.warnings.len())
    };
    assert_eq!(asked("2022"), (Some(Granting::Anniversary(2022)), 0));
    assert_eq!(asked("20220"), (None, 1));
    assert_eq!(asked("last"), (None, 1));
}

#[test]
fn the_others_turn_has_come_when_those_who_went_first_are_settled() {
    let waiting = Memory { outcome: PassOutcome { canary: true, ..PassOutcome::default() }, ..memory(Some(9), false) };
    let issues = |issued, delivered, seen: bool| {
        let mut changes = opened(issued, delivered);
        changes["/status"]["occurrences"][0]["audienceSeen"] = seen.into();
        planned(&changes, &waiting, DAY).issue.len()
    };
    assert_eq!([issues(2, 2, false), issues(2, 1, false), issues(2, 2, true)], [1, 0, 0]);
}

#[test]
fn nothing_is_issued_for_an_occurrence_of_which_too_many_failed_until_a_person_accepts_it() {
    let mut changes = opened(2, 1);
    changes["/status"]["occurrences"][0]["failed"] = 1.into();
    changes["/spec/guardrails"] = json!({ "stopWhenFailedPercent": 50 });
    assert!(planned(&changes, &memory(None, false), DAY).issue.is_empty());
    changes["/metadata/annotations"] =
        json!({ crate::api::ACCEPT_FAILED_ANNOTATION: "other/20230101=1, r/20230101=1" });
    assert_eq!(planned(&changes, &memory(None, false), DAY).issue.len(), 1);
    changes["/metadata/annotations"] = json!({ crate::api::ACCEPT_MISSING_ANNOTATION: "r/20230101=1" });
    assert!(planned(&changes, &memory(None, false), DAY).issue.is_empty(), "that is another matter");
}
