//! How far campaigns are, in lines for a terminal.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use chrono::{DateTime, Utc};
use kube::ResourceExt;

use crate::api::campaign::{Campaign, OccurrenceStatus};
use crate::api::conditions;
use crate::api::coupon::Coupon;

/// A bar is so wide.
const BAR: i64 = 30;

/// A rate is that of so many looks, so that it does not jump.
const LOOKS: usize = 10;

/// What is wrong with Coupons that are on their way, or came to another end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Troubles {
    /// Records by what their last request came to.
    by_reason: BTreeMap<String, u64>,
    /// When the next of them is sent again.
    next: Option<DateTime<Utc>>,
}

impl Troubles {
    pub fn note(&mut self, coupon: &Coupon) {
        for delivery in coupon.status.iter().flat_map(|status| &status.deliveries) {
            let troubled = delivery.failed.or(&delivery.expired).or(&delivery.held).or(&delivery.retrying);
            if troubled.is_empty() {
                continue;
            }
            let count = self.by_reason.entry(reason(coupon, &delivery.name)).or_default();
            *count = count.saturating_add(u64::from(troubled.len()));
            self.next = self.next.into_iter().chain(delivery.next_attempt_time).min();
        }
    }

    fn line(&self, now: DateTime<Utc>) -> Option<String> {
        if self.by_reason.is_empty() {
            return None;
        }
        let each: Vec<String> = self.by_reason.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        let next = self.next.map(|next| {
            let left = next.signed_duration_since(now).to_std().unwrap_or_default();
            format!("; the next is tried again in {}", spoken(left))
        });
        Some(format!("  troubles: {}{}", each.join(", "), next.unwrap_or_default()))
    }
}

/// `delivery: 503`, or `delivery: DNSFailed` where nothing was answered.
fn reason(coupon: &Coupon, delivery: &str) -> String {
    let status = coupon.status.as_ref().and_then(|status| status.delivery(delivery));
    let last = status.and_then(|status| status.last_attempt.as_ref());
    let code = last.and_then(|last| last.http_status).map(|code| code.to_string());
    let word = last.and_then(|last| last.reason.clone());
    let said: Vec<String> = code.into_iter().chain(word).collect();
    format!("{delivery}: {}", if said.is_empty() { "not sent".to_owned() } else { said.join(" ") })
}

/// What was seen at earlier looks.
#[derive(Debug, Default)]
pub struct Progress(HashMap<(String, String, String), VecDeque<(Duration, i64)>>);

impl Progress {
    /// The lines of a campaign. `at` is how long this has been watched.
    pub fn lines(&mut self, campaign: &Campaign, troubles: &Troubles, at: Duration, now: DateTime<Utc>) -> Vec<String> {
        let status = campaign.status.clone().unwrap_or_default();
        let ready = status.conditions.iter().find(|c| c.type_ == conditions::READY);
        let (reason, message) = ready.map_or(("Pending", "the operator has not seen it yet"), |ready| {
            (ready.reason.as_str(), ready.message.as_str())
        });
        let mut lines = vec![format!("{}: {reason}. {message}", campaign.name_any())];
        if let Some(next) = status.next_window_time {
            lines.push(format!("  the next window opens at {}", next.to_rfc3339()));
        }
        for occurrence in &status.occurrences {
            let key = (campaign.name_any(), occurrence.rule.clone(), occurrence.key.clone());
            let rate = rate(self.0.entry(key).or_default(), at, ended(occurrence));
            lines.extend(of_occurrence(occurrence, rate));
        }
        lines.extend(troubles.line(now));
        lines
    }
}

fn ended(occurrence: &OccurrenceStatus) -> i64 {
    occurrence.delivered.saturating_add(occurrence.failed).saturating_add(occurrence.unknown)
}

/// Records a second that came to their end.
#[allow(clippy::cast_precision_loss)] // counts are far below 2^52
fn rate(seen: &mut VecDeque<(Duration, i64)>, at: Duration, ended: i64) -> f64 {
    seen.push_back((at, ended));
    if seen.len() > LOOKS {
        seen.pop_front();
    }
    let Some((since, before)) = seen.front() else { return 0.0 };
    let seconds = at.saturating_sub(*since).as_secs_f64();
    if seconds > 0.0 { ended.saturating_sub(*before).max(0) as f64 / seconds } else { 0.0 }
}

fn of_occurrence(occurrence: &OccurrenceStatus, rate: f64) -> Vec<String> {
    let OccurrenceStatus { rule, key, issued, delivered, failed, unknown, .. } = occurrence;
    let all = occurrence.matched.max(*issued);
    let left = issued.saturating_sub(ended(occurrence));
    let mut lines = vec![
        format!("  {rule} {key}{}", if occurrence.stopped { " (stopped)" } else { "" }),
        format!("    issued     {} {issued} of {all}", bar(*issued, all)),
        format!("    delivered  {} {delivered}{}", bar(*delivered, *issued), pace(rate, left)),
    ];
    if *failed > 0 || *unknown > 0 {
        lines.push(format!("    failed {failed}, unknown {unknown}: see `coupon-operator failures`"));
    }
    let refused: i64 = occurrence.ineligible.values().sum();
    if refused > 0 {
        lines.push(format!("    {refused} got none: {}", refusals(occurrence)));
    }
    lines
}

