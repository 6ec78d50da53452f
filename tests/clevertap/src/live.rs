//! The live-behaviour campaign: which events send its message, and what that says.

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::LiveCampaign;

/// Events trigger a live campaign if they are at most two hours old, and at most two minutes ahead
/// (CleverTap's documentation of `ts`).
pub fn is_fresh(event: i64, now: DateTime<Utc>) -> bool {
    (now.timestamp() - 7200..=now.timestamp() + 120).contains(&event)
}

/// The message with the event's properties in it; none if it aborts (`{% abort %}`).
pub fn message(campaign: &LiveCampaign, data: &Value) -> Option<String> {
    let mut text = campaign.message.clone();
    for (name, value) in data.as_object().into_iter().flatten() {
        let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        text = text.replace(&format!("@{} - {name}", campaign.event), &shown);
    }
    let text = filled(&text, data);
    (!text.contains("{% abort %}")).then_some(text)
}

/// Replaces `{{Event["Name"] | default:"…"}}`; the default shows when the value is missing.
fn filled(text: &str, data: &Value) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((expression, after)) = after.split_once("}}") else { break };
        out.push_str(before);
        out.push_str(&value(expression, data));
        rest = after;
    }
    out + rest
}

fn value(expression: &str, data: &Value) -> String {
    let (name, default) = expression.split_once('|').unwrap_or((expression, ""));
    let name = name.trim().trim_start_matches("Event[\"").trim_end_matches("\"]");
    let default = default.trim().trim_start_matches("default:").trim_matches('"').to_owned();
    match data.get(name) {
        Some(Value::String(text)) if !text.is_empty() => text.clone(),
        Some(Value::Null | Value::String(_)) | None => default,
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(message_template: &str, data: &Value) -> Option<String> {
        message(&LiveCampaign { message: message_template.into(), ..LiveCampaign::default() }, data)
    }

    #[test]
    fn the_message_holds_the_events_property_or_the_default() {
        let template = r#"A {{Event["CouponCode"] | default:"none"}} B @Coupon Generated - CouponCode."#;
        assert_eq!(said(template, &json!({ "CouponCode": "X-1" })).unwrap(), "A X-1 B X-1.");
        assert_eq!(said(r#"{{Event["CouponCode"] | default:"none"}}"#, &json!({})).unwrap(), "none");
        assert_eq!(said("{% abort %}", &json!({})), None);
    }

    #[test]
    fn only_fresh_events_trigger_it() {
        let now = DateTime::from_timestamp(100_000, 0).unwrap();
        for (ts, fresh) in [(92_799, false), (92_800, true), (100_120, true), (100_121, false)] {
            assert_eq!(is_fresh(ts, now), fresh, "{ts}");
        }
    }
}
