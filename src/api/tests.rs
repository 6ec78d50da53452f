//! The CEL rules, without a cluster: the same rules that the API server enforces.

use serde_json::{Value, json};

use super::campaign::Campaign;
use super::coupon::Coupon;
use super::webhook::Webhook;

fn changed(mut object: Value, changes: &[(&str, Value)]) -> Value {
    for (pointer, value) in changes {
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        object.pointer_mut(parent).unwrap()[field] = value.clone();
    }
    object
}

fn webhook(changes: &[(&str, Value)]) -> String {
    let good = json!({
        "apiVersion": "coupon-operator.dev/v1alpha1", "kind": "Webhook", "metadata": { "name": "w" },
        "spec": { "url": "https://a.example/", "payload": "{}", "headers": [{ "name": "X", "value": "a" }] },
    });
    let webhook: Webhook = serde_json::from_value(changed(good, changes)).unwrap();
    webhook.validate_cel().map_or_else(|errors| errors.to_string(), |()| String::new())
}

fn campaign(changes: &[(&str, Value)]) -> String {
    let good = json!({
        "apiVersion": "coupon-operator.dev/v1alpha1", "kind": "Campaign", "metadata": { "name": "c" },
        "spec": {
            "audience": { "profiles": [{ "integrationId": "x" }] },
            "rules": [{ "name": "r", "schedules": [{ "onDates": ["2023-01-01"] }], "effects": [
                { "createCoupon": {} }, { "sendWebhook": { "webhookRef": { "name": "w" } } }] }],
        },
    });
    let campaign: Campaign = serde_json::from_value(changed(good, changes)).unwrap();
    campaign.validate_cel().map_or_else(|errors| errors.to_string(), |()| String::new())
}

#[test]
fn good_objects_break_no_rule() {
    assert_eq!((webhook(&[]), campaign(&[])), (String::new(), String::new()));
}

#[test]
fn each_rule_of_a_webhook_has_its_message() {
    for (changes, words) in [
        (vec![("/spec/url", json!("http://a.example/"))], "must begin with https://"),
        (vec![("/spec/method", json!("GET"))], "a GET request carries no payload"),
        (vec![("/spec/responseFormat", json!("CleverTap")), ("/spec/method", json!("PUT"))], "needs method POST"),
        (vec![("/spec/headers", json!([{ "name": "X" }]))], "either value or valueFrom"),
        (vec![("/spec/headers", json!([{ "name": "hOsT", "value": "a" }]))], "belongs to the HTTP client"),
        (vec![("/spec/headers", json!([{ "name": "a b", "value": "a" }]))], "letters, digits and - only"),
    ] {
        let said = webhook(&changes);
        assert!(said.contains(words), "{changes:?}: {said:?}");
    }
}

#[test]
fn each_rule_of_a_campaign_has_its_message() {
    let (create, send) = (json!({ "createCoupon": {} }), json!({ "sendWebhook": { "webhookRef": { "name": "w" } } }));
    let named = json!({ "sendWebhook": { "name": "w", "webhookRef": { "name": "v" } } });
    for (changes, words) in [
        (vec![("/metadata/name", json!("a.b"))], "must be a DNS label"),
        (vec![("/spec/timeZone", json!("Europe Berlin"))], "IANA name"),
        (vec![("/spec/rules/0/name", json!("R"))], "a rule's name is a DNS label"),
        (vec![("/spec/rules/0/schedules", json!([{}]))], "says nothing of when it holds"),
        (vec![("/spec/rules/0/schedules/0/except", json!([{}]))], "an entry of except is empty"),
        (vec![("/spec/rules/0/schedules/0/windowSeconds", json!(60))], "it goes with cron or rrule"),
        (
            vec![("/spec/rules/0/schedules/0/timeOfDay", json!({ "from": "09:00", "to": "09:00" }))],
            "from and to are the same",
        ),
        (
            vec![(
                "/spec/rules/0/schedules",
                json!([{ "anniversaryOf": { "attribute": "a" } }, { "onDates": ["2023-01-01"] }]),
            )],
            "let all entries of the rule have it",
        ),
        (
            vec![
                ("/spec/rules/0/schedules", json!([{ "anniversaryOf": { "attribute": "a" } }])),
                ("/spec/rules/0/oncePer", json!("Day")),
            ],
            "one code for each anniversary",
        ),
        (vec![("/spec/rules/0/effects", json!([send, create]))], "begin with exactly one createCoupon"),
        (vec![("/spec/rules/0/effects", json!([create]))], "at least one sendWebhook"),
        (vec![("/spec/rules/0/effects", json!([create, {}, send]))], "either createCoupon or sendWebhook"),
        (vec![("/spec/rules/0/effects", json!([create, send, named]))], "the same name"),
        (vec![("/spec/rules/0/effects/0/createCoupon", json!({ "pattern": "ABC" }))], "at least one #"),
        (vec![("/spec/audience/profiles", json!([{ "integrationId": " " }]))], "must not be empty"),
    ] {
        let said = campaign(&changes);
        assert!(said.contains(words), "{changes:?}: {said:?}");
    }
}

#[test]
fn a_coupons_spec_never_changes() {
    let coupon = |code: &str| -> Coupon {
        serde_json::from_value(json!({
            "apiVersion": "coupon-operator.dev/v1alpha1", "kind": "Coupon", "metadata": { "name": "c" },
            "spec": { "recipient": "r", "code": code, "deliveries": [{ "name": "d", "webhookRef": { "name": "w" } }] },
        }))
        .unwrap()
    };
    assert!(coupon("A").validate_cel_update(&coupon("A")).is_ok());
    let said = coupon("B").validate_cel_update(&coupon("A")).unwrap_err().to_string();
    assert!(said.contains("a Coupon's spec never changes"), "{said}");
}
