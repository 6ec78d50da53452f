//! Open local times, day by day: all that days and times of day say of a rule, combined.
//!
//! The day is cut into slots at every time that is named, and each slot has the set of days on which
//! it is open. Local times may be combined before they become instants, because a later local time
//! never becomes an earlier instant: the result is the same, and costs some thousand words.

use super::days::{DAYS, Day, DaySet};

/// A local time in minutes since the first day known.
pub(super) type LocalMinute = i64;

pub(super) const MINUTES_PER_DAY: i64 = 1440;

/// Open local times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    /// Where slots begin, in minutes of the day: 0 first, ascending; with the days on which each is open.
    slots: Vec<(i64, DaySet)>,
    /// Days with an open slot.
    some: DaySet,
    /// Days with no other.
    whole: DaySet,
}

impl Pattern {
    pub fn whole_days(days: &DaySet) -> Self {
        Self::of(days, (0, MINUTES_PER_DAY))
    }

    /// From a minute of these days to another, which after 1440 is on the next day.
    pub fn of(days: &DaySet, (from, to): (i64, i64)) -> Self {
        let same_day = Self::within_day(days, from, to.min(MINUTES_PER_DAY));
        if to <= MINUTES_PER_DAY {
            return same_day;
        }
        let rest = Self::within_day(&days.next_days(), 0, to.saturating_sub(MINUTES_PER_DAY));
        same_day.or(&rest)
    }

    fn within_day(days: &DaySet, from: i64, to: i64) -> Self {
        let mut slots = vec![(0, DaySet::none())];
        if from == 0 {
            slots.clear();
        }
        slots.push((from, days.clone()));
        if to < MINUTES_PER_DAY {
            slots.push((to, DaySet::none()));
        }
        Self::from_slots(slots)
    }

    fn from_slots(slots: Vec<(i64, DaySet)>) -> Self {
        let some = slots.iter().fold(DaySet::none(), |all, (_, days)| all.or(days));
        let whole = slots.iter().fold(DaySet::all(), |all, (_, days)| all.and(days));
        Self { slots, some, whole }
    }

    pub fn or(&self, other: &Self) -> Self {
        self.with(other, DaySet::or)
    }

    pub fn minus(&self, other: &Self) -> Self {
        self.with(other, DaySet::minus)
    }

    fn with(&self, other: &Self, join: impl Fn(&DaySet, &DaySet) -> DaySet) -> Self {
        let mut starts: Vec<i64> = self.slots.iter().chain(&other.slots).map(|(start, _)| *start).collect();
        starts.sort_unstable();
        starts.dedup();
        let joined = |start: i64| Some((start, join(self.slot(start)?, other.slot(start)?)));
        Self::from_slots(starts.into_iter().filter_map(joined).collect())
    }

    /// The slot that holds a minute of the day.
    fn slot(&self, minute: i64) -> Option<&DaySet> {
        self.slots.iter().rev().find(|(start, _)| *start <= minute).map(|(_, days)| days)
    }

    /// The days on which it is open at some time between two minutes of the day; the second may be on the
    /// next day.
    pub fn days_open_between(&self, from: i64, to: i64) -> DaySet {
        let ends = self.slots.iter().skip(1).map(|(start, _)| *start).chain([MINUTES_PER_DAY]);
        let slots = self.slots.iter().zip(ends).map(|((start, days), end)| (*start, end, days));
        slots.fold(DaySet::none(), |all, (start, end, days)| {
            let all = if start < to && end > from { all.or(days) } else { all };
            let tomorrow = start < to.saturating_sub(MINUTES_PER_DAY);
            if tomorrow { all.or(&days.days_before()) } else { all }
        })
    }

    /// How many stretches there are at most.
    pub fn density(&self) -> usize {
        self.some.len().saturating_mul(self.slots.len())
    }

    pub fn is_empty(&self) -> bool {
        self.some.is_empty()
    }

    /// The unbroken stretches in [from, until), in order.
    pub fn stretches(
        &self,
        from: LocalMinute,
        until: LocalMinute,
    ) -> impl Iterator<Item = (LocalMinute, LocalMinute)> + '_ {
        let mut at = from;
        std::iter::from_fn(move || {
            let start = self.next_open(at).filter(|start| *start < until)?;
            at = self.next_closed(start).min(until);
            Some((start, at))
        })
    }

    fn next_open(&self, from: LocalMinute) -> Option<LocalMinute> {
        let (day, minute) = split(from);
        self.in_day(day, minute, true).or_else(|| {
            let day = self.some.next_in(day.checked_add(1)?)?;
            self.in_day(day, 0, true)
        })
    }

    fn next_closed(&self, from: LocalMinute) -> LocalMinute {
        let (day, minute) = split(from);
        let later = || {
            let day = self.whole.next_out(day.checked_add(1)?)?;
            self.in_day(day, 0, false)
        };
        self.in_day(day, minute, false).or_else(later).unwrap_or(DAYS.saturating_mul(MINUTES_PER_DAY))
    }

    /// The first minute of a day, from one on, that is open or is not.
    fn in_day(&self, day: Day, minute: i64, open: bool) -> Option<LocalMinute> {
        let ends = self.slots.iter().skip(1).map(|(start, _)| *start).chain([MINUTES_PER_DAY]);
        let found = self.slots.iter().zip(ends).find(|((_, days), end)| *end > minute && days.contains(day) == open);
        found.map(|((start, _), _)| join(day, (*start).max(minute)))
    }
}

fn split(at: LocalMinute) -> (Day, i64) {
    (at.div_euclid(MINUTES_PER_DAY), at.rem_euclid(MINUTES_PER_DAY))
}

fn join(day: Day, minute: i64) -> LocalMinute {
    day.saturating_mul(MINUTES_PER_DAY).saturating_add(minute)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stretches(pattern: &Pattern) -> Vec<(i64, i64)> {
        pattern.stretches(0, 20 * MINUTES_PER_DAY).collect()
    }

    #[test]
    fn days_in_a_row_are_one_stretch_and_the_night_belongs_to_the_day_it_began() {
        let days = DaySet::of([3, 4, 10]);
        assert_eq!(stretches(&Pattern::whole_days(&days)), [(3 * 1440, 5 * 1440), (10 * 1440, 11 * 1440)]);
        let night = Pattern::of(&days, (22 * 60, 26 * 60));
        let began = |day: i64| (day * 1440 + 22 * 60, (day + 1) * 1440 + 120);
        assert_eq!(stretches(&night), [began(3), began(4), began(10)]);
    }

    #[test]
    fn what_covers_everything_together_has_no_end() {
        let morning = Pattern::of(&DaySet::all(), (0, 720));
        let evening = Pattern::of(&DaySet::all(), (720, 1440));
        let both = morning.or(&evening);
        assert_eq!(both.stretches(0, i64::MAX).collect::<Vec<_>>(), [(0, DAYS * 1440)]);
        assert!(morning.minus(&Pattern::of(&DaySet::all(), (0, 800))).is_empty());
    }
}
