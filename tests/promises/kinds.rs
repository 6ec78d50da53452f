//! Bad manifests are refused by the API server, with a message that names the field and says what to
//! write instead.

use coupon_operator::api::campaign::Campaign;
use coupon_operator::api::coupon::Coupon;
use coupon_operator::api::webhook::Webhook;
use kube::api::{Patch, PatchParams};
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};

use crate::world::{World, campaign, webhook};

/// What the API server says of an object; empty if it takes it.
async fn refusal<K>(world: &World, object: Value) -> String
where
    K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    match world.apply::<K>(object).await {
        Ok(_) => String::new(),
        Err(kube::Error::Api(status)) => status.message,
        Err(error) => panic!("{error}"),
    }
}

fn set(mut object: Value, pointer: &str, value: Value) -> Value {
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    let parent = object.pointer_mut(parent).unwrap();
    match parent {
        Value::Array(items) => {
            let index: usize = field.parse().unwrap();
            items.truncate(index);
            items.push(value);
        }
        other => other[field] = value,
    }
    object
}

fn effect(i: usize) -> Value {
    campaign(1)["spec"]["rules"][0]["effects"][i].clone()
}

#[tokio::test]
async fn bad_webhooks_are_refused_with_what_to_write_instead() {
    let world = World::new().await;
    let secret = json!({ "secretKeyRef": { "name": "s", "key": "k" } });
    let cases: Vec<(&str, Value, &str, &str)> = vec![
        ("/spec/url", json!("http://a.example/"), "spec.url", "url must begin with https://"),
        ("/spec/method", json!("GET"), "spec", "responseFormat CleverTap needs method POST and a payload"),
        ("/spec/method", json!("FETCH"), "spec.method", "\"POST\""),
        ("/spec/responseFormat", json!("Clevertap"), "spec.responseFormat", "\"CleverTap\""),
        ("/spec/timeoutSeconds", json!(0), "spec.timeoutSeconds", "greater than or equal to 1"),
        ("/spec/timeoutSeconds", json!(301), "spec.timeoutSeconds", "less than or equal to 300"),
        ("/spec/maxInFlight", json!(0), "spec.maxInFlight", "greater than or equal to 1"),
        ("/spec/deadlineSeconds", json!(-1), "spec.deadlineSeconds", "greater than or equal to 1"),
        ("/spec/batch", json!({ "maxSize": 2 }), "spec.batch", "a batch needs recordsAt, a JSON pointer"),
        ("/spec/batch", json!({ "maxSize": 2, "recordsAt": "d" }), "spec.batch.recordsAt", "begins with /"),
        (
            "/spec/batch",
            json!({ "maxSize": 1001, "recordsAt": "/d" }),
            "spec.batch.maxSize",
            "less than or equal to 1000",
        ),
        ("/spec/successWhen", json!("true"), "spec", "successWhen goes with responseFormat HTTPStatus"),
        ("/spec/onUnknown", json!("Drop"), "spec.onUnknown", "\"Retry\", \"Hold\""),
        (
            "/spec/parameters/0",
            json!({ "name": "Coupon Code", "type": "String" }),
            "spec.parameters",
            "a parameter's name is a letter followed by",
        ),
        ("/spec/parameters/0", json!({ "name": "A", "type": "Text" }), "spec.parameters[0].type", "\"String\""),
        ("/spec/headers/0", json!({ "name": "X" }), "spec.headers[0]", "either value or valueFrom"),
        (
            "/spec/headers/0",
            json!({ "name": "X", "value": "a", "valueFrom": secret.clone() }),
            "spec.headers[0]",
            "either value or valueFrom",
        ),
        (
            "/spec/headers/0",
            json!({ "name": "X", "valueFrom": {} }),
            "spec.headers[0].valueFrom",
            "either secretKeyRef or configMapKeyRef",
        ),
        (
            "/spec/headers/0",
            json!({ "name": "Host", "value": "a" }),
            "spec.headers[0].name",
            "belongs to the HTTP client",
        ),
        (
            "/spec/headers/0",
            json!({ "name": "a b", "value": "a" }),
            "spec.headers[0].name",
            "letters, digits and - only",
        ),
        (
            "/spec/headers/0",
            json!({ "name": "X", "valueFrom": { "secretKeyRef": { "name": "s" } } }),
            "secretKeyRef.key",
            "Required",
        ),
        ("/spec/unknownField", json!(1), "unknownField", "field not declared in schema"),
    ];
    for (pointer, value, field, words) in cases {
        let said = refusal::<Webhook>(&world, set(webhook(), pointer, value.clone())).await;
        println!("Webhook {pointer} = {value}\n    {said}");
        assert!(said.contains(field) && said.contains(words), "{pointer} = {value}: {said:?}");
    }
    let plain_get = json!({ "metadata": { "name": "g" }, "spec": { "url": "https://a.example/", "method": "GET", "payload": "{}" } });
    assert!(refusal::<Webhook>(&world, plain_get).await.contains("a GET request carries no payload"));
    assert_eq!(refusal::<Webhook>(&world, webhook()).await, "");
}

