use std::time::Duration;

use serde_json::json;

use super::*;
use crate::controllers::coupon::plan::intent;
use crate::controllers::coupon::resolve;

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).unwrap()
}

fn coupon() -> Coupon {
    let spec = json!({
        "recipient": "x", "code": "X",
        "deliveries": [{ "name": "one", "webhookRef": { "name": "w" } }, { "name": "two", "webhookRef": { "name": "w" } }],
    });
    Coupon::new("x", serde_json::from_value(spec).unwrap())
}

fn begin(mut coupon: Coupon, delivery: &str) -> Coupon {
    let before = coupon.status.as_ref().and_then(|s| s.delivery(delivery)).cloned().unwrap_or_default();
    let rows = Records::of(&coupon.spec).all();
    let attempt = intent(&before, rows, "digest".into(), "us", at(0));
    coupon.status = Some(with_intent(&coupon, delivery, &attempt, &[], at(0)));
    coupon
}

fn end(mut coupon: Coupon, delivery: &str, verdict: Verdict, policy: OnUnknown) -> Coupon {
    let outcome = Outcome {
        verdict,
        records: Vec::new(),
        lesson: Lesson::Nothing,
        http_status: Some(200),
        reason: "Said".into(),
        message: "why".into(),
    };
    coupon.status = with_outcome(&coupon, (delivery, 1), &outcome, policy, at(1));
    coupon
}

fn state(coupon: &Coupon) -> CouponState {
    coupon.status.as_ref().unwrap().state
}

fn ready(coupon: &Coupon) -> (bool, String) {
    let conditions = &coupon.status.as_ref().unwrap().conditions;
    let reason = conditions.iter().find(|c| c.type_ == conditions::READY).unwrap().reason.clone();
    (conditions::holds(conditions, conditions::READY), reason)
}

const RETRY: Verdict = Verdict::NotApplied { retry_after: None };

#[test]
fn a_chain_that_is_accepted_step_by_step_is_delivered() {
    let first = begin(coupon(), "one");
    assert_eq!(state(&first), CouponState::Sending);
    let half = end(first, "one", Verdict::Accepted, OnUnknown::Retry);
    assert_eq!(state(&half), CouponState::Pending, "the second is still to be sent");
    let done = end(begin(half, "two"), "two", Verdict::Accepted, OnUnknown::Retry);
    assert_eq!((state(&done), ready(&done)), (CouponState::Delivered, (true, "Delivered".into())));
    assert_eq!(done.status.unwrap().summary.as_deref(), Some("1/1"));
}

#[test]
fn the_outcome_and_the_policy_decide_what_follows() {
    for (verdict, policy, expected, outcome) in [
        (Verdict::Rejected, OnUnknown::Retry, CouponState::Failed, AttemptOutcome::Rejected),
        (RETRY, OnUnknown::Hold, CouponState::Pending, AttemptOutcome::NotApplied),
        (Verdict::Unknown, OnUnknown::Retry, CouponState::Pending, AttemptOutcome::Unknown),
        (Verdict::Unknown, OnUnknown::Hold, CouponState::Held, AttemptOutcome::Unknown),
    ] {
        let after = end(begin(coupon(), "one"), "one", verdict, policy);
        assert_eq!(state(&after), expected, "{verdict:?} {policy:?}");
        let status = after.status.unwrap();
        let attempt = status.delivery("one").unwrap().last_attempt.clone().unwrap();
        assert_eq!((attempt.outcome, attempt.completion_time), (Some(outcome), Some(at(1))));
        assert_eq!(status.delivery("one").unwrap().next_attempt_time.is_some(), expected == CouponState::Pending);
    }
}

#[test]
fn a_later_refusal_is_a_partial_failure_and_an_earlier_one_ends_the_chain() {
    let half = end(begin(coupon(), "one"), "one", Verdict::Accepted, OnUnknown::Retry);
    let partly = end(begin(half, "two"), "two", Verdict::Rejected, OnUnknown::Retry);
    assert_eq!(state(&partly), CouponState::PartiallyFailed);
    let failed = end(begin(coupon(), "one"), "one", Verdict::Rejected, OnUnknown::Retry);
    let status = failed.status.unwrap();
    assert_eq!((status.state, status.delivery("two").unwrap().state), (CouponState::Failed, CouponState::Failed));
}

