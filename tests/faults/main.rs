//! I1 to I5 under faults: the real binary, a real kube-apiserver, the stand-in of CleverTap over TLS, and between
//! operator and API server a proxy that kills the operator, answers in the API server's place, loses answers,
//! and bends watches. What came of it is checked from the stand-in's own record against the Coupons' statuses.
//!
//! `FAULTS=all` tries every call at every position; without it a sample is tried, which `FAULTS_SEED` chooses.
//! Seeds are printed.

mod doubt;
mod leadership;
mod matrix;
mod proxy;
mod verdict;
mod watches;
#[path = "../promises/world.rs"]
#[allow(dead_code)]
mod world;
