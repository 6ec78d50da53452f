//! Webhook: is it well formed, are its credentials there, and does its endpoint take them?

mod apply;
pub mod fetch;
mod plan;
mod status;
pub mod validate;

use std::sync::Arc;

use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;

use super::context::Context;
use super::error::Error;
use crate::api::webhook::Webhook;

/// Brings a Webhook's endpoint, lane and status in line with its spec and credentials.
///
/// # Errors
/// Those of the API server.
pub async fn reconcile(object: Arc<DeserializeGuard<Webhook>>, context: Arc<Context>) -> Result<Action, Error> {
    let Some(fetched) = fetch::run(&object, &context).await? else { return Ok(Action::await_change()) };
    let validated = validate::run(&fetched.webhook.spec, &fetched.values);
    let pause = apply::run(&fetched, &validated, &context);
    let plan = plan::run(&fetched.webhook.spec, &validated, pause.as_ref());
    status::write(&fetched.webhook, &plan, &context).await?;
    Ok(plan.next.map_or_else(Action::await_change, |_| Action::requeue(context.settings.secret_poll)))
}
