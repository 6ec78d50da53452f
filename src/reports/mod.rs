//! What Coupons say, for people and other systems. Pure: it knows no client.

pub mod codes;
pub mod failures;
pub mod progress;
