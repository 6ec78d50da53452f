//! Occurrences: what a rule grants a code for, once to each recipient.

use std::collections::BTreeSet;

use chrono::{DateTime, Days, Months, Utc};
use chrono_tz::Tz;
use serde_json::Value;

use crate::api::campaign::{CampaignRule, CampaignSpec, OncePer, Window};
use crate::schedule::{self, AnniversaryCalendar, AnniversaryError, Calendar, MonthDay, Period, ScheduleError};

/// When a rule is open, and how often it grants.
#[derive(Clone, Debug, PartialEq)]
pub struct Timing {
    calendar: RuleCalendar,
    once_per: OncePer,
}

#[derive(Clone, Debug, PartialEq)]
enum RuleCalendar {
    /// The same for everybody.
    Common(Calendar),
    /// Around a date of each recipient.
    Anniversary(AnniversaryCalendar),
}

/// What is granted for: its key, and the window that is open for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occurrence {
    pub key: String,
    /// The window, cut at the ends of the period if it is longer than that.
    pub window: Window,
    /// The period within which nobody gets a second code, if `oncePer` has one.
    pub period: Option<Window>,
    /// It is an anniversary: beside it, another year's may be open.
    pub anniversary: bool,
}

/// No rule has more windows than this looked at at once: a week of windows a minute.
const MOST_WINDOWS: usize = 10_080;

impl Timing {
    /// The timing of a rule.
    ///
    /// # Errors
    /// If the schedules are wrong, or no window can ever open.
    pub fn of(campaign: &CampaignSpec, rule: &CampaignRule) -> Result<Self, ScheduleError> {
        let calendar = match AnniversaryCalendar::of(campaign, rule)? {
            Some(_) if rule.once_per != OncePer::Window => {
                return Err(ScheduleError::Combination {
                    field: format!("spec.rules[{}].oncePer", rule.name),
                    why: "a rule with anniversaryOf gives one code for each anniversary: leave oncePer out",
                });
            }
            Some(calendar) => RuleCalendar::Anniversary(calendar),
            None => RuleCalendar::Common(Calendar::of(campaign, rule)?),
        };
        Ok(Self { calendar, once_per: rule.once_per })
    }

    /// The time zone of the campaign.
    #[must_use]
    pub fn zone(&self) -> Tz {
        match &self.calendar {
            RuleCalendar::Common(calendar) => calendar.zone(),
            RuleCalendar::Anniversary(calendar) => calendar.zone(),
        }
    }

    /// The calendar of a rule that goes by each recipient's own date.
    #[must_use]
    pub fn anniversary(&self) -> Option<&AnniversaryCalendar> {
        match &self.calendar {
            RuleCalendar::Common(_) => None,
            RuleCalendar::Anniversary(calendar) => Some(calendar),
        }
    }

    fn common(&self) -> Option<&Calendar> {
        match &self.calendar {
            RuleCalendar::Common(calendar) => Some(calendar),
            RuleCalendar::Anniversary(_) => None,
        }
    }

    /// The occurrence that is open for everybody; none if none is, or if each recipient has their own.
    #[must_use]
    pub fn open_at(&self, now: DateTime<Utc>) -> Option<Occurrence> {
        Some(self.piece(self.common()?.open_at(now)?, now))
    }

    /// The occurrence of a recipient's anniversary of a year at an instant: the window that is open, or,
    /// if the year is opened once more, the last that has begun.
    ///
    /// # Errors
    /// If the recipient has no date that the rule goes by.
    pub fn anniversary_of(
        &self,
        year: i32,
        attribute: impl FnOnce(&str) -> Option<Value>,
        now: DateTime<Utc>,
        reopened: bool,
    ) -> Result<Option<Occurrence>, AnniversaryError> {
        let Some(calendar) = self.anniversary() else { return Ok(None) };
        let windows = calendar.windows_of(calendar.month_day(attribute)?, year);
        let open = windows.iter().find(|window| window.contains(now));
        let begun = || windows.iter().rfind(|window| window.start_time.is_none_or(|start| start <= now));
        let window = open.or_else(|| begun().filter(|_| reopened)).copied();
        Ok(window.map(|window| anniversary(year, window)))
    }

