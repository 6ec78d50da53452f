//! Stretches of instants, and how they are combined.

use std::cell::Cell;

/// An instant in Unix seconds.
pub(super) type Unix = i64;

/// How much work a search may still do: what finds nothing must end all the same.
pub(super) struct Fuel(Cell<usize>);

impl Fuel {
    pub fn new(steps: usize) -> Self {
        Self(Cell::new(steps))
    }

    /// Takes one step; false if there was none left.
    pub fn spend(&self) -> bool {
        let left = self.0.get();
        self.0.set(left.saturating_sub(1));
        left > 0
    }

    pub fn left(&self) -> usize {
        self.0.get()
    }
}

/// From `start` inclusive to `end` exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub start: Unix,
    pub end: Unix,
    /// It begins with a tick, which begins a window though the one before may reach it.
    pub tick: bool,
}

impl Stretch {
    pub fn between(start: Unix, end: Unix) -> Self {
        Self { start, end, tick: false }
    }

    /// The part of it that lies in another; none if there is none. It begins with a tick if one of the
    /// two does just there.
    pub fn clipped_to(self, other: Self) -> Option<Self> {
        let start = self.start.max(other.start);
        let end = self.end.min(other.end);
        let tick = (self.tick && self.start == start) || (other.tick && other.start == start);
        (start < end).then_some(Self { start, end, tick })
    }
}

/// What of some stretches is not in others; both in order. A start that was moved is no tick.
pub(super) fn minus(stretches: &[Stretch], taken: &[Stretch]) -> Vec<Stretch> {
    let mut left = Vec::with_capacity(stretches.len());
    let mut first = 0;
    for &stretch in stretches {
        // What ends before this stretch begins is of no use to those that follow either.
        first = taken.iter().skip(first).take_while(|t| t.end <= stretch.start).count().saturating_add(first);
        left.extend(without(stretch, taken.iter().skip(first).take_while(|t| t.start < stretch.end)));
    }
    left
}

fn without<'a>(stretch: Stretch, taken: impl Iterator<Item = &'a Stretch>) -> Vec<Stretch> {
    let mut left = Vec::new();
    let mut rest = Some(stretch);
    for taken in taken {
        let Some(now) = rest else { break };
        if now.start < taken.start {
            left.push(Stretch { end: taken.start.min(now.end), ..now });
        }
        let later = || if taken.end > now.start { Stretch::between(taken.end, now.end) } else { now };
        rest = (taken.end < now.end).then(later);
    }
    left.extend(rest);
    left
}

/// All of several lists as unbroken stretches, in order, cut where a tick begins one.
pub(super) fn union(mut stretches: Vec<Stretch>) -> Vec<Stretch> {
    stretches.sort_unstable_by_key(|s| (s.start, s.end));
    let mut ticks: Vec<Unix> = stretches.iter().filter(|s| s.tick).map(|s| s.start).collect();
    ticks.dedup();
    let mut ticks = ticks.into_iter().peekable();
    let mut cut = Vec::with_capacity(stretches.len());
    for whole in joined(stretches) {
        let mut rest = whole;
        while let Some(tick) = ticks.next_if(|tick| *tick < whole.end) {
            if tick > rest.start {
                cut.push(Stretch { end: tick, ..rest });
            }
            rest = Stretch { start: tick, end: whole.end, tick: true };
        }
        cut.push(rest);
    }
    cut
}

fn joined(sorted: Vec<Stretch>) -> Vec<Stretch> {
    let mut joined: Vec<Stretch> = Vec::with_capacity(sorted.len());
    for next in sorted {
        match joined.last_mut() {
            Some(last) if next.start <= last.end => last.end = last.end.max(next.end),
            _ => joined.push(Stretch { tick: false, ..next }),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(list: &[(i64, i64)]) -> Vec<Stretch> {
        list.iter().map(|&(start, end)| Stretch::between(start, end)).collect()
    }

    fn tick(start: i64, end: i64) -> Stretch {
        Stretch { start, end, tick: true }
    }

    #[test]
    fn what_is_taken_away_may_touch_span_or_miss() {
        let taken = plain(&[(0, 2), (4, 5), (6, 20), (30, 31)]);
        assert_eq!(minus(&plain(&[(1, 8), (8, 10), (19, 40)]), &taken), plain(&[(2, 4), (5, 6), (20, 30), (31, 40)]));
        assert_eq!(minus(&[tick(2, 4), tick(4, 6)], &taken), [tick(2, 4), Stretch::between(5, 6)]);
    }

    #[test]
    fn a_tick_begins_a_window_and_ends_the_one_before() {
        let all = [plain(&[(0, 10), (10, 12), (20, 22)]), vec![tick(0, 1), tick(4, 6), tick(22, 23)]].concat();
        assert_eq!(union(all), [tick(0, 4), tick(4, 12), Stretch::between(20, 22), tick(22, 23)]);
    }
}
