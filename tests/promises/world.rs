//! A world for one test: a namespace of its own on a real API server, a stand-in of CleverTap, and
//! operators that work in that namespace only.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use clevertap_stand_in::{Config as StandInConfig, Profile, StandIn};
use control_plane::{ControlPlane, GuardedChild, Spawn, shared};
use coupon_operator::api::campaign::Campaign;
use coupon_operator::api::coupon::Coupon;
use coupon_operator::api::webhook::Webhook;
use coupon_operator::api::{REHEARSAL_LABEL, crds};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Config, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::OnceCell;

/// Nothing that is waited for takes longer, unless something is wrong.
pub const LONG: Duration = Duration::from_secs(60);

/// The instant at which every rehearsal begins: the first of January 2023 in Berlin.
pub const NEW_YEAR: &str = "2023-01-01T09:00:00+01:00";

/// A passcode that nothing but CleverTap may ever see.
pub const CANARY: &str = "CANARY-7f3a91";

pub struct World {
    pub client: Client,
    pub namespace: String,
    pub stand_in: StandIn,
    pub folder: TempDir,
    control_plane: &'static ControlPlane,
    begun: Instant,
    logs: Mutex<Vec<PathBuf>>,
}

const AUDIENCE_POLL: &str = "--audience-poll-seconds";

/// A restart after a kill does not wait for a Lease to run out, and two may run at once.
const ALONE: [&str; 2] = ["--leader-election", "false"];

impl World {
    /// With so many customers, customer-1 and so on, who all have an email.
    pub async fn new() -> Self {
        let control_plane = shared().await;
        let client = client(control_plane).await;
        install_crds(&client).await;
        let namespace = create_namespace(&client).await;
        let profiles = (1..=100).map(|i| Profile {
            identity: format!("customer-{i}"),
            email: Some(format!("{i}@example.com")),
            ..Profile::default()
        });
        let config = StandInConfig {
            passcode: CANARY.into(),
            profiles: profiles.collect(),
            clock_start: Some(rehearsed()),
            discarded_events: vec!["Discarded".into()],
            ..StandInConfig::default()
        };
        let stand_in = StandIn::start(config).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        stand_in.write_ca(&folder.path().join("ca.pem")).unwrap();
        Self { client, namespace, stand_in, folder, control_plane, begun: Instant::now(), logs: Mutex::default() }
    }

    /// Starts an operator whose clock shows the first of January and the time since the test began:
    /// a restart does not turn it back.
    pub fn operator(&self) -> GuardedChild {
        self.operator_at(rehearsed())
    }

    fn operator_at(&self, start: DateTime<Utc>) -> GuardedChild {
        let now = start + TimeDelta::from_std(self.begun.elapsed()).unwrap();
        self.start_operator(&["--clock-start", &now.to_rfc3339()])
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.control_plane.kubeconfig_path()
    }

