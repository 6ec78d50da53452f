//! Entries of a schedule, parsed: what must hold together, and what is taken away.

use std::cmp::Ordering;

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Timelike};
use chrono_tz::Tz;

use super::ScheduleError;
use super::cron;
use super::days::{self, Day, DaySet};
use super::local;
use super::pattern::{MINUTES_PER_DAY, Pattern};
use super::recurrence;
use super::stretch::{Fuel, Stretch, Unix, minus, union};
use super::ticks::Ticks;
use crate::api::schedule::{AnniversaryOf, Schedule, ScheduleFields, TimeOfDay};

/// How long a window is open after a tick if the entry does not say.
const DEFAULT_WINDOW_SECONDS: i64 = 3600;

/// Fields that must all hold, parsed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fields {
    /// The days that the day fields leave; none if there is no day field.
    days: Option<DaySet>,
    /// Minutes of the day; after 1440 on the next.
    time: Option<(i64, i64)>,
    /// `after` and `before`.
    bounds: Stretch,
    ticks: Vec<Ticks>,
    /// Days and times together, if any of them is given.
    pattern: Option<Pattern>,
}

/// An entry, parsed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    fields: Fields,
    /// What has ticks comes last.
    except: Vec<Fields>,
    pub anniversary: Option<AnniversaryOf>,
}

/// Everything.
pub(super) const ALWAYS: Stretch = Stretch { start: i64::MIN, end: i64::MAX, tick: false };

impl Entry {
    /// Parses an entry; `field` is its place in the manifest.
    pub fn parse(zone: Tz, schedule: &Schedule, field: &str) -> Result<Self, ScheduleError> {
        let except = schedule
            .except
            .iter()
            .enumerate()
            .map(|(i, fields)| Fields::parse(zone, fields, &format!("{field}.except[{i}]")));
        if schedule.fields == ScheduleFields::default() && schedule.anniversary_of.is_none() {
            return Err(ScheduleError::Combination { field: field.to_owned(), why: EMPTY });
        }
        if let Some(i) = schedule.except.iter().position(|except| *except == ScheduleFields::default()) {
            return Err(ScheduleError::Combination { field: format!("{field}.except[{i}]"), why: EMPTY });
        }
        let mut except = except.collect::<Result<Vec<_>, _>>()?;
        // Those without ticks come first, since they are few and may take away many ticks.
        except.sort_by_cached_key(|except| (!except.ticks.is_empty(), except.density()));
        let fields = Fields::parse(zone, &schedule.fields, field)?;
        let entry = Self { fields, except, anniversary: schedule.anniversary_of.clone() };
        Ok(entry.simplified().with_near_ticks(zone))
    }

    /// What is always open.
    pub fn always() -> Self {
        let fields = Fields { days: None, time: None, bounds: ALWAYS, ticks: Vec::new(), pattern: None };
        Self { fields, except: Vec::new(), anniversary: None }
    }

    /// Exceptions of days and times are taken out of days and times here, once.
    fn simplified(mut self) -> Self {
        if self.anniversary.is_none() && (self.fields.pattern.is_some() || self.fields.is_all_day()) {
            let (plain, others): (Vec<_>, Vec<_>) = self.except.into_iter().partition(Fields::is_plain);
            let whole = || Pattern::whole_days(&DaySet::all());
            let patterns = plain.iter().filter_map(|e| e.pattern.as_ref());
            if !plain.is_empty() {
                let all = self.fields.pattern.clone().unwrap_or_else(whole);
                self.fields.pattern = Some(patterns.fold(all, |left, taken| left.minus(taken)));
            }
            self.except = others;
        }
        self
    }

    /// Ticks whose windows cannot meet the days and times are left out, so that nobody looks at them.
    fn with_near_ticks(mut self, zone: Tz) -> Self {
        if let Some(pattern) =
            self.fields.pattern.as_ref().filter(|_| self.anniversary.is_none() && !self.fields.ticks.is_empty())
        {
            let jump = local::history(zone).longest_gap_seconds;
            self.fields.ticks = self.fields.ticks.iter().map(|ticks| ticks.near(pattern, jump)).collect();
        }
        self
    }

    /// True if a window may begin within another.
    pub fn has_ticks(&self) -> bool {
        !self.fields.ticks.is_empty()
    }

    /// How many stretches it is made of and has taken away, roughly.
    pub fn density(&self) -> usize {
        self.except.iter().map(Fields::density).fold(self.fields.density(), usize::saturating_add)
    }

    /// The days and times of an entry that has nothing else.
    pub fn plain(&self) -> Option<&Pattern> {
        let plain = self.anniversary.is_none() && self.except.is_empty() && self.fields.is_plain();
        self.fields.pattern.as_ref().filter(|_| plain)
    }

