//! Recurrence rules: RFC 5545, section 3.3.10, with FREQ of DAILY and slower, in local time.
//!
//! All days of a rule are worked out at once as a set of days, period by period, so that a rule that
//! never fires costs no more than another.

use std::collections::BTreeMap;
use std::str::FromStr;

use chrono::{Datelike, NaiveDate, NaiveDateTime, Timelike, Weekday};

use super::days::{self, Day, DaySet};
use super::ticks::Ticks;

/// What is wrong with a recurrence rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecurrenceError {
    #[error("{0} is not written as NAME=VALUE: a rule reads like FREQ=MONTHLY;BYDAY=-1FR")]
    Part(String),
    #[error("{0} is given twice")]
    Twice(String),
    #[error(
        "{0} is not known: RFC 5545 has FREQ, INTERVAL, COUNT, UNTIL, WKST, BYMONTH, BYWEEKNO, BYYEARDAY, BYMONTHDAY, BYDAY, BYHOUR, BYMINUTE, BYSECOND and BYSETPOS"
    )]
    Unknown(String),
    #[error("FREQ is missing: write DAILY, WEEKLY, MONTHLY or YEARLY")]
    NoFrequency,
    #[error(
        "FREQ={0} is not possible: write DAILY, WEEKLY, MONTHLY or YEARLY, and BYHOUR or BYMINUTE for more than once a day"
    )]
    Frequency(String),
    #[error("{name}: {text} {expected}")]
    Value { name: &'static str, text: String, expected: &'static str },
    #[error("{0}")]
    Combination(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Frequency {
    Daily,
    Weekly,
    Monthly,
    Yearly,
}

/// A weekday, and which of its period it is: -1 the last; none for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct NthWeekday {
    nth: Option<i64>,
    weekday: Weekday,
}

#[derive(Clone, Debug)]
struct Rule {
    frequency: Frequency,
    interval: i64,
    week_start: Weekday,
    months: Vec<i64>,
    week_numbers: Vec<i64>,
    year_days: Vec<i64>,
    month_days: Vec<i64>,
    weekdays: Vec<NthWeekday>,
    positions: Vec<i64>,
}

/// More ticks a day than this are refused: a window could be no longer than a minute.
const MOST_TIMES: usize = 1440;

/// The ticks of a rule that counts from a local time.
///
/// # Errors
/// If it is no rule, or one that is faster than daily.
pub(super) fn parse(start: NaiveDateTime, text: &str) -> Result<Ticks, RecurrenceError> {
    let mut parts = parts(text)?;
    let rule = Rule::take_from(&mut parts)?.with_defaults(start.date());
    rule.check()?;
    let times = times(&mut parts, start)?;
    if times.len() > 1 && !rule.positions.is_empty() {
        return Err(RecurrenceError::Combination(
            "BYSETPOS goes with one time a day: leave out all but one of BYHOUR, BYMINUTE and BYSECOND, or make two entries",
        ));
    }
    let ends = ends(&mut parts)?;
    if let Some(name) = parts.into_keys().next() {
        return Err(RecurrenceError::Unknown(name));
    }
    let ticks = Ticks::new(rule.days(start.date()), times).from(local_seconds(start));
    Ok(match ends {
        Ends::Never => ticks,
        Ends::Until(last) => ticks.until(last),
        Ends::Count(count) => ticks.count(count),
    })
}

type Parts = BTreeMap<String, String>;

fn parts(text: &str) -> Result<Parts, RecurrenceError> {
    let text = text.trim();
    let text = text.strip_prefix("RRULE:").unwrap_or(text);
    let mut parts = Parts::new();
    for part in text.split(';').filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').ok_or_else(|| RecurrenceError::Part(part.to_owned()))?;
        let name = name.trim().to_ascii_uppercase();
        if parts.insert(name.clone(), value.trim().to_ascii_uppercase()).is_some() {
            return Err(RecurrenceError::Twice(name));
        }
    }
    Ok(parts)
}

fn wrong(name: &'static str, text: &str, expected: &'static str) -> RecurrenceError {
    RecurrenceError::Value { name, text: text.to_owned(), expected }
}

/// A number with an optional sign, in digits.
fn number(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let plain = !digits.is_empty() && digits.len() <= 9 && digits.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| plain)
}

/// A list of numbers up to `most`; negative ones count from the end, where that is possible.
fn list(
    parts: &mut Parts,
    name: &'static str,
    most: i64,
    from_end: bool,
    expected: &'static str,
) -> Result<Vec<i64>, RecurrenceError> {
    let Some(text) = parts.remove(name) else { return Ok(Vec::new()) };
    let fits = |n: &i64| if from_end { (1..=most).contains(&n.abs()) } else { (0..=most).contains(n) };
    text.split(',').map(|item| number(item).filter(fits).ok_or_else(|| wrong(name, item, expected))).collect()
}

