//! Writes a Webhook's status, when it changed.

use kube::api::PostParams;
use kube::{Api, ResourceExt};

use super::plan::Plan;
use crate::api::conditions;
use crate::api::webhook::Webhook;
use crate::controllers::context::Context;
use crate::controllers::error::{Error, bounded};

pub async fn write(webhook: &Webhook, plan: &Plan, context: &Context) -> Result<(), Error> {
    let generation = webhook.metadata.generation.unwrap_or_default();
    let mut status = webhook.status.clone().unwrap_or_default();
    status.observed_generation = generation;
    conditions::set_all(&mut status.conditions, &plan.verdict.conditions(), generation, context.clock.now());
    if webhook.status.as_ref() == Some(&status) {
        return Ok(());
    }
    let mut changed = webhook.clone();
    changed.status = Some(status);
    let namespace = webhook.namespace().unwrap_or_default();
    let api: Api<Webhook> = Api::namespaced(context.client.clone(), &namespace);
    bounded(api.replace_status(&webhook.name_any(), &PostParams::default(), &changed)).await?;
    tracing::info!(
        namespace,
        webhook = webhook.name_any(),
        reason = plan.verdict.reason,
        message = plan.verdict.message,
        "webhook status changed"
    );
    Ok(())
}
