//! `test-send`: one request, before anybody gets a code.

use std::process::Command;

use coupon_operator::api::campaign::Campaign;
use serde_json::{Value, json};

use crate::world::{CANARY, World, campaign, webhook};

/// Sends one request for somebody: exit code and what was said.
fn test_send(world: &World, objects: &[Value], arguments: &[&str]) -> (i32, String) {
    let file = world.folder.path().join("manifests.json");
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
    std::fs::write(&file, list.to_string()).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_coupon-operator"))
        .args(["test-send", "--namespace", &world.namespace, "-f"])
        .arg(&file)
        .args(arguments)
        .arg("--ca-bundle")
        .arg(world.folder.path().join("ca.pem"))
        .args(["--connect-to", &format!("eu1.api.clevertap.com:443={}", world.stand_in.address())])
        .args(["--connect-to", &format!("shop.example:443={}", world.stand_in.address())])
        .env("KUBECONFIG", world.kubeconfig())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout) + &text(output.stderr))
}

const NEW_YEAR: [&str; 2] = ["--at", "2023-01-01T12:00"];

#[tokio::test(flavor = "multi_thread")]
async fn i7_one_request_is_tried_dry_and_its_answer_shown_without_a_secret() {
    let world = World::new().await;
    let objects = [webhook(), campaign(2)];
    let ask = |arguments: &[&str]| test_send(&world, &objects, &[&["--recipient", "customer-2"], arguments].concat());
    let (code, said) = ask(&NEW_YEAR);
    assert!(code == 1 && said.contains("Secret clevertap does not exist in this namespace"), "{said}");
    world.apply_secret(CANARY).await;
    let (code, said) = ask(&NEW_YEAR);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("/1/upload?dryRun=1") && said.contains("\"processed\"") && said.contains("Accepted"),
        "{said}"
    );
    assert!(said.contains("X-CleverTap-Passcode: <redacted>") && !said.contains(CANARY), "{said}");
    assert_eq!((world.stand_in.requests().len(), world.stand_in.events().len()), (1, 0), "nothing is stored");
    assert!(world.coupons().await.is_empty());
    world.stand_in.set_passcode("another");
    let (code, said) = ask(&NEW_YEAR);
    assert!(code == 1 && said.contains("401 after") && said.contains("CredentialsRejected"), "{said}");
    world.stand_in.set_passcode(CANARY);
    let (code, said) = ask(&[&NEW_YEAR[..], &["--for-real"]].concat());
    assert_eq!((code, world.stand_in.events().len()), (0, 1), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_gets_no_code_is_told_why_and_nobody_is_told_by_accident() {
    let world = World::new().await;
    let objects = [webhook(), campaign(2)];
    let (code, said) = test_send(&world, &objects, &["--recipient", "customer-2", "--at", "2023-01-02T12:00"]);
    assert!(code == 1 && said.contains("customer-2 gets no code: rule create-coupon-on-1-january: "), "{said}");
    let (code, said) = test_send(&world, &objects, &["--recipient", "nobody", "--at", "2023-01-01T12:00"]);
    assert!(code == 1 && said.contains("nobody gets no code: no audience names them"), "{said}");
    let (code, said) =
        test_send(&world, &objects, &[&["--recipient", "customer-1", "--delivery", "other"], &NEW_YEAR[..]].concat());
    assert!(code == 1 && said.contains("--delivery: the rule has send-clevertap-email"), "{said}");
    let mut plain = webhook();
    plain["spec"]["responseFormat"] = "HTTPStatus".into();
    let (code, said) =
        test_send(&world, &[plain, campaign(2)], &[&["--recipient", "customer-1"], &NEW_YEAR[..]].concat());
    assert!(code == 1 && said.contains("say --for-real"), "{said}");
    assert!(world.stand_in.requests().is_empty());
    assert!(world.api::<Campaign>().list(&kube::api::ListParams::default()).await.unwrap().items.is_empty());
}
