//! Sets of row numbers, written as ranges: `3,17-20`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Numbers of rows of a Coupon, from 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct RowSet(
    /// First and last of each range: ascending, with a gap between any two.
    Vec<(u32, u32)>,
);

/// A text that is no set of rows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no set of row numbers: write ranges in ascending order, such as 3,17-20")]
pub struct RowSetError(String);

impl RowSet {
    /// All rows from 1 to `count`.
    #[must_use]
    pub fn up_to(count: u32) -> Self {
        Self(if count == 0 { Vec::new() } else { vec![(1, count)] })
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.0.iter().fold(0, |all, (first, last)| all.saturating_add(last.saturating_sub(*first)).saturating_add(1))
    }

    #[must_use]
    pub fn contains(&self, row: u32) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&row))
    }

    /// The rows, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().flat_map(|(first, last)| *first..=*last)
    }

    /// Every row that is in one of the two.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        let mut ranges: Vec<_> = self.0.iter().chain(&other.0).copied().collect();
        ranges.sort_unstable();
        let mut joined: Vec<(u32, u32)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match joined.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => joined.push((first, last)),
            }
        }
        Self(joined)
    }

    /// Every row of this one that is not in the other.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let mut left = Vec::new();
        for &(first, last) in &self.0 {
            let mut at = first;
            for &(taken_first, taken_last) in other.0.iter().filter(|(f, l)| *f <= last && *l >= first) {
                if taken_first > at {
                    left.push((at, taken_first.saturating_sub(1)));
                }
                at = at.max(taken_last.saturating_add(1));
            }
            if at <= last {
                left.push((at, last));
            }
        }
        Self(left)
    }

    /// Every row that is in both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        self.minus(&self.minus(other))
    }

    /// The first `count` rows.
    #[must_use]
    pub fn first(&self, count: u32) -> Self {
        self.iter().take(usize::try_from(count).unwrap_or(usize::MAX)).collect()
    }
}

impl FromIterator<u32> for RowSet {
    fn from_iter<T: IntoIterator<Item = u32>>(rows: T) -> Self {
        let mut rows: Vec<u32> = rows.into_iter().collect();
        rows.sort_unstable();
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for row in rows {
            match ranges.last_mut() {
                Some((_, last)) if row <= last.saturating_add(1) => *last = row,
                _ => ranges.push((row, row)),
            }
        }
        Self(ranges)
    }
}

impl fmt::Display for RowSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (first, last)) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for RowSet {
    type Err = RowSetError;

    fn from_str(text: &str) -> Result<Self, RowSetError> {
        let wrong = || RowSetError(text.to_owned());
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for range in text.split(',').filter(|_| !text.is_empty()) {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last): (u32, u32) = first.parse().ok().zip(last.parse().ok()).ok_or_else(wrong)?;
            let before = ranges.last().map_or(0, |(_, last)| *last);
            // From 1, and a gap before it: else it would not be written so.
            let apart = ranges.is_empty() || first > before.saturating_add(1);
            if first == 0 || first > last || !apart || first <= before {
                return Err(wrong());
            }
            ranges.push((first, last));
        }
        Ok(Self(ranges))
    }
}

impl From<RowSet> for String {
    fn from(rows: RowSet) -> Self {
        rows.to_string()
    }
}

impl TryFrom<String> for RowSet {
    type Error = RowSetError;

    fn try_from(text: String) -> Result<Self, RowSetError> {
        text.parse()
    }
}

impl schemars::JsonSchema for RowSet {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RowSet".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        // 500 rows apart from each other are the longest that 1000 rows can make.
        schemars::json_schema!({
            "type": "string",
            "maxLength": 4096,
            "pattern": "^([1-9][0-9]{0,8}(-[1-9][0-9]{0,8})?(,[1-9][0-9]{0,8}(-[1-9][0-9]{0,8})?)*)?$",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn rows() -> impl Strategy<Value = BTreeSet<u32>> {
        prop::collection::btree_set(1_u32..40, 0..30)
    }

    fn set(rows: &BTreeSet<u32>) -> RowSet {
        rows.iter().copied().collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn sets_of_rows_do_what_sets_do(a in rows(), b in rows(), n in 0_u32..40) {
            let (x, y) = (set(&a), set(&b));
            prop_assert_eq!(x.or(&y), set(&a.union(&b).copied().collect()));
            prop_assert_eq!(x.and(&y), set(&a.intersection(&b).copied().collect()));
            prop_assert_eq!(x.minus(&y), set(&a.difference(&b).copied().collect()));
            prop_assert_eq!(x.first(n), set(&a.iter().copied().take(n as usize).collect()));
            prop_assert_eq!(x.iter().collect::<Vec<_>>(), a.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!((x.len() as usize, x.is_empty(), x.contains(n)), (a.len(), a.is_empty(), a.contains(&n)));
            prop_assert_eq!(x.to_string().parse::<RowSet>().unwrap(), x);
        }

        #[test]
        fn no_text_makes_it_panic_and_what_it_reads_it_writes(text in "[0-9,\\- ]{0,12}") {
            if let Ok(rows) = text.parse::<RowSet>() {
                prop_assert_eq!(rows.to_string().parse::<RowSet>().unwrap(), rows);
            }
        }
    }

    #[test]
    fn rows_are_text_in_json_as_the_schema_says() {
        let rows: RowSet = [20, 3, 17, 18, 19].into_iter().collect();
        assert_eq!(serde_json::to_value(&rows).unwrap(), "3,17-20");
        assert_eq!(serde_json::from_value::<RowSet>("3,17-20".into()).unwrap(), rows);
        let schema = schemars::schema_for!(RowSet);
        let pattern = regex::Regex::new(schema.get("pattern").unwrap().as_str().unwrap()).unwrap();
        for (text, fits) in
            [("3,17-20", true), ("", true), ("1-1000", true), ("0", false), ("1,,2", false), ("1 ", false)]
        {
            assert_eq!(pattern.is_match(text), fits, "{text}");
        }
        // A CRD has no references.
        assert!(<RowSet as schemars::JsonSchema>::inline_schema());
    }

    #[test]
    fn rows_are_written_as_ranges_and_nothing_else_is_read() {
        let rows: RowSet = [20, 3, 17, 18, 19].into_iter().collect();
        assert_eq!(rows.to_string(), "3,17-20");
        assert_eq!(RowSet::up_to(1000).to_string(), "1-1000");
        assert_eq!("".parse::<RowSet>().unwrap(), RowSet::default());
        for bad in ["0", "0-3", "5-3", "3,1", "1-3,3", "1-3,4", ",", "1,", "a", "1 -2", "-1", "99999999999"] {
            assert!(bad.parse::<RowSet>().is_err(), "{bad}");
        }
    }
}
