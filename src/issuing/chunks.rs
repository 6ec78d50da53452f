//! Chunks: Coupons that hold the records of many recipients.

use std::collections::{HashSet, VecDeque};

use crate::api::coupon::CouponSpec;
use crate::records::{self, CODE, RECIPIENT, Records};

/// An object of the API server has room for 1.5 MiB of JSON; its status and metadata need some of it.
const MOST_BYTES: usize = 1_000_000;

/// Drafts of single Coupons that wait to be put into chunks, in order.
#[derive(Debug, Default)]
pub struct Queue(VecDeque<CouponSpec>);

impl Queue {
    #[must_use]
    pub fn new(drafts: Vec<CouponSpec>) -> Self {
        Self(drafts.into())
    }

    /// Takes the next drafts for one chunk: at most `size` of the same window, and as many as fit into an
    /// object. The last chunk may be short. None if there is nothing left.
    pub fn take(&mut self, size: usize, number: i32) -> Option<Chunk> {
        let window = self.0.front()?.window;
        let (mut drafts, mut rows, mut bytes) = (Vec::new(), Vec::new(), 0_usize);
        while let Some(draft) = self.0.front().filter(|d| d.window == window && drafts.len() < size.max(1)) {
            let row = row(draft);
            bytes = bytes.saturating_add(length_in_json(&row));
            if bytes > MOST_BYTES && !drafts.is_empty() {
                break;
            }
            rows.push(row);
            drafts.extend(self.0.pop_front());
        }
        let spec = together(drafts.first()?, rows, number);
        Some(Chunk { spec, drafts })
    }

    /// Puts the drafts of a chunk back that was not written: another of its number was there already, and whoever is
    /// in that one gets no second code.
    pub fn put_back(&mut self, chunk: Chunk, there: &CouponSpec) {
        let known: HashSet<String> =
            Records::of(there).recipients().map(|(_, recipient)| recipient.into_owned()).collect();
        chunk.drafts.into_iter().rev().for_each(|draft| self.0.push_front(draft));
        self.0.retain(|draft| draft.recipient.as_ref().is_none_or(|recipient| !known.contains(recipient.trim())));
    }

