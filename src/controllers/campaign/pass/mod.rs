//! A pass: opens the occurrence, reads the books from the API, and gives a Coupon to everybody in the
//! audience who may have one and has none.

mod books;
mod create;
mod round;
mod select;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use kube::api::PostParams;
use kube::{Api, ResourceExt};

use self::round::Round;
use super::fetch::Fetched;
use super::missed::{Missed, anniversaries_closed};
use super::plan::{self, Granting, Issue, PassOutcome};
use super::validate::PreparedRule;
use crate::api::campaign::{Campaign, OccurrenceStatus, Profile, Shape, Window};
use crate::api::conditions::reason;
use crate::controllers::context::Context;
use crate::controllers::error::{Error, bounded};
use crate::controllers::writes;
use crate::issuing::draft::{self, Circumstances};
use crate::issuing::ledger::{Ledger, Tally, missing};
use crate::rules::budget::Allowance;
use crate::rules::guardrails::canaries_left;
use crate::rules::occurrence::{Occurrence, Timing, year_key};

/// While a pass goes on, status says at most so often how far it is.
const BETWEEN_REPORTS: Duration = Duration::from_secs(1);

/// So many of an audience are looked at before their Coupons are written.
const BATCH: usize = 1000;

/// What a pass needs to know.
pub struct Pass<'a> {
    pub fetched: &'a Fetched,
    pub context: &'a Arc<Context>,
}

/// What a pass did.
#[derive(Default)]
pub struct Done {
    pub occurrence: Option<OccurrenceStatus>,
    pub outcome: PassOutcome,
    pub again: bool,
    /// Somebody is to get a code under the occurrence's own key.
    pub left_behind: bool,
}

