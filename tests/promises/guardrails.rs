//! Guardrails: nobody mails a million people by a mistake that ten would have shown.

use clevertap_stand_in::Fault;
use coupon_operator::api::campaign::Campaign;
use coupon_operator::api::webhook::Webhook;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};

use crate::world::{CANARY, World, campaign, said, state, webhook};

fn guarded(customers: usize, guardrails: Value) -> Value {
    let mut campaign = campaign(customers);
    campaign["spec"]["guardrails"] = guardrails;
    campaign
}

async fn until_ready_says(world: &World, reason: &str, text: &str) -> Campaign {
    let says = |c: &Campaign| {
        let (found, message) = said(&json!(c), "Ready");
        found == reason && message.contains(text)
    };
    world.until::<Campaign>("new-year", text, says).await
}

#[tokio::test]
async fn an_audience_larger_than_expected_gets_nothing_until_a_person_says_that_it_is_meant() {
    let world = World::new().await;
    let _operator = world.operator();
    world.apply_scenario(0).await;
    world.apply::<Campaign>(guarded(3, json!({ "maxRecipients": 2 }))).await.unwrap();
    let campaign = until_ready_says(&world, "GuardrailHit", "names 3 customers").await;
    assert_eq!(said(&json!(campaign), "Stalled").0, "GuardrailHit");
    assert!(campaign.status.unwrap().occurrences.is_empty() && world.coupons().await.is_empty());
    world.apply::<Campaign>(guarded(3, json!({ "maxRecipients": 3 }))).await.unwrap();
    world.until_campaign_delivered(3).await;
    world.assert_each_got_one(3);
}

#[tokio::test]
async fn those_who_go_first_are_settled_before_the_others_get_anything() {
    for batch in [1, 100] {
        let world = World::new().await;
        let _operator = world.operator();
        world.apply_scenario(0).await;
        let mut batched = webhook();
        batched["spec"]["batch"] = json!({ "maxSize": batch, "recordsAt": "/d" });
        world.apply::<Webhook>(batched).await.unwrap();
        world.stand_in.set_lasting_fault(Some(Fault::status(503)));
        world.apply::<Campaign>(guarded(5, json!({ "canaryRecipients": 2 }))).await.unwrap();
        until_ready_says(&world, "Delivering", "the others wait until these are settled").await;
        let first = world.campaign().await.status.unwrap().occurrences.remove(0);
        assert_eq!((first.matched, first.issued, first.audience_seen), (5, 2, false));
        let waiting: Vec<i64> = first.ineligible.into_values().collect();
        assert_eq!(waiting, [3], "it says how many wait");
        world.stand_in.set_lasting_fault(None);
        world.until_campaign_delivered(5).await;
        let seen = |c: &Campaign| c.status.as_ref().unwrap().occurrences[0].audience_seen;
        world.until::<Campaign>("new-year", "all seen", seen).await;
        let sent: Vec<String> = world.stand_in.events().into_iter().map(|event| event.identity).collect();
        assert_eq!(sent.iter().filter(|who| sent[..2].contains(who)).count(), 2, "{sent:?}");
        world.assert_each_got_one(5);
    }
}

/// What goes wrong for those who go first goes wrong for nobody else; and a person decides how it goes on.
#[tokio::test]
async fn too_many_failures_stop_issuing_and_sending_until_a_person_accepts_them() {
    let world = World::new().await;
    let operator = world.operator();
    world.apply_scenario(0).await;
    world.stand_in.set_lasting_fault(Some(Fault::status(400)));
    let limits = json!({ "canaryRecipients": 2, "stopWhenFailedPercent": 50 });
    world.apply::<Campaign>(guarded(6, limits)).await.unwrap();
    let stopped = until_ready_says(&world, "GuardrailHit", "2 of the 2 records").await;
    assert!(stopped.status.unwrap().occurrences[0].stopped);
    let sent = world.stand_in.requests().len();
    world.stand_in.set_lasting_fault(None);
    // A restart forgets nothing of it.
    drop(operator);
    let _operator = world.operator();
    world.until_logged("operator started", 2).await;
    let touched = json!({ "metadata": { "annotations": { "coupon-operator.dev/accept-failed": "create-coupon-on-1-january/20230101=1" } } });
    world.patch::<Campaign>("new-year", touched).await;
    until_ready_says(&world, "GuardrailHit", "1 of the 1 records").await;
    assert_eq!((world.coupons().await.len(), world.stand_in.requests().len()), (2, sent), "and nothing was sent");
    let accepted = json!({ "metadata": { "annotations": { "coupon-operator.dev/accept-failed": "create-coupon-on-1-january/20230101=2" } } });
    world.patch::<Campaign>("new-year", accepted).await;
    let rest = |c: &Campaign| c.status.as_ref().unwrap().delivered == Some(4);
    world.until::<Campaign>("new-year", "the others delivered", rest).await;
    let coupons = world.coupons().await;
    assert_eq!(coupons.iter().filter(|coupon| state(coupon) == "Failed").count(), 2, "they stay what they are");
    assert_eq!(coupons.len(), 6);
}

