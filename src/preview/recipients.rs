//! Who would get a code, and why others would not.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread::ScopedJoinHandle;

use chrono::{DateTime, SecondsFormat, Utc};
use chrono_tz::Tz;
use serde::Serialize;

use crate::api::campaign::Profile;
use crate::controllers::campaign::validate::PreparedRule;
use crate::issuing::draft::{self, Circumstances};
use crate::issuing::selection::{Offer, Refusal};
use crate::manifests::CheckedCampaign;
use crate::rules::budget::Allowance;
use crate::rules::occurrence::{Occurrence, anniversary};
use crate::schedule::{AnniversaryCalendar, AnniversaryError, MonthDay};

/// Somebody, as scripts read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecipientRow<'a> {
    pub campaign: &'a str,
    pub rule: &'a str,
    pub occurrence: Option<String>,
    pub recipient: &'a str,
    pub granted: bool,
    /// What failed; null if they would get a code.
    pub reason: Option<String>,
}

/// What is looked at: a Campaign at an instant. Nobody is taken to have a code yet.
pub struct Recipients<'a> {
    name: &'a str,
    checked: &'a CheckedCampaign<'a>,
    now: DateTime<Utc>,
    allowance: Allowance,
    seen: HashSet<String>,
    /// Ids that came more than once: each counts once.
    pub repeated: u64,
}

/// What a rule has for somebody, budgets aside.
enum Judged {
    Closed(String),
    Open { occurrence: Arc<Occurrence>, check: Result<(), Refusal>, binding: Result<(), Refusal> },
}

/// Somebody for whom a rule's occurrence is open and who would get a code.
pub struct Granted<'a> {
    pub profile: &'a Profile,
    pub rule: &'a PreparedRule,
    pub occurrence: &'a Occurrence,
}

/// Profiles that are judged side by side.
pub const BATCH: usize = 16_384;

impl<'a> Recipients<'a> {
    #[must_use]
    pub fn new(name: &'a str, checked: &'a CheckedCampaign<'a>, now: DateTime<Utc>) -> Self {
        let zone = super::zone(&checked.validated);
        let allowance = Allowance::at(&checked.campaign.spec.budgets, zone, now);
        Self { name, checked, now, allowance, seen: HashSet::new(), repeated: 0 }
    }