impl Pass<'_> {
    pub async fn run(&self, issue: &Issue) -> Result<Done, Error> {
        if !issue.reopened && is_over(issue, self.context.clock.now()) {
            // Earlier rules took their time, and the window closed meanwhile.
            return Ok(Done { again: true, ..Done::default() });
        }
        if issue.opened.is_none() && !self.is_for_somebody(issue) {
            return Ok(Done::default());
        }
        if let Some(message) = self.too_many() {
            return Ok(Done { outcome: PassOutcome::stopped(reason::GUARDRAIL_HIT, message), ..Done::default() });
        }
        let mut books = self.books(&issue.rule.name).await?;
        let occurrence = occurrence(issue, &books.ledger, self.campaign_uid());
        if self.open(&occurrence).await? {
            // Whatever another process wrote before this one opened the occurrence is in this reading.
            books = self.books(&issue.rule.name).await?;
        }
        let tally = books.ledger.tally(&occurrence.key, self.campaign_uid());
        let missing = missing(&occurrence, tally, books.ledger.missing_chunks(&occurrence.key));
        let accepted = issue.accepted_missing.max(occurrence.accepted_missing);
        if missing > accepted {
            return Ok(coupons_missing(&occurrence, tally, missing));
        }
        let counted = OccurrenceStatus { accepted_missing: missing, ..occurrence };
        let mut standing = counted.clone();
        write_tally(&mut standing, tally);
        if let Some(why) = plan::stop(&self.fetched.campaign, &standing) {
            // More failed since status was written, which says so now.
            let message = plan::said_of_stop(&self.fetched.campaign, &standing, &why);
            let outcome = PassOutcome::stopped(reason::GUARDRAIL_HIT, message);
            return Ok(Done { occurrence: Some(standing), outcome, ..Done::default() });
        }
        let guardrails = self.fetched.campaign.spec.guardrails.as_ref();
        let canaries = guardrails.and_then(|guardrails| canaries_left(guardrails, &standing));
        self.issue(Round::new(issue, counted, books, canaries)).await
    }

    /// Why nothing is issued to an audience that is larger than expected.
    fn too_many(&self) -> Option<String> {
        let most = self.fetched.campaign.spec.guardrails.as_ref()?.max_recipients?;
        let found = self.fetched.audience_size();
        (found > u64::try_from(most).unwrap_or_default()).then(|| {
            format!(
                "the audience names {found} customers, and guardrails.maxRecipients is {most}: nothing is issued. If that many are meant, raise maxRecipients; if not, correct the audience"
            )
        })
    }

    /// False if it is nobody's anniversary: no occurrence is opened for nobody.
    fn is_for_somebody(&self, issue: &Issue) -> bool {
        let offer = select::offer(self.fetched, &issue.rule);
        let profiles = self.fetched.of_dates();
        let open = || select::candidates(profiles, |_| true, issue, offer).open;
        matches!(issue.granting, Granting::Everybody(_)) || !open().is_empty()
    }

    /// The audience. Reading it takes the thread, for a moment each.
    fn batches(&self) -> impl Iterator<Item = Result<Cow<'_, [Profile]>, Error>> + Send {
        let mut batches = self.fetched.batches(BATCH);
        std::iter::from_fn(move || tokio::task::block_in_place(|| batches.next()))
            .map(|batch| batch.map_err(|error| Error::Audience(error.without_data())))
    }

    /// Writes the occurrence into the Campaign's status by compare-and-swap, unless it is there. The
    /// Campaign is read from the API: what was planned must still hold. True if it was written now.
    async fn open(&self, occurrence: &OccurrenceStatus) -> Result<bool, Error> {
        let api: Api<Campaign> = Api::namespaced(self.context.client.clone(), &self.fetched.namespace);
        let mut campaign = bounded(api.get(&self.fetched.name)).await?;
        let planned = &self.fetched.campaign;
        if campaign.metadata.generation != planned.metadata.generation || campaign.uid() != planned.uid() {
            return Err(Error::Changed(format!("Campaign {}", self.fetched.name)));
        }
        let status = campaign.status.get_or_insert_default();
        let same = |o: &&mut OccurrenceStatus| o.rule == occurrence.rule && o.key == occurrence.key;
        match status.occurrences.iter_mut().find(same) {
            Some(known) if known.window == occurrence.window => return Ok(false),
            Some(known) => (known.window, known.grants_until) = (occurrence.window, occurrence.grants_until),
            None => status.occurrences.push(occurrence.clone()),
        }
        bounded(api.replace_status(&self.fetched.name, &PostParams::default(), &campaign)).await?;
        let (campaign, rule, occurrence) = (&self.fetched.name, &occurrence.rule, &occurrence.key);
        tracing::info!(namespace = self.fetched.namespace, campaign, rule, occurrence, "occurrence opened");
        Ok(true)
    }

    /// Coupons with another uid belong to an earlier Campaign of the same name.
    pub fn campaign_uid(&self) -> &str {
        self.fetched.campaign.metadata.uid.as_deref().unwrap_or_default()
    }

    async fn issue(&self, mut round: Round<'_>) -> Result<Done, Error> {
        let mut said = Instant::now();
        for batch in self.batches() {
            round.take(self, &batch?).await?;
            if !round.goes_on() {
                break;
            }
            if said.elapsed() >= BETWEEN_REPORTS {
                let reported = self.report(&round.occurrence).await?;
                if reported.as_ref().is_some_and(|o| plan::stop(&self.fetched.campaign, o).is_some()) {
                    round.halted = true;
                    break;
                }
                said = Instant::now();
            }
        }
        if round.goes_on() {
            round.finish(self).await?;
        }
        log_pass(self.fetched, &round.occurrence, round.issued);
        let mut done = Done { outcome: round.outcome.clone(), left_behind: round.left_behind, ..Done::default() };
        done.again = !round.whole;
        // What was delivered while Coupons were written counts too.
        let tally = self.tally(&round.occurrence.rule, &round.occurrence.key).await?;
        done.occurrence = Some(round.into_status(tally, self.fetched.audience_problem().is_none()));
        Ok(done)
    }

    /// Says in status how far a long pass is. What it says is also remembered: Coupons that were deleted before the pass
    /// ended are missed.
    async fn report(&self, occurrence: &OccurrenceStatus) -> Result<Option<OccurrenceStatus>, Error> {
        let tally = self.tally(&occurrence.rule, &occurrence.key).await?;
        let api: Api<Campaign> = Api::namespaced(self.context.client.clone(), &self.fetched.namespace);
        let mut campaign = bounded(api.get(&self.fetched.name)).await?;
        let status = campaign.status.get_or_insert_default();
        let same = |o: &&mut OccurrenceStatus| o.rule == occurrence.rule && o.key == occurrence.key;
        let Some(known) = status.occurrences.iter_mut().find(same) else { return Ok(None) };
        write_tally(known, tally);
        let reported = known.clone();
        let sum = |value: fn(&OccurrenceStatus) -> i64| Some(status.occurrences.iter().map(value).sum());
        (status.issued, status.delivered, status.failed) = (sum(|o| o.issued), sum(|o| o.delivered), sum(|o| o.failed));
        match writes::replace_status(&self.context.client, &api, &campaign).await {
            // Somebody else wrote it: the next report says more.
            Err(error) if !error.is_conflict() => Err(error),
            _ => Ok(Some(reported)),
        }
    }

    /// False if the Campaign was suspended, changed or deleted while this pass runs.
    fn goes_on(&self) -> bool {
        let planned = &self.fetched.campaign;
        let same = |now: &Campaign| {
            now.metadata.uid == planned.metadata.uid
                && now.metadata.generation == planned.metadata.generation
                && now.metadata.deletion_timestamp.is_none()
        };
        !self.context.deliveries.is_stopping()
            && self.context.with_campaign(&self.fetched.namespace, &self.fetched.name, same) == Some(true)
    }

    /// The anniversaries of a rule that closed after an instant, of people who could have had a code and have
    /// none: one for each year. Judged by the audience and the condition as they are now; with budgets, nobody
    /// can know whether there was one left.
    pub async fn missed_anniversaries(
        &self,
        (name, timing): (&str, &Timing),
        rule: Option<&PreparedRule>,
        after: DateTime<Utc>,
    ) -> Result<Vec<Missed>, Error> {
        let now = self.fetched.now;
        let any = anniversaries_closed(timing, self.fetched.of_dates(), after, now).next().is_some();
        if !any || !self.fetched.campaign.spec.budgets.is_empty() {
            return Ok(Vec::new());
        }
        let books = self.books(name).await?;
        let mut missed: Vec<Missed> = Vec::new();
        for batch in self.batches() {
            for (profile, occurrence) in anniversaries_closed(timing, &batch?, after, now) {
                let without = !books.ledger.has_one(profile.integration_id.trim(), &occurrence);
                let known = missed.iter().any(|m| m.key == occurrence.key);
                if without && !known && rule.is_none_or(|rule| self.could_have_had_one(rule, profile, &occurrence)) {
                    let (key, window) = (occurrence.key, occurrence.window);
                    missed.push(Missed { rule: name.to_owned(), key, window, partly: true });
                }
            }
        }
        Ok(missed)
    }

    fn could_have_had_one(&self, rule: &PreparedRule, profile: &Profile, occurrence: &Occurrence) -> bool {
        let circumstances = self.circumstances(&rule.name, &occurrence.key, occurrence.window, self.fetched.now);
        !self.fetched.excluded.contains(profile)
            && select::offer(self.fetched, rule).check(profile, &Allowance::default()).is_ok()
            && draft::coupon(&rule.effects, circumstances, profile, String::new()).is_ok()
    }

    /// What is the same for everybody of an occurrence.
    fn circumstances<'c>(
        &'c self,
        rule: &'c str,
        occurrence: &'c str,
        window: Window,
        now: DateTime<Utc>,
    ) -> Circumstances<'c> {
        Circumstances {
            campaign: &self.fetched.name,
            campaign_uid: self.campaign_uid(),
            campaign_attributes: &self.fetched.campaign.spec.attributes,
            rule,
            occurrence,
            window,
            now,
        }
    }
}

