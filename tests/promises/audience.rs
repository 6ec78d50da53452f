//! Audiences that are not written in their Campaign.

use clevertap_stand_in::Page;
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

fn at_a_web_address(format: &str) -> Value {
    let mut campaign = campaign(0);
    let key = json!({ "name": "clevertap", "key": "passcode" });
    campaign["spec"]["audience"] = json!({ "http": {
        "url": "https://shop.example/customers", "format": format,
        "headers": [{ "name": "X-Team", "value": "growth" },
            { "name": "Authorization", "valueFrom": { "secretKeyRef": key } }],
    } });
    campaign
}

fn packed(text: &str) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

async fn begun(campaign: Value) -> (World, control_plane::GuardedChild) {
    let world = World::new().await;
    let operator = world.operator();
    world.apply_secret(CANARY).await;
    world.apply::<Webhook>(webhook()).await.unwrap();
    world.apply::<Campaign>(campaign).await.unwrap();
    (world, operator)
}

/// A page that fails later ends what is known; everybody before it gets a code, and whoever comes with it gets theirs
/// when it is mended.
#[tokio::test]
async fn i1_an_audience_at_a_web_address_goes_as_far_as_it_was_sent_and_on_at_the_next_reading() {
    let world = World::new().await;
    let page = |lines: String, next: &str| Page::new(lines).with_header("Link", &format!("<{next}>; rel=\"next\""));
    world.stand_in.publish("/customers", page(lines(1..=3), "/customers?page=2"));
    let unpacked = lines(4..=5);
    let second = Page::new(packed(&unpacked)).with_header("Content-Encoding", "gzip");
    world.stand_in.publish("/customers?page=2", second.with_header("Link", "<?page=3>; rel=next"));
    world.stand_in.publish("/customers?page=3", Page { status: 500, ..Page::new("no") });
    let _operator = world.operator();
    world.apply::<Webhook>(webhook()).await.unwrap();
    world.apply::<Campaign>(at_a_web_address("NDJSON")).await.unwrap();
    assert!(until_ready_says(&world, "SecretNotFound").await.contains("spec.audience.http.headers[1].valueFrom"));
    world.apply_secret(CANARY).await;
    let said = until_ready_says(&world, "AudienceIncomplete").await;
    assert!(said.contains("page 3 was answered with 500") && said.contains("The 5 before it are issued to"), "{said}");
    world.until_delivered(5).await;
    assert!(!world.campaign().await.status.unwrap().occurrences[0].audience_seen);
    let cut = lines(6..=8);
    world.stand_in.publish("/customers?page=3", Page { cut_after: Some(cut.len() - 5), ..Page::new(cut.clone()) });
    // Of 7 nobody knows whether the line was whole; of 8 it was not.
    world.until_delivered(6).await;
    assert!(until_ready_says(&world, "AudienceIncomplete").await.contains("page 3 was cut off"));
    world.stand_in.publish("/customers?page=3", Page::new(cut));
    world.until_campaign_delivered(8).await;
    let seen = |c: &Campaign| c.status.as_ref().unwrap().occurrences[0].audience_seen;
    world.until::<Campaign>("new-year", "all seen", seen).await;
    world.assert_each_got_one(8);
    let asked = world.stand_in.requests();
    let asked: Vec<_> = asked.iter().filter(|r| r.target.starts_with("/customers")).collect();
    assert!(asked.iter().all(|r| r.header("Authorization") == Some(CANARY) && r.header("X-Team") == Some("growth")));
    assert!(!world.operator_logs().contains(CANARY));
}

/// What has not changed is not sent again, and the audience is still the whole.
#[tokio::test]
async fn an_audience_that_has_not_changed_is_not_sent_again() {
    let csv = |customers: &str| Page::new(format!("integrationId,name\n{customers}"));
    let (world, _operator) = begun(at_a_web_address("CSV")).await;
    world.stand_in.publish("/customers", csv("customer-1,A\ncustomer-2,B\n").with_header("ETag", "\"one\""));
    world.until_campaign_delivered(2).await;
    let again = |tag: &'static str| {
        let requests = world.stand_in.requests();
        requests.iter().filter(|r| r.header("If-None-Match") == Some(tag)).count()
    };
    while again("\"one\"") < 2 {
        assert!(
            world
                .stand_in
                .wait_for_requests(world.stand_in.requests().len() + 1, std::time::Duration::from_secs(30))
                .await
        );
    }
    world.stand_in.publish("/customers", csv("customer-2,B\ncustomer-3,C\n").with_header("ETag", "\"two\""));
    world.until_campaign_delivered(3).await;
    world.assert_each_got_one(3);
}

