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
