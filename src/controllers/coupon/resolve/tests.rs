use serde_json::json;

use super::*;
use crate::api::conditions;

fn now() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH
}

fn rows(text: &str) -> RowSet {
    text.parse().unwrap()
}

/// Ten records: 1 to 4 accepted, 5 and 6 failed, 7 and 8 held, 9 to be sent again and unknown, 10 expired.
fn coupon(annotation: Option<&str>) -> Coupon {
    let spec = json!({
        "columns": ["recipient", "code"], "rows": (1..=10).map(|i| format!("c{i},{i}")).collect::<Vec<_>>(),
        "deliveries": [{ "name": "tell", "webhookRef": { "name": "w" } }],
    });
    let mut coupon = Coupon::new("x", serde_json::from_value(spec).unwrap());
    coupon.status = serde_json::from_value(json!({ "state": "Pending", "deliveries": [{
        "name": "tell", "state": "Pending", "attempts": 3, "accepted": "1-4", "failed": "5-6", "held": "7-8", "retrying": "9",
        "unknown": "2,7-9", "expired": "10", "failures": [{ "row": 5, "reason": "Rejected" }], "fruitless": 2,
        "nextAttemptTime": "1970-01-01T00:00:30Z",
    }] }))
    .ok();
    coupon.metadata.annotations = annotation.map(|text| [(RESOLVE_ANNOTATION.to_owned(), text.to_owned())].into());
    coupon
}

fn resolved(annotation: &str) -> (CouponStatus, DeliveryStatus) {
    let status = run(&coupon(Some(annotation)), now()).unwrap();
    let delivery = status.delivery("tell").unwrap().clone();
    (status, delivery)
}

fn condition(status: &CouponStatus) -> (String, String) {
    let found = status.conditions.iter().find(|c| c.type_ == conditions::RESOLVED).unwrap();
    (found.status.clone(), found.message.clone())
}

#[test]
fn retry_sends_what_is_held_or_failed_again_whatever_the_policy() {
    let (status, delivery) = resolved("tell:Retry@3");
    assert_eq!((delivery.retrying, delivery.approved), (rows("5-10"), rows("5-10")));
    let ended = [delivery.held, delivery.failed, delivery.expired];
    assert!(ended.iter().all(RowSet::is_empty) && delivery.failures.is_empty());
    assert_eq!((delivery.accepted, delivery.unknown), (rows("1-4"), rows("2,7-9")), "what nobody knows stays so");
    assert_eq!((delivery.next_attempt_time, status.state), (None, CouponState::Pending));
    assert_eq!(condition(&status).0, "True");
}

#[test]
fn delivered_takes_a_persons_word_and_abandon_gives_up() {
    let (status, delivery) = resolved("tell:Delivered@3");
    assert_eq!((delivery.accepted, delivery.unknown), (rows("1-10"), rows("2")));
    assert_eq!((status.state, status.summary.as_deref()), (CouponState::Delivered, Some("10/10")));
    let (status, delivery) = resolved("tell:Abandon@3");
    assert_eq!((delivery.failed, delivery.accepted), (rows("5-9"), rows("1-4")));
    assert_eq!((status.state, delivery.unknown), (CouponState::PartiallyFailed, rows("2,7-9")));
    let abandoned: Vec<i32> = delivery.failures.iter().filter(|f| f.reason == "Abandoned").map(|f| f.row).collect();
    assert_eq!(abandoned, [7, 8, 9]);
}

#[test]
fn i5_an_annotation_is_good_for_one_attempt_and_is_followed_once() {
    let mut once = coupon(Some("tell:Retry@3"));
    once.status = run(&once, now());
    assert_eq!(run(&once, now()), None, "not twice");
    // Nothing could be sent, so that the number is the same: the decision is made again with another note.
    once.status.as_mut().unwrap().deliveries[0].failed = rows("5");
    assert_eq!(run(&once, now()), None);
    once.metadata.annotations = coupon(Some("tell:Retry@3; the url is mended now")).metadata.annotations;
    assert!(run(&once, now()).unwrap().deliveries[0].failed.is_empty());
    let (status, delivery) = resolved("tell:Retry@2");
    assert_eq!(delivery, coupon(None).status.unwrap().deliveries[0], "nothing is changed");
    let (holds, message) = condition(&status);
    assert_eq!(holds, "False");
    assert!(message.contains("has had 3 attempts by now, and @2"), "{message}");
    let mut sending = coupon(Some("tell:Retry@3"));
    sending.status.as_mut().unwrap().state = CouponState::Sending;
    assert_eq!(run(&sending, now()), None, "a request's outcome comes first");
    assert_eq!(run(&coupon(None), now()), None);
}

#[test]
fn what_cannot_be_followed_is_said() {
    for (text, said) in [
        ("tell:Maybe@3", "is not <delivery>:Retry@<attempt>"),
        ("tell", "is not <delivery>"),
        ("tell:Retry@x", "is not <delivery>"),
        ("nobody:Retry@0", "no delivery nobody"),
        ("tell:Retry@3,other:Retry@1", "no delivery other"),
    ] {
        let (status, delivery) = resolved(text);
        let (holds, message) = condition(&status);
        assert!(
            holds == "False" && message.contains(said) && message.contains(RESOLVE_ANNOTATION),
            "{text}: {message}"
        );
        assert_eq!(delivery, coupon(None).status.unwrap().deliveries[0], "all or nothing");
    }
    assert_eq!("a.b:Retry@3".parse::<Resolution>().unwrap().to_string(), "a.b:Retry@3");
}