#[test]
fn a_result_is_written_only_for_the_attempt_it_belongs_to_and_once() {
    let begun = begin(coupon(), "one");
    let outcome = Outcome {
        verdict: Verdict::Accepted,
        records: Vec::new(),
        lesson: Lesson::Proven,
        http_status: None,
        reason: String::new(),
        message: String::new(),
    };
    assert!(with_outcome(&begun, ("one", 2), &outcome, OnUnknown::Retry, at(1)).is_none());
    assert!(with_outcome(&begun, ("two", 1), &outcome, OnUnknown::Retry, at(1)).is_none());
    let ended = end(begun, "one", Verdict::Unknown, OnUnknown::Retry);
    assert!(with_outcome(&ended, ("one", 1), &outcome, OnUnknown::Retry, at(1)).is_none(), "it has one");
}

#[test]
fn a_pause_sets_no_time_and_a_retry_honours_what_was_asked() {
    let outcome = |lesson, retry_after| Outcome {
        verdict: Verdict::NotApplied { retry_after },
        records: Vec::new(),
        lesson,
        http_status: None,
        reason: String::new(),
        message: String::new(),
    };
    let next = |outcome| {
        with_outcome(&begin(coupon(), "one"), ("one", 1), &outcome, OnUnknown::Retry, at(1)).unwrap().deliveries[0]
            .next_attempt_time
    };
    assert_eq!(next(outcome(Lesson::CredentialRefused, None)), None);
    assert!(next(outcome(Lesson::Nothing, Some(Duration::from_secs(50)))) >= Some(at(51)));
}

#[test]
fn what_ends_without_a_request_says_why() {
    let expired = with_expired(&coupon(), "one", &RowSet::up_to(1), "too late", at(1));
    assert_eq!(expired.state, CouponState::Expired);
    let held = held_as_restored(&coupon(), at(1));
    assert_eq!(held.state, CouponState::Held);
    assert!(held.conditions.iter().any(|c| c.type_ == "Stalled" && c.reason == "Restored" && c.status == "True"));
    let lacking = lacking_parameters(&coupon(), "one", &["Q".into()], at(1));
    assert_eq!(lacking.state, CouponState::Pending, "it goes on when the Webhook is edited");
    assert!(lacking.conditions.iter().any(|c| c.type_ == "Stalled" && c.message.contains("(Q)")));
}

#[test]
fn i5_a_restored_coupon_is_held_in_every_delivery_and_an_annotation_restored_with_it_lets_nothing_go() {
    let mut restored = coupon();
    let annotation = |text: &str| Some([(crate::api::RESOLVE_ANNOTATION.to_owned(), text.to_owned())].into());
    restored.metadata.annotations = annotation("one:Retry@0");
    restored.status = Some(held_as_restored(&restored, at(1)));
    assert_eq!(resolve::run(&restored, at(2)), None, "it speaks of what is not known any more");
    restored.metadata.annotations = annotation("one:Delivered@0");
    restored.status = resolve::run(&restored, at(3));
    let status = restored.status.clone().unwrap();
    assert_eq!((status.state, status.delivery("two").unwrap().state), (CouponState::Held, CouponState::Held));
    restored.metadata.annotations = annotation("one:Delivered@0,two:Delivered@0");
    restored.status = resolve::run(&restored, at(4));
    assert_eq!(state(&restored), CouponState::Delivered);
}

#[test]
fn i8_saying_again_that_a_parameter_is_missing_changes_nothing() {
    let mut coupon = coupon();
    coupon.status = Some(lacking_parameters(&coupon, "one", &["Q".into()], at(1)));
    assert_eq!(Some(lacking_parameters(&coupon, "one", &["Q".into()], at(9))), coupon.status);
    coupon.status = Some(without_campaign(&coupon, at(10)));
    assert_eq!(Some(without_campaign(&coupon, at(19))), coupon.status);
}