    /// Puts drafts at the end.
    pub fn extend(&mut self, drafts: Vec<CouponSpec>) {
        self.0.extend(drafts);
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The codes of those who wait.
    pub fn codes(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|draft| draft.code.as_deref())
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A Coupon of many records, and the drafts that it was made of.
#[derive(Debug)]
pub struct Chunk {
    pub spec: CouponSpec,
    drafts: Vec<CouponSpec>,
}

/// Drafts of one pass and rule have the same bindings, so that the first tells the columns of all.
fn together(first: &CouponSpec, rows: Vec<String>, number: i32) -> CouponSpec {
    let parameters = first.deliveries.iter().flat_map(|delivery| {
        delivery.parameters.keys().map(|parameter| records::parameter_column(&delivery.name, parameter))
    });
    let attributes = first.attributes.keys().map(|name| records::attribute_column(name));
    let columns = [RECIPIENT, CODE].map(str::to_owned).into_iter().chain(parameters).chain(attributes).collect();
    let mut spec =
        CouponSpec { chunk: Some(number), columns, rows: rows.into(), recipient: None, code: None, ..first.clone() };
    spec.attributes.clear();
    spec.deliveries.iter_mut().for_each(|delivery| delivery.parameters.clear());
    spec
}

/// The record of a draft as a row.
pub(super) fn row(draft: &CouponSpec) -> String {
    let own = [draft.recipient.as_deref(), draft.code.as_deref()].map(Option::unwrap_or_default);
    let parameters = draft.deliveries.iter().flat_map(|delivery| delivery.parameters.values());
    records::row(own.into_iter().chain(parameters.chain(draft.attributes.values()).map(String::as_str)))
}

fn length_in_json(text: &str) -> usize {
    let escaped = text.bytes().filter(|b| matches!(b, b'"' | b'\\')).count();
    // A control character takes six bytes.
    let control = text.bytes().filter(u8::is_ascii_control).count().saturating_mul(5);
    text.len().saturating_add(escaped).saturating_add(control).saturating_add(3)
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use serde_json::json;

    use super::*;
    use crate::api::campaign::Window;

    fn draft(recipient: &str, value: &str) -> CouponSpec {
        serde_json::from_value(json!({
            "campaign": "c", "rule": "r", "occurrence": "o", "issuedAt": "2023-01-01T00:00:00Z",
            "recipient": recipient, "code": format!("{recipient}-code"), "attributes": { "who": recipient },
            "deliveries": [
                { "name": "one", "webhookRef": { "name": "w" }, "parameters": { "A": value, "B": "[1,\"2\"]" } },
                { "name": "two", "webhookRef": { "name": "v" }, "parameters": { "A": recipient } } ],
        }))
        .unwrap()
    }

    fn drafts(count: usize) -> Queue {
        Queue::new((0..count).map(|i| draft(&format!("c{i}"), "x, \"y\"\n")).collect())
    }

    #[test]
    fn i3_a_chunk_holds_the_values_of_each_of_its_drafts() {
        let chunk = drafts(3).take(1000, 7).unwrap();
        assert_eq!((chunk.spec.chunk, chunk.spec.recipient.as_ref(), chunk.spec.attributes.len()), (Some(7), None, 0));
        for (row, record) in Records::of(&chunk.spec).iter() {
            let draft = draft(&format!("c{}", row - 1), "x, \"y\"\n");
            assert_eq!(
                (record.recipient(), record.code()),
                (draft.recipient.as_deref().unwrap(), draft.code.as_deref().unwrap())
            );
            for delivery in &draft.deliveries {
                assert_eq!(record.parameters(&delivery.name), delivery.parameters);
            }
        }
        assert_eq!(Records::of(&chunk.spec).iter().count(), 3);
        assert_eq!((&chunk.spec.recipient, &chunk.spec.code), (&None, &None), "what a single record has");
    }

    #[test]
    fn chunks_are_full_but_the_last_and_have_one_window() {
        let mut queue = drafts(5);
        assert!(!queue.is_empty());
        let sizes: Vec<usize> = std::iter::from_fn(|| queue.take(2, 1)).map(|chunk| chunk.spec.rows.len()).collect();
        assert_eq!(sizes, [2, 2, 1]);
        let mut others = drafts(3);
        others.0[1].window = Some(Window { start_time: DateTime::from_timestamp(1, 0), end_time: None });
        let sizes: Vec<usize> = std::iter::from_fn(|| others.take(9, 1)).map(|chunk| chunk.spec.rows.len()).collect();
        assert_eq!(sizes, [1, 1, 1]);
    }

    #[test]
    fn a_chunk_fits_into_an_object() {
        let large = "\u{1}\"".repeat(30_000);
        let mut queue = Queue::new((0..20).map(|i| draft(&format!("c{i}"), &large)).collect());
        while let Some(chunk) = queue.take(1000, 1) {
            assert!(serde_json::to_string(&chunk.spec).unwrap().len() < 1_100_000);
            assert!(chunk.spec.rows.len() > 1, "and is not shorter than it need be");
        }
        let length = |value: &str| length_in_json(&row(&draft("c1", value)));
        let half = "x".repeat(MOST_BYTES / 2 - length(""));
        assert_eq!(length(&half) * 2, MOST_BYTES);
        let chunks = |values: [&str; 2]| {
            let mut queue = Queue::new(values.iter().map(|value| draft("c1", value)).collect());
            std::iter::from_fn(move || queue.take(1000, 1)).count()
        };
        assert_eq!((chunks([&half, &half]), chunks([&half, &(half.clone() + "x")])), (1, 2), "to the last byte");
    }

    #[test]
    fn i1_whoever_is_in_a_chunk_that_was_there_gets_no_second_code() {
        let mut queue = drafts(5);
        let chunk = queue.take(2, 1).unwrap();
        let there = Queue::new(vec![draft("c1", ""), draft("c4", ""), draft("other", "")]).take(9, 1).unwrap().spec;
        queue.put_back(chunk, &there);
        let next = queue.take(9, 2).unwrap().spec;
        let recipients: Vec<String> = Records::of(&next).iter().map(|(_, r)| r.recipient().to_owned()).collect();
        assert_eq!(recipients, ["c0", "c2", "c3"]);
        assert!(queue.is_empty());
    }
}
