//! Windows that closed before everybody in the audience had been seen: they are not made up for, but
//! counted, and said. Pure.

use chrono::{DateTime, Utc};

use super::plan::{Granting, Plan, find_open};
use super::validate::Validated;
use crate::api::campaign::{Campaign, CampaignStatus, OccurrenceStatus, Profile, Window};
use crate::issuing::selection::distinct;
use crate::rules::occurrence::{Occurrence, Timing, is_year};

/// A window that was missed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missed {
    pub rule: String,
    pub key: String,
    pub window: Window,
    /// Whoever was seen before it closed has a code.
    pub partly: bool,
}

/// Finds what closed since status last spoke of it, and what of that was missed. Anniversaries need the
/// ledger: they are looked at when the plan is carried out.
pub fn look(plan: &mut Plan, (campaign, profiles): (&Campaign, &[Profile]), validated: &Validated, now: DateTime<Utc>) {
    let Some(status) = &campaign.status else { return };
    let Some(from) = owed_from(campaign, status, now) else { return };
    let edited = campaign.metadata.generation != Some(status.observed_generation);
    for (rule, timing) in &validated.timings {
        let (closed, _) = timing.closed_since(from, now);
        let any = edited || !closed.is_empty() || anniversaries_closed(timing, profiles, from, now).next().is_some();
        plan.closed_after = plan.closed_after.or(any.then_some(from));
        plan.missed.extend(closed.into_iter().filter_map(|occurrence| missed(status, rule, occurrence)));
    }
    if edited {
        let interrupted = interrupted(status, now).filter(|m| plan.missed.iter().all(|known| known.key != m.key));
        let interrupted: Vec<Missed> = interrupted.collect();
        plan.missed.extend(interrupted);
    }
}

/// Occurrences that were open when status was written, and closed before everybody was seen. After an edit the
/// schedule may not have their windows any more.
fn interrupted(status: &CampaignStatus, now: DateTime<Utc>) -> impl Iterator<Item = Missed> {
    let checked = status.windows_checked_until;
    let closed = move |o: &&OccurrenceStatus| o.window.end_time.is_some_and(|end| checked < Some(end) && end <= now);
    let unseen = status.occurrences.iter().filter(|o| !o.audience_seen && !o.missed && !is_year(&o.key)).filter(closed);
    unseen.map(|o| Missed { rule: o.rule.clone(), key: o.key.clone(), window: o.window, partly: true })
}

/// From when on windows are owed. After an edit nothing is owed of the time before it: the windows that the
/// schedule has there now were never announced. But if the next window that was announced has passed
/// meanwhile, nobody looked, and what came from then on was missed.
fn owed_from(campaign: &Campaign, status: &CampaignStatus, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let checked = status.windows_checked_until.filter(|checked| *checked < now)?;
    if campaign.metadata.generation == Some(status.observed_generation) {
        return Some(checked);
    }
    let announced = status.next_window_time.filter(|next| *next <= now);
    Some(announced.map_or(now, |next| next.max(checked)))
}

fn missed(status: &CampaignStatus, rule: &str, occurrence: Occurrence) -> Option<Missed> {
    let granting = Granting::Everybody(occurrence);
    let known = find_open(status, rule, &granting);
    let Granting::Everybody(occurrence) = granting else { return None };
    // Of several windows of one key, status remembers the last that was open. One that is counted already is
    // not counted again.
    let seen = known.is_some_and(|o| o.window.overlaps(&occurrence.window) && (o.audience_seen || o.missed));
    let key = known.map_or(occurrence.key, |o| o.key.clone());
    (!seen).then(|| Missed { rule: rule.to_owned(), key, window: occurrence.window, partly: known.is_some() })
}

/// The anniversaries of an audience that closed after `from` and up to `now`: whose, and which.
pub fn anniversaries_closed<'a>(
    timing: &'a Timing,
    profiles: &'a [Profile],
    from: DateTime<Utc>,
    now: DateTime<Utc>,
) -> impl Iterator<Item = (&'a Profile, Occurrence)> {
    let closed = move |o: &Occurrence| o.window.end_time.is_some_and(|end| end <= now);
    let of_profile = move |profile: &'a Profile| {
        let date = timing.anniversary()?.month_day(|name| profile.attributes.get(name).cloned()).ok()?;
        let windows = timing.windows_for(date, from, now).into_iter();
        Some(windows.filter(closed).map(move |occurrence| (profile, occurrence)))
    };
    distinct(profiles).filter_map(of_profile).flatten()
}

/// Notes missed windows in status, which then says which; the count is of all.
pub fn note(occurrences: &mut Vec<OccurrenceStatus>, missed: &[Missed]) {
    for window in missed {
        match occurrences.iter_mut().find(|o| o.rule == window.rule && o.key == window.key) {
            Some(known) => known.missed = true,
            None => occurrences.push(OccurrenceStatus {
                rule: window.rule.clone(),
                key: window.key.clone(),
                window: window.window,
                grants_until: window.window.end_time,
                missed: true,
                ..OccurrenceStatus::default()
            }),
        }
    }
}

