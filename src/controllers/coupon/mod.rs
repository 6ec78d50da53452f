//! Coupon: intent, send, result. `reconcile` plans and starts; a request runs beside it, in a task of
//! its own.

mod apply;
mod deliver;
mod fetch;
pub mod plan;
pub mod resolutions;
pub mod resolve;
pub mod status;

use std::sync::Arc;

use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;

use super::context::Context;
use super::error::Error;
use crate::api::coupon::Coupon;

/// Does what is next for a Coupon.
///
/// # Errors
/// Those of the API server.
pub async fn reconcile(object: Arc<DeserializeGuard<Coupon>>, context: Arc<Context>) -> Result<Action, Error> {
    let Some(fetched) = fetch::run(&object, &context) else { return Ok(Action::await_change()) };
    let plan = plan::run(&fetched.circumstances());
    apply::run(&fetched, plan, &context).await
}
