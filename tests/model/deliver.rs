//! Intent, send, result: by two replicas, over a Coupon of three records.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use coupon_operator::api::coupon::{Coupon, CouponStatus, DeliveryStatus};
use coupon_operator::api::webhook::{OnUnknown, WebhookSpec};
use coupon_operator::controllers::coupon::plan::{self, CampaignState, Circumstances, Plan, intent};
use coupon_operator::controllers::coupon::status;
use coupon_operator::delivery::endpoint::{Endpoint, Templates};
use coupon_operator::delivery::outcome::{self, Lesson, NotSent, Outcome, RecordOutcome, Verdict};
use coupon_operator::records::RowSet;
use serde_json::json;
use stateright::{Checker, Model, Property};

const ROWS: u32 = 3;

/// A protocol that is broken may go on for ever: not here.
const MOST_TOLD: u8 = 3;

/// The Coupon's status as the API server has it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Stored {
    version: u8,
    status: String,
}

/// A request that a replica began.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Task {
    number: i32,
    rows: RowSet,
    /// The version that its intent made.
    version: u8,
    /// What came of it, once it was sent.
    end: Option<End>,
}

/// How a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum End {
    Accepted,
    /// The first of its records is to be sent again, the others are accepted.
    FirstAgain,
    /// Nothing of it was sent.
    NotSent,
    /// No answer, though it was stored.
    LostStored,
    /// No answer, and it was not stored.
    LostNotStored,
}

/// Who knows what came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Fate {
    rows: RowSet,
    known: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    stored: Stored,
    /// What each replica has in its cache, as old as may be.
    caches: [Stored; 2],
    tasks: [Option<Task>; 2],
    /// How often each was started.
    starts: [u8; 2],
    clock: u8,
    /// How often the endpoint stored each record.
    told: [u8; ROWS as usize],
    fates: BTreeMap<i32, Fate>,
    crashes: u8,
    lost_answers: u8,
    faults: u8,
    /// A record was sent again though nobody said that it may have been applied.
    silently_repeated: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Action {
    /// A replica's cache becomes what the API server has.
    Refresh(usize),
    /// A replica does what it plans; its answer may be lost.
    Act {
        replica: usize,
        lost: bool,
    },
    Send(usize, End),
    /// Writes the result; its answer may be lost.
    Record {
        replica: usize,
        lost: bool,
    },
    Crash(usize),
    /// A minute passes.
    Tick,
}

/// What is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    Nothing,
    /// Intents are written whatever the version.
    NoPrecondition,
    /// Nothing is written before a request.
    NoIntent,
}

struct Protocol {
    policy: OnUnknown,
    broken: Broken,
    coupon: Coupon,
    endpoints: HashMap<String, Arc<Endpoint>>,
}

fn at(clock: u8) -> DateTime<Utc> {
    DateTime::from_timestamp(1_672_531_200, 0).unwrap() + TimeDelta::seconds(60 * i64::from(clock))
}

fn written(status: &CouponStatus) -> String {
    let mut status = status.clone();
    // Waits are random, and conditions speak for people.
    status.conditions.clear();
    for delivery in &mut status.deliveries {
        (delivery.next_attempt_time, delivery.fruitless) = (None, 0);
    }
    serde_json::to_string(&status).unwrap()
}

impl Stored {
    fn status(&self) -> CouponStatus {
        serde_json::from_str(&self.status).unwrap()
    }

    fn delivery(&self) -> DeliveryStatus {
        self.status().deliveries.first().cloned().unwrap_or_default()
    }
}

impl Protocol {
    fn new(policy: OnUnknown, broken: Broken) -> Self {
        let rows: Vec<String> = (1..=ROWS).map(|i| format!("r{i},c{i},r{i}")).collect();
        let spec = json!({
            "columns": ["recipient", "code", "tell/P"], "rows": rows,
            "deliveries": [{ "name": "tell", "webhookRef": { "name": "w" } }],
        });
        let webhook: WebhookSpec = serde_json::from_value(json!({
            "url": "https://a.example/", "payload": r#"{"d":[{"p":"${$P}"}]}"#, "onUnknown": policy, "deadlineSeconds": 31_536_000,
            "parameters": [{ "name": "P", "type": "String" }], "batch": { "maxSize": 3, "recordsAt": "/d" },
        }))
        .unwrap();
        let templates = Templates::parse(&webhook).unwrap();
        let endpoint = Endpoint::new(("ns", "uid".into(), 1), webhook, templates, Vec::new(), &[0; 32]);
        let coupon = Coupon::new("c", serde_json::from_value(spec).unwrap());
        Self { policy, broken, coupon, endpoints: HashMap::from([("w".to_owned(), Arc::new(endpoint))]) }
    }

    fn coupon(&self, stored: &Stored) -> Coupon {
        Coupon { status: Some(stored.status()), ..self.coupon.clone() }
    }

