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
use std::time::Duration;

use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;

use super::context::Context;
use super::error::Error;
use crate::api::coupon::Coupon;
use crate::records::Records;

/// After so long a Coupon is looked at again that its watch should have shown as this process wrote it.
const WATCH_GRACE: Duration = Duration::from_secs(2);

/// Does what is next for a Coupon.
///
/// # Errors
/// Those of the API server.
pub async fn reconcile(object: Arc<DeserializeGuard<Coupon>>, context: Arc<Context>) -> Result<Action, Error> {
    if object.0.as_ref().is_ok_and(|seen| context.own_writes.replaced(seen)) {
        // The watch will show it as it is now; or has, while it listed all anew.
        return Ok(Action::requeue(WATCH_GRACE));
    }
    let Some(fetched) = fetch::run(&object, &context) else { return Ok(Action::await_change()) };
    let plan = plan::run(&fetched.circumstances());
    if plan.writes() && !Records::of(&fetched.coupon.spec).are_held() {
        // What is written may speak of each row.
        let Some(whole) = fetch::whole(fetched, &context).await? else { return Ok(Action::await_change()) };
        let plan = plan::run(&whole.circumstances());
        return apply::run(&whole, plan, &context).await;
    }
    apply::run(&fetched, plan, &context).await
}
