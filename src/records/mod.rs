//! What a Coupon holds, whatever its shape: records, numbered from 1. A single Coupon has one.

mod row_set;
mod rows;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

pub use row_set::{RowSet, RowSetError};
pub use rows::Rows;

use crate::api::coupon::CouponSpec;

/// The most records of a Coupon (the CRD's bound of `spec.rows`).
pub const MOST_ROWS: u64 = 1000;

/// The longest record of a Coupon as a row (the CRD's bound of an element of `spec.rows`, which counts characters).
pub const MOST_RECORD_BYTES: usize = 65_536;

/// The column of who a record is for.
pub const RECIPIENT: &str = "recipient";
/// The column of its code.
pub const CODE: &str = "code";
/// What stands before an attribute's name in its column; no delivery's name holds a colon.
const ATTRIBUTE: &str = "attribute:";

/// The column of a delivery's parameter. Names of deliveries hold no `/`.
#[must_use]
pub fn parameter_column(delivery: &str, parameter: &str) -> String {
    format!("{delivery}/{parameter}")
}

/// The column of an attribute.
#[must_use]
pub fn attribute_column(attribute: &str) -> String {
    format!("{ATTRIBUTE}{attribute}")
}

/// The records of a Coupon.
#[derive(Clone, Copy)]
pub struct Records<'a> {
    spec: &'a CouponSpec,
}

/// One record.
pub enum Record<'a> {
    Single(&'a CouponSpec),
    Row { columns: &'a [String], cells: Vec<String> },
}

/// A row that cannot be read: only a person can have written it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    #[error("the Coupon has no row {0}")]
    Missing(u32),
    #[error("row {0} of the Coupon was not read from the API server")]
    LeftOut(u32),
    #[error("spec.rows[{index}] is not one line of comma-separated values as in RFC 4180")]
    NotCsv { index: u32 },
    #[error("spec.rows[{index}] has {found} cells, and there are {wanted} columns")]
    Cells { index: u32, found: usize, wanted: usize },
    #[error("spec.rows[{index}] has no {column}")]
    Empty { index: u32, column: &'static str },
}

impl<'a> Records<'a> {
    #[must_use]
    pub fn of(spec: &'a CouponSpec) -> Self {
        Self { spec }
    }

    /// True if it has rows.
    #[must_use]
    pub fn is_batch(self) -> bool {
        !self.spec.rows.is_empty()
    }

    /// How many records there are.
    #[must_use]
    pub fn count(self) -> u32 {
        if self.is_batch() { u32::try_from(self.spec.rows.len()).unwrap_or(u32::MAX) } else { 1 }
    }

    /// True if each record can be read; in the operator's cache only the first of many can.
    #[must_use]
    pub fn are_held(self) -> bool {
        self.spec.rows.are_held()
    }

    /// One of these records that can be read, to speak for all in what they have in common.
    #[must_use]
    pub fn sample(self, rows: &RowSet) -> Option<u32> {
        let first = rows.iter().next()?;
        Some(if self.are_held() { first } else { 1 })
    }

    /// The parameters of a delivery that were frozen, in each record.
    #[must_use]
    pub fn parameter_names(self, delivery: &str) -> BTreeSet<&'a str> {
        if self.is_batch() {
            let of_delivery = |column: &'a String| column.strip_prefix(delivery)?.strip_prefix('/');
            return self.spec.columns.iter().filter_map(of_delivery).collect();
        }
        let found = self.spec.deliveries.iter().find(|d| d.name == delivery);
        found.map(|d| d.parameters.keys().map(String::as_str).collect()).unwrap_or_default()
    }

    /// The numbers of all records.
    #[must_use]
    pub fn all(self) -> RowSet {
        RowSet::up_to(self.count())
    }

    /// A record by its number.
    ///
    /// # Errors
    /// If there is no such row, or it does not fit the columns.
    pub fn get(self, row: u32) -> Result<Record<'a>, RowError> {
        if !self.is_batch() {
            return if row == 1 { Ok(Record::Single(self.spec)) } else { Err(RowError::Missing(row)) };
        }
        let index = row.checked_sub(1).ok_or(RowError::Missing(row))?;
        let rows = &self.spec.rows;
        let missing = if row <= self.count() { RowError::LeftOut(row) } else { RowError::Missing(row) };
        let text = usize::try_from(index).ok().and_then(|i| rows.held().get(i)).ok_or(missing)?;
        let columns = self.spec.columns.as_slice();
        let cells = cells(text).ok_or(RowError::NotCsv { index })?;
        if cells.len() != columns.len() {
            return Err(RowError::Cells { index, found: cells.len(), wanted: columns.len() });
        }
        let record = Record::Row { columns, cells };
        for column in [RECIPIENT, CODE] {
            record.cell(column).filter(|cell| !cell.trim().is_empty()).ok_or(RowError::Empty { index, column })?;
        }
        Ok(record)
    }

    /// Who the records are for, with their numbers: of those too that cannot be sent, since they name somebody who gets
    /// no second code.
    pub fn recipients(self) -> impl Iterator<Item = (u32, Cow<'a, str>)> {
        let place = self.spec.columns.iter().position(|column| column == RECIPIENT);
        let single = self.spec.recipient.as_deref().filter(|_| !self.is_batch()).map(Cow::Borrowed);
        let rows = self.spec.rows.held().iter().map(move |row| place.and_then(|place| cell(row, place)));
        let named = single.map(Some).into_iter().chain(rows);
        (1..).zip(named).filter_map(|(row, recipient)| Some((row, trimmed(recipient?)))).filter(|(_, r)| !r.is_empty())
    }

    /// The records that can be read, with their numbers.
    pub fn iter(self) -> impl Iterator<Item = (u32, Record<'a>)> {
        (1..=self.count()).filter_map(move |row| Some((row, self.get(row).ok()?)))
    }
}

