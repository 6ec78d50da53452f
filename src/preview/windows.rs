//! The windows that would be open.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::api::campaign::{CampaignSpec, OncePer, Profile, Window};
use crate::manifests::CheckedCampaign;
use crate::rules::occurrence::{Occurrence, Timing};
use crate::schedule::MonthDay;

/// A window, as scripts read it: instants in UTC, null where it has no start or end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WindowRow {
    pub campaign: String,
    pub rule: String,
    pub occurrence: String,
    pub opens: Option<DateTime<Utc>>,
    pub closes: Option<DateTime<Utc>>,
}

/// The windows of a Campaign that are open at any time in [from, until), whole, in the order in which
/// they open. `recipient` is whose anniversaries are meant.
pub fn windows<'a>(
    checked: &'a CheckedCampaign<'_>,
    (from, until): (DateTime<Utc>, DateTime<Utc>),
    recipient: Option<&Profile>,
) -> impl Iterator<Item = WindowRow> + use<'a> {
    let campaign = super::name(checked);
    let of_rule = |(rule, timing): &'a (String, std::sync::Arc<Timing>)| {
        let windows: Box<dyn Iterator<Item = Occurrence> + 'a> = match date_of(timing, recipient) {
            Some(date) => Box::new(timing.windows_for(date, from, until).into_iter()),
            None => Box::new(timing.windows(from, until)),
        };
        (rule, windows.peekable())
    };
    let mut rules: Vec<_> = checked.validated.timings.iter().map(of_rule).collect();
    std::iter::from_fn(move || {
        let opens =
            rules.iter_mut().enumerate().filter_map(|(i, (_, windows))| Some((windows.peek()?.window.start_time, i)));
        let (_, first) = opens.min()?;
        let (rule, windows) = rules.get_mut(first)?;
        windows.next().map(|o| WindowRow {
            campaign: campaign.clone(),
            rule: (*rule).clone(),
            occurrence: o.key,
            opens: o.window.start_time,
            closes: o.window.end_time,
        })
    })
}

fn date_of(timing: &Timing, recipient: Option<&Profile>) -> Option<MonthDay> {
    let (calendar, profile) = (timing.anniversary()?, recipient?);
    calendar.month_day(|name| profile.attributes.get(name).cloned()).ok()
}

/// Rules that go by each recipient's own date, of which nothing can be said without a recipient.
#[must_use]
pub fn needing_a_recipient<'a>(checked: &'a CheckedCampaign<'_>, recipient: Option<&Profile>) -> Vec<&'a str> {
    let unknown = |timing: &Timing| timing.anniversary().is_some() && date_of(timing, recipient).is_none();
    checked.validated.timings.iter().filter(|(_, timing)| unknown(timing)).map(|(rule, _)| rule.as_str()).collect()
}

/// Warns of an `except` in the middle of a window: it makes two of it, and a customer gets a code in each.
#[must_use]
pub fn cut_by_except(spec: &CampaignSpec, rows: &[WindowRow]) -> Vec<String> {
    let mut warnings = Vec::new();
    for rule in spec.rules.iter().filter(|r| r.once_per == OncePer::Window) {
        if rule.schedules.iter().all(|schedule| schedule.except.is_empty()) {
            continue;
        }
        let mut bare = rule.clone();
        bare.schedules.iter_mut().for_each(|schedule| schedule.except.clear());
        let Ok(timing) = Timing::of(spec, &bare) else { continue };
        let mut parts: BTreeMap<Option<DateTime<Utc>>, u32> = BTreeMap::new();
        for row in rows.iter().filter(|row| row.rule == rule.name) {
            let whole = row.opens.and_then(|opens| timing.open_at(opens)).map(|o| o.window);
            if let Some(Window { start_time, .. }) = whole {
                let count = parts.entry(start_time).or_default();
                *count = count.saturating_add(1);
            }
        }
        let cut = parts.values().filter(|count| **count > 1).count();
        if cut > 0 {
            warnings.push(format!(
                "rule {}: except cuts {cut} windows in parts, and each part is a window in which everybody gets a code; oncePer: Day, Week or Month gives one for all parts",
                rule.name
            ));
        }
    }
    warnings
}
