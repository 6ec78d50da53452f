//! A pass as it goes: the audience comes in batches, and what came before is remembered, so that a million take no more
//! room than their digests.

use chrono::SubsecRound;
use kube::api::ListParams;
use tokio::sync::OwnedMutexGuard;

use super::Pass;
use super::books::Books;
use super::create::{CreateError, Created};
use super::select::{self, Candidates};
use crate::api::campaign::{OccurrenceStatus, Profile, Shape};
use crate::api::conditions::reason;
use crate::api::coupon::{Coupon, CouponSpec};
use crate::controllers::campaign::plan::{Issue, PassOutcome};
use crate::controllers::error::Error;
use crate::issuing::chunks::Queue;
use crate::issuing::codes::{CodeError, Lookup, TakenCodes};
use crate::issuing::draft;
use crate::issuing::ledger::{Held, Tally};
use crate::issuing::selection::{Reasons, Refusal};
use crate::records::{MOST_ROWS, Records};
use crate::rules::budget::Allowance;

/// What a pass has come to.
pub(super) struct Round<'a> {
    issue: &'a Issue,
    pub occurrence: OccurrenceStatus,
    books: Books,
    reasons: Reasons,
    codes: Codes,
    /// Drafts that wait until their chunk is full.
    queue: Queue,
    matched: usize,
    pub issued: usize,
    pub outcome: PassOutcome,
    /// Somebody has a code of this key, but of a window that has nothing to do with the one that is open.
    pub left_behind: bool,
    /// False if the Campaign changed before everybody was looked at and has a Coupon.
    pub whole: bool,
    /// Too many of those that were sent meanwhile failed.
    pub halted: bool,
    /// How many may have one before those who go first are settled; none if all may.
    canaries: Option<usize>,
}

/// The codes that a new one must differ from.
#[derive(Default)]
struct Codes {
    /// As many as the namespace may hold, and were drawn since; none before it was asked.
    most: Option<u64>,
    looked_up: Option<LookedUp>,
}

struct LookedUp {
    taken: TakenCodes,
    existing: u64,
    /// Held until the Coupons are written, so that nobody else draws the same codes.
    #[allow(dead_code)] // dropping it is its use
    lock: OwnedMutexGuard<()>,
}

impl<'a> Round<'a> {
    pub fn new(issue: &'a Issue, occurrence: OccurrenceStatus, books: Books, canaries: Option<usize>) -> Self {
        Self {
            issue,
            occurrence,
            books,
            reasons: Reasons::default(),
            codes: Codes::default(),
            queue: Queue::default(),
            matched: 0,
            issued: 0,
            outcome: PassOutcome::default(),
            left_behind: false,
            whole: true,
            halted: false,
            canaries,
        }
    }

    /// False if nothing more is to be issued.
    pub fn goes_on(&self) -> bool {
        self.whole && !self.halted && self.outcome.stopped.is_none()
    }

    /// Issues to those of a batch who may have a Coupon and have none.
    pub async fn take(&mut self, pass: &Pass<'_>, profiles: &[Profile]) -> Result<(), Error> {
        let offer = select::offer(pass.fetched, &self.issue.rule);
        // Evaluating conditions takes the thread for as long as they are allowed to.
        let eligible = tokio::task::block_in_place(|| {
            let candidates =
                select::candidates(profiles, |p| self.books.ledger.see(&p.integration_id), self.issue, offer);
            self.eligible(pass, candidates.under(&self.occurrence.key))
        });
        match self.drafts(pass, eligible).await? {
            // Those who go first wait for nobody to fill their chunk.
            Ok(drafts) => self.write(pass, drafts, self.canaries == Some(0)).await,
            Err(error) => {
                let message = format!("rule {}: {error}", self.issue.rule.name);
                self.outcome.stopped = Some((reason::KEYSPACE_TOO_SMALL, message));
                Ok(())
            }
        }
    }

    /// Writes what still waits for its chunk to be full.
    pub async fn finish(&mut self, pass: &Pass<'_>) -> Result<(), Error> {
        self.write(pass, Vec::new(), true).await
    }

    /// What status says of the occurrence. `complete` if everybody in the audience was seen.
    pub fn into_status(self, tally: Tally, complete: bool) -> OccurrenceStatus {
        let mut occurrence = self.occurrence;
        occurrence.matched = super::count(self.matched);
        occurrence.ineligible = self.reasons.into_counts();
        let all = self.whole && !self.halted && self.outcome.stopped.is_none() && !self.outcome.canary;
        occurrence.audience_seen = complete && all;
        occurrence.missed &= !occurrence.audience_seen;
        super::write_tally(&mut occurrence, tally);
        occurrence
    }

    /// Who of them is eligible and has no code.
    fn eligible<'p>(&mut self, pass: &Pass<'_>, candidates: Candidates<'p>) -> select::Open<'p> {
        let offer = select::offer(pass.fetched, &self.issue.rule);
        self.matched = self.matched.saturating_add(candidates.open.len());
        candidates.refusals.iter().for_each(|refusal| self.reasons.note(refusal));
        let mut wanted = select::Open::new();
        for (profile, occurrence) in candidates.open {
            if !pass.goes_on() {
                self.whole = false;
                break;
            }
            if let Some(held) = self.books.ledger.held(&profile.integration_id, &occurrence) {
                // Of its own key there is one code, whatever window it was given in.
                self.left_behind |= held == Held::KeyOnly && occurrence.key != self.issue.own_key();
                continue;
            }
            if pass.fetched.excluded.contains(profile) {
                self.reasons.note(&Refusal::Excluded);
                continue;
            }
            match offer.check(profile, &Allowance::default()) {
                Ok(()) => wanted.push((profile, occurrence)),
                Err(refusal) => self.reasons.note(&refusal),
            }
        }
        wanted
    }

