//! What only the controller can see is said with what to do, and heals without a restart.

use coupon_operator::api::campaign::Campaign;
use coupon_operator::api::webhook::Webhook;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::PostParams;
use kube::core::DynamicObject;
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::world::{CANARY, World, campaign, condition, said, webhook};

/// Waits for a reason of Ready=False, and returns its message.
async fn webhook_says(world: &World, reason: &str) -> String {
    let webhook = world
        .until::<Webhook>("send-clevertap-email", reason, |w| {
            said(&json!(w), "Ready").0 == reason && condition(&json!(w), "Ready") == "False"
        })
        .await;
    assert_eq!(condition(&json!(webhook), "Reconciling"), "True", "it may come by itself");
    said(&json!(webhook), "Ready").1
}

async fn campaign_says(world: &World, reason: &str) -> Value {
    json!(
        world
            .until::<Campaign>("new-year", reason, |c| said(&json!(c), "Ready").0 == reason
                && condition(&json!(c), "Ready") == "False")
            .await
    )
}

#[tokio::test]
async fn a_missing_secret_then_a_missing_key_then_all_is_well() {
    let world = World::new().await;
    let _operator = world.operator();
    world.apply::<Webhook>(webhook()).await.unwrap();
    world.apply::<Campaign>(campaign(2)).await.unwrap();
    let message = webhook_says(&world, "SecretNotFound").await;
    assert!(message.contains("spec.headers[0].valueFrom (X-CleverTap-Account-Id): Secret clevertap does not exist in this namespace: create it"), "{message}");
    let says = campaign_says(&world, "WebhookNotReady").await;
    assert_eq!(condition(&says, "Reconciling"), "True");
    world
        .apply::<Secret>(
            json!({ "metadata": { "name": "clevertap" }, "stringData": { "accountId": "TEST-W8W-6WR-846Z" } }),
        )
        .await
        .unwrap();
    let message = webhook_says(&world, "SecretKeyNotFound").await;
    assert!(message.contains("Secret clevertap has no key passcode"), "{message}");
    world.apply_secret("two\nlines").await;
    let message = webhook_says(&world, "HeaderValueInvalid").await;
    assert!(!message.contains("two"), "a secret is never shown: {message}");
    assert!(world.stand_in.requests().is_empty(), "a missing Secret sends nothing");
    world.apply_secret(&format!("{CANARY}\n")).await;
    world.until_delivered(2).await;
    world.until_campaign_delivered(2).await;
    world.assert_each_got_one(2);
}

#[tokio::test]
async fn a_missing_config_map_heals_too() {
    let world = World::new().await;
    let _operator = world.operator();
    world.apply_secret(CANARY).await;
    let mut with_map = webhook();
    with_map["spec"]["headers"][2] =
        json!({ "name": "X-Team", "valueFrom": { "configMapKeyRef": { "name": "team", "key": "name" } } });
    world.apply::<Webhook>(with_map).await.unwrap();
    webhook_says(&world, "ConfigMapNotFound").await;
    world.apply::<ConfigMap>(json!({ "metadata": { "name": "team" }, "data": {} })).await.unwrap();
    webhook_says(&world, "ConfigMapKeyNotFound").await;
    world.apply::<ConfigMap>(json!({ "metadata": { "name": "team" }, "data": { "name": "growth" } })).await.unwrap();
    world.apply::<Campaign>(campaign(1)).await.unwrap();
    world.until_delivered(1).await;
    assert_eq!(world.stand_in.requests()[0].header("x-team"), Some("growth"));
}

#[tokio::test]
async fn a_webhook_that_does_not_exist_and_parameters_that_do_not_match() {
    let world = World::new().await;
    let _operator = world.operator();
    world.apply_secret(CANARY).await;
    world.apply::<Campaign>(campaign(2)).await.unwrap();
    let says = campaign_says(&world, "WebhookNotFound").await;
    assert!(
        said(&says, "Ready").1.contains("Webhook send-clevertap-email does not exist in this namespace: create it"),
        "{says}"
    );
    let mut other = webhook();
    other["spec"]["parameters"] = json!([{ "name": "ProfileID", "type": "String" }, { "name": "CouponCode", "type": "String" }, { "name": "Limit", "type": "Number" }]);
    other["spec"]["url"] = "https://eu1.api.clevertap.com/1/upload?limit=${$Limit}".into();
    world.apply::<Webhook>(other).await.unwrap();
    let says = campaign_says(&world, "ParametersMismatch").await;
    let message = said(&says, "Ready").1;
    assert!(message.contains("spec.rules[create-coupon-on-1-january].effects[1].sendWebhook.parameters: Webhook send-clevertap-email needs Limit: add it"), "{message}");
    assert!(world.coupons().await.is_empty());
    world.apply::<Webhook>(webhook()).await.unwrap();
    world.until_delivered(2).await;
}

