//! Gathers what a Campaign's plan depends on, from caches. What cannot be undone reads again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use kube::ResourceExt;
use kube::core::DeserializeGuard;

use super::plan::{Memory, PassOutcome};
use super::validate::{self, CompiledRule, KnownWebhook};
use crate::api::campaign::{Campaign, Profile};
use crate::api::{ACCEPT_FAILED_ANNOTATION, ACCEPT_MISSING_ANNOTATION, REOPEN_ANNOTATION, conditions};
use crate::audience::{self, Batches, Excluded, Reading};
use crate::controllers::context::Context;

/// A Campaign with what its plan depends on.
pub struct Fetched {
    pub campaign: Campaign,
    pub namespace: String,
    pub name: String,
    /// Its rules, compiled once for each generation.
    pub compiled: Arc<Vec<CompiledRule>>,
    /// The Webhooks that it names and that exist.
    pub webhooks: BTreeMap<String, KnownWebhook>,
    pub memory: Memory,
    /// The audience, where it is not written in the Campaign and was read.
    pub reading: Option<Arc<Reading>>,
    /// Who never gets anything.
    pub excluded: Arc<Excluded>,
    pub now: DateTime<Utc>,
}

/// None if the Campaign is not for this process.
pub fn run(object: &DeserializeGuard<Campaign>, context: &Context) -> Option<Fetched> {
    let campaign = object.0.as_ref().ok()?.clone();
    let (namespace, name) = (campaign.namespace()?, campaign.name_any());
    if !context.works_in(&namespace) || campaign.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let named = campaign.spec.rules.iter().flat_map(|r| &r.effects).filter_map(|e| e.send_webhook.as_ref());
    let webhooks = named
        .filter_map(|send| {
            let name = &send.webhook_ref.name;
            Some((name.clone(), known(name, &namespace, context)?))
        })
        .collect();
    let memory = remember(&campaign, &namespace, &name, context);
    let compiled = compiled(&campaign, &namespace, &name, context);
    let (reading, excluded) = (None, Arc::default());
    let now = context.clock.now();
    Some(Fetched { campaign, namespace, name, compiled, webhooks, memory, reading, excluded, now })
}

impl Fetched {
    /// The audience as far as it is known, so many at a time.
    pub fn batches(&self, size: usize) -> Batches<'_> {
        match &self.reading {
            Some(reading) => reading.profiles.batches(size),
            None => audience::batches_of(self.campaign.spec.audience.written(), size),
        }
    }

    /// Enough of the audience to know on which dates there is somebody.
    pub fn of_dates(&self) -> &[Profile] {
        let written = || self.campaign.spec.audience.written();
        self.reading.as_ref().map_or_else(written, |reading| reading.profiles.of_dates())
    }

    /// How many of the audience name an id that was named before.
    pub fn repeated(&self) -> usize {
        let written = || audience::repeated(self.campaign.spec.audience.written());
        self.reading.as_ref().map_or_else(written, |reading| reading.profiles.repeated())
    }

    /// How many customers the audience names.
    pub fn audience_size(&self) -> u64 {
        let written = || self.campaign.spec.audience.written().len() as u64;
        let all = self.reading.as_ref().map_or_else(written, |reading| reading.profiles.count());
        all.saturating_sub(self.repeated() as u64)
    }

    /// What keeps some of the audience from being known.
    pub fn audience_problem(&self) -> Option<&(&'static str, String)> {
        self.reading.as_ref()?.problem.as_ref()
    }

    /// The time zone of the campaign; UTC if it names none that exists.
    pub fn zone(&self) -> Tz {
        self.campaign.spec.time_zone.parse().unwrap_or_default()
    }
}

/// The compiled rules of this generation, from memory if it is there.
fn compiled(campaign: &Campaign, namespace: &str, name: &str, context: &Context) -> Arc<Vec<CompiledRule>> {
    if let Some(compiled) = context.campaigns.get(namespace, name).compiled {
        return compiled;
    }
    // Compiling may take a moment, and a hostile expression a longer one.
    let compiled = Arc::new(tokio::task::block_in_place(|| validate::compile(&campaign.spec)));
    context.campaigns.update(namespace, name, |memory| memory.compiled = Some(compiled.clone()));
    compiled
}

fn known(name: &str, namespace: &str, context: &Context) -> Option<KnownWebhook> {
    let webhook = context.webhook(namespace, name)?;
    let status = webhook.status.clone().unwrap_or_default();
    let current = webhook.metadata.generation == Some(status.observed_generation);
    let ready = status.conditions.iter().find(|c| c.type_ == conditions::READY);
    let problem = ready.filter(|c| c.status != "True" && current).map(|c| format!("{}: {}", c.reason, c.message));
    Some(KnownWebhook { max_batch: webhook.spec.max_batch(), parameters: webhook.spec.parameters, problem })
}

fn audience_poll(campaign: &Campaign, context: &Context) -> Duration {
    let own = campaign.spec.audience.http.as_ref().and_then(|http| u64::try_from(http.poll_seconds?).ok());
    own.map_or(context.settings.audience_poll, Duration::from_secs)
}

/// What is known from earlier reconciles.
fn remember(campaign: &Campaign, namespace: &str, name: &str, context: &Context) -> Memory {
    let uid = campaign.uid().unwrap_or_default();
    let generation = campaign.metadata.generation.unwrap_or_default();
    let known = context.campaigns.get(namespace, name);
    let annotations = [ACCEPT_MISSING_ANNOTATION, ACCEPT_FAILED_ANNOTATION, REOPEN_ANNOTATION]
        .map(|annotation| campaign.annotations().get(annotation).cloned());
    let same_spec = known.uid == uid && known.generation == generation;
    let same = same_spec && known.annotations == annotations;
    context.campaigns.update(namespace, name, |memory| {
        (memory.uid, memory.generation) = (uid, generation);
        memory.annotations = annotations;
        if !same_spec {
            (memory.compiled, memory.audience) = (None, None);
        }
        if !same {
            // A pass over what it was says nothing of what it is.
            memory.passed_at = None;
        }
    });
    Memory {
        since_pass: known.passed_at.filter(|_| same).map(|at| at.elapsed()),
        able: known.able,
        since_count: known.counted_at.map(|at| at.elapsed()),
        coupons_changed: known.coupons_changed,
        counts_unknown: known.counts_unknown,
        audience_poll: audience_poll(campaign, context),
        boundary: known.boundary,
        outcome: if same { known.outcome } else { PassOutcome::default() },
    }
}