    /// The windows that are open for everybody at any time in [from, until), whole, in order, cut at the
    /// ends of periods.
    pub fn windows(&self, from: DateTime<Utc>, until: DateTime<Utc>) -> impl Iterator<Item = Occurrence> + '_ {
        let whole = self.common().map(|calendar| calendar.windows(from, until));
        whole.into_iter().flatten().flat_map(move |window| self.pieces(window, from, until))
    }

    /// The windows of a recipient, likewise.
    #[must_use]
    pub fn windows_for(&self, date: MonthDay, from: DateTime<Utc>, until: DateTime<Utc>) -> Vec<Occurrence> {
        let windows = self.anniversary().map(|calendar| calendar.windows(date, from, until)).unwrap_or_default();
        windows.into_iter().map(|(year, window)| anniversary(year, window)).collect()
    }

    fn pieces(
        &self,
        window: Window,
        from: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> impl Iterator<Item = Occurrence> + '_ {
        let first = window.start_time.map_or(from, |start| start.max(from));
        let after = move |piece: &Occurrence| {
            let end = piece.window.end_time.filter(|end| *end < until)?;
            window.end_time.is_none_or(|last| end < last).then(|| self.piece(window, end))
        };
        std::iter::successors(Some(self.piece(window, first)), after)
    }

    /// The part of a window that an instant in it is in, as an occurrence.
    fn piece(&self, window: Window, at: DateTime<Utc>) -> Occurrence {
        let Some(period) = Period::once_per(self.once_per) else {
            let key = schedule::key(self.zone(), window);
            return Occurrence { key, window, period: None, anniversary: false };
        };
        let uncut = window.start_time.filter(|start| !self.is_longer(window, *start, period));
        let held = period.holding(self.zone(), uncut.unwrap_or(at));
        let part = Window {
            start_time: window.start_time.max(held.start_time),
            end_time: earlier(window.end_time, held.end_time),
        };
        Occurrence {
            key: period.key(self.zone(), uncut.unwrap_or(at)),
            window: if uncut.is_some() { window } else { part },
            period: Some(held),
            anniversary: false,
        }
    }

    /// True if a window goes on past the same local time a day, a week, a month or a year later.
    fn is_longer(&self, window: Window, start: DateTime<Utc>, period: Period) -> bool {
        let local = start.with_timezone(&self.zone()).naive_local();
        let later = match period {
            Period::Day => local.checked_add_days(Days::new(1)),
            Period::Week => local.checked_add_days(Days::new(7)),
            Period::Month => local.checked_add_months(Months::new(1)),
            Period::Year => local.checked_add_months(Months::new(12)),
            Period::Campaign => None,
        };
        let longest = later.and_then(|later| schedule::instant(self.zone(), later));
        longest.is_some_and(|longest| window.end_time.is_none_or(|end| end > longest))
    }

    /// When a window next opens; with `dates`, those of the audience for a rule that goes by them.
    #[must_use]
    pub fn next_opening(&self, dates: &BTreeSet<MonthDay>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match &self.calendar {
            RuleCalendar::Common(calendar) => {
                let cut = self.cut_after(calendar, now);
                cut.into_iter().chain(calendar.next_opening(now)).min()
            }
            RuleCalendar::Anniversary(calendar) => {
                dates.iter().filter_map(|date| calendar.next_opening(*date, now)).min()
            }
        }
    }

    /// The next instant at which a window opens or closes.
    #[must_use]
    pub fn next_boundary(&self, dates: &BTreeSet<MonthDay>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match &self.calendar {
            RuleCalendar::Common(calendar) => {
                let cut = self.cut_after(calendar, now);
                cut.into_iter().chain(calendar.next_boundary(now)).min()
            }
            RuleCalendar::Anniversary(calendar) => {
                dates.iter().filter_map(|date| calendar.next_boundary(*date, now)).min()
            }
        }
    }

    /// Where the window that is open is cut next.
    fn cut_after(&self, calendar: &Calendar, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let window = calendar.open_at(now)?;
        let end = self.piece(window, now).window.end_time?;
        window.end_time.is_none_or(|whole| end < whole).then_some(end)
    }

    /// The window that had a key and has closed, for opening it once more.
    #[must_use]
    pub fn closed(&self, key: &str, now: DateTime<Utc>) -> Option<Occurrence> {
        // Looked for backward, since the last window is wanted: a key such as `campaign` says nothing of when.
        const BACK_DAYS: [i64; 4] = [2, 40, 800, 16_000];
        let (from, until) = key_range(self.zone(), key)?;
        let closed = |o: &Occurrence| o.key == key && o.window.end_time.is_some_and(|end| end <= now);
        BACK_DAYS.iter().find_map(|days| {
            let start = until.min(now).checked_sub_signed(chrono::TimeDelta::days(*days))?.max(from);
            self.windows(start, until.min(now)).take(MOST_WINDOWS).filter(closed).last()
        })
    }

    /// Windows that closed after `from` and up to `now`, oldest first, and whether there are more than
    /// are looked at.
    #[must_use]
    pub fn closed_since(&self, from: DateTime<Utc>, now: DateTime<Utc>) -> (Vec<Occurrence>, bool) {
        let closed = |o: &Occurrence| o.window.end_time.is_some_and(|end| from < end && end <= now);
        let found: Vec<Occurrence> = self.windows(from, now).filter(closed).take(MOST_WINDOWS).collect();
        let more = found.len() == MOST_WINDOWS;
        (found, more)
    }
}

