//! Ticks: the local times at which a cron expression or a recurrence rule fires, and the windows
//! after them.

use chrono_tz::Tz;

use super::days::{self, Day, DaySet};
use super::local::{self, LocalDay};
use super::pattern::Pattern;
use super::stretch::{Fuel, Stretch, Unix};

const SECONDS_PER_DAY: i64 = 86_400;

/// Local times at which something fires: on each of these days at each of these times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ticks {
    days: DaySet,
    /// Seconds of the day, ascending.
    times: Vec<i64>,
    /// The first and the last tick that count, in local seconds since the first day known.
    first: i64,
    last: i64,
    /// How long a window is open after a tick.
    window: i64,
}

impl Ticks {
    /// Fires on each day at each time (seconds of the day).
    pub fn new(days: DaySet, mut times: Vec<i64>) -> Self {
        times.sort_unstable();
        times.dedup();
        Self { days, times, first: i64::MIN, last: i64::MAX, window: 0 }
    }

    /// Nothing before the local time `first`.
    pub fn from(self, first: i64) -> Self {
        Self { first, ..self }
    }

    /// Nothing after the local time `last`.
    pub fn until(self, last: i64) -> Self {
        Self { last: self.last.min(last), ..self }
    }

    /// Nothing after so many ticks.
    pub fn count(self, count: u64) -> Self {
        let nth = usize::try_from(count.saturating_sub(1)).unwrap_or(usize::MAX);
        let last = if count == 0 { Some(i64::MIN) } else { self.local_from(0).nth(nth) };
        match last {
            Some(last) => self.until(last),
            None => self,
        }
    }

    /// Only the ticks whose windows may meet a pattern, where the clock may jump by `jump` seconds.
    pub fn near(&self, pattern: &Pattern, jump: i64) -> Self {
        let reach = self.window.saturating_add(jump);
        if reach >= SECONDS_PER_DAY {
            return self.clone();
        }
        let meeting = |time: &i64| {
            let minute = |seconds: i64| seconds.div_euclid(60);
            let end = minute(time.saturating_add(reach)).saturating_add(1);
            (*time, pattern.days_open_between(minute(*time), end).and(&self.days))
        };
        let met: Vec<(i64, DaySet)> = self.times.iter().map(meeting).filter(|(_, days)| !days.is_empty()).collect();
        let days = met.iter().fold(DaySet::none(), |all, (_, days)| all.or(days));
        Self { days, times: met.into_iter().map(|(time, _)| time).collect(), ..*self }
    }

    /// With windows of so many seconds.
    pub fn with_window(self, window: i64) -> Self {
        Self { window, ..self }
    }

    /// How many ticks there are, bounds aside.
    pub fn density(&self) -> usize {
        self.days.len().saturating_mul(self.times.len())
    }

    /// True if it never fires.
    pub fn is_empty(&self) -> bool {
        self.local_from(0).next().is_none()
    }

    /// The ticks in local seconds since the first day known, from a day on.
    pub fn local_from(&self, day: Day) -> impl Iterator<Item = i64> + '_ {
        let next = |day: &Day| self.days.next_in(day.saturating_add(1));
        let all = std::iter::successors(self.days.next_in(day), next)
            .flat_map(|day| self.times.iter().map(move |time| at(day, *time)));
        all.skip_while(|tick| *tick < self.first).take_while(|tick| *tick <= self.last)
    }

    /// The windows after ticks within a range, as far as the fuel goes: each ends with the next tick at
    /// the latest, so none overlap.
    pub fn windows(&self, zone: Tz, range: Stretch, fuel: &Fuel) -> Vec<Stretch> {
        let mut instants = self.instants_from_tick_before(zone, range.start).peekable();
        let mut windows = Vec::new();
        while let Some(start) = instants.next() {
            if start >= range.end || !fuel.spend() {
                break;
            }
            // Several local times in a gap are one instant.
            while instants.next_if_eq(&start).is_some() {}
            let longest = start.saturating_add(self.window);
            let end = instants.peek().map_or(longest, |next| longest.min(*next));
            windows.extend(Stretch { start, end, tick: true }.clipped_to(range));
        }
        windows
    }

    /// The instants of the ticks from the last one up to an instant on: only its window can still be open.
    fn instants_from_tick_before(&self, zone: Tz, instant: Unix) -> impl Iterator<Item = Unix> + '_ {
        // Two days: a zone may be a day away from UTC, and may have left one out.
        let about = local::about(instant).saturating_add(2).min(days::DAYS);
        let first_is_before = |day: &LocalDay| self.times.first().is_some_and(|time| day.instant(*time) <= instant);
        let earlier = |day: &Day| self.days.last_in(day.checked_sub(1)?);
        let known = std::iter::successors(self.days.last_in(about), earlier).map(|day| LocalDay::of(zone, day));
        let first = self.days.next_in(0).unwrap_or_default();
        let day = known.into_iter().find(first_is_before).unwrap_or_else(|| LocalDay::of(zone, first));
        let skipped = self.times.partition_point(|time| day.instant(*time) <= instant).saturating_sub(1);
        let next = move |day: &LocalDay| Some(LocalDay::of(zone, self.days.next_in(day.number.saturating_add(1))?));
        let all =
            std::iter::successors(Some(day), next).flat_map(|day| self.times.iter().map(move |time| (day, *time)));
        let local = |(day, time): &(LocalDay, i64)| at(day.number, *time);
        all.skip(skipped)
            .skip_while(move |tick| local(tick) < self.first)
            .take_while(move |tick| local(tick) <= self.last)
            .map(|(day, time)| day.instant(time))
    }
}

fn at(day: Day, time: i64) -> i64 {
    day.saturating_mul(SECONDS_PER_DAY).saturating_add(time)
}
