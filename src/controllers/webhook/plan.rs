//! What a Webhook's status says, and whether its credentials are looked at again. Pure.

use super::validate::{Invalid, Validated, joined};
use crate::api::conditions::{Verdict, reason};
use crate::api::webhook::WebhookSpec;
use crate::delivery::pacing::Pause;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub verdict: Verdict,
    /// Look at the Secrets again after the poll interval.
    pub next: Option<LookAgain>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookAgain;

pub fn run(spec: &WebhookSpec, validated: &Result<Validated, Invalid>, pause: Option<&Pause>) -> Plan {
    match (validated, pause) {
        (Err(Invalid::Spec(errors)), _) => {
            Plan { verdict: Verdict::stalled(reason::INVALID, joined(errors)), next: None }
        }
        (Err(Invalid::Reference { reason, message }), _) => {
            Plan { verdict: Verdict::waiting(reason, message.clone()), next: Some(LookAgain) }
        }
        (Ok(_), Some(pause)) => paused(spec, pause),
        (Ok(_), None) if spec.suspend => Plan {
            verdict: Verdict::ready(reason::SUSPENDED, "nothing is sent while spec.suspend is true"),
            next: None,
        },
        (Ok(validated), None) => Plan { verdict: Verdict::ready(reason::ACCEPTED, accepted(validated)), next: None },
    }
}

fn paused(spec: &WebhookSpec, pause: &Pause) -> Plan {
    let (reason, next) = match pause {
        Pause::Failing { message } => return failing(message),
        Pause::Credential { .. } => (reason::CREDENTIALS_REJECTED, Some(LookAgain)),
        Pause::Endpoint { .. } => (reason::ENDPOINT_REJECTED, Some(LookAgain)),
        Pause::Address { .. } => (reason::ADDRESS_REFUSED, None),
    };
    let waits = if spec.headers.iter().any(|h| h.value_from.is_some()) && next.is_some() {
        ". Nothing is sent until this Webhook or its Secret changes; Coupons wait"
    } else {
        ". Nothing is sent until this Webhook changes; Coupons wait"
    };
    Plan { verdict: Verdict::stalled(reason, format!("{}{waits}", pause.message())), next }
}

/// Not stalled: it goes on by itself.
fn failing(message: &str) -> Plan {
    let said = format!(
        "several Coupons failed in a row ({message}): one request at a time finds out when the endpoint works again, and Coupons wait until then"
    );
    Plan { verdict: Verdict::waiting(reason::ENDPOINT_FAILING, said), next: None }
}

fn accepted(validated: &Validated) -> String {
    match validated.templates.unused().as_slice() {
        [] => String::new(),
        unused => format!("Warning: nothing uses parameter {}", unused.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::super::validate::{self, FoundValue, Reference};
    use super::*;
    use crate::delivery::secret::Redacted;

    fn spec() -> WebhookSpec {
        serde_json::from_value(json!({
            "url": "https://a.example/", "parameters": [{ "name": "P", "type": "String" }],
            "headers": [{ "name": "X", "valueFrom": { "secretKeyRef": { "name": "s", "key": "k" } } }],
        }))
        .unwrap()
    }

    fn planned(found: FoundValue, pause: Option<&Pause>) -> Plan {
        let values = BTreeMap::from([(Reference::Secret { name: "s".into(), key: "k".into() }, found)]);
        run(&spec(), &validate::run(&spec(), &values), pause)
    }

    fn value(text: &str) -> FoundValue {
        FoundValue::Value(Redacted::new(text.into()))
    }

    #[test]
    fn a_missing_secret_is_waited_for_and_says_what_to_do() {
        for (found, reason) in [
            (FoundValue::NoObject, reason::SECRET_NOT_FOUND),
            (FoundValue::NoKey, reason::SECRET_KEY_NOT_FOUND),
            (value(""), reason::HEADER_VALUE_INVALID),
        ] {
            let plan = planned(found, None);
            assert_eq!((plan.verdict.reason, plan.next), (reason, Some(LookAgain)));
            assert!(plan.verdict.message.starts_with("spec.headers[0].valueFrom (X): "), "{}", plan.verdict.message);
        }
    }

    #[test]
    fn a_refused_credential_stalls_and_is_looked_at_again() {
        let plan = planned(value("v"), Some(&Pause::Credential { message: "no".into() }));
        assert_eq!(plan.verdict.progress, crate::api::conditions::Progress::Stuck);
        assert_eq!((plan.verdict.reason, plan.next), (reason::CREDENTIALS_REJECTED, Some(LookAgain)));
    }

    #[test]
    fn a_failing_endpoint_is_waited_for() {
        let plan = planned(value("v"), Some(&Pause::Failing { message: "HTTP 503".into() }));
        assert_eq!(plan.verdict.progress, crate::api::conditions::Progress::Working);
        assert_eq!((plan.verdict.reason, plan.next), (reason::ENDPOINT_FAILING, None));
        assert!(plan.verdict.message.contains("HTTP 503"));
    }

    #[test]
    fn an_accepted_webhook_is_not_looked_at_again() {
        let plan = planned(value("v"), None);
        assert!(plan.verdict.ready && plan.next.is_none());
        assert_eq!(plan.verdict.message, "Warning: nothing uses parameter P");
    }
}
