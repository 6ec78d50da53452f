//! Each call of a run, at each position: the operator is killed there, or the API server's answer is another.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clevertap_stand_in::Step;
use control_plane::GuardedChild;
use coupon_operator::api::campaign::Campaign;
use coupon_operator::api::webhook::Webhook;
use futures::StreamExt;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::proxy::{POSITIONS, Planned, Position, Proxy, Wrong};
use crate::verdict;
use crate::world::{CANARY, World, campaign, state, webhook};

const CUSTOMERS: usize = 20;

/// How records are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Single,
    Batch,
}

/// Where a run is disturbed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Point {
    Api(Planned),
    /// The operator is killed when so many requests to CleverTap were so far.
    Webhook(usize, Step),
}

/// What somebody edits while the operator is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    Nothing,
    Audience,
    Schedule,
    OncePer,
    MaxSize,
}

const EDITS: [Edit; 5] = [Edit::Nothing, Edit::Audience, Edit::Schedule, Edit::OncePer, Edit::MaxSize];

pub struct Run {
    pub world: World,
    pub proxy: Proxy,
    shape: Shape,
    audience: usize,
}

pub type Operator = Arc<Mutex<Option<GuardedChild>>>;

pub fn kill(operator: &Operator) {
    if let Some(mut child) = operator.lock().unwrap().take() {
        child.kill().unwrap();
    }
}

impl Run {
    pub async fn new(shape: Shape) -> Self {
        let world = World::new().await;
        world.apply_secret(CANARY).await;
        world.apply::<Webhook>(webhook_of(shape, 5)).await.unwrap();
        world.apply::<Campaign>(campaign(CUSTOMERS)).await.unwrap();
        let proxy = Proxy::start(world.client.clone(), world.folder.path(), &world.namespace).await;
        Self { world, proxy, shape, audience: CUSTOMERS }
    }

    pub fn operator(&self, ahead: Duration) -> Operator {
        Arc::new(Mutex::new(Some(self.world.operator_through(&self.proxy.kubeconfig, ahead))))
    }

    /// How many calls of each kind an undisturbed run has.
    async fn undisturbed(shape: Shape) -> (usize, usize) {
        let run = Self::new(shape).await;
        let operator = run.operator(Duration::ZERO);
        run.finished().await;
        run.verdict().await.unwrap();
        kill(&operator);
        (run.proxy.calls(), run.world.stand_in.requests().len())
    }

    /// Runs to a point, kills the operator if it is not yet, edits, and starts another one.
    async fn disturbed(mut self, point: Point, edit: Edit) -> Result<(), String> {
        let operator = self.operator(Duration::ZERO);
        let killed = tokio::sync::watch::Sender::new(false);
        let end = {
            let (operator, killed) = (operator.clone(), killed.clone());
            move || {
                kill(&operator);
                killed.send_replace(true);
            }
        };
        match point {
            Point::Api(planned) => self.proxy.plan(planned, end),
            Point::Webhook(nth, step) => {
                let count = AtomicUsize::new(0);
                self.world.stand_in.set_witness(move |at| {
                    if at == step && count.fetch_add(1, Ordering::SeqCst) + 1 == nth {
                        end();
                    }
                });
            }
        }
        let kills = !matches!(point, Point::Api(Planned { wrong: Wrong::Status(_) | Wrong::Silence, .. }));
        if kills {
            let mut killed = killed.subscribe();
            tokio::select! {
                _ = killed.wait_for(|killed| *killed) => {}
                // A run is not the same each time: it may have had fewer calls.
                () = self.finished() => kill(&operator),
            }
            self.edit(edit).await;
        }
        let next = kills.then(|| self.operator(Duration::from_secs(60)));
        self.finished().await;
        let verdict = self.verdict().await;
        kill(&operator);
        next.iter().for_each(kill);
        verdict
    }

    pub async fn edit(&mut self, edit: Edit) {
        let mut edited = campaign(CUSTOMERS);
        match edit {
            Edit::Nothing => return,
            Edit::MaxSize => {
                let size = if self.shape == Shape::Single { 4 } else { 3 };
                self.world.apply::<Webhook>(webhook_of(Shape::Batch, size)).await.unwrap();
                return;
            }
            Edit::Audience => {
                self.audience = CUSTOMERS + 3;
                edited = campaign(self.audience);
            }
            Edit::Schedule => {
                edited["spec"]["rules"][0]["schedules"] = json!([{ "onDates": ["2023-01-01", "2023-01-02"] }]);
            }
            Edit::OncePer => edited["spec"]["rules"][0]["oncePer"] = "Day".into(),
        }
        self.world.apply::<Campaign>(edited).await.unwrap();
    }

