//! Starts the controllers, and stops them in order.

use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::stream::{BoxStream, StreamExt};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::runtime::controller::{Action, Config, Controller, Error as ControllerError};
use kube::runtime::events::Reporter;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, Client, Resource};
use rand::TryRng;
use rand::rngs::SysRng;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};

use super::context::{CodeLocks, Context, Deliveries, Endpoints, Failures, Listings, Noted, Settings, Signal, Stores};
use super::error::{Error, bounded};
use super::leadership::{self, Leadership};
use super::watches::{self, changes, controller, coupons_of, namespaces, once, outline, received, watch_webhooks};
use super::{campaign, coupon, webhook};
use crate::api::campaign::Campaign;
use crate::api::coupon::{Coupon, CouponState};
use crate::api::webhook::Webhook;
use crate::clock::Clock;
use crate::delivery::client::GuardedClient;
use crate::delivery::pacer::Pacer;

/// Reconciles at once, for each kind. The default of kube's runtime is without bound.
const CONCURRENCY: u16 = 16;

/// A Coupon of many records may take a megabyte.
const COUPONS_A_PAGE: u32 = 50;

/// How long requests in flight may take to end after a signal. Kubernetes kills after 30 s by default.
const GRACE: Duration = Duration::from_secs(25);

/// How long giving back a Lease may take when the process is to stop.
const RELEASE: Duration = Duration::from_secs(2);

/// What the operator needs to run.
pub struct Operator {
    pub client: Client,
    pub http: GuardedClient,
    pub clock: Clock,
    pub settings: Settings,
    /// The one namespace to watch and work in; all of them if absent.
    pub namespace: Option<String>,
    /// The Lease to hold while working; works without one if absent.
    pub leadership: Option<Leadership>,
}

/// Why an operator ended without having been asked to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("the operating system gave no random numbers: {0}")]
    Random(String),
    #[error("the Lease was lost: another replica leads, or the API server could not be reached; start again")]
    LeaseLost,
}

/// What is watched.
pub(super) struct Scope {
    pub(super) client: Client,
    pub(super) namespace: Option<String>,
}

impl Scope {
    pub(super) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        match &self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }
}

pub(super) type Guarded<K> = DeserializeGuard<K>;

struct Controllers {
    webhooks: Controller<Guarded<Webhook>>,
    campaigns: Controller<Guarded<Campaign>>,
    coupons: Controller<Guarded<Coupon>>,
    /// The Campaigns of Coupons that changed.
    issuers: watches::Issuers,
    /// The Campaigns whose Coupons are to be looked at again.
    standing: mpsc::UnboundedReceiver<ObjectRef<Guarded<Campaign>>>,
}

impl Operator {
    /// Runs until `stop` resolves, and then until requests in flight have ended. On a runtime with several
    /// threads: conditions are evaluated in place.
    ///
    /// # Errors
    /// If the operator cannot start, or lost its Lease: no request is in flight any more then.
    pub async fn run(self, stop: impl Future<Output = ()> + Send) -> Result<(), RunError> {
        let stop = stop.shared();
        tokio::select! {
            () = wait_for_crds(&self.client) => {}
            () = stop.clone() => return Ok(()),
        }
        let scope = Scope { client: self.client.clone(), namespace: self.namespace.clone() };
        let leadership = self.leadership.clone();
        let work = self.prepare(scope)?;
        if let Some(leadership) = leadership {
            return Box::pin(work.while_leading(&leadership, stop)).await;
        }
        work.until(stop).await;
        Ok(())
    }

    /// Everything that works, none of it begun.
    fn prepare(self, scope: Scope) -> Result<Work, RunError> {
        let listed = Listings::default();
        let noted = Noted::default();
        let controllers = Controllers::new(&scope, &listed, &noted);
        let (namespaces, namespace_events) = namespaces(&scope, &listed.namespaces);
        let (look_again, looked_at) = mpsc::unbounded_channel();
        let stores = Stores {
            namespaces,
            webhooks: controllers.webhooks.store(),
            campaigns: controllers.campaigns.store(),
            coupons: controllers.coupons.store(),
        };
        let context = Arc::new(self.context(stores, listed, noted, look_again)?);
        Ok(Work { scope, context, controllers, namespace_events: namespace_events.boxed(), looked_at })
    }

    fn context(
        self,
        stores: Stores,
        listed: Listings,
        Noted { own_writes, counts, campaigns }: Noted,
        look_again: mpsc::UnboundedSender<ObjectRef<Guarded<Coupon>>>,
    ) -> Result<Context, RunError> {
        let (mut sender, mut digest_key) = ([0_u8; 8], [0_u8; 32]);
        for bytes in [sender.as_mut_slice(), digest_key.as_mut_slice()] {
            SysRng.try_fill_bytes(bytes).map_err(|e| RunError::Random(e.to_string()))?;
        }
        Ok(Context {
            reporter: Reporter { controller: "coupon-operator".to_owned(), instance: Some(hex::encode(sender)) },
            client: self.client,
            clock: self.clock,
            settings: self.settings,
            stores,
            listed,
            own_writes,
            counts,
            http: self.http,
            pacer: Arc::new(Pacer::default()),
            endpoints: Endpoints::default(),
            sender: hex::encode(sender),
            digest_key,
            deliveries: Arc::new(Deliveries::default()),
            campaigns,
            wake_coupons: Signal::default(),
            wake_campaigns: Signal::default(),
            look_again,
            code_locks: CodeLocks::default(),
            failures: Failures::default(),
        })
    }
}

