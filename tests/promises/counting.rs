//! How Coupons stand is counted as they change, without reading them again.

use clevertap_stand_in::Fault;
use coupon_operator::api::campaign::Campaign;
use coupon_operator::api::coupon::Coupon;
use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::json;

use crate::world::{World, campaign, said, state};

fn status(campaign: &Campaign) -> (i64, i64) {
    campaign
        .status
        .as_ref()
        .map(|s| (s.delivered.unwrap_or_default(), s.failed.unwrap_or_default()))
        .unwrap_or_default()
}

#[tokio::test]
async fn what_is_delivered_or_decided_is_counted_without_a_pass() {
    let world = World::new().await;
    let operator = world.operator_that_seldom_polls();
    world.apply_scenario(0).await;
    world.stand_in.set_fault_for("customer-2", Some(Fault::status(400)));
    world.apply::<Campaign>(campaign(5)).await.unwrap();
    world.until::<Campaign>("new-year", "counted", |c| status(c) == (4, 1)).await;
    world.stand_in.set_fault_for("customer-2", None);
    let failed = world.coupons().await.into_iter().find(|coupon| state(coupon) == "Failed").unwrap();
    let again =
        json!({ "metadata": { "annotations": { "coupon-operator.dev/resolve": "send-clevertap-email:Retry@1" } } });
    world.patch::<Coupon>(&failed.name_any(), again).await;
    world.until::<Campaign>("new-year", "counted again", |c| status(c) == (5, 0)).await;
    // A restart counts what it finds.
    drop(operator);
    let _operator = world.operator_that_seldom_polls();
    world.until_logged("operator started", 2).await;
    world.apply::<Campaign>(campaign(6)).await.unwrap();
    world.until_campaign_delivered(6).await;
}

/// What another did is not known: the ledger is read, and says what is missing.
#[tokio::test]
async fn i1_a_coupon_that_a_person_deletes_while_it_waits_is_missed() {
    let world = World::new().await;
    let _operator = world.operator_that_seldom_polls();
    world.apply_scenario(0).await;
    world.stand_in.set_lasting_fault(Some(Fault::status(503)));
    world.apply::<Campaign>(campaign(3)).await.unwrap();
    let issued = |c: &Campaign| c.status.as_ref().is_some_and(|s| s.issued == Some(3));
    world.until::<Campaign>("new-year", "issued", issued).await;
    let waiting = world.coupons().await.remove(0);
    world.api::<Coupon>().delete(&waiting.name_any(), &DeleteParams::default()).await.unwrap();
    let missing = |c: &Campaign| said(&json!(c), "Ready").0 == "CouponsMissing";
    world.until::<Campaign>("new-year", "missing", missing).await;
    assert_eq!(world.coupons().await.len(), 2, "nobody gets another");
}
