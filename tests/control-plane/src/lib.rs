//! A real kube-apiserver and etcd for tests and the demo, on a machine with cargo and Go and nothing
//! else: found, downloaded or built once, booted in seconds on free loopback ports, and stopped for
//! certain, however the process that started them ends.

mod boot;
mod certificates;
mod compile;
mod error;
mod find;
mod guarded;

pub use boot::{ControlPlane, shared};
pub use error::Error;
pub use find::{Binaries, ensure};
pub use guarded::{GuardedChild, Spawn};

/// The version that is built when none is found.
pub const KUBERNETES_VERSION: &str = "1.36.3";
