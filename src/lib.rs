//! An operator that issues one coupon code per customer when a campaign's window opens, and delivers it.

pub mod api;
pub mod clock;
pub mod controllers;
pub mod delivery;
pub mod issuing;
pub mod manifests;
pub mod schedule;
pub mod template;