fn refusals(occurrence: &OccurrenceStatus) -> String {
    let each: Vec<String> = occurrence.ineligible.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    each.join("; ")
}

fn bar(part: i64, all: i64) -> String {
    let filled = part.saturating_mul(BAR).checked_div(all).unwrap_or(0).clamp(0, BAR);
    let [full, empty] = [filled, BAR.saturating_sub(filled)].map(|n| usize::try_from(n).unwrap_or_default());
    format!("[{}{}]", "#".repeat(full), "-".repeat(empty))
}

#[allow(clippy::cast_precision_loss)] // counts are far below 2^52
fn pace(rate: f64, left: i64) -> String {
    if rate <= 0.0 || left == 0 {
        return String::new();
    }
    let seconds = Duration::try_from_secs_f64(left as f64 / rate).unwrap_or(Duration::MAX);
    format!(", {rate:.0}/s, about {} left", spoken(seconds))
}

/// `45 s`, `12 min`, `3 h`.
fn spoken(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7199 => format!("{} min", seconds.div_euclid(60)),
        seconds => format!("{} h", seconds.div_euclid(3600)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn campaign(delivered: i64, failed: i64) -> Campaign {
        let occurrence = json!({ "rule": "r", "key": "20230101", "matched": 100, "issued": 80, "delivered": delivered,
            "failed": failed, "ineligible": { "too young": 20 } });
        let ready = json!({ "type": "Ready", "status": "True", "reason": "Delivering", "message": "Coupons are being delivered",
            "lastTransitionTime": "2023-01-01T00:00:00Z" });
        serde_json::from_value(json!({ "apiVersion": "coupon-operator.dev/v1alpha1", "kind": "Campaign",
            "metadata": { "name": "c" }, "spec": { "audience": { "profiles": [] }, "rules": [] },
            "status": { "conditions": [ready], "occurrences": [occurrence] } }))
        .unwrap()
    }

    fn now() -> DateTime<Utc> {
        "2023-01-01T00:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_campaign_is_shown_with_its_pace_and_what_is_left() {
        let mut progress = Progress::default();
        let none = Troubles::default();
        let first = progress.lines(&campaign(20, 0), &none, Duration::from_secs(1), now());
        assert_eq!(
            first,
            [
                "c: Delivering. Coupons are being delivered",
                "  r 20230101",
                "    issued     [########################------] 80 of 100",
                "    delivered  [#######-----------------------] 20",
                "    20 got none: 20 too young"
            ]
        );
        let second = progress.lines(&campaign(36, 4), &none, Duration::from_secs(3), now());
        assert_eq!(second[3], "    delivered  [#############-----------------] 36, 10/s, about 4 s left");
        assert_eq!(second[4], "    failed 4, unknown 0: see `coupon-operator failures`");
    }

    #[test]
    fn a_rate_is_that_of_the_last_looks() {
        let mut seen = VecDeque::new();
        let rates: Vec<f64> =
            (0..30).map(|i| rate(&mut seen, Duration::from_secs(i), i64::try_from(i.min(10)).unwrap())).collect();
        assert!((rates[10] - 1.0).abs() < 0.01 && rates[29] < 0.01, "{rates:?}");
        assert_eq!(seen.len(), LOOKS);
    }

    #[test]
    fn a_campaign_that_nobody_looked_at_says_so() {
        let mut new = campaign(0, 0);
        new.status = None;
        let lines = Progress::default().lines(&new, &Troubles::default(), Duration::ZERO, now());
        assert_eq!(lines, ["c: Pending. the operator has not seen it yet"]);
    }

    #[test]
    fn troubles_are_counted_by_what_was_answered() {
        let coupon = |status: Value| {
            let mut coupon = Coupon::new(
                "x",
                serde_json::from_value(json!({ "recipient": "r", "code": "C",
                    "deliveries": [{ "name": "tell", "webhookRef": { "name": "w" } }] }))
                .unwrap(),
            );
            coupon.status = serde_json::from_value(json!({ "deliveries": [status] })).ok();
            assert!(coupon.status.is_some());
            coupon
        };
        let attempt = json!({ "number": 1, "startTime": "2023-01-01T00:00:00Z", "payloadDigest": "d", "sender": "s",
            "rows": "1", "outcome": "Unknown", "httpStatus": 503, "reason": "ServerError" });
        let mut troubles = Troubles::default();
        troubles.note(&coupon(json!({ "name": "tell", "accepted": "1" })));
        assert_eq!(troubles.line(now()), None);
        for wait in [30, 20] {
            let at = now() + chrono::TimeDelta::seconds(wait);
            troubles.note(&coupon(
                json!({ "name": "tell", "retrying": "1", "lastAttempt": attempt, "nextAttemptTime": at }),
            ));
        }
        troubles.note(&coupon(json!({ "name": "tell", "failed": "1" })));
        assert_eq!(
            troubles.line(now()).unwrap(),
            "  troubles: 2 tell: 503 ServerError, 1 tell: not sent; the next is tried again in 20 s"
        );
    }
}