/// A Coupon of so many rows for one delivery, `one`.
fn batch(rows: u32) -> Coupon {
    let rows: Vec<String> = (1..=rows).map(|i| format!("c{i},X{i}")).collect();
    let spec = json!({ "columns": ["recipient", "code"], "rows": rows,
        "deliveries": [{ "name": "one", "webhookRef": { "name": "w" } }] });
    Coupon::new("x", serde_json::from_value(spec).unwrap())
}

fn rows(text: &str) -> RowSet {
    text.parse().unwrap()
}

fn outcome(verdict: Verdict, records: &[Verdict]) -> Outcome {
    let record = |verdict: &Verdict| crate::delivery::outcome::RecordOutcome {
        verdict: *verdict,
        reason: format!("{verdict:?}"),
        message: "why".into(),
    };
    Outcome {
        verdict,
        records: records.iter().map(record).collect(),
        lesson: Lesson::Proven,
        http_status: Some(200),
        reason: "Said".into(),
        message: String::new(),
    }
}

/// The next attempt of a delivery with these rows, and what came of it.
fn attempted(mut coupon: Coupon, sent: &str, outcome: &Outcome, policy: OnUnknown) -> Coupon {
    let before = coupon.status.as_ref().and_then(|s| s.delivery("one")).cloned().unwrap_or_default();
    let attempt = intent(&before, rows(sent), "digest".into(), "us", at(0));
    coupon.status = Some(with_intent(&coupon, "one", &attempt, &[], at(0)));
    coupon.status = with_outcome(&coupon, ("one", attempt.number), outcome, policy, at(1));
    coupon
}

fn one(coupon: &Coupon) -> &DeliveryStatus {
    coupon.status.as_ref().unwrap().delivery("one").unwrap()
}

#[test]
fn i4_each_row_of_a_request_becomes_what_its_own_record_says() {
    let records = [Verdict::Accepted, Verdict::Rejected, RETRY, Verdict::Unknown, Verdict::Divide];
    let after = attempted(batch(6), "1-5", &outcome(Verdict::Accepted, &records), OnUnknown::Retry);
    let found = one(&after);
    let sets = [&found.accepted, &found.failed, &found.retrying, &found.unknown, &found.held].map(RowSet::to_string);
    assert_eq!(sets, ["1", "2", "3-5", "4", ""]);
    assert_eq!(found.last_attempt.as_ref().unwrap().outcome, Some(AttemptOutcome::PartlyAccepted));
    let shown: Vec<_> = found.failures.iter().map(|f| (f.row, f.recipient.as_deref(), f.reason.as_str())).collect();
    assert_eq!(shown, [(2, Some("c2"), "Rejected")]);
    assert_eq!(found.failures[0].message.as_deref(), Some("why"));
    let held = attempted(batch(6), "1-5", &outcome(Verdict::Accepted, &records), OnUnknown::Hold);
    assert_eq!((one(&held).retrying.to_string(), one(&held).held.to_string()), ("3,5".into(), "4".into()));
    let summary = |coupon: &Coupon| one(coupon).last_attempt.as_ref().unwrap().outcome;
    for (records, expected) in [
        (vec![RETRY, Verdict::Unknown], AttemptOutcome::NotApplied),
        (vec![Verdict::Accepted, Verdict::Accepted], AttemptOutcome::Accepted),
        (vec![Verdict::Accepted, RETRY], AttemptOutcome::PartlyAccepted),
        (vec![Verdict::Rejected, RETRY], AttemptOutcome::PartlyAccepted),
    ] {
        let of_two = attempted(batch(2), "1-2", &outcome(Verdict::Accepted, &records), OnUnknown::Retry);
        assert_eq!(summary(&of_two), Some(expected), "{records:?}");
    }
}

