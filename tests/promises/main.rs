//! The promises, against a real kube-apiserver, the stand-in of CleverTap over TLS, and the real
//! binary, killed where it hurts.

mod against_cluster;
mod audience;
mod batches;
mod counting;
mod crash;
mod delivery;
mod examples;
mod guardrails;
mod healing;
mod issuing;
mod kinds;
mod million;
mod occurrences;
mod reports;
mod steered;
mod test_send;
mod time;
mod world;
