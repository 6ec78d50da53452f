//! Local periods: the day, ISO week, month or year that an instant is in.

use chrono::{DateTime, Datelike, Days, Months, NaiveDate, Utc};
use chrono_tz::Tz;

use super::local;
use crate::api::campaign::{BudgetPeriod, OncePer, Window};

/// A kind of local period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    Day,
    /// The ISO week, from Monday on.
    Week,
    Month,
    Year,
    /// All of the campaign.
    Campaign,
}

impl Period {
    /// The period of a rule's `oncePer`; none for once in each window.
    #[must_use]
    pub fn once_per(once_per: OncePer) -> Option<Self> {
        match once_per {
            OncePer::Window => None,
            OncePer::Day => Some(Self::Day),
            OncePer::Week => Some(Self::Week),
            OncePer::Month => Some(Self::Month),
            OncePer::Year => Some(Self::Year),
            OncePer::Campaign => Some(Self::Campaign),
        }
    }

    /// The period that holds an instant.
    #[must_use]
    pub fn holding(self, zone: Tz, instant: DateTime<Utc>) -> Window {
        let Some((first, next)) = self.dates(local::date(zone, instant)) else { return Window::default() };
        Window { start_time: local::first_instant(zone, first), end_time: local::first_instant(zone, next) }
    }

    /// Its first day, and the first of the next.
    fn dates(self, date: NaiveDate) -> Option<(NaiveDate, NaiveDate)> {
        let weekday = u64::from(date.weekday().num_days_from_monday());
        let first = match self {
            Self::Day => date,
            Self::Week => date.checked_sub_days(Days::new(weekday))?,
            Self::Month => date.with_day(1)?,
            Self::Year => date.with_day(1)?.with_month(1)?,
            Self::Campaign => return None,
        };
        let next = match self {
            Self::Day => first.checked_add_days(Days::new(1)),
            Self::Week => first.checked_add_days(Days::new(7)),
            Self::Month => first.checked_add_months(Months::new(1)),
            Self::Year => first.checked_add_months(Months::new(12)),
            Self::Campaign => None,
        };
        Some((first, next?))
    }

    /// The key of the period that holds an instant: `2023-01-01`, `2023-W01`, `2023-01`, `2023`,
    /// `campaign`. A frozen format: Coupons are named from it.
    #[must_use]
    pub fn key(self, zone: Tz, instant: DateTime<Utc>) -> String {
        let date = local::date(zone, instant);
        match self {
            Self::Day => date.format("%Y-%m-%d").to_string(),
            Self::Week => format!("{:04}-W{:02}", date.iso_week().year(), date.iso_week().week()),
            Self::Month => date.format("%Y-%m").to_string(),
            Self::Year => date.format("%Y").to_string(),
            Self::Campaign => "campaign".to_owned(),
        }
    }
}

impl From<BudgetPeriod> for Period {
    fn from(period: BudgetPeriod) -> Self {
        match period {
            BudgetPeriod::Day => Self::Day,
            BudgetPeriod::Week => Self::Week,
            BudgetPeriod::Month => Self::Month,
            BudgetPeriod::Year => Self::Year,
            BudgetPeriod::Campaign => Self::Campaign,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_and_their_keys_are_local_and_weeks_are_those_of_iso() {
        let at: DateTime<Utc> = "2020-12-31T23:30:00Z".parse().unwrap();
        let keys = |zone: Tz| {
            [Period::Day, Period::Week, Period::Month, Period::Year, Period::Campaign].map(|p| p.key(zone, at))
        };
        assert_eq!(keys(Tz::UTC), ["2020-12-31", "2020-W53", "2020-12", "2020", "campaign"]);
        assert_eq!(keys(Tz::Europe__Berlin), ["2021-01-01", "2020-W53", "2021-01", "2021", "campaign"]);
        let week = Period::Week.holding(Tz::Europe__Berlin, at);
        assert_eq!(week.start_time, "2020-12-27T23:00:00Z".parse().ok());
        assert_eq!(week.end_time, "2021-01-03T23:00:00Z".parse().ok());
        assert_eq!(Period::Campaign.holding(Tz::UTC, at), Window::default());
    }
}
