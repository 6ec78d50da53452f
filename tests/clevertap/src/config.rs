//! What a stand-in is told when it starts.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

/// An account, its region and its customers.
#[derive(Clone, Debug)]
pub struct Config {
    pub account_id: String,
    pub passcode: String,
    /// Hosts of the account's region: any other region's host answers 401. Empty: every host will do.
    pub region_hosts: Vec<String>,
    /// Event names that the account discards (code 528).
    pub discarded_events: Vec<String>,
    /// CleverTap's default is 100 and configurable (its documentation).
    pub most_properties: usize,
    /// Requests that the upload API takes at once: 15 (CleverTap's documentation).
    pub in_flight_limit: usize,
    /// Requests that the other APIs take at once: 3 (CleverTap's documentation).
    pub other_in_flight_limit: usize,
    pub profiles: Vec<Profile>,
    pub live_campaign: LiveCampaign,
    /// What its clock shows at the start, if not the time.
    pub clock_start: Option<DateTime<Utc>>,
}

/// A customer whom the account knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    pub identity: String,
    pub name: String,
    pub email: Option<String>,
    pub properties: BTreeMap<String, String>,
}

/// The live-behaviour campaign that a person makes in CleverTap's dashboard.
#[derive(Clone, Debug)]
pub struct LiveCampaign {
    pub event: String,
    pub subject: String,
    pub message: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            account_id: "TEST-W8W-6WR-846Z".into(),
            passcode: "DEMO-PASS".into(),
            region_hosts: vec!["eu1.api.clevertap.com".into(), "api.clevertap.com".into()],
            discarded_events: Vec::new(),
            most_properties: 100,
            in_flight_limit: 15,
            other_in_flight_limit: 3,
            profiles: Vec::new(),
            live_campaign: LiveCampaign::default(),
            clock_start: None,
        }
    }
}

impl Default for LiveCampaign {
    fn default() -> Self {
        Self {
            event: "Coupon Generated".into(),
            subject: "Your coupon is here".into(),
            message: "Hello,\n\nyour coupon code is {{Event[\"CouponCode\"] | default:\"(no code)\"}}.\n\nEnjoy!"
                .into(),
        }
    }
}
