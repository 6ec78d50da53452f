//! `preview` and `validate`: the real binary, offline, on manifests as marketers write them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

const SCENARIO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/clevertap-new-year.yaml");
const CALENDAR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/calendar.yaml");

struct Ran {
    code: i32,
    out: String,
    err: String,
}

fn ran(output: &Output) -> Ran {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    Ran { code: output.status.code().unwrap(), out: text(&output.stdout), err: text(&output.stderr) }
}

fn operator(arguments: &[&str]) -> Ran {
    ran(&Command::new(env!("CARGO_BIN_EXE_coupon-operator")).args(arguments).output().unwrap())
}

/// The same with manifests on standard input.
fn operator_with(arguments: &[&str], manifests: &Value) -> Ran {
    let mut child = Command::new(env!("CARGO_BIN_EXE_coupon-operator"))
        .args(arguments)
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(manifests.to_string().as_bytes()).unwrap();
    ran(&child.wait_with_output().unwrap())
}

fn rows(ran: &Ran) -> Vec<Value> {
    ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A Webhook and a Campaign with one rule, as a List, which kubectl takes too.
fn list(changes: &Value) -> Value {
    let webhook = json!({
        "apiVersion": "coupon-operator.dev/v1alpha1", "kind": "Webhook", "metadata": { "name": "w" },
        "spec": { "url": "https://shop.example/codes", "parameters": [{ "name": "Code", "type": "String" }], "payload": "{\"code\": \"${$Code}\"}" },
    });
    let mut campaign = json!({
        "apiVersion": "coupon-operator.dev/v1alpha1", "kind": "Campaign", "metadata": { "name": "c" },
        "spec": {
            "timeZone": "Europe/Berlin", "audience": { "profiles": [{ "integrationId": "a" }, { "integrationId": "b" }] },
            "rules": [{ "name": "r", "effects": [{ "createCoupon": {} }, { "sendWebhook": { "webhookRef": { "name": "w" }, "parameters": { "Code": "${$Coupon.Code}" } } }] }],
        },
    });
    for (pointer, value) in changes.as_object().unwrap() {
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        campaign.pointer_mut(parent).unwrap()[field] = value.clone();
    }
    json!({ "apiVersion": "v1", "kind": "List", "items": [webhook, campaign] })
}

#[test]
fn the_scenarios_window_is_the_first_of_january_in_berlin() {
    let range = ["--from", "2022-01-01", "--until", "2024-01-01"];
    let table = operator(&[&["preview", "windows", "-f", SCENARIO][..], &range].concat());
    assert_eq!((table.code, table.err.as_str()), (0, ""));
    let lines: Vec<&str> = table.out.lines().collect();
    assert_eq!(
        lines[0].split_whitespace().collect::<Vec<_>>(),
        ["CAMPAIGN", "RULE", "OCCURRENCE", "OPENS", "CLOSES", "LASTS"]
    );
    assert!(lines[1].contains("Sun 2023-01-01 00:00 CET   Mon 2023-01-02 00:00 CET   1d"), "{}", lines[1]);
    let ndjson = operator(&[&["preview", "windows", "-f", SCENARIO, "-o", "ndjson"][..], &range].concat());
    assert_eq!(
        ndjson.out,
        "{\"campaign\":\"new-year\",\"rule\":\"create-coupon-on-1-january\",\"occurrence\":\"20230101\",\"opens\":\"2022-12-31T23:00:00Z\",\"closes\":\"2023-01-01T23:00:00Z\"}\n"
    );
}

#[test]
fn windows_are_whole_in_order_over_all_rules_and_open_at_any_time_in_the_range() {
    let rule = |name: &str, schedules: Value| {
        let mut rule = list(&json!({}))["items"][1]["spec"]["rules"][0].clone();
        (rule["name"], rule["schedules"]) = (name.into(), schedules);
        rule
    };
    let rules = json!([
        rule("late", json!([{ "timeOfDay": { "from": "20:00", "to": "02:00" } }])),
        rule("early", json!([{ "timeOfDay": { "from": "06:00", "to": "07:00" } }])),
        rule("always", json!([])),
        rule("ends", json!([{ "before": "2023-01-02T12:00" }])),
    ]);
    let manifests = list(&json!({ "/spec/rules": rules }));
    let range =
        ["preview", "windows", "-o", "ndjson", "--from", "2023-01-02T01:00", "--until", "2023-01-02T20:00:00+01:00"];
    let found = rows(&operator_with(&range, &manifests));
    let shown: Vec<String> =
        found.iter().map(|r| format!("{} {} {}", r["rule"].as_str().unwrap(), r["opens"], r["closes"])).collect();
    assert_eq!(
        shown,
        [
            "always null null",
            "ends null \"2023-01-02T11:00:00Z\"",
            "late \"2023-01-01T19:00:00Z\" \"2023-01-02T01:00:00Z\"",
            "early \"2023-01-02T05:00:00Z\" \"2023-01-02T06:00:00Z\"",
        ]
    );
    assert_eq!(found[0]["occurrence"], "open");
}

#[test]
fn three_campaigns_that_marketers_write() {
    let windows = operator(&[
        "preview",
        "windows",
        "-f",
        CALENDAR,
        "-o",
        "ndjson",
        "--from",
        "2026-12-01",
        "--until",
        "2027-02-01",
        "--recipient",
        "ada",
    ]);
    assert_eq!((windows.code, windows.err.as_str()), (0, ""));
    let of = |campaign: &str| -> Vec<String> {
        let of_campaign = rows(&windows).into_iter().filter(|row| row["campaign"] == campaign);
        of_campaign
            .map(|row| {
                format!(
                    "{} {}/{}",
                    row["occurrence"].as_str().unwrap(),
                    row["opens"].as_str().unwrap(),
                    row["closes"].as_str().unwrap()
                )
            })
            .collect()
    };
    assert_eq!(of("birthday"), ["2026 2026-12-02T23:00:00Z/2026-12-10T23:00:00Z"]);
    // Four Fridays in December, of which two are between the years; in January the first is a holiday.
    let fridays = ["20261204", "20261211", "20261218", "20270108", "20270115", "20270122", "20270129"];
    let expected =
        fridays.map(|d| format!("{d}T0900 {0}-{1}-{2}T08:00:00Z/{0}-{1}-{2}T16:00:00Z", &d[..4], &d[4..6], &d[6..]));
    assert_eq!(of("happy-friday"), expected);
    assert_eq!(
        of("pay-day"),
        ["2026-12 2026-12-25T17:00:00Z/2026-12-27T23:00:00Z", "2027-01 2027-01-29T17:00:00Z/2027-01-31T23:00:00Z"]
    );
    let nobody = operator(&["preview", "windows", "-f", CALENDAR, "--from", "2026-12-01"]);
    assert_eq!(nobody.code, 1, "a rule by birthdays cannot be answered without a recipient");
    assert!(
        nobody.err.contains(
            "Campaign/birthday: error: rule birthday goes by each recipient's own date: say whose with --recipient ID"
        ),
        "{}",
        nobody.err
    );
}

#[test]
fn who_gets_no_code_is_told_what_failed() {
    let found = operator(&["preview", "recipients", "-f", CALENDAR, "-o", "ndjson", "--at", "2026-12-04T10:00"]);
    assert_eq!(found.code, 0, "{}", found.err);
    let shown: Vec<String> = rows(&found)
        .iter()
        .map(|r| {
            format!(
                "{}/{} {} {} {}",
                r["campaign"].as_str().unwrap(),
                r["occurrence"].as_str().unwrap_or("-"),
                r["recipient"].as_str().unwrap(),
                r["granted"],
                r["reason"].as_str().unwrap_or("-")
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            "birthday/2026 ada true -",
            "birthday/- grace false no anniversary is open: the next opens at 2027-02-21T00:00:00+01:00",
            "happy-friday/20261204T0900 ada true -",
            r#"happy-friday/20261204T0900 grace false eligibility: profile.attributes.tier in ["gold", "platinum"] is false"#,
            r#"happy-friday/20261204T0900 alan false eligibility: profile.attributes.tier in ["gold", "platinum"]: tier is missing"#,
            "pay-day/- ada false no window is open: the next opens at 2026-12-25T18:00:00+01:00",
            "pay-day/- grace false no window is open: the next opens at 2026-12-25T18:00:00+01:00",
        ]
    );
    assert!(found.err.contains("happy-friday: 1 get a code"), "{}", found.err);
}

#[test]
fn a_missing_value_a_spent_budget_and_a_repeated_id_are_said() {
    let manifests = list(&json!({
        "/spec/audience/profiles": [{ "integrationId": "a", "attributes": { "name": "A" } }, { "integrationId": "b" }, { "integrationId": " a " }, { "integrationId": "c", "attributes": { "name": "C" } }],
        "/spec/budgets": [{ "period": "Day", "maxCoupons": 1 }],
        "/spec/rules/0/effects/1/sendWebhook/parameters/Code": "${$Profile.Attributes.name}",
    }));
    let found = operator_with(&["preview", "recipients", "-o", "ndjson", "--at", "2023-01-01"], &manifests);
    let reasons: Vec<String> =
        rows(&found).iter().map(|r| format!("{} {}", r["recipient"].as_str().unwrap(), r["reason"])).collect();
    let spent = "\"the budget of 1 coupons for the Day is spent\"";
    assert_eq!(reasons, ["a null".to_owned(), format!("b {spent}"), format!("c {spent}")]);
    assert!(found.err.contains("the audience names 1 ids more than once"), "{}", found.err);
    let mut unlimited = manifests;
    unlimited["items"][1]["spec"].as_object_mut().unwrap().remove("budgets");
    let found = rows(&operator_with(&["preview", "recipients", "-o", "ndjson", "--at", "2023-01-01"], &unlimited));
    assert_eq!(found[1]["reason"], "sendWebhook.w.Code: Missing Profile.Attributes.name");
}

#[test]
fn i7_requests_are_shown_as_they_would_be_sent_and_without_secrets() {
    let found = operator(&["preview", "requests", "-f", SCENARIO, "-o", "ndjson", "--at", "2023-01-01T09:00"]);
    assert_eq!((found.code, found.err.as_str()), (0, ""));
    assert!(!found.out.contains("DEMO-PASS") && !found.out.contains("TEST-W8W"));
    let rows = rows(&found);
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0]["url"], "https://eu1.api.clevertap.com/1/upload");
    assert_eq!(rows[0]["headers"]["X-CleverTap-Passcode"], "<redacted>");
    let body: Value = serde_json::from_str(rows[0]["body"].as_str().unwrap()).unwrap();
    assert_eq!(
        (body["d"][0]["identity"].as_str(), body["d"][0]["evtName"].as_str()),
        (Some("customer-1"), Some("Coupon Generated"))
    );
    assert_eq!(body["d"][0]["evtData"]["CouponCode"].as_str().unwrap().len(), 14);
    let text = operator(&["preview", "requests", "-f", SCENARIO, "--at", "2023-01-01", "--limit", "1"]);
    assert!(
        text.out.starts_with(
            "# new-year / create-coupon-on-1-january / 20230101: customer-1 → send-clevertap-email\nPOST https://"
        ),
        "{}",
        text.out
    );
    assert!(text.err.contains("only 1 requests are shown"), "{}", text.err);
}

