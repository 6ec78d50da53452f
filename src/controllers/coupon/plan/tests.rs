use serde_json::{Value, json};

use super::*;
use crate::api::RESOLVE_ANNOTATION;
use crate::api::coupon::{AttemptOutcome, CouponState, CouponStatus};
use crate::delivery::endpoint::Templates;

const DELIVERY: &str = "tell";

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_672_531_200 + seconds, 0).unwrap()
}

fn coupon(status: Option<CouponStatus>) -> Coupon {
    let spec = json!({
        "campaign": "c", "rule": "r", "occurrence": "20230101", "issuedAt": at(0), "recipient": "x", "code": "X",
        "deliveries": [{ "name": DELIVERY, "webhookRef": { "name": "w" }, "parameters": { "P": "v" } }],
    });
    let mut coupon = Coupon::new("x", serde_json::from_value(spec).unwrap());
    coupon.status = status;
    coupon
}

fn endpoints(changes: &Value) -> HashMap<String, Arc<Endpoint>> {
    let mut spec = json!({
        "url": "https://a.example/", "payload": "{\"p\": \"${$P}\"}", "timeoutSeconds": 30, "deadlineSeconds": 3600,
        "parameters": [{ "name": "P", "type": "String" }],
    });
    for (field, value) in changes.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    let spec: crate::api::webhook::WebhookSpec = serde_json::from_value(spec).unwrap();
    let templates = Templates::parse(&spec).unwrap();
    let endpoint = Endpoint::new(("ns", "uid".into(), 1), spec, templates, Vec::new(), &[0; 32]);
    HashMap::from([("w".to_owned(), Arc::new(endpoint))])
}

fn attempted(outcome: Option<AttemptOutcome>, state: CouponState, next: Option<DateTime<Utc>>) -> CouponStatus {
    let attempt = intent(&DeliveryStatus::default(), RowSet::up_to(1), String::new(), "another", at(0));
    let retrying = RowSet::up_to(u32::from(outcome.is_some()));
    let delivery = DeliveryStatus {
        name: DELIVERY.into(),
        state,
        attempts: 1,
        retrying,
        next_attempt_time: next,
        last_attempt: Some(Attempt { outcome, ..attempt }),
        ..DeliveryStatus::default()
    };
    CouponStatus { state, deliveries: vec![delivery], ..CouponStatus::default() }
}

