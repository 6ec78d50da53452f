//! When a rule is open. Pure: a rule's schedules in, windows out, with the time as an argument.
//!
//! Each day becomes an unbroken stretch of instants first, and stretches are combined as instants,
//! so that changes of the clock neither open anything twice nor leave holes.

mod local;
mod stretch;

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;

use crate::api::campaign::{CampaignRule, CampaignSpec, Window};
pub use local::{day, first_instant};
use stretch::Stretch;

/// What is wrong with a schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    #[error("spec.timeZone: {0} is no IANA time zone: write a name such as Europe/Berlin or Etc/UTC")]
    TimeZone(String),
    #[error(
        "spec.rules[{rule}].schedules[{schedule}].onDates[{date}]: {text} is no day of the calendar: write it as YYYY-MM-DD"
    )]
    Date { rule: String, schedule: usize, date: usize, text: String },
    #[error(
        "spec.rules[{0}].schedules: can never open between the campaign's startTime and endTime: correct the dates or remove the rule"
    )]
    NeverOpens(String),
}

/// A rule's windows, parsed and combined: every one there will ever be, in order, none overlapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calendar {
    zone: Tz,
    windows: Vec<Window>,
}

impl Calendar {
    /// The calendar of a rule.
    ///
    /// # Errors
    /// If a zone or a date is wrong, or no window can ever open.
    pub fn of(campaign: &CampaignSpec, rule: &CampaignRule) -> Result<Self, ScheduleError> {
        let zone: Tz = campaign.time_zone.parse().map_err(|_| ScheduleError::TimeZone(campaign.time_zone.clone()))?;
        let clip = Stretch { start: campaign.start_time, end: campaign.end_time };
        let stretches = if rule.schedules.is_empty() { vec![Stretch::default()] } else { stretches(zone, rule)? };
        let windows: Vec<Window> =
            stretch::union(stretches).into_iter().filter_map(|s| s.clipped_to(clip)).map(Window::from).collect();
        if windows.is_empty() {
            return Err(ScheduleError::NeverOpens(rule.name.clone()));
        }
        Ok(Self { zone, windows })
    }

    /// The window that is open at an instant.
    #[must_use]
    pub fn open_at(&self, now: DateTime<Utc>) -> Option<Window> {
        self.windows.iter().copied().find(|w| w.contains(now))
    }

    /// When the next window opens after an instant.
    #[must_use]
    pub fn next_opening(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.windows.iter().filter_map(|w| w.start_time).find(|start| *start > now)
    }

    /// The next instant after `now` at which a window opens or closes.
    #[must_use]
    pub fn next_boundary(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.windows.iter().flat_map(|w| [w.start_time, w.end_time]).flatten().find(|boundary| *boundary > now)
    }

    /// The key of a window's occurrence: its local start, `20230101`, or `20230101T0900` when that is
    /// not the day's first instant, with seconds when they are not zero; `open` when it has no start.
    /// A frozen format: Coupons are named from it.
    #[must_use]
    pub fn occurrence_key(&self, window: Window) -> String {
        window.start_time.map_or_else(|| "open".to_owned(), |start| local::key(self.zone, start))
    }
}

fn stretches(zone: Tz, rule: &CampaignRule) -> Result<Vec<Stretch>, ScheduleError> {
    let mut found = Vec::new();
    for (schedule_index, schedule) in rule.schedules.iter().enumerate() {
        for (date_index, text) in schedule.on_dates.iter().enumerate() {
            let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").map_err(|_| ScheduleError::Date {
                rule: rule.name.clone(),
                schedule: schedule_index,
                date: date_index,
                text: text.clone(),
            })?;
            found.extend(local::day(zone, date).map(|(start, end)| Stretch { start: Some(start), end: Some(end) }));
        }
    }
    Ok(found)
}

impl From<Stretch> for Window {
    fn from(stretch: Stretch) -> Self {
        Self { start_time: stretch.start, end_time: stretch.end }
    }
}

impl Window {
    /// True if the instant is in the window.
    #[must_use]
    pub fn contains(&self, instant: DateTime<Utc>) -> bool {
        self.start_time.is_none_or(|start| start <= instant) && self.end_time.is_none_or(|end| instant < end)
    }

    /// True if the two have an instant in common.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let before = |end: Option<DateTime<Utc>>, start: Option<DateTime<Utc>>| match (end, start) {
            (Some(end), Some(start)) => end <= start,
            _ => false,
        };
        !before(self.end_time, other.start_time) && !before(other.end_time, self.start_time)
    }
}

#[cfg(test)]
mod tests;
