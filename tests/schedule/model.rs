//! The slow and obvious implementation: minute by minute, field by field.
//!
//! It knows nothing of boundaries, sets of days or searches. At every minute it asks what the highest
//! local time is that the clock has shown so far, and whether each field holds at that time. (A
//! boundary in a gap has passed when the clock is after the gap, and a boundary that comes twice has
//! passed the first time: that is the boundary rule, said of the clock.)

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, TimeDelta, Timelike, Utc};
use chrono_tz::Tz;

pub const MINUTE: TimeDelta = TimeDelta::minutes(1);

/// A schedule entry as the model reads it.
#[derive(Clone, Debug, Default)]
pub struct ModelFields {
    pub on_dates: Vec<NaiveDate>,
    pub month_days: Vec<(u32, u32)>,
    /// Monday is 0.
    pub weekdays: Vec<u32>,
    /// Hours and minutes.
    pub time_of_day: Option<((u32, u32), (u32, u32))>,
    pub after: Option<Bound>,
    pub before: Option<Bound>,
    pub ticks: Vec<ModelTicks>,
}

#[derive(Clone, Copy, Debug)]
pub enum Bound {
    Instant(DateTime<Utc>),
    Local(NaiveDateTime),
}

/// When something ticks, and how long a window is open after it.
#[derive(Clone, Debug)]
pub struct ModelTicks {
    pub window_minutes: usize,
    pub rule: TickRule,
}

#[derive(Clone, Debug)]
pub enum TickRule {
    /// Minutes, hours, days of month, months, days of week (Sunday is 0); none is `*`.
    Cron([Option<Vec<u32>>; 5]),
    /// Every so many days, weeks or months from a start, on days that a function of the rule accepts.
    Every { start: NaiveDateTime, unit: Unit, interval: i64, weekdays: Vec<u32>, nth: Option<i64> },
}

#[derive(Clone, Copy, Debug)]
pub enum Unit {
    Days,
    /// Weeks begin on Monday.
    Weeks,
    Months,
    Years,
}

#[derive(Clone, Debug, Default)]
pub struct ModelEntry {
    pub fields: ModelFields,
    pub except: Vec<ModelFields>,
}

/// The highest local time that a zone's clock has shown at each minute of a range.
pub struct Clock {
    pub from: DateTime<Utc>,
    pub reached: Vec<NaiveDateTime>,
    zone: Tz,
}

impl Clock {
    pub fn new(zone: Tz, from: DateTime<Utc>, minutes: usize) -> Self {
        let local = |at: DateTime<Utc>| at.with_timezone(&zone).naive_local();
        let mut highest = (0..300).map(|back| local(from - MINUTE * back)).max().unwrap();
        let mut at = from;
        let mut reached = Vec::with_capacity(minutes);
        for _ in 0..minutes {
            highest = highest.max(local(at));
            reached.push(highest);
            at += MINUTE;
        }
        Self { from, reached, zone }
    }

    pub fn instant(&self, minute: usize) -> DateTime<Utc> {
        self.from + MINUTE * i32::try_from(minute).unwrap()
    }

    /// True if the clock never showed a time of this day: the zone left it out.
    fn left_out(&self, day: NaiveDate) -> bool {
        let noon = day.and_hms_opt(12, 0, 0).unwrap();
        matches!(chrono::TimeZone::from_local_datetime(&self.zone, &noon), chrono::MappedLocalTime::None)
    }
}

/// For each minute of a clock: is the rule open, and does a tick begin a window here.
pub struct Opened {
    pub open: Vec<bool>,
    pub tick: Vec<bool>,
}

pub fn opened(
    clock: &Clock,
    entries: &[ModelEntry],
    start: Option<DateTime<Utc>>,
    end: Option<DateTime<Utc>>,
) -> Opened {
    let minutes = clock.reached.len();
    let mut all = Opened { open: vec![entries.is_empty(); minutes], tick: vec![false; minutes] };
    for entry in entries {
        let included = holds(clock, &entry.fields);
        let excepted: Vec<Opened> = entry.except.iter().map(|fields| holds(clock, fields)).collect();
        for minute in 0..minutes {
            let open = included.open[minute] && !excepted.iter().any(|except| except.open[minute]);
            all.open[minute] |= open;
            all.tick[minute] |= open && included.tick[minute];
        }
    }
    for minute in 0..minutes {
        let at = clock.instant(minute);
        let within = start.is_none_or(|start| start <= at) && end.is_none_or(|end| at < end);
        all.open[minute] &= within;
        all.tick[minute] &= within;
    }
    all
}

fn holds(clock: &Clock, fields: &ModelFields) -> Opened {
    let ticks: Vec<Opened> = fields.ticks.iter().map(|ticks| after_ticks(clock, ticks)).collect();
    let plain = |minute: usize| days_and_times(clock, fields, minute) && bounds(clock, fields, minute);
    let open: Vec<bool> = (0..clock.reached.len()).map(|m| ticks.iter().all(|t| t.open[m]) && plain(m)).collect();
    let tick = (0..clock.reached.len()).map(|m| open[m] && ticks.iter().any(|t| t.tick[m])).collect();
    Opened { open, tick }
}