    fn plan(&self, state: &State, replica: usize) -> Plan {
        let coupon = self.coupon(&state.caches[replica]);
        plan::run(&Circumstances {
            coupon: &coupon,
            created: Some(at(0)),
            campaign: CampaignState::NotNeeded,
            endpoints: &self.endpoints,
            paused: &HashSet::new(),
            active: state.tasks[replica].is_some(),
            sender: &sender(state, replica),
            now: at(state.clock),
        })
    }

    /// What a replica writes now, and the request that it then sends.
    fn act(&self, state: &State, replica: usize, lost: bool) -> Option<State> {
        let cache = &state.caches[replica];
        let (coupon, now) = (self.coupon(cache), at(state.clock));
        let plan = self.plan(state, replica);
        let mut next = state.clone();
        let mut task = None;
        let status = match &plan {
            Plan::Send { rows, .. } => {
                let before = cache.delivery();
                let attempt = intent(&before, rows.clone(), String::new(), &sender(state, replica), now);
                task = Some(Task { number: attempt.number, rows: rows.clone(), version: 0, end: None });
                next.fates.insert(attempt.number, Fate { rows: rows.clone(), known: false });
                Some(status::with_intent(&coupon, "tell", &attempt, &[], now))
            }
            Plan::SenderLost { attempt, .. } => {
                let outcome = of(Verdict::Unknown, status::SENDER_LOST);
                status::with_outcome(&coupon, ("tell", *attempt), &outcome, self.policy, now)
            }
            Plan::NotSent { attempt, .. } => {
                next.fates.get_mut(attempt)?.known = true;
                let outcome = outcome::not_sent(NotSent::AnswerToIntentLost);
                status::with_outcome(&coupon, ("tell", *attempt), &outcome, self.policy, now)
            }
            Plan::Hold { rows, .. } => Some(status::with_held(&coupon, "tell", rows, now)),
            _ => return None,
        }?;
        if task.is_some() && self.broken == Broken::NoIntent {
            next.tasks[replica] = task;
            return Some(next);
        }
        let fits = cache.version == state.stored.version || (task.is_some() && self.broken == Broken::NoPrecondition);
        if !fits {
            // Conflict: nothing is changed, and nothing is sent.
            return None;
        }
        next.write(&status);
        if !lost {
            next.caches[replica] = next.stored.clone();
            next.tasks[replica] = task.map(|task| Task { version: next.stored.version, ..task });
        }
        next.lost_answers -= u8::from(lost);
        Some(next)
    }

    fn send(state: &State, replica: usize, end: End) -> Option<State> {
        let mut next = state.clone();
        let task = next.tasks[replica].as_mut().filter(|task| task.end.is_none())?;
        task.end = Some(end);
        let rows = match end {
            End::Accepted | End::LostStored => task.rows.clone(),
            End::FirstAgain => task.rows.minus(&task.rows.first(1)),
            End::NotSent | End::LostNotStored => RowSet::default(),
        };
        let said = state.stored.delivery().unknown;
        for row in rows.iter() {
            let told = &mut next.told[row as usize - 1];
            if *told == MOST_TOLD {
                return None;
            }
            next.silently_repeated |= *told > 0 && !said.contains(row);
            *told += 1;
        }
        next.faults -= u8::from(end != End::Accepted);
        Some(next)
    }

    /// As the operator does it: with what it wrote, and after a conflict with what is there.
    fn record(&self, state: &State, replica: usize, lost: bool) -> Option<State> {
        let task = state.tasks[replica].clone()?;
        let outcome = outcome_of(&task)?;
        let mut next = state.clone();
        next.lost_answers -= u8::from(lost);
        let place = ("tell", task.number);
        let coupon = self.coupon(&state.stored);
        if let Some(status) = status::with_outcome(&coupon, place, &outcome, self.policy, at(state.clock)) {
            next.write(&status);
            next.fates.get_mut(&task.number)?.known |= outcome.verdict != Verdict::Unknown;
        }
        // With a lost answer it looks again, finds its own result, and ends.
        next.tasks[replica] = None;
        Some(next)
    }
}

impl State {
    fn write(&mut self, status: &CouponStatus) {
        self.stored = Stored { version: self.stored.version + 1, status: written(status) };
    }
}

fn sender(state: &State, replica: usize) -> String {
    format!("{replica}-{}", state.starts[replica])
}

fn of(verdict: Verdict, reason: &str) -> Outcome {
    let (reason, message) = (reason.to_owned(), String::new());
    Outcome { verdict, records: Vec::new(), lesson: Lesson::Nothing, http_status: None, reason, message }
}

