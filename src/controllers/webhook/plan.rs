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
    fn what_a_pause_waits_for_is_said() {
        let (endpoint, address) = (Pause::Endpoint { message: "404".into() }, Pause::Address { message: "no".into() });
        let told = |spec: &WebhookSpec, pause| {
            let values = BTreeMap::from([(Reference::Secret { name: "s".into(), key: "k".into() }, value("v"))]);
            let plan = run(spec, &validate::run(spec, &values), Some(pause));
            (plan.verdict.reason, plan.next.is_some(), plan.verdict.message)
        };
        let or_its_secret = "404. Nothing is sent until this Webhook or its Secret changes; Coupons wait";
        assert_eq!(told(&spec(), &endpoint), (reason::ENDPOINT_REJECTED, true, or_its_secret.into()));
        let itself = "no. Nothing is sent until this Webhook changes; Coupons wait";
        assert_eq!(told(&spec(), &address), (reason::ADDRESS_REFUSED, false, itself.into()));
        let plain = WebhookSpec { headers: Vec::new(), ..spec() };
        assert_eq!(told(&plain, &endpoint).2, "404. Nothing is sent until this Webhook changes; Coupons wait");
    }

    #[test]
    fn a_suspended_webhook_is_ready_and_one_that_is_wrong_says_all_that_is() {
        let values = BTreeMap::new();
        let suspended = WebhookSpec { suspend: true, headers: Vec::new(), ..spec() };
        let plan = run(&suspended, &validate::run(&suspended, &values), None);
        assert_eq!((plan.verdict.reason, plan.verdict.ready, plan.next), (reason::SUSPENDED, true, None));
        let wrong = WebhookSpec { url: "https://${$P}/".into(), payload: Some("{".into()), ..spec() };
        let plan = run(&wrong, &validate::run(&wrong, &values), None);
        assert_eq!((plan.verdict.reason, plan.next), (reason::INVALID, None));
        let message = plan.verdict.message;
        assert!(message.starts_with("spec.url: ") && message.contains("; spec.payload: "), "{message}");
        let used = WebhookSpec { headers: Vec::new(), url: "https://a.example/${$P}".into(), ..spec() };
        assert_eq!(run(&used, &validate::run(&used, &values), None).verdict.message, "");
    }

    #[test]
    fn a_header_comes_from_a_secret_or_a_config_map_or_is_written() {
        let header = |source: serde_json::Value| serde_json::from_value(source).unwrap();
        let of = |source| Reference::of(&header(source));
        let reference = json!({ "name": "n", "key": "k" });
        let secret = of(json!({ "name": "X", "valueFrom": { "secretKeyRef": reference } })).unwrap();
        assert_eq!(secret, Reference::Secret { name: "n".into(), key: "k".into() });
        let map = of(json!({ "name": "X", "valueFrom": { "configMapKeyRef": reference } })).unwrap();
        assert_eq!((map.key(), &map), ("k", &Reference::ConfigMap { name: "n".into(), key: "k".into() }));
        assert_eq!(of(json!({ "name": "X", "value": "v" })), None);
        let mut from_map = spec();
        from_map.headers = vec![header(json!({ "name": "X", "valueFrom": { "configMapKeyRef": reference } }))];
        let found = |found| validate::run(&from_map, &BTreeMap::from([(map.clone(), found)]));
        assert_eq!(found(value("v")).unwrap().resolved.len(), 1);
        for (problem, expected) in [
            (FoundValue::NoObject, reason::CONFIG_MAP_NOT_FOUND),
            (FoundValue::NoKey, reason::CONFIG_MAP_KEY_NOT_FOUND),
        ] {
            assert!(matches!(found(problem), Err(Invalid::Reference { reason, .. }) if reason == expected));
        }
        assert!(matches!(validate::run(&from_map, &BTreeMap::new()), Err(Invalid::Reference { .. })));
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
