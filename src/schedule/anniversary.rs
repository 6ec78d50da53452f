//! Anniversaries: windows that each recipient has around a date of their own, every year.

use chrono::{DateTime, Datelike, NaiveDate, Utc};
use chrono_tz::Tz;
use serde_json::Value;

use super::days;
use super::entry::{Entry, month_day};
use super::stretch::{Fuel, Stretch, union};
use super::{Calendar, ScheduleError, local, window};
use crate::api::campaign::{CampaignRule, CampaignSpec, Window};
use crate::api::schedule::AnniversaryOf;

/// Around an instant, the years whose anniversaries may be open: one may begin or end over a year
/// before or after its day.
const REACH: i32 = 2;

/// A next window is looked for in so many years: after 40, weekdays and leap years have met in
/// every way.
const FUTURE: i32 = 42;

const MOST_STRETCHES: usize = 10_000;

/// Month and day of a recipient's date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MonthDay {
    month: u32,
    day: u32,
}

/// A recipient without an anniversary.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnniversaryError {
    #[error("profile.attributes.{0} is missing")]
    Missing(String),
    #[error("profile.attributes.{0} is no date: write it as YYYY-MM-DD or MM-DD")]
    NoDate(String),
}

impl MonthDay {
    /// Reads `YYYY-MM-DD`, `MM-DD`, or the date that an RFC 3339 time begins with.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let date = || NaiveDate::parse_from_str(text, "%Y-%m-%d").ok();
        let time = || DateTime::parse_from_rfc3339(text).ok().map(|time| time.date_naive());
        let (month, day) = month_day(text).or_else(|| date().or_else(time).map(|d| (d.month(), d.day())))?;
        Some(Self { month, day })
    }

    /// The anniversary in a year: 29 February counts as the 28th in common years.
    fn in_year(self, year: i32) -> Option<NaiveDate> {
        NaiveDate::from_ymd_opt(year, self.month, self.day).or_else(|| NaiveDate::from_ymd_opt(year, 2, 28))
    }
}

/// When a rule is open for a recipient, around their own date.
#[derive(Clone, Debug, PartialEq)]
pub struct AnniversaryCalendar {
    calendar: Calendar,
    attribute: String,
}

impl AnniversaryCalendar {
    /// The calendar of a rule whose schedules all go by the same attribute; none if no schedule does.
    ///
    /// # Errors
    /// If a field is wrong, some schedules go by an anniversary and others do not, or none can ever be open.
    pub fn of(campaign: &CampaignSpec, rule: &CampaignRule) -> Result<Option<Self>, ScheduleError> {
        let attributes: Vec<Option<&str>> =
            rule.schedules.iter().map(|s| s.anniversary_of.as_ref().map(|a| a.attribute.as_str())).collect();
        let Some(attribute) = attributes.iter().flatten().next() else { return Ok(None) };
        if attributes.iter().any(|other| *other != Some(attribute)) {
            return Err(ScheduleError::Combination {
                field: format!("spec.rules[{}].schedules", rule.name),
                why: "anniversaryOf goes by each recipient's own date: let all entries of the rule have it with the same attribute, or make two rules",
            });
        }
        Ok(Some(Self { calendar: Calendar::of(campaign, rule)?, attribute: (*attribute).to_owned() }))
    }

    #[must_use]
    pub fn zone(&self) -> Tz {
        self.calendar.zone
    }

    /// The attribute whose date it goes by.
    #[must_use]
    pub fn attribute(&self) -> &str {
        &self.attribute
    }

    /// The date that a recipient's attributes hold.
    ///
    /// # Errors
    /// If there is none.
    pub fn month_day(&self, attribute: impl FnOnce(&str) -> Option<Value>) -> Result<MonthDay, AnniversaryError> {
        match attribute(&self.attribute) {
            None | Some(Value::Null) => Err(AnniversaryError::Missing(self.attribute.clone())),
            Some(Value::String(text)) => {
                MonthDay::parse(&text).ok_or_else(|| AnniversaryError::NoDate(self.attribute.clone()))
            }
            Some(_) => Err(AnniversaryError::NoDate(self.attribute.clone())),
        }
    }