/// What an operator does, before it begins.
struct Work {
    scope: Scope,
    context: Arc<Context>,
    controllers: Controllers,
    namespace_events: BoxStream<'static, ()>,
    looked_at: mpsc::UnboundedReceiver<ObjectRef<Guarded<Coupon>>>,
}

impl Work {
    /// Works until `stop` resolves, and then until requests in flight have ended.
    async fn until(self, stop: impl Future<Output = ()>) {
        let Self { scope, context, controllers, namespace_events, looked_at } = self;
        let namespaces_changed = Signal::default();
        let changed = namespaces_changed.subscribe();
        let watch_namespaces = namespace_events.for_each(|()| {
            namespaces_changed.send();
            std::future::ready(())
        });
        tracing::info!(sender = context.sender, rehearsal = context.clock.is_set(), "operator started");
        tokio::select! {
            () = controllers.run(&scope, &context, &changed, looked_at) => {}
            () = watch_namespaces => {}
            () = context.pacer.run_timer() => {}
            () = coupon::resolutions::run(scope.api(), &context) => {}
            () = stop => {}
        }
        stop_deliveries(&context).await;
    }

    /// Works while it holds the Lease, which it gives back once requests in flight have ended.
    async fn while_leading(
        self,
        leadership: &Leadership,
        stop: impl Future<Output = ()> + Clone,
    ) -> Result<(), RunError> {
        let context = self.context.clone();
        let place = leadership::Place { rehearsal: context.clock.is_set(), watched: self.scope.namespace.as_deref() };
        let election = leadership.election(&context.client, place, &context.sender);
        let leads = AtomicBool::new(false);
        let lead = async {
            leads.store(true, Ordering::SeqCst);
            self.until(stop.clone()).await;
        };
        let told_while_waiting = async {
            stop.clone().await;
            if leads.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
        };
        let lost = tokio::select! {
            ended = election.with_lease(lead) => ended.is_none(),
            () = told_while_waiting => {
                // The answer to the request that took the Lease may have been on its way.
                let _ = tokio::time::timeout(RELEASE, election.release()).await;
                false
            }
        };
        if lost {
            stop_deliveries(&context).await;
            return Err(RunError::LeaseLost);
        }
        Ok(())
    }
}

/// The process may start before its CRDs are installed.
async fn wait_for_crds(client: &Client) {
    const BETWEEN: Duration = Duration::from_secs(2);
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let mut said = None;
    loop {
        let problem = match missing_crds(&api).await {
            Ok(missing) if missing.is_empty() => return,
            Ok(missing) => format!(
                "waiting for the CRDs {}: install them with `coupon-operator crds | kubectl apply --server-side -f -`",
                missing.join(", ")
            ),
            Err(error) => format!("waiting for the API server: {error}"),
        };
        if said.as_ref() != Some(&problem) {
            tracing::warn!("{problem}");
            said = Some(problem);
        }
        tokio::time::sleep(BETWEEN).await;
    }
}

async fn missing_crds(api: &Api<CustomResourceDefinition>) -> Result<Vec<String>, Error> {
    let mut missing = Vec::new();
    for crd in crate::api::crds::all() {
        let name = crd.metadata.name.unwrap_or_default();
        let found = bounded(api.get_opt(&name)).await?;
        let conditions = found.and_then(|c| c.status).and_then(|s| s.conditions).unwrap_or_default();
        if !conditions.iter().any(|c| c.type_ == "Established" && c.status == "True") {
            missing.push(name);
        }
    }
    Ok(missing)
}

impl Controllers {
    fn new(scope: &Scope, listed: &Listings, noted: &Noted) -> Self {
        let config = || Config::default().concurrency(CONCURRENCY);
        let all = watcher::Config::default;
        let unsettled = all().fields(CouponState::UNSETTLED_SELECTOR).page_size(COUPONS_A_PAGE);
        let (note_coupon, issuers) = watches::of_coupons(noted);
        let (note_campaign, standing) = watches::of_campaigns(noted);
        Self {
            webhooks: controller(scope.api(), all(), &listed.webhooks, |_| (), |_| ()).with_config(config()),
            campaigns: controller(scope.api(), all(), &listed.campaigns, |_| (), note_campaign).with_config(config()),
            coupons: controller(scope.api(), unsettled, &Arc::default(), outline, note_coupon).with_config(config()),
            issuers,
            standing,
        }
    }

