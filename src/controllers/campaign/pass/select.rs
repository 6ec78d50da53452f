//! Who of the audience gets a Coupon, and what it holds.

use std::sync::Arc;

use chrono::SubsecRound;
use kube::api::ListParams;
use tokio::sync::OwnedMutexGuard;

use super::Pass;
use crate::api::campaign::{OccurrenceStatus, Profile};
use crate::api::coupon::CouponSpec;
use crate::controllers::campaign::fetch::Fetched;
use crate::controllers::campaign::plan::{Granting, Issue};
use crate::controllers::campaign::validate::PreparedRule;
use crate::controllers::error::Error;
use crate::issuing::codes::{CodeError, Lookup, TakenCodes};
use crate::issuing::draft;
use crate::issuing::ledger::{Held, Ledger};
use crate::issuing::selection::{Offer, Reasons, Refusal, distinct};
use crate::records::{MOST_ROWS, Records};
use crate::rules::budget::{Allowance, Spent};
use crate::rules::occurrence::Occurrence;

/// Everybody whose window is open, each id once, and why others have none.
#[derive(Default)]
pub struct Candidates<'a> {
    pub(super) open: Vec<(&'a Profile, Arc<Occurrence>)>,
    reasons: Reasons,
}

/// Those who are eligible and have no code.
pub(super) struct Eligible<'a> {
    wanted: Vec<(&'a Profile, Arc<Occurrence>)>,
    reasons: Reasons,
    /// False if the Campaign changed before everybody was looked at.
    pub whole: bool,
    /// Somebody has a code of this key, but of a window that has nothing to do with the one that is open.
    pub left_behind: bool,
}

/// The Coupons to be.
pub(super) struct Drafts {
    pub specs: Vec<CouponSpec>,
    /// Who gets none, by reason.
    pub reasons: Reasons,
    pub spent: Option<Spent>,
    /// Held until they are written, so that nobody else draws the same codes.
    #[allow(dead_code)] // dropping it is its use
    lock: Option<OwnedMutexGuard<()>>,
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

/// Whose window of an occurrence is open.
pub(super) fn candidates<'a>(profiles: &'a [Profile], issue: &Issue, offer: Offer<'_>) -> Candidates<'a> {
    let profiles = distinct(profiles);
    let year = match &issue.granting {
        Granting::Everybody(occurrence) => {
            let occurrence = Arc::new(occurrence.clone());
            let open = profiles.map(|profile| (profile, occurrence.clone())).collect();
            return Candidates { open, reasons: Reasons::default() };
        }
        Granting::Anniversary(year) => *year,
    };
    let mut candidates = Candidates::default();
    for profile in profiles {
        match offer.anniversary(profile, year, issue.reopened) {
            Ok(Some(occurrence)) => candidates.open.push((profile, Arc::new(occurrence))),
            Ok(None) => {}
            Err(refusal) => candidates.reasons.note(&refusal),
        }
    }
    candidates
}

impl Candidates<'_> {
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// The same, for an occurrence that goes on under another key.
    pub fn under(mut self, key: &str) -> Self {
        if let Some((_, first)) = self.open.first().filter(|(_, occurrence)| occurrence.key != key) {
            let shared = Arc::new(Occurrence { key: key.to_owned(), ..(**first).clone() });
            self.open.iter_mut().for_each(|(_, occurrence)| *occurrence = shared.clone());
        }
        self
    }
}

impl Pass<'_> {
    /// Who of them is eligible and has no code.
    pub(super) fn eligible<'a>(&self, issue: &Issue, candidates: Candidates<'a>, ledger: &Ledger) -> Eligible<'a> {
        let offer = offer(self.fetched, &issue.rule);
        let mut eligible =
            Eligible { wanted: Vec::new(), reasons: candidates.reasons, whole: true, left_behind: false };
        for (profile, occurrence) in candidates.open {
            if !self.goes_on() {
                eligible.whole = false;
                break;
            }
            if let Some(held) = ledger.held(&profile.integration_id, &occurrence) {
                // Of its own key there is one code, whatever window it was given in.
                eligible.left_behind |= held == Held::KeyOnly && occurrence.key != issue.own_key();
                continue;
            }
            match offer.check(profile, &Allowance::default()) {
                Ok(()) => eligible.wanted.push((profile, occurrence)),
                Err(refusal) => eligible.reasons.note(&refusal),
            }
        }
        eligible
    }

    /// Their Coupons, within the budgets.
    pub(super) async fn drafts(
        &self,
        issue: &Issue,
        occurrence: &OccurrenceStatus,
        eligible: Eligible<'_>,
        allowance: &mut Allowance,
    ) -> Result<Result<Drafts, CodeError>, Error> {
        let mut drafts = Drafts { specs: Vec::new(), reasons: eligible.reasons, spent: None, lock: None };
        let wanted = allowance.left().map_or(eligible.wanted.len(), |left| left.min(eligible.wanted.len()));
        let mut taken = TakenCodes::default();
        if wanted > 0 {
            match self.taken_codes(issue, wanted).await? {
                Ok((codes, lock)) => (taken, drafts.lock) = (codes, lock),
                Err(error) => return Ok(Err(error)),
            }
        }
        let now = self.context.clock.now().trunc_subsecs(0);
        for (profile, own) in &eligible.wanted {
            if let Some(spent) = allowance.spent() {
                drafts.reasons.note(&Refusal::Budget(spent.clone()));
                drafts.spent = Some(spent);
                continue;
            }
            let code = match taken.draw(&issue.rule.format) {
                Ok(code) => code,
                Err(error) => return Ok(Err(error)),
            };
            let circumstances = self.circumstances(&issue.rule.name, &occurrence.key, own.window, now);
            match draft::coupon(&issue.rule.effects, circumstances, profile, code) {
                Ok(spec) => {
                    allowance.take();
                    drafts.specs.push(spec);
                }
                Err(error) => drafts.reasons.note(&error.into()),
            }
        }
        Ok(Ok(drafts))
    }

    /// The codes that a new one must differ from: none when so many are possible that two alike are
    /// not to be expected.
    async fn taken_codes(
        &self,
        issue: &Issue,
        wanted: usize,
    ) -> Result<Result<(TakenCodes, Option<OwnedMutexGuard<()>>), CodeError>, Error> {
        let (format, wanted) = (&issue.rule.format, wanted as u64);
        // The API server counts Coupons, each of which may hold many codes.
        let most = self.count_coupons().await?.saturating_mul(MOST_ROWS).saturating_add(wanted);
        if format.lookup_for(most) == Ok(Lookup::NotNeeded) {
            return Ok(Ok((TakenCodes::default(), None)));
        }
        let lock = self.context.code_locks.lock(&self.fetched.namespace).await;
        let (mut taken, mut existing) = (TakenCodes::default(), 0_u64);
        self.each_coupon(ListParams::default(), |coupon| {
            for (_, record) in Records::of(&coupon.spec).iter() {
                existing = existing.saturating_add(1);
                taken.take(record.code());
            }
        })
        .await?;
        Ok(match format.lookup_for(existing.saturating_add(wanted)) {
            Err(error) => Err(error),
            Ok(Lookup::NotNeeded) => Ok((TakenCodes::default(), None)),
            Ok(Lookup::Needed) => Ok((taken, Some(lock))),
        })
    }
}