    /// The windows of a recipient's anniversary of a year, in order.
    #[must_use]
    pub fn windows_of(&self, date: MonthDay, year: i32) -> Vec<Window> {
        let Some(day) = date.in_year(year) else { return Vec::new() };
        let fuel = Fuel::new(MOST_STRETCHES);
        let on = |entry: &Entry| {
            let days = entry.anniversary.as_ref().and_then(|around| around.days(day));
            days.map(|days| entry.stretches_on(self.calendar.zone, days, &fuel)).unwrap_or_default()
        };
        let all: Vec<Stretch> = self.calendar.entries.iter().flat_map(on).collect();
        let clipped = all.into_iter().filter_map(|s| s.clipped_to(self.calendar.bounds)).collect();
        union(clipped).into_iter().map(window).collect()
    }

    /// The windows that are open at an instant, with the years of their anniversaries: two years can be
    /// open at once.
    #[must_use]
    pub fn open_at(&self, date: MonthDay, now: DateTime<Utc>) -> Vec<(i32, Window)> {
        let open = |(_, w): &(i32, Window)| w.contains(now);
        self.around(date, now, REACH).filter(open).collect()
    }

    /// The windows that are open at any time in [from, until), in order.
    #[must_use]
    pub fn windows(&self, date: MonthDay, from: DateTime<Utc>, until: DateTime<Utc>) -> Vec<(i32, Window)> {
        let years = until.year().saturating_sub(from.year()).saturating_add(REACH);
        let range = Window { start_time: Some(from), end_time: Some(until) };
        let mut found: Vec<(i32, Window)> =
            self.around(date, from, years).filter(|(_, w)| w.overlaps(&range)).collect();
        found.sort_by_key(|(year, w)| (w.start_time, *year));
        found
    }

    /// When a window opens next.
    #[must_use]
    pub fn next_opening(&self, date: MonthDay, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        // Later years begin later, so the first year with an opening has the next, or its follower has.
        let mut openings = self.around(date, now, FUTURE).filter_map(|(year, w)| Some((year, w.start_time?)));
        let (found_in, first) = openings.find(|(_, start)| *start > now)?;
        let near = openings.take_while(|(year, _)| *year <= found_in.saturating_add(REACH));
        Some(near.map(|(_, start)| start).filter(|start| *start > now).fold(first, DateTime::min))
    }

    /// The next instant at which a window opens or closes.
    #[must_use]
    pub fn next_boundary(&self, date: MonthDay, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let ends = self.around(date, now, REACH).filter_map(|(_, w)| w.end_time).filter(|end| *end > now);
        ends.chain(self.next_opening(date, now)).min()
    }

    /// All that can be open of a year for anybody, clipped to the campaign.
    #[must_use]
    pub fn year(&self, year: i32) -> Window {
        let around = self.calendar.entries.iter().filter_map(|e| e.anniversary.as_ref());
        let (before, after) =
            around.fold((0, 0), |(before, after), a| (before.max(a.days_before), after.max(a.days_after)));
        let first = NaiveDate::from_ymd_opt(year, 1, 1).and_then(|d| moved(d, before.saturating_neg()));
        // Two days more: what begins in the last night ends on the day after.
        let end = NaiveDate::from_ymd_opt(year, 12, 31).and_then(|d| moved(d, after.saturating_add(2)));
        let unix = |date: Option<NaiveDate>| local::first_instant(self.zone(), date?).map(|time| time.timestamp());
        let (Some(start), Some(end)) = (unix(first), unix(end)) else { return Window::default() };
        Stretch::between(start, end).clipped_to(self.calendar.bounds).map_or_else(Window::default, window)
    }

    fn around(&self, date: MonthDay, now: DateTime<Utc>, future: i32) -> impl Iterator<Item = (i32, Window)> + '_ {
        let year = now.year();
        let years = year.saturating_sub(REACH)..=year.saturating_add(future);
        years.flat_map(move |year| self.windows_of(date, year).into_iter().map(move |w| (year, w)))
    }
}

impl AnniversaryOf {
    /// The days around an anniversary, first and last.
    fn days(&self, anniversary: NaiveDate) -> Option<(days::Day, days::Day)> {
        let day = days::number(anniversary)?;
        Some((day.saturating_sub(self.days_before.into()), day.saturating_add(self.days_after.into())))
    }
}

fn moved(date: NaiveDate, by: i32) -> Option<NaiveDate> {
    date.checked_add_signed(chrono::TimeDelta::days(by.into()))
}
