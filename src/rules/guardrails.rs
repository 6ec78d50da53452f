//! Guardrails: what keeps a mistake that ten recipients would have shown from reaching a million.

use crate::api::campaign::{Guardrails, OccurrenceStatus};

/// Of fewer records that came to their end, a share says nothing, unless there are no others.
const FEWEST: i64 = 20;

/// Too many records of an occurrence failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{bad} of the {ended} records that came to their end failed or have an unknown outcome, and guardrails.stopWhenFailedPercent is {percent}"
)]
pub struct TooManyFailed {
    pub bad: i64,
    pub ended: i64,
    pub percent: i32,
}

/// Whether issuing and sending stop for an occurrence, of whose failures a person has accepted so many.
#[must_use]
pub fn too_many_failed(guardrails: &Guardrails, occurrence: &OccurrenceStatus, accepted: i64) -> Option<TooManyFailed> {
    let percent = guardrails.stop_when_failed_percent?;
    let all_bad = occurrence.failed.saturating_add(occurrence.unknown);
    let accepted = accepted.clamp(0, all_bad);
    let bad = all_bad.saturating_sub(accepted);
    let all_ended = occurrence.delivered.saturating_add(all_bad);
    let ended = all_ended.saturating_sub(accepted);
    let enough = ended >= FEWEST || all_ended >= occurrence.issued;
    let too_many = bad.saturating_mul(100) >= i64::from(percent).saturating_mul(ended);
    (bad > 0 && enough && too_many).then_some(TooManyFailed { bad, ended, percent })
}

/// How many may still be issued to before those who went first are settled; none if that is past, or nobody goes first.
#[must_use]
pub fn canaries_left(guardrails: &Guardrails, occurrence: &OccurrenceStatus) -> Option<usize> {
    let first = guardrails.canary_recipients?;
    let issued = occurrence.issued.saturating_add(occurrence.accepted_missing);
    let ended = occurrence.delivered.saturating_add(occurrence.failed).saturating_add(occurrence.unknown);
    let past = issued > first || (issued == first && ended >= occurrence.issued);
    (!past).then(|| usize::try_from(first.saturating_sub(issued)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn occurrence([issued, delivered, failed, unknown]: [i64; 4]) -> OccurrenceStatus {
        OccurrenceStatus { issued, delivered, failed, unknown, ..OccurrenceStatus::default() }
    }

    fn guardrails(percent: i32, canaries: i64) -> Guardrails {
        Guardrails { max_recipients: None, canary_recipients: Some(canaries), stop_when_failed_percent: Some(percent) }
    }

    #[test]
    fn a_share_of_failures_stops_once_there_are_enough_to_judge_by() {
        let hit = |counts, accepted| too_many_failed(&guardrails(10, 1), &occurrence(counts), accepted).is_some();
        for (counts, expected) in [
            ([1000, 18, 2, 0], true),
            ([1000, 18, 1, 1], true),
            ([1000, 19, 2, 0], false),
            ([1000, 17, 2, 0], false),
            ([19, 17, 2, 0], true),
            ([1, 0, 1, 0], true),
            ([0, 0, 0, 0], false),
            ([30, 30, 0, 0], false),
            ([30, 0, 0, 20], true),
        ] {
            assert_eq!(hit(counts, 0), expected, "{counts:?}");
        }
        assert!(!hit([1000, 18, 2, 0], 2), "a person accepted them");
        assert!(hit([1000, 18, 12, 0], 2), "these are new");
        assert!(!hit([1000, 18, 2, 0], 2000), "nobody accepts more than there are");
        assert_eq!(too_many_failed(&Guardrails::default(), &occurrence([1, 0, 1, 0]), 0), None);
    }

    #[test]
    fn the_others_wait_until_those_who_go_first_are_settled() {
        let left = |counts| canaries_left(&guardrails(10, 5), &occurrence(counts));
        assert_eq!(left([0, 0, 0, 0]), Some(5));
        assert_eq!(left([3, 3, 0, 0]), Some(2), "late joiners go first too");
        assert_eq!(left([5, 4, 0, 0]), Some(0));
        assert_eq!(left([5, 3, 1, 1]), None, "all came to their end");
        assert_eq!(left([6, 0, 0, 0]), None, "it is past");
        let missing = OccurrenceStatus { accepted_missing: 2, ..occurrence([3, 3, 0, 0]) };
        assert_eq!(canaries_left(&guardrails(10, 5), &missing), None);
        assert_eq!(canaries_left(&Guardrails::default(), &occurrence([0, 0, 0, 0])), None);
    }
}
