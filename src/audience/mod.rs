//! Audiences: who a campaign's customers are, wherever that is written.

pub mod format;

use crate::api::campaign::Profile;

/// What was read of an audience that is not written in its Campaign.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// Those who were read, up to what is wrong.
    pub profiles: Vec<Profile>,
    /// What is wrong, if not all of it was read: reason and message.
    pub problem: Option<(&'static str, String)>,
}
