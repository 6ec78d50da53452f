#![no_main]

use coupon_operator::preview::Moment;
use coupon_operator::schedule::MonthDay;
use coupon_operator_fuzz::{ZONES, ask};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|input: (u8, i64, &str, &str)| {
    let (zone, at, one, other) = input;
    let zone = ZONES[usize::from(zone) % ZONES.len()];
    let _ = (MonthDay::parse(one), one.parse::<Moment>());
    ask(zone, "Window", &json!([{ "after": one, "before": other }]), at);
    ask(zone, "Week", &json!([{ "timeOfDay": { "from": one, "to": other } }]), at);
    ask(zone, "Month", &json!([{ "onDates": [one], "monthDays": [other] }]), at);
    ask(zone, "Year", &json!([{ "onDates": [one, other] }, { "monthDays": [other, one] }]), at);
});
