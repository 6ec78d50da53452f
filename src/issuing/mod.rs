//! Issuing: who gets a Coupon, under which name, with which code. Pure: it knows neither Kubernetes
//! clients nor HTTP.

pub mod chunks;
pub mod codes;
pub mod counts;
pub mod draft;
pub mod ledger;
pub mod names;
pub mod recipient;
pub mod selection;
