use chrono::{NaiveTime, TimeDelta, TimeZone};
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn campaign(zone: &str, dates: &[&str], start: Option<&str>, end: Option<&str>) -> CampaignSpec {
    let schedules = if dates.is_empty() { json!([]) } else { json!([{ "onDates": dates }]) };
    serde_json::from_value(json!({
        "timeZone": zone, "startTime": start, "endTime": end, "audience": { "profiles": [] },
        "rules": [{ "name": "r", "schedules": schedules, "effects": [] }],
    }))
    .unwrap()
}

fn calendar(zone: &str, dates: &[&str]) -> Calendar {
    let campaign = campaign(zone, dates, None, None);
    Calendar::of(&campaign, &campaign.rules[0]).unwrap()
}

fn utc(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn only_window(zone: &str, dates: &[&str]) -> (DateTime<Utc>, DateTime<Utc>) {
    let calendar = calendar(zone, dates);
    assert_eq!(calendar.windows.len(), 1);
    (calendar.windows[0].start_time.unwrap(), calendar.windows[0].end_time.unwrap())
}

#[test]
fn the_first_of_january_in_berlin_is_a_berlin_day() {
    assert_eq!(
        only_window("Europe/Berlin", &["2023-01-01"]),
        (utc("2022-12-31T23:00:00Z"), utc("2023-01-01T23:00:00Z"))
    );
}

#[test]
fn days_with_changes_of_the_clock_have_their_real_length() {
    for (zone, date, minutes) in [
        ("Europe/Berlin", "2026-03-29", 23 * 60),
        ("Europe/Berlin", "2026-10-25", 25 * 60),
        ("America/Havana", "2026-11-01", 25 * 60),
        ("Australia/Lord_Howe", "2026-04-05", 24 * 60 + 30),
    ] {
        let (start, end) = only_window(zone, &[date]);
        assert_eq!((end - start).num_minutes(), minutes, "{zone} {date}");
    }
    let beirut = (utc("2022-03-26T22:00:00Z"), utc("2022-03-27T21:00:00Z"));
    assert_eq!(
        only_window("Asia/Beirut", &["2022-03-27"]),
        beirut,
        "a day without midnight begins at its first instant"
    );
}

#[test]
fn days_in_a_row_are_one_window_whatever_their_order() {
    let (start, end) = only_window("Etc/UTC", &["2023-01-03", "2023-01-01", "2023-01-02", "2023-01-02"]);
    assert_eq!((start, end), (utc("2023-01-01T00:00:00Z"), utc("2023-01-04T00:00:00Z")));
}

#[test]
fn a_rule_that_can_never_open_is_said_at_once() {
    let never = ScheduleError::NeverOpens("r".into());
    let skipped = campaign("Pacific/Apia", &["2011-12-30"], None, None);
    assert_eq!(Calendar::of(&skipped, &skipped.rules[0]), Err(never.clone()));
    let outside = campaign("Etc/UTC", &["2023-01-01"], Some("2024-01-01T00:00:00Z"), None);
    assert_eq!(Calendar::of(&outside, &outside.rules[0]), Err(never));
}

#[test]
fn wrong_zones_and_dates_name_their_field() {
    let zone = campaign("Mars/Olympus", &["2023-01-01"], None, None);
    assert!(Calendar::of(&zone, &zone.rules[0]).unwrap_err().to_string().starts_with("spec.timeZone: Mars/Olympus"));
    let date = campaign("Etc/UTC", &["2023-01-01", "2023-02-30"], None, None);
    let said = Calendar::of(&date, &date.rules[0]).unwrap_err().to_string();
    assert!(said.starts_with("spec.rules[r].schedules[0].onDates[1]: 2023-02-30"), "{said}");
}

#[test]
fn keys_are_a_frozen_format() {
    let clipped = |start: &str| {
        let campaign = campaign("Europe/Berlin", &["2023-01-01"], Some(start), None);
        let calendar = Calendar::of(&campaign, &campaign.rules[0]).unwrap();
        calendar.occurrence_key(calendar.windows[0])
    };
    assert_eq!(clipped("2022-01-01T00:00:00Z"), "20230101");
    assert_eq!(clipped("2023-01-01T08:00:00Z"), "20230101T0900");
    assert_eq!(clipped("2023-01-01T08:00:07Z"), "20230101T090007");
    let beirut = calendar("Asia/Beirut", &["2022-03-27"]);
    assert_eq!(beirut.occurrence_key(beirut.windows[0]), "20220327");
    let always = calendar("Etc/UTC", &[]);
    assert_eq!(always.occurrence_key(always.windows[0]), "open");
}

#[test]
fn boundaries_wake_the_controller() {
    let calendar = calendar("Etc/UTC", &["2023-01-01", "2023-02-01"]);
    assert_eq!(calendar.next_opening(utc("2022-12-01T00:00:00Z")), Some(utc("2023-01-01T00:00:00Z")));
    assert_eq!(calendar.next_boundary(utc("2023-01-01T00:00:00Z")), Some(utc("2023-01-02T00:00:00Z")));
    assert_eq!(calendar.next_opening(utc("2023-02-01T00:00:00Z")), None);
    assert!(calendar.open_at(utc("2023-01-01T00:00:00Z")).is_some());
    assert!(calendar.open_at(utc("2023-01-02T00:00:00Z")).is_none());
}

const ZONES: [&str; 8] = [
    "Europe/Berlin",
    "Asia/Beirut",
    "Africa/Cairo",
    "America/Havana",
    "America/Sao_Paulo",
    "Pacific/Apia",
    "Australia/Lord_Howe",
    "Etc/UTC",
];

proptest! {
    /// The slow and obvious way: an instant is in a window if its local date is one of the dates.
    #[test]
    fn an_instant_is_in_a_window_exactly_when_its_local_date_is_listed(
        zone in prop::sample::select(&ZONES[..]),
        offsets in prop::collection::vec(0i64..8000, 1..12), probe in 0i64..(8000 * 96),
    ) {
        let first = NaiveDate::from_ymd_opt(2008, 1, 1).unwrap();
        let dates: Vec<String> = offsets.iter().map(|d| (first + TimeDelta::days(*d)).to_string()).collect();
        let dates: Vec<&str> = dates.iter().map(String::as_str).collect();
        let campaign = campaign(zone, &dates, None, None);
        let Ok(calendar) = Calendar::of(&campaign, &campaign.rules[0]) else { return Ok(()) };
        let tz: Tz = zone.parse().unwrap();
        let near = first + TimeDelta::days(offsets[0]);
        for instant in [
            Utc.from_utc_datetime(&first.and_time(NaiveTime::MIN)) + TimeDelta::minutes(15 * probe),
            Utc.from_utc_datetime(&near.and_time(NaiveTime::MIN)) + TimeDelta::minutes(15 * (probe % 200) - 1500),
        ] {
            let local = instant.with_timezone(&tz).date_naive().to_string();
            prop_assert_eq!(calendar.open_at(instant).is_some(), dates.contains(&local.as_str()), "{} {}", zone, instant);
        }
    }
}
