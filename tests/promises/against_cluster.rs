//! `validate --against-cluster`: what only a cluster knows, and nothing is written.

use std::process::Command;

use coupon_operator::api::campaign::Campaign;
use coupon_operator::api::webhook::Webhook;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};

use crate::occurrences::{apply_and_see, prepare, until_issued};
use crate::steered::SteeredOperator;
use crate::world::{World, campaign, webhook};

/// Validates objects against the world's namespace: exit code and what was said.
fn validate(world: &World, objects: &[Value]) -> (i32, String) {
    let file = world.folder.path().join("manifests.json");
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
    std::fs::write(&file, list.to_string()).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_coupon-operator"))
        .args(["validate", "--against-cluster", "--namespace", &world.namespace, "-f"])
        .arg(&file)
        .env("KUBECONFIG", world.kubeconfig())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout) + &text(output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_a_rename_or_a_move_that_would_grant_again_is_warned_of() {
    let world = World::new().await;
    prepare(&world).await;
    // The codes are issued at the machine's own time: validate asks what is open now.
    let today = chrono::Utc::now();
    let _operator = SteeredOperator::start(&world, &today.to_rfc3339());
    let mut open = campaign(3);
    let days = |from: i64, until: i64| {
        let day = |n: i64| (today + chrono::TimeDelta::days(n)).to_rfc3339();
        json!([{ "after": day(from), "before": day(until) }])
    };
    open["spec"]["rules"][0]["schedules"] = days(-1, 1);
    apply_and_see(&world, open.clone()).await;
    let issued =
        world.until::<Campaign>("new-year", "issued", |c| c.status.as_ref().is_some_and(|s| s.issued == Some(3))).await;
    let key = issued.status.unwrap().occurrences[0].key.clone();
    until_issued(&world, &key, 3).await;

    assert_eq!(
        validate(&world, &[open.clone()]),
        (0, String::new()),
        "the Webhook is in the cluster, and nothing changes"
    );
    let mut renamed = open.clone();
    renamed["spec"]["rules"][0]["name"] = "another-name".into();
    let (code, said) = validate(&world, &[renamed]);
    assert!(code == 0 && said.contains(&format!("Campaign/new-year: warning: spec.rules[another-name]: this rule is new, and rule create-coupon-on-1-january, which is gone, has issued 3 codes for occurrence {key}")), "{said}");
    let mut moved = open.clone();
    moved["spec"]["rules"][0]["schedules"] = days(5, 6);
    let (code, said) = validate(&world, &[moved]);
    assert!(code == 0 && said.contains("was moved clear of the one that was granted"), "{said}");
    let mut elsewhere = open;
    elsewhere["metadata"]["name"] = "newer-year".into();
    let (code, said) = validate(&world, &[elsewhere]);
    assert!(
        code == 0
            && said
                .contains("Campaign/newer-year: warning: this Campaign is new, and Campaign new-year in the cluster"),
        "{said}"
    );
    let campaigns = world.api::<Campaign>().list(&ListParams::default()).await.unwrap().items;
    assert_eq!(campaigns.len(), 1, "nothing was written");
}

#[tokio::test]
async fn what_the_api_server_would_refuse_and_what_is_not_there_is_said() {
    let world = World::new().await;
    let mut bad = campaign(1);
    bad["spec"]["rules"][0]["effects"][0]["createCoupon"]["redemptionLimit"] = json!(-1);
    let (code, said) = validate(&world, &[webhook(), bad]);
    assert_eq!(code, 1);
    assert!(
        said.contains("Campaign/new-year: error: the API server refuses it") && said.contains("redemptionLimit"),
        "{said}"
    );
    assert!(said.contains("Webhook/send-clevertap-email: warning: spec.headers[0].valueFrom: Secret clevertap is neither in the files nor in the cluster"), "{said}");
    world.apply_secret("x").await;
    let (code, said) = validate(&world, &[campaign(1)]);
    assert!(code == 0 && said.contains("Webhook send-clevertap-email does not exist"), "{said}");
    let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "clevertap" }, "stringData": { "accountId": "a" } });
    world.api::<Secret>().delete("clevertap", &DeleteParams::default()).await.unwrap();
    let (code, said) = validate(&world, &[webhook(), secret]);
    assert!(code == 0 && said.contains("spec.headers[1].valueFrom: Secret clevertap has no key passcode"), "{said}");
    assert!(world.api::<Webhook>().list(&ListParams::default()).await.unwrap().items.is_empty(), "nothing was written");
}
