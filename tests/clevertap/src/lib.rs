//! A stand-in of CleverTap's API, faithful to what is known of it, for tests and the demo.
//!
//! What CleverTap documents is imitated as documented; what is only known from others' tests, or is
//! our assumption, is said so where it stands. See the README beside this crate.

mod answer;
mod api;
mod config;
mod fault;
mod http;
mod live;
mod outbox;
mod records;
mod server;
mod store;
mod tls;

pub use config::{Config, LiveCampaign, Profile};
pub use fault::Fault;
pub use server::{StandIn, Step};
pub use store::{Email, Event, Page, Received};
