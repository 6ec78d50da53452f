//! The pacer: [`Pacing`] for tasks that wait for their turn.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{Notify, oneshot, watch};

use super::outcome::Lesson;
use super::pacing::{LaneKey, LaneSetup, Pacing, Pause, Sender, Ticket};

/// Lets requests through, each when its turn has come.
pub struct Pacer {
    state: Mutex<State>,
    /// Counts what changed for Webhooks: a pause began or ended.
    pauses: watch::Sender<u64>,
    /// Wakes the timer when the next change may have moved.
    timer: Notify,
}

#[derive(Default)]
struct State {
    pacing: Pacing,
    next: u64,
    waiting: HashMap<Ticket, oneshot::Sender<()>>,
}

impl State {
    fn grant(&mut self) {
        for ticket in self.pacing.grant(Instant::now()) {
            // A receiver that is gone has dropped its permit too, or will, which gives the place back.
            self.waiting.remove(&ticket).map(|turn| turn.send(()));
        }
    }
}

impl Default for Pacer {
    fn default() -> Self {
        Self { state: Mutex::default(), pauses: watch::Sender::new(0), timer: Notify::new() }
    }
}

impl Pacer {
    /// Notes what a Webhook is now.
    pub fn set_lane(&self, key: &LaneKey, setup: LaneSetup) {
        let mut state = self.lock();
        state.pacing.set_lane(key, setup);
        self.grant(&mut state);
    }

    /// Why a Webhook sends nothing, if it does not.
    #[must_use]
    pub fn pause(&self, key: &LaneKey) -> Option<Pause> {
        self.lock().pacing.pause(key)
    }

    /// Changes whenever a pause begins or ends.
    #[must_use]
    pub fn pauses(&self) -> watch::Receiver<u64> {
        self.pauses.subscribe()
    }

    /// Waits for a turn in a Webhook's lane; none if there is no such lane. Dropping the future, or
    /// the permit, gives the place back.
    pub async fn admit(self: &Arc<Self>, key: &LaneKey, whose: Sender) -> Option<Permit> {
        let (sender, turn) = oneshot::channel();
        let permit = {
            let mut state = self.lock();
            state.next = state.next.saturating_add(1);
            let ticket = Ticket(state.next);
            if !state.pacing.enqueue(key, whose, ticket) {
                return None;
            }
            state.waiting.insert(ticket, sender);
            self.grant(&mut state);
            Permit { pacer: self.clone(), ticket, lesson: Lesson::Nothing, message: String::new() }
        };
        turn.await.ok()?;
        Some(permit)
    }

    /// Sends everybody away who waits: the process is stopping.
    pub fn close(&self) {
        self.lock().waiting.clear();
    }

    /// Lets those through who wait only for time to pass. Runs until it is dropped.
    pub async fn run_timer(&self) {
        loop {
            let next = self.lock().pacing.next_change(Instant::now());
            let changed = self.timer.notified();
            match next {
                Some(at) => tokio::select! {
                    () = tokio::time::sleep_until(at.into()) => {}
                    () = changed => {}
                },
                None => changed.await,
            }
            let mut state = self.lock();
            state.grant();
        }
    }

    fn grant(&self, state: &mut State) {
        state.grant();
        self.timer.notify_one();
    }

    fn finish(&self, ticket: Ticket, lesson: Lesson, message: &str) {
        let mut state = self.lock();
        state.waiting.remove(&ticket);
        let changed = state.pacing.finish(ticket, lesson, message, Instant::now());
        self.grant(&mut state);
        drop(state);
        if changed {
            self.pauses.send_modify(|n| *n = n.wrapping_add(1));
        }
    }

    /// A panic elsewhere must not stop deliveries: the state is changed in whole steps only.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to send one request.
pub struct Permit {
    pacer: Arc<Pacer>,
    ticket: Ticket,
    lesson: Lesson,
    message: String,
}

impl Permit {
    /// Gives the place back, with what the request taught.
    pub fn finish(mut self, lesson: Lesson, message: &str) {
        self.lesson = lesson;
        message.clone_into(&mut self.message);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.pacer.finish(self.ticket, self.lesson, &self.message);
    }
}

#[cfg(test)]
mod tests;