/// What the event says: which windows, and what can be done.
#[must_use]
pub fn message(missed: &[Missed]) -> String {
    const NAMED: usize = 10;
    let named = missed.iter().take(NAMED).map(|m| {
        let end = m.window.end_time.map_or_else(|| "?".to_owned(), |end| end.to_rfc3339());
        let partly = if m.partly { ", partly" } else { "" };
        format!("{}/{} (closed {end}{partly})", m.rule, m.key)
    });
    let named = named.collect::<Vec<_>>().join(", ");
    let more = match missed.len().saturating_sub(NAMED) {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    format!(
        "windows closed before everybody in the audience had been seen: {named}{more}. They are not made up for; to open one once more, annotate the Campaign with {}: <rule>/<key>",
        crate::api::REOPEN_ANNOTATION
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::campaign::{CampaignSpec, Window};

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn window(start: &str, end: &str) -> Window {
        Window { start_time: Some(at(start)), end_time: Some(at(end)) }
    }

    fn missed(rule: &str, key: &str, partly: bool) -> Missed {
        let window = window("2023-01-01T00:00:00Z", "2023-01-02T00:00:00Z");
        Missed { rule: rule.into(), key: key.into(), window, partly }
    }

    fn campaign(generation: i64, checked: &str, end: &str) -> (Campaign, CampaignStatus) {
        let window = json!({ "startTime": "2022-01-01T00:00:00Z", "endTime": end });
        let status = json!({ "observedGeneration": 1, "windowsCheckedUntil": checked,
            "occurrences": [{ "rule": "r", "key": "k", "window": window }] });
        let object = json!({ "apiVersion": "coupon-operator.dev/v1alpha1", "kind": "Campaign",
            "metadata": { "name": "c", "generation": generation },
            "spec": { "audience": { "profiles": [] }, "rules": [] }, "status": status });
        let campaign: Campaign = serde_json::from_value(object).unwrap();
        let status = campaign.status.clone().unwrap();
        (campaign, status)
    }

    #[test]
    fn what_status_has_spoken_of_is_not_owed_again() {
        let now = at("2023-01-05T00:00:00Z");
        let (_, closed_then) = campaign(2, "2023-01-01T00:00:00Z", "2023-01-01T00:00:00Z");
        assert_eq!(interrupted(&closed_then, now).count(), 0);
        let (_, closed_since) = campaign(2, "2023-01-01T00:00:00Z", "2023-01-01T00:00:01Z");
        assert_eq!(interrupted(&closed_since, now).count(), 1);
        let (same, status) = campaign(1, "2023-01-05T00:00:00Z", "2023-01-01T00:00:00Z");
        assert_eq!(owed_from(&same, &status, now), None, "up to this instant nothing is owed");
        assert_eq!(owed_from(&same, &status, at("2023-01-05T00:00:01Z")), Some(now));
    }

    #[test]
    fn the_anniversaries_that_closed_are_those_of_their_dates_each_person_once() {
        let spec: CampaignSpec = serde_json::from_value(json!({ "audience": { "profiles": [
            { "integrationId": "ada", "attributes": { "birthday": "1990-01-01" } },
            { "integrationId": " ada ", "attributes": { "birthday": "1990-01-02" } },
            { "integrationId": "grace", "attributes": { "birthday": "1990-01-03" } },
            { "integrationId": "nobody" } ] },
            "rules": [{ "name": "r", "schedules": [{ "anniversaryOf": { "attribute": "birthday" } }], "effects": [] }] }))
        .unwrap();
        let timing = Timing::of(&spec, &spec.rules[0]).unwrap();
        let closed = |from: &str, now: &str| {
            let closed = anniversaries_closed(&timing, spec.audience.written(), at(from), at(now));
            closed.map(|(profile, occurrence)| (profile.integration_id.clone(), occurrence.key)).collect::<Vec<_>>()
        };
        let year = |who: &str| (who.to_owned(), "2023".to_owned());
        assert_eq!(closed("2023-01-01T12:00:00Z", "2023-01-05T00:00:00Z"), [year("ada"), year("grace")]);
        // A day's window ends at the next midnight: what closed at `from` was spoken of, what closes now was not.
        assert_eq!(closed("2023-01-02T00:00:00Z", "2023-01-04T00:00:00Z"), [year("grace")]);
        assert_eq!(closed("2023-01-02T00:00:00Z", "2023-01-03T23:59:59Z"), []);
    }

    #[test]
    fn what_was_missed_is_noted_with_its_rule_and_key() {
        let known = |rule: &str, key: &str| OccurrenceStatus {
            rule: rule.into(),
            key: key.into(),
            ..OccurrenceStatus::default()
        };
        let mut occurrences = vec![known("r", "other"), known("other", "k"), known("r", "k")];
        note(&mut occurrences, &[missed("r", "k", true), missed("r", "new", false)]);
        let noted: Vec<(&str, &str, bool)> =
            occurrences.iter().map(|o| (o.rule.as_str(), o.key.as_str(), o.missed)).collect();
        assert_eq!(noted, [("r", "other", false), ("other", "k", false), ("r", "k", true), ("r", "new", true)]);
        assert_eq!(occurrences[3].window, missed("r", "new", false).window);
        assert_eq!(occurrences[3].grants_until, Some(at("2023-01-02T00:00:00Z")));
    }

    #[test]
    fn the_event_names_ten_of_them_and_counts_the_rest() {
        let said = message(&[missed("r", "a", true), missed("r", "b", false)]);
        let named = ": r/a (closed 2023-01-02T00:00:00+00:00, partly), r/b (closed 2023-01-02T00:00:00+00:00). They";
        assert!(said.contains(named), "{said}");
        let many: Vec<Missed> = (0..13).map(|i| missed("r", &format!("k{i}"), false)).collect();
        let said = message(&many);
        assert!(said.contains("r/k9 (") && !said.contains("r/k10 (") && said.contains(" and 3 more. They"), "{said}");
    }
}
