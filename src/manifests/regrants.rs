//! Whether applying a Campaign would give people who have a code another one, without anybody having
//! meant it: a rule or a campaign that is renamed, and a window that is moved clear of the one that was
//! granted, are new occurrences. Pure.

use chrono::{DateTime, Utc};
use kube::ResourceExt;

use crate::api::campaign::{Campaign, CampaignRule, OccurrenceStatus};
use crate::rules::occurrence::{Occurrence, Timing};

/// Warnings about a Campaign that is to replace the one in the cluster.
#[must_use]
pub fn of_edit(cluster: &Campaign, file: &Campaign, now: DateTime<Utc>) -> Vec<String> {
    let mut warnings = Vec::new();
    for granted in latest_granted(cluster) {
        let old = cluster.spec.rules.iter().find(|rule| rule.name == granted.rule);
        let warning = match file.spec.rules.iter().find(|rule| rule.name == granted.rule) {
            Some(rule) => old.and_then(|old| moved((cluster, old), (file, rule), granted, now)),
            None => renamed(cluster, file, granted, now),
        };
        warnings.extend(warning);
    }
    warnings
}

/// A warning about a Campaign that is not in the cluster, beside one in the cluster that is not in the
/// files: it may be that one, renamed.
#[must_use]
pub fn of_rename(cluster: &Campaign, file: &Campaign, now: DateTime<Utc>) -> Option<String> {
    let same_rule = |granted: &&OccurrenceStatus| {
        let rule = file.spec.rules.iter().find(|rule| rule.name == granted.rule);
        rule.and_then(|rule| next_like(file, rule, granted, now)).is_some()
    };
    let granted = latest_granted(cluster).into_iter().find(same_rule)?;
    let (old, new) = (cluster.name_any(), file.name_any());
    Some(format!(
        "this Campaign is new, and Campaign {old} in the cluster, which is not in these files, has issued {} codes for occurrence {} of a rule of the same name: if {new} is {old} renamed, those customers get another code; keep the name {old}",
        granted.issued, granted.key
    ))
}

/// Of each rule, the latest occurrence that codes were issued for.
fn latest_granted(campaign: &Campaign) -> Vec<&OccurrenceStatus> {
    let status = campaign.status.as_ref();
    let mut granted: Vec<&OccurrenceStatus> =
        status.into_iter().flat_map(|s| &s.occurrences).filter(|o| o.issued > 0).collect();
    granted.sort_by_key(|o| std::cmp::Reverse(o.window.start_time));
    let mut seen = std::collections::HashSet::new();
    granted.retain(|o| seen.insert(o.rule.as_str()));
    granted
}

fn renamed(cluster: &Campaign, file: &Campaign, granted: &OccurrenceStatus, now: DateTime<Utc>) -> Option<String> {
    let is_new = |rule: &&CampaignRule| cluster.spec.rules.iter().all(|old| old.name != rule.name);
    let like = file.spec.rules.iter().filter(is_new).find(|rule| next_like(file, rule, granted, now).is_some())?;
    Some(format!(
        "spec.rules[{0}]: this rule is new, and rule {1}, which is gone, has issued {2} codes for occurrence {3}: if {0} is {1} renamed, those customers get another code; keep the name {1}",
        like.name, granted.rule, granted.issued, granted.key
    ))
}

/// A window of a rule that is open or to come, and that is like one that was granted: they overlap, or are
/// of the same period or year.
fn next_like(file: &Campaign, rule: &CampaignRule, granted: &OccurrenceStatus, now: DateTime<Utc>) -> Option<()> {
    let timing = Timing::of(&file.spec, rule).ok()?;
    if let Some(calendar) = timing.anniversary() {
        let year = granted.key.parse().ok()?;
        return calendar.year(year).end_time.is_none_or(|end| end > now).then_some(());
    }
    let like = |o: &Occurrence| o.counts(&granted.key, &granted.window);
    let until = granted.grants_until.unwrap_or(DateTime::<Utc>::MAX_UTC);
    timing.windows(now, until.max(now)).take(100).chain(timing.open_at(now)).find(like).map(drop)
}