#[tokio::test]
async fn what_is_wrong_in_a_spec_stalls_with_its_field() {
    let world = World::new().await;
    let _operator = world.operator();
    world.apply_secret(CANARY).await;
    for (field, value, expected) in [
        ("payload", json!("{\n  \"d\": [\n}"), "spec.payload: line 3, column 1: the payload is not JSON"),
        (
            "payload",
            json!(r#"{"d":[{"type":"event","evtName":"App Launched","identity":"x","evtData":{}}]}"#),
            "spec.payload: d[0].evtName: \"App Launched\" is reserved by CleverTap",
        ),
        (
            "url",
            json!("https://${$ProfileID}/"),
            "spec.url: line 1, column 9: a placeholder can stand only in the path and the query",
        ),
    ] {
        let mut wrong = webhook();
        wrong["spec"][field] = value;
        world.apply::<Webhook>(wrong).await.unwrap();
        let stalled = world
            .until::<Webhook>("send-clevertap-email", expected, |w| said(&json!(w), "Stalled").1.contains(expected))
            .await;
        assert_eq!(said(&json!(stalled), "Stalled").0, "Invalid");
    }
    world.apply::<Webhook>(webhook()).await.unwrap();
    for (pointer, value, expected) in [
        ("/spec/timeZone", json!("Mars/Olympus"), "spec.timeZone: Mars/Olympus is no IANA time zone"),
        (
            "/spec/rules/0/schedules/0/onDates/0",
            json!("2023-02-30"),
            "spec.rules[create-coupon-on-1-january].schedules[0].onDates[0]: 2023-02-30 is no day",
        ),
        (
            "/spec/rules/0/effects/1/sendWebhook/parameters/ProfileID",
            json!("${$Profile.Id}"),
            "effects[1].sendWebhook.parameters[ProfileID]: line 1, column 1: Profile.Id is not known",
        ),
    ] {
        let mut wrong = campaign(1);
        *wrong.pointer_mut(pointer).unwrap() = value;
        world.apply::<Campaign>(wrong).await.unwrap();
        let stalled =
            world.until::<Campaign>("new-year", expected, |c| said(&json!(c), "Stalled").1.contains(expected)).await;
        assert_eq!(said(&json!(stalled), "Ready").0, "Invalid");
    }
    world.apply::<Campaign>(campaign(1)).await.unwrap();
    world.until_delivered(1).await;
}

/// A bad object kills nothing: one that an older CRD let through, and that this program cannot read.
#[tokio::test]
async fn i6_absent_crds_are_waited_for_and_an_object_that_cannot_be_read_stops_nobody_else() {
    let world = World::new().await;
    // The API server checks against its CRD only what is written; so the unreadable one is made there
    // by a CRD without our schema, in a control plane of its own.
    let own = control_plane::ControlPlane::start().await.unwrap();
    let kubeconfig = kube::config::Kubeconfig::read_from(own.kubeconfig_path()).unwrap();
    let config =
        kube::Config::from_custom_kubeconfig(kubeconfig, &kube::config::KubeConfigOptions::default()).await.unwrap();
    let client = Client::try_from(config).unwrap();
    let namespace = json!({ "metadata": { "name": "n", "labels": { coupon_operator::api::REHEARSAL_LABEL: "true" } } });
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(client.clone());
    namespaces.create(&PostParams::default(), &serde_json::from_value(namespace).unwrap()).await.unwrap();
    let good = world.elsewhere(client, "n");
    let folder = tempfile::tempdir().unwrap();
    good.stand_in.write_ca(&folder.path().join("ca.pem")).unwrap();
    let log = folder.path().join("log");
    let _operator = control_plane::Spawn::new(env!("CARGO_BIN_EXE_coupon-operator"))
        .args(["run", "--clock-start", crate::world::NEW_YEAR, "--connect-to"])
        .args([format!("eu1.api.clevertap.com:443={}", good.stand_in.address())])
        .args(["--ca-bundle".into(), folder.path().join("ca.pem").into_os_string()])
        .env("KUBECONFIG", own.kubeconfig_path())
        .log_to(&log)
        .unwrap()
        .start()
        .unwrap();
    // CRDs that are absent at the start are waited for.
    let waited = async {
        while !std::fs::read_to_string(&log).unwrap().contains("waiting for the CRDs webhooks.coupon-operator.dev") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::world::LONG, waited).await.unwrap();
    install_crds_without_schema(&good.client).await;
    for kind in ["Webhook", "Campaign", "Coupon"] {
        create_unreadable(&good, kind).await;
    }
    good.apply_scenario(2).await;
    assert!(good.stand_in.wait_for_events(2, crate::world::LONG).await, "{}", std::fs::read_to_string(&log).unwrap());
    good.assert_each_got_one(2);
    assert!(std::fs::read_to_string(&log).unwrap().contains("cannot be read and is left alone"));
}

async fn install_crds_without_schema(client: &Client) {
    let api: Api<k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition> =
        Api::all(client.clone());
    for crd in coupon_operator::api::crds::all() {
        let mut crd = json!(crd);
        let state = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": { "state": { "type": "string" } } });
        let names = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {
            "campaign": { "type": "string" }, "rule": { "type": "string" }, "occurrence": { "type": "string" } } });
        crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"] =
            json!({ "type": "object", "properties": { "spec": names, "status": state } });
        api.create(&PostParams::default(), &serde_json::from_value(crd).unwrap()).await.unwrap();
    }
}

async fn create_unreadable(world: &World, kind: &str) {
    let version = kube::core::GroupVersionKind::gvk("coupon-operator.dev", "v1alpha1", kind);
    let resource = kube::core::ApiResource::from_gvk(&version);
    let api: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), &world.namespace, &resource);
    let object = json!({ "apiVersion": "coupon-operator.dev/v1alpha1", "kind": kind, "metadata": { "name": "unreadable" }, "spec": { "url": 7, "rules": "none", "deliveries": {} } });
    let object: DynamicObject = serde_json::from_value(object).unwrap();
    // A kind that was just installed is served a moment later.
    let created = async {
        while api.create(&PostParams::default(), &object).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::world::LONG, created).await.unwrap();
}
