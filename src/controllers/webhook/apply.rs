//! Makes a validated Webhook's endpoint known to deliveries.

use std::sync::Arc;

use kube::ResourceExt;

use super::fetch::Fetched;
use super::validate::{Invalid, Validated};
use crate::controllers::context::{Context, lane};
use crate::delivery::endpoint::Endpoint;
use crate::delivery::pacing::{LaneSetup, Pause};

/// Returns why nothing is sent now, if so.
pub fn run(fetched: &Fetched, validated: &Result<Validated, Invalid>, context: &Context) -> Option<Pause> {
    let webhook = &fetched.webhook;
    let key = lane(&fetched.namespace, &webhook.name_any());
    let Ok(validated) = validated else {
        context.endpoints.set(key, None);
        return None;
    };
    let generation = webhook.metadata.generation.unwrap_or_default();
    let endpoint = Endpoint::new(
        (&fetched.namespace, webhook.uid().unwrap_or_default(), generation),
        webhook.spec.clone(),
        validated.templates.clone(),
        validated.resolved.clone(),
        &context.digest_key,
    );
    let known = context.endpoints.get(&key);
    let same = known.is_some_and(|k| {
        k.uid == endpoint.uid && k.generation == endpoint.generation && k.credential == endpoint.credential
    });
    if !same {
        context.pacer.set_lane(&key, lane_setup(&endpoint));
        context.endpoints.set(key.clone(), Some(Arc::new(endpoint)));
        context.wake_coupons.send();
    }
    context.pacer.pause(&key)
}

fn lane_setup(endpoint: &Endpoint) -> LaneSetup {
    LaneSetup {
        uid: endpoint.uid.clone(),
        generation: endpoint.generation,
        account: endpoint.account.clone(),
        account_limit: endpoint.account_limit(),
        credential: endpoint.credential,
        max_in_flight: usize::try_from(endpoint.spec.max_in_flight).unwrap_or(1),
        suspended: endpoint.spec.suspend,
    }
}
