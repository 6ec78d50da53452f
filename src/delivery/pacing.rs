//! Who may send next. Pure: tickets in, tickets out, with the time as an argument.
//!
//! Each Webhook has a lane, in which tickets wait in order. Lanes of the same account take turns, and
//! share its in-flight limit and its pace after a 429. A refused credential stops every lane that
//! uses it; a refused endpoint stops its own lane. What is not yet proven sends one request and waits
//! for its end.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::account::{AccountKey, CredentialDigest};
use super::outcome::Lesson;

/// Namespace and name of a Webhook.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneKey {
    pub namespace: String,
    pub webhook: String,
}

/// A request that waits for its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// What a lane is, each time its Webhook or its credentials change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneSetup {
    pub uid: String,
    pub generation: i64,
    pub account: AccountKey,
    pub account_limit: usize,
    pub credential: CredentialDigest,
    pub max_in_flight: usize,
    pub suspended: bool,
}

/// Why nothing is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pause {
    Credential { message: String },
    Endpoint { message: String },
    Address { message: String },
}

impl Pause {
    #[must_use]
    pub fn message(&self) -> &str {
        match self {
            Self::Credential { message } | Self::Endpoint { message } | Self::Address { message } => message,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
enum Gate {
    /// Nothing is known: one request at a time.
    #[default]
    Unproven,
    /// One request is on its way to find out.
    Probing,
    Proven,
}

impl Gate {
    fn lets_through(self) -> bool {
        self != Self::Probing
    }

    fn begin(&mut self) {
        if *self == Self::Unproven {
            *self = Self::Probing;
        }
    }

    fn end(&mut self, proven: bool) {
        *self = match *self {
            Self::Proven => Self::Proven,
            _ if proven => Self::Proven,
            _ => Self::Unproven,
        };
    }
}

#[derive(Debug)]
struct Lane {
    setup: LaneSetup,
    gate: Gate,
    pause: Option<Pause>,
    in_flight: usize,
    waiting: VecDeque<Ticket>,
}

#[derive(Debug, Default)]
struct Credential {
    gate: Gate,
    refused: Option<Refusal>,
}

/// A refused credential is tried again when the Webhook it was refused for changes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Refusal {
    lane: LaneKey,
    uid: String,
    generation: i64,
    message: String,
}

#[derive(Debug, Default)]
struct Account {
    in_flight: usize,
    not_before: Option<Instant>,
    throttled: u32,
    /// The lanes in the order of their turns.
    turns: VecDeque<LaneKey>,
}

/// A request that was let through.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Granted {
    lane: LaneKey,
    setup: LaneSetup,
}

/// The state of all lanes.
#[derive(Debug, Default)]
pub struct Pacing {
    lanes: HashMap<LaneKey, Lane>,
    credentials: HashMap<CredentialDigest, Credential>,
    accounts: HashMap<AccountKey, Account>,
    granted: HashMap<Ticket, Granted>,
}

impl Pacing {
    /// Notes what a Webhook is now. A new generation, or a new credential, is not yet proven.
    pub fn set_lane(&mut self, key: &LaneKey, setup: LaneSetup) {
        self.forgive(key, &setup);
        let turns = &mut self.accounts.entry(setup.account.clone()).or_default().turns;
        if !turns.contains(key) {
            turns.push_back(key.clone());
        }
        self.credentials.entry(setup.credential).or_default();
        let Some(lane) = self.lanes.get_mut(key) else {
            let lane = Lane { setup, gate: Gate::default(), pause: None, in_flight: 0, waiting: VecDeque::new() };
            self.lanes.insert(key.clone(), lane);
            return;
        };
        let other = lane.setup.uid != setup.uid || lane.setup.generation != setup.generation;
        if other {
            (lane.gate, lane.pause) = (Gate::default(), None);
        }
        let old_account = (lane.setup.account != setup.account).then(|| lane.setup.account.clone());
        lane.setup = setup;
        if let Some(account) = old_account.and_then(|account| self.accounts.get_mut(&account)) {
            account.turns.retain(|turn| turn != key);
        }
    }

    fn forgive(&mut self, key: &LaneKey, setup: &LaneSetup) {
        let Some(credential) = self.credentials.get_mut(&setup.credential) else { return };
        let changed = |r: &Refusal| r.lane == *key && (r.uid != setup.uid || r.generation != setup.generation);
        if credential.refused.as_ref().is_some_and(changed) {
            *credential = Credential::default();
        }
    }

    /// Why a Webhook sends nothing, if it does not.
    #[must_use]
    pub fn pause(&self, key: &LaneKey) -> Option<Pause> {
        let lane = self.lanes.get(key)?;
        let refused = self.credentials.get(&lane.setup.credential).and_then(|c| c.refused.as_ref());
        refused.map(|r| Pause::Credential { message: r.message.clone() }).or_else(|| lane.pause.clone())
    }

