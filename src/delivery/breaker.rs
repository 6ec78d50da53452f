//! Stops asking an endpoint that does not work, and finds out with one request at a time when it does again.
//! Pure.

use std::collections::HashSet;
use std::time::{Duration, Instant};

/// So many Coupons must fail, one after the other and none of them twice, before an endpoint counts as broken: one
/// Coupon that an endpoint cannot bear stops nobody else.
const ENOUGH: usize = 5;
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(60);

/// The breaker of one Webhook.
#[derive(Debug, Default)]
pub struct Breaker {
    /// Coupons that failed since a request last succeeded.
    failing: HashSet<String>,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    until: Instant,
    rests: u32,
    probing: bool,
    message: String,
}

impl Breaker {
    /// True if a request may be sent: each while it is closed, and one after each rest.
    #[must_use]
    pub fn lets_through(&self, now: Instant) -> bool {
        self.open.as_ref().is_none_or(|open| !open.probing && open.until <= now)
    }

    /// Notes a request that is sent. True if it is one that finds out.
    pub fn begin(&mut self) -> bool {
        let Some(open) = &mut self.open else { return false };
        open.probing = true;
        true
    }

    /// A request brought no answer, or one that the endpoint should not give. True if the breaker opened by it.
    pub fn failed(&mut self, coupon: &str, probe: bool, message: &str, now: Instant) -> bool {
        if let Some(open) = &mut self.open {
            if probe {
                open.rests = open.rests.saturating_add(1);
                open.until = now.checked_add(rest(open.rests)).unwrap_or(now);
                open.probing = false;
            }
            return false;
        }
        self.failing.insert(coupon.to_owned());
        if self.failing.len() < ENOUGH {
            return false;
        }
        let until = now.checked_add(rest(0)).unwrap_or(now);
        self.open = Some(Open { until, rests: 0, probing: false, message: message.to_owned() });
        true
    }

    /// The endpoint answered as it should. True if the breaker closed by it.
    pub fn worked(&mut self) -> bool {
        self.failing.clear();
        self.open.take().is_some()
    }

    /// A request that was to find out was not sent.
    pub fn unused(&mut self, probe: bool) {
        if let Some(open) = self.open.as_mut().filter(|_| probe) {
            open.probing = false;
        }
    }

    /// What the request said by which it opened.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        self.open.as_ref().map(|open| open.message.as_str())
    }

    /// When it lets the next request through.
    #[must_use]
    pub fn rests_until(&self) -> Option<Instant> {
        self.open.as_ref().filter(|open| !open.probing).map(|open| open.until)
    }
}

fn rest(rests: u32) -> Duration {
    FIRST_REST.saturating_mul(2_u32.saturating_pow(rests.min(16))).min(LONGEST_REST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(now: Instant) -> Breaker {
        let mut breaker = Breaker::default();
        let opened: Vec<bool> = (0..ENOUGH).map(|i| breaker.failed(&i.to_string(), false, "why", now)).collect();
        assert_eq!(opened, [false, false, false, false, true]);
        breaker
    }

    #[test]
    fn i6_one_coupon_that_fails_again_and_again_stops_nobody() {
        let mut breaker = Breaker::default();
        let now = Instant::now();
        assert!((0..100).all(|_| !breaker.failed("poison", false, "why", now)));
        assert!(breaker.lets_through(now) && breaker.message().is_none());
    }

    #[test]
    fn failures_in_between_successes_do_not_open_it() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        for i in 0..100 {
            assert!(!breaker.failed(&i.to_string(), false, "why", now));
            if i % 4 == 3 {
                breaker.worked();
            }
        }
    }

    #[test]
    fn after_each_rest_one_request_finds_out_and_rests_grow() {
        let mut now = Instant::now();
        let mut breaker = broken(now);
        let mut rests = Vec::new();
        for _ in 0..9 {
            assert!(!breaker.lets_through(now));
            let until = breaker.rests_until().unwrap();
            rests.push((until - now).as_secs());
            now = until;
            assert!(breaker.lets_through(now) && breaker.begin());
            assert!(!breaker.lets_through(now + LONGEST_REST * 9), "one at a time");
            assert!(!breaker.failed("others that were on their way", false, "late", now));
            assert!(!breaker.lets_through(now));
            breaker.failed("probe", true, "still", now);
        }
        assert_eq!(rests, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        now += LONGEST_REST;
        assert!(breaker.begin());
        breaker.unused(true);
        assert!(breaker.lets_through(now), "one that was not sent found nothing out");
        assert!(breaker.begin() && breaker.worked() && breaker.lets_through(now));
        assert!(!breaker.failed("a", false, "why", now), "and it counts from the beginning");
    }
}
