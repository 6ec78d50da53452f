//! Fetches what a Webhook names: the keys of Secrets and ConfigMaps, one GET for each object.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::core::DeserializeGuard;
use kube::{Api, Client, ResourceExt};

use super::validate::{FoundValue, Reference};
use crate::api::webhook::{Header, Webhook};
use crate::controllers::context::Context;
use crate::controllers::error::{Error, bounded};
use crate::delivery::secret::Redacted;

/// A Webhook with the values that it names.
pub struct Fetched {
    pub webhook: Webhook,
    pub namespace: String,
    pub values: BTreeMap<Reference, FoundValue>,
}

/// None if the Webhook is not for this process.
///
/// # Errors
/// Those of the API server.
pub async fn run(object: &DeserializeGuard<Webhook>, context: &Context) -> Result<Option<Fetched>, Error> {
    let namespace = object.namespace().unwrap_or_default();
    let Ok(webhook) = &object.0 else { return Ok(None) };
    if !context.works_in(&namespace) {
        return Ok(None);
    }
    let values = values(&webhook.spec.headers, &namespace, &context.client).await?;
    Ok(Some(Fetched { webhook: webhook.clone(), namespace, values }))
}

/// The values that headers name.
///
/// # Errors
/// Those of the API server. What is not there is no error here.
pub async fn values(
    headers: &[Header],
    namespace: &str,
    client: &Client,
) -> Result<BTreeMap<Reference, FoundValue>, Error> {
    let (mut secrets, mut config_maps) = (BTreeMap::new(), BTreeMap::new());
    let mut found = BTreeMap::new();
    for reference in headers.iter().filter_map(Reference::of) {
        let data = match &reference {
            Reference::Secret { name, .. } => match secrets.get(name) {
                Some(data) => data,
                None => secrets.entry(name.clone()).or_insert(secret(name, namespace, client).await?),
            },
            Reference::ConfigMap { name, .. } => match config_maps.get(name) {
                Some(data) => data,
                None => config_maps.entry(name.clone()).or_insert(config_map(name, namespace, client).await?),
            },
        };
        let value = match data {
            None => FoundValue::NoObject,
            Some(data) => data.get(reference.key()).map_or(FoundValue::NoKey, |v| FoundValue::Value(v.clone())),
        };
        found.insert(reference, value);
    }
    Ok(found)
}

type Data = Option<BTreeMap<String, Redacted<String>>>;

async fn secret(name: &str, namespace: &str, client: &Client) -> Result<Data, Error> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret = bounded(api.get_opt(name)).await?;
    // Bytes that are no text become characters that no header carries, and are reported as such.
    let text = |bytes: Vec<u8>| Redacted::new(String::from_utf8_lossy(&bytes).into_owned());
    Ok(secret.map(|s| s.data.unwrap_or_default().into_iter().map(|(key, value)| (key, text(value.0))).collect()))
}

async fn config_map(name: &str, namespace: &str, client: &Client) -> Result<Data, Error> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let map = bounded(api.get_opt(name)).await?;
    Ok(map.map(|m| m.data.unwrap_or_default().into_iter().map(|(key, value)| (key, Redacted::new(value))).collect()))
}