/// The occurrence that is issued for: the one that status remembers, else a new one, under the key of
/// the earliest Coupon of an overlapping window, else its own. Its window is the one that is open now,
/// with what it had if that overlaps, so that a later edit finds its Coupons from either side.
fn occurrence(issue: &Issue, ledger: &Ledger, campaign_uid: &str) -> OccurrenceStatus {
    let (key, window, until) = match &issue.granting {
        Granting::Everybody(open) => {
            let earliest = ledger.earliest_overlapping(open).filter(|_| !issue.own_key);
            let (key, known) = earliest.unwrap_or((&open.key, open.window));
            (key.to_owned(), open.window.hull(known), open.grants_until())
        }
        Granting::Anniversary(year) => {
            let window = issue.rule.timing.anniversary().map(|calendar| calendar.year(*year)).unwrap_or_default();
            (year_key(*year), window, window.end_time)
        }
    };
    match &issue.opened {
        Some(opened) => OccurrenceStatus {
            window: if opened.window.overlaps(&window) { opened.window.hull(window) } else { window },
            grants_until: opened.grants_until.zip(until).map(|(a, b)| a.max(b)),
            ..opened.clone()
        },
        None => OccurrenceStatus {
            rule: issue.rule.name.clone(),
            window,
            grants_until: until,
            shape: ledger.shape(&key).unwrap_or(if issue.rule.batch > 1 { Shape::Batch } else { Shape::Single }),
            batch_size: (issue.rule.batch > 1).then(|| i32::try_from(issue.rule.batch).unwrap_or(i32::MAX)),
            key,
            campaign_uid: campaign_uid.to_owned(),
            ..OccurrenceStatus::default()
        },
    }
}