    /// Their Coupons, within the budgets.
    async fn drafts(
        &mut self,
        pass: &Pass<'_>,
        eligible: select::Open<'_>,
    ) -> Result<Result<Vec<CouponSpec>, CodeError>, Error> {
        let most = self.books.allowance.left().into_iter().chain(self.canaries).min().unwrap_or(usize::MAX);
        let wanted = most.min(eligible.len());
        if let Err(error) = self.codes.prepare(pass, self.issue, &self.queue, wanted).await? {
            return Ok(Err(error));
        }
        let mut drafts = Vec::new();
        let now = pass.context.clock.now().trunc_subsecs(0);
        for (profile, own) in &eligible {
            if let Some(spent) = self.books.allowance.spent() {
                self.outcome.exhausted = Some(super::said(&spent));
                self.reasons.note(&Refusal::Budget(spent));
                continue;
            }
            if self.canaries == Some(0) {
                self.outcome.canary = true;
                self.reasons.note(&Refusal::Canary);
                continue;
            }
            let code = match self.codes.draw(self.issue) {
                Ok(code) => code,
                Err(error) => return Ok(Err(error)),
            };
            let circumstances = pass.circumstances(&self.issue.rule.name, &self.occurrence.key, own.window, now);
            match draft::coupon(&self.issue.rule.effects, circumstances, profile, code) {
                Ok(spec) => {
                    self.books.allowance.take();
                    self.canaries = self.canaries.map(|left| left.saturating_sub(1));
                    drafts.push(spec);
                }
                Err(error) => self.reasons.note(&error.into()),
            }
        }
        Ok(Ok(drafts))
    }

    /// Writes Coupons: with chunks, only those that are full, unless these are the last.
    async fn write(&mut self, pass: &Pass<'_>, drafts: Vec<CouponSpec>, last: bool) -> Result<(), Error> {
        let created = match self.occurrence.shape {
            Shape::Single => pass.create_singles(drafts).await,
            Shape::Batch => {
                self.queue.extend(drafts);
                pass.create_chunks(&mut self.queue, &self.occurrence, &self.books.ledger, last).await
            }
        };
        let Created { coupons, failed, whole } = created;
        for coupon in &coupons {
            pass.context.counts.note(coupon);
            self.note(coupon);
        }
        self.whole &= whole;
        match failed {
            Some(CreateError::Api(error)) => Err(error),
            Some(CreateError::NameConflict(message)) => {
                self.outcome.stopped = Some((reason::NAME_CONFLICT, message));
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn note(&mut self, coupon: &Coupon) {
        let records = usize::try_from(Records::of(&coupon.spec).count()).unwrap_or(usize::MAX);
        self.issued = self.issued.saturating_add(records);
        self.books.ledger.add(coupon);
    }
}

impl Codes {
    /// Makes sure that so many more can be drawn. The API server counts Coupons, each of which may hold many codes;
    /// where so many are possible that two alike are not to be expected, they are not read.
    async fn prepare(
        &mut self,
        pass: &Pass<'_>,
        issue: &Issue,
        queue: &Queue,
        wanted: usize,
    ) -> Result<Result<(), CodeError>, Error> {
        if wanted == 0 {
            return Ok(Ok(()));
        }
        let (format, wanted) = (&issue.rule.format, wanted as u64);
        if let Some(looked_up) = &mut self.looked_up {
            looked_up.existing = looked_up.existing.saturating_add(wanted);
            return Ok(format.lookup_for(looked_up.existing).map(drop));
        }
        let held = match self.most {
            Some(most) => most,
            None => pass.count_coupons().await?.saturating_mul(MOST_ROWS),
        };
        self.most = Some(held.saturating_add(wanted));
        if format.lookup_for(held.saturating_add(wanted)) == Ok(Lookup::NotNeeded) {
            return Ok(Ok(()));
        }
        let mut looked_up = look_up(pass).await?;
        queue.codes().for_each(|code| _ = looked_up.taken.take(code));
        looked_up.existing = looked_up.existing.saturating_add(wanted).saturating_add(queue.len() as u64);
        match format.lookup_for(looked_up.existing) {
            Err(error) => return Ok(Err(error)),
            // The codes that there are take less room than was feared.
            Ok(Lookup::NotNeeded) => self.most = Some(looked_up.existing),
            Ok(Lookup::Needed) => self.looked_up = Some(looked_up),
        }
        Ok(Ok(()))
    }

    fn draw(&mut self, issue: &Issue) -> Result<String, CodeError> {
        match &mut self.looked_up {
            Some(looked_up) => looked_up.taken.draw(&issue.rule.format),
            None => issue.rule.format.draw(),
        }
    }
}

/// Reads all codes of the namespace.
async fn look_up(pass: &Pass<'_>) -> Result<LookedUp, Error> {
    let lock = pass.context.code_locks.lock(&pass.fetched.namespace).await;
    let (mut taken, mut existing) = (TakenCodes::default(), 0_u64);
    pass.each_coupon(ListParams::default(), |coupon| {
        for (_, record) in Records::of(&coupon.spec).iter() {
            existing = existing.saturating_add(1);
            taken.take(record.code());
        }
    })
    .await?;
    Ok(LookedUp { taken, existing, lock })
}
