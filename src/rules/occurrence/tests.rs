use serde_json::json;

use super::*;

fn utc(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn timing_in(zone: &str, once_per: &str, schedules: &Value) -> Timing {
    let spec: CampaignSpec = serde_json::from_value(json!({
        "timeZone": zone, "audience": { "profiles": [] },
        "rules": [{ "name": "r", "oncePer": once_per, "schedules": schedules, "effects": [] }],
    }))
    .unwrap();
    Timing::of(&spec, &spec.rules[0]).unwrap()
}

fn timing(once_per: &str, schedules: &Value) -> Timing {
    timing_in("Etc/UTC", once_per, schedules)
}

/// `key start/end` of all windows in a range.
fn shown(timing: &Timing, from: &str, until: &str) -> Vec<String> {
    let text = |at: Option<DateTime<Utc>>| at.map_or("…".to_owned(), |at| at.format("%m-%dT%H").to_string());
    let show = |o: Occurrence| format!("{} {}/{}", o.key, text(o.window.start_time), text(o.window.end_time));
    timing.windows(utc(from), utc(until)).map(show).collect()
}

#[test]
fn windows_in_one_period_share_its_key() {
    let twice = json!([{ "timeOfDay": { "from": "09:00", "to": "11:00" } }, { "timeOfDay": { "from": "14:00", "to": "16:00" } }]);
    let (from, until) = ("2023-01-01T00:00:00Z", "2023-01-02T00:00:00Z");
    assert_eq!(
        shown(&timing("Window", &twice), from, until),
        ["20230101T0900 01-01T09/01-01T11", "20230101T1400 01-01T14/01-01T16"]
    );
    for (once_per, key) in
        [("Day", "2023-01-01"), ("Week", "2022-W52"), ("Month", "2023-01"), ("Year", "2023"), ("Campaign", "campaign")]
    {
        let expected = [format!("{key} 01-01T09/01-01T11"), format!("{key} 01-01T14/01-01T16")];
        assert_eq!(shown(&timing(once_per, &twice), from, until), expected);
    }
}

#[test]
fn a_window_that_is_longer_than_its_period_or_has_no_start_is_cut_at_its_ends() {
    let week = json!([{ "daysOfWeek": ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday"] }]);
    let (from, until) = ("2023-01-04T00:00:00Z", "2023-01-06T00:00:00Z");
    assert_eq!(
        shown(&timing("Day", &week), from, until),
        ["2023-01-04 01-04T00/01-05T00", "2023-01-05 01-05T00/01-06T00"]
    );
    assert_eq!(shown(&timing("Week", &week), from, until), ["2023-W01 01-02T00/01-07T00"]);
    let always = timing("Month", &json!([]));
    assert_eq!(
        shown(&always, "2023-01-15T00:00:00Z", "2023-02-15T00:00:00Z"),
        ["2023-01 01-01T00/02-01T00", "2023-02 02-01T00/03-01T00"]
    );
    assert_eq!(always.next_boundary(&BTreeSet::new(), utc("2023-01-15T00:00:00Z")), Some(utc("2023-02-01T00:00:00Z")));
    assert_eq!(always.next_opening(&BTreeSet::new(), utc("2023-01-15T00:00:00Z")), Some(utc("2023-02-01T00:00:00Z")));
    assert_eq!(shown(&timing("Campaign", &json!([])), from, until), ["campaign …/…"]);
    assert_eq!(shown(&timing("Window", &json!([])), from, until), ["open …/…"]);
    let long = timing("Month", &json!([{ "after": "2023-01-20T00:00", "before": "2023-03-10T00:00" }]));
    assert_eq!(
        shown(&long, "2023-01-01T00:00:00Z", "2024-01-01T00:00:00Z"),
        ["2023-01 01-20T00/02-01T00", "2023-02 02-01T00/03-01T00", "2023-03 03-01T00/03-10T00"]
    );
}

/// A night belongs to the day on which it began, whatever day it is when somebody gets a code.
#[test]
fn a_window_that_is_no_longer_than_its_period_belongs_to_the_period_of_its_start() {
    let night = timing_in("Europe/Berlin", "Day", &json!([{ "timeOfDay": { "from": "22:00", "to": "02:00" } }]));
    assert_eq!(night.open_at(utc("2023-01-01T00:30:00Z")).unwrap().key, "2022-12-31");
    // From noon to noon, over the day that has 23 hours: still no longer than a day.
    let noon = timing_in("Europe/Berlin", "Day", &json!([{ "cron": "0 12 * * *", "windowSeconds": 86400 }]));
    assert_eq!(
        shown(&noon, "2026-03-28T12:00:00Z", "2026-03-30T01:00:00Z"),
        ["2026-03-28 03-28T11/03-29T10", "2026-03-29 03-29T10/03-30T10"]
    );
}

#[test]
fn i1_whoever_is_in_an_overlapping_window_or_the_same_period_counts() {
    let window = |from: &str, until: &str| Window { start_time: Some(utc(from)), end_time: Some(utc(until)) };
    let day = json!([{ "timeOfDay": { "from": "14:00", "to": "16:00" } }]);
    let at = |once_per: &str| timing(once_per, &day).open_at(utc("2023-01-04T14:00:00Z")).unwrap();
    let morning = window("2023-01-04T09:00:00Z", "2023-01-04T11:00:00Z");
    assert!(!at("Window").counts("20230104T0900", &morning));
    assert!(at("Day").counts("20230104T0900", &morning), "an edit of oncePer");
    assert!(at("Week").counts("20230102", &window("2023-01-02T00:00:00Z", "2023-01-03T00:00:00Z")));
    assert!(!at("Week").counts("20230101", &window("2023-01-01T00:00:00Z", "2023-01-02T00:00:00Z")), "the week before");
    assert!(at("Window").counts("x", &window("2023-01-04T15:59:59Z", "2023-01-05T00:00:00Z")), "an edit of the times");
    assert!(at("Window").counts("x", &Window::default()));
    assert!(at("Campaign").counts("x", &window("1999-01-01T00:00:00Z", "1999-01-02T00:00:00Z")));
    assert!(at("Day").counts("2023-01-04", &window("1999-01-01T00:00:00Z", "1999-01-02T00:00:00Z")), "its own key");
}

#[test]
fn two_years_of_an_anniversary_are_two_occurrences_and_an_edit_from_days_is_none() {
    let around = json!([{ "anniversaryOf": { "attribute": "birthday", "daysBefore": 200, "daysAfter": 200 } }]);
    let timing = timing("Window", &around);
    let at = utc("2026-12-20T00:00:00Z");
    let of_year = |year| {
        timing.anniversary_of(year, |name| (name == "birthday").then(|| json!("1990-06-15")), at, false).unwrap()
    };
    let open: Vec<Occurrence> = (2020..2030).filter_map(of_year).collect();
    assert_eq!(open.iter().map(|o| o.key.as_str()).collect::<Vec<_>>(), ["2026", "2027"]);
    assert!(!open[0].counts("2027", &open[1].window) && open[0].counts("2026", &Window::default()));
    assert!(open[0].counts("20261215", &open[0].window), "granted before the rule went by birthdays");
    assert_eq!(timing.open_at(at), None);
    assert!(timing.anniversary_of(2026, |_| None, at, false).is_err());
}

#[test]
fn a_year_of_an_anniversary_that_is_opened_once_more_has_its_last_window() {
    let timing = timing("Window", &json!([{ "anniversaryOf": { "attribute": "birthday" } }]));
    let of = |date: &'static str, now: &str, reopened| {
        timing
            .anniversary_of(2026, move |_| Some(json!(date)), utc(now), reopened)
            .unwrap()
            .map(|o| o.window.start_time)
    };
    assert_eq!(of("06-15", "2026-06-15T10:00:00Z", false), Some(Some(utc("2026-06-15T00:00:00Z"))));
    assert_eq!(of("06-15", "2026-06-20T10:00:00Z", false), None);
    assert_eq!(of("06-15", "2026-06-20T10:00:00Z", true), Some(Some(utc("2026-06-15T00:00:00Z"))));
    assert_eq!(of("06-15", "2026-06-01T10:00:00Z", true), None, "it has not been open yet");
}

#[test]
fn a_closed_window_is_found_by_its_key() {
    let twice = json!([{ "timeOfDay": { "from": "09:00", "to": "11:00" } }, { "timeOfDay": { "from": "14:00", "to": "16:00" } }]);
    let now = utc("2023-06-01T00:00:00Z");
    for (once_per, key) in [
        ("Window", "20230101T0900"),
        ("Day", "2023-01-01"),
        ("Week", "2022-W52"),
        ("Month", "2023-01"),
        ("Year", "2023"),
        ("Campaign", "campaign"),
    ] {
        let found = timing(once_per, &twice).closed(key, now).unwrap_or_else(|| panic!("{key}"));
        assert_eq!(found.key, key);
        let last = if once_per == "Campaign" { "2023-05-31T14:00:00Z" } else { found.key.as_str() };
        assert!(
            once_per != "Campaign" || found.window.start_time == last.parse().ok(),
            "the last, not one of long ago"
        );
    }
    let daily = timing("Window", &twice);
    for key in ["20230101T0930", "20230601T0900", "20240101T0900", "x", "", "2023-13", "20230230", "2023-W99", "ééé"]
    {
        assert_eq!(daily.closed(key, now), None, "{key}");
    }
}

#[test]
fn closed_windows_are_counted_to_a_bound() {
    let minutely = timing("Window", &json!([{ "cron": "* * * * *", "windowSeconds": 30 }]));
    let (found, more) = minutely.closed_since(utc("2023-01-01T00:00:30Z"), utc("2023-01-01T00:03:29Z"));
    assert_eq!((found.len(), more), (2, false));
    let (found, more) = minutely.closed_since(utc("2000-01-01T00:00:00Z"), utc("2023-01-01T00:00:00Z"));
    assert_eq!((found.len(), more), (MOST_WINDOWS, true));
}