    /// An entry of days and times only.
    pub fn of(pattern: Pattern) -> Self {
        let mut entry = Self::always();
        entry.fields.pattern = Some(pattern);
        entry
    }

    /// True if it can be seen at once that it never holds.
    pub fn never_holds(&self) -> bool {
        let fields = &self.fields;
        fields.bounds.start >= fields.bounds.end
            || fields.pattern.as_ref().is_some_and(Pattern::is_empty)
            || fields.ticks.iter().any(Ticks::is_empty)
    }

    /// Where it holds within a range, as far as the fuel goes; the anniversary aside.
    pub fn stretches(&self, zone: Tz, range: Stretch, fuel: &Fuel) -> Vec<Stretch> {
        // What is taken away in one piece is not looked at.
        let taken: Vec<Stretch> = self.except.iter().filter(|e| e.is_only_bounds()).map(|e| e.bounds).collect();
        let left = minus(&[range], &union(taken));
        let held = left.into_iter().flat_map(|range| self.fields.held(zone, range, fuel)).collect();
        self.narrowed(zone, held, fuel)
    }

    /// Where it holds if only the days from one to another count, both included. What begins on them may
    /// end on the day after.
    pub fn stretches_on(&self, zone: Tz, (first, last): (Day, Day), fuel: &Fuel) -> Vec<Stretch> {
        let days = (first..=last).filter(|day| self.fields.days.as_ref().is_none_or(|days| days.contains(*day)));
        let on_days = days
            .filter_map(|day| self.fields.on_day(zone, day))
            .filter_map(|stretch| stretch.clipped_to(self.fields.bounds));
        self.narrowed(zone, union(on_days.collect()), fuel)
    }

    /// What ticks and exceptions leave.
    fn narrowed(&self, zone: Tz, held: Vec<Stretch>, fuel: &Fuel) -> Vec<Stretch> {
        let (sparse, dense) = self.except.split_at(self.except.partition_point(|e| e.ticks.is_empty()));
        let without = |held: Vec<Stretch>, except: &Fields| {
            let taken = runs(&held).take_while(|_| fuel.spend()).flat_map(|run| except.stretches(zone, run, fuel));
            minus(&held, &taken.collect::<Vec<_>>())
        };
        let held = sparse.iter().fold(held, without);
        dense.iter().fold(self.fields.within_ticks(zone, held, fuel), without)
    }
}

impl Fields {
    fn parse(zone: Tz, fields: &ScheduleFields, place: &str) -> Result<Self, ScheduleError> {
        let days = day_set(fields, place)?;
        let time = fields.time_of_day.as_ref().map(|time| minutes(time, place)).transpose()?;
        let bound = |name: &str, text: &Option<String>| {
            let field = || format!("{place}.{name}");
            text.as_ref().map(|text| instant(zone, text).ok_or_else(|| wrong(field(), text, TIME))).transpose()
        };
        let start = bound("after", &fields.after)?.unwrap_or(ALWAYS.start);
        let end = bound("before", &fields.before)?.unwrap_or(ALWAYS.end);
        let pattern = (days.is_some() || time.is_some()).then(|| {
            let mut on = days.clone().unwrap_or_else(DaySet::all);
            let time = time.unwrap_or((0, MINUTES_PER_DAY));
            if time.1 > MINUTES_PER_DAY {
                // A night that would begin on a day that the zone left out does not begin.
                on = on.minus(&local::history(zone).skipped_days);
            }
            Pattern::of(&on, time)
        });
        Ok(Self { days, time, bounds: Stretch::between(start, end), ticks: ticks(fields, place)?, pattern })
    }

    /// How many stretches it is made of, roughly.
    fn density(&self) -> usize {
        let of_ticks = self.ticks.iter().map(Ticks::density).min();
        of_ticks.unwrap_or_else(|| self.pattern.as_ref().map_or(1, Pattern::density))
    }

    /// True if it has no field but days and times.
    fn is_plain(&self) -> bool {
        self.bounds == ALWAYS && self.ticks.is_empty()
    }

    /// True if it has no field but `after` and `before`.
    fn is_only_bounds(&self) -> bool {
        self.pattern.is_none() && self.ticks.is_empty()
    }

    fn is_all_day(&self) -> bool {
        self.is_plain() && self.pattern.is_none()
    }

    fn stretches(&self, zone: Tz, range: Stretch, fuel: &Fuel) -> Vec<Stretch> {
        self.within_ticks(zone, self.held(zone, range, fuel), fuel)
    }

