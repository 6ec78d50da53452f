//! An operator in the test's own process, whose clock the test steers.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use coupon_operator::clock::{Clock, Steering};
use coupon_operator::controllers::context::Settings;
use coupon_operator::controllers::run::Operator;
use coupon_operator::delivery::client::{ClientOptions, GuardedClient};
use tokio::task::JoinHandle;

use crate::world::World;

pub struct SteeredOperator {
    clock: Clock,
    steering: Steering,
    task: JoinHandle<()>,
}

impl SteeredOperator {
    /// Starts one whose clock shows `start` now.
    pub fn start(world: &World, start: &str) -> Self {
        let clock = Clock::set_to(start.parse().unwrap());
        let steering = clock.steering();
        let connect_to = ["eu1.api.clevertap.com", "shop.example"];
        let connect_to = connect_to.map(|host| format!("{host}:443={}", world.stand_in.address()).parse().unwrap());
        let options = ClientOptions {
            connect_to: connect_to.into(),
            only_connect_to: true,
            ca_bundle: Some(std::fs::read(world.folder.path().join("ca.pem")).unwrap()),
        };
        let operator = Operator {
            client: world.client.clone(),
            http: GuardedClient::new(&options, clock.clone()).unwrap(),
            clock: clock.clone(),
            settings: Settings {
                secret_poll: Duration::from_secs(1),
                audience_poll: Duration::from_secs(1),
                longest_sleep: Duration::from_millis(100),
            },
            namespace: Some(world.namespace.clone()),
            leadership: None,
        };
        let run = async { operator.run(std::future::pending()).await.unwrap() };
        Self { clock, steering, task: tokio::spawn(run) }
    }

    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    pub fn step(&self, by: TimeDelta) {
        self.steering.step(by);
    }

    /// Steps the clock, forward or back, to a time.
    pub fn step_to(&self, time: &str) {
        let time: DateTime<Utc> = time.parse().unwrap();
        self.step(time - self.now());
    }
}

impl Drop for SteeredOperator {
    fn drop(&mut self) {
        self.task.abort();
    }
}
