//! It ends: whatever is asked of a rule, the answer comes soon, also when it never opens.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use coupon_operator::api::campaign::CampaignSpec;
use coupon_operator::schedule::{Calendar, MonthDay, ScheduleError};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Ten milliseconds in production; tests are not optimised, and machines may be busy.
const SOON: Duration = Duration::from_millis(if cfg!(debug_assertions) { 150 } else { 10 });

/// For what nobody writes but to do harm.
const BOUNDED: Duration = Duration::from_millis(if cfg!(debug_assertions) { 3000 } else { 300 });

fn of(zone: &str, schedules: &Value) -> Result<Calendar, ScheduleError> {
    let spec: CampaignSpec = serde_json::from_value(json!({
        "timeZone": zone, "audience": { "profiles": [] },
        "rules": [{ "name": "r", "schedules": schedules, "effects": [] }],
    }))
    .unwrap();
    Calendar::of(&spec, &spec.rules[0])
}

fn now() -> DateTime<Utc> {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

/// Everything that is asked of a calendar.
fn ask(calendar: &Calendar, at: DateTime<Utc>) {
    let _ = (calendar.open_at(at), calendar.next_opening(at), calendar.next_boundary(at));
    let _ = calendar.windows(at, at + TimeDelta::days(1)).take(100).count();
}

/// What was fastest of a few tries took that long: the rest is the machine's doing.
fn takes(work: impl Fn()) -> Duration {
    let once = || {
        let begun = Instant::now();
        work();
        begun.elapsed()
    };
    (0..3).map(|_| once()).min().unwrap()
}

#[test]
fn rules_that_never_open_or_open_in_2096_are_answered_at_once() {
    let never = [
        json!([{ "cron": "0 0 30 2 *" }]),
        json!([{ "cron": "0 3 * * *", "timeOfDay": { "from": "09:00", "to": "17:00" } }]),
        json!([{ "rrule": { "start": "2023-01-01T09:00", "rule": "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30" } }]),
        json!([{ "onDates": ["2023-01-02"], "daysOfWeek": ["Sunday"] }]),
        json!([{ "daysOfWeek": ["Monday"], "except": [{ "daysOfWeek": ["Monday"] }] }]),
        json!([{ "after": "2024-01-01T00:00", "before": "2023-01-01T00:00" }]),
        json!([{ "onDates": ["2026-03-29"], "timeOfDay": { "from": "02:15", "to": "02:45" } }]),
    ];
    for schedules in never {
        let took = takes(|| assert!(matches!(of("Europe/Berlin", &schedules), Err(ScheduleError::NeverOpens(_)))));
        assert!(took < SOON, "{took:?}: {schedules}");
    }
    let late = [
        json!([{ "onDates": ["2096-02-29"] }]),
        json!([{ "cron": "*/5 * * * *", "onDates": ["2096-02-29"] }]),
        json!([{ "cron": "0 0 29 2 *", "after": "2093-01-01T00:00" }]),
        json!([{ "monthDays": ["02-29"], "after": "2093-01-01T00:00" }]),
        json!([{ "rrule": { "start": "2096-02-29T00:00", "rule": "FREQ=DAILY;BYHOUR=0,1,2,3,4,5" } }]),
        json!([{ "timeOfDay": { "from": "00:00", "to": "12:00" }, "except": [{ "before": "2096-02-29T00:00" }] }]),
    ];
    for schedules in late {
        let took = takes(|| {
            let opens = of("Europe/Berlin", &schedules).unwrap().next_opening(now()).unwrap();
            assert_eq!(opens.to_rfc3339(), "2096-02-28T23:00:00+00:00", "{schedules}");
        });
        assert!(took < SOON, "{took:?}: {schedules}");
    }
}

#[test]
fn the_largest_and_densest_rules_are_bounded_too() {
    let minutely = || json!({ "cron": "* * * * *", "windowSeconds": 31_622_400 });
    let daily = || json!({ "rrule": { "start": "1970-01-01T00:00", "rule": "FREQ=DAILY;BYHOUR=0,6,12,18;BYMINUTE=0,15,30,45" } });
    let masked = json!({ "cron": "* * * * *", "windowSeconds": 60, "except": vec![json!({ "cron": "* * * * *", "windowSeconds": 60 }); 8] });
    let dates: Vec<String> = (0..366).map(|i| (now().date_naive() + TimeDelta::days(i * 3)).to_string()).collect();
    let many = json!({ "onDates": dates, "cron": "* * * * *", "except": vec![daily(); 8], "timeOfDay": { "from": "23:59", "to": "23:58" } });
    let odd = |minute: usize| json!({ "timeOfDay": { "from": format!("00:{minute:02}"), "to": format!("23:{minute:02}") }, "except": [{ "cron": "*/7 * * * *", "windowSeconds": 60 }] });
    for schedules in [
        vec![minutely(); 16],
        vec![daily(); 16],
        vec![masked; 16],
        vec![many; 16],
        (0..16).map(odd).collect(),
        vec![
            json!({ "cron": "0 0 1 1 *", "rrule": { "start": "1970-01-01T00:01", "rule": "FREQ=DAILY" }, "windowSeconds": 60 });
            16
        ],
    ] {
        let schedules = Value::from(schedules);
        for zone in ["Europe/Berlin", "Pacific/Apia", "Africa/Casablanca"] {
            let took = takes(|| {
                if let Ok(calendar) = of(zone, &schedules) {
                    ask(&calendar, now());
                }
            });
            assert!(took < BOUNDED, "{took:?}: {zone} {}", schedules[0]);
        }
    }
}

/// A rule that ticks each minute and takes all of it away again, in a different way in each entry.
fn masked(i: usize) -> Value {
    let except = |n: usize| json!({ "cron": format!("{}/{n} * * * *", i % n), "windowSeconds": 60 * n });
    let windows = json!({ "cron": "* * * * *", "windowSeconds": 60 });
    json!({ "cron": "* * * * *", "windowSeconds": 60 + i, "except": [except(2), except(3), except(4), except(5), except(6), except(10), except(12), windows] })
}

/// Too dense to look through all its years: no proof that it never opens, and yet an answer at once.
#[test]
fn each_question_to_a_dense_rule_that_never_opens_is_answered_at_once() {
    let alike = json!({ "cron": "* * * * *", "windowSeconds": 60, "except": vec![json!({ "cron": "* * * * *", "windowSeconds": 60 }); 8] });
    for schedules in [vec![alike; 16], (0..16).map(masked).collect()] {
        let schedules = Value::from(schedules);
        for zone in ["Europe/Berlin", "Pacific/Apia", "Africa/Casablanca"] {
            let calendar = of(zone, &schedules).unwrap();
            let questions: [(&str, &dyn Fn()); 3] = [
                ("open", &|| assert_eq!(calendar.open_at(now()), None)),
                ("next opening", &|| assert_eq!(calendar.next_opening(now()), None)),
                ("next boundary", &|| assert!(calendar.next_boundary(now()).is_some_and(|at| at > now()))),
            ];
            for (name, question) in questions {
                let took = takes(question);
                assert!(took < SOON, "{took:?}: {name}, {zone}");
            }
        }
    }
}

/// Text that is nearly right, more often than not.
fn text(pieces: &'static [&'static str]) -> impl Strategy<Value = String> {
    let piece = prop_oneof![8 => prop::sample::select(pieces).prop_map(str::to_owned), 1 => any::<char>().prop_map(String::from), 1 => any::<i64>().prop_map(|n| n.to_string())];
    prop::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
}

