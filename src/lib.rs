//! An operator that issues one coupon code per customer when a campaign's window opens, and delivers it.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

pub mod api;
pub mod audience;
pub mod clock;
pub mod controllers;
pub mod delivery;
pub mod issuing;
pub mod manifests;
pub mod preview;
pub mod records;
pub mod reports;
pub mod rules;
pub mod schedule;
pub mod template;
