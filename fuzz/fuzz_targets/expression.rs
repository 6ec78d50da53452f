#![no_main]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use coupon_operator::api::campaign::Profile;
use coupon_operator::rules::eligibility::{Eligibility, Facts};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

static PROFILE: LazyLock<Profile> = LazyLock::new(|| {
    serde_json::from_value(json!({ "integrationId": "a", "attributes": {
        "tier": "gold", "n": (0..200).collect::<Vec<u32>>(), "s": "a".repeat(2000), "o": { "a": { "b": [1, "x", null] } }, "b": true, "f": 1.5, "t": "2023-01-01T00:00:00+02:00",
    } }))
    .unwrap()
});
static ATTRIBUTES: LazyLock<BTreeMap<String, Value>> = LazyLock::new(|| BTreeMap::from([("x".to_owned(), json!([1, 2]))]));

fuzz_target!(|source: &str| {
    if let Ok(eligibility) = Eligibility::compile(source) {
        let facts = Facts { campaign: "c", campaign_attributes: &ATTRIBUTES, now: chrono::DateTime::from_timestamp(1_672_531_200, 0).unwrap() };
        let _ = eligibility.check(&PROFILE, facts);
    }
});
