//! Audiences that are not written in their Campaign.

use coupon_operator::api::campaign::Campaign;
use coupon_operator::api::webhook::Webhook;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};

use crate::world::{CANARY, World, campaign, rehearsed, said, webhook};

fn from_config_map(format: &str) -> Value {
    let mut campaign = campaign(0);
    campaign["spec"]["audience"] = json!({ "configMapRef": { "name": "customers", "key": "list", "format": format } });
    campaign
}

async fn write(world: &World, text: &str) {
    let map = json!({ "metadata": { "name": "customers" }, "data": { "list": text } });
    world.apply::<ConfigMap>(map).await.unwrap();
}

async fn until_ready_says(world: &World, reason: &str) -> String {
    let campaign = world.until::<Campaign>("new-year", reason, |c| said(&json!(c), "Ready").0 == reason).await;
    said(&json!(campaign), "Ready").1
}

fn lines(customers: std::ops::RangeInclusive<usize>) -> String {
    let line = |i| format!("{{\"integrationId\":\"customer-{i}\",\"attributes\":{{\"name\":\"N{i}\"}}}}\n");
    customers.map(line).collect::<Vec<_>>().concat()
}

/// What is missing is said, what is there is issued to, and what comes later too, without a restart.
#[tokio::test]
async fn i1_an_audience_in_a_config_map_is_read_again_while_its_window_is_open() {
    let world = World::new().await;
    let _operator = world.operator();
    world.apply_secret(CANARY).await;
    world.apply::<Webhook>(webhook()).await.unwrap();
    world.apply::<Campaign>(from_config_map("NDJSON")).await.unwrap();
    assert!(until_ready_says(&world, "ConfigMapNotFound").await.contains("create it with the key list"));
    world.apply::<ConfigMap>(json!({ "metadata": { "name": "customers" }, "data": { "other": "" } })).await.unwrap();
    assert!(until_ready_says(&world, "ConfigMapKeyNotFound").await.contains("ConfigMap customers has no key list"));
    write(&world, &(lines(1..=3) + "{\"integrationId\":\n" + &lines(4..=5))).await;
    let said = until_ready_says(&world, "AudienceIncomplete").await;
    assert!(said.contains("line 4, column") && said.contains("The 3 before it are issued to"), "{said}");
    world.until_delivered(3).await;
    let status = world.campaign().await.status.unwrap();
    assert!(!status.occurrences[0].audience_seen, "not everybody is known");
    write(&world, &lines(1..=5)).await;
    world.until_campaign_delivered(5).await;
    let seen = |c: &Campaign| c.status.as_ref().unwrap().occurrences[0].audience_seen;
    world.until::<Campaign>("new-year", "all seen", seen).await;
    assert_eq!(said_ready(&world).await, "Open");
    world.assert_each_got_one(5);
    // Who leaves keeps their code, and who is left gets no second one.
    write(&world, &lines(5..=6)).await;
    world.until_campaign_delivered(6).await;
    world.assert_each_got_one(6);
}

/// What was wrong in a window that has closed is no state of the campaign any more: the window was missed, and that is said.
#[tokio::test]
async fn an_audience_that_never_came_is_a_missed_window() {
    let world = World::new().await;
    let _operator = world.operator();
    world.apply_secret(CANARY).await;
    world.apply::<Webhook>(webhook()).await.unwrap();
    let mut ends = from_config_map("NDJSON");
    let end = rehearsed() + chrono::TimeDelta::from_std(world.age()).unwrap() + chrono::TimeDelta::seconds(6);
    ends["spec"]["endTime"] = end.to_rfc3339_opts(chrono::SecondsFormat::Secs, true).into();
    world.apply::<Campaign>(ends).await.unwrap();
    until_ready_says(&world, "ConfigMapNotFound").await;
    until_ready_says(&world, "Ended").await;
    assert_eq!(world.campaign().await.status.unwrap().missed_windows, 1);
}

async fn said_ready(world: &World) -> String {
    said(&json!(world.campaign().await), "Ready").0
}

#[tokio::test]
async fn csv_and_json_make_the_same_audience() {
    for (format, text) in [
        ("CSV", "integrationId,name\ncustomer-1,\"A, \"\"B\"\"\"\ncustomer-2,\n"),
        (
            "JSON",
            r#"[{"integrationId": "customer-1", "attributes": {"name": "A, \"B\""}}, {"integrationId": "customer-2"}]"#,
        ),
    ] {
        let world = World::new().await;
        let _operator = world.operator();
        world.apply_secret(CANARY).await;
        let mut named = webhook();
        named["spec"]["parameters"].as_array_mut().unwrap().push(json!({ "name": "Name", "type": "String" }));
        let payload = named["spec"]["payload"].as_str().unwrap().replacen(
            "\"CouponCode\"",
            "\"Name\":\"${$Name}\",\"CouponCode\"",
            1,
        );
        named["spec"]["payload"] = payload.into();
        world.apply::<Webhook>(named).await.unwrap();
        write(&world, text).await;
        let mut campaign = from_config_map(format);
        campaign["spec"]["rules"][0]["effects"][1]["sendWebhook"]["parameters"]["Name"] =
            "${$Profile.Attributes.name | \"there\"}".into();
        world.apply::<Campaign>(campaign).await.unwrap();
        world.until_delivered(2).await;
        let mut greeted: Vec<String> =
            world.stand_in.events().iter().map(|e| e.data["Name"].as_str().unwrap().to_owned()).collect();
        greeted.sort();
        assert_eq!(greeted, ["A, \"B\"", "there"], "{format}");
    }
}
