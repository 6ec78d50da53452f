//! Condition types and reasons, and how a list of conditions changes.

use chrono::{DateTime, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

/// The object is accepted and able to act; its reason says what it does.
pub const READY: &str = "Ready";
/// The controller is still working towards the spec, or waits for something that may come by itself.
pub const RECONCILING: &str = "Reconciling";
/// Nothing more happens until a person changes something.
pub const STALLED: &str = "Stalled";
/// A Campaign: no window is open and every issued Coupon has come to its end.
pub const SETTLED: &str = "Settled";
/// All records were accepted by their endpoints.
pub const DELIVERED: &str = "Delivered";

/// A Coupon: what a person decided by annotation was done.
pub const RESOLVED: &str = "Resolved";

/// Reasons, each a constant, so that scripts may rely on them.
pub mod reason {
    pub const ACCEPTED: &str = "Accepted";
    pub const INVALID: &str = "Invalid";
    pub const SUSPENDED: &str = "Suspended";
    pub const SECRET_NOT_FOUND: &str = "SecretNotFound";
    pub const SECRET_KEY_NOT_FOUND: &str = "SecretKeyNotFound";
    pub const CONFIG_MAP_NOT_FOUND: &str = "ConfigMapNotFound";
    pub const CONFIG_MAP_KEY_NOT_FOUND: &str = "ConfigMapKeyNotFound";
    pub const HEADER_VALUE_INVALID: &str = "HeaderValueInvalid";
    pub const CREDENTIALS_REJECTED: &str = "CredentialsRejected";
    pub const ENDPOINT_REJECTED: &str = "EndpointRejected";
    pub const ENDPOINT_FAILING: &str = "EndpointFailing";
    pub const ADDRESS_REFUSED: &str = "AddressRefused";

    pub const AUDIENCE_INCOMPLETE: &str = "AudienceIncomplete";

    pub const SCHEDULED: &str = "Scheduled";
    pub const OPEN: &str = "Open";
    pub const DELIVERING: &str = "Delivering";
    pub const COMPLETE: &str = "Complete";
    pub const ENDED: &str = "Ended";
    pub const EXHAUSTED: &str = "Exhausted";
    pub const WINDOW_MISSED: &str = "WindowMissed";
    pub const WEBHOOK_NOT_FOUND: &str = "WebhookNotFound";
    pub const WEBHOOK_NOT_READY: &str = "WebhookNotReady";
    pub const PARAMETERS_MISMATCH: &str = "ParametersMismatch";
    pub const COUPONS_MISSING: &str = "CouponsMissing";
    pub const NAME_CONFLICT: &str = "NameConflict";
    pub const GUARDRAIL_HIT: &str = "GuardrailHit";
    pub const KEYSPACE_TOO_SMALL: &str = "KeyspaceTooSmall";
    pub const NOT_PROGRESSING: &str = "NotProgressing";
    pub const NOT_STALLED: &str = "NotStalled";
    pub const SETTLED: &str = "Settled";
    pub const UNSETTLED: &str = "Unsettled";

    pub const SENDING: &str = "Sending";
    pub const RETRYING: &str = "Retrying";
    pub const DELIVERED: &str = "Delivered";
    pub const UNDELIVERED: &str = "Undelivered";
    pub const FAILED: &str = "Failed";
    pub const EXPIRED: &str = "Expired";
    pub const UNKNOWN_OUTCOME: &str = "UnknownOutcome";
    pub const RESTORED: &str = "Restored";
    pub const ABANDONED: &str = "Abandoned";
    pub const AS_ANNOTATED: &str = "AsAnnotated";
    pub const CAMPAIGN_GONE: &str = "CampaignGone";
    pub const PARAMETERS_MISSING: &str = "ParametersMissing";
}

/// What is true of an object, for [`set_all`] to write as conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub ready: bool,
    pub progress: Progress,
    pub reason: &'static str,
    pub message: String,
}

/// Where an object stands, in kstatus's terms: `Working` is `InProgress`, `Stuck` is Failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    Done,
    Working,
    Stuck,
}

impl Verdict {
    /// Accepted and able to act.
    pub fn ready(reason: &'static str, message: impl Into<String>) -> Self {
        Self { ready: true, progress: Progress::Done, reason, message: message.into() }
    }

    /// Not able to act for a cause that may go away by itself.
    pub fn waiting(reason: &'static str, message: impl Into<String>) -> Self {
        Self { ready: false, progress: Progress::Working, reason, message: message.into() }
    }

    /// Not able to act until a person changes something.
    pub fn stalled(reason: &'static str, message: impl Into<String>) -> Self {
        Self { ready: false, progress: Progress::Stuck, reason, message: message.into() }
    }