    /// Puts a ticket at the end of its lane. False if there is no such lane.
    pub fn enqueue(&mut self, key: &LaneKey, ticket: Ticket) -> bool {
        self.lanes.get_mut(key).map(|lane| lane.waiting.push_back(ticket)).is_some()
    }

    /// Lets through everybody who may go now.
    pub fn grant(&mut self, now: Instant) -> Vec<Ticket> {
        let accounts: Vec<AccountKey> = self.accounts.keys().cloned().collect();
        let mut granted = Vec::new();
        for account in accounts {
            while let Some(ticket) = self.grant_one(&account, now) {
                granted.push(ticket);
            }
        }
        granted
    }

    /// When somebody may go who may not now, only because of the time.
    #[must_use]
    pub fn next_change(&self, now: Instant) -> Option<Instant> {
        let waiting = |a: &Account| a.turns.iter().any(|k| self.lanes.get(k).is_some_and(|l| !l.waiting.is_empty()));
        self.accounts.values().filter(|a| waiting(a)).filter_map(|a| a.not_before).filter(|at| *at > now).min()
    }

    fn grant_one(&mut self, account_key: &AccountKey, now: Instant) -> Option<Ticket> {
        let account = self.accounts.get_mut(account_key)?;
        if account.not_before.is_some_and(|at| at > now) {
            return None;
        }
        for _ in 0..account.turns.len() {
            let key = account.turns.pop_front()?;
            account.turns.push_back(key.clone());
            let Some(lane) = self.lanes.get_mut(&key) else { continue };
            let credential = self.credentials.entry(lane.setup.credential).or_default();
            if account.in_flight >= lane.setup.account_limit || !may_go(lane, credential) {
                continue;
            }
            let Some(ticket) = lane.waiting.pop_front() else { continue };
            lane.gate.begin();
            credential.gate.begin();
            lane.in_flight = lane.in_flight.saturating_add(1);
            account.in_flight = account.in_flight.saturating_add(1);
            self.granted.insert(ticket, Granted { lane: key, setup: lane.setup.clone() });
            return Some(ticket);
        }
        None
    }

    /// Takes a ticket back that was not used, or notes what came of it.
    pub fn finish(&mut self, ticket: Ticket, lesson: Lesson, message: &str, now: Instant) {
        let Some(granted) = self.granted.remove(&ticket) else {
            self.lanes.values_mut().for_each(|lane| lane.waiting.retain(|t| *t != ticket));
            return;
        };
        let proven = lesson == Lesson::Proven;
        if let Some(lane) = self.lanes.get_mut(&granted.lane) {
            lane.in_flight = lane.in_flight.saturating_sub(1);
            let same = lane.setup.uid == granted.setup.uid && lane.setup.generation == granted.setup.generation;
            if same {
                lane.gate.end(proven);
                lane.learn(lesson, message);
            }
        }
        if let Some(credential) = self.credentials.get_mut(&granted.setup.credential) {
            credential.gate.end(proven);
            if lesson == Lesson::CredentialRefused {
                *credential = Credential { gate: Gate::Unproven, refused: Some(Refusal::of(&granted, message)) };
            }
        }
        if let Some(account) = self.accounts.get_mut(&granted.setup.account) {
            account.in_flight = account.in_flight.saturating_sub(1);
            account.learn(lesson, now);
        }
    }
}

fn may_go(lane: &Lane, credential: &Credential) -> bool {
    lane.pause.is_none()
        && credential.refused.is_none()
        && !lane.setup.suspended
        && lane.in_flight < lane.setup.max_in_flight
        && lane.gate.lets_through()
        && credential.gate.lets_through()
}

impl Lane {
    fn learn(&mut self, lesson: Lesson, message: &str) {
        let message = message.to_owned();
        match lesson {
            Lesson::EndpointRefused => self.pause = Some(Pause::Endpoint { message }),
            Lesson::AddressRefused => self.pause = Some(Pause::Address { message }),
            Lesson::Proven | Lesson::Nothing | Lesson::CredentialRefused | Lesson::Throttled { .. } => {}
        }
    }
}

impl Account {
    /// After a 429 the account rests, longer each time, until a request succeeds again.
    fn learn(&mut self, lesson: Lesson, now: Instant) {
        match lesson {
            Lesson::Throttled { retry_after } => {
                self.throttled = self.throttled.saturating_add(1).min(7);
                let rest =
                    Duration::from_millis(500).saturating_mul(2_u32.saturating_pow(self.throttled.saturating_sub(1)));
                let until = now.checked_add(rest.max(retry_after.unwrap_or_default()));
                self.not_before = self.not_before.max(until);
            }
            Lesson::Proven => self.throttled = 0,
            _ => {}
        }
    }
}

impl Refusal {
    fn of(granted: &Granted, message: &str) -> Self {
        Self {
            lane: granted.lane.clone(),
            uid: granted.setup.uid.clone(),
            generation: granted.setup.generation,
            message: message.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
