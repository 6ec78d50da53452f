//! Who of the audience an occurrence is open for.

use std::sync::Arc;

use crate::api::campaign::Profile;
use crate::controllers::campaign::fetch::Fetched;
use crate::controllers::campaign::plan::{Granting, Issue};
use crate::controllers::campaign::validate::PreparedRule;
use crate::issuing::selection::{Offer, Refusal};
use crate::rules::occurrence::Occurrence;

/// People, each with the occurrence that is open for them.
pub(super) type Open<'a> = Vec<(&'a Profile, Arc<Occurrence>)>;

/// Everybody of a batch whose window is open, and why others have none.
#[derive(Default)]
pub(super) struct Candidates<'a> {
    pub open: Open<'a>,
    pub refusals: Vec<Refusal>,
}

pub(super) fn offer<'a>(fetched: &'a Fetched, rule: &'a PreparedRule) -> Offer<'a> {
    Offer {
        timing: &rule.timing,
        eligibility: rule.eligibility.as_ref(),
        campaign: &fetched.name,
        campaign_attributes: &fetched.campaign.spec.attributes,
        now: fetched.now,
    }
}

/// Whose window of an occurrence is open. Each id counts once, the `first` time.
pub(super) fn candidates<'a>(
    profiles: &'a [Profile],
    mut first: impl FnMut(&Profile) -> bool,
    issue: &Issue,
    offer: Offer<'_>,
) -> Candidates<'a> {
    let profiles = profiles.iter().filter(|profile| first(profile));
    let year = match &issue.granting {
        Granting::Everybody(occurrence) => {
            let occurrence = Arc::new(occurrence.clone());
            let open = profiles.map(|profile| (profile, occurrence.clone())).collect();
            return Candidates { open, refusals: Vec::new() };
        }
        Granting::Anniversary(year) => *year,
    };
    let mut candidates = Candidates::default();
    for profile in profiles {
        match offer.anniversary(profile, year, issue.reopened) {
            Ok(Some(occurrence)) => candidates.open.push((profile, Arc::new(occurrence))),
            Ok(None) => {}
            Err(refusal) => candidates.refusals.push(refusal),
        }
    }
    candidates
}

impl Candidates<'_> {
    /// The same, for an occurrence that goes on under another key.
    pub fn under(mut self, key: &str) -> Self {
        if let Some((_, first)) = self.open.first().filter(|(_, occurrence)| occurrence.key != key) {
            let shared = Arc::new(Occurrence { key: key.to_owned(), ..(**first).clone() });
            self.open.iter_mut().for_each(|(_, occurrence)| *occurrence = shared.clone());
        }
        self
    }
}
