//! Writes of which nothing but the metadata comes back: a Coupon takes a megabyte at most, and whoever writes it has it.

use std::fmt::Debug;

use http::header::{ACCEPT, HeaderValue};
use kube::api::PostParams;
use kube::core::{PartialObjectMeta, Request};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{Error, bounded};

/// What the API server answers with (Kubernetes API concepts, "Metadata-only fetches").
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

/// Creates an object.
pub async fn create<K>(client: &Client, api: &Api<K>, object: &K) -> Result<PartialObjectMeta<K>, Error>
where
    K: Resource<DynamicType = ()> + Serialize + DeserializeOwned + Clone + Debug,
{
    let request = Request::new(api.resource_url()).create(&PostParams::default(), body(object)?);
    send(client, request.map_err(kube::Error::BuildRequest)?).await
}

/// Replaces an object's status, with its resourceVersion as the precondition.
pub async fn replace_status<K>(client: &Client, api: &Api<K>, object: &K) -> Result<PartialObjectMeta<K>, Error>
where
    K: Resource<DynamicType = ()> + Serialize + DeserializeOwned + Clone + Debug,
{
    let requests = Request::new(api.resource_url());
    let request = requests.replace_subresource("status", &object.name_any(), &PostParams::default(), body(object)?);
    send(client, request.map_err(kube::Error::BuildRequest)?).await
}

fn body(object: &impl Serialize) -> Result<Vec<u8>, Error> {
    Ok(serde_json::to_vec(object).map_err(kube::Error::SerdeError)?)
}

async fn send<K: DeserializeOwned>(
    client: &Client,
    mut request: http::Request<Vec<u8>>,
) -> Result<PartialObjectMeta<K>, Error> {
    request.headers_mut().insert(ACCEPT, HeaderValue::from_static(METADATA));
    bounded(client.request(request)).await
}
