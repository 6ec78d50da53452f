//! Gathers what a Coupon's plan depends on, from caches: the writes that follow have the Coupon's
//! resourceVersion as their precondition.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use kube::api::GetParams;
use kube::core::DeserializeGuard;
use kube::{Api, ResourceExt};

use super::plan::{CampaignState, Circumstances};
use crate::api::campaign::Campaign;
use crate::api::coupon::Coupon;
use crate::controllers::context::{Context, lane};
use crate::controllers::error::{Error, bounded};
use crate::delivery::endpoint::Endpoint;
use crate::records::Records;

/// A Coupon with what its plan depends on.
pub struct Fetched {
    pub coupon: Coupon,
    pub namespace: String,
    pub endpoints: HashMap<String, Arc<Endpoint>>,
    paused: HashSet<String>,
    campaign: CampaignState,
    active: bool,
    sender: String,
    created: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
}

/// None if the Coupon is not for this process.
pub fn run(object: &DeserializeGuard<Coupon>, context: &Context) -> Option<Fetched> {
    gather(object.0.as_ref().ok()?.clone(), context)
}

/// The same with the Coupon as the API server has it, if not all of its rows are here. None if it is not for this process
/// any more.
///
/// # Errors
/// Those of the API server.
pub async fn whole(fetched: Fetched, context: &Context) -> Result<Option<Fetched>, Error> {
    if Records::of(&fetched.coupon.spec).are_held() {
        return Ok(Some(fetched));
    }
    let api: Api<Coupon> = Api::namespaced(context.client.clone(), &fetched.namespace);
    // One that is as late as the cache's does: the API server has it at hand. A later one is better, an earlier is none.
    let version = fetched.coupon.resource_version().map_or_else(GetParams::default, |version| GetParams::at(&version));
    match bounded(api.get_with(&fetched.coupon.name_any(), &version)).await {
        Ok(coupon) => Ok(gather(coupon, context)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

fn gather(coupon: Coupon, context: &Context) -> Option<Fetched> {
    let namespace = coupon.namespace()?;
    if !context.works_in(&namespace) || coupon.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let paused = |name: &String| context.pacer.pause(&lane(&namespace, name)).is_some();
    let webhooks = coupon.spec.deliveries.iter().map(|d| d.webhook_ref.name.clone());
    let paused = webhooks.filter(paused).collect();
    let endpoints = coupon
        .spec
        .deliveries
        .iter()
        .filter_map(|d| Some((d.webhook_ref.name.clone(), context.endpoint(&namespace, &d.webhook_ref.name)?)))
        .collect();
    Some(Fetched {
        campaign: campaign_state(&coupon, &namespace, context),
        active: context.deliveries.is_active(&namespace, &coupon.name_any()),
        sender: context.sender.clone(),
        created: coupon
            .creation_timestamp()
            .and_then(|t| DateTime::from_timestamp(t.0.as_second(), 0))
            .map(|created| context.clock.at(created)),
        now: context.clock.now(),
        endpoints,
        paused,
        namespace,
        coupon,
    })
}

/// One whose Campaign is absent, deleting or suspended is not sent, and goes on when it is back.
fn campaign_state(coupon: &Coupon, namespace: &str, context: &Context) -> CampaignState {
    let Some(name) = &coupon.spec.campaign else { return CampaignState::NotNeeded };
    if !context.listed.campaigns.is_set() {
        // Once they are, Coupons are looked at again.
        return CampaignState::NotYetKnown;
    }
    let state = |campaign: &Campaign| match campaign {
        c if c.metadata.deletion_timestamp.is_some() => CampaignState::Gone,
        c if c.spec.suspend || is_stopped(c, coupon) => CampaignState::Suspended,
        _ => CampaignState::Running,
    };
    context.with_campaign(namespace, name, state).unwrap_or(CampaignState::Gone)
}

/// True if nothing is sent of the Coupon's occurrence, since too many of its records failed.
fn is_stopped(campaign: &Campaign, coupon: &Coupon) -> bool {
    let (rule, key) = (coupon.spec.rule.as_deref(), coupon.spec.occurrence.as_deref());
    let mut occurrences = campaign.status.iter().flat_map(|status| &status.occurrences);
    occurrences.any(|o| o.stopped && rule == Some(&o.rule) && key == Some(&o.key))
}

impl Fetched {
    pub fn circumstances(&self) -> Circumstances<'_> {
        Circumstances {
            coupon: &self.coupon,
            created: self.created,
            campaign: self.campaign,
            endpoints: &self.endpoints,
            paused: &self.paused,
            active: self.active,
            sender: &self.sender,
            now: self.now,
        }
    }

    /// The same, for the task that is the Coupon's active delivery.
    pub fn circumstances_of_active(&self) -> Circumstances<'_> {
        Circumstances { active: false, ..self.circumstances() }
    }
}
