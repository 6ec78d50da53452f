//! `preview recipients` over a million profiles: the design's figure is 5 s on 2 cores.
//!
//! Measured on the release binary, from start to exit, with its output going to a file: from NDJSON, from CSV, and from a
//! Campaign that holds the profiles itself.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const PROFILES: usize = 1_000_000;
const WANTED: Duration = Duration::from_secs(5);

const CONDITION: &str = r#"profile.attributes.tier in ["gold", "platinum"] && int(profile.attributes.age) >= 18 && profile.attributes.country == "DE""#;

fn campaign() -> String {
    let seed = include_str!("../examples/clevertap-new-year.yaml");
    let condition = format!("      eligibility: '{CONDITION}'\n      effects:");
    seed.replace("      effects:", &condition)
}

fn attributes(i: usize) -> (&'static str, usize, &'static str) {
    let tier = ["gold", "silver", "platinum", "none"][i % 4];
    (tier, i % 90, ["DE", "FR", "NL"][i % 3])
}

fn write(path: &Path, mut line: impl FnMut(&mut dyn Write, usize)) {
    let mut file = BufWriter::new(File::create(path).unwrap());
    (0..PROFILES).for_each(|i| line(&mut file, i));
    file.flush().unwrap();
}

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("campaign.yaml"), campaign()).unwrap();
    write(&at("profiles.ndjson"), |out, i| {
        let (tier, age, country) = attributes(i);
        writeln!(out, r#"{{"integrationId":"customer-{i}","attributes":{{"tier":"{tier}","age":{age},"country":"{country}","name":"Ada {i}","email":"{i}@example.com","city":"Berlin"}}}}"#).unwrap();
    });
    write(&at("profiles.csv"), |out, i| {
        if i == 0 {
            writeln!(out, "integrationId,tier,age,country,name,email,city").unwrap();
        }
        let (tier, age, country) = attributes(i);
        writeln!(out, "customer-{i},{tier},{age},{country},Ada {i},{i}@example.com,Berlin").unwrap();
    });
    let (first, rest) = campaign().split_once("    profiles:\n").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let rest = rest.split_once("  rules:").unwrap().1.to_owned();
    write(&at("inline.yaml"), |out, i| {
        if i == 0 {
            writeln!(out, "{first}    profiles:").unwrap();
        }
        let (tier, age, country) = attributes(i);
        writeln!(out, "      - integrationId: customer-{i}\n        attributes: {{ tier: {tier}, age: {age}, country: {country} }}").unwrap();
        if i == PROFILES - 1 {
            write!(out, "  rules:{rest}").unwrap();
        }
    });
    let profiles = |name: &str| vec!["-f".into(), at("campaign.yaml"), "--profiles".into(), at(name)];
    let cases = [
        ("NDJSON, 6 attributes, 3 clauses", profiles("profiles.ndjson"), true),
        ("CSV, 6 attributes, 3 clauses", profiles("profiles.csv"), true),
        ("a Campaign of 1,000,000 profiles in YAML", vec!["-f".into(), at("inline.yaml")], false),
    ];
    let mut slow = false;
    for (what, arguments, counts) in cases {
        let mut took: Vec<Duration> = (0..3).map(|_| run(&arguments, &at("out"))).collect();
        took.sort();
        println!("{what}: {:.2?} (of three: {took:.2?}), wanted {WANTED:?}", took[1]);
        slow |= counts && took[1] > WANTED;
    }
    assert!(!slow, "slower than wanted");
}

fn run(arguments: &[std::path::PathBuf], out: &Path) -> Duration {
    let begun = Instant::now();
    let status = Command::new(env!("CARGO_BIN_EXE_coupon-operator"))
        .args(["preview", "recipients", "--at", "2023-01-01T09:00", "-o", "ndjson"])
        .args(arguments)
        .stdout(File::create(out).unwrap())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    let took = begun.elapsed();
    assert!(status.success());
    let text = std::fs::read_to_string(out).unwrap();
    assert_eq!(text.lines().count(), PROFILES);
    let granted = text.lines().filter(|line| line.contains(r#""granted":true"#)).count();
    assert!(granted > 0 && granted < PROFILES / 2, "{granted}");
    took
}