#[allow(clippy::needless_pass_by_value)] // calls read better
fn planned(status: Option<CouponStatus>, changes: Value, change: impl FnOnce(&mut Circumstances<'_>)) -> Plan {
    let (coupon, endpoints) = (coupon(status), endpoints(&changes));
    let mut circumstances = Circumstances {
        coupon: &coupon,
        created: Some(at(0)),
        campaign: CampaignState::Running,
        endpoints: &endpoints,
        paused: &HashSet::new(),
        sender: "us",
        active: false,
        now: at(1),
    };
    change(&mut circumstances);
    run(&circumstances)
}

fn send_until(seconds: i64) -> Plan {
    Plan::Send { delivery: DELIVERY.into(), rows: RowSet::up_to(1), until: Some(at(seconds)) }
}

fn send() -> Plan {
    send_until(3600)
}

#[test]
fn a_new_coupon_is_sent_and_nothing_else_stops_it_than_what_should() {
    assert_eq!(planned(None, json!({}), |_| ()), send());
    assert_eq!(planned(None, json!({}), |c| c.active = true), Plan::Nothing);
    assert_eq!(planned(None, json!({}), |c| c.campaign = CampaignState::Suspended), Plan::Nothing);
    assert_eq!(planned(None, json!({}), |c| c.campaign = CampaignState::Gone), Plan::CampaignGone);
    assert_eq!(planned(None, json!({}), |c| c.campaign = CampaignState::NotYetKnown), Plan::Nothing);
    assert_eq!(planned(None, json!({}), |c| c.campaign = CampaignState::NotNeeded), send());
    let until_its_deadline = Plan::Wait(Duration::from_secs(3599));
    assert_eq!(planned(None, json!({ "suspend": true }), |_| ()), until_its_deadline);
    let none = HashMap::new();
    let (coupon, now) = (coupon(None), at(1));
    let without_webhook = Circumstances {
        coupon: &coupon,
        created: None,
        campaign: CampaignState::Running,
        endpoints: &none,
        paused: &HashSet::new(),
        sender: "us",
        active: false,
        now,
    };
    assert_eq!(run(&without_webhook), Plan::Nothing);
}

#[test]
fn i8_a_settled_coupon_is_left_alone() {
    for state in [
        CouponState::Delivered,
        CouponState::Failed,
        CouponState::PartiallyFailed,
        CouponState::Held,
        CouponState::Expired,
    ] {
        assert_eq!(planned(Some(attempted(None, state, None)), json!({}), |_| ()), Plan::Nothing, "{state:?}");
    }
}

#[test]
fn a_coupon_issued_over_an_hour_before_it_was_created_is_held() {
    let created = |seconds| planned(None, json!({}), |c| c.created = Some(at(seconds)));
    assert_eq!((created(3600), created(3601)), (send(), Plan::HoldRestored));
    let mut annotated = coupon(None);
    annotated.metadata.annotations = Some([(RESOLVE_ANNOTATION.to_owned(), "tell:Retry@3".to_owned())].into());
    let (endpoints, paused) = (endpoints(&json!({})), HashSet::new());
    let circumstances = Circumstances {
        coupon: &annotated,
        created: Some(at(3601)),
        campaign: CampaignState::Running,
        endpoints: &endpoints,
        paused: &paused,
        active: false,
        sender: "us",
        now: at(3700),
    };
    assert_eq!(run(&circumstances), Plan::HoldRestored, "an annotation that was restored with it does not let it go");
    let with_status = attempted(Some(AttemptOutcome::NotApplied), CouponState::Pending, None);
    assert_eq!(
        planned(Some(with_status), json!({}), |c| c.created = Some(at(9999))),
        send(),
        "its status says what was sent"
    );
}

#[test]
fn i4_an_intent_without_a_result_becomes_unknown_only_after_its_sender_cannot_be_sending() {
    let status = || Some(attempted(None, CouponState::Sending, None));
    let after = |seconds| planned(status(), json!({}), |c| c.now = at(seconds));
    assert_eq!(after(0), Plan::Wait(Duration::from_secs(40)), "timeoutSeconds and ten");
    assert_eq!(after(39), Plan::Wait(Duration::from_secs(1)));
    assert_eq!(after(40), Plan::SenderLost { delivery: DELIVERY.into(), attempt: 1 });
    let gone = planned(status(), json!({}), |c| (c.now, c.campaign) = (at(40), CampaignState::Gone));
    assert!(matches!(gone, Plan::SenderLost { .. }), "the record is put right even while nothing may be sent");
}

#[test]
fn i4_an_intent_of_its_own_that_nobody_sends_was_not_sent() {
    let status = || Some(attempted(None, CouponState::Sending, None));
    let ours = |active| planned(status(), json!({}), |c| (c.sender, c.active) = ("another", active));
    assert_eq!(ours(false), Plan::NotSent { delivery: DELIVERY.into(), attempt: 1 });
    assert_eq!(ours(true), Plan::Nothing);
}

#[test]
fn a_retry_waits_for_its_time_and_a_pause_does_not() {
    let retry = |next| Some(attempted(Some(AttemptOutcome::NotApplied), CouponState::Pending, next));
    assert_eq!(planned(retry(Some(at(11))), json!({}), |_| ()), Plan::Wait(Duration::from_secs(10)));
    assert_eq!(planned(retry(Some(at(1))), json!({}), |_| ()), send());
    assert_eq!(planned(retry(None), json!({}), |_| ()), send());
}

#[test]
fn a_deadline_that_passed_expires_it() {
    let late = planned(None, json!({ "deadlineSeconds": 60 }), |c| c.now = at(60));
    assert!(matches!(late, Plan::Expire { .. }));
    assert_eq!(planned(None, json!({ "deadlineSeconds": 60 }), |c| c.now = at(59)), send_until(60));
    let stale = json!({
        "responseFormat": "CleverTap",
        "payload": "{\"d\":[{\"type\":\"event\",\"evtName\":\"E\",\"identity\":\"${$P}\",\"ts\":1672531200,\"evtData\":{}}]}",
        "deadlineSeconds": 86400,
    });
    assert_eq!(planned(None, stale.clone(), |c| c.now = at(7199)), send_until(7200));
    assert!(
        matches!(planned(None, stale, |c| c.now = at(7200)), Plan::Expire { rows, .. } if rows == RowSet::up_to(1)),
        "CleverTap's live campaigns would not send it"
    );
}

#[test]
fn what_a_person_said_to_send_again_outlives_the_webhooks_deadline_and_nothing_else() {
    let mut resolved = chain();
    let delivery = &mut resolved.status.as_mut().unwrap().deliveries[0];
    delivery.approved = "6-7".parse().unwrap();
    let (late, none) = (json!({ "deadlineSeconds": 1 }), json!({}));
    let expire = |rows: &str, why| Plan::Expire { delivery: "a".into(), rows: rows.parse().unwrap(), why };
    let deadline = "the Webhook's deadlineSeconds passed before it was delivered";
    assert_eq!(planned_chain(&resolved, &late, &none, &[]), expire("8-10", deadline));
    let delivery = &mut resolved.status.as_mut().unwrap().deliveries[0];
    (delivery.retrying, delivery.expired) = ("6-7".parse().unwrap(), "8-10".parse().unwrap());
    let sent = Plan::Send { delivery: "a".into(), rows: "6-7".parse().unwrap(), until: None };
    assert_eq!(planned_chain(&resolved, &late, &none, &[]), sent);
    resolved.spec.expiry_time = Some(at(1));
    let code_ended = "the code's expiryTime passed before it was delivered";
    assert_eq!(planned_chain(&resolved, &late, &none, &[]), expire("6-7", code_ended));
}

#[test]
fn a_parameter_that_was_not_frozen_stalls_it() {
    let grown = json!({ "parameters": [{ "name": "P", "type": "String" }, { "name": "Q", "type": "String" }] });
    let plan = planned(None, grown, |_| ());
    let again = Some(Duration::from_secs(3599));
    assert_eq!(plan, Plan::ParametersMissing { delivery: DELIVERY.into(), parameters: vec!["Q".into()], again });
}

#[test]
fn attempts_are_numbered_one_after_the_other() {
    let before = DeliveryStatus { attempts: 4, ..DeliveryStatus::default() };
    let next = intent(&before, RowSet::up_to(1), "digest".into(), "us", at(5));
    assert_eq!((next.number, next.outcome, next.start_time), (5, None, at(5)));
}

/// A chain of two webhooks, `a` and `b`, over ten records: five accepted by `a` and told by `b`, of which one is to be
/// told again at second 30, and five more to be sent again by `a`.
fn chain() -> Coupon {
    let rows: Vec<String> = (1..=10).map(|i| format!("r{i},c{i},v,v")).collect();
    let spec = json!({
        "campaign": "c", "rule": "r", "occurrence": "20230101", "issuedAt": at(0),
        "columns": ["recipient", "code", "a/P", "b/P"], "rows": rows,
        "deliveries": [{ "name": "a", "webhookRef": { "name": "a" } }, { "name": "b", "webhookRef": { "name": "b" } }],
    });
    let mut coupon = Coupon::new("x", serde_json::from_value(spec).unwrap());
    coupon.status = serde_json::from_value(json!({ "state": "Pending", "deliveries": [
        { "name": "a", "state": "Pending", "attempts": 2, "accepted": "1-5", "retrying": "6-10" },
        { "name": "b", "state": "Pending", "attempts": 1, "accepted": "1-3" },
    ] }))
    .ok();
    coupon
}

fn planned_chain(coupon: &Coupon, a: &Value, b: &Value, paused: &[&str]) -> Plan {
    let batch = |changes: &Value| {
        let mut all = json!({ "payload": r#"{"d":[{"p":"${$P}"}]}"#, "batch": { "maxSize": 10, "recordsAt": "/d" } });
        for (field, value) in changes.as_object().into_iter().flatten() {
            all[field] = value.clone();
        }
        endpoints(&all).remove("w").unwrap()
    };
    let endpoints = HashMap::from([("a".to_owned(), batch(a)), ("b".to_owned(), batch(b))]);
    run(&Circumstances {
        coupon,
        created: Some(at(0)),
        campaign: CampaignState::Running,
        endpoints: &endpoints,
        paused: &paused.iter().map(|name| (*name).to_owned()).collect(),
        sender: "us",
        active: false,
        now: at(1),
    })
}

fn send_rows(delivery: &str, rows: &str, until: i64) -> Plan {
    Plan::Send { delivery: delivery.into(), rows: rows.parse().unwrap(), until: Some(at(until)) }
}

/// Else nobody would find out that it works again.
#[test]
fn a_paused_webhook_is_waited_for_in_its_lane_whatever_the_rest_of_the_chain_waits_for() {
    let none = json!({});
    assert_eq!(planned_chain(&chain(), &none, &none, &[]), send_rows("a", "6-10", 3600));
    let rest_of_b = send_rows("b", "4-5", 3600);
    assert_eq!(planned_chain(&chain(), &none, &none, &["a"]), rest_of_b, "a short slice waits for none that is paused");
    let suspended = json!({ "suspend": true });
    let mut told_again = chain();
    told_again.status.as_mut().unwrap().deliveries[1].retrying = "4".parse().unwrap();
    told_again.status.as_mut().unwrap().deliveries[1].next_attempt_time = Some(at(30));
    assert_eq!(
        planned_chain(&told_again, &none, &none, &["a"]),
        send_rows("a", "6-10", 30),
        "and looked at again then"
    );
    assert_eq!(planned_chain(&chain(), &suspended, &none, &["b"]), rest_of_b, "in its lane");
    assert_eq!(planned_chain(&told_again, &suspended, &none, &["a", "b"]), Plan::Wait(Duration::from_secs(29)));
}

#[test]
fn what_lacks_a_parameter_keeps_nothing_else_waiting_and_is_looked_at_again_in_time() {
    let none = json!({});
    let grown = json!({ "parameters": [{ "name": "P", "type": "String" }, { "name": "Q", "type": "String" }] });
    let mut fresh = chain();
    fresh.status.as_mut().unwrap().deliveries[1].attempts = 0;
    assert_eq!(planned_chain(&fresh, &grown, &none, &[]), send_rows("b", "4-5", 3600));
    assert_eq!(planned_chain(&chain(), &grown, &none, &[]), send_rows("b", "4-5", 3600));
    let mut later = chain();
    later.status.as_mut().unwrap().deliveries[0].next_attempt_time = Some(at(4));
    let missing = |delivery: &str, seconds| Plan::ParametersMissing {
        delivery: delivery.into(),
        parameters: vec!["Q".into()],
        again: Some(Duration::from_secs(seconds)),
    };
    assert_eq!(planned_chain(&later, &none, &grown, &[]), missing("b", 3));
    assert_eq!(planned_chain(&chain(), &grown, &grown, &[]), missing("a", 3599), "its deadline");
}

#[test]
fn a_short_slice_waits_for_the_rows_that_an_earlier_delivery_is_about_to_accept() {
    let none = json!({});
    let mut later = chain();
    later.status.as_mut().unwrap().deliveries[0].next_attempt_time = Some(at(4));
    assert_eq!(planned_chain(&later, &none, &none, &[]), Plan::Wait(Duration::from_secs(3)));
    let two = json!({ "batch": { "maxSize": 2, "recordsAt": "/d" } });
    assert_eq!(planned_chain(&later, &none, &two, &[]), send_rows("b", "4-5", 3600), "a full one does not");
    later.status.as_mut().unwrap().deliveries[1].attempts = 0;
    assert_eq!(planned_chain(&later, &none, &none, &[]), send_rows("b", "4-5", 3600), "nor does the first");
}

#[test]
fn what_a_person_decided_is_done_once_nothing_is_on_its_way() {
    let status = |state| Some(attempted(Some(AttemptOutcome::NotApplied), state, None));
    for (state, expected) in [(CouponState::Failed, Plan::Resolve), (CouponState::Held, Plan::Resolve)] {
        let mut annotated = coupon(status(state));
        let delivery = &mut annotated.status.as_mut().unwrap().deliveries[0];
        delivery.retrying = RowSet::default();
        let rows = if state == CouponState::Held { &mut delivery.held } else { &mut delivery.failed };
        *rows = RowSet::up_to(1);
        annotated.metadata.annotations = Some([(RESOLVE_ANNOTATION.to_owned(), "tell:Retry@1".to_owned())].into());
        let (endpoints, paused) = (endpoints(&json!({})), HashSet::new());
        let planned = |coupon: &Coupon| {
            run(&Circumstances {
                coupon,
                created: Some(at(0)),
                campaign: CampaignState::Running,
                endpoints: &endpoints,
                paused: &paused,
                active: false,
                sender: "us",
                now: at(1),
            })
        };
        assert_eq!(planned(&annotated), expected);
        let status = annotated.status.as_mut().unwrap();
        status.state = CouponState::Sending;
        status.deliveries[0].last_attempt.as_mut().unwrap().outcome = None;
        assert_eq!(planned(&annotated), Plan::Wait(Duration::from_secs(39)));
    }
}

#[test]
fn i5_what_is_in_doubt_is_held_where_the_webhook_says_hold_now() {
    let doubtful = |unknown: &str, approved: &str, changes: Value| {
        let mut status = attempted(Some(AttemptOutcome::Unknown), CouponState::Pending, None);
        status.deliveries[0].unknown = unknown.parse().unwrap();
        status.deliveries[0].approved = approved.parse().unwrap();
        planned(Some(status), changes, |_| ())
    };
    let hold = || json!({ "onUnknown": "Hold" });
    let for_a_person = Plan::Hold { delivery: DELIVERY.into(), rows: RowSet::up_to(1) };
    assert_eq!(doubtful("1", "", hold()), for_a_person);
    assert_eq!(doubtful("1", "", json!({})), send());
    assert_eq!(doubtful("", "", hold()), send(), "it was surely not applied");
    let sent = Plan::Send { delivery: DELIVERY.into(), rows: RowSet::up_to(1), until: None };
    assert_eq!(doubtful("1", "1", hold()), sent, "a person said so");
}