enum Ends {
    Never,
    Until(i64),
    Count(u64),
}

fn ends(parts: &mut Parts) -> Result<Ends, RecurrenceError> {
    match (parts.remove("COUNT"), parts.remove("UNTIL")) {
        (None, None) => Ok(Ends::Never),
        (Some(_), Some(_)) => {
            Err(RecurrenceError::Combination("COUNT and UNTIL exclude each other: write one of the two"))
        }
        (Some(text), None) => {
            let count = number(&text).and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0);
            count.map(Ends::Count).ok_or_else(|| wrong("COUNT", &text, "is no number from 1 on"))
        }
        (None, Some(text)) => until(&text).map(|last| Ends::Until(local_seconds(last))),
    }
}

/// Local, as the start is; with Z it would be another time in each zone.
fn until(text: &str) -> Result<NaiveDateTime, RecurrenceError> {
    const EXPECTED: &str =
        "is no local date or time without a zone: write it as 20231231 or 20231231T235959, without Z";
    if !text.is_ascii() {
        return Err(wrong("UNTIL", text, EXPECTED));
    }
    let time = NaiveDateTime::parse_from_str(text, "%Y%m%dT%H%M%S").ok();
    let date = || NaiveDate::parse_from_str(text, "%Y%m%d").ok()?.and_hms_opt(23, 59, 59);
    time.or_else(date).filter(|_| text.len() == 8 || text.len() == 15).ok_or_else(|| wrong("UNTIL", text, EXPECTED))
}

fn times(parts: &mut Parts, start: NaiveDateTime) -> Result<Vec<i64>, RecurrenceError> {
    let hours = list(parts, "BYHOUR", 23, false, "is no hour from 0 to 23")?;
    let minutes = list(parts, "BYMINUTE", 59, false, "is no minute from 0 to 59")?;
    let seconds = list(parts, "BYSECOND", 59, false, "is no second from 0 to 59")?;
    let or = |list: Vec<i64>, default: u32| if list.is_empty() { vec![i64::from(default)] } else { list };
    let (hours, minutes, seconds) = (or(hours, start.hour()), or(minutes, start.minute()), or(seconds, start.second()));
    if hours.len().saturating_mul(minutes.len()).saturating_mul(seconds.len()) > MOST_TIMES {
        return Err(RecurrenceError::Combination(
            "BYHOUR, BYMINUTE and BYSECOND make more than 1440 times a day: name fewer",
        ));
    }
    let mut times = Vec::new();
    for hour in hours {
        for minute in &minutes {
            let minute = hour.saturating_mul(60).saturating_add(*minute).saturating_mul(60);
            times.extend(seconds.iter().map(|second| minute.saturating_add(*second)));
        }
    }
    Ok(times)
}

fn weekday(text: &str) -> Option<Weekday> {
    ["MO", "TU", "WE", "TH", "FR", "SA", "SU"]
        .iter()
        .position(|name| *name == text)
        .and_then(|i| Weekday::try_from(u8::try_from(i).ok()?).ok())
}

impl FromStr for NthWeekday {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        // `split_at_checked`: a byte in the middle of a character is no place to split.
        let (nth, name) = text.split_at_checked(text.len().saturating_sub(2)).ok_or(())?;
        let nth =
            if nth.is_empty() { None } else { Some(number(nth).filter(|n| (1..=53).contains(&n.abs())).ok_or(())?) };
        Ok(Self { nth, weekday: weekday(name).ok_or(())? })
    }
}