#[tokio::test]
#[allow(clippy::too_many_lines)] // a table
async fn bad_campaigns_are_refused_with_what_to_write_instead() {
    let world = World::new().await;
    let (create, send) = (effect(0), effect(1));
    let rule = "spec.rules[0]";
    let cases: Vec<(&str, Value, String, &str)> = vec![
        ("/metadata/name", json!("new.year"), String::new(), "metadata.name must be a DNS label"),
        ("/metadata/name", json!("a".repeat(64)), String::new(), "metadata.name must be a DNS label"),
        ("/spec/timeZone", json!("Europe Berlin"), "spec.timeZone".into(), "IANA name, for example Europe/Berlin"),
        ("/spec/rules", json!([]), "spec.rules".into(), "at least 1"),
        ("/spec/rules/0/name", json!("On 1 January"), format!("{rule}.name"), "a rule's name is a DNS label"),
        (
            "/spec/rules/0/schedules/0/onDates",
            json!(["1.1.2023"]),
            format!("{rule}.schedules[0].onDates"),
            "should match '^[0-9]{4}-(0[1-9]|1[0-2])",
        ),
        ("/spec/rules/0/schedules", json!([{}]), format!("{rule}.schedules"), "says nothing of when it holds"),
        (
            "/spec/rules/0/schedules/0/monthDays",
            json!(["24.12"]),
            format!("{rule}.schedules[0].monthDays"),
            "should match",
        ),
        (
            "/spec/rules/0/schedules/0/timeOfDay",
            json!({ "from": "9:00", "to": "17:00" }),
            format!("{rule}.schedules[0].timeOfDay.from"),
            "should match",
        ),
        (
            "/spec/rules/0/schedules/0/timeOfDay",
            json!({ "from": "09:00", "to": "09:00" }),
            format!("{rule}.schedules[0].timeOfDay"),
            "leave timeOfDay out for the whole day",
        ),
        (
            "/spec/rules/0/schedules/0/daysOfWeek",
            json!(["Mon"]),
            format!("{rule}.schedules[0].daysOfWeek[0]"),
            "\"Monday\"",
        ),
        ("/spec/rules/0/schedules/0/after", json!("tomorrow"), format!("{rule}.schedules[0].after"), "should match"),
        (
            "/spec/rules/0/schedules/0/windowSeconds",
            json!(60),
            format!("{rule}.schedules"),
            "it goes with cron or rrule",
        ),
        ("/spec/rules/0/schedules/0/except", json!([{}]), format!("{rule}.schedules"), "an entry of except is empty"),
        (
            "/spec/rules/0/schedules",
            json!([{ "anniversaryOf": { "attribute": "birthday" } }, { "daysOfWeek": ["Monday"] }]),
            format!("{rule}.schedules"),
            "let all entries of the rule have it",
        ),
        ("/spec/rules/0/oncePer", json!("Fortnight"), "oncePer".into(), "\"Window\""),
        ("/spec/rules/0/eligibility", json!("x".repeat(4097)), "eligibility".into(), "may not be more than 4096"),
        ("/spec/budgets", json!([{ "period": "Hour", "maxCoupons": 1 }]), "spec.budgets[0].period".into(), "\"Day\""),
        (
            "/spec/budgets",
            json!([{ "period": "Day", "maxCoupons": -1 }]),
            "spec.budgets[0].maxCoupons".into(),
            "greater than or equal to 0",
        ),
        ("/spec/rules/0/schedules/0/onDates", json!([]), format!("{rule}.schedules[0].onDates"), "at least 1"),
        (
            "/spec/rules/0/effects",
            json!([send, create]),
            format!("{rule}.effects"),
            "begin with exactly one createCoupon",
        ),
        (
            "/spec/rules/0/effects",
            json!([create, create, send]),
            format!("{rule}.effects"),
            "begin with exactly one createCoupon",
        ),
        (
            "/spec/rules/0/effects",
            json!([create, {}]),
            format!("{rule}.effects"),
            "each effect is either createCoupon or sendWebhook",
        ),
        (
            "/spec/rules/0/effects",
            json!([create, send, send]),
            format!("{rule}.effects"),
            "two sendWebhook effects have the same name",
        ),
        (
            "/spec/rules/0/effects/0/createCoupon/pattern",
            json!("SUMMER"),
            "createCoupon.pattern".into(),
            "at least one #",
        ),
        (
            "/spec/rules/0/effects/0/createCoupon/pattern",
            json!("A ##"),
            "createCoupon.pattern".into(),
            "letters, digits and . _ % + @ - only",
        ),
        (
            "/spec/rules/0/effects/0/createCoupon/characters",
            json!("A#"),
            "createCoupon.characters".into(),
            "letters, digits and . _ % + @ - only",
        ),
        (
            "/spec/rules/0/effects/0/createCoupon/redemptionLimit",
            json!(-1),
            "redemptionLimit".into(),
            "greater than or equal to 0",
        ),
        (
            "/spec/rules/0/effects/0/createCoupon/redemptionLimit",
            json!(1_000_000),
            "redemptionLimit".into(),
            "less than or equal to 999999",
        ),
        (
            "/spec/rules/0/effects/0/createCoupon/recipient",
            json!("Everybody"),
            "recipient".into(),
            "\"CurrentCustomer\"",
        ),
        (
            "/spec/rules/0/effects/0/createCoupon",
            json!({ "expiryTime": "2024-01-01T00:00:00Z", "validForSeconds": 1 }),
            "createCoupon".into(),
            "expiryTime or validForSeconds, not both",
        ),
        (
            "/spec/rules/0/effects/0/createCoupon",
            json!({ "startTime": "2024-01-01T00:00:00Z", "validAfterSeconds": 1 }),
            "createCoupon".into(),
            "startTime or validAfterSeconds, not both",
        ),
        (
            "/spec/rules/0/effects/1/sendWebhook/name",
            json!("Tell CleverTap"),
            "sendWebhook.name".into(),
            "a delivery's name holds lower-case letters",
        ),
        (
            "/spec/audience/profiles",
            json!([{ "integrationId": "  " }]),
            "spec.audience.profiles[0].integrationId".into(),
            "must not be empty",
        ),
        ("/spec/audience/profiles", json!([{ "attributes": {} }]), "integrationId".into(), "Required"),
        ("/spec/audience", json!({}), "spec.audience".into(), "an audience has one source"),
        (
            "/spec/audience/configMapRef",
            json!({ "name": "m", "key": "k" }),
            "spec.audience".into(),
            "an audience has one source",
        ),
        (
            "/spec/audience",
            json!({ "configMapRef": { "name": "m", "key": "k", "format": "XML" } }),
            "spec.audience.configMapRef.format".into(),
            "\"NDJSON\", \"CSV\", \"JSON\"",
        ),
        (
            "/spec/audience/profiles",
            json!(vec![json!({ "integrationId": "x" }); 1001]),
            "spec.audience.profiles".into(),
            "at most 1000",
        ),
        ("/spec/startTime", json!("tomorrow"), "spec.startTime".into(), "date-time"),
        ("/spec/suspended", json!(true), "suspended".into(), "field not declared in schema"),
    ];
    for (pointer, value, field, words) in cases {
        let said = refusal::<Campaign>(&world, set(campaign(1), pointer, value.clone())).await;
        let shown: String = value.to_string().chars().take(80).collect();
        println!("Campaign {pointer} = {shown}\n    {}", said.chars().take(300).collect::<String>());
        assert!(said.contains(&field) && said.contains(words), "{pointer} = {shown}: {said:?}");
    }
    let mut ends_first = campaign(1);
    ends_first["spec"]["startTime"] = "2023-01-02T00:00:00Z".into();
    ends_first["spec"]["endTime"] = "2023-01-01T00:00:00Z".into();
    assert!(refusal::<Campaign>(&world, ends_first).await.contains("endTime must be after startTime"));
    assert_eq!(refusal::<Campaign>(&world, campaign(1)).await, "");
}