/// Where it leads, and what it is not, is said with what to do.
#[tokio::test]
async fn what_is_wrong_with_a_web_address_says_what_to_do() {
    let (world, _operator) = begun(at_a_web_address("JSON")).await;
    let array = "[{\"integrationId\":\"customer-1\"}]";
    let elsewhere = Page::new(array).with_header("Link", "<https://other.example/>; rel=next");
    for (page, expected) in [
        (Page { status: 302, ..Page::new("") }, "the address was answered with 302: redirects are not followed"),
        (Page { status: 304, ..Page::new("") }, "the address was answered with 304: only 200 has an audience"),
        (Page { status: 401, ..Page::new("") }, "the address was answered with 401: compare the headers"),
        (Page::new(array).with_header("Content-Encoding", "br"), "is packed in a way that is not known"),
        (elsewhere, "names a next page that is not on the same server"),
        (
            Page::new(array).with_header("Link", "</customers>; rel=next"),
            "names a page as the next that was read already",
        ),
        (Page::new("{}"), "is no JSON array"),
    ] {
        world.stand_in.publish("/customers", page);
        let says = |c: &Campaign| said(&json!(c), "Ready").1.contains(expected);
        world.until::<Campaign>("new-year", expected, says).await;
    }
    world.stand_in.publish("/customers", Page::new(array));
    world.until_campaign_delivered(1).await;
}

/// What would never end, or fill the disk, is given up, and says which bound it met.
#[tokio::test(flavor = "multi_thread")]
async fn an_audience_at_a_web_address_has_bounds() {
    use coupon_operator::audience::http::{Download, Limits, read};
    use coupon_operator::clock::Clock;
    use coupon_operator::delivery::client::{ClientOptions, GuardedClient};
    use std::time::Duration;

    let world = World::new().await;
    let page = |next: &str| Page::new(lines(1..=3)).with_header("Link", &format!("<{next}>; rel=next"));
    world.stand_in.publish("/customers", page("/customers?page=2"));
    world.stand_in.publish("/customers?page=2", Page::new(lines(4..=6)));
    // It listens, so a connection is made, and nobody ever answers.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let to = |host: &str, address| format!("{host}:443={address}").parse().unwrap();
    let options = ClientOptions {
        connect_to: vec![to("shop.example", world.stand_in.address()), to("mute.example", mute.local_addr().unwrap())],
        only_connect_to: true,
        ca_bundle: Some(std::fs::read(world.folder.path().join("ca.pem")).unwrap()),
    };
    let client = GuardedClient::new(&options, Clock::real()).unwrap();
    let (shop, mute) = ("https://shop.example/customers", "https://mute.example/customers");
    let (all, bytes) = (Limits::default(), u64::try_from((lines(1..=3) + &lines(4..=6)).len()).unwrap());
    for (url, limits, expected) in [
        (shop, Limits { bytes, pages: 2, ..all }, None),
        (shop, Limits { bytes: bytes - 1, ..all }, Some("it has more than 0 MiB")),
        (shop, Limits { pages: 1, ..all }, Some("it has more than 1 pages")),
        (shop, Limits { time: Duration::ZERO, ..all }, Some("it took longer than 0 s")),
        (mute, Limits { time: Duration::from_secs(1), ..all }, Some("it took longer than 1 s")),
        (mute, Limits { silence: Duration::from_secs(1), ..all }, Some("the address sent nothing for 1 s")),
    ] {
        let url = url.parse().unwrap();
        let Download::Read { problem, .. } = read(&client, &url, &[], None, limits).await.unwrap() else { panic!() };
        assert_eq!(problem.map(|problem| problem.to_string()).as_deref(), expected, "{limits:?}");
    }
}