    /// Looks at a batch of profiles: a row for each rule and profile, in the order in which they come.
    ///
    /// # Errors
    /// Those of the sinks.
    pub fn look<E>(
        &mut self,
        profiles: &[Profile],
        mut row: impl FnMut(&RecipientRow<'_>) -> Result<(), E>,
        mut granted: impl FnMut(&Granted<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let fresh: Vec<&Profile> =
            profiles.iter().filter(|p| self.seen.insert(p.integration_id.trim().to_owned())).collect();
        let repeated = u64::try_from(profiles.len().saturating_sub(fresh.len())).unwrap_or_default();
        self.repeated = self.repeated.saturating_add(repeated);
        let checked = self.checked;
        for rule in &checked.validated.rules {
            let openings = Openings::of(rule, &fresh, self.now);
            let judged = side_by_side(&fresh, |profile| self.judge(rule, profile, &openings));
            for (profile, judged) in fresh.iter().zip(judged) {
                for judged in judged {
                    let (occurrence, refused) = self.within_budgets(judged);
                    row(&RecipientRow {
                        campaign: self.name,
                        rule: &rule.name,
                        occurrence: occurrence.as_ref().map(|o| o.key.clone()),
                        recipient: profile.integration_id.trim(),
                        granted: refused.is_none(),
                        reason: refused.clone(),
                    })?;
                    if let (Some(occurrence), None) = (&occurrence, refused) {
                        granted(&Granted { profile, rule, occurrence })?;
                    }
                }
            }
        }
        Ok(())
    }

    fn judge(&self, rule: &PreparedRule, profile: &Profile, openings: &Openings) -> Vec<Judged> {
        let opening = match openings.for_(rule, profile) {
            Ok(opening) if opening.occurrences.is_empty() => return vec![Judged::Closed(opening.closed.clone())],
            Ok(opening) => opening,
            Err(error) => return vec![Judged::Closed(error.to_string())],
        };
        let offer = Offer {
            timing: &rule.timing,
            eligibility: rule.eligibility.as_ref(),
            campaign: self.checked.campaign.metadata.name.as_deref().unwrap_or_default(),
            campaign_attributes: &self.checked.campaign.spec.attributes,
            now: self.now,
        };
        let judged = |occurrence: &Arc<Occurrence>| {
            let check = offer.check(profile, &Allowance::default());
            let binding = if check.is_ok() { self.binding(rule, profile, occurrence) } else { Ok(()) };
            Judged::Open { occurrence: occurrence.clone(), check, binding }
        };
        opening.occurrences.iter().map(judged).collect()
    }

    /// Whether a Coupon could be made for them: a parameter may have no value.
    fn binding(&self, rule: &PreparedRule, profile: &Profile, occurrence: &Occurrence) -> Result<(), Refusal> {
        let circumstances = circumstances(self.checked, rule, occurrence, self.now);
        draft::coupon(&rule.effects, circumstances, profile, String::new()).map(drop).map_err(Refusal::from)
    }

    fn within_budgets(&mut self, judged: Judged) -> (Option<Arc<Occurrence>>, Option<String>) {
        let (occurrence, check, binding) = match judged {
            Judged::Closed(why) => return (None, Some(why)),
            Judged::Open { occurrence, check, binding } => (occurrence, check, binding),
        };
        let spent = || self.allowance.spent().map_or(Ok(()), |spent| Err(Refusal::Budget(spent)));
        let refused = check.and_then(|()| spent()).and(binding).err();
        if refused.is_none() {
            self.allowance.take();
        }
        (Some(occurrence), refused.map(|refusal| refusal.to_string()))
    }
}

/// What is open of a rule: for everybody, or by the date that somebody has. Worked out once for all with
/// the same date.
struct Openings {
    common: Opening,
    by_date: HashMap<MonthDay, Opening>,
}

struct Opening {
    occurrences: Vec<Arc<Occurrence>>,
    /// What is said if none is open.
    closed: String,
}

impl Openings {
    fn of(rule: &PreparedRule, profiles: &[&Profile], now: DateTime<Utc>) -> Self {
        let timing = &rule.timing;
        let next = timing.next_opening(&BTreeSet::new(), now);
        let common = Opening::new(timing.open_at(now), closed("window", next, timing.zone()));
        let Some(calendar) = timing.anniversary() else { return Self { common, by_date: HashMap::new() } };
        let dates: HashSet<MonthDay> = profiles.iter().filter_map(|profile| date(calendar, profile).ok()).collect();
        let opening = |date: MonthDay| {
            let open = calendar.open_at(date, now).into_iter().map(|(year, window)| anniversary(year, window));
            (date, Opening::new(open, closed("anniversary", calendar.next_opening(date, now), timing.zone())))
        };
        Self { common, by_date: dates.into_iter().map(opening).collect() }
    }

    fn for_(&self, rule: &PreparedRule, profile: &Profile) -> Result<&Opening, AnniversaryError> {
        let Some(calendar) = rule.timing.anniversary() else { return Ok(&self.common) };
        Ok(self.by_date.get(&date(calendar, profile)?).unwrap_or(&self.common))
    }
}

impl Opening {
    fn new(open: impl IntoIterator<Item = Occurrence>, closed: String) -> Self {
        Self { occurrences: open.into_iter().map(Arc::new).collect(), closed }
    }
}

fn date(calendar: &AnniversaryCalendar, profile: &Profile) -> Result<MonthDay, AnniversaryError> {
    calendar.month_day(|name| profile.attributes.get(name).cloned())
}

fn closed(what: &str, next: Option<DateTime<Utc>>, zone: Tz) -> String {
    match next.map(|next| next.with_timezone(&zone)) {
        Some(next) => {
            format!("no {what} is open: the next opens at {}", next.to_rfc3339_opts(SecondsFormat::Secs, true))
        }
        None => format!("no {what} is open, and none will be"),
    }
}

/// What is the same for everybody of a rule.
pub(super) fn circumstances<'a>(
    checked: &'a CheckedCampaign<'_>,
    rule: &'a PreparedRule,
    occurrence: &'a Occurrence,
    now: DateTime<Utc>,
) -> Circumstances<'a> {
    Circumstances {
        campaign: checked.campaign.metadata.name.as_deref().unwrap_or_default(),
        campaign_uid: "",
        campaign_attributes: &checked.campaign.spec.attributes,
        rule: &rule.name,
        occurrence: &occurrence.key,
        window: occurrence.window,
        now,
    }
}

/// Judges everybody on all processors, and returns what was found in their order.
fn side_by_side<'p, T: Send>(profiles: &[&'p Profile], judge: impl Fn(&'p Profile) -> T + Sync) -> Vec<T> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let share = profiles.len().div_ceil(threads).max(1);
    let judge = &judge;
    std::thread::scope(|scope| {
        let part = |part: &[&'p Profile]| part.iter().map(|profile| judge(profile)).collect::<Vec<T>>();
        let running: Vec<_> = profiles.chunks(share).map(|chunk| scope.spawn(move || part(chunk))).collect();
        let joined = |thread: ScopedJoinHandle<'_, Vec<T>>| thread.join().unwrap_or_else(|panic| resume_unwind(panic));
        running.into_iter().flat_map(joined).collect()
    })
}
