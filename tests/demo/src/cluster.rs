//! The cluster that the demo runs on: one of its own, or the current one.

use std::path::PathBuf;
use std::time::Duration;

use control_plane::ControlPlane;
use coupon_operator::api::campaign::Campaign;
use coupon_operator::api::{REHEARSAL_LABEL, conditions, crds};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Namespace as NamespaceObject;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::discovery::pinned_kind;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Config, ResourceExt};
use serde_json::Value;

use crate::Result;

const MANAGER: &str = "coupon-operator-demo";

/// A cluster to work on.
pub struct Cluster {
    pub client: Client,
    own: Option<ControlPlane>,
}

impl Cluster {
    /// A new API server, or with `CLUSTER=current` the one of the current kubeconfig.
    pub async fn start() -> Result<Self> {
        let current = match std::env::var("CLUSTER").as_deref() {
            Ok("current") => true,
            Ok("") | Err(_) => false,
            Ok(other) => {
                return Err(format!("CLUSTER={other} is not known: leave it out, or write CLUSTER=current").into());
            }
        };
        if current {
            let config = Config::from_kubeconfig(&KubeConfigOptions::default()).await?;
            println!("Using the current cluster, {}", config.cluster_url);
            return Ok(Self { client: Client::try_from(config)?, own: None });
        }
        let own = ControlPlane::start().await?;
        let kubeconfig = Kubeconfig::read_from(own.kubeconfig_path())?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        Ok(Self { client: Client::try_from(config)?, own: Some(own) })
    }

    /// The kubeconfig of the demo's own cluster.
    pub fn kubeconfig(&self) -> Option<PathBuf> {
        self.own.as_ref().map(ControlPlane::kubeconfig_path)
    }

    pub fn kubeconfig_hint(&self) -> String {
        self.kubeconfig().map_or_else(|| "(your current one)".to_owned(), |path| path.display().to_string())
    }

    /// Installs the CRDs with server-side apply. Those that are there must be the same.
    pub async fn install_crds(&self) -> Result<()> {
        let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        for crd in crds::all() {
            let name = crd.name_any();
            if self.own.is_none()
                && let Some(there) = api.get_opt(&name).await?
            {
                self.compare(&api, &crd, &there).await?;
            }
            api.patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&crd)).await?;
            wait(&api, &name, Duration::from_secs(20), |crd| {
                let conditions = crd.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
                conditions.iter().any(|c| c.type_ == "Established" && c.status == "True")
            })
            .await?;
        }
        Ok(())
    }

    /// A dry run shows what applying ours would change.
    async fn compare(
        &self,
        api: &Api<CustomResourceDefinition>,
        ours: &CustomResourceDefinition,
        there: &CustomResourceDefinition,
    ) -> Result<()> {
        let dry_run = PatchParams { dry_run: true, ..PatchParams::apply(MANAGER).force() };
        let applied = api.patch(&ours.name_any(), &dry_run, &Patch::Apply(ours)).await?;
        if applied.spec == there.spec {
            return Ok(());
        }
        Err(format!("this cluster has another version of the CRD {}: the demo would change it, so it stops here. Use another cluster, or leave CLUSTER out", ours.name_any()).into())
    }

    /// Applies every document of a file with server-side apply.
    pub async fn apply(&self, file: &str, namespace: &str) -> Result<()> {
        let text = std::fs::read_to_string(file)?;
        for document in serde_saphyr::from_multiple::<Value>(&text)? {
            let object: DynamicObject = serde_json::from_value(document)?;
            let types = object.types.clone().ok_or("a document has no kind")?;
            let (resource, _) = pinned_kind(&self.client, &GroupVersionKind::try_from(&types)?).await?;
            let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &resource);
            api.patch(&object.name_any(), &PatchParams::apply(MANAGER), &Patch::Apply(&object)).await?;
            println!("{}/{} applied", types.kind, object.name_any());
        }
        Ok(())
    }

    pub async fn wait_until_delivered(&self, namespace: &str, campaign: &str, longest: Duration) -> Result<()> {
        let api: Api<Campaign> = Api::namespaced(self.client.clone(), namespace);
        wait(&api, campaign, longest, |campaign| {
            campaign.status.as_ref().is_some_and(|status| {
                Some(status.observed_generation) == campaign.metadata.generation
                    && conditions::holds(&status.conditions, conditions::DELIVERED)
            })
        })
        .await
    }
}

/// Waits by watching one object until it holds.
async fn wait<K>(api: &Api<K>, name: &str, longest: Duration, holds: impl Fn(&K) -> bool) -> Result<()>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    let watched = async {
        let mut objects = std::pin::pin!(watcher::watch_object(api.clone(), name).default_backoff());
        while let Some(object) = objects.next().await {
            if matches!(object, Ok(Some(object)) if holds(&object)) {
                return;
            }
        }
    };
    let in_time = tokio::time::timeout(longest, watched).await;
    in_time.map_err(|_| format!("{name} did not come to the expected condition within {} s", longest.as_secs()).into())
}

/// A namespace of the demo's own, labelled for rehearsal.
pub struct Namespace {
    name: String,
    api: Api<NamespaceObject>,
    removed_with_cluster: bool,
}

impl Namespace {
    pub async fn create(cluster: &Cluster) -> Result<Self> {
        let api: Api<NamespaceObject> = Api::all(cluster.client.clone());
        let object = serde_json::from_value(serde_json::json!({
            "metadata": { "generateName": "coupon-operator-demo-", "labels": { REHEARSAL_LABEL: "true" } },
        }))?;
        let name = api.create(&PostParams::default(), &object).await?.name_any();
        Ok(Self { name, api, removed_with_cluster: cluster.own.is_some() })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Removes it from the current cluster. One of its own goes as a whole.
    pub async fn remove(self) -> Result<()> {
        if !self.removed_with_cluster {
            self.api.delete(&self.name, &DeleteParams::default()).await?;
            println!("Namespace {} removed; the CRDs stay, see crds/", self.name);
        }
        Ok(())
    }
}
