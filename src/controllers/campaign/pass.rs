//! A pass: opens the occurrence, reads the ledger from the API, and gives a Coupon to everybody in the
//! audience who has none.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::SubsecRound;
use futures::stream::{self, StreamExt};
use kube::api::{ListParams, PostParams};
use kube::core::{DeserializeGuard, ObjectMeta};
use kube::{Api, ResourceExt};
use tokio::sync::OwnedMutexGuard;

use super::fetch::Fetched;
use super::plan::Issue;
use crate::api::campaign::{Campaign, OccurrenceStatus, Profile, Shape, Window};
use crate::api::conditions::reason;
use crate::api::coupon::{Coupon, CouponSpec};
use crate::controllers::context::Context;
use crate::controllers::error::{Error, bounded};
use crate::issuing::codes::{CodeError, Lookup, TakenCodes};
use crate::issuing::draft::{self, Circumstances};
use crate::issuing::ledger::{Entry, Ledger, Tally, missing};
use crate::issuing::names::{Grant, coupon_name};

const PAGE: u32 = 500;
/// Creates in flight: names make them safe side by side.
const CREATES_AT_ONCE: usize = 8;

/// What a pass needs to know.
pub struct Pass<'a> {
    pub fetched: &'a Fetched,
    pub context: &'a Arc<Context>,
}

/// What a pass did.
#[derive(Default)]
pub struct Done {
    pub occurrence: Option<OccurrenceStatus>,
    pub stopped: Option<(&'static str, String)>,
    pub again: bool,
}

/// A Coupon that could not be written.
enum CreateError {
    Api(Error),
    NameConflict(String),
}

/// The Coupons to be.
struct Drafts {
    specs: Vec<CouponSpec>,
    /// Who gets none, by reason.
    ineligible: BTreeMap<String, i64>,
    /// Held until they are written, so that nobody else draws the same codes.
    lock: Option<OwnedMutexGuard<()>>,
}

impl Pass<'_> {
    pub async fn run(&self, issue: &Issue) -> Result<Done, Error> {
        let mut ledger = self.ledger(&issue.rule.name).await?;
        let mut occurrence = match &issue.opened {
            Some(opened) => opened.clone(),
            None => self.occurrence(issue, &ledger),
        };
        occurrence.window = hull(occurrence.window, issue.window);
        if self.open(&occurrence).await? {
            // Whatever another process wrote before this one opened the occurrence is in this reading.
            ledger = self.ledger(&issue.rule.name).await?;
        }
        let tally = ledger.tally(&occurrence.key, self.campaign_uid());
        let missing = missing(&occurrence, tally);
        let accepted = issue.accepted_missing.max(occurrence.accepted_missing);
        if missing > accepted {
            return Ok(coupons_missing(&occurrence, tally, missing));
        }
        occurrence.accepted_missing = missing;
        self.issue(issue, occurrence, ledger).await
    }