fn coupon() -> Value {
    json!({ "metadata": { "name": "c" }, "spec": { "recipient": "r", "code": "C", "deliveries": [{ "name": "d", "webhookRef": { "name": "w" }, "parameters": { "P": "v" } }] } })
}

#[tokio::test]
async fn bad_coupons_are_refused_and_their_spec_never_changes() {
    let world = World::new().await;
    let partly = set(coupon(), "/spec/campaign", json!("new-year"));
    assert!(refusal::<Coupon>(&world, partly).await.contains("leave them all out of a Coupon written by hand"));
    assert!(refusal::<Coupon>(&world, set(coupon(), "/spec/deliveries", json!([]))).await.contains("spec.deliveries"));
    let batch = || {
        let mut batch =
            set(set(coupon(), "/spec/columns", json!(["recipient", "code", "d/P"])), "/spec/rows", json!(["r,C,v"]));
        for field in ["recipient", "code"] {
            batch["spec"].as_object_mut().unwrap().remove(field);
        }
        batch["spec"]["deliveries"][0].as_object_mut().unwrap().remove("parameters");
        batch["metadata"]["name"] = "batch".into();
        batch
    };
    world.apply::<Coupon>(batch()).await.unwrap();
    for (bad, said) in [
        (set(batch(), "/spec/recipient", json!("r")), "either one record (recipient and code) or several"),
        (set(coupon(), "/spec/rows", json!(["r,C"])), "either one record"),
        (set(batch(), "/spec/columns", json!(["recipient", "d/P"])), "columns name recipient, code"),
        (set(batch(), "/spec/deliveries/0/parameters", json!({ "P": "v" })), "columns name recipient, code"),
        (set(batch(), "/spec/rows", json!([])), "spec.rows"),
        (set(batch(), "/spec/rows", json!(["r,D,v"])), "a Coupon's spec never changes"),
        (set(batch(), "/spec/rows", json!(vec!["r,C,v"; 1001])), "spec.rows"),
    ] {
        let refused = refusal::<Coupon>(&world, bad).await;
        assert!(refused.contains(said), "{said}: {refused}");
    }
    let created = world.apply::<Coupon>(coupon()).await.unwrap();
    assert_eq!(
        json!(created)["status"],
        json!({ "observedGeneration": -1, "state": "Pending" }),
        "before any controller saw it"
    );
    for (pointer, value) in [
        ("/spec/code", json!("D")),
        ("/spec/recipient", json!("s")),
        ("/spec/redemptionLimit", json!(5)),
        ("/spec/deliveries/0/parameters/P", json!("w")),
        ("/spec/attributes", json!({ "a": "b" })),
    ] {
        let said = refusal::<Coupon>(&world, set(coupon(), pointer, value)).await;
        assert!(said.contains("a Coupon's spec never changes"), "{pointer}: {said:?}");
    }
    // Nor can it be taken away.
    let gone = json!({ "spec": null });
    let patched = world.api::<Coupon>().patch("c", &PatchParams::default(), &Patch::Merge(gone)).await;
    assert!(patched.unwrap_err().to_string().contains("spec"));
    assert_eq!(world.api::<Coupon>().get("c").await.unwrap().name_any(), "c");
}

