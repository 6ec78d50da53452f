//! The time, as an argument: only `main` makes a clock, everything below is given one.

use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};

/// The clock of a process: the machine's, or one that was set and goes on from there.
#[derive(Clone, Debug)]
pub struct Clock {
    set: Option<SetClock>,
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
        Self { set: None }
    }

    /// A clock that shows `start` now, for a rehearsal.
    #[must_use]
    pub fn set_to(start: DateTime<Utc>) -> Self {
        Self { set: Some(SetClock { start, started: Instant::now(), started_at: Utc::now() }) }
    }

    /// True if this clock was set: then this is a rehearsal.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.set.is_some()
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.set.map_or_else(Utc::now, |set| set.moved(TimeDelta::from_std(set.started.elapsed()).unwrap_or_default()))
    }

    /// What this clock showed, or would have shown, at a time that another machine noted: the API
    /// server's `creationTimestamp` is real even in a rehearsal.
    #[must_use]
    pub fn at(&self, real: DateTime<Utc>) -> DateTime<Utc> {
        self.set.map_or(real, |set| set.moved(real.signed_duration_since(set.started_at)))
    }
}
