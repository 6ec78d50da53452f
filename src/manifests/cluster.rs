//! What only a cluster knows of manifests: whether its API server takes them, whether what they name
//! exists, and whether applying them would give somebody a second code.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use chrono::{DateTime, Utc};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{ListParams, Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Finding, Manifests, Severity, regrants};
use crate::api::campaign::Campaign;
use crate::api::webhook::{Header, Webhook};

/// Where manifests are compared. Objects without a namespace are meant for this one.
pub struct Cluster {
    pub client: Client,
    pub namespace: String,
}

/// A cluster that could not be asked.
#[derive(Debug, thiserror::Error)]
#[error("the cluster could not be asked: {0}")]
pub struct ClusterError(#[from] kube::Error);

impl Cluster {
    /// Adds the Webhooks that the Campaigns name and the files do not have.
    ///
    /// # Errors
    /// Those of the API server.
    pub async fn complete(&self, manifests: &mut Manifests) -> Result<(), ClusterError> {
        let mut wanted = BTreeSet::new();
        for (_, campaign) in &manifests.campaigns {
            let sends = campaign.spec.rules.iter().flat_map(|r| &r.effects).filter_map(|e| e.send_webhook.as_ref());
            let names = sends.map(|send| send.webhook_ref.name.clone());
            let absent = names.filter(|name| manifests.webhook(campaign.metadata.namespace.as_deref(), name).is_none());
            wanted.extend(absent.map(|name| (campaign.namespace(), name)));
        }
        for (namespace, name) in wanted {
            let found: Option<Webhook> = self.api(namespace.as_deref()).get_opt(&name).await?;
            if let Some(mut webhook) = found {
                webhook.metadata.namespace = namespace;
                manifests.webhooks.push(("the cluster".to_owned(), webhook));
            }
        }
        Ok(())
    }

    /// What is wrong with manifests, or worth a warning, in this cluster.
    ///
    /// # Errors
    /// Those of the API server, but for what it says of the objects themselves.
    pub async fn check(&self, manifests: &Manifests, now: DateTime<Utc>) -> Result<Vec<Finding>, ClusterError> {
        let mut findings = Vec::new();
        for (file, webhook) in manifests.webhooks().filter(|(file, _)| *file != "the cluster") {
            findings.extend(self.refusal(file, webhook).await?);
            findings.extend(self.absent_sources(manifests, file, webhook).await?);
        }
        for (file, campaign) in &manifests.campaigns {
            findings.extend(self.refusal(file, campaign).await?);
            findings.extend(self.regrants(manifests, file, campaign, now).await?);
        }
        Ok(findings)
    }

    fn api<K>(&self, namespace: Option<&str>) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), namespace.unwrap_or(&self.namespace))
    }

    /// What the API server says of an object, by a dry run.
    async fn refusal<K>(&self, file: &str, object: &K) -> Result<Option<Finding>, ClusterError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Serialize + DeserializeOwned + Debug,
    {
        let params = PatchParams { dry_run: true, ..PatchParams::apply("coupon-operator-validate").force() };
        let api: Api<K> = self.api(object.meta().namespace.as_deref());
        match api.patch(&object.name_any(), &params, &Patch::Apply(object)).await {
            Ok(_) => Ok(None),
            Err(kube::Error::Api(status)) if matches!(status.code, 400 | 404 | 422) => {
                let place = format!("{}/{}", K::kind(&()), object.name_any());
                let message = format!("the API server refuses it: {}", status.message);
                Ok(Some(Finding::new(file, &place, message, Severity::Error)))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Secrets and ConfigMaps that a Webhook names and that are neither in the files nor in the cluster.
    async fn absent_sources(
        &self,
        manifests: &Manifests,
        file: &str,
        webhook: &Webhook,
    ) -> Result<Vec<Finding>, ClusterError> {
        let mut findings = Vec::new();
        let namespace = webhook.metadata.namespace.as_deref();
        for (i, header) in webhook.spec.headers.iter().enumerate() {
            let Some((kind, name, key)) = source(header) else { continue };
            let keys = match manifests.data_keys.get(&(kind, webhook.namespace(), name.to_owned())) {
                Some(keys) => Some(keys.clone()),
                None if kind == "Secret" => self.api::<Secret>(namespace).get_opt(name).await?.map(keys_of_secret),
                None => self.api::<ConfigMap>(namespace).get_opt(name).await?.map(keys_of_config_map),
            };
            let problem = match keys {
                None => format!("{kind} {name} is neither in the files nor in the cluster"),
                Some(keys) if !keys.contains(key) => format!("{kind} {name} has no key {key}"),
                Some(_) => continue,
            };
            let place = format!("Webhook/{}", webhook.name_any());
            findings.push(Finding::new(
                file,
                &place,
                format!("spec.headers[{i}].valueFrom: {problem}"),
                Severity::Warning,
            ));
        }
        Ok(findings)
    }

    async fn regrants(
        &self,
        manifests: &Manifests,
        file: &str,
        campaign: &Campaign,
        now: DateTime<Utc>,
    ) -> Result<Vec<Finding>, ClusterError> {
        let namespace = campaign.metadata.namespace.as_deref();
        let found =
            |message| Finding::new(file, &format!("Campaign/{}", campaign.name_any()), message, Severity::Warning);
        let api: Api<Campaign> = self.api(namespace);
        if let Some(current) = api.get_opt(&campaign.name_any()).await? {
            return Ok(regrants::of_edit(&current, campaign, now).into_iter().map(found).collect());
        }
        let in_files = |name: &str| {
            manifests
                .campaigns
                .iter()
                .any(|(_, c)| c.metadata.namespace.as_deref() == namespace && c.name_any() == name)
        };
        let others = api.list(&ListParams::default()).await?.items.into_iter().filter(|c| !in_files(&c.name_any()));
        Ok(others.filter_map(|other| regrants::of_rename(&other, campaign, now)).map(found).collect())
    }
}

fn source(header: &Header) -> Option<(&'static str, &str, &str)> {
    let from = header.value_from.as_ref()?;
    let secret = from.secret_key_ref.as_ref().map(|key| ("Secret", key.name.as_str(), key.key.as_str()));
    secret.or_else(|| from.config_map_key_ref.as_ref().map(|key| ("ConfigMap", key.name.as_str(), key.key.as_str())))
}

fn keys_of_secret(secret: Secret) -> BTreeSet<String> {
    secret.data.unwrap_or_default().into_keys().collect()
}

fn keys_of_config_map(map: ConfigMap) -> BTreeSet<String> {
    map.data.unwrap_or_default().into_keys().collect()
}

/// The keys of the Secrets and ConfigMaps in files, by kind, namespace and name.
pub(super) type DataKeys = BTreeMap<(&'static str, Option<String>, String), BTreeSet<String>>;
