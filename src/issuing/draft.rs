//! A draft: the Coupon that a recipient would get, before it is written down.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use crate::api::campaign::{CreateCoupon, LocalReference, Profile, Window};
use crate::api::coupon::{CouponSpec, Delivery};
use crate::api::webhook::ParameterType;
use crate::records::{MOST_RECORD_BYTES, Rows};
use crate::template::binding::{Binding, BindingError, Found, Source};

/// A delivery of a rule with its bindings parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreparedDelivery {
    pub name: String,
    pub webhook: String,
    /// Parameter, its type, and what the campaign binds to it.
    pub bindings: Vec<(String, ParameterType, Binding)>,
}

/// What a rule does for a recipient, parsed.
#[derive(Clone, Debug, PartialEq)]
pub struct PreparedEffects {
    pub create: CreateCoupon,
    pub attributes: Vec<(String, Binding)>,
    pub deliveries: Vec<PreparedDelivery>,
}

/// What is the same for everybody in a pass.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    pub campaign: &'a str,
    pub campaign_uid: &'a str,
    pub campaign_attributes: &'a BTreeMap<String, Value>,
    pub rule: &'a str,
    pub occurrence: &'a str,
    pub window: Window,
    pub now: DateTime<Utc>,
}

/// A recipient who gets no Coupon, with the reason under which status counts them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ineligible {
    #[error("{place}: {error}")]
    Binding {
        place: String,
        #[source]
        error: BindingError,
    },
    #[error(
        "the record would take {0} bytes, of which a Coupon has room for {MOST_RECORD_BYTES}: bind shorter attributes, or shorten them"
    )]
    TooLarge(usize),
}

impl Ineligible {
    /// The reason as status counts it: bounded in number, since it names only the binding's place.
    #[must_use]
    pub fn reason(&self) -> String {
        let (place, error) = match self {
            Self::Binding { place, error } => (place, error),
            Self::TooLarge(_) => return format!("TooLarge: its record takes over {MOST_RECORD_BYTES} bytes"),
        };
        let what = match error {
            BindingError::Missing(source) => format!("Missing {source}"),
            BindingError::NotText(source) => format!("NotText {source}"),
            BindingError::Type(mismatch) => format!("WrongType: {mismatch}"),
        };
        format!("{place}: {what}")
    }
}

/// The Coupon that a recipient gets.
///
/// # Errors
/// If a binding has no value for this recipient, or their values are too large for a Coupon.
pub fn coupon(
    effects: &PreparedEffects,
    circumstances: Circumstances<'_>,
    profile: &Profile,
    code: String,
) -> Result<CouponSpec, Ineligible> {
    let now = circumstances.now;
    let create = &effects.create;
    let mut spec = CouponSpec {
        campaign: Some(circumstances.campaign.to_owned()),
        campaign_uid: Some(circumstances.campaign_uid.to_owned()),
        rule: Some(circumstances.rule.to_owned()),
        occurrence: Some(circumstances.occurrence.to_owned()),
        window: Some(circumstances.window),
        issued_at: Some(now),
        recipient: Some(profile.integration_id.trim().to_owned()),
        code: Some(code),
        chunk: None,
        columns: Vec::new(),
        rows: Rows::default(),
        redemption_limit: Some(create.redemption_limit),
        start_time: create.start_time.or_else(|| later(now, create.valid_after_seconds)),
        expiry_time: create.expiry_time.or_else(|| later(now, create.valid_for_seconds)),
        attributes: BTreeMap::new(),
        deliveries: Vec::new(),
    };
    let lookup = |source: &Source| look_up(source, circumstances, profile, &spec);
    let attributes = fill(&effects.attributes, |name| format!("createCoupon.attributes.{name}"), &lookup)?;
    let deliveries = effects.deliveries.iter().map(|d| delivery(d, &lookup)).collect::<Result<_, _>>()?;
    spec.attributes = attributes;
    spec.deliveries = deliveries;
    match record_bytes(&spec) {
        bytes if bytes > MOST_RECORD_BYTES => Err(Ineligible::TooLarge(bytes)),
        _ => Ok(spec),
    }
}

/// How long the record is as a row, in whatever shape it will be written.
fn record_bytes(draft: &CouponSpec) -> usize {
    let parameters = draft.deliveries.iter().flat_map(|delivery| delivery.parameters.values());
    let cells = || parameters.clone().chain(draft.attributes.values());
    let most = |cell: &String| cell.len().saturating_mul(2).saturating_add(3);
    // Quoting at most doubles a cell, so that most records need not be written to know that they fit.
    let upper = cells().map(most).fold(4096_usize, usize::saturating_add);
    if upper <= MOST_RECORD_BYTES { upper } else { super::chunks::row(draft).len() }
}

fn later(now: DateTime<Utc>, seconds: Option<i64>) -> Option<DateTime<Utc>> {
    now.checked_add_signed(TimeDelta::try_seconds(seconds?)?)
}

fn delivery(prepared: &PreparedDelivery, lookup: &impl Fn(&Source) -> Option<Found>) -> Result<Delivery, Ineligible> {
    let mut parameters = BTreeMap::new();
    for (name, type_, binding) in &prepared.bindings {
        let value = binding
            .evaluate(*type_, lookup)
            .map_err(|error| Ineligible::Binding { place: format!("sendWebhook.{}.{name}", prepared.name), error })?;
        parameters.insert(name.clone(), value.to_cell());
    }
    let webhook_ref = LocalReference { name: prepared.webhook.clone() };
    Ok(Delivery { name: prepared.name.clone(), webhook_ref, parameters })
}