    /// Where all fields hold but those with ticks.
    fn held(&self, zone: Tz, range: Stretch, fuel: &Fuel) -> Vec<Stretch> {
        let Some(range) = range.clipped_to(self.bounds) else { return Vec::new() };
        match &self.pattern {
            None => vec![range],
            Some(pattern) => instants(zone, pattern, range).take_while(|_| fuel.spend()).collect(),
        }
    }

    fn within_ticks(&self, zone: Tz, held: Vec<Stretch>, fuel: &Fuel) -> Vec<Stretch> {
        self.ticks.iter().fold(held, |held, ticks| {
            let windows = |s: &Stretch| {
                // A tick that begins the stretch is kept, as is one of the tick before.
                ticks.windows(zone, *s, fuel).into_iter().filter_map(|w| w.clipped_to(*s)).collect::<Vec<_>>()
            };
            held.iter().take_while(|_| fuel.spend()).flat_map(windows).collect()
        })
    }

    /// What the time of day leaves of a day, as instants.
    fn on_day(&self, zone: Tz, day: Day) -> Option<Stretch> {
        const DAY: i64 = 86_400;
        let at = |minute: i64| local::unix(zone, day.saturating_mul(DAY).saturating_add(minute.saturating_mul(60)));
        let (from, to) = self.time.unwrap_or((0, MINUTES_PER_DAY));
        let exists = at(0) < at(MINUTES_PER_DAY);
        let stretch = Stretch::between(at(from), at(to));
        (exists && stretch.start < stretch.end).then_some(stretch)
    }
}

/// Stretches that lie near each other as one: what is taken from many is looked up once.
fn runs(stretches: &[Stretch]) -> impl Iterator<Item = Stretch> {
    const NEAR_SECONDS: i64 = 600;
    let near = |a: &Stretch, b: &Stretch| b.start.saturating_sub(a.end) <= NEAR_SECONDS;
    let hull = |run: &[Stretch]| Some(Stretch::between(run.first()?.start, run.last()?.end));
    stretches.chunk_by(near).filter_map(hull)
}

/// A pattern's stretches as instants, within a range.
fn instants(zone: Tz, pattern: &Pattern, range: Stretch) -> impl Iterator<Item = Stretch> + '_ {
    const MINUTES_IN_TWO_DAYS: i64 = 2 * MINUTES_PER_DAY;
    // No zone is more than a day from UTC, and what touches the range is clipped to it.
    let minute = |unix: Unix| local::about(unix).saturating_mul(MINUTES_PER_DAY);
    let from = minute(range.start).saturating_sub(MINUTES_IN_TWO_DAYS).max(0);
    let until = minute(range.end).saturating_add(MINUTES_IN_TWO_DAYS);
    let unix = move |minute: i64| local::unix(zone, minute.saturating_mul(60));
    let whole = move |(start, end): (i64, i64)| {
        // What reaches the end of what is known goes on for ever.
        let start = if start <= 0 { ALWAYS.start } else { unix(start) };
        let end = if end >= days::DAYS.saturating_mul(MINUTES_PER_DAY) { ALWAYS.end } else { unix(end) };
        Stretch::between(start, end)
    };
    pattern.stretches(from, until).map(whole).filter_map(move |stretch| stretch.clipped_to(range))
}

const EMPTY: &str = "says nothing of when it holds: give it a field such as onDates, or remove it";
const DATE: &str = "is no day of the calendar from 1970 to 2199: write it as YYYY-MM-DD";
const MONTH_DAY: &str = "is no day of any year: write it as MM-DD";
const TIME_OF_DAY: &str = "is no time of day: write it as HH:MM";
const TIME: &str = "is no time: write RFC 3339 with an offset, such as 2023-01-01T09:00:00+01:00, or a local time such as 2023-01-01T09:00";
const START: &str = "is no local time from 1970 to 2199: write it as 2023-01-27T09:00";

fn wrong(field: String, text: &str, expected: &'static str) -> ScheduleError {
    ScheduleError::Value { field, text: text.to_owned(), expected }
}

/// The days on which all day fields hold; none if there is no such field.
fn day_set(fields: &ScheduleFields, place: &str) -> Result<Option<DaySet>, ScheduleError> {
    let mut sets = Vec::new();
    if !fields.on_dates.is_empty() {
        let dates = listed(
            &fields.on_dates,
            |i| format!("{place}.onDates[{i}]"),
            DATE,
            |text| {
                let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().filter(|_| text.len() == 10)?;
                days::number(date).filter(|_| days::YEARS.contains(&chrono::Datelike::year(&date)))
            },
        )?;
        sets.push(DaySet::of(dates));
    }
    if !fields.month_days.is_empty() {
        let days = listed(&fields.month_days, |i| format!("{place}.monthDays[{i}]"), MONTH_DAY, month_day)?;
        sets.push(DaySet::of_month_days(&days));
    }
    if !fields.days_of_week.is_empty() {
        let listed: Vec<i64> = fields.days_of_week.iter().map(|day| *day as i64).collect();
        sets.push(DaySet::of_weekdays(&listed));
    }
    Ok(sets.into_iter().reduce(|all, set| all.and(&set)))
}