impl Rule {
    fn take_from(parts: &mut Parts) -> Result<Self, RecurrenceError> {
        let frequency = match parts.remove("FREQ").ok_or(RecurrenceError::NoFrequency)?.as_str() {
            "DAILY" => Frequency::Daily,
            "WEEKLY" => Frequency::Weekly,
            "MONTHLY" => Frequency::Monthly,
            "YEARLY" => Frequency::Yearly,
            other => return Err(RecurrenceError::Frequency(other.to_owned())),
        };
        let interval = parts.remove("INTERVAL").unwrap_or_else(|| "1".to_owned());
        let interval = number(&interval)
            .filter(|n| *n > 0)
            .ok_or_else(|| wrong("INTERVAL", &interval, "is no number from 1 on"))?;
        let week_start = parts.remove("WKST").unwrap_or_else(|| "MO".to_owned());
        let week_start = weekday(&week_start)
            .ok_or_else(|| wrong("WKST", &week_start, "is no weekday: write MO, TU, WE, TH, FR, SA or SU"))?;
        let weekdays = parts.remove("BYDAY").unwrap_or_default();
        let weekdays = weekdays
            .split(',')
            .filter(|_| !weekdays.is_empty())
            .map(|item| item.parse().map_err(|()| wrong("BYDAY", item, "is no weekday such as MO, 1MO or -1FR")));
        Ok(Self {
            frequency,
            interval,
            week_start,
            weekdays: weekdays.collect::<Result<_, _>>()?,
            months: list(parts, "BYMONTH", 12, true, "is no month from 1 to 12")?,
            week_numbers: list(parts, "BYWEEKNO", 53, true, "is no week from 1 to 53 or -53 to -1")?,
            year_days: list(parts, "BYYEARDAY", 366, true, "is no day from 1 to 366 or -366 to -1")?,
            month_days: list(parts, "BYMONTHDAY", 31, true, "is no day from 1 to 31 or -31 to -1")?,
            positions: list(parts, "BYSETPOS", 366, true, "is no position from 1 to 366 or -366 to -1")?,
        })
    }

    /// What the start says where the rule does not.
    fn with_defaults(mut self, start: NaiveDate) -> Self {
        let says_days = !(self.week_numbers.is_empty()
            && self.year_days.is_empty()
            && self.month_days.is_empty()
            && self.weekdays.is_empty());
        let says_weeks_only = !self.week_numbers.is_empty()
            && self.year_days.is_empty()
            && self.month_days.is_empty()
            && self.weekdays.is_empty();
        if says_weeks_only {
            self.weekdays.push(NthWeekday { nth: None, weekday: start.weekday() });
        }
        if says_days {
            return self;
        }
        match self.frequency {
            Frequency::Daily => {}
            Frequency::Weekly => self.weekdays.push(NthWeekday { nth: None, weekday: start.weekday() }),
            Frequency::Monthly => self.month_days.push(start.day().into()),
            Frequency::Yearly => {
                if self.months.is_empty() {
                    self.months.push(start.month().into());
                }
                self.month_days.push(start.day().into());
            }
        }
        self
    }

    fn check(&self) -> Result<(), RecurrenceError> {
        let yearly = self.frequency == Frequency::Yearly;
        let nth = self.weekdays.iter().any(|w| w.nth.is_some());
        let refused = if self.months.iter().any(|month| *month < 1) {
            Some("BYMONTH: a month is a number from 1 to 12")
        } else if !self.week_numbers.is_empty() && !yearly {
            Some("BYWEEKNO goes with FREQ=YEARLY only")
        } else if !self.year_days.is_empty() && !yearly {
            Some("BYYEARDAY goes with FREQ=YEARLY only")
        } else if !self.month_days.is_empty() && self.frequency == Frequency::Weekly {
            Some("BYMONTHDAY does not go with FREQ=WEEKLY")
        } else if nth && !(yearly || self.frequency == Frequency::Monthly) {
            Some("BYDAY: a number before the weekday goes with FREQ=MONTHLY and FREQ=YEARLY only")
        } else if nth && !self.week_numbers.is_empty() {
            Some("BYDAY: a number before the weekday does not go with BYWEEKNO")
        } else {
            None
        };
        refused.map_or(Ok(()), |why| Err(RecurrenceError::Combination(why)))
    }

    /// All days of the rule from its start on.
    fn days(&self, start: NaiveDate) -> DaySet {
        let mut found = DaySet::none();
        let Some(first) = days::number(start) else { return found };
        if self.is_plain_daily() {
            let step = usize::try_from(self.interval).unwrap_or(usize::MAX);
            return DaySet::of((first..days::DAYS).step_by(step));
        }
        let origin = self.period(first, start);
        let mut period: Vec<Day> = Vec::new();
        let mut current = origin;
        // From the beginning of the start's period: BYSETPOS counts from there.
        for (day, date) in days::from(first.saturating_sub(366).max(0)) {
            let of = self.period(day, date);
            if of != current {
                self.positioned(&period).for_each(|day| found.insert(day));
                period.clear();
                current = of;
            }
            let due = of >= origin && of.saturating_sub(origin).checked_rem(self.interval) == Some(0);
            if due && self.matches(date) {
                period.push(day);
            }
        }
        self.positioned(&period).for_each(|day| found.insert(day));
        found
    }

    /// Every day, or every so many days, and nothing else: the commonest rule, and the one with most days.
    fn is_plain_daily(&self) -> bool {
        let plain = [&self.months, &self.week_numbers, &self.year_days, &self.month_days, &self.positions];
        self.frequency == Frequency::Daily && self.weekdays.is_empty() && plain.iter().all(|list| list.is_empty())
    }

