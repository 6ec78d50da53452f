//! One request, from its turn to its result: intent, send, result.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use kube::core::DeserializeGuard;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt};

use super::apply::write;
use super::fetch::{self, Fetched};
use super::plan::{self, Plan, intent};
use super::status::{GivenUp, with_expired, with_given_up, with_intent, with_outcome};
use crate::api::conditions::reason;
use crate::api::coupon::Coupon;
use crate::controllers::context::{ActiveDelivery, Context, lane};
use crate::controllers::error::{Error, bounded};
use crate::delivery::endpoint::{Endpoint, OutgoingRequest, Prepared};
use crate::delivery::outcome::{self, Lesson, NotSent, Observation, Outcome};
use crate::delivery::pacer::Permit;
use crate::delivery::pacing::Sender;
use crate::delivery::retry::FRESHNESS_PASSED;
use crate::records::{Records, RowSet};

/// An intent that is older when its request could begin is dropped: a process that was frozen between
/// the two may no longer be the one that sends.
const INTENT_LIFETIME: Duration = Duration::from_secs(5);

/// Starts the task that sends a delivery, unless the Coupon has one.
pub fn start(fetched: &Fetched, delivery: String, until: Option<DateTime<Utc>>, context: &Arc<Context>) {
    let name = fetched.coupon.name_any();
    let Some(active) = context.deliveries.begin(&fetched.namespace, &name) else { return };
    let Some(webhook) = webhook_of(&fetched.coupon, &delivery) else { return };
    let campaign = fetched.coupon.spec.campaign.clone().unwrap_or_default();
    let (namespace, context) = (fetched.namespace.clone(), context.clone());
    let task = Task { namespace, name, campaign, webhook, delivery, until, context };
    tokio::spawn(task.run(active));
}

fn webhook_of(coupon: &Coupon, delivery: &str) -> Option<String> {
    coupon.spec.deliveries.iter().find(|d| d.name == delivery).map(|d| d.webhook_ref.name.clone())
}

/// After so long a wait a Coupon is looked at again, whatever it waits for.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

struct Task {
    namespace: String,
    name: String,
    campaign: String,
    webhook: String,
    delivery: String,
    /// After this it is too late to send it.
    until: Option<DateTime<Utc>>,
    context: Arc<Context>,
}

impl Task {
    async fn run(self, active: ActiveDelivery) {
        let result = self.deliver().await;
        drop(active);
        if let Err(error) = result
            && !error.is_conflict()
        {
            tracing::warn!(namespace = self.namespace, coupon = self.name, error = %error, "delivery will be tried again");
            tokio::time::sleep(error.retry_after(0)).await;
        }
        // The Coupon may have changed while this task hid it from its controller.
        self.context.look_again(&self.namespace, &self.name);
    }

    async fn deliver(&self) -> Result<(), Error> {
        let Some(permit) = self.turn().await else { return Ok(()) };
        // While it waited for its turn, the Campaign may have been suspended or the Webhook edited.
        let Some(wanted) = self.still_wanted().await? else { return Ok(()) };
        let prepared = wanted.request(&self.delivery, self.context.clock.now());
        let given_up = given_up(&prepared);
        if let Some(request) = prepared.request {
            let rows = prepared.rows;
            return self.attempt(permit, wanted, Begun { request: &request, rows, given_up: &given_up }).await;
        }
        drop(permit);
        let status = with_given_up(&wanted.coupon, &self.delivery, &given_up, self.context.clock.now());
        write(&wanted.coupon, status, &self.context).await.map(drop)
    }

    /// Waits for its turn, which a paused Webhook may never give, until it is too late.
    async fn turn(&self) -> Option<Permit> {
        let lane = lane(&self.namespace, &self.webhook);
        let left = self.until.map_or(LONGEST_WAIT, |until| {
            until.signed_duration_since(self.context.clock.now()).to_std().unwrap_or_default().min(LONGEST_WAIT)
        });
        tokio::time::timeout(left, self.context.pacer.admit(&lane, self.sender())).await.ok().flatten()
    }

    fn sender(&self) -> Sender {
        Sender { campaign: self.campaign.clone(), coupon: self.name.clone() }
    }

    /// What is to be sent now, with all its rows. What only they say to do instead is done.
    async fn still_wanted(&self) -> Result<Option<Wanted>, Error> {
        let Some(fetched) = self.cached() else { return Ok(None) };
        let Some(fetched) = fetch::whole(fetched, &self.context).await? else { return Ok(None) };
        let planned = plan::run(&fetched.circumstances_of_active());
        if let Plan::Expire { delivery, rows, why } = &planned {
            let status = with_expired(&fetched.coupon, delivery, rows, why, self.context.clock.now());
            write(&fetched.coupon, status, &self.context).await?;
        }
        let Plan::Send { delivery, rows, .. } = planned else { return Ok(None) };
        let endpoint = fetched.endpoints.get(&self.webhook).filter(|_| delivery == self.delivery).cloned();
        Ok(endpoint.map(|endpoint| Wanted { coupon: fetched.coupon, endpoint, rows }))
    }