const CRON: &[&str] =
    &["*", "/", "-", ",", " ", " ", "0", "59", "31", "2", "?", "MON", "jan", "@daily", "L", "#", "*/5", "\t"];
const RULE: &[&str] = &[
    "FREQ=",
    "DAILY",
    "YEARLY",
    "MONTHLY",
    "WEEKLY",
    "SECONDLY",
    ";",
    ";",
    "INTERVAL=",
    "COUNT=",
    "UNTIL=",
    "BYDAY=",
    "MO",
    "-1",
    "53",
    "BYSETPOS=",
    "BYWEEKNO=",
    "BYYEARDAY=",
    "BYMONTHDAY=",
    "BYMONTH=",
    "BYHOUR=",
    "BYMINUTE=",
    "BYSECOND=",
    "WKST=SU",
    ",",
    "1",
    "366",
    "20230101",
    "T000000Z",
    "=",
    "é",
];
const TIME: &[&str] = &[
    "2023-01-01",
    "T",
    "t",
    "09:00",
    ":30",
    "24:00",
    "Z",
    "+01:00",
    "-99:99",
    "0000",
    "9999-12-31",
    "2022-03-27T00:30",
    "02-29",
    ".999999999",
    "é",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_a_schedule_panic_or_hang(
        cron in text(CRON), rule in text(RULE), start in text(TIME), bound in text(TIME), other in text(TIME),
        zone in prop::sample::select(&["Etc/UTC", "Pacific/Apia", "Australia/Lord_Howe", "Nowhere"][..]),
        window in any::<i64>(), at in -70_000_000_000_i64..300_000_000_000,
    ) {
        let schedules = [
            json!([{ "cron": cron, "windowSeconds": window }]),
            json!([{ "rrule": { "start": "2023-01-27T09:00", "rule": rule }, "windowSeconds": window }]),
            json!([{ "rrule": { "start": start, "rule": "FREQ=DAILY" } }]),
            json!([{ "after": bound, "before": other }]),
            json!([{ "timeOfDay": { "from": bound, "to": other }, "onDates": [start], "monthDays": [other] }]),
        ];
        let begun = Instant::now();
        for schedules in schedules {
            if let Ok(calendar) = of(zone, &schedules) {
                ask(&calendar, DateTime::from_timestamp(at, 0).unwrap_or_default());
            }
        }
        let _ = MonthDay::parse(&start);
        prop_assert!(begun.elapsed() < BOUNDED * 5, "{:?}", begun.elapsed());
    }
}
