//! What the controllers share.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use k8s_openapi::api::core::v1::Namespace;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::events::Reporter;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, Resource, ResourceExt};
use tokio::sync::{Notify, OwnedMutexGuard, mpsc, watch};

use crate::api::REHEARSAL_LABEL;
use crate::api::campaign::Campaign;
use crate::api::coupon::Coupon;
use crate::api::webhook::Webhook;
use crate::audience::{Excluded, Reading};
use crate::clock::Clock;
use crate::controllers::campaign::plan::PassOutcome;
use crate::controllers::campaign::validate::CompiledRule;
use crate::controllers::counting::{CampaignCounts, News};
use crate::controllers::own_writes::OwnWrites;
use crate::delivery::client::GuardedClient;
use crate::delivery::endpoint::Endpoint;
use crate::delivery::pacer::Pacer;
use crate::delivery::pacing::LaneKey;

/// What the operator is told when it starts.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How often a missing or refused Secret is looked at again.
    pub secret_poll: Duration,
    /// How often the audience of an open window is looked at again.
    pub audience_poll: Duration,
    /// The longest sleep of a Campaign: a clock that jumps is noticed after it.
    pub longest_sleep: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { secret_poll: seconds(30), audience_poll: seconds(300), longest_sleep: seconds(60) }
    }
}

/// Whether the objects of a kind were listed once, so that one that its cache lacks is not there. Not asked of the
/// cache itself: `Store::wait_until_ready` wakes only whoever asked last (kube 5, `DelayedInit`).
#[derive(Default)]
pub struct Listed(watch::Sender<bool>);

impl Listed {
    pub fn set(&self) {
        self.0.send_replace(true);
    }

    #[must_use]
    pub fn is_set(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until they were.
    pub async fn wait(&self) {
        // It fails only when nobody is left to set it.
        let _ = self.0.subscribe().wait_for(|listed| *listed).await;
    }
}

/// The kinds that others wait for.
#[derive(Clone, Default)]
pub struct Listings {
    pub namespaces: Arc<Listed>,
    pub webhooks: Arc<Listed>,
    pub campaigns: Arc<Listed>,
}

/// Caches of the objects that the controllers watch.
pub struct Stores {
    pub namespaces: Store<PartialObjectMeta<Namespace>>,
    pub webhooks: Store<DeserializeGuard<Webhook>>,
    pub campaigns: Store<DeserializeGuard<Campaign>>,
    pub coupons: Store<DeserializeGuard<Coupon>>,
}

/// What the watches note.
#[derive(Clone, Default)]
pub struct Noted {
    pub own_writes: Arc<OwnWrites>,
    pub counts: Arc<CampaignCounts>,
    pub campaigns: Arc<CampaignMemories>,
}

/// What the controllers share.
pub struct Context {
    pub client: Client,
    pub clock: Clock,
    pub settings: Settings,
    pub stores: Stores,
    pub listed: Listings,
    pub own_writes: Arc<OwnWrites>,
    pub counts: Arc<CampaignCounts>,
    pub http: GuardedClient,
    pub pacer: Arc<Pacer>,
    pub endpoints: Endpoints,
    /// Random for each start of the process: whose intent it is.
    pub sender: String,
    /// Random for each start of the process: keys the digests of credentials.
    pub digest_key: [u8; 32],
    pub deliveries: Arc<Deliveries>,
    pub campaigns: Arc<CampaignMemories>,
    /// Whose events they are.
    pub reporter: Reporter,
    /// All Coupons are looked at again.
    pub wake_coupons: Signal,
    /// All Campaigns are looked at again.
    pub wake_campaigns: Signal,
    pub look_again: mpsc::UnboundedSender<ObjectRef<DeserializeGuard<Coupon>>>,
    pub code_locks: CodeLocks,
    pub failures: Failures,
}

impl Context {
    /// True if this process works in the namespace: with a set clock only where a rehearsal was asked
    /// for, and without one only elsewhere.
    #[must_use]
    pub fn works_in(&self, namespace: &str) -> bool {
        let found = self.stores.namespaces.get(&ObjectRef::new(namespace));
        found.is_some_and(|n| is_rehearsal(&n) == self.clock.is_set())
    }

