//! Schedules: compared with a second, slow and obvious implementation, with published vectors, and with
//! other libraries.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects, clippy::panic)]

mod agreement;
mod bounded;
mod model;
mod random;
mod vectors;