fn fill(
    bindings: &[(String, Binding)],
    place: impl Fn(&str) -> String,
    lookup: &impl Fn(&Source) -> Option<Found>,
) -> Result<BTreeMap<String, String>, Ineligible> {
    bindings
        .iter()
        .map(|(name, binding)| match binding.evaluate(ParameterType::String, lookup) {
            Ok(value) => Ok((name.clone(), value.to_cell())),
            Err(error) => Err(Ineligible::Binding { place: place(name), error }),
        })
        .collect()
}

fn look_up(source: &Source, at: Circumstances<'_>, profile: &Profile, coupon: &CouponSpec) -> Option<Found> {
    let text = |text: &str| Some(Found::Json(Value::String(text.to_owned())));
    match source {
        Source::ProfileIntegrationId => coupon.recipient.as_deref().and_then(text),
        Source::ProfileAttribute(name) => attribute(&profile.attributes, name),
        Source::CouponCode => coupon.code.as_deref().and_then(text),
        Source::CouponExpiryTime => coupon.expiry_time.map(Found::Time),
        Source::CouponRedemptionLimit => coupon.redemption_limit.map(|limit| Found::Json(limit.into())),
        Source::CouponIssuedAt => coupon.issued_at.map(Found::Time),
        Source::CampaignName => text(at.campaign),
        Source::CampaignAttribute(name) => attribute(at.campaign_attributes, name),
        Source::RuleName => text(at.rule),
        Source::OccurrenceKey => text(at.occurrence),
    }
}

/// An attribute that is null counts as absent.
fn attribute(attributes: &BTreeMap<String, Value>, name: &str) -> Option<Found> {
    attributes.get(name).filter(|value| !value.is_null()).map(|value| Found::Json(value.clone()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn effects(binding: &str) -> PreparedEffects {
        PreparedEffects {
            create: serde_json::from_value(json!({ "validForSeconds": 60 })).unwrap(),
            attributes: vec![("who".into(), Binding::parse("${$Campaign.Name}/${$Profile.IntegrationId}").unwrap())],
            deliveries: vec![PreparedDelivery {
                name: "tell".into(),
                webhook: "w".into(),
                bindings: vec![("P".into(), ParameterType::String, Binding::parse(binding).unwrap())],
            }],
        }
    }

    const NO_ATTRIBUTES: BTreeMap<String, Value> = BTreeMap::new();

    fn circumstances(campaign_attributes: &BTreeMap<String, Value>) -> Circumstances<'_> {
        Circumstances {
            campaign: "new-year",
            campaign_uid: "uid",
            campaign_attributes,
            rule: "r",
            occurrence: "20230101",
            window: Window::default(),
            now: DateTime::from_timestamp(0, 0).unwrap(),
        }
    }

    fn drafted(binding: &str) -> Result<CouponSpec, Ineligible> {
        let none = NO_ATTRIBUTES;
        let circumstances = circumstances(&none);
        let profile: Profile =
            serde_json::from_value(json!({ "integrationId": " customer-1 ", "attributes": { "none": null } })).unwrap();
        coupon(&effects(binding), circumstances, &profile, "CODE".into())
    }

    #[test]
    fn values_are_frozen_when_the_coupon_is_issued() {
        let spec = drafted("${$Coupon.Code} for ${$Profile.IntegrationId} until ${$Coupon.ExpiryTime}").unwrap();
        assert_eq!(spec.recipient.as_deref(), Some("customer-1"), "ids are trimmed");
        assert_eq!(spec.attributes["who"], "new-year/customer-1");
        assert_eq!(spec.deliveries[0].parameters["P"], "CODE for customer-1 until 1970-01-01T00:01:00Z");
    }

    #[test]
    fn i6_a_record_that_no_coupon_has_room_for_is_its_recipients_reason() {
        let drafted = |cell: String| {
            let profile: Profile =
                serde_json::from_value(json!({ "integrationId": "c", "attributes": { "a": cell } })).unwrap();
            coupon(&effects("${$Profile.Attributes.a}"), circumstances(&NO_ATTRIBUTES), &profile, "CODE".into())
        };
        // c,CODE,<cell>,new-year/c: each quotation mark is written twice, between two more.
        let others = "c,CODE,\"\",new-year/c".len();
        let room = MOST_RECORD_BYTES - others;
        let fits = drafted("\"".repeat(room / 2) + &"x".repeat(room % 2)).unwrap();
        assert_eq!(super::super::chunks::row(&fits).len(), MOST_RECORD_BYTES);
        let refused = drafted("\"".repeat(room / 2) + &"x".repeat(room % 2 + 1)).unwrap_err();
        assert_eq!(refused, Ineligible::TooLarge(MOST_RECORD_BYTES + 1));
        assert_eq!(refused.reason(), "TooLarge: its record takes over 65536 bytes");
    }

    #[test]
    fn a_recipient_without_an_attribute_is_counted_under_a_reason() {
        let ineligible = drafted("${$Profile.Attributes.none}").unwrap_err();
        assert_eq!(ineligible.reason(), "sendWebhook.tell.P: Missing Profile.Attributes.none");
        assert!(ineligible.to_string().contains("give the recipient a value, or the binding a default"));
    }
}
