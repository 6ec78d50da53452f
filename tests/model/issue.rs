//! Chunks: read the ledger, create one after the other, go on after what is there. By two replicas, for three
//! recipients, and a fourth who joins.

use std::collections::BTreeMap;

use coupon_operator::api::coupon::{Coupon, CouponSpec};
use coupon_operator::issuing::chunks::Queue;
use coupon_operator::issuing::ledger::Ledger;
use coupon_operator::issuing::names::{Grant, Recipients, coupon_name};
use coupon_operator::records::Records;
use coupon_operator::rules::occurrence::Occurrence;
use serde_json::json;
use stateright::{Checker, Model, Property};

/// Coupons by name: number and recipients.
type Store = BTreeMap<String, (i32, Vec<String>)>;

/// A pass: who is still to get a code, and the number of the next chunk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Pass {
    wanted: Vec<String>,
    number: i32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    store: Store,
    passes: [Option<Pass>; 2],
    audience: usize,
    crashes: u8,
    lost_answers: u8,
    /// How many passes were begun, which bounds the exploration.
    begun: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Action {
    Begin(usize),
    Create {
        replica: usize,
        lost: bool,
    },
    Crash(usize),
    /// Somebody joins the audience.
    Join,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    Nothing,
    /// Names that do not say what they record, as those from a clock.
    NameFromTime,
    /// Who is in a chunk that is there already is not read.
    BlindToWhatIsThere,
}

struct Protocol {
    size: usize,
    broken: Broken,
}

fn draft(recipient: &str) -> CouponSpec {
    serde_json::from_value(json!({
        "campaign": "c", "rule": "r", "occurrence": "o", "issuedAt": "2023-01-01T00:00:00Z", "recipient": recipient, "code": "X",
        "deliveries": [{ "name": "tell", "webhookRef": { "name": "w" } }],
    }))
    .unwrap()
}

fn chunk(number: i32, recipients: &[String]) -> CouponSpec {
    let drafts = recipients.iter().map(|recipient| draft(recipient)).collect();
    Queue::new(drafts).take(recipients.len(), number).unwrap().spec
}

fn recipients(spec: &CouponSpec) -> Vec<String> {
    Records::of(spec).iter().map(|(_, record)| record.recipient().to_owned()).collect()
}

fn occurrence() -> Occurrence {
    Occurrence {
        key: "o".into(),
        window: coupon_operator::api::campaign::Window::default(),
        period: None,
        anniversary: false,
    }
}

impl Protocol {
    /// Reads the ledger, never from a cache, and sees who has no code.
    fn begin(state: &State) -> Pass {
        let mut ledger = Ledger::default();
        for (number, recipients) in state.store.values() {
            ledger.add(&Coupon::new("x", chunk(*number, recipients)));
        }
        let audience = (1..=state.audience).map(|i| format!("r{i}"));
        let wanted = audience.filter(|recipient| !ledger.has_one(recipient, &occurrence())).collect();
        Pass { wanted, number: ledger.next_chunk("o") }
    }

    fn name(&self, state: &State, number: i32) -> String {
        let name = coupon_name(Grant { campaign: "c", rule: "r", occurrence: "o", to: Recipients::Chunk(number) });
        if self.broken == Broken::NameFromTime { format!("{name}-{}", state.store.len()) } else { name }
    }

    fn create(&self, state: &State, replica: usize, lost: bool) -> Option<State> {
        let mut next = state.clone();
        let pass = next.passes[replica].take()?;
        let mut queue = Queue::new(pass.wanted.iter().map(|recipient| draft(recipient)).collect());
        let made = queue.take(self.size, pass.number)?;
        let name = self.name(state, pass.number);
        if let Some((number, there)) = state.store.get(&name) {
            let nobody = ["nobody".to_owned()];
            let read = if self.broken == Broken::BlindToWhatIsThere { nobody.as_slice() } else { there.as_slice() };
            queue.put_back(made, &chunk(*number, read));
        } else {
            next.store.insert(name, (pass.number, recipients(&made.spec)));
            if lost {
                // The pass ends with an error, and another begins.
                next.lost_answers -= 1;
                return Some(next);
            }
        }
        let mut wanted = Vec::new();
        while let Some(rest) = queue.take(1, 1) {
            wanted.extend(recipients(&rest.spec));
        }
        next.passes[replica] = (!wanted.is_empty()).then_some(Pass { wanted, number: pass.number + 1 });
        Some(next)
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State { store: Store::new(), passes: [None, None], audience: 3, crashes: 2, lost_answers: 2, begun: 0 }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for replica in 0..2 {
            match &state.passes[replica] {
                None if state.begun < 6 => actions.push(Action::Begin(replica)),
                None => {}
                Some(_) => {
                    actions.push(Action::Create { replica, lost: false });
                    if state.lost_answers > 0 {
                        actions.push(Action::Create { replica, lost: true });
                    }
                    if state.crashes > 0 {
                        actions.push(Action::Crash(replica));
                    }
                }
            }
        }
        if state.audience < 4 {
            actions.push(Action::Join);
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        match action {
            Action::Begin(replica) => {
                let pass = Self::begin(state);
                next.begun += 1;
                next.passes[replica] = (!pass.wanted.is_empty()).then_some(pass);
            }
            Action::Create { replica, lost } => return self.create(state, replica, lost),
            Action::Crash(replica) => {
                next.crashes -= 1;
                next.passes[replica] = None;
            }
            Action::Join => next.audience += 1,
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("I1: nobody is in two", |_, state: &State| {
                let mut all: Vec<&String> = state.store.values().flat_map(|(_, recipients)| recipients).collect();
                let count = all.len();
                all.sort_unstable();
                all.dedup();
                all.len() == count
            }),
            Property::always("chunks have no gap", |_, state: &State| {
                let mut numbers: Vec<i32> = state.store.values().map(|(number, _)| *number).collect();
                numbers.sort_unstable();
                numbers.into_iter().zip(1..).all(|(number, place)| number == place)
            }),
            Property::sometimes("everybody has one", |_, state: &State| {
                state.store.values().map(|(_, recipients)| recipients.len()).sum::<usize>() == 4
            }),
        ]
    }
}

fn checked(size: usize, broken: Broken) -> (usize, Vec<&'static str>) {
    let checker = Protocol { size, broken }.checker().threads(2).spawn_bfs().join();
    (checker.unique_state_count(), checker.discoveries().into_keys().collect())
}

#[test]
fn every_interleaving_of_two_replicas_grants_nobody_twice() {
    for size in 1..=4 {
        let (states, found) = checked(size, Broken::Nothing);
        println!("chunks of {size}: {states} states");
        assert!(states > 300, "{states} states are no exploration");
        assert_eq!(found, ["everybody has one"]);
    }
}

#[test]
fn names_from_a_clock_and_blind_creates_are_caught() {
    let (_, found) = checked(2, Broken::NameFromTime);
    assert!(found.contains(&"I1: nobody is in two"), "{found:?}");
    let (_, found) = checked(2, Broken::BlindToWhatIsThere);
    assert!(found.contains(&"I1: nobody is in two"), "{found:?}");
}
