//! What was received, stored and sent.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use serde_json::Value;

use crate::records::Taken;
use crate::{Config, Fault, Profile, live};

/// A request as it was received.
#[derive(Clone, Debug, Serialize)]
pub struct Received {
    /// From 1, in the order in which requests came.
    pub number: u64,
    pub connection: u64,
    pub time: DateTime<Utc>,
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
    /// The answer's status; none if none was given.
    pub answered: Option<u16>,
    pub fault: Option<String>,
}

impl Received {
    /// A header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The identities of an upload's records.
    #[must_use]
    pub fn identities(&self) -> Vec<String> {
        let body: Value = serde_json::from_str(&self.body).unwrap_or_default();
        let records = body.get("d").and_then(Value::as_array).into_iter().flatten();
        records.filter_map(|r| r.get("identity")?.as_str().map(str::to_owned)).collect()
    }
}

/// An event that was stored. There is no de-duplication: what is sent twice stands twice.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Event {
    pub identity: String,
    pub name: String,
    pub data: Value,
    pub timestamp: i64,
    pub request: u64,
    /// From 1, in the request.
    pub record: usize,
}

/// An email that the live campaign sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Email {
    pub to: String,
    pub name: String,
    pub subject: String,
    pub body: String,
    pub time: DateTime<Utc>,
}

/// A page of a web server, which has nothing to do with CleverTap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The connection ends after so many bytes of the body.
    pub cut_after: Option<usize>,
}

impl Page {
    pub fn new(body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, body: body.into(), ..Self::default() }
    }

    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// Chooses a fault for a request.
pub type Chooser = dyn FnMut() -> Option<Fault> + Send;

/// Everything that the stand-in knows.
pub struct Store {
    pub config: Config,
    pub started: Instant,
    pub requests: Vec<Received>,
    pub events: Vec<Event>,
    pub emails: Vec<Email>,
    pub profiles: BTreeMap<String, Profile>,
    pub faults: VecDeque<Fault>,
    pub lasting_fault: Option<Fault>,
    pub faults_by_identity: HashMap<String, Fault>,
    pub chooser: Option<Box<Chooser>>,
    pub latency: std::time::Duration,
    pub uploads_in_flight: usize,
    pub others_in_flight: usize,
    pub in_flight_peak: usize,
    pub exports: HashMap<String, Vec<Value>>,
    pub not_ready: u32,
    pub pages: HashMap<String, Page>,
}

impl Store {
    pub fn new(config: Config) -> Self {
        let profiles = config.profiles.iter().map(|p| (p.identity.clone(), p.clone())).collect();
        Self {
            config,
            started: Instant::now(),
            requests: Vec::new(),
            events: Vec::new(),
            emails: Vec::new(),
            profiles,
            faults: VecDeque::new(),
            lasting_fault: None,
            faults_by_identity: HashMap::new(),
            chooser: None,
            latency: std::time::Duration::ZERO,
            uploads_in_flight: 0,
            others_in_flight: 0,
            in_flight_peak: 0,
            exports: HashMap::new(),
            not_ready: 0,
            pages: HashMap::new(),
        }
    }

    pub fn now(&self) -> DateTime<Utc> {
        let since = TimeDelta::from_std(self.started.elapsed()).unwrap_or_default();
        self.config.clock_start.map_or_else(Utc::now, |start| start + since)
    }

    /// The fault for an upload: by identity, then the next of the queue, then the lasting one.
    pub fn next_fault(&mut self, identities: &[String]) -> Option<Fault> {
        let by_identity = identities.iter().find_map(|id| self.faults_by_identity.get(id).cloned());
        let chosen = || self.chooser.as_mut().and_then(|choose| choose());
        by_identity.or_else(|| self.faults.pop_front()).or_else(|| self.lasting_fault.clone()).or_else(chosen)
    }

    /// Stores an event, makes an unknown identity a profile (CleverTap's documentation), and sends the
    /// live campaign's message if the profile has an email and the event is fresh.
    pub fn store(&mut self, taken: Taken, request: u64, record: usize) {
        let now = self.now();
        let timestamp = taken.timestamp.unwrap_or_else(|| now.timestamp());
        let profile = self
            .profiles
            .entry(taken.identity.clone())
            .or_insert_with(|| Profile { identity: taken.identity.clone(), ..Profile::default() });
        let campaign = &self.config.live_campaign;
        if taken.name == campaign.event
            && live::is_fresh(timestamp, now)
            && let (Some(to), Some(body)) = (profile.email.clone(), live::message(campaign, &taken.data))
        {
            let (name, subject) = (profile.name.clone(), campaign.subject.clone());
            self.emails.push(Email { to, name, subject, body, time: now });
        }
        let Taken { identity, name, data, .. } = taken;
        self.events.push(Event { identity, name, data, timestamp, request, record });
    }

    /// What was stored more than once: identity, event and data alike.
    pub fn duplicates(&self) -> Vec<Event> {
        let mut seen = HashSet::new();
        let mut again = Vec::new();
        for event in &self.events {
            if !seen.insert((&event.identity, &event.name, event.data.to_string())) {
                again.push(event.clone());
            }
        }
        again
    }
}
