//! When a rule is open: an entry of its schedules.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An entry of a schedule: a set of fields that must all hold.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Schedule {
    #[serde(flatten)]
    pub fields: ScheduleFields,

    /// On the local days around a recipient's own date, such as a birthday, every year.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anniversary_of: Option<AnniversaryOf>,

    /// Takes away from this entry where all fields of any of these hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub except: Vec<ScheduleFields>,
}

/// Fields that must all hold.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleFields {
    /// On these local days, written as YYYY-MM-DD.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(min = 1, max = 366),
        inner(length(max = 10), regex(pattern = r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$"))
    )]
    pub on_dates: Vec<String>,

    /// On these days of every year, written as MM-DD; 02-29 is in leap years only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(min = 1, max = 366),
        inner(length(max = 5), regex(pattern = r"^(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$"))
    )]
    pub month_days: Vec<String>,

    /// On these days of the week.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 7))]
    pub days_of_week: Vec<DayOfWeek>,

    /// At these local times of a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_of_day: Option<TimeOfDay>,

    /// From this instant on: RFC 3339 with an offset, or a local time such as 2023-01-01T09:00.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 40),
        regex(
            pattern = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?([Zz]|[+-][0-9]{2}:[0-9]{2})?$"
        )
    )]
    pub after: Option<String>,

    /// Until this instant, written like `after`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 40),
        regex(
            pattern = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?([Zz]|[+-][0-9]{2}:[0-9]{2})?$"
        )
    )]
    pub before: Option<String>,

    /// For `windowSeconds` after each tick of this cron expression: minute, hour, day of month, month, day of week, or a macro such as @daily, as a `CronJob` has them, in local time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub cron: Option<String>,

    /// For `windowSeconds` after each recurrence, by RFC 5545, in local time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rrule: Option<RecurrenceRule>,

    /// How long a window is open after a tick of `cron` or `rrule`; the next tick ends it. 3600 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 31_622_400))]
    pub window_seconds: Option<i64>,
}

/// A day of the week.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum DayOfWeek {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

/// Local times of a day.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.from != self.to")
    .message("timeOfDay: from and to are the same: leave timeOfDay out for the whole day"))]
pub struct TimeOfDay {
    /// From this local time on, HH:MM.
    #[schemars(length(max = 5), regex(pattern = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"))]
    pub from: String,
    /// Until this local time, HH:MM; 24:00 is the end of the day. A time before `from` is on the next day, and belongs to the day on which it began.
    #[schemars(length(max = 5), regex(pattern = r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$"))]
    pub to: String,
}

/// A recurrence by RFC 5545.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RecurrenceRule {
    /// DTSTART: the local time from which the rule counts, such as 2023-01-27T09:00.
    #[schemars(length(max = 19), regex(pattern = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2})?$"))]
    pub start: String,
    /// RRULE, with FREQ of DAILY, WEEKLY, MONTHLY or YEARLY: the last Friday of each month is FREQ=MONTHLY;BYDAY=-1FR.
    #[schemars(length(min = 1, max = 512))]
    pub rule: String,
}

/// Days around a date that each recipient has.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AnniversaryOf {
    /// The profile's attribute that holds the date, YYYY-MM-DD or MM-DD; its year is ignored, and 29 February counts as the 28th in common years.
    #[schemars(length(min = 1, max = 256))]
    pub attribute: String,
    /// Begins so many days before the anniversary.
    #[serde(default)]
    #[schemars(range(min = 0, max = 366))]
    pub days_before: i32,
    /// Ends so many days after the anniversary.
    #[serde(default)]
    #[schemars(range(min = 0, max = 366))]
    pub days_after: i32,
}
