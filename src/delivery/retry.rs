//! When a delivery is tried again, and until when.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rand::RngExt;

/// CleverTap's live campaigns take events up to two hours old (its documentation of `ts`).
pub const CLEVERTAP_FRESHNESS_SECONDS: i64 = 7200;

/// Why a record is too old for CleverTap.
pub const FRESHNESS_PASSED: &str =
    "the record's ts is over two hours old, so CleverTap's live campaigns would not send it";

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);

/// How long to wait after an attempt: exponential with full jitter, and never less than the endpoint
/// asked for.
#[must_use]
pub fn backoff(attempt: i32, retry_after: Option<Duration>) -> Duration {
    let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(0).min(16);
    let ceiling = FIRST.saturating_mul(2_u32.saturating_pow(doublings)).min(LONGEST);
    let jittered = ceiling.mul_f64(rand::rng().random_range(0.0..=1.0));
    jittered.max(retry_after.unwrap_or_default())
}

/// Reads a Retry-After header: seconds, or a date (RFC 9110, section 10.2.3). At most a day.
#[must_use]
pub fn parse_retry_after(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    const MOST: Duration = Duration::from_secs(86_400);
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds).min(MOST));
    }
    let date = DateTime::parse_from_rfc2822(text).ok()?.with_timezone(&Utc);
    let wait = date.signed_duration_since(now).to_std().unwrap_or_default();
    Some(wait.min(MOST))
}

/// The instants after which a delivery is given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deadlines {
    /// The Webhook's `deadlineSeconds` after the Coupon was issued.
    pub webhook: Option<DateTime<Utc>>,
    /// The code's own end.
    pub expiry: Option<DateTime<Utc>>,
    /// When CleverTap's live campaigns stop taking the record's `ts`.
    pub freshness: Option<DateTime<Utc>>,
}

impl Deadlines {
    /// The deadline for a Webhook.
    #[must_use]
    pub fn after(since: DateTime<Utc>, seconds: i64) -> Option<DateTime<Utc>> {
        since.checked_add_signed(TimeDelta::try_seconds(seconds)?)
    }

    /// The earliest of them.
    #[must_use]
    pub fn earliest(&self) -> Option<DateTime<Utc>> {
        [self.webhook, self.expiry, self.freshness].into_iter().flatten().min()
    }

    /// Which of them has passed, if one has.
    #[must_use]
    pub fn passed(&self, now: DateTime<Utc>) -> Option<Passed> {
        let past = |deadline: Option<DateTime<Utc>>| deadline.is_some_and(|deadline| deadline <= now);
        match () {
            () if past(self.expiry) => Some(Passed::Expiry),
            () if past(self.webhook) => Some(Passed::Webhook),
            () if past(self.freshness) => Some(Passed::Freshness),
            () => None,
        }
    }
}

/// A deadline that has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    Expiry,
    Webhook,
    /// Each record has its own.
    Freshness,
}

impl Passed {
    /// Why it is too late, for people.
    #[must_use]
    pub fn why(self) -> &'static str {
        match self {
            Self::Expiry => "the code's expiryTime passed before it was delivered",
            Self::Webhook => "the Webhook's deadlineSeconds passed before it was delivered",
            Self::Freshness => FRESHNESS_PASSED,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_are_bounded_and_honour_retry_after() {
        for attempt in [-1, 0, 1, 5, 1000, i32::MAX] {
            assert!(backoff(attempt, None) <= LONGEST);
        }
        assert!((0..50).all(|_| backoff(1, None) <= FIRST));
        assert!((0..200).any(|_| backoff(9, None) > Duration::from_secs(60)), "later waits are longer");
        assert!(backoff(1, Some(Duration::from_secs(77))) >= Duration::from_secs(77));
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let now: DateTime<Utc> = "2023-01-01T00:00:00Z".parse().unwrap();
        let read = |text| parse_retry_after(text, now);
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(read("Sun, 01 Jan 2023 00:01:00 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(read("Sun, 01 Jan 2022 00:01:00 GMT"), None, "a weekday that does not fit is no date");
        assert_eq!(read("Sat, 01 Jan 2022 00:01:00 GMT"), Some(Duration::ZERO));
        assert_eq!(read("99999999999"), Some(Duration::from_secs(86_400)));
        assert_eq!((read("soon"), read("-1")), (None, None));
    }

    #[test]
    fn the_earliest_deadline_counts() {
        let at = |s| DateTime::from_timestamp(s, 0);
        let deadlines = Deadlines { webhook: at(100), expiry: at(50), freshness: None };
        assert_eq!(deadlines.passed(at(49).unwrap()), None);
        assert!(deadlines.passed(at(50).unwrap()).unwrap().why().contains("expiryTime"));
        let deadlines = Deadlines { freshness: at(10), ..Deadlines::default() };
        assert!(deadlines.passed(at(10).unwrap()).unwrap().why().contains("two hours"));
    }
}
