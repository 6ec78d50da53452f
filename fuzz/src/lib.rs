//! What the targets share: everything that is asked of a schedule.

use chrono::{DateTime, TimeDelta, Utc};
use coupon_operator::api::campaign::CampaignSpec;
use coupon_operator::rules::occurrence::Timing;
use serde_json::{Value, json};

/// Zones in which clocks do what they can.
pub const ZONES: [&str; 8] = [
    "Etc/UTC",
    "Europe/Berlin",
    "Pacific/Apia",
    "Australia/Lord_Howe",
    "America/Havana",
    "Africa/Casablanca",
    "Asia/Beirut",
    "Antarctica/Troll",
];

/// Asks everything of a rule with such schedules, around an instant.
///
/// What is found must fit together: a window that is open at an instant holds it, windows come in order
/// and do not overlap, and a boundary lies after the instant.
pub fn ask(zone: &str, once_per: &str, schedules: &Value, at: i64) {
    let spec: Result<CampaignSpec, _> = serde_json::from_value(json!({
        "timeZone": zone, "audience": { "profiles": [] },
        "rules": [{ "name": "r", "oncePer": once_per, "schedules": schedules, "effects": [] }],
    }));
    let Ok(spec) = spec else { return };
    let Ok(timing) = Timing::of(&spec, &spec.rules[0]) else { return };
    let at: DateTime<Utc> = DateTime::from_timestamp(at.rem_euclid(10_000_000_000) - 1_000_000_000, 0).unwrap();
    let nobody = Default::default();
    if let Some(open) = timing.open_at(at) {
        assert!(open.window.contains(at), "{open:?} {at}");
    }
    let (opening, boundary) = (timing.next_opening(&nobody, at), timing.next_boundary(&nobody, at));
    assert!(opening.is_none_or(|t| t > at) && boundary.is_none_or(|t| t > at), "{opening:?} {boundary:?} {at}");
    let windows: Vec<_> = timing.windows(at, at + TimeDelta::days(2)).take(200).collect();
    for pair in windows.windows(2) {
        let (end, start) = (pair[0].window.end_time, pair[1].window.start_time);
        assert!(end.is_some() && end <= start, "{pair:?}");
    }
    let _ = timing.closed_since(at - TimeDelta::days(1), at);
    for window in windows.iter().take(3) {
        let _ = timing.closed(&window.key, at + TimeDelta::days(30));
    }
}