    /// The three standard conditions. None is True beside Ready=True: kstatus would read that as
    /// in progress or failed.
    #[must_use]
    pub fn conditions(&self) -> [Fact; 3] {
        let (working, stuck) = (self.progress == Progress::Working, self.progress == Progress::Stuck);
        [
            Fact::new(READY, self.ready, self.reason, &self.message),
            Fact::either(RECONCILING, working, self, reason::NOT_PROGRESSING),
            Fact::either(STALLED, stuck, self, reason::NOT_STALLED),
        ]
    }
}

/// One condition to be, without its times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    pub type_: &'static str,
    pub holds: bool,
    pub reason: &'static str,
    pub message: String,
}

impl Fact {
    #[must_use]
    pub fn new(type_: &'static str, holds: bool, reason: &'static str, message: &str) -> Self {
        Self { type_, holds, reason, message: shortened(message) }
    }

    fn either(type_: &'static str, holds: bool, verdict: &Verdict, otherwise: &'static str) -> Self {
        if holds {
            Self::new(type_, true, verdict.reason, &verdict.message)
        } else {
            Self::new(type_, false, otherwise, "")
        }
    }
}

/// Writes facts into a list of conditions. A transition time changes only when the status of the
/// condition does, so writing the same facts twice changes nothing.
pub fn set_all(conditions: &mut Vec<Condition>, facts: &[Fact], generation: i64, now: DateTime<Utc>) {
    for fact in facts {
        set(conditions, fact, generation, now);
    }
}

fn set(conditions: &mut Vec<Condition>, fact: &Fact, generation: i64, now: DateTime<Utc>) {
    let status = if fact.holds { "True" } else { "False" };
    let before = conditions.iter().position(|c| c.type_ == fact.type_);
    let since = before
        .and_then(|i| conditions.get(i))
        .filter(|c| c.status == status)
        .map_or_else(|| time(now), |c| c.last_transition_time.clone());
    let condition = Condition {
        type_: fact.type_.to_owned(),
        status: status.to_owned(),
        reason: fact.reason.to_owned(),
        message: fact.message.clone(),
        last_transition_time: since,
        observed_generation: Some(generation),
    };
    match before.and_then(|i| conditions.get_mut(i)) {
        Some(place) => *place = condition,
        None => conditions.push(condition),
    }
}

/// True if the condition of this type is True.
#[must_use]
pub fn holds(conditions: &[Condition], type_: &str) -> bool {
    conditions.iter().any(|c| c.type_ == type_ && c.status == "True")
}

/// The API's limit for a condition's message is 32768 bytes; a person reads far less.
fn shortened(message: &str) -> String {
    const MOST: usize = 1024;
    if message.chars().count() <= MOST {
        return message.to_owned();
    }
    message.chars().take(MOST).chain("…".chars()).collect()
}

fn time(now: DateTime<Utc>) -> Time {
    Time(Timestamp::from_second(now.timestamp()).unwrap_or(Timestamp::UNIX_EPOCH))
}

/// Schema of a list of conditions, merged by type.
pub(crate) fn list_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let item = generator.subschema_for::<Condition>();
    schemars::json_schema!({
        "type": "array",
        "description": "What is true of this object: Ready, Reconciling, Stalled and others, by the conventions of Kubernetes.",
        "items": item,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    #[test]
    fn writing_the_same_verdict_later_changes_nothing() {
        let verdict = Verdict::ready(reason::OPEN, "open");
        let mut once = Vec::new();
        set_all(&mut once, &verdict.conditions(), 1, at(10));
        let mut twice = once.clone();
        set_all(&mut twice, &verdict.conditions(), 1, at(20));
        assert_eq!(once, twice);
    }

    #[test]
    fn a_transition_moves_its_time_and_only_its_own() {
        let mut list = Vec::new();
        set_all(&mut list, &Verdict::ready(reason::OPEN, "").conditions(), 1, at(10));
        set_all(&mut list, &Verdict::stalled(reason::INVALID, "no").conditions(), 2, at(20));
        let time_of = |t: &str| list.iter().find(|c| c.type_ == t).unwrap().last_transition_time.0.as_second();
        assert_eq!((time_of(READY), time_of(RECONCILING), time_of(STALLED)), (20, 10, 20));
    }

    #[test]
    fn ready_stands_alone() {
        for fact in &Verdict::ready(reason::OPEN, "").conditions()[1..] {
            assert!(!fact.holds, "{} must be False beside Ready=True", fact.type_);
        }
    }
}
