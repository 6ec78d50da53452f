//! The controllers: one folder a kind, each `fetch → validate → plan → apply → status`.

pub mod campaign;
pub mod context;
pub mod counting;
pub mod coupon;
pub mod error;
pub mod leadership;
pub mod own_writes;
pub mod run;
pub mod standing;
mod watches;
pub mod webhook;
mod writes;
