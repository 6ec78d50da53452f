//! When a rule is open. Pure: a rule's schedules in, windows out, with the time as an argument.
//!
//! Each field of an entry gives stretches of local time; a boundary becomes an instant before
//! stretches are combined, so that changes of the clock neither open anything twice nor leave holes.
//! Days and times of day are combined as sets of days ([`pattern`]), ticks are worked out where they
//! are asked for ([`ticks`]), and a search goes forward in ranges that double, so that none is long.

mod anniversary;
mod cron;
mod days;
mod entry;
mod local;
mod pattern;
mod period;
mod recurrence;
mod search;
mod stretch;
mod ticks;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use crate::api::campaign::{CampaignRule, CampaignSpec, Window};
pub use anniversary::{AnniversaryCalendar, AnniversaryError, MonthDay};
pub use cron::CronError;
use entry::{ALWAYS, Entry};
pub use local::{date, first_instant, instant};
pub use period::Period;
pub use recurrence::RecurrenceError;
use search::Search;
use stretch::{Fuel, Stretch, Unix};

/// What is wrong with a schedule. Each names its field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    #[error("spec.timeZone: {0} is no IANA time zone: write a name such as Europe/Berlin or Etc/UTC")]
    TimeZone(String),
    #[error("{field}: {text} {expected}")]
    Value { field: String, text: String, expected: &'static str },
    #[error("{field}: {why}")]
    Combination { field: String, why: &'static str },
    #[error("{field}: {error}")]
    Cron { field: String, error: CronError },
    #[error("{field}: {error}")]
    Recurrence { field: String, error: RecurrenceError },
    #[error(
        "spec.rules[{0}].schedules: can never open: its fields never hold together, or except, or the campaign's startTime and endTime, leave nothing of them; correct it or remove the rule"
    )]
    NeverOpens(String),
}

/// When a rule is open, parsed. Windows are found when they are asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Calendar {
    zone: Tz,
    entries: Vec<Entry>,
    /// The campaign's start and end.
    bounds: Stretch,
}

impl Calendar {
    /// The calendar of a rule.
    ///
    /// # Errors
    /// If a zone or a field is wrong, or no window can ever open.
    pub fn of(campaign: &CampaignSpec, rule: &CampaignRule) -> Result<Self, ScheduleError> {
        let calendar = Self::parse(campaign, rule)?;
        if calendar.never_opens() {
            return Err(ScheduleError::NeverOpens(rule.name.clone()));
        }
        Ok(calendar)
    }

    fn parse(campaign: &CampaignSpec, rule: &CampaignRule) -> Result<Self, ScheduleError> {
        let zone: Tz = campaign.time_zone.parse().map_err(|_| ScheduleError::TimeZone(campaign.time_zone.clone()))?;
        let place = |i: usize| format!("spec.rules[{}].schedules[{i}]", rule.name);
        let entries = rule.schedules.iter().enumerate().map(|(i, s)| Entry::parse(zone, s, &place(i)));
        let entries = entries.collect::<Result<Vec<_>, _>>()?;
        let entries = if entries.is_empty() { vec![Entry::always()] } else { together(entries) };
        let bounds = Stretch::between(
            campaign.start_time.map_or(ALWAYS.start, entry::whole_second),
            campaign.end_time.map_or(ALWAYS.end, entry::whole_second),
        );
        Ok(Self { zone, entries, bounds })
    }

    /// The time zone of the campaign.
    #[must_use]
    pub fn zone(&self) -> Tz {
        self.zone
    }

    /// The window that is open at an instant, whole.
    #[must_use]
    pub fn open_at(&self, now: DateTime<Utc>) -> Option<Window> {
        let now = now.timestamp();
        let first = self.search(now).next().filter(|s| s.start <= now)?;
        let start = if first.tick { first.start } else { Search::start_of(self, now) };
        Some(window(Stretch { start, ..first }))
    }

    /// When the next window opens after an instant; none if there is none within reach of a search.
    #[must_use]
    pub fn next_opening(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let now = now.timestamp();
        let opens = |s: &Stretch| s.start > now && s.start > search::EARLIEST;
        self.search(now).find(opens).and_then(|s| DateTime::from_timestamp(s.start, 0))
    }