    fn cached(&self) -> Option<Fetched> {
        if self.context.deliveries.is_stopping() {
            return None;
        }
        let cached: Arc<DeserializeGuard<Coupon>> =
            self.context.stores.coupons.get(&ObjectRef::new(&self.name).within(&self.namespace))?;
        if cached.0.as_ref().is_ok_and(|seen| self.context.own_writes.replaced(seen)) {
            return None;
        }
        fetch::run(&cached, &self.context)
    }

    async fn attempt(&self, permit: Permit, wanted: Wanted, begun: Begun<'_>) -> Result<(), Error> {
        let Wanted { coupon, endpoint, .. } = wanted;
        let since = Instant::now();
        let before = coupon.status.as_ref().and_then(|s| s.delivery(&self.delivery)).cloned().unwrap_or_default();
        let (digest, now) = (begun.request.payload_digest(), self.context.clock.now());
        let attempt = intent(&before, begun.rows, digest, &self.context.sender, now);
        let status = with_intent(&coupon, &self.delivery, &attempt, begun.given_up, now);
        let coupon = write(&coupon, status, &self.context).await?;
        let seen = if since.elapsed() > INTENT_LIFETIME {
            Observation::NotSent(NotSent::TooLate)
        } else {
            self.context.http.send(begun.request, timeout(&endpoint)).await
        };
        let outcome = outcome::read(endpoint.templates.answers(), begun.request.sent(), &seen);
        permit.finish(outcome.lesson, &outcome.message);
        self.log(attempt.number, &outcome);
        self.record(coupon, attempt.number, &outcome, &endpoint).await;
        Ok(())
    }

    /// Writes the result, and does not give up: a result that is not written becomes "unknown".
    async fn record(&self, mut coupon: Coupon, number: i32, outcome: &Outcome, endpoint: &Endpoint) {
        let mut failures = 0_u32;
        loop {
            let now = self.context.clock.now();
            let place = (self.delivery.as_str(), number);
            let Some(status) = with_outcome(&coupon, place, outcome, endpoint.spec.on_unknown, now) else {
                tracing::error!(
                    namespace = self.namespace,
                    coupon = self.name,
                    attempt = number,
                    reason = outcome.reason,
                    "a result came after another process had taken the attempt over"
                );
                return;
            };
            let Err(error) = write(&coupon, status, &self.context).await else { return };
            if error.is_not_found() {
                return;
            }
            tokio::time::sleep(error.retry_after(failures)).await;
            failures = failures.saturating_add(1);
            if let Ok(Some(fresh)) = self.read().await {
                coupon = fresh;
            }
        }
    }

    async fn read(&self) -> Result<Option<Coupon>, Error> {
        let api: Api<Coupon> = Api::namespaced(self.context.client.clone(), &self.namespace);
        bounded(api.get_opt(&self.name)).await
    }

    fn log(&self, attempt: i32, outcome: &Outcome) {
        let (reason, status) = (outcome.reason.as_str(), outcome.http_status.unwrap_or_default());
        if matches!(outcome.lesson, Lesson::Proven) {
            tracing::debug!(
                namespace = self.namespace,
                coupon = self.name,
                attempt,
                reason,
                status,
                "delivery attempted"
            );
        } else {
            let message = outcome.message.as_str();
            tracing::warn!(
                namespace = self.namespace,
                coupon = self.name,
                attempt,
                reason,
                status,
                message,
                "delivery attempted"
            );
        }
    }
}

/// What is to be sent, as it was found when its turn had come.
struct Wanted {
    coupon: Coupon,
    endpoint: Arc<Endpoint>,
    rows: RowSet,
}

impl Wanted {
    fn request(&self, delivery: &str, now: DateTime<Utc>) -> Prepared {
        self.endpoint.request(Records::of(&self.coupon.spec), delivery, &self.rows, now)
    }
}

/// A request whose intent is to be written.
struct Begun<'a> {
    request: &'a OutgoingRequest,
    rows: RowSet,
    given_up: &'a [GivenUp],
}

/// Rows that cannot be sent, each with its own reason: the others are.
fn given_up(prepared: &Prepared) -> Vec<GivenUp> {
    let unfit = prepared.unfit.iter().map(|(row, error)| GivenUp {
        row: *row,
        expired: false,
        reason: reason::INVALID,
        message: format!("nothing was sent: {error}"),
    });
    let stale = prepared.stale.iter().map(|row| GivenUp {
        row: *row,
        expired: true,
        reason: reason::EXPIRED,
        message: FRESHNESS_PASSED.to_owned(),
    });
    unfit.chain(stale).collect()
}

fn timeout(endpoint: &Endpoint) -> Duration {
    Duration::from_secs(u64::try_from(endpoint.spec.timeout_seconds).unwrap_or(30))
}