type OfCampaign<'a> = (&'a Campaign, &'a CampaignRule);

fn moved(old: OfCampaign<'_>, new: OfCampaign<'_>, granted: &OccurrenceStatus, now: DateTime<Utc>) -> Option<String> {
    let (was, is) = (timing(old)?, timing(new)?);
    let place = format!("spec.rules[{}]", new.1.name);
    if was == is {
        return None;
    }
    if was.anniversary().is_some() != is.anniversary().is_some() {
        return Some(format!(
            "{place}.schedules: the rule goes by {} instead of {}: whoever of the {} customers with a code for occurrence {} has no window that overlaps gets another",
            kind(&is),
            kind(&was),
            granted.issued,
            granted.key
        ));
    }
    let next = is.windows(now, DateTime::<Utc>::MAX_UTC).next()?;
    let counts = |o: &Occurrence| o.counts(&granted.key, &granted.window);
    let still_grants =
        granted.grants_until.is_none_or(|until| next.window.start_time.is_none_or(|start| start < until));
    // What the old schedule had there too would have granted anyway.
    let until = next.window.end_time.unwrap_or(DateTime::<Utc>::MAX_UTC);
    let planned_anew = was.windows(now, until).take(100).any(|o| !counts(&o));
    if counts(&next) || planned_anew {
        return None;
    }
    let opens =
        next.window.start_time.map_or_else(|| "is always open".to_owned(), |at| format!("opens {}", at.to_rfc3339()));
    let why = if still_grants { "is another occurrence now" } else { "was moved clear of the one that was granted" };
    Some(format!(
        "{place}: {} codes were issued for occurrence {}, and the window that {opens} {why} ({}): those customers get another code",
        granted.issued, granted.key, next.key
    ))
}

fn timing((campaign, rule): OfCampaign<'_>) -> Option<Timing> {
    Timing::of(&campaign.spec, rule).ok()
}

