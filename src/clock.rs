//! The time, as an argument: only `main` makes a clock, everything below is given one.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};

/// The clock of a process: the machine's, or one that was set and goes on from there.
#[derive(Clone, Debug)]
pub struct Clock {
    set: Option<SetClock>,
    steps: Steering,
}

/// Steps a set clock forward and back, as an administrator or a time server may do with a real one.
#[derive(Clone, Debug, Default)]
pub struct Steering(Arc<AtomicI64>);

impl Steering {
    /// Steps the clock by so much.
    pub fn step(&self, by: TimeDelta) {
        self.0.fetch_add(by.num_milliseconds(), Ordering::SeqCst);
    }

    fn stepped(&self) -> TimeDelta {
        TimeDelta::try_milliseconds(self.0.load(Ordering::SeqCst)).unwrap_or_default()
    }
}

#[derive(Clone, Copy, Debug)]
struct SetClock {
    start: DateTime<Utc>,
    started: Instant,
    /// The machine's time when the clock was set.
    started_at: DateTime<Utc>,
}

impl SetClock {
    /// Its start, so much later. A clock that was set next to the end of time stands still there.
    fn moved(&self, by: TimeDelta) -> DateTime<Utc> {
        self.start.checked_add_signed(by).unwrap_or(self.start)
    }
}

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn real() -> Self {
        Self { set: None, steps: Steering::default() }
    }

    /// A clock that shows `start` now, for a rehearsal.
    #[must_use]
    pub fn set_to(start: DateTime<Utc>) -> Self {
        let set = SetClock { start, started: Instant::now(), started_at: Utc::now() };
        Self { set: Some(set), steps: Steering::default() }
    }

    /// What steps this clock, if it was set.
    #[must_use]
    pub fn steering(&self) -> Steering {
        self.steps.clone()
    }

    /// True if this clock was set: then this is a rehearsal.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.set.is_some()
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        let Some(set) = self.set else { return Utc::now() };
        let gone = TimeDelta::from_std(set.started.elapsed()).unwrap_or_default();
        set.moved(gone.checked_add(&self.steps.stepped()).unwrap_or(gone))
    }

    /// What this clock showed, or would have shown, at a time that another machine noted: the API
    /// server's `creationTimestamp` is real even in a rehearsal.
    #[must_use]
    pub fn at(&self, real: DateTime<Utc>) -> DateTime<Utc> {
        let Some(set) = self.set else { return real };
        let gone = real.signed_duration_since(set.started_at);
        set.moved(gone.checked_add(&self.steps.stepped()).unwrap_or(gone))
    }
}
