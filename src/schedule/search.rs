//! A search for windows, forward and backward, in ranges that double: what is near is found at once,
//! and what is far after a few steps.

use std::collections::VecDeque;

use super::Calendar;
use super::stretch::{Fuel, Stretch, Unix};

/// Windows that begin here have no start: 1969, before any date that a schedule may name.
pub(super) const EARLIEST: Unix = -31_536_000;

/// Windows that end here have no end: 2200-06-01, after any date that a schedule may name.
pub(super) const LATEST: Unix = 7_271_164_800;

/// The first range is an hour.
const FIRST_STEP: i64 = 3600;

/// A search that has looked at so many stretches and found no window ends: it would take long, and
/// whoever asks can ask again later. A window that is put together from more has no start or end, as
/// far as anybody looks: it goes on for years.
const MOST_STRETCHES: usize = 30_000;

/// A range with more stretches than this is halved: only the first of them may be asked for.
const MOST_IN_RANGE: usize = 500;

/// Finds windows from an instant on, in order. The first is not whole if it began earlier.
pub(super) struct Search<'a> {
    calendar: &'a Calendar,
    /// Up to here it has looked.
    at: Unix,
    step: i64,
    ready: VecDeque<Stretch>,
    /// A stretch that may go on in the next range.
    open: Option<Stretch>,
    /// It took too long.
    stopped: bool,
}

impl<'a> Search<'a> {
    pub fn forward(calendar: &'a Calendar, from: Unix) -> Self {
        let at = from.clamp(EARLIEST, LATEST);
        Self { calendar, at, step: FIRST_STEP, ready: VecDeque::new(), open: None, stopped: false }
    }

    /// Where it ended without having looked at everything.
    pub fn stopped_at(&self) -> Option<Unix> {
        self.stopped.then_some(self.at)
    }

    fn look(&mut self, left: &mut usize) {
        let range = Stretch::between(self.at, self.at.saturating_add(self.step).min(LATEST));
        let fuel = Fuel::new(MOST_IN_RANGE);
        let found = self.calendar.stretches(range, &fuel);
        *left = left.saturating_sub(MOST_IN_RANGE.saturating_sub(fuel.left()).max(1));
        self.stopped = *left == 0;
        let Some(found) = found else {
            self.step = self.step.div_euclid(2).max(60);
            return;
        };
        for stretch in found {
            match &mut self.open {
                Some(open) if open.end == stretch.start && !stretch.tick => open.end = stretch.end,
                open => self.ready.extend(open.replace(stretch)),
            }
        }
        if self.open.is_some_and(|open| open.end < range.end) {
            self.ready.extend(self.open.take());
        }
        (self.at, self.step) = (range.end, self.step.saturating_mul(2));
    }

    /// The start of the window that is open at an instant. Searches backward.
    pub fn start_of(calendar: &Calendar, at: Unix) -> Unix {
        let (mut start, mut step) = (at, FIRST_STEP);
        let fuel = Fuel::new(MOST_STRETCHES);
        while start > EARLIEST {
            let range = Stretch::between(start.saturating_sub(step).max(EARLIEST), start);
            let Some(found) = calendar.stretches(range, &fuel) else { return EARLIEST };
            match found.last().filter(|last| last.end == start) {
                Some(last) if last.tick || last.start > range.start => return last.start,
                Some(last) => start = last.start,
                None => return start,
            }
            step = step.saturating_mul(2);
        }
        start
    }
}

impl Iterator for Search<'_> {
    type Item = Stretch;

    fn next(&mut self) -> Option<Stretch> {
        let mut left = MOST_STRETCHES;
        while self.ready.is_empty() && self.at < LATEST && !self.stopped {
            self.look(&mut left);
        }
        self.ready.pop_front().or_else(|| {
            let open = self.open.take()?;
            Some(if self.stopped { Stretch { end: LATEST, ..open } } else { open })
        })
    }
}