    /// The number of the day, week, month or year that a day is in.
    fn period(&self, day: Day, date: NaiveDate) -> i64 {
        match self.frequency {
            Frequency::Daily => day,
            Frequency::Weekly => day.saturating_sub(self.day_of_week(date)).div_euclid(7),
            Frequency::Monthly => i64::from(date.year()).saturating_mul(12).saturating_add(date.month0().into()),
            Frequency::Yearly => date.year().into(),
        }
    }

    /// Days since the week began, by WKST.
    fn day_of_week(&self, date: NaiveDate) -> i64 {
        date.weekday().days_since(self.week_start).into()
    }

    /// The days of a period that BYSETPOS leaves.
    fn positioned<'a>(&'a self, period: &'a [Day]) -> impl Iterator<Item = Day> + 'a {
        let count = i64::try_from(period.len()).unwrap_or_default();
        period.iter().enumerate().filter_map(move |(i, day)| {
            let from_start = i64::try_from(i).ok()?.saturating_add(1);
            let from_end = from_start.saturating_sub(count).saturating_sub(1);
            let picked = self.positions.is_empty()
                || self.positions.iter().any(|position| *position == from_start || *position == from_end);
            picked.then_some(*day)
        })
    }

    fn matches(&self, date: NaiveDate) -> bool {
        // Lengths are worked out only where something is listed: this is asked for each day of 230 years.
        let listed = |list: &[i64], from_start: u32, length: fn(NaiveDate) -> i64| {
            let from_start = i64::from(from_start);
            let is = |n: &i64| *n == from_start || n.saturating_add(length(date)).saturating_add(1) == from_start;
            list.is_empty() || list.iter().any(is)
        };
        listed(&self.months, date.month(), |_| 12)
            && listed(&self.month_days, date.day(), days_in_month)
            && listed(&self.year_days, date.ordinal(), |date| days_in_year(date.year()))
            && (self.week_numbers.is_empty() || self.in_listed_week(date))
            && (self.weekdays.is_empty() || self.weekdays.iter().any(|weekday| self.is_weekday(*weekday, date)))
    }

    /// Weeks are numbered as RFC 5545 says: the first has at least four days in its year.
    fn in_listed_week(&self, date: NaiveDate) -> bool {
        let (year, number) = self.week_number(date);
        let weeks = self.weeks_in(year);
        self.week_numbers.iter().any(|n| *n == number || *n == number.saturating_sub(weeks).saturating_sub(1))
    }

    fn week_number(&self, date: NaiveDate) -> (i32, i64) {
        // The middle of its week says which year a week belongs to.
        let middle = date
            .checked_sub_days(chrono::Days::new(self.day_of_week(date).unsigned_abs()))
            .and_then(|start| start.checked_add_days(chrono::Days::new(3)))
            .unwrap_or(date);
        (middle.year(), i64::from(middle.ordinal0()).div_euclid(7).saturating_add(1))
    }

    fn weeks_in(&self, year: i32) -> i64 {
        // 28 December is always in the last week that has its middle in the year, or one before it.
        let last =
            (28..=31).filter_map(|day| NaiveDate::from_ymd_opt(year, 12, day)).map(|date| self.week_number(date));
        last.filter(|(of, _)| *of == year).map(|(_, number)| number).max().unwrap_or(52)
    }

    fn is_weekday(&self, wanted: NthWeekday, date: NaiveDate) -> bool {
        if date.weekday() != wanted.weekday {
            return false;
        }
        let Some(nth) = wanted.nth else { return true };
        // With BYMONTH the number counts within the month, else within the period.
        let in_month = self.frequency == Frequency::Monthly || !self.months.is_empty();
        let (place, length) = if in_month {
            (i64::from(date.day()), days_in_month(date))
        } else {
            (i64::from(date.ordinal()), days_in_year(date.year()))
        };
        let from_start = place.saturating_sub(1).div_euclid(7).saturating_add(1);
        let from_end = length.saturating_sub(place).div_euclid(7).saturating_add(1);
        nth == from_start || nth == from_end.saturating_neg()
    }
}

fn days_in_month(date: NaiveDate) -> i64 {
    date.num_days_in_month().into()
}

fn days_in_year(year: i32) -> i64 {
    if NaiveDate::from_ymd_opt(year, 2, 29).is_some() { 366 } else { 365 }
}

/// A local time in seconds since the first day known.
pub(super) fn local_seconds(time: NaiveDateTime) -> i64 {
    let first = days::date(0).and_time(chrono::NaiveTime::MIN);
    time.signed_duration_since(first).num_seconds()
}