/// Coupons that were written before too many failed wait too.
#[tokio::test]
async fn what_was_issued_before_too_many_failed_is_not_sent_either() {
    let world = World::new().await;
    let _operator = world.operator();
    world.apply_scenario(0).await;
    let mut one_at_a_time = webhook();
    one_at_a_time["spec"]["maxInFlight"] = 1.into();
    world.apply::<Webhook>(one_at_a_time).await.unwrap();
    world.stand_in.set_lasting_fault(Some(Fault::status(400)));
    world.stand_in.set_latency(std::time::Duration::from_millis(100));
    world.apply::<Campaign>(guarded(200, json!({ "stopWhenFailedPercent": 5 }))).await.unwrap();
    let stopped = until_ready_says(&world, "GuardrailHit", "stopWhenFailedPercent is 5").await;
    let failed = stopped.status.unwrap().failed.unwrap();
    let is_quiet = |coupons: &[coupon_operator::api::coupon::Coupon]| coupons.iter().all(|c| state(c) != "Sending");
    let coupons = world.until_coupons("none on its way", is_quiet).await;
    let pending = coupons.iter().filter(|coupon| state(coupon) == "Pending").count();
    assert!(failed >= 20 && pending > 50, "{failed} failed, {pending} wait");
    world.stand_in.set_lasting_fault(None);
    let loose = json!({ "spec": { "guardrails": null } });
    world.patch::<Campaign>("new-year", loose).await;
    let ended = |c: &Campaign| {
        let status = c.status.as_ref().unwrap();
        status.failed < Some(60)
            && status.failed.zip(status.delivered).map(|(failed, delivered)| failed + delivered) == Some(200)
    };
    world.until::<Campaign>("new-year", "all others delivered", ended).await;
}

#[tokio::test]
async fn whoever_is_excluded_gets_nothing_and_while_nobody_knows_who_is_nobody_gets_anything() {
    for inline in [true, false] {
        let world = World::new().await;
        let _operator = world.operator();
        world.apply_secret(CANARY).await;
        world.apply::<Webhook>(webhook()).await.unwrap();
        let mut without = campaign(if inline { 3 } else { 0 });
        if !inline {
            let list = "integrationId\ncustomer-1\ncustomer-2\ncustomer-3\n";
            world.apply::<ConfigMap>(json!({ "metadata": { "name": "all" }, "data": { "l": list } })).await.unwrap();
            without["spec"]["audience"] = json!({ "configMapRef": { "name": "all", "key": "l", "format": "CSV" } });
        }
        without["spec"]["audience"]["excludeConfigMapRef"] =
            json!({ "name": "unsubscribed", "key": "l", "format": "CSV" });
        world.apply::<Campaign>(without).await.unwrap();
        until_ready_says(&world, "ConfigMapNotFound", "spec.audience.excludeConfigMapRef: ConfigMap unsubscribed")
            .await;
        let list = |text: &str| json!({ "metadata": { "name": "unsubscribed" }, "data": { "l": text } });
        world.apply::<ConfigMap>(list("integrationId\n customer-2 \n\"")).await.unwrap();
        until_ready_says(&world, "AudienceIncomplete", "nobody is issued to").await;
        assert!(world.coupons().await.is_empty());
        world.apply::<ConfigMap>(list("integrationId\n customer-2 \n")).await.unwrap();
        let campaign = world.until_campaign_delivered(2).await;
        let occurrence = campaign.status.unwrap().occurrences.remove(0);
        assert_eq!(occurrence.ineligible.get("audience.excludeConfigMapRef names them"), Some(&1));
        let mut got: Vec<String> = world.stand_in.events().into_iter().map(|event| event.identity).collect();
        got.sort();
        assert_eq!(got, ["customer-1", "customer-3"]);
    }
}