fn outcome_of(task: &Task) -> Option<Outcome> {
    const AGAIN: Verdict = Verdict::NotApplied { retry_after: None };
    Some(match task.end? {
        End::Accepted => of(Verdict::Accepted, "Accepted"),
        End::NotSent => of(AGAIN, "NotConnected"),
        End::LostStored | End::LostNotStored => of(Verdict::Unknown, "TimedOut"),
        End::FirstAgain => {
            let record = |i| RecordOutcome {
                verdict: if i == 0 { AGAIN } else { Verdict::Accepted },
                reason: String::new(),
                message: String::new(),
            };
            let records = (0..task.rows.len()).map(record).collect();
            Outcome { records, ..of(Verdict::Accepted, "PartlyAccepted") }
        }
    })
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let stored = Stored { version: 0, status: written(&CouponStatus::default()) };
        vec![State {
            caches: [stored.clone(), stored.clone()],
            stored,
            tasks: [None, None],
            starts: [0, 0],
            clock: 0,
            told: [0; ROWS as usize],
            fates: BTreeMap::new(),
            crashes: 1,
            lost_answers: 1,
            faults: 1,
            silently_repeated: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for replica in 0..2 {
            if state.caches[replica] != state.stored {
                actions.push(Action::Refresh(replica));
            }
            match &state.tasks[replica] {
                None => actions.push(Action::Act { replica, lost: false }),
                Some(task) if task.end.is_none() => {
                    actions.push(Action::Send(replica, End::Accepted));
                    if state.faults > 0 {
                        let ends = [End::FirstAgain, End::NotSent, End::LostStored, End::LostNotStored];
                        actions.extend(ends.map(|end| Action::Send(replica, end)));
                    }
                }
                Some(_) => actions.push(Action::Record { replica, lost: false }),
            }
            if state.lost_answers > 0 {
                match &state.tasks[replica] {
                    None => actions.push(Action::Act { replica, lost: true }),
                    Some(task) if task.end.is_some() => actions.push(Action::Record { replica, lost: true }),
                    Some(_) => {}
                }
            }
            if state.crashes > 0 {
                actions.push(Action::Crash(replica));
            }
        }
        if state.clock < 1 {
            actions.push(Action::Tick);
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        match action {
            Action::Refresh(replica) => next.caches[replica] = state.stored.clone(),
            Action::Act { replica, lost } => return self.act(state, replica, lost),
            Action::Send(replica, end) => return Self::send(state, replica, end),
            Action::Record { replica, lost } => return self.record(state, replica, lost),
            Action::Crash(replica) => {
                next.crashes -= 1;
                next.tasks[replica] = None;
                next.starts[replica] += 1;
                next.caches[replica] = state.stored.clone();
            }
            Action::Tick => {
                next.clock += 1;
                // What was not sent within five seconds of its intent is dropped.
                for task in next.tasks.iter_mut().flatten().filter(|task| task.end.is_none()) {
                    task.end = Some(End::NotSent);
                }
            }
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("I5: nothing is sent again silently", |_, state: &State| !state.silently_repeated),
            Property::always("I4: who is called delivered was told", |_, state: &State| {
                let accepted = state.stored.delivery().accepted;
                accepted.iter().all(|row| state.told[row as usize - 1] > 0)
            }),
            Property::always("the ledger of doubt", |_, state: &State| {
                let done = state.stored.status().state.is_settled() && state.tasks == [None, None];
                let lost = state.fates.values().filter(|f| !f.known).fold(RowSet::default(), |all, f| all.or(&f.rows));
                !done || state.stored.delivery().unknown == lost
            }),
            Property::always("I5: under Hold nobody is told twice", |protocol: &Self, state: &State| {
                protocol.policy == OnUnknown::Retry || state.told.iter().all(|told| *told <= 1)
            }),
            Property::sometimes("all are delivered", |_, state: &State| {
                state.stored.delivery().accepted == RowSet::up_to(ROWS)
            }),
            Property::sometimes("somebody is told twice and it is said", |protocol: &Self, state: &State| {
                protocol.policy == OnUnknown::Hold || state.told.contains(&2)
            }),
        ]
    }
}

fn checked(policy: OnUnknown, broken: Broken) -> (usize, BTreeMap<&'static str, String>) {
    // A broken protocol is caught early, and may have no end.
    let most = if broken == Broken::Nothing { 3_000_000 } else { 40_000 };
    let checker = Protocol::new(policy, broken).checker().threads(2).target_state_count(most).spawn_bfs().join();
    let found =
        checker.discoveries().into_iter().map(|(name, path)| (name, format!("{:?}", path.into_actions()))).collect();
    (checker.unique_state_count(), found)
}

fn counterexamples(found: &BTreeMap<&'static str, String>) -> Vec<&'static str> {
    let examples = ["all are delivered", "somebody is told twice and it is said"];
    found.keys().copied().filter(|name| !examples.contains(name)).collect()
}

#[test]
fn every_interleaving_of_two_replicas_keeps_the_promises() {
    for policy in [OnUnknown::Retry, OnUnknown::Hold] {
        let (states, found) = checked(policy, Broken::Nothing);
        println!("{policy:?}: {states} states");
        assert!(states > 10_000, "{states} states are no exploration");
        assert_eq!(counterexamples(&found), Vec::<&str>::new(), "{found:?}");
        assert_eq!(found.len(), 2, "both good ends are reached");
    }
}

#[test]
fn a_protocol_without_intent_or_precondition_is_caught() {
    for broken in [Broken::NoIntent, Broken::NoPrecondition] {
        let (_, found) = checked(OnUnknown::Retry, broken);
        println!("{broken:?}: {:?}", counterexamples(&found));
        assert!(!counterexamples(&found).is_empty(), "{broken:?} went unnoticed");
    }
}
