//! `export` and `failures`: what was issued, for a shop and for people.

use std::collections::BTreeMap;
use std::process::Command;

use clevertap_stand_in::Fault;
use coupon_operator::api::campaign::Campaign;
use coupon_operator::api::webhook::Webhook;
use coupon_operator::records::Records;
use serde_json::{Value, json};

use crate::world::{World, campaign, state, webhook};

/// What a command says: exit code, standard output, standard error.
fn ask(world: &World, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_coupon-operator"))
        .args(arguments)
        .args(["--namespace", &world.namespace])
        .env("KUBECONFIG", world.kubeconfig())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn codes_are_exported_as_talon_one_imports_them_and_who_got_none_is_named() {
    for batch in [1, 2] {
        let world = World::new().await;
        let _operator = world.operator();
        world.apply_scenario(0).await;
        let mut batched = webhook();
        batched["spec"]["batch"] = json!({ "maxSize": batch, "recordsAt": "/d" });
        world.apply::<Webhook>(batched).await.unwrap();
        world.stand_in.set_fault_for("customer-2", Some(Fault::status(400)));
        let mut three = campaign(3);
        three["spec"]["rules"][0]["effects"][0]["createCoupon"]["expiryTime"] = "2023-02-01T00:00:00Z".into();
        three["spec"]["rules"][0]["effects"][0]["createCoupon"]["attributes"] =
            json!({ "for": "${$Profile.IntegrationId}, new year" });
        world.apply::<Campaign>(three).await.unwrap();
        let ended = |c: &Campaign| {
            c.status.as_ref().unwrap().failed == Some(1) && c.status.as_ref().unwrap().delivered == Some(2)
        };
        world.until::<Campaign>("new-year", "all came to their end", ended).await;
        let coupons = world.coupons().await;
        let issued: BTreeMap<String, String> = coupons
            .iter()
            .flat_map(|coupon| Records::of(&coupon.spec).iter().collect::<Vec<_>>())
            .map(|(_, record)| (record.recipient().to_owned(), record.code().to_owned()))
            .collect();

        let (code, csv, _) = ask(&world, &["export", "new-year"]);
        assert_eq!(code, 0);
        let mut reader = csv::Reader::from_reader(csv.as_bytes());
        assert_eq!(
            reader.headers().unwrap().iter().collect::<Vec<_>>().join(","),
            "value,expirydate,startdate,recipientintegrationid,limitval,discountlimit,attributes"
        );
        let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        assert_eq!(rows.iter().map(|r| (r[3].to_owned(), r[0].to_owned())).collect::<BTreeMap<_, _>>(), issued);
        for row in &rows {
            let attributes: Value = serde_json::from_str(&row[6]).unwrap();
            assert_eq!(attributes, json!({ "for": format!("{}, new year", &row[3]) }));
            assert_eq!((&row[1], &row[4]), ("2023-02-01T00:00:00Z", "100"));
        }
        let (_, ndjson, _) = ask(&world, &["export", "new-year", "-o", "ndjson", "--occurrence", "20230101"]);
        let lines: Vec<Value> = ndjson.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.iter().filter(|line| line["state"] == "Delivered").count(), 2, "{ndjson}");
        let (code, nothing, _) = ask(&world, &["export", "new-year", "--occurrence", "20240101"]);
        assert_eq!((code, nothing.lines().count()), (0, 1), "the header alone");

        let (_, ndjson, _) = ask(&world, &["failures", "new-year", "-o", "ndjson"]);
        let lines: Vec<Value> = ndjson.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 1, "{ndjson}");
        assert_eq!((&lines[0]["recipient"], &lines[0]["end"]), (&json!("customer-2"), &json!("Failed")));
        assert!(lines[0]["message"].as_str().is_some_and(|said| said.contains("400")), "{ndjson}");
        let (code, said, _) = ask(&world, &["status", "new-year"]);
        assert!(code == 0 && said.contains("] 3 of 3") && said.contains("] 2"), "{said}");
        assert!(said.contains("troubles: 1 send-clevertap-email: 400"), "{said}");
        let (_, table, _) = ask(&world, &["failures", "new-year"]);
        assert!(table.starts_with("RECIPIENT") && table.contains("customer-2"), "{table}");
        assert!(coupons.iter().any(|coupon| state(coupon).contains("Failed")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_campaign_that_does_not_exist_is_an_error_and_one_without_coupons_is_none() {
    let world = World::new().await;
    for command in ["export", "failures", "status"] {
        let (code, _, said) = ask(&world, &[command, "new-yeer"]);
        assert_eq!(code, 1);
        assert!(said.contains("has no Campaign new-yeer"), "{said}");
    }
    world.apply::<Campaign>(campaign(1)).await.unwrap();
    assert_eq!(ask(&world, &["failures", "new-year", "-o", "ndjson"]), (0, String::new(), String::new()));
}

/// What is watched is shown as it changes, until it is interrupted.
#[tokio::test(flavor = "multi_thread")]
async fn a_campaign_is_watched_as_it_goes() {
    use std::io::{BufRead, BufReader};

    let world = World::new().await;
    let _operator = world.operator();
    world.apply_scenario(0).await;
    world.apply::<Campaign>(campaign(0)).await.unwrap();
    let mut watching = Command::new(env!("CARGO_BIN_EXE_coupon-operator"))
        .args(["status", "--watch", "--namespace", &world.namespace])
        .env("KUBECONFIG", world.kubeconfig())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.starts_with("new-year: ")));
    world.apply::<Campaign>(campaign(3)).await.unwrap();
    assert!(lines.any(|line| line.contains("issued") && line.ends_with("] 3 of 3")));
    assert!(lines.any(|line| line.contains("delivered") && line.contains("[##############################] 3")));
    watching.kill().unwrap();
    watching.wait().unwrap();
}