fn days_and_times(clock: &Clock, fields: &ModelFields, minute: usize) -> bool {
    let local = clock.reached[minute];
    let today = local.date();
    let Some(((from_hour, from_minute), (to_hour, to_minute))) = fields.time_of_day else {
        return day_is_listed(fields, today);
    };
    let (now, from, to) = (local.hour() * 60 + local.minute(), from_hour * 60 + from_minute, to_hour * 60 + to_minute);
    if from < to {
        return day_is_listed(fields, today) && from <= now && now < to;
    }
    // A night belongs to the day on which it began, if that day was.
    let yesterday = today.pred_opt().unwrap();
    (day_is_listed(fields, today) && from <= now)
        || (day_is_listed(fields, yesterday) && !clock.left_out(yesterday) && now < to)
}

fn day_is_listed(fields: &ModelFields, day: NaiveDate) -> bool {
    (fields.on_dates.is_empty() || fields.on_dates.contains(&day))
        && (fields.month_days.is_empty() || fields.month_days.contains(&(day.month(), day.day())))
        && (fields.weekdays.is_empty() || fields.weekdays.contains(&day.weekday().num_days_from_monday()))
}

fn bounds(clock: &Clock, fields: &ModelFields, minute: usize) -> bool {
    let reached = |bound: Bound| match bound {
        Bound::Instant(at) => at <= clock.instant(minute),
        Bound::Local(at) => at <= clock.reached[minute],
    };
    fields.after.is_none_or(reached) && !fields.before.is_some_and(reached)
}

fn after_ticks(clock: &Clock, ticks: &ModelTicks) -> Opened {
    let minutes = clock.reached.len();
    let mut opened = Opened { open: vec![false; minutes], tick: vec![false; minutes] };
    let mut last_tick: Option<usize> = None;
    for minute in 1..minutes {
        // Every local minute that the clock reached or jumped over since the minute before.
        let mut local = clock.reached[minute - 1] + MINUTE;
        while local <= clock.reached[minute] {
            if ticks_at(&ticks.rule, local) {
                opened.tick[minute] = true;
                last_tick = Some(minute);
            }
            local += MINUTE;
        }
        opened.open[minute] = last_tick.is_some_and(|tick| minute - tick < ticks.window_minutes);
    }
    opened
}

fn ticks_at(rule: &TickRule, local: NaiveDateTime) -> bool {
    match rule {
        TickRule::Cron([minutes, hours, days, months, weekdays]) => {
            let has = |list: &Option<Vec<u32>>, value: u32| list.as_ref().is_none_or(|list| list.contains(&value));
            let weekday = local.weekday().num_days_from_sunday();
            let on_day = match (days, weekdays) {
                (Some(days), Some(weekdays)) => days.contains(&local.day()) || weekdays.contains(&weekday),
                _ => has(days, local.day()) && has(weekdays, weekday),
            };
            has(minutes, local.minute()) && has(hours, local.hour()) && has(months, local.month()) && on_day
        }
        TickRule::Every { start, unit, interval, weekdays, nth } => {
            local >= *start
                && local.time() == start.time()
                && units_between(start.date(), local.date(), *unit) % interval == 0
                && day_of_unit(start.date(), local.date(), *unit, weekdays, *nth)
        }
    }
}

fn units_between(start: NaiveDate, day: NaiveDate, unit: Unit) -> i64 {
    let monday = |day: NaiveDate| day - TimeDelta::days(day.weekday().num_days_from_monday().into());
    match unit {
        Unit::Days => (day - start).num_days(),
        Unit::Weeks => (monday(day) - monday(start)).num_days() / 7,
        Unit::Months => i64::from(day.year() - start.year()) * 12 + i64::from(day.month()) - i64::from(start.month()),
        Unit::Years => i64::from(day.year() - start.year()),
    }
}

fn day_of_unit(start: NaiveDate, day: NaiveDate, unit: Unit, weekdays: &[u32], nth: Option<i64>) -> bool {
    let listed = weekdays.contains(&day.weekday().num_days_from_monday());
    match (unit, nth) {
        (Unit::Days, _) => weekdays.is_empty() || listed,
        (Unit::Weeks, _) => {
            if weekdays.is_empty() {
                day.weekday() == start.weekday()
            } else {
                listed
            }
        }
        (Unit::Months, None) => {
            if weekdays.is_empty() {
                day.day() == start.day()
            } else {
                listed
            }
        }
        (Unit::Years, None) => {
            if weekdays.is_empty() {
                (day.month(), day.day()) == (start.month(), start.day())
            } else {
                listed
            }
        }
        (Unit::Months, Some(nth)) => listed && is_nth(day, nth, |d| (d.year(), d.month()) == (day.year(), day.month())),
        (Unit::Years, Some(nth)) => listed && is_nth(day, nth, |d| d.year() == day.year()),
    }
}

/// True if it is the nth of its weekday among the days of its unit, counted one by one.
fn is_nth(day: NaiveDate, nth: i64, in_unit: impl Fn(NaiveDate) -> bool) -> bool {
    let step = TimeDelta::days(if nth > 0 { -7 } else { 7 });
    let mut place = 0;
    let mut at = day;
    while in_unit(at) {
        place += 1;
        at += step;
    }
    place == nth.abs()
}