    /// What a Campaign is, as the cache has it, without copying its profiles.
    pub fn with_campaign<T>(&self, namespace: &str, name: &str, look: impl FnOnce(&Campaign) -> T) -> Option<T> {
        let found = self.stores.campaigns.get(&ObjectRef::new(name).within(namespace))?;
        found.0.as_ref().ok().map(look)
    }

    /// A Webhook as the cache has it.
    #[must_use]
    pub fn webhook(&self, namespace: &str, name: &str) -> Option<Webhook> {
        let found = self.stores.webhooks.get(&ObjectRef::new(name).within(namespace))?;
        found.0.as_ref().ok().cloned()
    }

    /// Has a Coupon looked at again.
    pub fn look_again(&self, namespace: &str, coupon: &str) {
        // The receiver lives as long as the controllers; without them there is nothing to look at.
        let _ = self.look_again.send(ObjectRef::new(coupon).within(namespace));
    }

    /// The endpoint of a Webhook that exists and is ready to make requests.
    #[must_use]
    pub fn endpoint(&self, namespace: &str, webhook: &str) -> Option<Arc<Endpoint>> {
        let found = self.stores.webhooks.get(&ObjectRef::new(webhook).within(namespace))?;
        let uid = found.meta().uid.as_deref()?;
        self.endpoints.get(&lane(namespace, webhook)).filter(|endpoint| endpoint.uid == uid)
    }
}

fn is_rehearsal(namespace: &PartialObjectMeta<Namespace>) -> bool {
    namespace.labels().get(REHEARSAL_LABEL).is_some_and(|value| value == "true")
}

/// The lane of a Webhook.
#[must_use]
pub fn lane(namespace: &str, webhook: &str) -> LaneKey {
    LaneKey { namespace: namespace.to_owned(), webhook: webhook.to_owned() }
}

/// Something changed; those who look at it should look again.
#[derive(Default)]
pub struct Signal(watch::Sender<u64>);

impl Signal {
    pub fn send(&self) {
        self.0.send_modify(|n| *n = n.wrapping_add(1));
    }

    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}

/// The endpoints of Webhooks that are ready to make requests.
#[derive(Default)]
pub struct Endpoints(RwLock<HashMap<LaneKey, Arc<Endpoint>>>);

impl Endpoints {
    #[must_use]
    pub fn get(&self, key: &LaneKey) -> Option<Arc<Endpoint>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    pub fn set(&self, key: LaneKey, endpoint: Option<Arc<Endpoint>>) {
        let mut endpoints = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match endpoint {
            Some(endpoint) => endpoints.insert(key, endpoint),
            None => endpoints.remove(&key),
        };
    }
}

/// The deliveries that have a task of their own now, by namespace and name of their Coupon.
#[derive(Default)]
pub struct Deliveries {
    state: Mutex<DeliveriesState>,
    idle: Notify,
}

#[derive(Default)]
struct DeliveriesState {
    active: HashSet<(String, String)>,
    stopping: bool,
}

impl Deliveries {
    /// Notes a task. None if the Coupon has one already, or the process is stopping.
    #[must_use]
    pub fn begin(self: &Arc<Self>, namespace: &str, coupon: &str) -> Option<ActiveDelivery> {
        let key = (namespace.to_owned(), coupon.to_owned());
        let mut state = self.lock();
        if state.stopping || !state.active.insert(key.clone()) {
            return None;
        }
        Some(ActiveDelivery { deliveries: self.clone(), key })
    }

    /// True if the Coupon has a task now.
    #[must_use]
    pub fn is_active(&self, namespace: &str, coupon: &str) -> bool {
        self.lock().active.contains(&(namespace.to_owned(), coupon.to_owned()))
    }

