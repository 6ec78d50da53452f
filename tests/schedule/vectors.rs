//! Cron expressions and recurrence rules, compared with vectors that other implementations published.
//! Where they come from, and what was left out: `vectors/README.md`.

use std::path::PathBuf;

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use coupon_operator::api::campaign::CampaignSpec;
use coupon_operator::schedule::{Calendar, ScheduleError};
use serde_json::{Value, json};

fn rows(file: &str) -> Vec<Vec<String>> {
    let folder = std::env::var("SCHEDULE_VECTORS")
        .map_or_else(|_| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/schedule/vectors"), PathBuf::from);
    let text = std::fs::read_to_string(folder.join(file)).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

fn calendar(schedule: &Value) -> Result<Calendar, ScheduleError> {
    let spec: CampaignSpec = serde_json::from_value(json!({
        "audience": { "profiles": [] }, "rules": [{ "name": "r", "schedules": [schedule], "effects": [] }],
    }))
    .unwrap();
    Calendar::of(&spec, &spec.rules[0])
}

fn cron(expression: &str) -> Result<Calendar, ScheduleError> {
    calendar(&json!({ "cron": expression, "windowSeconds": 1 }))
}

fn time(text: &str) -> DateTime<Utc> {
    text.parse::<NaiveDateTime>().unwrap().and_utc()
}

#[test]
fn cron_ticks_are_those_of_other_implementations() {
    let vectors = rows("cron.tsv");
    for row in &vectors {
        let [source, expression, from, next] = &row[..] else { panic!("{row:?}") };
        match cron(expression) {
            Ok(calendar) => {
                let expected = (next != "never").then(|| time(next));
                assert_eq!(calendar.next_opening(time(from)), expected, "{source}: {expression} from {from}");
            }
            Err(error) => assert!(next == "never", "{source}: {expression}: {error}"),
        }
    }
    assert!(vectors.len() > 150, "{}", vectors.len());
    for row in rows("cron-inactive.tsv") {
        let [source, expression, at] = &row[..] else { panic!("{row:?}") };
        let open = cron(expression).unwrap().open_at(time(at));
        assert_eq!(open, None, "{source}: {expression} at {at}");
    }
}

#[test]
fn what_others_refuse_as_cron_is_refused() {
    let rows = rows("cron-invalid.tsv");
    for row in &rows {
        let [source, expression] = &row[..] else { panic!("{row:?}") };
        assert!(matches!(cron(expression), Err(ScheduleError::Cron { .. })), "{source}: {expression}");
    }
    assert!(rows.len() > 20, "{}", rows.len());
}

fn recurrence(start: &str, rule: &str) -> Result<Calendar, ScheduleError> {
    calendar(&json!({ "rrule": { "start": start, "rule": rule }, "windowSeconds": 1 }))
}

#[test]
fn recurrences_are_those_of_the_rfc_and_of_other_implementations() {
    let rows = rows("rrule.tsv");
    let mut compared = 0;
    for row in &rows {
        let [source, start, rule, expected] = &row[..] else { panic!("{row:?}") };
        let (times, goes_on) = match expected.strip_suffix('…') {
            Some(first) => (first, true),
            None => (expected.as_str(), false),
        };
        let expected: Vec<DateTime<Utc>> = times.split_whitespace().map(time).collect();
        let calendar = match recurrence(start, rule) {
            Ok(calendar) => calendar,
            Err(ScheduleError::NeverOpens(_)) if expected.is_empty() => continue,
            Err(error) => panic!("{source}: {rule} from {start}: {error}"),
        };
        let most = expected.len() + usize::from(!goes_on);
        let until = time(start) + TimeDelta::days(365 * 202);
        let found: Vec<_> = calendar.windows(time(start), until).take(most).filter_map(|w| w.start_time).collect();
        assert_eq!(found, expected, "{source}: {rule} from {start}");
        compared += found.len();
    }
    assert!(rows.len() > 100 && compared > 500, "{} {compared}", rows.len());
}

/// Section 3.3.10 says which parts go with which FREQ.
#[test]
fn what_the_rfc_forbids_is_refused() {
    let rows = rows("rrule-invalid.tsv");
    for row in &rows {
        let [source, start, rule] = &row[..] else { panic!("{row:?}") };
        assert!(matches!(recurrence(start, rule), Err(ScheduleError::Recurrence { .. })), "{source}: {rule}");
    }
    assert!(rows.len() > 30, "{}", rows.len());
}