fn kind(timing: &Timing) -> &'static str {
    if timing.anniversary().is_some() { "each recipient's own date" } else { "the calendar" }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn campaign(name: &str, rule: &str, changes: &Value) -> Campaign {
        let mut campaign = json!({
            "apiVersion": "coupon-operator.dev/v1alpha1", "kind": "Campaign", "metadata": { "name": name },
            "spec": { "audience": { "profiles": [] }, "rules": [{ "name": rule, "schedules": [{ "onDates": ["2023-01-01"] }], "effects": [] }] },
            "status": { "occurrences": [
                { "rule": "r", "key": "20220101", "issued": 9, "window": { "startTime": "2022-01-01T00:00:00Z", "endTime": "2022-01-02T00:00:00Z" }, "grantsUntil": "2022-01-02T00:00:00Z" },
                { "rule": "r", "key": "20230101", "issued": 5, "window": { "startTime": "2023-01-01T00:00:00Z", "endTime": "2023-01-02T00:00:00Z" }, "grantsUntil": "2023-01-02T00:00:00Z" }] },
        });
        changes.as_object().unwrap().iter().for_each(|(k, v)| campaign["spec"]["rules"][0][k] = v.clone());
        serde_json::from_value(campaign).unwrap()
    }

    const OPEN: &str = "2023-01-01T12:00:00Z";
    const AFTER: &str = "2023-01-05T12:00:00Z";

    fn warned(rule: &str, changes: &Value, now: &str) -> Vec<String> {
        of_edit(&campaign("c", "r", &json!({})), &campaign("c", rule, changes), now.parse().unwrap())
    }

    #[test]
    fn a_renamed_rule_is_warned_of_while_its_window_is_open() {
        let said = warned("renamed", &json!({}), OPEN);
        assert_eq!(said.len(), 1);
        assert!(said[0].starts_with("spec.rules[renamed]: this rule is new, and rule r, which is gone, has issued 5 codes for occurrence 20230101"), "{said:?}");
        assert!(warned("renamed", &json!({}), AFTER).is_empty(), "it opens no more");
        assert!(
            warned("renamed", &json!({ "schedules": [{ "onDates": ["2023-06-01"] }] }), OPEN).is_empty(),
            "another window"
        );
    }

    #[test]
    fn a_window_that_is_moved_clear_is_warned_of_and_one_that_overlaps_is_not() {
        let day = |date: &str| json!({ "schedules": [{ "onDates": [date] }] });
        for now in [OPEN, AFTER] {
            let said = warned("r", &day("2023-01-10"), now);
            assert!(said.len() == 1 && said[0].contains("5 codes were issued for occurrence 20230101, and the window that opens 2023-01-10T00:00:00+00:00 was moved clear"), "{said:?}");
        }
        assert!(warned("r", &json!({ "schedules": [{ "onDates": ["2023-01-01", "2023-01-02"] }] }), OPEN).is_empty());
        assert!(warned("r", &json!({}), OPEN).is_empty(), "no edit");
        assert!(warned("r", &json!({ "title": "new" }), OPEN).is_empty());
        let birthday = json!({ "schedules": [{ "anniversaryOf": { "attribute": "birthday" } }] });
        assert!(warned("r", &birthday, OPEN)[0].contains("goes by each recipient's own date instead of the calendar"));
    }

    #[test]
    fn a_window_that_was_to_come_anyway_is_not_warned_of() {
        let yearly = json!({ "schedules": [{ "monthDays": ["01-01"] }] });
        let edited =
            json!({ "schedules": [{ "monthDays": ["01-01"], "timeOfDay": { "from": "09:00", "to": "17:00" } }] });
        let said = of_edit(&campaign("c", "r", &yearly), &campaign("c", "r", &edited), AFTER.parse().unwrap());
        assert!(said.is_empty(), "{said:?}");
    }

    /// Between the windows of a week, once a week: tomorrow everybody would get a second code of the week.
    #[test]
    fn a_rename_between_the_windows_of_a_period_is_warned_of() {
        let daily = json!({ "schedules": [{ "timeOfDay": { "from": "09:00", "to": "17:00" } }], "oncePer": "Week" });
        let mut old = serde_json::to_value(campaign("c", "r", &daily)).unwrap();
        old["status"]["occurrences"] = json!([{ "rule": "r", "key": "2023-W01", "issued": 5, "window": { "startTime": "2023-01-02T09:00:00Z", "endTime": "2023-01-02T17:00:00Z" }, "grantsUntil": "2023-01-09T00:00:00Z" }]);
        let old: Campaign = serde_json::from_value(old).unwrap();
        let evening = "2023-01-02T20:00:00Z".parse().unwrap();
        assert_eq!(of_edit(&old, &campaign("c", "renamed", &daily), evening).len(), 1);
        assert!(of_rename(&old, &campaign("d", "r", &daily), evening).is_some());
    }

    /// The old schedule would have granted tomorrow too.
    #[test]
    fn other_times_of_the_same_days_are_not_warned_of() {
        let daily = |from: &str, to: &str| json!({ "schedules": [{ "timeOfDay": { "from": from, "to": to } }] });
        let (old, new) = (campaign("c", "r", &daily("09:00", "17:00")), campaign("c", "r", &daily("18:00", "20:00")));
        assert!(of_edit(&old, &new, "2023-01-02T20:30:00Z".parse().unwrap()).is_empty());
    }

    #[test]
    fn a_renamed_campaign_is_warned_of() {
        let old = campaign("old", "r", &json!({}));
        let warning = |now: &str, rule: &str| of_rename(&old, &campaign("new", rule, &json!({})), now.parse().unwrap());
        assert!(warning(OPEN, "r").unwrap().contains("if new is old renamed, those customers get another code"));
        assert_eq!(warning(AFTER, "r"), None);
        assert_eq!(warning(OPEN, "other"), None);
    }
}
