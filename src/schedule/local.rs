//! Local time and instants.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use chrono::{DateTime, Datelike, Days, MappedLocalTime, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Timelike, Utc};
use chrono_tz::{GapInfo, Tz};

use super::days::{self, Day, DaySet};

/// The first instant of a local day, midnight or, where midnight does not exist, what follows the gap.
#[must_use]
pub fn first_instant(zone: Tz, date: NaiveDate) -> Option<DateTime<Utc>> {
    instant(zone, date.and_time(NaiveTime::MIN))
}

/// A local boundary as an instant: in a gap, the first instant after it; repeated, the earlier one.
#[must_use]
pub fn instant(zone: Tz, local: NaiveDateTime) -> Option<DateTime<Utc>> {
    match zone.from_local_datetime(&local) {
        MappedLocalTime::Single(time) | MappedLocalTime::Ambiguous(time, _) => Some(time.with_timezone(&Utc)),
        MappedLocalTime::None => GapInfo::new(&local, &zone)?.end.map(|time| time.with_timezone(&Utc)),
    }
}

/// The local date of an instant, by the days that [`first_instant`] begins: where the clock fell back over
/// midnight, an instant belongs to the day that had begun.
#[must_use]
pub fn date(zone: Tz, instant: DateTime<Utc>) -> NaiveDate {
    let shown = instant.with_timezone(&zone).date_naive();
    let next = shown.checked_add_days(Days::new(1)).unwrap_or(shown);
    if first_instant(zone, next).is_some_and(|start| start <= instant) { next } else { shown }
}

/// A local time, in seconds since the first day known, as an instant in Unix seconds.
pub(super) fn unix(zone: Tz, local: i64) -> i64 {
    let midnight = days::date(0).and_time(NaiveTime::MIN).and_utc().timestamp();
    let as_if_utc = midnight.saturating_add(local);
    let local = DateTime::from_timestamp(as_if_utc, 0).map(|time| time.naive_utc());
    local.and_then(|local| instant(zone, local)).map_or(as_if_utc, |time| time.timestamp())
}

/// A local day whose times are made instants one after another.
#[derive(Clone, Copy, Debug)]
pub(super) struct LocalDay {
    pub number: Day,
    zone: Tz,
    midnight: i64,
    /// No change of the clock falls on it: it lasts 24 hours, and no zone of the IANA database changes
    /// there and back within one day (looked at each half hour, 1968 to 2045).
    even: bool,
}

impl LocalDay {
    pub fn of(zone: Tz, number: Day) -> Self {
        let start = number.saturating_mul(SECONDS_PER_DAY);
        let midnight = unix(zone, start);
        let next = unix(zone, start.saturating_add(SECONDS_PER_DAY));
        Self { number, zone, midnight, even: next.saturating_sub(midnight) == SECONDS_PER_DAY }
    }

    /// A time of the day, in seconds, as an instant in Unix seconds.
    pub fn instant(&self, time: i64) -> i64 {
        let local = || self.number.saturating_mul(SECONDS_PER_DAY).saturating_add(time);
        if self.even { self.midnight.saturating_add(time) } else { unix(self.zone, local()) }
    }
}

const SECONDS_PER_DAY: i64 = 86_400;

/// The day that an instant belongs to, or one next to it.
pub(super) fn about(unix: i64) -> Day {
    let midnight = days::date(0).and_time(NaiveTime::MIN).and_utc().timestamp();
    unix.saturating_sub(midnight).div_euclid(86_400)
}

/// What is peculiar to a zone's whole history.
pub(super) struct ZoneHistory {
    /// No gap is longer: that of an ordinary change of the clock, or of a move over the date line.
    pub longest_gap_seconds: i64,
    /// Days that the zone left out, since it moved over the date line.
    pub skipped_days: DaySet,
}

/// The history of a zone, worked out once for each: it takes some thousand look-ups.
pub(super) fn history(zone: Tz) -> Arc<ZoneHistory> {
    static KNOWN: LazyLock<Mutex<HashMap<Tz, Arc<ZoneHistory>>>> = LazyLock::new(Mutex::default);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known.entry(zone).or_insert_with(|| Arc::new(ZoneHistory::of(zone))).clone()
}

impl ZoneHistory {
    fn of(zone: Tz) -> Self {
        const ORDINARY: u64 = 3 * 3600;
        let steps = (0..days::DAYS).step_by(STEP).map(|day| (day, moved_by(zone, day)));
        let unusual: Vec<(Day, u64)> = steps.filter(|(_, moved)| *moved >= ORDINARY).collect();
        let longest_gap_seconds = if unusual.is_empty() { 4 * 3600 } else { 26 * 3600 };
        let over_the_date_line = unusual.iter().filter(|(_, moved)| *moved >= 43_200).map(|(day, _)| *day);
        let days_from = |from: Day| from..=from.saturating_add(i64::try_from(STEP).unwrap_or_default());
        let skipped = over_the_date_line.flat_map(days_from).filter(|day| is_skipped(zone, *day));
        Self { longest_gap_seconds, skipped_days: DaySet::of(skipped) }
    }
}

/// Steps in which a zone's history is looked through: far apart enough to be quick, and near enough
/// that no zone moved over the date line and back within one.
const STEP: usize = 14;

/// The seconds by which local midnight moved within a step from a day on.
fn moved_by(zone: Tz, from: Day) -> u64 {
    let offset = |day: Day| unix(zone, day.saturating_mul(86_400)).saturating_sub(day.saturating_mul(86_400));
    offset(from).abs_diff(offset(from.saturating_add(i64::try_from(STEP).unwrap_or_default())))
}

fn is_skipped(zone: Tz, day: Day) -> bool {
    unix(zone, day.saturating_mul(86_400)) == unix(zone, day.saturating_add(1).saturating_mul(86_400))
}

/// A local start as a key.
pub(super) fn key(zone: Tz, start: DateTime<Utc>) -> String {
    let date = date(zone, start);
    let day = format!("{:04}{:02}{:02}", date.year(), date.month(), date.day());
    if first_instant(zone, date) == Some(start) {
        return day;
    }
    let local = start.with_timezone(&zone).naive_local();
    let day = format!("{:04}{:02}{:02}", local.year(), local.month(), local.day());
    let seconds = if local.second() == 0 { String::new() } else { format!("{:02}", local.second()) };
    format!("{day}T{:02}{:02}{seconds}", local.hour(), local.minute())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_days_that_a_zone_left_out_are_known_and_how_long_a_gap_may_be() {
        for (zone, hours, skipped) in [
            (Tz::UTC, 4, 0),
            (Tz::Europe__Berlin, 4, 0),
            (Tz::Antarctica__Troll, 4, 0),
            (Tz::Pacific__Apia, 26, 1),
            (Tz::Pacific__Fakaofo, 26, 1),
            (Tz::Pacific__Kwajalein, 26, 1),
            (Tz::Pacific__Kiritimati, 26, 1),
        ] {
            let history = ZoneHistory::of(zone);
            let starts = |day: Day| first_instant(zone, days::date(day)).unwrap();
            let left_out = DaySet::of((0..days::DAYS - 1).filter(|day| starts(*day) == starts(day + 1)));
            assert_eq!((history.longest_gap_seconds, left_out.len()), (hours * 3600, skipped), "{zone}");
            assert!(history.skipped_days == left_out, "{zone}");
        }
    }
}
