//! Stretches of time, and their union.

use chrono::{DateTime, Utc};

/// From `start` inclusive to `end` exclusive; none is without bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Stretch {
    pub start: Option<DateTime<Utc>>,
    pub end: Option<DateTime<Utc>>,
}

impl Stretch {
    /// The part of it that lies in another; none if there is none.
    pub fn clipped_to(self, other: Self) -> Option<Self> {
        let start = self.start.max(other.start);
        let end = match (self.end, other.end) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let empty = matches!((start, end), (Some(start), Some(end)) if end <= start);
        (!empty).then_some(Self { start, end })
    }
}

/// The longest unbroken stretches that these cover, in order.
pub(super) fn union(mut stretches: Vec<Stretch>) -> Vec<Stretch> {
    // None sorts first, as it should: without a start is before every start.
    stretches.sort_by_key(|s| s.start);
    let mut joined: Vec<Stretch> = Vec::new();
    for next in stretches {
        match joined.last_mut() {
            Some(last) if touches(*last, next) => last.end = later_end(last.end, next.end),
            _ => joined.push(next),
        }
    }
    joined
}

fn touches(earlier: Stretch, later: Stretch) -> bool {
    match (earlier.end, later.start) {
        (Some(end), Some(start)) => start <= end,
        _ => true,
    }
}

fn later_end(a: Option<DateTime<Utc>>, b: Option<DateTime<Utc>>) -> Option<DateTime<Utc>> {
    a.zip(b).map(|(a, b)| a.max(b))
}
