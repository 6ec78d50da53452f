#![no_main]

use coupon_operator_fuzz::{ZONES, ask};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|input: (u8, i64, u32, &str)| {
    let (zone, at, window, cron) = input;
    let schedules = json!([{ "cron": cron, "windowSeconds": window % 200_000 + 1 }]);
    ask(ZONES[usize::from(zone) % ZONES.len()], "Window", &schedules, at);
});