fn listed<T>(
    texts: &[String],
    field: impl Fn(usize) -> String,
    expected: &'static str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, ScheduleError> {
    let parsed = |(i, text): (usize, &String)| parse(text).ok_or_else(|| wrong(field(i), text, expected));
    texts.iter().enumerate().map(parsed).collect()
}

/// Month and day of `MM-DD`; 29 February is one.
pub(super) fn month_day(text: &str) -> Option<(u32, u32)> {
    let (month, day) = text.split_once('-').filter(|(month, day)| month.len() == 2 && day.len() == 2)?;
    let (month, day) = (month.parse().ok()?, day.parse().ok()?);
    NaiveDate::from_ymd_opt(2000, month, day).map(|_| (month, day))
}

fn minutes(time: &TimeOfDay, place: &str) -> Result<(i64, i64), ScheduleError> {
    let field = |name: &str| format!("{place}.timeOfDay.{name}");
    let from = minute_of_day(&time.from).ok_or_else(|| wrong(field("from"), &time.from, TIME_OF_DAY))?;
    let end = (time.to == "24:00").then_some(MINUTES_PER_DAY);
    let to = end.or_else(|| minute_of_day(&time.to)).ok_or_else(|| wrong(field("to"), &time.to, TIME_OF_DAY))?;
    match to.cmp(&from) {
        Ordering::Greater => Ok((from, to)),
        Ordering::Less => Ok((from, to.saturating_add(MINUTES_PER_DAY))),
        Ordering::Equal => Err(ScheduleError::Combination {
            field: format!("{place}.timeOfDay"),
            why: "from and to are the same: leave timeOfDay out for the whole day",
        }),
    }
}

fn minute_of_day(text: &str) -> Option<i64> {
    let time = NaiveTime::parse_from_str(text, "%H:%M").ok().filter(|_| text.len() == 5)?;
    Some(i64::from(time.hour()).saturating_mul(60).saturating_add(time.minute().into()))
}

/// An instant from RFC 3339 or from local time. Fractions of a second count as begun.
fn instant(zone: Tz, text: &str) -> Option<Unix> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(whole_second(time.to_utc()));
    }
    let local = local_time(text)?;
    local::instant(zone, local).map(whole_second)
}

/// The first whole second from an instant on.
pub(super) fn whole_second(time: DateTime<chrono::Utc>) -> Unix {
    time.timestamp().saturating_add(i64::from(time.timestamp_subsec_nanos() > 0))
}

pub(super) fn local_time(text: &str) -> Option<NaiveDateTime> {
    let formats = ["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"];
    let whole = matches!(text.len(), 16 | 19);
    formats.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok()).filter(|_| whole)
}

fn ticks(fields: &ScheduleFields, place: &str) -> Result<Vec<Ticks>, ScheduleError> {
    let mut ticks = Vec::new();
    if let Some(text) = &fields.cron {
        let parsed =
            cron::parse(text).map_err(|error| ScheduleError::Cron { field: format!("{place}.cron"), error })?;
        ticks.push(parsed);
    }
    if let Some(rule) = &fields.rrule {
        let in_years = |time: &NaiveDateTime| days::YEARS.contains(&chrono::Datelike::year(time));
        let start = local_time(&rule.start).filter(in_years);
        let start = start.ok_or_else(|| wrong(format!("{place}.rrule.start"), &rule.start, START))?;
        let parsed = recurrence::parse(start, &rule.rule)
            .map_err(|error| ScheduleError::Recurrence { field: format!("{place}.rrule.rule"), error })?;
        ticks.push(parsed);
    }
    if ticks.is_empty() && fields.window_seconds.is_some() {
        return Err(ScheduleError::Combination {
            field: format!("{place}.windowSeconds"),
            why: "says how long a window is open after a tick: it goes with cron or rrule",
        });
    }
    // The fewer ticks the first leaves, the fewer of the second are looked at.
    ticks.sort_by_key(Ticks::density);
    let window = fields.window_seconds.unwrap_or(DEFAULT_WINDOW_SECONDS);
    Ok(ticks.into_iter().map(|ticks| ticks.with_window(window)).collect())
}