impl Record<'_> {
    fn cell(&self, column: &str) -> Option<&str> {
        let Self::Row { columns, cells } = self else { return None };
        columns.iter().zip(cells).find(|(name, _)| *name == column).map(|(_, cell)| cell.as_str())
    }

    /// Who it is for.
    #[must_use]
    pub fn recipient(&self) -> &str {
        let recipient = match self {
            Self::Single(spec) => spec.recipient.as_deref(),
            Self::Row { .. } => self.cell(RECIPIENT),
        };
        recipient.unwrap_or_default().trim()
    }

    /// Their code.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Single(spec) => spec.code.as_deref().unwrap_or_default(),
            Self::Row { .. } => self.cell(CODE).unwrap_or_default(),
        }
    }

    /// The frozen values of a delivery, by parameter.
    #[must_use]
    pub fn parameters(&self, delivery: &str) -> BTreeMap<String, String> {
        match self {
            Self::Single(spec) => {
                let found = spec.deliveries.iter().find(|d| d.name == delivery);
                found.map(|d| d.parameters.clone()).unwrap_or_default()
            }
            Self::Row { columns, cells } => columns
                .iter()
                .zip(cells)
                .filter_map(|(column, cell)| Some((column.strip_prefix(delivery)?.strip_prefix('/')?, cell)))
                .map(|(parameter, cell)| (parameter.to_owned(), cell.clone()))
                .collect(),
        }
    }
}

impl Record<'_> {
    /// Its own attributes.
    #[must_use]
    pub fn attributes(&self) -> BTreeMap<String, String> {
        match self {
            Self::Single(spec) => spec.attributes.clone(),
            Self::Row { columns, cells } => columns
                .iter()
                .zip(cells)
                .filter_map(|(column, cell)| Some((column.strip_prefix(ATTRIBUTE)?.to_owned(), cell.clone())))
                .collect(),
        }
    }
}

/// Writes cells as one line, as RFC 4180 says.
#[must_use]
pub fn row<'a>(cells: impl IntoIterator<Item = &'a str>) -> String {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::Any(b'\n')).from_writer(Vec::new());
    // Writing to memory does not fail.
    let _ = writer.write_record(cells);
    let written = writer.into_inner().ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
    written.strip_suffix('\n').map(str::to_owned).unwrap_or(written)
}

/// A cell of a row. The first is mostly found without reading the others.
fn cell(row: &str, place: usize) -> Option<Cow<'_, str>> {
    if place == 0 && !row.starts_with('"') {
        return row.split(',').next().map(Cow::Borrowed);
    }
    cells(row)?.into_iter().nth(place).map(Cow::Owned)
}

fn trimmed(text: Cow<'_, str>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
        Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
    }
}