    /// How long ago the rehearsal began.
    pub fn age(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Waits until the operators' clocks show a time.
    pub async fn until_rehearsed(&self, time: DateTime<Utc>) {
        let age = (time - rehearsed()).to_std().unwrap_or_default();
        tokio::time::sleep_until((self.begun + age).into()).await;
    }

    /// An operator with the machine's clock, as in production.
    pub fn operator_with_the_real_clock(&self) -> GuardedChild {
        self.start_operator(&[])
    }

    #[allow(dead_code)] // the fault tests use it
    /// An operator that reaches the API server as a kubeconfig says, with a clock that much ahead.
    pub fn operator_through(&self, kubeconfig: &std::path::Path, ahead: Duration) -> GuardedChild {
        let now = rehearsed() + TimeDelta::from_std(self.begun.elapsed() + ahead).unwrap();
        self.start(&["--clock-start", &now.to_rfc3339()], kubeconfig)
    }

    fn start_operator(&self, clock: &[&str]) -> GuardedChild {
        self.start(clock, &self.control_plane.kubeconfig_path())
    }

    #[allow(dead_code)] // the promises use it
    /// An operator that looks at audiences as seldom as in production, so that nothing else makes it look again.
    pub fn operator_that_seldom_polls(&self) -> GuardedChild {
        let clock = ["--clock-start", &rehearsed().to_rfc3339(), AUDIENCE_POLL, "300"];
        self.start_operator(&clock)
    }

    #[allow(dead_code)] // the benchmarks use it
    /// An operator that logs as in production.
    pub fn quiet_operator(&self) -> GuardedChild {
        let clock = ["--clock-start", &rehearsed().to_rfc3339()];
        self.start_logging("info", &[&clock[..], &ALONE].concat(), &self.control_plane.kubeconfig_path())
    }

    #[allow(dead_code)] // the fault tests use it
    /// One of several operators, of which the one works that holds the Lease: its duration, renew deadline and retry
    /// period, in seconds.
    pub fn replica(&self, kubeconfig: &std::path::Path, timings: [u64; 3]) -> GuardedChild {
        let now = (rehearsed() + TimeDelta::from_std(self.begun.elapsed()).unwrap()).to_rfc3339();
        let [duration, deadline, period] = timings.map(|seconds| seconds.to_string());
        let arguments = [
            ["--clock-start", &now],
            ["--lease-namespace", &self.namespace],
            ["--lease-duration-seconds", &duration],
            ["--lease-renew-deadline-seconds", &deadline],
            ["--lease-retry-period-seconds", &period],
        ];
        self.start_logging("coupon_operator=debug,k8s_controller=debug,info", &arguments.concat(), kubeconfig)
    }

    fn start(&self, clock: &[&str], kubeconfig: &std::path::Path) -> GuardedChild {
        self.start_logging("coupon_operator=debug,info", &[clock, &ALONE].concat(), kubeconfig)
    }

    fn start_logging(&self, level: &str, arguments: &[&str], kubeconfig: &std::path::Path) -> GuardedChild {
        let mut logs = self.logs.lock().unwrap();
        let log = self.folder.path().join(format!("operator-{}.log", logs.len()));
        let operator = Spawn::new(env!("CARGO_BIN_EXE_coupon-operator"))
            .args(["run", "--log", level, "--secret-poll-seconds", "1"])
            .args(if arguments.contains(&AUDIENCE_POLL) { Vec::new() } else { vec![AUDIENCE_POLL, "1"] })
            .args(["--namespace", &self.namespace])
            .args(arguments.to_vec())
            .args(["--ca-bundle".into(), self.folder.path().join("ca.pem").into_os_string()])
            .args(["--connect-to".to_owned(), format!("eu1.api.clevertap.com:443={}", self.stand_in.address())])
            .args(["--connect-to".to_owned(), format!("shop.example:443={}", self.stand_in.address())])
            .env("KUBECONFIG", kubeconfig)
            // As a container that is restarted in its pod.
            .env("HOSTNAME", "coupon-operator-0")
            .env("POD_NAME", "coupon-operator-0");
        let child = operator.log_to(&log).unwrap().start().unwrap();
        logs.push(log);
        child
    }

    /// What all operators of this world logged.
    pub fn operator_logs(&self) -> String {
        self.logs.lock().unwrap().iter().map(|log| std::fs::read_to_string(log).unwrap_or_default()).collect()
    }

    /// The same world on another API server.
    pub fn elsewhere(self, client: Client, namespace: &str) -> Self {
        Self { client, namespace: namespace.to_owned(), ..self }
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Applies an object with server-side apply, as GitOps does.
    pub async fn apply<K>(&self, object: Value) -> kube::Result<K>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned,
    {
        let mut object = object;
        object["apiVersion"] = K::api_version(&()).into();
        object["kind"] = K::kind(&()).into();
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        self.api::<K>().patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(&object)).await
    }

    pub async fn apply_secret(&self, passcode: &str) {
        let account = StandInConfig::default().account_id;
        let secret = json!({ "metadata": { "name": "clevertap" }, "stringData": { "accountId": account, "passcode": passcode } });
        self.apply::<Secret>(secret).await.unwrap();
    }

    /// The scenario: Secret, Webhook and a Campaign for so many customers.
    pub async fn apply_scenario(&self, customers: usize) {
        self.apply_secret(CANARY).await;
        self.apply::<Webhook>(webhook()).await.unwrap();
        self.apply::<Campaign>(campaign(customers)).await.unwrap();
    }

    pub async fn coupons(&self) -> Vec<Coupon> {
        self.api::<Coupon>().list(&ListParams::default()).await.unwrap().items
    }

    pub async fn campaign(&self) -> Campaign {
        self.api::<Campaign>().get("new-year").await.unwrap()
    }

    pub async fn webhook(&self) -> Webhook {
        self.api::<Webhook>().get("send-clevertap-email").await.unwrap()
    }

    pub async fn patch<K>(&self, name: &str, patch: Value)
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned,
    {
        self.api::<K>().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    /// Watches an object until it is as wanted.
    pub async fn until<K>(&self, name: &str, what: &str, holds: impl Fn(&K) -> bool) -> K
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned
            + Send
            + 'static,
    {
        let mut last = None;
        let watched = async {
            let mut objects = std::pin::pin!(watcher::watch_object(self.api::<K>(), name).default_backoff());
            while let Some(object) = objects.next().await {
                if let Ok(Some(object)) = object {
                    let found = holds(&object);
                    last = Some(object);
                    if found {
                        return;
                    }
                }
            }
        };
        let in_time = tokio::time::timeout(LONG, watched).await.is_ok();
        match last {
            Some(object) if in_time => object,
            last => panic!("not within {LONG:?}: {what}\nlast seen: {last:#?}\n{}", self.operator_logs()),
        }
    }

    /// Watches all Coupons until they are as wanted.
    pub async fn until_coupons(&self, what: &str, holds: impl Fn(&[Coupon]) -> bool) -> Vec<Coupon> {
        self.until_coupons_within(LONG, what, holds).await
    }

    /// The same, where it may take longer.
    pub async fn until_coupons_within(
        &self,
        longest: Duration,
        what: &str,
        holds: impl Fn(&[Coupon]) -> bool,
    ) -> Vec<Coupon> {
        let looked = async {
            let mut changes =
                std::pin::pin!(watcher(self.api::<Coupon>(), watcher::Config::default()).default_backoff());
            loop {
                let coupons = self.coupons().await;
                if holds(&coupons) {
                    return coupons;
                }
                let _ = changes.next().await;
            }
        };
        let in_time = tokio::time::timeout(longest, looked).await.ok();
        let seen = self.coupons().await;
        in_time.unwrap_or_else(|| panic!("not within {longest:?}: {what}\n{seen:#?}\n{}", self.operator_logs()))
    }

    pub async fn until_delivered(&self, count: usize) -> Vec<Coupon> {
        self.until_coupons(&format!("{count} Coupons delivered"), |coupons| {
            coupons.len() >= count && coupons.iter().all(|c| state(c) == "Delivered")
        })
        .await
    }

    #[allow(dead_code)] // not every suite that shares this file uses it
    /// Waits until the operators logged something so many times.
    pub async fn until_logged(&self, text: &str, times: usize) {
        let logged = async {
            while self.operator_logs().matches(text).count() < times {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let in_time = tokio::time::timeout(LONG, logged).await;
        assert!(in_time.is_ok(), "not {times} times within {LONG:?}: {text}\n{}", self.operator_logs());
    }

    /// Waits until the Campaign's own condition says that all was delivered.
    pub async fn until_campaign_delivered(&self, count: i64) -> Campaign {
        self.until::<Campaign>("new-year", "Campaign Delivered", |c| {
            condition(&json!(c), "Delivered") == "True" && c.status.as_ref().unwrap().delivered == Some(count)
        })
        .await
    }

    /// I1 and I4, from CleverTap's side: everybody got one event, and nobody two.
    pub fn assert_each_got_one(&self, customers: usize) {
        let mut identities: Vec<String> = self.stand_in.events().into_iter().map(|e| e.identity).collect();
        identities.sort();
        let mut expected: Vec<String> = (1..=customers).map(|i| format!("customer-{i}")).collect();
        expected.sort();
        assert_eq!(identities, expected, "{}", self.operator_logs());
    }
}

pub fn rehearsed() -> DateTime<Utc> {
    NEW_YEAR.parse().unwrap()
}

async fn client(control_plane: &ControlPlane) -> Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let kubeconfig = Kubeconfig::read_from(control_plane.kubeconfig_path()).unwrap();
    Client::try_from(Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap()).unwrap()
}

async fn install_crds(client: &Client) {
    static INSTALLED: OnceCell<()> = OnceCell::const_new();
    INSTALLED.get_or_init(|| install_crds_once(client.clone())).await;
}

async fn install_crds_once(client: Client) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in crds::all() {
        let name = crd.name_any();
        api.patch(&name, &PatchParams::apply("test"), &Patch::Apply(&crd)).await.unwrap();
        let mut seen = std::pin::pin!(watcher::watch_object(api.clone(), &name).default_backoff());
        let established = |crd: &CustomResourceDefinition| {
            let conditions = crd.status.clone().unwrap_or_default().conditions.unwrap_or_default();
            conditions.iter().any(|c| c.type_ == "Established" && c.status == "True")
        };
        while !matches!(seen.next().await, Some(Ok(Some(crd))) if established(&crd)) {}
    }
    // The API server answers 429 for a moment after it learnt a kind.
    let ready = async {
        while Api::<Coupon>::all(client.clone()).list(&ListParams::default()).await.is_err()
            || Api::<Campaign>::all(client.clone()).list(&ListParams::default()).await.is_err()
            || Api::<Webhook>::all(client.clone()).list(&ListParams::default()).await.is_err()
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, ready).await.unwrap();
}

async fn create_namespace(client: &Client) -> String {
    let api: Api<Namespace> = Api::all(client.clone());
    let object = json!({ "metadata": { "generateName": "promise-", "labels": { REHEARSAL_LABEL: "true" } } });
    api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap().name_any()
}

/// The scenario's Webhook.
pub fn webhook() -> Value {
    example("Webhook")
}

/// The scenario's Campaign, for so many customers.
pub fn campaign(customers: usize) -> Value {
    let mut campaign = example("Campaign");
    let profiles: Vec<Value> = (1..=customers).map(|i| json!({ "integrationId": format!("customer-{i}") })).collect();
    campaign["spec"]["audience"]["profiles"] = profiles.into();
    campaign
}

/// A document of the scenario's manifests, by its kind.
pub fn example(kind: &str) -> Value {
    let text = include_str!("../../examples/clevertap-new-year.yaml");
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
    documents.into_iter().find(|d| d["kind"] == kind).unwrap()
}

/// The status of a condition; empty if there is none.
pub fn condition(object: &Value, type_: &str) -> String {
    condition_field(object, type_, "status")
}

/// Reason and message of a condition.
pub fn said(object: &Value, type_: &str) -> (String, String) {
    (condition_field(object, type_, "reason"), condition_field(object, type_, "message"))
}

fn condition_field(object: &Value, type_: &str, field: &str) -> String {
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.into_iter().find(|c| c["type"] == type_);
    found.and_then(|c| c[field].as_str().map(str::to_owned)).unwrap_or_default()
}

pub fn state(coupon: &Coupon) -> String {
    json!(coupon)["status"]["state"].as_str().unwrap_or_default().to_owned()
}

#[allow(dead_code)] // the benchmarks use it
/// A figure of a process's memory, such as `VmRSS:` (Linux).
pub fn mebibytes(process: u32, field: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}
