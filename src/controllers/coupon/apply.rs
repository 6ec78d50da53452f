//! Carries a plan out: writes what it says, or starts the task that sends.

use std::sync::Arc;

use kube::core::ObjectMeta;
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt};

use super::fetch::Fetched;
use super::plan::Plan;
use super::{deliver, resolve, status};
use crate::api::coupon::{Coupon, CouponStatus};
use crate::api::webhook::OnUnknown;
use crate::controllers::context::Context;
use crate::controllers::counting::News;
use crate::controllers::error::Error;
use crate::controllers::writes;
use crate::delivery::outcome::{self, Lesson, NotSent, Outcome, Verdict};

pub async fn run(fetched: &Fetched, plan: Plan, context: &Arc<Context>) -> Result<Action, Error> {
    let now = context.clock.now();
    let coupon = &fetched.coupon;
    let changed = match plan {
        Plan::Nothing => return Ok(Action::await_change()),
        Plan::Wait(duration) => return Ok(Action::requeue(duration)),
        Plan::Send { delivery, until, .. } => {
            deliver::start(fetched, delivery, until, context);
            return Ok(Action::await_change());
        }
        Plan::HoldRestored => Some(status::held_as_restored(coupon, now)),
        Plan::Expire { delivery, rows, why } => Some(status::with_expired(coupon, &delivery, &rows, why, now)),
        Plan::Hold { delivery, rows } => Some(status::with_held(coupon, &delivery, &rows, now)),
        Plan::SenderLost { delivery, attempt } => {
            let policy = on_unknown(fetched, &delivery);
            status::with_outcome(coupon, (&delivery, attempt), &sender_lost(), policy, now)
        }
        Plan::Resolve => resolve::run(coupon, now),
        Plan::CampaignGone => Some(status::without_campaign(coupon, now)),
        Plan::NotSent { delivery, attempt } => {
            let outcome = outcome::not_sent(NotSent::AnswerToIntentLost);
            status::with_outcome(coupon, (&delivery, attempt), &outcome, on_unknown(fetched, &delivery), now)
        }
        Plan::ParametersMissing { delivery, parameters, again } => {
            write(coupon, status::lacking_parameters(coupon, &delivery, &parameters, now), context).await?;
            return Ok(again.map_or_else(Action::await_change, Action::requeue));
        }
    };
    if let Some(changed) = changed {
        write(coupon, changed, context).await?;
    }
    Ok(Action::await_change())
}

fn on_unknown(fetched: &Fetched, delivery: &str) -> OnUnknown {
    let webhook = fetched.coupon.spec.deliveries.iter().find(|d| d.name == delivery).map(|d| &d.webhook_ref.name);
    // Without the Webhook its policy is not known: holding back can be undone, sending cannot.
    webhook.and_then(|name| fetched.endpoints.get(name)).map_or(OnUnknown::Hold, |e| e.spec.on_unknown)
}

fn sender_lost() -> Outcome {
    Outcome {
        verdict: Verdict::Unknown,
        records: Vec::new(),
        lesson: Lesson::Nothing,
        http_status: None,
        reason: status::SENDER_LOST.to_owned(),
        message:
            "the operator stopped between its intent and the result, so nobody can know whether its records were applied"
                .to_owned(),
    }
}

/// Writes the status of a Coupon that is not settled, whose watch will show it; nothing if it is the same.
pub async fn write(coupon: &Coupon, changed: CouponStatus, context: &Context) -> Result<Coupon, Error> {
    if coupon.status.as_ref() == Some(&changed) {
        return Ok(coupon.clone());
    }
    context.own_writes.begin(coupon);
    let written = replace(coupon, changed, context).await;
    match &written {
        Ok(written) => {
            context.counts.note(written);
            if context.own_writes.written(coupon) {
                // Its Campaign may have counted before this was known, and no other event follows.
                count_again(coupon, News::Counted, context);
            }
        }
        // It is gone or settled by what another did, or nobody knows.
        Err(_) if context.own_writes.failed(coupon) => count_again(coupon, News::Unknown, context),
        Err(_) => {}
    }
    written
}

fn count_again(coupon: &Coupon, news: News, context: &Context) {
    if let Some(campaign) = &coupon.spec.campaign {
        context.campaigns.coupon_changed(&coupon.namespace().unwrap_or_default(), campaign, news);
        context.wake_campaigns.send();
    }
}

/// Writes a status with the Coupon's resourceVersion as the precondition. Of its rows, which a write of status cannot
/// change, none but the first is sent, and nothing but its metadata comes back.
pub async fn replace(coupon: &Coupon, changed: CouponStatus, context: &Context) -> Result<Coupon, Error> {
    let api: Api<Coupon> = Api::namespaced(context.client.clone(), &coupon.namespace().unwrap_or_default());
    let metadata = ObjectMeta { managed_fields: None, ..coupon.metadata.clone() };
    let outline = Coupon { metadata, spec: coupon.spec.outline(), status: Some(changed) };
    let written = writes::replace_status(&context.client, &api, &outline).await?;
    Ok(Coupon { metadata: written.metadata, spec: coupon.spec.clone(), status: outline.status })
}