impl Occurrence {
    /// True if whoever has a Coupon with such a key and window gets no other for this occurrence.
    #[must_use]
    pub fn counts(&self, key: &str, window: &Window) -> bool {
        key == self.key || self.counts_by_time(key, window)
    }

    /// The same, by the window alone: it overlaps, or began in the same period. An anniversary is its year.
    #[must_use]
    pub fn counts_by_time(&self, key: &str, window: &Window) -> bool {
        if self.anniversary {
            // Two years of an anniversary may overlap, and are two occurrences.
            return key == self.key || (!is_year(key) && window.overlaps(&self.window));
        }
        let began_in = |period: &Window| match window.start_time {
            Some(start) => period.contains(start),
            None => window.overlaps(period),
        };
        window.overlaps(&self.window) || self.period.as_ref().is_some_and(began_in)
    }

    /// Until when anything more can be granted under its key.
    #[must_use]
    pub fn grants_until(&self) -> Option<DateTime<Utc>> {
        let period_end = self.period.map_or(self.window.end_time, |period| period.end_time);
        self.window.end_time.zip(period_end).map(|(a, b)| a.max(b))
    }
}

/// The occurrence of an anniversary.
#[must_use]
pub fn anniversary(year: i32, window: Window) -> Occurrence {
    Occurrence { key: year_key(year), window, period: None, anniversary: true }
}

/// The key of an anniversary.
#[must_use]
pub fn year_key(year: i32) -> String {
    format!("{year:04}")
}

/// True if a key may be that of an anniversary, or of a rule once a year.
#[must_use]
pub fn is_year(key: &str) -> bool {
    key.len() == 4 && key.bytes().all(|b| b.is_ascii_digit())
}

/// The earlier of two ends; none is without end.
fn earlier(a: Option<DateTime<Utc>>, b: Option<DateTime<Utc>>) -> Option<DateTime<Utc>> {
    a.into_iter().chain(b).min()
}

/// Where the windows of a key may be: around the days that it names.
fn key_range(zone: Tz, key: &str) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
    let (first, days) = key_days(key)?;
    let from = schedule::first_instant(zone, first)?;
    let until = schedule::first_instant(zone, first.checked_add_days(Days::new(days))?)?;
    Some((from, until))
}

fn key_days(key: &str) -> Option<(chrono::NaiveDate, u64)> {
    use chrono::NaiveDate;
    let date = |text: &str, format: &str| NaiveDate::parse_from_str(text, format).ok();
    if let Some(day) = key.get(..8).filter(|day| day.bytes().all(|b| b.is_ascii_digit())) {
        return Some((date(day, "%Y%m%d")?, 1));
    }
    if let Some((year, week)) = key.split_once("-W") {
        return Some((NaiveDate::from_isoywd_opt(year.parse().ok()?, week.parse().ok()?, chrono::Weekday::Mon)?, 7));
    }
    match key.len() {
        10 => Some((date(key, "%Y-%m-%d")?, 1)),
        7 => Some((date(&format!("{key}-01"), "%Y-%m-%d")?, 31)),
        4 => Some((NaiveDate::from_ymd_opt(key.parse().ok()?, 1, 1)?, 366)),
        // `campaign` and `open` name no day.
        _ => Some((NaiveDate::from_ymd_opt(1970, 1, 1)?, 84_000)),
    }
}

#[cfg(test)]
mod tests;