#[test]
fn an_except_in_the_middle_of_a_window_is_warned_of() {
    let schedules = json!([{ "daysOfWeek": ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday"], "except": [{ "onDates": ["2023-01-04"] }] }]);
    let mut manifests = list(&json!({ "/spec/rules/0/schedules": schedules }));
    let arguments = ["preview", "windows", "--from", "2023-01-01", "--until", "2023-01-15"];
    let found = operator_with(&arguments, &manifests);
    assert!(found.err.contains("warning: rule r: except cuts 1 windows in parts"), "{}", found.err);
    manifests["items"][1]["spec"]["rules"][0]["oncePer"] = "Week".into();
    assert_eq!(operator_with(&arguments, &manifests).err, "");
}

#[test]
fn profiles_from_a_file_stand_in_for_the_audience() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let look = |path: &str| {
        operator(&["preview", "recipients", "-f", SCENARIO, "--at", "2023-01-01", "-o", "ndjson", "--profiles", path])
    };
    let ndjson = file("p.ndjson", "{\"integrationId\":\"x\"}\n{\"integrationId\":\"y\",\"attributes\":{}}\n");
    assert_eq!(rows(&look(&ndjson)).iter().map(|r| r["recipient"].clone()).collect::<Vec<_>>(), ["x", "y"]);
    let csv = file("p.csv", "integrationId,tier\nz,gold\n");
    assert_eq!(rows(&look(&csv))[0]["recipient"], "z");
    let bad = look(&file("bad.ndjson", "{\"integrationId\":\"x\"}\nnot json\n"));
    assert!(bad.code == 1 && bad.err.contains("bad.ndjson: line 2: is no profile"), "{}", bad.err);
}

#[test]
fn errors_name_file_object_and_field_and_nothing_is_previewed() {
    let manifests = list(
        &json!({ "/spec/rules/0/eligibility": "profile.tier == 1", "/spec/rules/0/schedules": [{ "cron": "0 9 * *" }] }),
    );
    for what in ["windows", "recipients", "requests"] {
        let found = operator_with(&["preview", what], &manifests);
        assert_eq!((found.code, found.out.as_str()), (1, ""), "{what}");
        assert!(
            found.err.contains("standard input: Campaign/c: error: spec.rules[r].schedules[0].cron: 4 fields"),
            "{}",
            found.err
        );
        assert!(found.err.contains("spec.rules[r].eligibility: profile.tier is not known"), "{}", found.err);
    }
    let validated = operator_with(&["validate"], &manifests);
    assert_eq!((validated.code, validated.out.lines().count()), (1, 2), "{}", validated.out);
    let without = json!({ "apiVersion": "v1", "kind": "List", "items": [list(&json!({}))["items"][1]] });
    let found = operator_with(&["preview", "recipients", "-o", "ndjson"], &without);
    assert!(
        found.code == 0 && found.err.contains("warning: Webhook w is not in the files: its parameters are not checked"),
        "{}",
        found.err
    );
    assert_eq!(rows(&found).len(), 2);
    let found = operator_with(&["preview", "requests"], &without);
    assert!(
        found.code == 1 && found.out.is_empty() && found.err.contains("its requests cannot be shown"),
        "{}",
        found.err
    );
    assert_eq!(
        operator_with(&["preview", "windows", "--from", "soon"], &without).code,
        2,
        "a wrong option is a usage error"
    );
    assert!(!Path::new("/nowhere.yaml").exists());
    let absent = operator(&["preview", "windows", "-f", "/nowhere.yaml"]);
    assert!(absent.code == 1 && absent.err.contains("/nowhere.yaml: error: cannot be read"), "{}", absent.err);
}

#[test]
fn mistakes_that_people_make_are_said_in_one_line_with_what_to_write() {
    for (pointer, value, words) in [
        ("/spec/rules/0/eligibility", json!("profile.attributes.tier = 'gold'"), "write == to compare"),
        (
            "/spec/rules/0/eligibility",
            json!("profile.attributes.a and profile.attributes.b"),
            "write && instead of and",
        ),
        ("/spec/rules/0/eligibility", json!(true), "spec.rules[0].eligibility: is true or false: write it in quotes"),
        ("/spec/rules/0/schedules", json!([{}]), "spec.rules[r].schedules[0]: says nothing of when it holds"),
        (
            "/spec/rules/0/schedules",
            json!([{ "daysOfWeek": ["Monday"], "except": [{}] }]),
            "schedules[0].except[0]: says nothing",
        ),
        ("/spec/rules/0/schedules", json!([{ "onDates": [], "daysOfWeek": ["Monday"] }]), "onDates: has 0 entries"),
        (
            "/spec/rules/0/schedules",
            json!([{ "monthDay": ["12-24"] }]),
            "monthDay: no such field: did you mean monthDays?",
        ),
        (
            "/spec/rules/0/schedules",
            json!([{ "onDates": ["2023-01-01"], "except": [{ "onDates": ["2023-01-01"] }] }]),
            "can never open",
        ),
        ("/spec/rules/0/oncePer", json!("week"), "spec.rules[0].oncePer: week is not known: write "),
        ("/spec/rules/0/effects/0/createCoupon", json!({ "pattern": "XMAS" }), "XMAS has no # for a random character"),
        ("/spec/startTime", json!("2026-12-24"), "spec.startTime: 2026-12-24 is no time with an offset"),
        ("/spec/timeZone", json!("Europe/Berln"), "spec.timeZone: Europe/Berln is no IANA time zone"),
    ] {
        let said = operator_with(&["validate"], &list(&json!({ pointer: value })));
        assert_eq!(said.code, 1, "{pointer}: {}", said.out);
        assert!(said.out.lines().any(|line| line.contains(words)), "{pointer}: {}", said.out);
    }
    let once = list(&json!({}));
    let twice =
        json!({ "apiVersion": "v1", "kind": "List", "items": [once["items"][0], once["items"][1], once["items"][1]] });
    let said = operator_with(&["validate"], &twice);
    assert!(said.code == 1 && said.out.contains("Campaign/c: error: is in the files more than once"), "{}", said.out);
    let nothing = operator_with(&["validate"], &json!({ "apiVersion": "v1", "kind": "List", "items": [] }));
    assert!(nothing.code == 1 && nothing.out.contains("there is no Webhook, Campaign or Coupon"), "{}", nothing.out);
    let backwards = operator(&["preview", "windows", "-f", SCENARIO, "--from", "2027-01-01", "--until", "2026-01-01"]);
    assert!(backwards.code == 2 && backwards.err.contains("--until must be after --from"), "{}", backwards.err);
}

/// `| head` closes the pipe.
#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let manifests = list(&json!({ "/spec/rules/0/schedules": [{ "cron": "* * * * *", "windowSeconds": 30 }] }));
    let mut child = Command::new(env!("CARGO_BIN_EXE_coupon-operator"))
        .args(["preview", "windows", "--from", "2023-01-01", "--until", "2024-01-01", "-o", "ndjson", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(manifests.to_string().as_bytes()).unwrap();
    drop(child.stdout.take());
    let ended = ran(&child.wait_with_output().unwrap());
    assert_eq!((ended.code, ended.err.as_str()), (0, ""));
}
