//! Delivery: a request, its outcome, and the pace of many. The choices are pure; only [`client`] and
//! [`pacer`] touch the network or the runtime.

pub mod account;
pub mod address;
pub mod breaker;
pub mod clevertap;
pub mod client;
pub mod endpoint;
pub mod outcome;
pub mod pacer;
pub mod pacing;
pub mod progress;
pub mod retry;
pub mod secret;
pub mod success;