fn cells(row: &str) -> Option<Vec<String>> {
    // A reader is made anew for each row and takes longer for that than for reading: most rows need none.
    if !row.contains(['"', '\r', '\n']) {
        return Some(row.split(',').map(str::to_owned).collect());
    }
    read(row)
}

fn read(row: &str) -> Option<Vec<String>> {
    // A cell in front, since the reader takes a byte order mark at the beginning for no part of the text.
    let text = b"-,".chain(row.as_bytes());
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .buffer_capacity(row.len().saturating_add(2))
        .from_reader(text);
    let mut records = reader.records();
    let first = records.next()?.ok()?;
    let alone = records.next().is_none();
    alone.then(|| first.iter().skip(1).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn batch(columns: &[&str], rows: &[String]) -> CouponSpec {
        serde_json::from_value(json!({ "columns": columns, "rows": rows,
            "deliveries": [{ "name": "tell", "webhookRef": { "name": "w" } }] }))
        .unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_row_without_quotes_is_read_as_any_other(row in "[a,; \u{feff}é]{0,8}|[a-z0-9-]{1,20}(,[A-Z# .'-]{0,9}){0,6}") {
            prop_assert_eq!(cells(&row), read(&row));
        }

        #[test]
        fn i3_whatever_a_cell_holds_it_comes_back_equal(
            recipient in "[^\\s].*|[\",\n\r]x", code in "[A-Z0-9-]{1,9}", value in "(?s).*", other in "[\",\r\n\u{feff} ]{0,5}",
        ) {
            let spec = batch(
                &["recipient", "code", "tell/P", "tell.more/P", "tell/Q"],
                &[row([recipient.as_str(), &code, &value, "no", &other])],
            );
            let record = Records::of(&spec).get(1).unwrap();
            prop_assert_eq!((record.recipient(), record.code()), (recipient.trim(), code.as_str()));
            let expected = BTreeMap::from([("P".to_owned(), value), ("Q".to_owned(), other)]);
            prop_assert_eq!(record.parameters("tell"), expected);
            let turned = batch(&["code", "recipient"], &[row([code.as_str(), &recipient])]);
            for spec in [&spec, &turned] {
                let recipients: Vec<(u32, Cow<'_, str>)> = Records::of(spec).recipients().collect();
                prop_assert_eq!(recipients, [(1, Cow::Borrowed(recipient.trim()))]);
            }
        }
    }

    #[test]
    fn the_names_of_columns_are_a_frozen_format() {
        assert_eq!((RECIPIENT, CODE), ("recipient", "code"));
        assert_eq!(parameter_column("tell", "CouponCode"), "tell/CouponCode");
        assert_eq!(attribute_column("tier"), "attribute:tier");
    }

    #[test]
    fn a_single_record_names_its_recipient_too() {
        let single: CouponSpec =
            serde_json::from_value(json!({ "recipient": " ada ", "code": "A", "deliveries": [] })).unwrap();
        let recipients: Vec<(u32, Cow<'_, str>)> = Records::of(&single).recipients().collect();
        assert_eq!(recipients, [(1, Cow::Borrowed("ada"))]);
    }

    #[test]
    fn a_row_that_does_not_fit_its_columns_is_an_error_that_names_it() {
        let spec =
            batch(&["recipient", "code"], &["a,1".into(), "b".into(), "c,2\nd,3".into(), ",4".into(), "e,".into()]);
        let records = Records::of(&spec);
        assert_eq!(records.count(), 5);
        assert_eq!(
            records.iter().map(|(row, r)| (row, r.recipient().to_owned())).collect::<Vec<_>>(),
            [(1, "a".into())]
        );
        let named: Vec<(u32, String)> = records.recipients().map(|(row, r)| (row, r.into_owned())).collect();
        let expected = [(1, "a"), (2, "b"), (3, "c"), (5, "e")].map(|(row, r)| (row, r.to_owned()));
        assert_eq!(named, expected, "those who are named get no second code");
        let error = |row| records.get(row).err().unwrap().to_string();
        assert_eq!(error(2), "spec.rows[1] has 1 cells, and there are 2 columns");
        assert!(error(3).starts_with("spec.rows[2] is not one line"));
        assert_eq!((error(4), error(5)), ("spec.rows[3] has no recipient".into(), "spec.rows[4] has no code".into()));
        assert_eq!((error(6), error(0)), ("the Coupon has no row 6".into(), "the Coupon has no row 0".into()));
    }
}
