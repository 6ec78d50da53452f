//! Who may send next. Pure: tickets in, tickets out, with the time as an argument.
//!
//! Each Webhook has a lane, in which the tickets of each Campaign wait in order. Lanes of the same account share
//! its in-flight limit and its pace after a 429; whoever of its namespaces has the fewest requests in flight is
//! next, and of a namespace the Campaign that has the fewest, so that nobody who holds places for long keeps
//! others from theirs. A refused credential stops every lane that uses it; a refused or broken endpoint stops
//! its own lane. What is not yet proven sends one request and waits for its end.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use super::account::{AccountKey, CredentialDigest};
use super::breaker::Breaker;
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

/// Whose request it is.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Sender {
    /// Empty for a Coupon that a person wrote.
    pub campaign: String,
    pub coupon: String,
}

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
    Credential {
        message: String,
    },
    Endpoint {
        message: String,
    },
    Address {
        message: String,
    },
    /// The endpoint failed for several Coupons in a row: one request at a time finds out when it works again.
    Failing {
        message: String,
    },
}

impl Pause {
    #[must_use]
    pub fn message(&self) -> &str {
        match self {
            Self::Credential { message }
            | Self::Endpoint { message }
            | Self::Address { message }
            | Self::Failing { message } => message,
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
    breaker: Breaker,
    in_flight: usize,
    /// Those who wait, by Campaign: Coupons by ticket, whose numbers grow.
    waiting: BTreeMap<String, BTreeMap<Ticket, String>>,
    /// When it had its last turn.
    served: u64,
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

#[derive(Debug)]
struct Account {
    limit: usize,
    in_flight: usize,
    /// So many at once after a 429, more again with each success.
    allowed: usize,
    successes: usize,
    not_before: Option<Instant>,
    throttled: u32,
    lanes: BTreeSet<LaneKey>,
    /// What namespaces, and their Campaigns, have of it.
    shares: HashMap<Share, Load>,
    /// Counts turns.
    turn: u64,
}

/// Who takes turns: a namespace, or a Campaign of it.
type Share = (String, Option<String>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Load {
    in_flight: usize,
    /// When it had its last turn.
    served: u64,
}

/// A request that was let through.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Granted {
    lane: LaneKey,
    setup: LaneSetup,
    sender: Sender,
    /// It finds out whether a broken endpoint works again.
    probe: bool,
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
        let limit = setup.account_limit;
        let account = self.accounts.entry(setup.account.clone()).or_insert_with(|| Account::new(limit));
        account.lanes.insert(key.clone());
        self.credentials.entry(setup.credential).or_default();
        let Some(lane) = self.lanes.get_mut(key) else {
            self.lanes.insert(key.clone(), Lane::new(setup));
            return;
        };
        let other = lane.setup.uid != setup.uid || lane.setup.generation != setup.generation;
        if other {
            (lane.gate, lane.pause, lane.breaker) = (Gate::default(), None, Breaker::default());
        }
        let old_account = (lane.setup.account != setup.account).then(|| lane.setup.account.clone());
        lane.setup = setup;
        if let Some(account) = old_account.and_then(|account| self.accounts.get_mut(&account)) {
            account.lanes.remove(key);
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
        let refused = refused.map(|r| Pause::Credential { message: r.message.clone() });
        let failing = || lane.breaker.message().map(|message| Pause::Failing { message: message.to_owned() });
        refused.or_else(|| lane.pause.clone()).or_else(failing)
    }

    /// Puts a ticket at the end of its Campaign's in a lane: each has a higher number than those before. False if there is no such lane.
    pub fn enqueue(&mut self, key: &LaneKey, sender: Sender, ticket: Ticket) -> bool {
        let Some(lane) = self.lanes.get_mut(key) else { return false };
        lane.waiting.entry(sender.campaign).or_default().insert(ticket, sender.coupon);
        true
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
        let waits = |key: &LaneKey| self.lanes.get(key).filter(|lane| !lane.waiting.is_empty());
        let of_account = |account: &Account| {
            let rests =
                account.lanes.iter().filter_map(waits).map(|lane| lane.breaker.rests_until()).collect::<Vec<_>>();
            let not_before = account.not_before.filter(|_| !rests.is_empty());
            rests.into_iter().flatten().chain(not_before).filter(|at| *at > now).min()
        };
        self.accounts.values().filter_map(of_account).min()
    }

    fn grant_one(&mut self, account_key: &AccountKey, now: Instant) -> Option<Ticket> {
        let account = self.accounts.get_mut(account_key)?;
        if account.not_before.is_some_and(|at| at > now) || account.in_flight >= account.allowed.min(account.limit) {
            return None;
        }
        let (lanes, credentials) = (&self.lanes, &self.credentials);
        let ready = account.lanes.iter().filter_map(|key| Some((key, lanes.get(key)?)));
        let ready = ready.filter(|(_, lane)| may_go(lane, credentials.get(&lane.setup.credential), now));
        let candidates = ready.flat_map(|(key, lane)| lane.waiting.keys().map(move |campaign| (key, lane, campaign)));
        let next = candidates.min_by_key(|(key, lane, campaign)| {
            let namespace = account.load(&(key.namespace.clone(), None));
            (namespace, account.load(&(key.namespace.clone(), Some((*campaign).clone()))), lane.served)
        });
        let (key, campaign) = next.map(|(key, _, campaign)| (key.clone(), campaign.clone()))?;
        let lane = self.lanes.get_mut(&key)?;
        let (ticket, coupon) = lane.take(&campaign)?;
        let credential = self.credentials.entry(lane.setup.credential).or_default();
        credential.gate.begin();
        let probe = lane.begin(account.turn);
        account.begin(&key.namespace, &campaign);
        let sender = Sender { campaign, coupon };
        self.granted.insert(ticket, Granted { lane: key, setup: lane.setup.clone(), sender, probe });
        Some(ticket)
    }

    /// Takes a ticket back that was not used, or notes what came of it. True if a Webhook is paused by it, or goes
    /// on.
    pub fn finish(&mut self, ticket: Ticket, lesson: Lesson, message: &str, now: Instant) -> bool {
        let Some(granted) = self.granted.remove(&ticket) else {
            self.lanes.values_mut().for_each(|lane| lane.forget(ticket));
            return false;
        };
        let proven = lesson == Lesson::Proven;
        let mut changed = lesson == Lesson::CredentialRefused;
        if let Some(lane) = self.lanes.get_mut(&granted.lane) {
            lane.in_flight = lane.in_flight.saturating_sub(1);
            let same = lane.setup.uid == granted.setup.uid && lane.setup.generation == granted.setup.generation;
            if same {
                lane.gate.end(proven);
                changed |= lane.learn(&granted, lesson, message, now);
            }
        }
        if let Some(credential) = self.credentials.get_mut(&granted.setup.credential) {
            credential.gate.end(proven);
            if lesson == Lesson::CredentialRefused {
                *credential = Credential { gate: Gate::Unproven, refused: Some(Refusal::of(&granted, message)) };
            }
        }
        if let Some(account) = self.accounts.get_mut(&granted.setup.account) {
            account.end(&granted);
            account.learn(lesson, now);
        }
        changed
    }
}

fn may_go(lane: &Lane, credential: Option<&Credential>, now: Instant) -> bool {
    lane.pause.is_none()
        && !lane.setup.suspended
        && lane.in_flight < lane.setup.max_in_flight
        && lane.gate.lets_through()
        && lane.breaker.lets_through(now)
        && credential.is_none_or(|credential| credential.refused.is_none() && credential.gate.lets_through())
}

impl Lane {
    fn new(setup: LaneSetup) -> Self {
        let (gate, breaker) = (Gate::default(), Breaker::default());
        Self { setup, gate, pause: None, breaker, in_flight: 0, waiting: BTreeMap::new(), served: 0 }
    }

    fn take(&mut self, campaign: &str) -> Option<(Ticket, String)> {
        let queue = self.waiting.get_mut(campaign)?;
        let taken = queue.pop_first();
        if queue.is_empty() {
            self.waiting.remove(campaign);
        }
        taken
    }

    fn forget(&mut self, ticket: Ticket) {
        self.waiting.retain(|_, queue| {
            queue.remove(&ticket);
            !queue.is_empty()
        });
    }

    /// True if the request finds out whether the endpoint works again.
    fn begin(&mut self, turn: u64) -> bool {
        self.gate.begin();
        self.in_flight = self.in_flight.saturating_add(1);
        self.served = turn;
        self.breaker.begin()
    }

    /// True if it is paused by it, or goes on.
    fn learn(&mut self, granted: &Granted, lesson: Lesson, message: &str, now: Instant) -> bool {
        let said = message.to_owned();
        match lesson {
            Lesson::EndpointRefused => self.pause = Some(Pause::Endpoint { message: said }),
            Lesson::AddressRefused => self.pause = Some(Pause::Address { message: said }),
            Lesson::Failed => return self.breaker.failed(&granted.sender.coupon, granted.probe, message, now),
            Lesson::Proven | Lesson::CredentialRefused | Lesson::Throttled { .. } => return self.breaker.worked(),
            Lesson::Nothing => {
                self.breaker.unused(granted.probe);
                return false;
            }
        }
        true
    }
}

impl Account {
    fn new(limit: usize) -> Self {
        Self {
            limit,
            in_flight: 0,
            allowed: limit,
            successes: 0,
            not_before: None,
            throttled: 0,
            lanes: BTreeSet::new(),
            shares: HashMap::new(),
            turn: 0,
        }
    }

    fn load(&self, share: &Share) -> Load {
        self.shares.get(share).copied().unwrap_or_default()
    }

    fn begin(&mut self, namespace: &str, campaign: &str) {
        self.in_flight = self.in_flight.saturating_add(1);
        self.turn = self.turn.saturating_add(1);
        for share in [(namespace.to_owned(), None), (namespace.to_owned(), Some(campaign.to_owned()))] {
            let load = self.shares.entry(share).or_default();
            *load = Load { in_flight: load.in_flight.saturating_add(1), served: self.turn };
        }
    }

    fn end(&mut self, granted: &Granted) {
        self.in_flight = self.in_flight.saturating_sub(1);
        let namespace = &granted.lane.namespace;
        for share in [(namespace.clone(), None), (namespace.clone(), Some(granted.sender.campaign.clone()))] {
            if let Some(load) = self.shares.get_mut(&share) {
                load.in_flight = load.in_flight.saturating_sub(1);
            }
        }
        // Whoever had no turn for long has its next before others anyway: what is remembered stays small.
        let (turn, most) = (self.turn, 4096);
        self.shares.retain(|_, load| load.in_flight > 0 || turn.saturating_sub(load.served) < most);
    }

    /// After a 429 the account rests, longer each time until a request succeeds again, and goes on with half as
    /// many at once.
    fn learn(&mut self, lesson: Lesson, now: Instant) {
        match lesson {
            Lesson::Throttled { retry_after } => {
                if self.not_before.is_none_or(|at| at <= now) {
                    // Those that were on their way with it say the same again.
                    self.allowed = self.allowed.min(self.in_flight.saturating_add(1)).div_euclid(2).max(1);
                    self.throttled = self.throttled.saturating_add(1).min(7);
                }
                let rest =
                    Duration::from_millis(500).saturating_mul(2_u32.saturating_pow(self.throttled.saturating_sub(1)));
                let until = now.checked_add(rest.max(retry_after.unwrap_or_default()));
                self.not_before = self.not_before.max(until);
                self.successes = 0;
            }
            Lesson::Proven => {
                self.throttled = 0;
                self.successes = self.successes.saturating_add(1);
                if self.successes >= self.allowed {
                    (self.allowed, self.successes) = (self.allowed.saturating_add(1).min(self.limit), 0);
                }
            }
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
