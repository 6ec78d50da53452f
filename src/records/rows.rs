//! The rows of a Coupon: all of them, or, where Coupons wait in the operator's cache, the first alone.

use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

/// Rows, and whether they are held. A thousand Coupons of a thousand rows that wait for their turn would fill the memory
/// with what is needed of fifteen.
#[derive(Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(from = "Vec<String>")]
pub struct Rows {
    held: Arc<Vec<String>>,
    left_out: usize,
}

impl From<Vec<String>> for Rows {
    fn from(held: Vec<String>) -> Self {
        Self { held: Arc::new(held), left_out: 0 }
    }
}

impl Serialize for Rows {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.held.as_slice().serialize(serializer)
    }
}

impl Rows {
    /// How many there are, held or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.len().saturating_add(self.left_out)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True if each can be read.
    #[must_use]
    pub fn are_held(&self) -> bool {
        self.left_out == 0
    }

    /// Those that are held.
    #[must_use]
    pub fn held(&self) -> &[String] {
        &self.held
    }

    /// The first, and how many there are.
    #[must_use]
    pub fn outline(&self) -> Self {
        let first: Vec<String> = self.held.first().cloned().into_iter().collect();
        let left_out = self.len().saturating_sub(first.len());
        Self { held: Arc::new(first), left_out }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_outline_says_how_many_there_are_and_holds_the_first() {
        let rows: Rows = serde_json::from_value(json!(["a,1", "b,2", "c,3"])).unwrap();
        assert!(rows.are_held());
        for outline in [rows.outline(), rows.outline().outline()] {
            assert_eq!((outline.len(), outline.held(), outline.are_held()), (3, &["a,1".to_owned()][..], false));
            assert_eq!(json!(outline), json!(["a,1"]));
        }
        assert_eq!(json!(rows), json!(["a,1", "b,2", "c,3"]));
        let (none, one) = (Rows::default().outline(), Rows::from(vec!["a".to_owned()]).outline());
        assert_eq!((none.is_empty(), none.are_held(), one.len(), one.are_held()), (true, true, 1, true));
    }
}
