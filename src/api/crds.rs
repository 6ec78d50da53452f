//! The CRDs as they are installed.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionSpec, JSON, JSONSchemaProps,
};
use kube::CustomResourceExt;
use serde_json::{Value, json};

use super::campaign::Campaign;
use super::coupon::Coupon;
use super::webhook::Webhook;

/// The three CRDs, in the order in which they refer to each other.
#[must_use]
pub fn all() -> Vec<CustomResourceDefinition> {
    let unseen = json!({ "observedGeneration": -1 });
    let pending = json!({ "observedGeneration": -1, "state": "Pending" });
    vec![
        with_status_default(Webhook::crd(), &unseen),
        with_status_default(Campaign::crd(), &unseen),
        with_status_default(Coupon::crd(), &pending),
    ]
}

/// The name of the file in `crds/` that holds a CRD.
#[must_use]
pub fn file_name(crd: &CustomResourceDefinition) -> String {
    format!("{}.yaml", crd.spec.names.plural)
}

/// A CRD as YAML.
///
/// # Errors
/// If it cannot be written as YAML, which would be a defect of this program.
pub fn to_yaml(crd: &CustomResourceDefinition) -> Result<String, serde_saphyr::ser::Error> {
    serde_saphyr::to_string(crd)
}

/// The derive has no word for a default of the whole status: without it, an object that no
/// controller has seen would count as current for kstatus, and a new Coupon would have no state to
/// select it by.
fn with_status_default(mut crd: CustomResourceDefinition, default: &Value) -> CustomResourceDefinition {
    for status in status_schemas(&mut crd.spec) {
        status.default = Some(JSON(default.clone()));
        status.nullable = None;
    }
    crd
}

fn status_schemas(spec: &mut CustomResourceDefinitionSpec) -> impl Iterator<Item = &mut JSONSchemaProps> {
    spec.versions
        .iter_mut()
        .filter_map(|v| v.schema.as_mut()?.open_api_v3_schema.as_mut()?.properties.as_mut()?.get_mut("status"))
}
