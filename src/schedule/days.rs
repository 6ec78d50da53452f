//! A set of local days, one bit for each.
//!
//! Everything that a schedule says of days fits into one such set, so that "never" and "not before
//! 2096" are answered by looking at some thousand words, whatever the rule.

use chrono::{Datelike, Days, NaiveDate};

/// A local day, counted from the first that a [`DaySet`] knows.
pub(super) type Day = i64;

/// The first day known, two years before the earliest date that a schedule may name: what reaches
/// back to it has no beginning.
const FIRST: NaiveDate = match NaiveDate::from_ymd_opt(1968, 1, 1) {
    Some(date) => date,
    None => NaiveDate::MIN,
};

/// Days known: to the end of 2201, two years after the last date that a schedule may name.
pub(super) const DAYS: Day = 85_467;

/// The years whose dates a schedule may name.
pub(super) const YEARS: std::ops::RangeInclusive<i32> = 1970..=2199;

const WORD: i64 = 64;

/// The number of a date; none outside the days known.
pub(super) fn number(date: NaiveDate) -> Option<Day> {
    let day = date.signed_duration_since(FIRST).num_days();
    (0..DAYS).contains(&day).then_some(day)
}

/// The date of a day.
pub(super) fn date(day: Day) -> NaiveDate {
    let days = Days::new(u64::try_from(day).unwrap_or_default());
    FIRST.checked_add_days(days).unwrap_or(NaiveDate::MAX)
}

/// All days from one on, with their dates.
pub(super) fn from(day: Day) -> impl Iterator<Item = (Day, NaiveDate)> {
    (day..DAYS).zip(date(day).iter_days())
}

/// A set of local days.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DaySet(Box<[u64]>);

impl DaySet {
    pub fn none() -> Self {
        Self(vec![0; words()].into())
    }

    pub fn all() -> Self {
        Self::none().not()
    }

    pub fn of(days: impl IntoIterator<Item = Day>) -> Self {
        let mut set = Self::none();
        days.into_iter().for_each(|day| set.insert(day));
        set
    }

    /// Every day of a week that is listed, with Monday as 0.
    pub fn of_weekdays(listed: &[i64]) -> Self {
        if (0..7).all(|weekday| listed.contains(&weekday)) {
            return Self::all();
        }
        let first = i64::from(FIRST.weekday().num_days_from_monday());
        let offsets = listed.iter().map(|weekday| weekday.saturating_sub(first).rem_euclid(7));
        Self::of(offsets.flat_map(|offset| (offset..DAYS).step_by(7)))
    }

    /// The listed days, month and day of it, of every year that has them.
    pub fn of_month_days(listed: &[(u32, u32)]) -> Self {
        let years = FIRST.year()..=date(DAYS.saturating_sub(1)).year();
        let in_year =
            |year: i32| listed.iter().filter_map(move |&(month, day)| NaiveDate::from_ymd_opt(year, month, day));
        Self::of(years.flat_map(in_year).filter_map(number))
    }

    pub fn insert(&mut self, day: Day) {
        if let Some(word) = index(day).and_then(|i| self.0.get_mut(i)) {
            *word |= bit(day);
        }
    }