#[test]
fn the_first_twenty_failures_are_shown_in_full() {
    let all = outcome(Verdict::Rejected, &[]);
    let after = attempted(attempted(batch(30), "1-15", &all, OnUnknown::Retry), "16-30", &all, OnUnknown::Retry);
    assert_eq!((one(&after).failed.len(), one(&after).failures.len()), (30, 20));
    assert_eq!(one(&attempted(batch(30), "1-30", &all, OnUnknown::Retry)).failures.len(), 20);
    let given_up = |row| GivenUp { row, expired: row > 20, reason: reason::INVALID, message: String::new() };
    let given_up: Vec<GivenUp> = (1..=30).map(given_up).collect();
    let mut coupon = batch(30);
    coupon.status = Some(with_given_up(&coupon, "one", &given_up, at(1)));
    let found = one(&coupon);
    assert_eq!((found.failed.to_string(), found.expired.to_string()), ("1-20".into(), "21-30".into()));
    assert_eq!((found.failures.len(), found.failures[0].message.clone()), (20, None));
}

#[test]
fn requests_that_bring_nothing_are_counted_and_those_in_halves_are_not() {
    let mut coupon = batch(8);
    for (verdict, fruitless, most) in
        [(RETRY, 1, None), (Verdict::Unknown, 2, None), (Verdict::Divide, 0, Some(4)), (RETRY, 1, Some(4))]
    {
        coupon = attempted(coupon, "1-8", &outcome(verdict, &[]), OnUnknown::Retry);
        assert_eq!((one(&coupon).fruitless, one(&coupon).max_rows), (fruitless, most), "{verdict:?}");
    }
    coupon = attempted(coupon, "1-5", &outcome(Verdict::Divide, &[]), OnUnknown::Retry);
    assert_eq!(one(&coupon).max_rows, Some(3), "the larger half of five");
    coupon = attempted(coupon, "1", &outcome(Verdict::Divide, &[]), OnUnknown::Retry);
    assert_eq!(one(&coupon).max_rows, Some(1));
    coupon = attempted(coupon, "1", &outcome(Verdict::Accepted, &[]), OnUnknown::Retry);
    assert_eq!((one(&coupon).fruitless, one(&coupon).max_rows), (0, Some(2)), "twice as many after one that went well");
    let mut large = one(&coupon).clone();
    for (before, after) in [(499, Some(998)), (500, None)] {
        large.max_rows = max_rows(Some(before), &outcome(Verdict::Accepted, &[]), &rows("1"));
        assert_eq!(large.max_rows, after, "without a bound from 1000 on");
    }
}

#[test]
fn the_next_attempt_waits_unless_there_are_rows_that_were_never_sent_and_requests_bring_something() {
    let next = |coupon: &Coupon| one(coupon).next_attempt_time;
    let some = outcome(Verdict::Accepted, &[Verdict::Accepted, RETRY]);
    assert_eq!(next(&attempted(batch(4), "1-2", &some, OnUnknown::Retry)), None, "3 and 4 go at once");
    assert!(next(&attempted(batch(2), "1-2", &some, OnUnknown::Retry)).is_some(), "2 waits");
    assert!(next(&attempted(batch(4), "1-2", &outcome(RETRY, &[]), OnUnknown::Retry)).is_some(), "all wait");
    assert_eq!(next(&attempted(batch(2), "1-2", &outcome(Verdict::Accepted, &[]), OnUnknown::Retry)), None);
    assert_eq!(next(&attempted(batch(2), "1-2", &outcome(Verdict::Divide, &[]), OnUnknown::Retry)), None);
    for lesson in [Lesson::CredentialRefused, Lesson::EndpointRefused, Lesson::AddressRefused] {
        let paused = Outcome { lesson, ..outcome(RETRY, &[]) };
        assert_eq!(next(&attempted(batch(2), "1-2", &paused, OnUnknown::Retry)), None, "{lesson:?}");
    }
}

