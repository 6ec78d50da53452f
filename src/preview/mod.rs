//! What campaigns would do at some time, offline, by the operator's own pure steps: which windows open,
//! who gets a code and who does not and why, and what would be sent.

pub mod profiles;
pub mod recipients;
pub mod requests;
pub mod windows;

use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use chrono_tz::Tz;
use kube::ResourceExt;

use crate::controllers::campaign::validate::Validated;
use crate::manifests::CheckedCampaign;
use crate::schedule;

/// A time that a person writes: an instant, or a time or a day in the campaign's time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    Instant(DateTime<Utc>),
    Local(NaiveDateTime),
}

/// Text that is no time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "write a time such as 2023-01-01T09:00:00+01:00, or a time or a day in the campaign's time zone, such as 2023-01-01T09:00 or 2023-01-01"
)]
pub struct NoMoment;

impl std::str::FromStr for Moment {
    type Err = NoMoment;

    fn from_str(text: &str) -> Result<Self, NoMoment> {
        if let Ok(time) = DateTime::parse_from_rfc3339(text) {
            return Ok(Self::Instant(time.to_utc()));
        }
        let formats = ["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"];
        let time = formats.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok());
        let day = || NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().map(NaiveDateTime::from);
        time.or_else(day).map(Self::Local).ok_or(NoMoment)
    }
}

impl Moment {
    /// The instant in a time zone, by the rule for boundaries of schedules.
    #[must_use]
    pub fn in_zone(self, zone: Tz) -> DateTime<Utc> {
        match self {
            Self::Instant(instant) => instant,
            Self::Local(local) => schedule::instant(zone, local).unwrap_or_else(|| local.and_utc()),
        }
    }
}

/// The name of a Campaign, with its namespace if the file gives one.
#[must_use]
pub fn name(checked: &CheckedCampaign<'_>) -> String {
    match checked.campaign.namespace() {
        Some(namespace) => format!("{namespace}/{}", checked.campaign.name_any()),
        None => checked.campaign.name_any(),
    }
}

fn zone(validated: &Validated) -> Tz {
    validated.timings.first().map(|(_, timing)| timing.zone()).unwrap_or_default()
}

/// The time zone of a Campaign that was checked.
#[must_use]
pub fn zone_of(checked: &CheckedCampaign<'_>) -> Tz {
    zone(&checked.validated)
}
