#![no_main]

use coupon_operator_fuzz::{ZONES, ask};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|input: (u8, i64, u16, &str)| {
    let (zone, at, day, rule) = input;
    let start = chrono::NaiveDate::from_ymd_opt(1970, 1, 1).unwrap() + chrono::Days::new(u64::from(day));
    let schedules = json!([{ "rrule": { "start": format!("{start}T02:30"), "rule": rule } }]);
    ask(ZONES[usize::from(zone) % ZONES.len()], "Day", &schedules, at);
});