    /// A new occurrence: under the key of the earliest Coupon of an overlapping window, else its own.
    fn occurrence(&self, issue: &Issue, ledger: &Ledger) -> OccurrenceStatus {
        let (key, window) = match ledger.earliest_overlapping(issue.window) {
            Some((key, window)) => (key.to_owned(), window),
            None => (crate::schedule::key(issue.rule.calendar.zone(), issue.window), issue.window),
        };
        OccurrenceStatus {
            rule: issue.rule.name.clone(),
            key,
            window,
            shape: Shape::Single,
            campaign_uid: self.campaign_uid().to_owned(),
            ..OccurrenceStatus::default()
        }
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
            Some(known) => known.window = occurrence.window,
            None => status.occurrences.push(occurrence.clone()),
        }
        bounded(api.replace_status(&self.fetched.name, &PostParams::default(), &campaign)).await?;
        let (campaign, rule, occurrence) = (&self.fetched.name, &occurrence.rule, &occurrence.key);
        tracing::info!(namespace = self.fetched.namespace, campaign, rule, occurrence, "occurrence opened");
        Ok(true)
    }

    /// The rule's Coupons, selected by fields of their immutable spec and read from the API in pages.
    pub async fn ledger(&self, rule: &str) -> Result<Ledger, Error> {
        let selector = format!("spec.campaign={},spec.rule={rule}", self.fetched.name);
        let mut entries = Vec::new();
        self.each_coupon(ListParams::default().fields(&selector), |coupon| entries.extend(Entry::of(coupon))).await?;
        Ok(Ledger::new(entries))
    }

    /// Coupons with another uid belong to an earlier Campaign of the same name.
    pub fn campaign_uid(&self) -> &str {
        self.fetched.campaign.metadata.uid.as_deref().unwrap_or_default()
    }

    async fn each_coupon(&self, mut params: ListParams, mut look: impl FnMut(&Coupon)) -> Result<(), Error> {
        let api: Api<DeserializeGuard<Coupon>> = Api::namespaced(self.context.client.clone(), &self.fetched.namespace);
        params = params.limit(PAGE);
        loop {
            let page = bounded(api.list(&params)).await?;
            page.items.iter().filter_map(|coupon| coupon.0.as_ref().ok()).for_each(&mut look);
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(()),
            }
        }
    }

    async fn issue(&self, issue: &Issue, mut occurrence: OccurrenceStatus, mut ledger: Ledger) -> Result<Done, Error> {
        let profiles = distinct(&self.fetched.campaign.spec.audience.profiles);
        let has_one = ledger.recipients_in(occurrence.window);
        let wanted: Vec<&Profile> =
            profiles.iter().copied().filter(|p| !has_one.contains(p.integration_id.trim())).collect();
        occurrence.matched = count(profiles.len());
        let mut done = Done::default();
        match self.drafts(issue, &occurrence, &wanted).await? {
            Err(error) => {
                done.stopped = Some((reason::KEYSPACE_TOO_SMALL, format!("rule {}: {error}", issue.rule.name)));
            }
            Ok(drafts) => {
                occurrence.ineligible = drafts.ineligible;
                let begun = drafts.specs.len();
                let (created, failed) = self.create_all(drafts.specs).await;
                let issued = created.len();
                created.iter().filter_map(Entry::of).for_each(|entry| ledger.add(entry));
                log_pass(self.fetched, &occurrence, issued);
                match failed {
                    Some(CreateError::Api(error)) => return Err(error),
                    Some(CreateError::NameConflict(message)) => done.stopped = Some((reason::NAME_CONFLICT, message)),
                    None => done.again = issued < begun,
                }
            }
        }
        let tally = ledger.tally(&occurrence.key, self.campaign_uid());
        write_tally(&mut occurrence, tally);
        done.occurrence = Some(occurrence);
        Ok(done)
    }

    async fn drafts(
        &self,
        issue: &Issue,
        occurrence: &OccurrenceStatus,
        wanted: &[&Profile],
    ) -> Result<Result<Drafts, CodeError>, Error> {
        let mut drafts = Drafts { specs: Vec::new(), ineligible: BTreeMap::new(), lock: None };
        if wanted.is_empty() {
            return Ok(Ok(drafts));
        }
        let (mut taken, lock) = match self.taken_codes(issue, wanted.len()).await? {
            Ok(taken) => taken,
            Err(error) => return Ok(Err(error)),
        };
        drafts.lock = lock;
        let circumstances = Circumstances {
            campaign: &self.fetched.name,
            campaign_uid: self.campaign_uid(),
            campaign_attributes: &self.fetched.campaign.spec.attributes,
            rule: &issue.rule.name,
            occurrence: &occurrence.key,
            window: occurrence.window,
            now: self.context.clock.now().trunc_subsecs(0),
        };
        for profile in wanted {
            let code = match taken.draw(&issue.rule.format) {
                Ok(code) => code,
                Err(error) => return Ok(Err(error)),
            };
            match draft::coupon(&issue.rule.effects, circumstances, profile, code) {
                Ok(spec) => drafts.specs.push(spec),
                Err(error) => {
                    let count = drafts.ineligible.entry(error.reason()).or_default();
                    *count = count.saturating_add(1);
                }
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
        let existing = self.count_coupons().await?;
        let mut taken = TakenCodes::default();
        match issue.rule.format.lookup_for(existing.saturating_add(wanted as u64)) {
            Err(error) => Ok(Err(error)),
            Ok(Lookup::NotNeeded) => Ok(Ok((taken, None))),
            Ok(Lookup::Needed) => {
                let lock = self.context.code_locks.lock(&self.fetched.namespace).await;
                self.each_coupon(ListParams::default(), |coupon| {
                    taken.take(&coupon.spec.code);
                })
                .await?;
                Ok(Ok((taken, Some(lock))))
            }
        }
    }

    /// How many Coupons the namespace holds: the API server counts what a list leaves out.
    async fn count_coupons(&self) -> Result<u64, Error> {
        let api: Api<DeserializeGuard<Coupon>> = Api::namespaced(self.context.client.clone(), &self.fetched.namespace);
        let page = bounded(api.list(&ListParams::default().limit(1))).await?;
        let rest = page.metadata.remaining_item_count.and_then(|n| u64::try_from(n).ok()).unwrap_or_default();
        Ok(rest.saturating_add(page.items.len() as u64))
    }

    /// Writes Coupons until all are there, one fails, or the Campaign is suspended. Returns those that
    /// are there.
    async fn create_all(&self, drafts: Vec<CouponSpec>) -> (Vec<Coupon>, Option<CreateError>) {
        let stop = AtomicBool::new(false);
        let goes_on = |_: &CouponSpec| std::future::ready(!stop.load(Ordering::Relaxed) && self.goes_on());
        let mut results =
            stream::iter(drafts).take_while(goes_on).map(|draft| self.create(draft)).buffered(CREATES_AT_ONCE);
        let (mut created, mut failed) = (Vec::new(), None);
        while let Some(result) = results.next().await {
            match result {
                Ok(coupon) => created.push(coupon),
                // Those already on their way are let finish, so that they are counted.
                Err(error) => {
                    stop.store(true, Ordering::Relaxed);
                    failed = failed.or(Some(error));
                }
            }
        }
        drop(results);
        (created, failed)
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

    /// Writes one Coupon. If one of that name is there, it must record the same grant.
    async fn create(&self, spec: CouponSpec) -> Result<Coupon, CreateError> {
        let name = coupon_name(grant(&spec));
        let api: Api<Coupon> = Api::namespaced(self.context.client.clone(), &self.fetched.namespace);
        let metadata = ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() };
        let coupon = Coupon { metadata, spec, status: None };
        match bounded(api.create(&PostParams::default(), &coupon)).await {
            Ok(created) => Ok(created),
            Err(error) if error.is_conflict() => {
                let there = bounded(api.get(&name)).await.map_err(CreateError::Api)?;
                if grant(&there.spec) == grant(&coupon.spec) {
                    return Ok(there);
                }
                Err(CreateError::NameConflict(format!(
                    "Coupon {name} exists and records something else, so {} gets no code: delete or rename that Coupon",
                    coupon.spec.recipient
                )))
            }
            Err(error) => Err(CreateError::Api(error)),
        }
    }
}

fn grant(spec: &CouponSpec) -> Grant<'_> {
    Grant {
        campaign: spec.campaign.as_deref().unwrap_or_default(),
        rule: spec.rule.as_deref().unwrap_or_default(),
        occurrence: spec.occurrence.as_deref().unwrap_or_default(),
        recipient: &spec.recipient,
    }
}

/// Each id once: the first counts.
fn distinct(profiles: &[Profile]) -> Vec<&Profile> {
    let mut seen = HashSet::new();
    profiles.iter().filter(|p| seen.insert(p.integration_id.trim())).collect()
}

/// The smallest window that holds both: an occurrence whose window was edited keeps what it had, so
/// that a later edit finds its Coupons from either side.
fn hull(a: Window, b: Window) -> Window {
    Window {
        start_time: a.start_time.zip(b.start_time).map(|(a, b)| a.min(b)),
        end_time: a.end_time.zip(b.end_time).map(|(a, b)| a.max(b)),
    }
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
    Done { stopped: Some((reason::COUPONS_MISSING, message)), ..Done::default() }
}

fn log_pass(fetched: &Fetched, occurrence: &OccurrenceStatus, issued: usize) {
    if issued > 0 {
        tracing::info!(
            namespace = fetched.namespace,
            campaign = fetched.name,
            rule = occurrence.rule,
            occurrence = occurrence.key,
            issued,
            matched = occurrence.matched,
            "coupons issued"
        );
    }
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
