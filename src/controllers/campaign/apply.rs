//! Carries a Campaign's plan out: passes over open windows, and counts.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, Utc};

use super::fetch::Fetched;
use super::plan::{self, Applied, Count, Issue, PassOutcome, Plan};
use super::reopen;
use super::validate::Validated;
use super::{missed, pass};
use crate::api::campaign::{Campaign, OccurrenceStatus};
use crate::api::conditions::reason;
use crate::controllers::context::Context;
use crate::controllers::error::Error;

pub async fn run(
    fetched: &Fetched,
    validated: &Validated,
    plan: &Plan,
    context: &Arc<Context>,
) -> Result<Applied, Error> {
    let status = fetched.campaign.status.clone().unwrap_or_default();
    let mut applied =
        Applied { occurrences: status.occurrences, reopened: plan.reopened.clone(), ..Applied::default() };
    if fetched.campaign.metadata.generation != Some(status.observed_generation) {
        // Whoever the edit added has not been seen yet.
        let open = |o: &&mut OccurrenceStatus| o.grants_until.is_none_or(|until| until > fetched.now);
        applied.occurrences.iter_mut().filter(open).for_each(|o| o.audience_seen = false);
    }
    if plan.issue.is_empty() && (plan.window_open || plan.reopening) {
        // What the last pass came to still stands while no other is made.
        applied.outcome = fetched.memory.outcome.clone();
    }
    if !(plan.issue.is_empty() && plan.count.is_empty()) {
        look_at_coupons(fetched, validated, plan, context, &mut applied).await?;
    }
    if let Some(after) = plan.closed_after.filter(|_| plan.later.is_none()) {
        let pass = pass::Pass { fetched, context };
        applied.missed.clone_from(&plan.missed);
        for (name, timing) in &validated.timings {
            let rule = validated.rules.iter().find(|rule| rule.name == *name);
            applied.missed.extend(pass.missed_anniversaries((name, timing), rule, after).await?);
        }
    }
    if !applied.missed.is_empty() {
        missed::note(&mut applied.occurrences, &applied.missed);
    }
    stop(&mut applied, &fetched.campaign, fetched.now);
    Ok(applied)
}

/// Marks the occurrences of which too many records failed, as long as there is something to stop.
fn stop(applied: &mut Applied, campaign: &Campaign, now: DateTime<Utc>) {
    for occurrence in &mut applied.occurrences {
        let goes_on = occurrence.grants_until.is_none_or(|until| until > now) || !plan::is_settled(occurrence);
        let Some(why) = plan::stop(campaign, occurrence).filter(|_| goes_on) else {
            occurrence.stopped = false;
            continue;
        };
        occurrence.stopped = true;
        let message = plan::said_of_stop(campaign, occurrence, &why);
        applied.outcome = std::mem::take(&mut applied.outcome).or(PassOutcome::stopped(reason::GUARDRAIL_HIT, message));
    }
}

async fn look_at_coupons(
    fetched: &Fetched,
    validated: &Validated,
    plan: &Plan,
    context: &Arc<Context>,
    applied: &mut Applied,
) -> Result<(), Error> {
    // Before anything is read: what changes from here on is looked at in the next pass.
    let begun = Instant::now();
    context.campaigns.update(&fetched.namespace, &fetched.name, |memory| {
        (memory.coupons_changed, memory.counts_unknown) = (false, memory.counts_unknown && !plan.read);
    });
    let result = passes(fetched, plan, context, applied).await;
    context.campaigns.update(&fetched.namespace, &fetched.name, |memory| match &result {
        Ok(()) if !applied.again => {
            memory.counted_at = Some(begun);
            if plan.read || !plan.issue.is_empty() {
                memory.passed_at = Some(begun);
                memory.able = validated.rules.len();
                memory.boundary = plan.next_boundary;
                memory.outcome.clone_from(&applied.outcome);
            }
        }
        _ => (memory.coupons_changed, memory.counts_unknown) = (true, true),
    });
    result
}

async fn passes(fetched: &Fetched, plan: &Plan, context: &Arc<Context>, applied: &mut Applied) -> Result<(), Error> {
    let pass = pass::Pass { fetched, context };
    let mut outcome = PassOutcome::default();
    for issue in &plan.issue {
        let mut done = passed(&pass, issue, applied).await?;
        if done.left_behind {
            let own = passed(&pass, &issue.under_own_key(&applied.occurrences), applied).await?;
            done.again |= own.again;
            done.outcome = done.outcome.or(own.outcome);
        }
        if issue.reopened && !done.again && done.outcome == PassOutcome::default() {
            applied.reopened.push(reopen::place(issue));
        }
        outcome = outcome.or(done.outcome);
    }
    let mut read = BTreeSet::new();
    for Count { rule, key } in &plan.count {
        if plan.read && read.insert(rule) {
            pass.books(rule).await?;
        }
        let tally = pass.tally(rule, key).await?;
        if let Some(occurrence) = applied.occurrences.iter_mut().find(|o| o.rule == *rule && o.key == *key) {
            pass::write_tally(occurrence, tally);
        }
    }
    if !plan.issue.is_empty() {
        applied.outcome = outcome;
    }
    Ok(())
}

async fn passed(pass: &pass::Pass<'_>, issue: &Issue, applied: &mut Applied) -> Result<pass::Done, Error> {
    let mut done = pass.run(issue).await?;
    if let Some(occurrence) = done.occurrence.take() {
        replace(&mut applied.occurrences, occurrence);
    }
    applied.again |= done.again;
    Ok(done)
}

fn replace(occurrences: &mut Vec<OccurrenceStatus>, occurrence: OccurrenceStatus) {
    match occurrences.iter_mut().find(|o| o.rule == occurrence.rule && o.key == occurrence.key) {
        Some(place) => *place = occurrence,
        None => occurrences.push(occurrence),
    }
}