    /// True if nothing new may be sent, since the process is stopping.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.lock().stopping
    }

    /// Begins nothing more.
    pub fn stop(&self) {
        self.lock().stopping = true;
    }

    /// Waits until no task is left.
    pub async fn drained(&self) {
        loop {
            let ended = self.idle.notified();
            if self.lock().active.is_empty() {
                return;
            }
            ended.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, DeliveriesState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A delivery that has a task now; dropped when the task ends, however it ends.
pub struct ActiveDelivery {
    deliveries: Arc<Deliveries>,
    key: (String, String),
}

impl Drop for ActiveDelivery {
    fn drop(&mut self) {
        self.deliveries.lock().active.remove(&self.key);
        self.deliveries.idle.notify_waiters();
    }
}

/// What a Campaign's controller remembers between reconciles. Nothing depends on it but the number of
/// calls to the API server.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CampaignMemory {
    pub uid: String,
    pub generation: i64,
    /// When the ledger was last read, and the audience seen.
    pub passed_at: Option<Instant>,
    /// How many of its rules could act then.
    pub able: usize,
    /// When its Coupons were last counted.
    pub counted_at: Option<Instant>,
    /// A Coupon of it changed since.
    pub coupons_changed: bool,
    /// One is gone or settled since by what another did: the ledger says how it stands.
    pub counts_unknown: bool,
    /// The next boundary, as the last pass saw it.
    pub boundary: Option<DateTime<Utc>>,
    /// The annotations by which a person acts on it, when it was last looked at.
    pub annotations: [Option<String>; 3],
    /// What came of the last pass.
    pub outcome: PassOutcome,
    /// The rules of this generation, compiled.
    pub compiled: Option<Arc<Vec<CompiledRule>>>,
    /// The audience of this generation, where it is not written in it.
    pub audience: Option<KnownAudience>,
}

/// An audience that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownAudience {
    pub since: Instant,
    /// The same by the operator's clock, which a rehearsal sets.
    pub at: DateTime<Utc>,
    /// None if it is written in the Campaign.
    pub reading: Option<Arc<Reading>>,
    pub excluded: Arc<Excluded>,
}

/// The memories, by namespace and name.
#[derive(Default)]
pub struct CampaignMemories(Mutex<HashMap<(String, String), CampaignMemory>>);

impl CampaignMemories {
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> CampaignMemory {
        self.lock().get(&(namespace.to_owned(), name.to_owned())).cloned().unwrap_or_default()
    }

    pub fn update(&self, namespace: &str, name: &str, change: impl FnOnce(&mut CampaignMemory)) {
        change(self.lock().entry((namespace.to_owned(), name.to_owned())).or_default());
    }

    /// Notes that a Coupon of a Campaign changed.
    pub fn coupon_changed(&self, namespace: &str, name: &str, news: News) {
        self.update(namespace, name, |memory| {
            memory.coupons_changed = true;
            memory.counts_unknown |= news == News::Unknown;
        });
    }

    /// It is gone.
    pub fn forget(&self, namespace: &str, name: &str) {
        self.lock().remove(&(namespace.to_owned(), name.to_owned()));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(String, String), CampaignMemory>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One drawing of codes at a time in a namespace, where codes are compared with those that exist:
/// two that read at once could draw the same.
#[derive(Default)]
pub struct CodeLocks(Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>);

impl CodeLocks {
    pub async fn lock(&self, namespace: &str) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            locks.entry(namespace.to_owned()).or_default().clone()
        };
        lock.lock_owned().await
    }
}

/// Failures in a row, by object, for waits that grow.
#[derive(Default)]
pub struct Failures(Mutex<HashMap<String, u32>>);

impl Failures {
    /// Notes a failure, and tells how many there were before it.
    pub fn note(&self, object: String) -> u32 {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(object).or_default();
        let before = *count;
        *count = count.saturating_add(1);
        before
    }

    pub fn forget(&self, object: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(object);
    }
}
