//! Local time and instants.

use chrono::{DateTime, Datelike, Days, MappedLocalTime, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Timelike, Utc};
use chrono_tz::{GapInfo, Tz};

/// The instants of a local day: from its first to the first of the next. None if the zone skipped the
/// day, as Pacific/Apia did 2011-12-30.
#[must_use]
pub fn day(zone: Tz, date: NaiveDate) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
    let next = date.checked_add_days(Days::new(1))?;
    let (start, end) = (first_instant(zone, date)?, first_instant(zone, next)?);
    (start < end).then_some((start, end))
}

/// The first instant of a local day, midnight or, where midnight does not exist, what follows the gap.
#[must_use]
pub fn first_instant(zone: Tz, date: NaiveDate) -> Option<DateTime<Utc>> {
    instant(zone, date.and_time(NaiveTime::MIN))
}

/// A local boundary as an instant: in a gap, the first instant after it; repeated, the earlier one.
fn instant(zone: Tz, local: NaiveDateTime) -> Option<DateTime<Utc>> {
    match zone.from_local_datetime(&local) {
        MappedLocalTime::Single(time) | MappedLocalTime::Ambiguous(time, _) => Some(time.with_timezone(&Utc)),
        MappedLocalTime::None => GapInfo::new(&local, &zone)?.end.map(|time| time.with_timezone(&Utc)),
    }
}

/// A local start as a key.
pub(super) fn key(zone: Tz, start: DateTime<Utc>) -> String {
    let local = start.with_timezone(&zone).naive_local();
    let date = local.date();
    let day = format!("{:04}{:02}{:02}", date.year(), date.month(), date.day());
    if first_instant(zone, date) == Some(start) {
        return day;
    }
    let seconds = if local.second() == 0 { String::new() } else { format!("{:02}", local.second()) };
    format!("{day}T{:02}{:02}{seconds}", local.hour(), local.minute())
}