#[test]
fn i4_a_late_answer_takes_back_that_its_sender_was_given_up_unless_a_person_decided_since() {
    let lost = || {
        let lost = Outcome { reason: SENDER_LOST.into(), ..outcome(Verdict::Unknown, &[]) };
        attempted(batch(3), "1-2", &lost, OnUnknown::Retry)
    };
    assert_eq!((one(&lost()).retrying.to_string(), one(&lost()).unknown.to_string()), ("1-2".into(), "1-2".into()));
    let answered = |coupon: &Coupon| {
        with_outcome(coupon, ("one", 1), &outcome(Verdict::Accepted, &[]), OnUnknown::Retry, at(9)).map(|status| {
            let found = status.delivery("one").unwrap().clone();
            [found.accepted, found.retrying, found.unknown].map(|rows| rows.to_string())
        })
    };
    assert_eq!(answered(&lost()), Some(["1-2".into(), String::new(), String::new()]));
    let changed = |change: fn(&mut DeliveryStatus)| {
        let mut coupon = lost();
        change(&mut coupon.status.as_mut().unwrap().deliveries[0]);
        answered(&coupon)
    };
    let held = changed(|d| (d.retrying, d.held) = (rows("1"), rows("2")));
    assert_eq!(held, Some(["1-2".into(), String::new(), String::new()]));
    assert_eq!(changed(|d| d.approved = rows("2")), None, "a person said to send it again");
    assert_eq!(changed(|d| (d.retrying, d.failed) = (rows("1"), rows("2"))), None, "a person gave it up");
    assert_eq!(changed(|d| d.last_attempt.as_mut().unwrap().reason = Some("TimedOut".into())), None);
    // What was in doubt before that attempt stays so.
    let earlier = changed(|d| d.last_attempt.as_mut().unwrap().unknown = rows("2"));
    assert_eq!(earlier, Some(["1-2".into(), String::new(), "1".into()]));
}

#[test]
fn an_attempt_says_what_was_seen_and_which_rows_came_into_doubt_by_it() {
    let first = attempted(batch(3), "1", &outcome(Verdict::Unknown, &[]), OnUnknown::Retry);
    let told = Outcome { message: "HTTP 503".into(), http_status: Some(503), ..outcome(Verdict::Unknown, &[]) };
    let second = attempted(first.clone(), "1-2", &told, OnUnknown::Retry);
    let attempt = one(&second).last_attempt.clone().unwrap();
    assert_eq!((attempt.number, attempt.unknown, attempt.http_status), (2, rows("2"), Some(503)));
    assert_eq!((attempt.reason.as_deref(), attempt.message.as_deref()), (Some("Said"), Some("HTTP 503")));
    assert_eq!(one(&first).last_attempt.as_ref().unwrap().message, None, "nothing to be said");
    let ready = |coupon: &Coupon| {
        let conditions = &coupon.status.as_ref().unwrap().conditions;
        conditions.iter().find(|c| c.type_ == conditions::READY).unwrap().message.clone()
    };
    assert_eq!([ready(&first), ready(&second)], ["Said", "Said: HTTP 503"]);
    let accepted = Outcome { reason: "Accepted".into(), ..outcome(Verdict::Accepted, &[]) };
    assert_eq!(ready(&attempted(batch(1), "1", &accepted, OnUnknown::Retry)), "");
}

#[test]
fn a_persons_word_is_good_for_one_request() {
    let mut approved = attempted(batch(2), "1-2", &outcome(Verdict::Unknown, &[]), OnUnknown::Hold);
    let delivery = &mut approved.status.as_mut().unwrap().deliveries[0];
    (delivery.approved, delivery.held, delivery.retrying) = (rows("1-2"), RowSet::default(), rows("1-2"));
    let again = attempted(approved, "1", &outcome(Verdict::Unknown, &[]), OnUnknown::Hold);
    assert_eq!((one(&again).approved.to_string(), one(&again).held.to_string()), ("2".into(), "1".into()));
}