    /// The next instant after `now` at which a window opens or closes. If a search ends before it finds
    /// one, the instant up to which it looked.
    #[must_use]
    pub fn next_boundary(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let from = now.timestamp();
        let mut search = self.search(from);
        let found = search.by_ref().flat_map(|s| [s.start, s.end]).find(|at| *at > from);
        let at = found.or(search.stopped_at()).filter(|at| *at < search::LATEST)?;
        DateTime::from_timestamp(at, 0)
    }

    /// The windows that are open at any time in [from, until), whole, in order.
    pub fn windows(&self, from: DateTime<Utc>, until: DateTime<Utc>) -> impl Iterator<Item = Window> + '_ {
        let (from, until) = (from.timestamp(), until.timestamp());
        let open = self.open_at(DateTime::from_timestamp(from, 0).unwrap_or_default());
        let later = self.search(from).skip_while(move |s| s.start <= from && open.is_some());
        open.into_iter().filter(move |_| from < until).chain(later.take_while(move |s| s.start < until).map(window))
    }

    fn never_opens(&self) -> bool {
        let mut search = self.search(search::EARLIEST);
        search.next().is_none() && search.stopped_at().is_none()
    }

    fn search(&self, from: Unix) -> Search<'_> {
        Search::forward(self, from)
    }

    /// Where the rule is open within a range, cut at ticks; none if the fuel does not last.
    fn stretches(&self, range: Stretch, fuel: &Fuel) -> Option<Vec<Stretch>> {
        let Some(range) = range.clipped_to(self.bounds) else { return Some(Vec::new()) };
        let mut all = Vec::new();
        for entry in self.entries.iter().filter(|e| !e.never_holds()) {
            // Where all of the range is open anyway, only a tick can still make a difference.
            if entry.has_ticks() || !covers(&all, range) {
                all.extend(entry.stretches(self.zone, range, fuel));
            }
        }
        (fuel.left() > 0).then(|| stretch::union(all))
    }
}

/// True if one of the stretches is all of a range.
fn covers(stretches: &[Stretch], range: Stretch) -> bool {
    stretches.iter().any(|s| s.start <= range.start && range.end <= s.end)
}

/// Entries of days and times only are one. What is quick to look at comes first.
fn together(entries: Vec<Entry>) -> Vec<Entry> {
    let plain = entries.iter().filter_map(Entry::plain).cloned().reduce(|all, pattern| all.or(&pattern));
    let mut others: Vec<Entry> = entries.into_iter().filter(|e| e.plain().is_none()).collect();
    others.extend(plain.map(Entry::of));
    others.sort_by_cached_key(Entry::density);
    others
}

fn window(stretch: Stretch) -> Window {
    let known = |at: Unix, bounded: bool| DateTime::from_timestamp(at, 0).filter(|_| bounded);
    Window {
        start_time: known(stretch.start, stretch.start > search::EARLIEST),
        end_time: known(stretch.end, stretch.end < search::LATEST),
    }
}

/// The key of a window that begins at an instant: its local start, `20230101`, or `20230101T0900` when
/// that is not the day's first instant, with seconds when they are not zero; `open` when it has no
/// start. A frozen format: Coupons are named from it.
#[must_use]
pub fn key(zone: Tz, window: Window) -> String {
    window.start_time.map_or_else(|| "open".to_owned(), |start| local::key(zone, start))
}

impl Window {
    /// True if the instant is in the window.
    #[must_use]
    pub fn contains(&self, instant: DateTime<Utc>) -> bool {
        self.start_time.is_none_or(|start| start <= instant) && self.end_time.is_none_or(|end| instant < end)
    }

    /// The smallest window that holds both.
    #[must_use]
    pub fn hull(self, other: Self) -> Self {
        Self {
            start_time: self.start_time.zip(other.start_time).map(|(a, b)| a.min(b)),
            end_time: self.end_time.zip(other.end_time).map(|(a, b)| a.max(b)),
        }
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
