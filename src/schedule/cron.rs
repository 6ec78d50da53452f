//! Cron expressions as a Kubernetes `CronJob` has them: five fields and macros, by the rules of
//! github.com/robfig/cron/v3, which it uses.

use super::days::DaySet;
use super::ticks::Ticks;

/// What is wrong with a cron expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    #[error(
        "{0} fields: write five, minute, hour, day of month, month and day of week, for example 0 9 * * 1, or a macro such as @daily"
    )]
    Fields(usize),
    #[error("{0} is no macro: write @hourly, @daily, @weekly, @monthly or @yearly, or five fields")]
    Macro(String),
    #[error("{field}: {text} is no number from {least} to {most}{names}")]
    Value { field: &'static str, text: String, least: u32, most: u32, names: &'static str },
    #[error("{field}: {text} begins after it ends")]
    Backwards { field: &'static str, text: String },
    #[error("{field}: the step of {text} must be a number from 1 on")]
    Step { field: &'static str, text: String },
}

/// A field of an expression: its name and what may stand in it.
struct Field {
    name: &'static str,
    least: u32,
    most: u32,
    names: &'static [&'static str],
    names_hint: &'static str,
}

const MINUTE: Field = Field { name: "minute", least: 0, most: 59, names: &[], names_hint: "" };
const HOUR: Field = Field { name: "hour", least: 0, most: 23, names: &[], names_hint: "" };
const DAY_OF_MONTH: Field = Field { name: "day of month", least: 1, most: 31, names: &[], names_hint: "" };
const MONTH: Field = Field {
    name: "month",
    least: 1,
    most: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    names_hint: " or a name such as JAN",
};
const DAY_OF_WEEK: Field = Field {
    name: "day of week",
    least: 0,
    most: 6,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
    names_hint: " (Sunday is 0) or a name such as MON",
};

/// The values of a field as bits, and whether it leaves them open.
#[derive(Clone, Copy)]
struct Values {
    bits: u64,
    open: bool,
}

impl Values {
    fn has(self, value: u32) -> bool {
        1_u64.checked_shl(value).is_some_and(|bit| self.bits & bit != 0)
    }
}

/// The ticks of an expression.
///
/// # Errors
/// If it is none.
pub(super) fn parse(text: &str) -> Result<Ticks, CronError> {
    let text = text.trim();
    let expanded = if text.starts_with('@') { expand(text)? } else { text };
    let fields: Vec<&str> = expanded.split_whitespace().collect();
    let [minute, hour, day, month, weekday] = fields[..] else { return Err(CronError::Fields(fields.len())) };
    let (minute, hour) = (values(minute, &MINUTE)?, values(hour, &HOUR)?);
    let (day, month, weekday) = (values(day, &DAY_OF_MONTH)?, values(month, &MONTH)?, values(weekday, &DAY_OF_WEEK)?);
    let times = (0..24_u32).filter(|h| hour.has(*h)).flat_map(|h| {
        (0..60_u32)
            .filter(move |m| minute.has(*m))
            .map(move |m| i64::from(h).saturating_mul(3600).saturating_add(i64::from(m).saturating_mul(60)))
    });
    let (in_month, in_week) = (days_of_month(day, month), days_of_week(weekday));
    // Either will do if both are restricted, as cron always had it.
    let days = if day.open || weekday.open {
        in_month.and(&in_week)
    } else {
        in_month.or(&in_week.and(&days_of_month(Values { bits: u64::MAX, open: true }, month)))
    };
    Ok(Ticks::new(days, times.collect()))
}

fn days_of_month(day: Values, month: Values) -> DaySet {
    if day.open && month.open {
        return DaySet::all();
    }
    let in_month = |m: u32| (1..=31_u32).filter(move |d| day.has(*d)).map(move |d| (m, d));
    DaySet::of_month_days(&(1..=12_u32).filter(|m| month.has(*m)).flat_map(in_month).collect::<Vec<_>>())
}

fn days_of_week(weekday: Values) -> DaySet {
    // Sunday is 0 here, and Monday there.
    let listed = (0..7_u32).filter(|d| weekday.has(*d)).map(|d| i64::from(d).saturating_sub(1).rem_euclid(7));
    DaySet::of_weekdays(&listed.collect::<Vec<_>>())
}

fn expand(text: &str) -> Result<&'static str, CronError> {
    match text {
        "@yearly" | "@annually" => Ok("0 0 1 1 *"),
        "@monthly" => Ok("0 0 1 * *"),
        "@weekly" => Ok("0 0 * * 0"),
        "@daily" | "@midnight" => Ok("0 0 * * *"),
        "@hourly" => Ok("0 * * * *"),
        _ => Err(CronError::Macro(text.to_owned())),
    }
}

fn values(text: &str, field: &Field) -> Result<Values, CronError> {
    let mut all = Values { bits: 0, open: false };
    for part in text.split(',') {
        let part = values_of_part(part, field)?;
        all = Values { bits: all.bits | part.bits, open: all.open || part.open };
    }
    Ok(all)
}

/// `*`, `?`, `a`, `a-b`, each also with `/step`; `a/step` goes on to the end.
fn values_of_part(text: &str, field: &Field) -> Result<Values, CronError> {
    let (range, step) = match text.split_once('/') {
        None => (text, None),
        Some((range, step)) => (range, Some(step)),
    };
    let step_size = step.map_or(Ok(1), |step| step.parse::<u32>().ok().filter(|n| *n > 0).ok_or(()));
    let step_size = step_size.map_err(|()| CronError::Step { field: field.name, text: text.to_owned() })?;
    let everything = range == "*" || range == "?";
    let (first, last) = match range.split_once('-') {
        _ if everything => (field.least, field.most),
        Some((first, last)) => (value(first, field)?, value(last, field)?),
        None if step.is_some() => (value(range, field)?, field.most),
        None => (value(range, field)?, value(range, field)?),
    };
    if first > last {
        return Err(CronError::Backwards { field: field.name, text: text.to_owned() });
    }
    let step = usize::try_from(step_size).unwrap_or(usize::MAX);
    let bits = (first..=last).step_by(step).filter_map(|v| 1_u64.checked_shl(v)).fold(0, |bits, bit| bits | bit);
    Ok(Values { bits, open: everything && step_size == 1 })
}

fn value(text: &str, field: &Field) -> Result<u32, CronError> {
    let named = field.names.iter().position(|name| name.eq_ignore_ascii_case(text));
    let named = named.and_then(|i| u32::try_from(i).ok()?.checked_add(field.least));
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = || text.parse().ok().filter(|_| digits);
    named.or_else(number).filter(|value| (field.least..=field.most).contains(value)).ok_or_else(|| CronError::Value {
        field: field.name,
        text: text.to_owned(),
        least: field.least,
        most: field.most,
        names: field.names_hint,
    })
}
