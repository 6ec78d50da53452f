//! Random rules, as manifests and as the model reads them.

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, SecondsFormat, TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::model::{Bound, ModelEntry, ModelFields, ModelTicks, TickRule, Unit};

pub struct Random(pub StdRng);

/// Names in the order of the model's numbers.
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const BY_DAY: [&str; 7] = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"];

impl Random {
    pub fn seeded(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    pub fn below(&mut self, n: u32) -> u32 {
        self.0.random_range(0..n)
    }

    pub fn chance(&mut self, percent: u32) -> bool {
        self.below(100) < percent
    }

    pub fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        list.choose(&mut self.0).unwrap()
    }

    /// Some numbers from a range, at least one, each once, in order.
    fn some_of(&mut self, least: u32, most: u32) -> Vec<u32> {
        let count = 1 + self.below(4);
        let mut picked: Vec<u32> = (0..count).map(|_| least + self.below(most - least + 1)).collect();
        picked.sort_unstable();
        picked.dedup();
        picked
    }

    /// A time of day, more often than not near a change of the clock.
    fn time(&mut self) -> (u32, u32) {
        let hour = if self.chance(60) { *self.pick(&[0, 1, 2, 3, 23]) } else { self.below(24) };
        (hour, *self.pick(&[0, 0, 15, 30, 45, 59]))
    }

    fn near(&mut self, center: NaiveDate) -> NaiveDate {
        center + TimeDelta::days(i64::from(self.below(5)) - 2)
    }

    /// An entry that often has to do with the days around `center`.
    pub fn entry(&mut self, center: NaiveDate) -> (Value, ModelEntry) {
        let (mut schedule, fields) = self.fields(center);
        let mut entry = ModelEntry { fields, except: Vec::new() };
        let count = if self.chance(35) { 1 + self.below(2) } else { 0 };
        let mut except = Vec::new();
        for _ in 0..count {
            let (taken, model) = self.fields(center);
            except.push(taken);
            entry.except.push(model);
        }
        if !except.is_empty() {
            schedule["except"] = except.into();
        }
        (schedule, entry)
    }

    fn fields(&mut self, center: NaiveDate) -> (Value, ModelFields) {
        loop {
            let (schedule, fields) = self.maybe_empty_fields(center);
            if schedule.as_object().unwrap().keys().any(|key| key != "windowSeconds") {
                return (schedule, fields);
            }
        }
    }

    fn maybe_empty_fields(&mut self, center: NaiveDate) -> (Value, ModelFields) {
        let (mut schedule, mut fields) = (json!({}), ModelFields::default());
        if self.chance(25) {
            fields.on_dates = (0..=self.below(4)).map(|_| self.near(center)).collect();
            schedule["onDates"] = json!(fields.on_dates);
        }
        if self.chance(12) {
            let days = (0..=self.below(3)).map(|_| self.near(center));
            fields.month_days = days.map(|d| (d.month(), d.day())).collect();
            schedule["monthDays"] = fields.month_days.iter().map(|(m, d)| format!("{m:02}-{d:02}")).collect();
        }
        if self.chance(25) {
            fields.weekdays = self.some_of(0, 6);
            schedule["daysOfWeek"] = fields.weekdays.iter().map(|d| DAYS[*d as usize]).collect();
        }
        if self.chance(40) {
            let (from, mut to) = (self.time(), self.time());
            if self.chance(15) {
                to = (24, 0);
            }
            if from != to {
                fields.time_of_day = Some((from, to));
                let text = |(h, m): (u32, u32)| format!("{h:02}:{m:02}");
                schedule["timeOfDay"] = json!({ "from": text(from), "to": text(to) });
            }
        }
        if self.chance(10) {
            let (text, bound) = self.bound(center);
            (schedule["after"], fields.after) = (text.into(), Some(bound));
        }
        if self.chance(10) {
            let (text, bound) = self.bound(center);
            (schedule["before"], fields.before) = (text.into(), Some(bound));
        }
        self.ticks(center, &mut schedule, &mut fields);
        (schedule, fields)
    }

    fn bound(&mut self, center: NaiveDate) -> (String, Bound) {
        let (hour, minute) = self.time();
        let local = self.near(center).and_hms_opt(hour, minute, 0).unwrap();
        if self.chance(50) {
            return (local.format("%Y-%m-%dT%H:%M").to_string(), Bound::Local(local));
        }
        let instant: DateTime<Utc> = local.and_utc();
        (instant.to_rfc3339_opts(SecondsFormat::Secs, true), Bound::Instant(instant))
    }

