//! Of several replicas one works: the one that holds a Lease.
//!
//! The Lease is for order, not for safety: what keeps two operators from sending a record twice is the precondition
//! of each intent. It keeps one account's pace in one process, and spares the replicas each other's conflicts.

use std::time::Duration;

use k8s_controller::LeaderElection;
use kube::Client;

/// How long a Lease lasts, and how it is kept: by default as Kubernetes' own controllers do (client-go).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    lease_duration: Duration,
    renew_deadline: Duration,
    retry_period: Duration,
}

/// Timings under which two could lead at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimingsError {
    #[error(
        "the lease duration must be longer than the renew deadline: a leader that cannot renew must have stopped \
         before another one starts"
    )]
    DeadlineTooLong,
    #[error("the renew deadline must be longer than the retry period")]
    RetryTooLong,
}

impl Timings {
    /// Another replica leads when the Lease was not renewed for `lease_duration`; the leader stops when it could not
    /// renew it for `renew_deadline`; it tries to, and others look at it, every `retry_period`.
    ///
    /// # Errors
    /// Unless each is longer than the next.
    pub fn new(
        lease_duration: Duration,
        renew_deadline: Duration,
        retry_period: Duration,
    ) -> Result<Self, TimingsError> {
        if renew_deadline >= lease_duration {
            return Err(TimingsError::DeadlineTooLong);
        }
        if retry_period >= renew_deadline {
            return Err(TimingsError::RetryTooLong);
        }
        Ok(Self { lease_duration, renew_deadline, retry_period })
    }
}

/// The Lease that replicas compete for.
#[derive(Clone, Debug)]
pub struct Leadership {
    /// Where the Lease is; the client's own namespace if absent, which in a pod is the pod's.
    pub namespace: Option<String>,
    pub timings: Timings,
}

impl Leadership {
    pub(super) fn election(&self, client: &Client, place: Place<'_>, sender: &str) -> LeaderElection {
        let namespace = self.namespace.as_deref().unwrap_or(client.default_namespace());
        LeaderElection::new(client.clone(), namespace, &place.lease_name(), &identity(sender))
            .with_lease_duration(self.timings.lease_duration)
            .with_renew_deadline(self.timings.renew_deadline)
            .with_retry_period(self.timings.retry_period)
    }
}

/// Whose work a replica competes for.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) rehearsal: bool,
    pub(super) watched: Option<&'a str>,
}

impl Place<'_> {
    /// Operators that work in different places do not wait for each other.
    fn lease_name(self) -> String {
        let rehearsal = if self.rehearsal { "-rehearsal" } else { "" };
        let watched = self.watched.map(|namespace| format!("-in-{namespace}")).unwrap_or_default();
        format!("coupon-operator{rehearsal}{watched}")
    }
}

/// Who this process is: its pod, and something that a container restarted in the same pod, or a second process on
/// the same machine, does not share. Equal identities would both lead.
fn identity(sender: &str) -> String {
    let host = ["POD_NAME", "HOSTNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    format!("{}_{sender}", host.as_deref().filter(|host| !host.is_empty()).unwrap_or("coupon-operator"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_that_cannot_renew_stops_before_another_starts() {
        let seconds = Duration::from_secs;
        assert!(Timings::new(seconds(15), seconds(10), seconds(2)).is_ok());
        let timings = |lease, deadline, retry| Timings::new(seconds(lease), seconds(deadline), seconds(retry));
        assert_eq!(timings(10, 10, 2), Err(TimingsError::DeadlineTooLong));
        assert_eq!(timings(15, 2, 2), Err(TimingsError::RetryTooLong));
    }

    #[test]
    fn operators_that_work_in_different_places_do_not_wait_for_each_other() {
        let name = |rehearsal, watched| Place { rehearsal, watched }.lease_name();
        assert_eq!(name(false, None), "coupon-operator");
        assert_eq!(name(true, None), "coupon-operator-rehearsal");
        assert_eq!(name(false, Some("shop")), "coupon-operator-in-shop");
        assert_eq!(name(true, Some("shop")), "coupon-operator-rehearsal-in-shop");
    }

    #[test]
    fn two_processes_of_one_pod_are_not_the_same() {
        assert_ne!(identity("1"), identity("2"));
    }
}