#[test]
fn what_is_held_or_given_up_is_sent_no_more() {
    let mut waits = attempted(batch(3), "1-3", &outcome(RETRY, &[]), OnUnknown::Retry);
    let held = with_held(&waits, "one", &rows("2"), at(2));
    let found = held.delivery("one").unwrap();
    assert_eq!((found.held.to_string(), found.retrying.to_string()), ("2".into(), "1,3".into()));
    waits.status = Some(with_expired(&waits, "one", &rows("1-3"), "too late", at(2)));
    assert_eq!((state(&waits), one(&waits).next_attempt_time), (CouponState::Expired, None));
    assert_eq!((one(&waits).expired.to_string(), one(&waits).retrying.to_string()), ("1-3".into(), String::new()));
    let mut given_up = one(&attempted(batch(2), "1-2", &outcome(RETRY, &[]), OnUnknown::Retry)).clone();
    abandon(&mut given_up, &batch(2), &rows("1"));
    assert_eq!((given_up.failed.to_string(), given_up.retrying.to_string()), ("1".into(), "2".into()));
    assert_eq!(given_up.failures[0].reason, reason::ABANDONED);
    assert!(given_up.failures[0].message.as_deref().unwrap().contains("a person gave it up"));
}

#[test]
fn a_coupons_state_is_what_its_rows_came_to_in_the_whole_chain() {
    use CouponState::{Delivered, Expired, Failed, Held, PartiallyFailed, Pending};
    let of = |one: serde_json::Value, two: serde_json::Value| {
        let mut coupon = coupon();
        coupon.status = serde_json::from_value(json!({ "deliveries": [
            { "name": "one" }, { "name": "two" } ] }))
        .ok();
        for (delivery, changes) in coupon.status.as_mut().unwrap().deliveries.iter_mut().zip([one, two]) {
            let mut changed = json!(delivery);
            changes.as_object().unwrap().iter().for_each(|(field, value)| changed[field] = value.clone());
            *delivery = serde_json::from_value(changed).unwrap();
        }
        let status = derived(coupon.status.clone().unwrap(), &coupon);
        (status.state, [0, 1].map(|i| status.deliveries[i].state), status.summary.unwrap())
    };
    let (yes, no) = (|| json!({ "accepted": "1" }), || json!({}));
    assert_eq!(of(yes(), yes()), (Delivered, [Delivered, Delivered], "1/1".into()));
    assert_eq!(of(yes(), no()), (Pending, [Delivered, Pending], "0/1".into()));
    assert_eq!(of(yes(), json!({ "held": "1" })), (Held, [Delivered, Held], "0/1".into()));
    assert_eq!(of(yes(), json!({ "failed": "1" })), (PartiallyFailed, [Delivered, Failed], "0/1".into()));
    assert_eq!(of(yes(), json!({ "expired": "1" })), (PartiallyFailed, [Delivered, Expired], "0/1".into()));
    assert_eq!(of(json!({ "failed": "1" }), no()), (Failed, [Failed, Failed], "0/1".into()));
    assert_eq!(of(json!({ "expired": "1" }), no()), (Expired, [Expired, Expired], "0/1".into()));
    assert_eq!(of(json!({ "held": "1" }), no()), (Held, [Held, Held], "0/1".into()));
}

#[test]
fn delivered_is_a_condition_of_its_own_and_what_waits_for_a_person_says_how() {
    let told = |coupon: &Coupon, type_: &str| {
        let conditions = &coupon.status.as_ref().unwrap().conditions;
        let found = conditions.iter().find(|c| c.type_ == type_).unwrap();
        (found.status.clone(), found.reason.clone(), found.message.clone())
    };
    let delivered = attempted(batch(1), "1", &outcome(Verdict::Accepted, &[]), OnUnknown::Retry);
    assert_eq!(told(&delivered, conditions::DELIVERED).0, "True");
    let held = attempted(batch(1), "1", &outcome(Verdict::Unknown, &[]), OnUnknown::Hold);
    let undelivered = ("False".into(), reason::UNDELIVERED.into(), String::new());
    assert_eq!(told(&held, conditions::DELIVERED), undelivered);
    let (_, why, message) = told(&held, conditions::READY);
    assert_eq!(why, reason::UNKNOWN_OUTCOME);
    assert!(message.starts_with("Said. It waits for a person: annotate it with"), "{message}");
    let gone = without_campaign(&coupon(), at(1));
    assert!(gone.conditions.iter().any(|c| c.reason == reason::CAMPAIGN_GONE && c.type_ == conditions::READY));
}