#[tokio::test]
async fn kubectl_get_shows_what_a_person_wants_to_know() {
    let world = World::new().await;
    let _operator = world.operator();
    world.apply_scenario(1).await;
    let delivered = world.until_delivered(1).await.remove(0);
    world.until_campaign_delivered(1).await;
    for (plural, expected) in [
        ("webhooks", vec!["send-clevertap-email", "Send CleverTap Email", "CleverTap", "True", "Accepted"]),
        ("campaigns", vec!["new-year", "New Year", "True", "Open", "1", "1"]),
        (
            "coupons",
            vec![
                delivered.metadata.name.as_deref().unwrap(),
                "new-year",
                "customer-1",
                delivered.spec.code.as_deref().unwrap(),
                "Delivered",
                "1/1",
            ],
        ),
    ] {
        let path = format!("/apis/coupon-operator.dev/v1alpha1/namespaces/{}/{plural}", world.namespace);
        let request = http::Request::get(path).header("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io");
        let table: Value =
            serde_json::from_str(&world.client.request_text(request.body(Vec::new()).unwrap()).await.unwrap()).unwrap();
        let columns = table["columnDefinitions"].as_array().unwrap();
        let cells = table["rows"][0]["cells"].as_array().unwrap();
        let shown: Vec<String> = cells
            .iter()
            .zip(columns)
            .filter(|(_, column)| column["priority"] == 0)
            .map(|(cell, _)| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned))
            .take(expected.len())
            .collect();
        assert_eq!(shown, expected);
    }
}