    fn ticks(&mut self, center: NaiveDate, schedule: &mut Value, fields: &mut ModelFields) {
        let minutes = *self.pick(&[1, 5, 30, 60, 90, 240, 1500]);
        let mut given = false;
        if self.chance(20) {
            let cron = self.cron();
            schedule["cron"] = cron_text(&cron).into();
            fields.ticks.push(ModelTicks { window_minutes: minutes, rule: TickRule::Cron(cron) });
            given = true;
        }
        if self.chance(12) {
            let (start, text, rule) = self.recurrence(center);
            schedule["rrule"] = json!({ "start": start.format("%Y-%m-%dT%H:%M").to_string(), "rule": text });
            fields.ticks.push(ModelTicks { window_minutes: minutes, rule });
            given = true;
        }
        if given {
            schedule["windowSeconds"] = (minutes * 60).into();
        }
    }

    fn cron(&mut self) -> [Option<Vec<u32>>; 5] {
        let mut maybe = |percent: u32, least: u32, most: u32| self.chance(percent).then(|| self.some_of(least, most));
        [maybe(85, 0, 59), maybe(60, 0, 23), maybe(20, 1, 31), maybe(10, 1, 12), maybe(25, 0, 6)]
    }

    fn recurrence(&mut self, center: NaiveDate) -> (NaiveDateTime, String, TickRule) {
        let (hour, minute) = self.time();
        let back = i64::from(*self.pick(&[0, 1, 7, 30, 365, 2000]));
        let start = (self.near(center) - TimeDelta::days(back)).and_hms_opt(hour, minute, 0).unwrap();
        let interval = i64::from(1 + self.below(3));
        let weekdays = if self.chance(60) { self.some_of(0, 6) } else { Vec::new() };
        let (unit, name) = *self.pick(&[
            (Unit::Days, "DAILY"),
            (Unit::Weeks, "WEEKLY"),
            (Unit::Months, "MONTHLY"),
            (Unit::Years, "YEARLY"),
        ]);
        let can_count = matches!(unit, Unit::Months | Unit::Years) && !weekdays.is_empty();
        let nth = (can_count && self.chance(70)).then(|| *self.pick(&[1, 2, 3, 4, 5, -1, -2]));
        let mut text = format!("FREQ={name};INTERVAL={interval}");
        if !weekdays.is_empty() {
            let prefix = nth.map(|n: i64| n.to_string()).unwrap_or_default();
            let days: Vec<String> = weekdays.iter().map(|d| format!("{prefix}{}", BY_DAY[*d as usize])).collect();
            text = format!("{text};BYDAY={}", days.join(","));
        }
        (start, text, TickRule::Every { start, unit, interval, weekdays, nth })
    }
}

fn cron_text(fields: &[Option<Vec<u32>>; 5]) -> String {
    let text = |field: &Option<Vec<u32>>| match field {
        None => "*".to_owned(),
        Some(list) => list.iter().map(u32::to_string).collect::<Vec<_>>().join(","),
    };
    fields.iter().map(text).collect::<Vec<_>>().join(" ")
}

/// Zones and days on which calendars go wrong: gaps and repeats at midnight, a day that was left out,
/// half an hour, 29 February, year ends and week 53.
pub const PLACES: [(&str, &str); 24] = [
    ("Etc/UTC", "2024-02-29"),
    ("Etc/UTC", "2020-12-31"),
    ("Europe/Berlin", "2026-03-29"),
    ("Europe/Berlin", "2026-10-25"),
    ("Europe/Berlin", "2027-01-01"),
    ("Asia/Beirut", "2022-03-27"),
    ("Asia/Beirut", "2022-10-30"),
    ("Africa/Cairo", "2024-04-26"),
    ("Africa/Cairo", "2024-10-31"),
    ("America/Havana", "2026-03-08"),
    ("America/Havana", "2026-11-01"),
    ("America/Sao_Paulo", "2018-11-04"),
    ("America/Sao_Paulo", "2018-02-18"),
    ("Pacific/Apia", "2011-12-30"),
    ("Pacific/Apia", "2012-04-01"),
    ("Australia/Lord_Howe", "2026-04-05"),
    ("Australia/Lord_Howe", "2026-10-04"),
    ("America/New_York", "2026-03-08"),
    ("America/New_York", "2026-11-01"),
    ("Asia/Kathmandu", "2026-12-31"),
    ("Pacific/Kiritimati", "1994-12-31"),
    ("America/Scoresbysund", "2024-03-31"),
    ("Africa/Casablanca", "2026-02-15"),
    ("Antarctica/Troll", "2026-03-29"),
];

/// A place: zone and day.
pub fn place(random: &mut Random) -> (chrono_tz::Tz, NaiveDate) {
    if random.chance(80) {
        let (zone, day) = random.pick(&PLACES);
        return (zone.parse().unwrap(), day.parse().unwrap());
    }
    let zone = *random.pick(&chrono_tz::TZ_VARIANTS);
    // A rule may count from six years before.
    let first = NaiveDate::from_ymd_opt(1977, 1, 1).unwrap();
    (zone, first + TimeDelta::days(random.below(365 * 70).into()))
}