    fn everybody(&self) -> BTreeSet<String> {
        (1..=self.audience).map(|i| format!("customer-{i}")).collect()
    }

    pub async fn finished(&self) {
        let wanted = self.everybody();
        self.world
            .until_coupons("everybody has a Coupon and is told", |coupons| {
                let records = coupons.iter().flat_map(|c| {
                    coupon_operator::records::Records::of(&c.spec).iter().map(|(_, r)| r.recipient().to_owned())
                });
                records.collect::<BTreeSet<_>>().is_superset(&wanted) && coupons.iter().all(|c| state(c) == "Delivered")
            })
            .await;
    }

    /// Waits until no Coupon was changed for a while.
    pub async fn settled(&self) {
        let mut before = self.proxy.applied().len();
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let now = self.proxy.applied().len();
            if now == before {
                return;
            }
            before = now;
        }
    }

    pub async fn verdict(&self) -> Result<(), String> {
        verdict::check(&self.world, &self.world.coupons().await, &self.proxy.applied(), &self.everybody())
    }
}

pub fn webhook_of(shape: Shape, size: usize) -> Value {
    let mut webhook = webhook();
    webhook["spec"]["timeoutSeconds"] = 1.into();
    if shape == Shape::Batch {
        webhook["spec"]["batch"] = json!({ "maxSize": size, "recordsAt": "/d" });
    }
    webhook
}

pub fn seed() -> u64 {
    let seed =
        std::env::var("FAULTS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| rand::rng().random());
    println!("FAULTS_SEED={seed}");
    seed
}

/// All points with `FAULTS=all`, else so many of them.
fn chosen(mut points: Vec<(Shape, Point)>, sample: usize, random: &mut StdRng) -> Vec<(Shape, Point)> {
    if std::env::var("FAULTS").is_ok_and(|which| which == "all") {
        return points;
    }
    let mut chosen = Vec::new();
    while chosen.len() < sample && !points.is_empty() {
        chosen.push(points.swap_remove(random.random_range(0..points.len())));
    }
    chosen
}

async fn try_all(points: Vec<(Shape, Point)>, random: &mut StdRng) {
    let count = points.len();
    let runs: Vec<_> = points.into_iter().map(|p| (p, EDITS[random.random_range(0..EDITS.len())])).collect();
    let tried = futures::stream::iter(runs).map(|((shape, point), edit)| async move {
        let run = tokio::spawn(async move { Run::new(shape).await.disturbed(point, edit).await });
        let verdict = run.await.unwrap_or_else(|panic| Err(format!("{panic}")));
        verdict.map_err(|why| format!("{shape:?} {point:?} {edit:?}: {why}"))
    });
    let mut verdicts = tried.buffer_unordered(6).enumerate();
    let mut broken: Vec<String> = Vec::new();
    while let Some((done, verdict)) = verdicts.next().await {
        if let Err(why) = verdict {
            println!("BROKEN {why}");
            broken.push(why);
        }
        if done % 100 == 99 {
            println!("{} of {count}", done + 1);
        }
    }
    println!("{count} points, {} broken", broken.len());
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_during_and_after_each_call_the_promises_hold() {
    let mut random = StdRng::seed_from_u64(seed());
    let mut points = Vec::new();
    for shape in [Shape::Single, Shape::Batch] {
        let (calls, requests) = Run::undisturbed(shape).await;
        println!("{shape:?}: {calls} calls to the API server, {requests} requests");
        for position in POSITIONS {
            let planned = |call| Point::Api(Planned { call, position, wrong: Wrong::Kill });
            points.extend((1..=calls).map(|call| (shape, planned(call))));
        }
        for step in [Step::Received, Step::Stored, Step::Answered] {
            points.extend((1..=requests).map(|nth| (shape, Point::Webhook(nth, step))));
        }
    }
    let points = chosen(points, 30, &mut random);
    try_all(points, &mut random).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_api_server_answers_to_a_call_the_promises_hold() {
    let mut random = StdRng::seed_from_u64(seed());
    let mut points = Vec::new();
    for shape in [Shape::Single, Shape::Batch] {
        let (calls, _) = Run::undisturbed(shape).await;
        for position in [Position::Before, Position::Forwarded] {
            for wrong in [Wrong::Status(409), Wrong::Status(429), Wrong::Status(500), Wrong::Silence] {
                points.extend((1..=calls).map(|call| (shape, Point::Api(Planned { call, position, wrong }))));
            }
        }
    }
    let points = chosen(points, 24, &mut random);
    try_all(points, &mut random).await;
}