    async fn run(
        self,
        scope: &Scope,
        context: &Arc<Context>,
        namespaces: &watch::Receiver<u64>,
        looked_at: mpsc::UnboundedReceiver<ObjectRef<Guarded<Coupon>>>,
    ) {
        let webhooks = self
            .webhooks
            .reconcile_all_on(changes(namespaces.clone()))
            .reconcile_all_on(changes(context.pacer.pauses()))
            .run(webhook_reconcile, error_policy, context.clone());
        let noted = context.clone();
        let issuers = received(self.issuers).map(move |(campaign, news)| {
            let namespace = campaign.namespace.as_deref().unwrap_or_default();
            noted.campaigns.coupon_changed(namespace, &campaign.name, news);
            campaign
        });
        let campaigns = watch_webhooks(self.campaigns, scope)
            .reconcile_on(issuers)
            .reconcile_all_on(changes(namespaces.clone()))
            .reconcile_all_on(changes(context.wake_campaigns.subscribe()))
            .reconcile_all_on(once(context.listed.webhooks.clone()))
            .run(campaign_reconcile, error_policy, context.clone());
        let coupons = self
            .coupons
            .reconcile_all_on(changes(namespaces.clone()))
            .reconcile_all_on(changes(context.wake_coupons.subscribe()))
            .reconcile_all_on(once(context.listed.campaigns.clone()))
            .reconcile_on(coupons_of(self.standing, context.stores.coupons.clone()))
            .reconcile_on(received(looked_at))
            .run(coupon_reconcile, error_policy, context.clone());
        tokio::join!(drain("Webhook", webhooks), drain("Campaign", campaigns), drain("Coupon", coupons));
    }
}

async fn webhook_reconcile(object: Arc<Guarded<Webhook>>, context: Arc<Context>) -> Result<Action, Error> {
    observed(&object.clone(), &context.clone(), webhook::reconcile(object, context)).await
}

async fn campaign_reconcile(object: Arc<Guarded<Campaign>>, context: Arc<Context>) -> Result<Action, Error> {
    // On the heap, since a pass holds much while it waits.
    let reconcile = Box::pin(campaign::reconcile(object.clone(), context.clone()));
    observed(&object, &context, reconcile).await
}

async fn coupon_reconcile(object: Arc<Guarded<Coupon>>, context: Arc<Context>) -> Result<Action, Error> {
    observed(&object.clone(), &context.clone(), coupon::reconcile(object, context)).await
}

/// One place that sees how reconciles end: an object that cannot be read is said once and left alone.
async fn observed<K>(
    object: &Guarded<K>,
    context: &Context,
    reconcile: impl Future<Output = Result<Action, Error>>,
) -> Result<Action, Error>
where
    K: Resource<DynamicType = ()> + Clone,
{
    if let Err(invalid) = &object.0 {
        tracing::warn!(object = reference(object), error = invalid.error, "an object cannot be read and is left alone");
        return Ok(Action::await_change());
    }
    let action = reconcile.await?;
    context.failures.forget(&reference(object));
    Ok(action)
}

#[allow(clippy::needless_pass_by_value)] // the controller's signature
fn error_policy<K>(object: Arc<Guarded<K>>, error: &Error, context: Arc<Context>) -> Action
where
    K: Resource<DynamicType = ()> + Clone,
{
    let failures = context.failures.note(reference(&object));
    if !error.is_conflict() {
        tracing::warn!(object = reference(&object), error = %error, failures, "reconcile failed");
    }
    Action::requeue(error.retry_after(failures))
}

fn reference<K: Resource<DynamicType = ()> + Clone>(object: &Guarded<K>) -> String {
    ObjectRef::from_obj(object).to_string()
}

/// Runs a controller; what it says itself is logged, and ends nothing.
async fn drain<K>(
    kind: &'static str,
    results: impl futures::Stream<Item = Result<(ObjectRef<K>, Action), ControllerError<Error, watcher::Error>>>,
) where
    K: Resource<DynamicType: Eq + Hash + Clone> + DeserializeOwned,
{
    let mut results = std::pin::pin!(results);
    while let Some(result) = results.next().await {
        match result {
            Err(ControllerError::QueueError(error)) => tracing::warn!(kind, error = %error, "a watch was interrupted"),
            Err(ControllerError::RunnerError(error)) => tracing::warn!(kind, error = %error, "the scheduler failed"),
            // Said by the error policy, or an object that is gone meanwhile.
            Err(ControllerError::ReconcilerFailed(..) | ControllerError::ObjectNotFound(_)) | Ok(_) => {}
        }
    }
}

async fn stop_deliveries(context: &Context) {
    context.deliveries.stop();
    context.pacer.close();
    tracing::info!("stopping: waiting for requests in flight");
    if tokio::time::timeout(GRACE, context.deliveries.drained()).await.is_err() {
        tracing::warn!("requests in flight did not end in time: their outcome will be unknown");
    }
}
