//! Budgets: how many coupons a campaign issues in a period, counted from its Coupons.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use crate::api::campaign::{Budget, BudgetPeriod, Window};
use crate::schedule::Period;

/// What is left of a campaign's budgets at an instant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowance(Vec<Account>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Account {
    period: BudgetPeriod,
    most: i64,
    /// The period that holds the instant.
    current: Window,
    issued: i64,
}

/// A budget that is spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spent {
    pub period: BudgetPeriod,
    pub most: i64,
    /// When the next period begins; none for the whole campaign.
    pub next: Option<DateTime<Utc>>,
}

impl Allowance {
    /// The budgets at an instant, with nothing issued yet.
    #[must_use]
    pub fn at(budgets: &[Budget], zone: Tz, now: DateTime<Utc>) -> Self {
        let account = |budget: &Budget| Account {
            period: budget.period,
            most: budget.max_coupons,
            current: Period::from(budget.period).holding(zone, now),
            issued: 0,
        };
        Self(budgets.iter().map(account).collect())
    }

    /// True if there are no budgets, so that nothing needs to be counted.
    #[must_use]
    pub fn is_unlimited(&self) -> bool {
        self.0.is_empty()
    }

    /// Counts a Coupon that exists.
    pub fn note(&mut self, issued_at: DateTime<Utc>) {
        for account in self.0.iter_mut().filter(|account| account.current.contains(issued_at)) {
            account.issued = account.issued.saturating_add(1);
        }
    }

    /// Counts a Coupon that is about to be, whatever the clock shows meanwhile: it may have passed into the next
    /// period since the books were read.
    pub fn take(&mut self) {
        for account in &mut self.0 {
            account.issued = account.issued.saturating_add(1);
        }
    }

    /// How many more every budget has; none if there are no budgets.
    #[must_use]
    pub fn left(&self) -> Option<usize> {
        let left = self.0.iter().map(|account| account.most.saturating_sub(account.issued).max(0)).min()?;
        Some(usize::try_from(left).unwrap_or(usize::MAX))
    }

    /// The budget that is spent for longest, if one is.
    #[must_use]
    pub fn spent(&self) -> Option<Spent> {
        let spent = self.0.iter().filter(|account| account.issued >= account.most);
        let last = spent.max_by_key(|account| (account.current.end_time.is_none(), account.current.end_time))?;
        Some(Spent { period: last.period, most: last.most, next: last.current.end_time })
    }

    /// When a period ends next, and with it what was issued in it.
    #[must_use]
    pub fn next_period(&self) -> Option<DateTime<Utc>> {
        self.0.iter().filter_map(|account| account.current.end_time).min()
    }
}

impl std::fmt::Display for Spent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the budget of {} coupons for the {:?} is spent", self.most, self.period)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn allowance(budgets: &serde_json::Value, now: &str) -> Allowance {
        let budgets: Vec<Budget> = serde_json::from_value(budgets.clone()).unwrap();
        Allowance::at(&budgets, Tz::Europe__Berlin, now.parse().unwrap())
    }

    #[test]
    fn what_was_issued_in_the_local_period_counts_and_what_was_before_does_not() {
        let mut left = allowance(&json!([{ "period": "Day", "maxCoupons": 2 }]), "2023-01-02T09:00:00Z");
        left.note("2023-01-01T22:59:59Z".parse().unwrap()); // 23:59:59 in Berlin, the day before
        left.note("2023-01-01T23:00:00Z".parse().unwrap());
        assert_eq!((left.left(), left.spent()), (Some(1), None));
        left.take();
        let spent = left.spent().unwrap();
        assert_eq!(spent.next, Some("2023-01-02T23:00:00Z".parse().unwrap()));
        assert_eq!(spent.to_string(), "the budget of 2 coupons for the Day is spent");
    }

    #[test]
    fn every_budget_must_have_it_and_the_one_that_lasts_longest_is_named() {
        let budgets = json!([{ "period": "Day", "maxCoupons": 1 }, { "period": "Campaign", "maxCoupons": 1 }, { "period": "Week", "maxCoupons": 9 }]);
        let mut left = allowance(&budgets, "2023-01-02T09:00:00Z");
        assert_eq!(left.spent(), None);
        left.note("2023-01-02T09:00:00Z".parse().unwrap());
        assert_eq!(left.spent(), Some(Spent { period: BudgetPeriod::Campaign, most: 1, next: None }));
        assert_eq!(left.left(), Some(0));
        assert_eq!(left.next_period(), Some("2023-01-02T23:00:00Z".parse().unwrap()));
        assert!(
            Allowance::default().is_unlimited()
                && Allowance::default().spent().is_none()
                && Allowance::default().left().is_none()
        );
    }
}
