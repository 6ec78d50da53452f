//! Carries a Campaign's plan out: passes over open windows, and counts.

use std::sync::Arc;
use std::time::Instant;

use super::fetch::Fetched;
use super::pass;
use super::plan::{Applied, Count, Plan};
use crate::api::campaign::OccurrenceStatus;
use crate::controllers::context::Context;
use crate::controllers::error::Error;

pub async fn run(fetched: &Fetched, plan: &Plan, context: &Arc<Context>) -> Result<Applied, Error> {
    let mut applied = Applied {
        occurrences: fetched.campaign.status.clone().unwrap_or_default().occurrences,
        // What stopped the last pass still stands while no other is made.
        stopped: fetched.memory.stopped.clone().filter(|_| plan.issue.is_empty() && plan.window_open),
        ..Applied::default()
    };
    if plan.issue.is_empty() && plan.count.is_empty() {
        return Ok(applied);
    }
    // Before anything is read: what changes from here on is looked at in the next pass.
    let begun = Instant::now();
    context.campaigns.update(&fetched.namespace, &fetched.name, |memory| memory.coupons_changed = false);
    let result = passes(fetched, plan, context, &mut applied).await;
    context.campaigns.update(&fetched.namespace, &fetched.name, |memory| match &result {
        Ok(()) if !applied.again => {
            memory.passed_at = Some(begun);
            memory.stopped.clone_from(&applied.stopped);
        }
        _ => memory.coupons_changed = true,
    });
    result.map(|()| applied)
}

async fn passes(fetched: &Fetched, plan: &Plan, context: &Arc<Context>, applied: &mut Applied) -> Result<(), Error> {
    let pass = pass::Pass { fetched, context };
    for issue in &plan.issue {
        let done = pass.run(issue).await?;
        if let Some(occurrence) = done.occurrence {
            replace(&mut applied.occurrences, occurrence);
        }
        applied.stopped = applied.stopped.take().or(done.stopped);
        applied.again |= done.again;
    }
    for Count { rule, key } in &plan.count {
        let tally = pass.ledger(rule).await?.tally(key, pass.campaign_uid());
        if let Some(occurrence) = applied.occurrences.iter_mut().find(|o| o.rule == *rule && o.key == *key) {
            pass::write_tally(occurrence, tally);
        }
    }
    Ok(())
}

fn replace(occurrences: &mut Vec<OccurrenceStatus>, occurrence: OccurrenceStatus) {
    match occurrences.iter_mut().find(|o| o.rule == occurrence.rule && o.key == occurrence.key) {
        Some(place) => *place = occurrence,
        None => occurrences.push(occurrence),
    }
}
