use chrono::TimeDelta;
use serde_json::{Value, json};

use super::*;

fn campaign(zone: &str, schedules: &Value, more: &Value) -> CampaignSpec {
    let mut spec = json!({
        "timeZone": zone, "audience": { "profiles": [] },
        "rules": [{ "name": "r", "schedules": schedules, "effects": [] }],
    });
    more.as_object().unwrap().iter().for_each(|(k, v)| spec[k] = v.clone());
    serde_json::from_value(spec).unwrap()
}

fn of(campaign: &CampaignSpec) -> Result<Calendar, ScheduleError> {
    Calendar::of(campaign, &campaign.rules[0])
}

fn calendar(zone: &str, schedules: &Value) -> Calendar {
    of(&campaign(zone, schedules, &json!({}))).unwrap()
}

fn utc(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// Windows as `start/end`, in UTC.
fn windows(calendar: &Calendar, from: &str, until: &str) -> Vec<String> {
    let text = |at: Option<DateTime<Utc>>| at.map_or("…".to_owned(), |at| at.format("%m-%dT%H:%M").to_string());
    let shown = |w: Window| format!("{}/{}", text(w.start_time), text(w.end_time));
    calendar.windows(utc(from), utc(until)).map(shown).collect()
}

#[allow(clippy::needless_pass_by_value)] // reads better where it is called
fn in_2026(zone: &str, schedules: Value) -> Vec<String> {
    windows(&calendar(zone, &schedules), "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z")
}

#[test]
fn the_first_of_january_in_berlin_is_a_berlin_day() {
    let calendar = calendar("Europe/Berlin", &json!([{ "onDates": ["2023-01-01"] }]));
    let window = calendar.open_at(utc("2023-01-01T08:00:00Z")).unwrap();
    assert_eq!(window.start_time, Some(utc("2022-12-31T23:00:00Z")));
    assert_eq!(window.end_time, Some(utc("2023-01-01T23:00:00Z")));
    assert_eq!(calendar.open_at(utc("2023-01-01T23:00:00Z")), None);
    assert_eq!(calendar.next_opening(utc("2022-06-01T00:00:00Z")), window.start_time);
    assert_eq!(calendar.next_boundary(utc("2023-01-01T08:00:00Z")), window.end_time);
    assert_eq!(calendar.next_boundary(utc("2023-01-01T23:00:00Z")), None);
}

#[test]
fn days_with_changes_of_the_clock_have_their_real_length() {
    for (zone, date, minutes) in [
        ("Europe/Berlin", "2026-03-29", 23 * 60),
        ("Europe/Berlin", "2026-10-25", 25 * 60),
        ("America/Havana", "2026-11-01", 25 * 60),
        ("Australia/Lord_Howe", "2026-04-05", 24 * 60 + 30),
        ("Australia/Lord_Howe", "2026-10-04", 23 * 60 + 30),
        ("Asia/Beirut", "2022-03-27", 23 * 60),
        ("Africa/Cairo", "2024-04-26", 23 * 60),
    ] {
        let calendar = calendar(zone, &json!([{ "onDates": [date] }]));
        let window = calendar.windows(utc("2020-01-01T00:00:00Z"), utc("2030-01-01T00:00:00Z")).next().unwrap();
        let length = window.end_time.unwrap() - window.start_time.unwrap();
        assert_eq!(length.num_minutes(), minutes, "{zone} {date}");
    }
}

#[test]
fn a_window_is_a_longest_unbroken_stretch() {
    let week =
        calendar("Etc/UTC", &json!([{ "daysOfWeek": ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday"] }]));
    assert_eq!(
        windows(&week, "2026-01-07T12:00:00Z", "2026-01-13T00:00:00Z"),
        ["01-05T00:00/01-10T00:00", "01-12T00:00/01-17T00:00"]
    );
    let halves = json!([{ "timeOfDay": { "from": "00:00", "to": "12:00" } }, { "timeOfDay": { "from": "12:00", "to": "24:00" } }]);
    assert_eq!(in_2026("Europe/Berlin", halves), ["…/…"], "what never closes has neither start nor end");
    assert_eq!(in_2026("Etc/UTC", json!([])), ["…/…"]);
    let from = json!([{ "after": "2026-05-01T09:00" }]);
    assert_eq!(in_2026("Europe/Berlin", from), ["05-01T07:00/…"]);
}

#[test]
fn every_field_of_a_schedule_holds_when_it_says() {
    for (schedule, expected) in [
        (json!({ "monthDays": ["12-24", "12-25"] }), vec!["12-24T00:00/12-26T00:00"]),
        (
            json!({ "monthDays": ["02-28"], "timeOfDay": { "from": "09:30", "to": "17:00" } }),
            vec!["02-28T09:30/02-28T17:00"],
        ),
        (
            json!({ "onDates": ["2026-01-02", "2026-01-03"], "daysOfWeek": ["Saturday"] }),
            vec!["01-03T00:00/01-04T00:00"],
        ),
        (
            json!({ "onDates": ["2026-01-02"], "timeOfDay": { "from": "22:00", "to": "02:00" } }),
            vec!["01-02T22:00/01-03T02:00"],
        ),
        (
            json!({ "after": "2026-01-01T10:00:00+02:00", "before": "2026-01-01T10:00" }),
            vec!["01-01T08:00/01-01T10:00"],
        ),
        (json!({ "cron": "30 9 1 1 *" }), vec!["01-01T09:30/01-01T10:30"]),
        (
            json!({ "rrule": { "start": "2025-01-31T09:00", "rule": "FREQ=MONTHLY;BYDAY=-1FR;UNTIL=20260301" }, "windowSeconds": 60 }),
            vec!["01-30T09:00/01-30T09:01", "02-27T09:00/02-27T09:01"],
        ),
        (
            json!({ "onDates": ["2026-01-02"], "except": [{ "timeOfDay": { "from": "06:00", "to": "07:00" } }] }),
            vec!["01-02T00:00/01-02T06:00", "01-02T07:00/01-03T00:00"],
        ),
    ] {
        assert_eq!(in_2026("Etc/UTC", json!([schedule])), expected, "{schedule}");
    }
}

/// RFC 5545, section 3.3.10: what a rule does not say of the day is taken from its start.
#[test]
fn a_rule_of_weeks_without_days_takes_the_weekday_of_its_start() {
    let weeks = json!([{ "rrule": { "start": "2026-01-01T09:00", "rule": "FREQ=YEARLY;BYWEEKNO=20,21" }, "windowSeconds": 3600 }]);
    assert_eq!(in_2026("Etc/UTC", weeks), ["05-14T09:00/05-14T10:00", "05-21T09:00/05-21T10:00"]);
}

#[test]
fn a_tick_begins_a_new_window_and_ends_the_one_before() {
    let hourly = json!([{ "onDates": ["2026-01-02"], "timeOfDay": { "from": "09:30", "to": "12:00" }, "cron": "0 * * * *", "windowSeconds": 7200 }]);
    assert_eq!(
        in_2026("Etc/UTC", hourly),
        ["01-02T09:30/01-02T10:00", "01-02T10:00/01-02T11:00", "01-02T11:00/01-02T12:00"]
    );
    let within = json!([{ "onDates": ["2026-01-02"] }, { "cron": "0 9 2 1 *" }]);
    assert_eq!(in_2026("Etc/UTC", within), ["01-02T00:00/01-02T09:00", "01-02T09:00/01-03T00:00"]);
}

/// The boundary rule: in a gap, the first instant after it; repeated, the earlier of the two.
#[test]
fn gaps_and_repeats_open_nothing_twice() {
    let spring = json!([{ "onDates": ["2026-03-29"], "timeOfDay": { "from": "02:15", "to": "02:45" } }]);
    assert!(of(&campaign("Europe/Berlin", &spring, &json!({}))).is_err(), "a time of day inside a gap has no window");
    let autumn = json!([{ "onDates": ["2026-10-25"], "timeOfDay": { "from": "02:15", "to": "02:45" } }]);
    assert_eq!(in_2026("Europe/Berlin", autumn), ["10-25T00:15/10-25T00:45"]);
    let ticks = |day: &str| json!([{ "onDates": [day], "cron": "*/30 2 * * *", "windowSeconds": 600 }]);
    assert_eq!(
        in_2026("Europe/Berlin", ticks("2026-03-29")),
        ["03-29T01:00/03-29T01:10"],
        "a tick inside a gap opens at its end"
    );
    assert_eq!(in_2026("Europe/Berlin", ticks("2026-10-25")), ["10-25T00:00/10-25T00:10", "10-25T00:30/10-25T00:40"]);
    let skipped =
        |time: Value| campaign("Pacific/Apia", &json!([{ "onDates": ["2011-12-30"], "timeOfDay": time }]), &json!({}));
    assert!(of(&skipped(json!({ "from": "00:00", "to": "24:00" }))).is_err());
    assert!(of(&skipped(json!({ "from": "22:00", "to": "02:00" }))).is_err(), "its night never began");
}

#[test]
fn rules_that_never_open_or_open_late_are_answered_at_once() {
    let never = [
        json!([{ "cron": "0 0 30 2 *" }]),
        json!([{ "cron": "0 3 * * *", "timeOfDay": { "from": "09:00", "to": "17:00" } }]),
        json!([{ "rrule": { "start": "2023-01-01T09:00", "rule": "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30" } }]),
        json!([{ "rrule": { "start": "2023-01-01T09:00", "rule": "FREQ=DAILY;BYMONTHDAY=31;BYMONTH=2" } }]),
        json!([{ "onDates": ["2023-01-02"], "daysOfWeek": ["Sunday"] }]),
        json!([{ "daysOfWeek": ["Monday"], "except": [{ "daysOfWeek": ["Monday", "Tuesday"] }] }]),
        json!([{ "timeOfDay": { "from": "09:00", "to": "17:00" }, "except": [{ "timeOfDay": { "from": "08:00", "to": "12:00" } }, { "timeOfDay": { "from": "12:00", "to": "24:00" } }] }]),
        json!([{ "after": "2024-01-01T00:00", "before": "2023-01-01T00:00" }]),
    ];
    for schedules in never {
        let spec = campaign("Europe/Berlin", &schedules, &json!({}));
        let begun = std::time::Instant::now();
        assert_eq!(of(&spec).err(), Some(ScheduleError::NeverOpens("r".into())), "{schedules}");
        println!("never {:?} {schedules}", begun.elapsed());
    }
    let late = [
        (json!([{ "onDates": ["2096-02-29"] }]), "2096-02-28T23:00:00Z"),
        (json!([{ "cron": "*/5 * * * *", "onDates": ["2096-02-29"] }]), "2096-02-28T23:00:00Z"),
        (json!([{ "cron": "*/5 * * * *", "except": [{ "before": "2096-02-29T00:00:00Z" }] }]), "2096-02-29T00:00:00Z"),
        (
            json!([{ "monthDays": ["02-29"], "daysOfWeek": ["Wednesday"], "after": "2070-01-01T00:00" }]),
            "2096-02-28T23:00:00Z",
        ),
        (
            json!([{ "rrule": { "start": "2096-02-29T00:00", "rule": "FREQ=DAILY;BYHOUR=0,1,2,3,4,5" } }]),
            "2096-02-28T23:00:00Z",
        ),
    ];
    for (schedules, expected) in late {
        let spec = campaign("Europe/Berlin", &schedules, &json!({}));
        let begun = std::time::Instant::now();
        let found = of(&spec).unwrap().next_opening(utc("2026-01-01T00:00:00Z"));
        println!("late {:?} {schedules}", begun.elapsed());
        assert_eq!(found, Some(utc(expected)), "{schedules}");
    }
}

/// A search that finds nothing for long ends, and says how far it looked.
#[test]
fn a_dense_rule_that_never_opens_is_looked_at_again_later() {
    let masked =
        json!([{ "cron": "* * * * *", "windowSeconds": 60, "except": [{ "cron": "* * * * *", "windowSeconds": 60 }] }]);
    let calendar = calendar("Europe/Berlin", &masked);
    let now = utc("2026-01-01T00:00:00Z");
    assert_eq!(calendar.next_opening(now), None);
    let looked = calendar.next_boundary(now).unwrap();
    assert!(looked - now > TimeDelta::days(1), "{looked}");
}

#[test]
fn start_and_end_of_the_campaign_clip_windows() {
    let bounds = json!({ "startTime": "2023-01-01T08:00:00Z", "endTime": "2023-01-01T09:00:00.5Z" });
    let spec = campaign("Europe/Berlin", &json!([{ "onDates": ["2023-01-01"] }]), &bounds);
    let calendar = of(&spec).unwrap();
    let window = calendar.open_at(utc("2023-01-01T08:30:00Z")).unwrap();
    assert_eq!(
        (window.start_time, window.end_time),
        (Some(utc("2023-01-01T08:00:00Z")), Some(utc("2023-01-01T09:00:01Z")))
    );
    let outside =
        campaign("Etc/UTC", &json!([{ "onDates": ["2023-01-01"] }]), &json!({ "startTime": "2024-01-01T00:00:00Z" }));
    assert_eq!(of(&outside), Err(ScheduleError::NeverOpens("r".into())));
}

#[test]
fn what_is_wrong_names_its_field() {
    let said = |schedule: Value| of(&campaign("Etc/UTC", &json!([schedule]), &json!({}))).unwrap_err().to_string();
    for (schedule, words) in [
        (
            json!({ "onDates": ["2023-01-01", "2023-02-30"] }),
            "spec.rules[r].schedules[0].onDates[1]: 2023-02-30 is no day",
        ),
        (json!({ "monthDays": ["02-30"] }), "schedules[0].monthDays[0]: 02-30"),
        (json!({ "timeOfDay": { "from": "24:00", "to": "09:00" } }), "schedules[0].timeOfDay.from: 24:00"),
        (
            json!({ "timeOfDay": { "from": "09:00", "to": "09:00" } }),
            "schedules[0].timeOfDay: from and to are the same",
        ),
        (json!({ "after": "yesterday" }), "schedules[0].after: yesterday"),
        (json!({ "cron": "0 9 * *" }), "schedules[0].cron: 4 fields"),
        (json!({ "cron": "0 25 * * *" }), "schedules[0].cron: hour: 25 is no number from 0 to 23"),
        (json!({ "rrule": { "start": "2023-01-01", "rule": "FREQ=DAILY" } }), "schedules[0].rrule.start: 2023-01-01"),
        (
            json!({ "rrule": { "start": "2023-01-01T09:00", "rule": "FREQ=HOURLY" } }),
            "schedules[0].rrule.rule: FREQ=HOURLY",
        ),
        (json!({ "daysOfWeek": ["Monday"], "windowSeconds": 60 }), "schedules[0].windowSeconds"),
        (json!({ "daysOfWeek": ["Monday"], "except": [{ "cron": "@often" }] }), "schedules[0].except[0].cron: @often"),
    ] {
        let said = said(schedule);
        assert!(said.contains(words), "{said}");
    }
    let zone = of(&campaign("Mars/Olympus", &json!([]), &json!({}))).unwrap_err();
    assert!(zone.to_string().starts_with("spec.timeZone: Mars/Olympus"));
}

#[test]
fn keys_are_a_frozen_format() {
    let key_of = |zone: &str, schedules: Value, start: &str| {
        let spec = campaign(zone, &schedules, &json!({ "startTime": start }));
        let calendar = of(&spec).unwrap();
        let window = calendar.windows(utc("2015-01-01T00:00:00Z"), utc("2030-01-01T00:00:00Z")).next().unwrap();
        key(calendar.zone(), window)
    };
    let day = || json!([{ "onDates": ["2023-01-01"] }]);
    assert_eq!(key_of("Europe/Berlin", day(), "2022-01-01T00:00:00Z"), "20230101");
    assert_eq!(key_of("Europe/Berlin", day(), "2023-01-01T08:00:00Z"), "20230101T0900");
    assert_eq!(key_of("Europe/Berlin", day(), "2023-01-01T08:00:07Z"), "20230101T090007");
    let beirut = json!([{ "onDates": ["2022-03-27"] }]);
    assert_eq!(key_of("Asia/Beirut", beirut, "2020-01-01T00:00:00Z"), "20220327", "a day without midnight");
    assert_eq!(key(Tz::UTC, Window::default()), "open");
}

fn birthdays(around: &Value) -> AnniversaryCalendar {
    let spec = campaign("Europe/Berlin", &json!([around]), &json!({}));
    AnniversaryCalendar::of(&spec, &spec.rules[0]).unwrap().unwrap()
}

#[test]
fn anniversaries_are_local_days_and_29_february_is_the_28th_in_common_years() {
    let calendar = birthdays(&json!({ "anniversaryOf": { "attribute": "birthday" } }));
    let leapling = MonthDay::parse("1992-02-29").unwrap();
    let starts = |year| calendar.windows_of(leapling, year)[0].start_time.unwrap();
    assert_eq!(starts(2026), utc("2026-02-27T23:00:00Z"));
    assert_eq!(starts(2028), utc("2028-02-28T23:00:00Z"));
    assert_eq!(calendar.next_opening(leapling, utc("2026-02-28T10:00:00Z")), Some(utc("2027-02-27T23:00:00Z")));
    for (text, parsed) in [
        ("1992-02-29", true),
        ("02-29", true),
        ("1992-02-29T08:00:00Z", true),
        ("1993-02-29", false),
        ("soon", false),
        ("", false),
    ] {
        assert_eq!(MonthDay::parse(text).is_some(), parsed, "{text}");
    }
}

#[test]
fn two_years_of_an_anniversary_can_be_open_at_once() {
    let calendar =
        birthdays(&json!({ "anniversaryOf": { "attribute": "birthday", "daysBefore": 200, "daysAfter": 200 } }));
    let date = MonthDay::parse("06-15").unwrap();
    let open = calendar.open_at(date, utc("2026-12-20T00:00:00Z"));
    assert_eq!(open.iter().map(|(year, _)| *year).collect::<Vec<_>>(), [2026, 2027]);
    assert_ne!(open[0].1, open[1].1);
    assert!(calendar.year(2026).contains(open[0].1.start_time.unwrap()));
}

#[test]
fn an_anniversary_combines_with_other_fields() {
    let calendar = birthdays(&json!({
        "anniversaryOf": { "attribute": "birthday", "daysBefore": 3, "daysAfter": 3 },
        "daysOfWeek": ["Saturday", "Sunday"], "timeOfDay": { "from": "22:00", "to": "02:00" },
        "except": [{ "daysOfWeek": ["Sunday"], "timeOfDay": { "from": "00:00", "to": "01:00" } }],
    }));
    let date = MonthDay::parse("06-17").unwrap(); // a Wednesday in 2026: from Sunday 14 to Saturday 20
    let shown: Vec<String> = calendar
        .windows_of(date, 2026)
        .iter()
        .map(|w| format!("{}/{}", w.start_time.unwrap().format("%dT%H"), w.end_time.unwrap().format("%dT%H")))
        .collect();
    assert_eq!(shown, ["14T20/15T00", "20T20/20T22", "20T23/21T00"]);
}

#[test]
fn a_rule_that_is_always_open_never_opens_and_has_no_boundary() {
    let always = calendar("Etc/UTC", &json!([]));
    assert_eq!(always.next_boundary(utc("2026-01-01T00:00:00Z")), None);
    // Before the first year that schedules know.
    let openings = ["1960-01-01T00:00:00Z", "2026-01-01T00:00:00Z"].map(|now| always.next_opening(utc(now)));
    assert_eq!(openings, [None, None]);
    assert_eq!(always.open_at(utc("2026-01-01T00:00:00Z")), Some(Window::default()));
}

#[test]
fn what_is_open_at_the_start_of_nothing_is_no_window_of_it() {
    let first = calendar("Etc/UTC", &json!([{ "onDates": ["2026-01-01"] }]));
    let noon = "2026-01-01T12:00:00Z";
    assert_eq!(windows(&first, noon, noon), Vec::<String>::new());
    assert_eq!(windows(&first, noon, "2026-01-01T12:00:01Z"), ["01-01T00:00/01-02T00:00"]);
}

#[test]
fn a_window_holds_its_start_and_not_its_end_and_two_have_a_hull() {
    let of = |start: &str, end: &str| Window { start_time: Some(utc(start)), end_time: Some(utc(end)) };
    let [one, two, three] = ["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z"];
    assert!(of(one, two).contains(utc(one)) && !of(one, two).contains(utc(two)));
    assert_eq!(of(one, two).hull(of(two, three)), of(one, three));
    assert_eq!(of(two, three).hull(of(one, two)), of(one, three));
    assert_eq!(of(one, two).hull(Window::default()), Window::default());
}

#[test]
fn a_time_that_no_day_has_makes_no_window_of_an_anniversary() {
    let of = |zone: &str, time: Value, date: &str, year: i32| {
        let spec = campaign(zone, &json!([{ "anniversaryOf": { "attribute": "b" }, "timeOfDay": time }]), &json!({}));
        let calendar = AnniversaryCalendar::of(&spec, &spec.rules[0]).unwrap().unwrap();
        calendar.windows_of(MonthDay::parse(date).unwrap(), year).len()
    };
    let (in_gap, night) = (json!({ "from": "02:10", "to": "02:40" }), json!({ "from": "22:00", "to": "02:00" }));
    assert_eq!(of("Europe/Berlin", in_gap.clone(), "03-29", 2026), 0);
    assert_eq!(of("Europe/Berlin", in_gap, "03-29", 2027), 1);
    assert_eq!(of("Pacific/Apia", night.clone(), "12-30", 2011), 0, "the zone left that day out");
    assert_eq!(of("Pacific/Apia", night, "12-30", 2012), 1);
}

#[test]
fn what_can_be_open_of_a_year_goes_from_the_first_day_of_anybody_to_the_last() {
    let around = json!({ "anniversaryOf": { "attribute": "b", "daysBefore": 3, "daysAfter": 5 } });
    let calendar = birthdays(&around);
    assert_eq!(calendar.zone(), Tz::Europe__Berlin);
    let year = Window { start_time: Some(utc("2025-12-28T23:00:00Z")), end_time: Some(utc("2027-01-06T23:00:00Z")) };
    assert_eq!(calendar.year(2026), year);
    let clipped = campaign("Europe/Berlin", &json!([around]), &json!({ "startTime": "2026-06-01T00:00:00Z" }));
    let clipped = AnniversaryCalendar::of(&clipped, &clipped.rules[0]).unwrap().unwrap();
    assert_eq!(clipped.year(2026).start_time, Some(utc("2026-06-01T00:00:00Z")));
    assert_eq!(clipped.year(2020), Window::default());
}

/// What the next opening and boundary are is asked of all windows of ten years, one by one.
#[test]
fn the_next_opening_and_boundary_of_an_anniversary_are_the_first_of_all_its_windows() {
    let around = |before: i32, after: i32| json!({ "attribute": "b", "daysBefore": before, "daysAfter": after });
    for (schedules, exact) in [
        (json!([{ "anniversaryOf": around(0, 0) }]), "2026-06-14T22:00:00Z"),
        (
            json!([{ "anniversaryOf": around(200, 200), "daysOfWeek": ["Friday", "Saturday", "Sunday", "Monday"] }]),
            "2026-06-14T22:00:00Z",
        ),
        (
            json!([{ "anniversaryOf": around(366, 366), "daysOfWeek": ["Wednesday", "Thursday"] }]),
            "2026-06-16T22:00:00Z",
        ),
        (
            json!([{ "anniversaryOf": around(300, 366), "timeOfDay": { "from": "22:00", "to": "02:00" } }]),
            "2026-06-15T20:00:00Z",
        ),
    ] {
        let spec = campaign("Europe/Berlin", &schedules, &json!({}));
        let calendar = AnniversaryCalendar::of(&spec, &spec.rules[0]).unwrap().unwrap();
        let hourly = (0..130).map(|i| utc("2026-01-01T00:30:00Z") + TimeDelta::hours(i * 97));
        for date in ["06-15", "02-29", "01-01", "12-31"].map(|date| MonthDay::parse(date).unwrap()) {
            for now in hourly.clone().chain([utc(exact)]) {
                let all = calendar.windows(date, now - TimeDelta::days(1), now + TimeDelta::days(1200));
                let starts = || all.iter().filter_map(|(_, w)| w.start_time).filter(|at| *at > now);
                let ends = all.iter().filter_map(|(_, w)| w.end_time).filter(|at| *at > now);
                assert_eq!(calendar.next_opening(date, now), starts().min(), "{schedules} {date:?} {now}");
                assert_eq!(calendar.next_boundary(date, now), starts().chain(ends).min(), "{schedules} {date:?} {now}");
            }
        }
    }
}

#[test]
fn month_and_day_have_two_digits_each_and_a_cron_field_may_name_a_value_twice() {
    assert_eq!(
        ["01-01", "1-01", "01-1", "1-1"].map(|text| entry::month_day(text).is_some()),
        [true, false, false, false]
    );
    let of = |cron: &str| in_2026("Etc/UTC", json!([{ "cron": cron }]));
    assert_eq!(of("0 9 1 1,1 *"), of("0 9 1 1 *"));
    assert_eq!((of("@annually"), of("@yearly").len()), (of("0 0 1 1 *"), 1));
    let spec = campaign("Etc/UTC", &json!([{ "cron": "0 +9 * * *" }]), &json!({}));
    assert!(of_is_refused(&spec), "a sign is no digit");
    let empty = campaign("Etc/UTC", &json!([{ "cron": "0, 9 * * *" }]), &json!({}));
    assert!(of_is_refused(&empty), "nothing is no number");
}

fn of_is_refused(campaign: &CampaignSpec) -> bool {
    matches!(of(campaign), Err(ScheduleError::Cron { .. }))
}

/// What is quick to look at comes first, so that a search does not spend its steps on the rest.
#[test]
fn entries_are_looked_at_from_the_sparsest_to_the_densest() {
    let density = |schedule: Value| {
        let schedule: crate::api::schedule::Schedule = serde_json::from_value(schedule).unwrap();
        Entry::parse(Tz::UTC, &schedule, "").unwrap().density()
    };
    let (days, fridays) = (days::DaySet::all().len(), days::DaySet::of_weekdays(&[4]).len());
    assert_eq!(density(json!({ "onDates": ["2026-01-01", "2026-06-01"] })), 2);
    assert_eq!(density(json!({ "after": "2026-01-01T00:00" })), 1);
    assert_eq!(
        density(json!({ "daysOfWeek": ["Friday"], "timeOfDay": { "from": "09:00", "to": "17:00" } })),
        3 * fridays
    );
    assert_eq!(density(json!({ "cron": "0 9 * * 5" })), fridays);
    assert_eq!(density(json!({ "cron": "*/10 * * * *" })), 144 * days);
    let excepted =
        json!({ "cron": "0 9 * * 5", "except": [{ "cron": "0 12 * * 5" }, { "after": "2026-01-01T00:00" }] });
    assert_eq!(density(excepted), 2 * fridays + 1);
    let several =
        calendar("Etc/UTC", &json!([{ "cron": "* * * * *" }, { "cron": "0 9 * * *" }, { "onDates": ["2026-01-01"] }]));
    assert_eq!(several.entries.iter().map(Entry::density).collect::<Vec<_>>(), [1, days, 1440 * days]);
}

#[test]
fn recurrence_counts_positions_with_one_time_a_day_only_and_numbers_have_nine_digits() {
    let of = |rule: &str| {
        let entry = json!([{ "rrule": { "start": "2026-01-01T09:00", "rule": rule } }]);
        of(&campaign("Etc/UTC", &entry, &json!({}))).is_ok()
    };
    assert!(of("FREQ=MONTHLY;BYDAY=MO,TU;BYSETPOS=-1") && of("FREQ=MONTHLY;BYDAY=MO;BYHOUR=9;BYSETPOS=1"));
    assert!(!of("FREQ=MONTHLY;BYDAY=MO;BYHOUR=9,10;BYSETPOS=1"));
    assert!(of("FREQ=DAILY;COUNT=10") && !of("FREQ=DAILY;COUNT=0000000010"), "ten digits");
}

#[test]
fn numbers_of_a_recurrence_begin_at_one_and_a_day_has_at_most_1440_times() {
    let rule = |rule: &str| json!([{ "rrule": { "start": "2026-01-01T00:00", "rule": rule } }]);
    let refused = |text: &str| of(&campaign("Etc/UTC", &rule(text), &json!({}))).err().map(|error| error.to_string());
    for (field, one, zero) in [
        ("COUNT", "FREQ=DAILY;COUNT=1", "FREQ=DAILY;COUNT=0"),
        ("INTERVAL", "FREQ=DAILY;INTERVAL=1", "FREQ=DAILY;INTERVAL=0"),
    ] {
        assert_eq!(refused(one), None);
        assert!(refused(zero).is_some_and(|said| said.contains(field)), "{zero}");
    }
    let numbers = |until: u32| (0..until).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    let times =
        |seconds| format!("FREQ=DAILY;BYHOUR={};BYMINUTE={};BYSECOND={}", numbers(24), numbers(60), numbers(seconds));
    assert_eq!(refused(&times(1)), None, "each minute of a day");
    for seconds in [2, 3] {
        assert!(refused(&times(seconds)).is_some_and(|said| said.contains("more than 1440")), "{seconds}");
    }
}

#[test]
fn the_first_days_that_are_known_have_windows_with_a_start() {
    let calendar = calendar("Etc/UTC", &json!([{ "onDates": ["1970-01-02", "1970-06-01"] }]));
    assert_eq!(
        windows(&calendar, "1970-01-01T00:00:00Z", "1971-01-01T00:00:00Z"),
        ["01-02T00:00/01-03T00:00", "06-01T00:00/06-02T00:00"]
    );
}

#[test]
fn a_window_of_more_stretches_than_are_looked_at_has_no_end() {
    let half = |from: &str, to: &str| json!({ "after": "2026-01-01T00:00", "timeOfDay": { "from": from, "to": to } });
    let calendar = calendar("Etc/UTC", &json!([half("00:00", "12:00"), half("12:00", "24:00")]));
    assert_eq!(windows(&calendar, "2026-06-01T00:00:00Z", "2026-07-01T00:00:00Z"), ["01-01T00:00/…"]);
    let mut from_then = calendar.windows(utc("2025-06-01T00:00:00Z"), utc("2026-07-01T00:00:00Z"));
    assert_eq!(from_then.next().map(|window| window.end_time), Some(None));
    assert_eq!(from_then.next(), None);
}
