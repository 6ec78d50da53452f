//! Errors of a reconcile, and what follows of each.

use std::future::Future;
use std::time::Duration;

/// No call to the API server may take longer. Watches are not bounded by it.
const CALL_DEADLINE: Duration = Duration::from_secs(15);

/// A reconcile that did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the API server: {0}")]
    Api(#[from] kube::Error),
    #[error("the API server did not answer within {} s", CALL_DEADLINE.as_secs())]
    Deadline,
    /// Somebody else wrote the object meanwhile: what was planned is planned anew.
    #[error("{0} was changed meanwhile")]
    Changed(String),
    /// What was read of an audience cannot be read again.
    #[error("the audience: {0}")]
    Audience(String),
}

/// What follows of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Trying again will not help until something changes: tried again slowly.
    Terminal,
    /// May pass by itself.
    Transient,
    /// The API server asks for a slower pace.
    Throttled,
    /// Plan anew, now.
    Conflict,
}

impl Error {
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Changed(_) => Class::Conflict,
            Self::Api(kube::Error::Api(status)) => match status.code {
                409 => Class::Conflict,
                429 => Class::Throttled,
                400 | 401 | 403 | 404 | 405 | 413 | 422 => Class::Terminal,
                _ => Class::Transient,
            },
            Self::Api(_) | Self::Deadline | Self::Audience(_) => Class::Transient,
        }
    }

    /// True if the object is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.has_code(404)
    }

    /// True if the write lost against another.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Changed(_)) || self.has_code(409)
    }

    fn has_code(&self, code: u16) -> bool {
        matches!(self, Self::Api(kube::Error::Api(status)) if status.code == code)
    }

    /// How long to wait before the next try, after so many failures in a row.
    #[must_use]
    pub fn retry_after(&self, failures: u32) -> Duration {
        let grown = |first: u64, longest: u64| {
            Duration::from_millis(first.saturating_mul(2_u64.saturating_pow(failures.min(16))).min(longest))
        };
        match self.class() {
            Class::Conflict => grown(20, 2_000),
            Class::Transient => grown(250, 30_000),
            Class::Throttled => grown(1_000, 60_000),
            Class::Terminal => grown(5_000, 300_000),
        }
    }
}

/// A call to the API server with a deadline.
///
/// # Errors
/// Those of the call, and [`Error::Deadline`].
pub async fn bounded<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, Error> {
    tokio::time::timeout(CALL_DEADLINE, call).await.map_err(|_| Error::Deadline)?.map_err(Error::Api)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(code: u16) -> Error {
        Error::Api(kube::Error::Api(Box::new(kube::core::Status { code, ..Default::default() })))
    }

    #[test]
    fn errors_are_told_apart_by_what_follows() {
        for (code, class) in [
            (409, Class::Conflict),
            (429, Class::Throttled),
            (403, Class::Terminal),
            (500, Class::Transient),
            (504, Class::Transient),
        ] {
            assert_eq!(api(code).class(), class, "{code}");
        }
        assert_eq!(Error::Deadline.class(), Class::Transient);
    }

    #[test]
    fn waits_grow_and_end() {
        for code in [409, 429, 403, 500] {
            let waits: Vec<Duration> = [0, 1, 2, u32::MAX].map(|n| api(code).retry_after(n)).into();
            assert!(waits.is_sorted() && waits[3] <= Duration::from_secs(300), "{waits:?}");
        }
    }
}