    pub fn contains(&self, day: Day) -> bool {
        index(day).and_then(|i| self.0.get(i)).is_some_and(|word| word & bit(day) != 0)
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// How many days there are.
    pub fn len(&self) -> usize {
        let ones = self.0.iter().map(|word| word.count_ones());
        ones.fold(0, |all, ones| all.saturating_add(usize::try_from(ones).unwrap_or_default()))
    }

    /// The first day of the set from a day on.
    pub fn next_in(&self, from: Day) -> Option<Day> {
        self.next(from, |word| word)
    }

    /// The first day not in the set from a day on.
    pub fn next_out(&self, from: Day) -> Option<Day> {
        self.next(from, |word| !word)
    }

    /// The last day of the set up to and with a day.
    pub fn last_in(&self, until: Day) -> Option<Day> {
        let until = until.min(DAYS.saturating_sub(1));
        let mut at = index(until)?;
        let mut word = self.0.get(at)? & (u64::MAX >> (WORD.saturating_sub(1).saturating_sub(until.rem_euclid(WORD))));
        while word == 0 {
            at = at.checked_sub(1)?;
            word = *self.0.get(at)?;
        }
        let in_word = WORD.saturating_sub(1).saturating_sub(i64::from(word.leading_zeros()));
        Some(start_of(at).saturating_add(in_word))
    }

    fn next(&self, from: Day, read: impl Fn(u64) -> u64) -> Option<Day> {
        let from = from.max(0);
        let mut at = index(from)?;
        let mut word = read(*self.0.get(at)?) & (u64::MAX << from.rem_euclid(WORD));
        while word == 0 {
            at = at.checked_add(1)?;
            word = read(*self.0.get(at)?);
        }
        let day = start_of(at).saturating_add(i64::from(word.trailing_zeros()));
        (day < DAYS).then_some(day)
    }

    pub fn and(&self, other: &Self) -> Self {
        self.with(other, |a, b| a & b)
    }

    pub fn or(&self, other: &Self) -> Self {
        self.with(other, |a, b| a | b)
    }

    pub fn minus(&self, other: &Self) -> Self {
        self.with(other, |a, b| a & !b)
    }

    /// The days after those of the set.
    pub fn next_days(&self) -> Self {
        let mut carry = 0;
        let mut moved: Box<[u64]> = self.0.clone();
        for word in &mut moved {
            let out = *word >> 63;
            *word = (*word << 1) | carry;
            carry = out;
        }
        Self(moved)
    }

    /// The days before those of the set.
    pub fn days_before(&self) -> Self {
        let mut carry = 0;
        let mut moved: Box<[u64]> = self.0.clone();
        for word in moved.iter_mut().rev() {
            let out = *word << 63;
            *word = (*word >> 1) | carry;
            carry = out;
        }
        Self(moved)
    }

    fn not(&self) -> Self {
        Self(self.0.iter().map(|word| !word).collect())
    }

    fn with(&self, other: &Self, join: impl Fn(u64, u64) -> u64) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| join(*a, *b)).collect())
    }
}

fn words() -> usize {
    usize::try_from(DAYS.div_euclid(WORD).saturating_add(1)).unwrap_or_default()
}

fn index(day: Day) -> Option<usize> {
    (0..DAYS).contains(&day).then(|| usize::try_from(day.div_euclid(WORD)).ok())?
}

fn bit(day: Day) -> u64 {
    1 << day.rem_euclid(WORD)
}

fn start_of(word: usize) -> Day {
    i64::try_from(word).unwrap_or(i64::MAX).saturating_mul(WORD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_days_known_are_those_that_it_says() {
        assert_eq!(date(0), NaiveDate::from_ymd_opt(1968, 1, 1).unwrap());
        assert_eq!(date(DAYS - 1), NaiveDate::from_ymd_opt(2201, 12, 31).unwrap());
        assert_eq!((number(date(0)), number(date(DAYS - 1)), number(date(DAYS))), (Some(0), Some(DAYS - 1), None));
    }

    #[test]
    fn days_are_found_in_both_directions_across_words() {
        let set = DaySet::of([0, 63, 64, 200, DAYS - 1, DAYS, -1]);
        assert_eq!([0, 1, 64, 65, 201].map(|d| set.next_in(d).unwrap()), [0, 63, 64, 200, DAYS - 1]);
        assert_eq!((set.next_in(DAYS), set.next_out(63), set.next_out(DAYS - 1)), (None, Some(65), None));
        assert_eq!([DAYS, 199, 63, 0].map(|d| set.last_in(d).unwrap()), [DAYS - 1, 64, 63, 0]);
        assert_eq!(
            (DaySet::of([5]).last_in(4), DaySet::all().next_out(0), DaySet::all().next_in(-3)),
            (None, None, Some(0))
        );
        let days = |set: &DaySet| (0..DAYS).filter(|day| set.contains(*day)).collect::<Vec<_>>();
        assert_eq!(days(&DaySet::of([0, 1, 64, 65, 200]).days_before()), [0, 63, 64, 199]);
        assert_eq!(days(&DaySet::of([0, 63, 64, 200]).next_days()), [1, 64, 65, 201]);
        assert_eq!((set.len(), DaySet::none().len()), (5, 0));
        assert!(set.next_days().contains(1) && set.next_days().contains(64) && !set.next_days().contains(63));
    }

    #[test]
    fn weekdays_and_month_days_are_those_of_the_calendar() {
        let fridays = DaySet::of_weekdays(&[4]);
        let leap = DaySet::of_month_days(&[(2, 29), (12, 31)]);
        for day in 0..DAYS {
            let date = date(day);
            assert_eq!(fridays.contains(day), date.weekday() == chrono::Weekday::Fri, "{date}");
            assert_eq!(leap.contains(day), [(2, 29), (12, 31)].contains(&(date.month(), date.day())), "{date}");
        }
    }
}
