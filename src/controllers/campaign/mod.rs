//! Campaign: opens occurrences, issues their Coupons, and says how they stand.

mod apply;
mod audience;
mod events;
mod fetch;
mod missed;
mod pass;
pub mod plan;
mod reopen;
mod status;
pub mod validate;

use std::sync::Arc;

use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;

use super::context::Context;
use super::error::Error;
use crate::api::campaign::Campaign;

/// Brings a Campaign's Coupons and status in line with its spec and the time.
///
/// # Errors
/// Those of the API server.
pub async fn reconcile(object: Arc<DeserializeGuard<Campaign>>, context: Arc<Context>) -> Result<Action, Error> {
    let Some(mut fetched) = fetch::run(&object, &context) else { return Ok(Action::await_change()) };
    let validated = validate::run(&fetched.campaign.spec, &fetched.compiled, &fetched.webhooks);
    audience::look(&mut fetched, &validated, &context).await?;
    let plan = plan::run((&fetched.campaign, fetched.of_dates()), &validated, &fetched.memory, fetched.now);
    let applied = apply::run(&fetched, &validated, &plan, &context).await?;
    let longest = audience::sleep(&fetched, context.settings.longest_sleep);
    let wake = plan::wake(&plan, &applied, longest, fetched.now);
    status::write(&fetched, &validated, &plan, &applied, &context).await?;
    if !plan.window_open && applied.occurrences.iter().all(plan::is_settled) {
        // What a person resolves later is counted anew.
        context.counts.forget(&fetched.namespace, &fetched.name);
    }
    if !applied.missed.is_empty() {
        // After the write, which makes it final: one that lost is planned anew.
        events::windows_missed(&fetched, &applied.missed, &context).await;
    }
    Ok(Action::requeue(wake))
}