fn is_over(issue: &Issue, now: DateTime<Utc>) -> bool {
    match &issue.granting {
        Granting::Everybody(open) => open.window.end_time.is_some_and(|end| end <= now),
        Granting::Anniversary(_) => false,
    }
}

fn said(spent: &crate::rules::budget::Spent) -> String {
    let next = spent.next.map_or_else(
        || "nobody else gets a code".to_owned(),
        |next| format!("whoever has no code waits until {}", next.to_rfc3339()),
    );
    format!("{spent}: {next}")
}

/// Writes how the Coupons of an occurrence stand.
pub fn write_tally(occurrence: &mut OccurrenceStatus, tally: Tally) {
    occurrence.issued = tally.issued;
    occurrence.delivered = tally.delivered;
    occurrence.failed = tally.failed;
    occurrence.unknown = tally.unknown;
    occurrence.issued_by_earlier_campaign = tally.by_earlier_campaign;
}

fn coupons_missing(occurrence: &OccurrenceStatus, tally: Tally, missing: i64) -> Done {
    let (rule, key) = (&occurrence.rule, &occurrence.key);
    let message = format!(
        "rule {rule}: {missing} of the Coupons of occurrence {key} are missing ({} are there), so nobody can know who had them, and nothing is issued: restore them from a backup, or accept that their recipients may get a second code with the annotation {}: {rule}/{key}={missing}",
        tally.issued,
        crate::api::ACCEPT_MISSING_ANNOTATION,
    );
    // The occurrence keeps its counts: they are the memory of what was issued.
    Done { outcome: PassOutcome::stopped(reason::COUPONS_MISSING, message), ..Done::default() }
}

fn log_pass(fetched: &Fetched, occurrence: &OccurrenceStatus, issued: usize) {
    if issued > 0 {
        tracing::info!(
            namespace = fetched.namespace,
            campaign = fetched.name,
            rule = occurrence.rule,
            occurrence = occurrence.key,
            issued,
            "coupons issued"
        );
    }
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
