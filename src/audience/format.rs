//! Profiles as text, read as a stream: one JSON object a line, CSV, or one JSON array.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};

use serde::Deserialize;
use serde_json::Value;

use crate::api::campaign::{AudienceFormat, Profile};

/// The longest line, or element of an array, in bytes: a Coupon has room for no more of anybody.
pub const MOST_PROFILE_BYTES: usize = 1024 * 1024;

/// Profiles that cannot be read. Each says where.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    #[error("cannot be read: {0}")]
    Read(#[from] std::io::Error),
    #[error("{place}: is no profile: {error}; {EXAMPLE}")]
    Json { place: Place, error: serde_json::Error },
    #[error("{0}: has more than {MOST_PROFILE_BYTES} bytes")]
    TooLong(Place),
    #[error("{0}")]
    Csv(#[from] csv::Error),
    #[error("{0}: integrationId is empty")]
    NoId(Place),
    #[error("has no column integrationId: the first row of a CSV file names its columns")]
    NoIdColumn,
    #[error("is no JSON array: it begins with [, and has an object for each profile; {EXAMPLE}")]
    NoArray,
    #[error("ends before the array does, after {0} profiles")]
    Cut(u64),
    #[error("has more after the array of {0} profiles: put all of them into one")]
    More(u64),
}

const EXAMPLE: &str =
    r#"write one JSON object for each, such as {"integrationId":"customer-1","attributes":{"tier":"gold"}}"#;

impl FormatError {
    /// What status may say of it: not what the text holds, which may be somebody's data.
    #[must_use]
    pub fn without_data(&self) -> String {
        match self {
            Self::Read(_) => "cannot be read to its end".to_owned(),
            Self::Json { place, error } => {
                let column = error.column();
                format!("{place}, column {column}: is no profile; {EXAMPLE}")
            }
            Self::Csv(error) => match error.position() {
                Some(position) => {
                    format!("line {}: is no row of CSV as in RFC 4180 with as many cells as the first", position.line())
                }
                None => "is no CSV as in RFC 4180".to_owned(),
            },
            other => other.to_string(),
        }
    }
}

/// Where something stands, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Line(u64),
    Element(u64),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Line(number) => write!(f, "line {number}"),
            Self::Element(number) => write!(f, "element {number}"),
        }
    }
}

/// What some programs write in front of UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Profiles, one after the other. After an error there is nothing more.
pub type Profiles = Box<dyn Iterator<Item = Result<Profile, FormatError>> + Send>;

/// Reads profiles.
///
/// # Errors
/// If it cannot be read, or a CSV text has no column `integrationId`.
pub fn profiles(format: AudienceFormat, source: impl Read + Send + 'static) -> Result<Profiles, FormatError> {
    let mut source = BufReader::with_capacity(1 << 18, source);
    if source.fill_buf()?.starts_with(BYTE_ORDER_MARK) {
        source.consume(BYTE_ORDER_MARK.len());
    }
    let profiles: Profiles = match format {
        AudienceFormat::Ndjson => Box::new(of_ndjson(source)),
        AudienceFormat::Csv => Box::new(of_csv(source)?),
        AudienceFormat::Json => Box::new(Elements { source, read: 0, state: State::Before }),
    };
    Ok(Box::new(until_error(profiles)))
}

fn until_error(profiles: Profiles) -> impl Iterator<Item = Result<Profile, FormatError>> + Send {
    let mut failed = false;
    profiles.take_while(move |profile| {
        let goes_on = !failed;
        failed |= profile.is_err();
        goes_on
    })
}

/// A profile as JSON has it. A misspelt field would be an attribute that nobody has.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    integration_id: String,
    #[serde(default)]
    attributes: BTreeMap<String, Value>,
}

fn of_json(text: &[u8], place: Place) -> Result<Profile, FormatError> {
    let read: Written = serde_json::from_slice(text).map_err(|error| FormatError::Json { place, error })?;
    with_id(Profile { integration_id: read.integration_id, attributes: read.attributes }, place)
}

fn with_id(profile: Profile, place: Place) -> Result<Profile, FormatError> {
    if profile.integration_id.trim().is_empty() { Err(FormatError::NoId(place)) } else { Ok(profile) }
}

fn of_ndjson(mut source: impl BufRead) -> impl Iterator<Item = Result<Profile, FormatError>> {
    let mut number = 0_u64;
    std::iter::from_fn(move || {
        loop {
            number = number.saturating_add(1);
            let line = match line(&mut source, Place::Line(number)) {
                Ok(line) => line?,
                Err(error) => return Some(Err(error)),
            };
            if !line.trim_ascii().is_empty() {
                return Some(of_json(&line, Place::Line(number)));
            }
        }
    })
}

/// The next line; none at the end.
fn line(source: &mut impl BufRead, place: Place) -> Result<Option<Vec<u8>>, FormatError> {
    let mut line = Vec::new();
    let most = u64::try_from(MOST_PROFILE_BYTES).unwrap_or(u64::MAX);
    source.take(most.saturating_add(1)).read_until(b'\n', &mut line)?;
    if line.len() > MOST_PROFILE_BYTES {
        return Err(FormatError::TooLong(place));
    }
    Ok((!line.is_empty()).then_some(line))
}

fn of_csv<R: Read>(source: R) -> Result<impl Iterator<Item = Result<Profile, FormatError>>, FormatError> {
    let mut reader = csv::Reader::from_reader(source);
    let columns = reader.headers()?.clone();
    if !columns.iter().any(|column| column == "integrationId") {
        return Err(FormatError::NoIdColumn);
    }
    Ok(reader.into_records().map(move |row| {
        let row = row?;
        let line = row.position().map_or(0, csv::Position::line);
        with_id(of_row(&columns, &row), Place::Line(line))
    }))
}

/// An empty cell is an attribute that is absent.
fn of_row(columns: &csv::StringRecord, row: &csv::StringRecord) -> Profile {
    let mut profile = Profile { integration_id: String::new(), attributes: BTreeMap::new() };
    for (column, cell) in columns.iter().zip(row).filter(|(_, cell)| !cell.is_empty()) {
        if column == "integrationId" {
            cell.clone_into(&mut profile.integration_id);
        } else {
            profile.attributes.insert(column.to_owned(), Value::String(cell.to_owned()));
        }
    }
    profile
}

/// The elements of a JSON array, each read when it is asked for.
struct Elements<R> {
    source: R,
    read: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing of the array was read.
    Before,
    Inside,
    Ended,
    /// It ended, and something follows.
    More,
}

impl<R: BufRead> Iterator for Elements<R> {
    type Item = Result<Profile, FormatError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.state == State::Before {
            self.state = State::Inside;
            match self.visible() {
                Ok(Some(b'[')) => {}
                Ok(_) => return Some(Err(FormatError::NoArray)),
                Err(error) => return Some(Err(error.into())),
            }
        }
        let place = Place::Element(self.read.saturating_add(1));
        match self.element(place) {
            Ok(Some(text)) => {
                self.read = self.read.saturating_add(1);
                Some(of_json(&text, place))
            }
            Ok(None) => None,
            Err(error) => Some(Err(error)),
        }
    }
}

impl<R: BufRead> Elements<R> {
    /// The text of the next element, up to the comma or bracket that ends it.
    fn element(&mut self, place: Place) -> Result<Option<Vec<u8>>, FormatError> {
        match self.state {
            State::Ended => return Ok(None),
            State::More => return Err(FormatError::More(self.read)),
            State::Before | State::Inside => {}
        }
        let (mut text, mut nesting) = (Vec::new(), Nesting::default());
        loop {
            let Some(byte) = self.byte()? else { return Err(FormatError::Cut(self.read)) };
            match nesting.after(byte) {
                Step::Element => text.push(byte),
                Step::Comma => return Ok(Some(text)),
                Step::End => {
                    self.state = if self.visible()?.is_some() { State::More } else { State::Ended };
                    // An array without elements, and only such a one, has nothing before its end.
                    let empty = self.read == 0 && text.trim_ascii().is_empty();
                    return Ok((!empty).then_some(text));
                }
            }
            if text.len() > MOST_PROFILE_BYTES {
                return Err(FormatError::TooLong(place));
            }
        }
    }

    fn visible(&mut self) -> std::io::Result<Option<u8>> {
        loop {
            match self.byte()? {
                Some(byte) if byte.is_ascii_whitespace() => {}
                other => return Ok(other),
            }
        }
    }

    fn byte(&mut self) -> std::io::Result<Option<u8>> {
        let byte = self.source.fill_buf()?.first().copied();
        self.source.consume(usize::from(byte.is_some()));
        Ok(byte)
    }
}

/// How deep in an element, and whether in a text of it.
#[derive(Default)]
struct Nesting {
    depth: usize,
    in_text: bool,
    escaped: bool,
}

enum Step {
    /// It belongs to the element.
    Element,
    /// The element ends, and another follows.
    Comma,
    /// The array ends.
    End,
}

impl Nesting {
    fn after(&mut self, byte: u8) -> Step {
        if self.in_text {
            let ends = byte == b'"' && !self.escaped;
            self.escaped = byte == b'\\' && !self.escaped;
            self.in_text = !ends;
            return Step::Element;
        }
        match byte {
            b'"' => self.in_text = true,
            b'{' | b'[' => self.depth = self.depth.saturating_add(1),
            b']' if self.depth == 0 => return Step::End,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            b',' if self.depth == 0 => return Step::Comma,
            _ => {}
        }
        Step::Element
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(format: AudienceFormat, text: &str) -> Vec<Result<Profile, String>> {
        match profiles(format, std::io::Cursor::new(text.to_owned())) {
            Ok(profiles) => profiles.map(|profile| profile.map_err(|error| error.to_string())).collect(),
            Err(error) => vec![Err(error.to_string())],
        }
    }

    fn ids(format: AudienceFormat, text: &str) -> Vec<String> {
        read(format, text)
            .into_iter()
            .map(|profile| profile.map_or_else(|error| error, |profile| profile.integration_id))
            .collect()
    }

    #[test]
    fn one_object_a_line_and_errors_name_their_line() {
        let text = "{\"integrationId\":\"a\",\"attributes\":{\"tier\":\"gold\"}}\n\n{\"integrationId\":\"b\"}\r\n{\"id\":1}\n{\"integrationId\":\"c\"}";
        let found = read(AudienceFormat::Ndjson, text);
        assert_eq!(found[0].as_ref().unwrap().attributes["tier"], "gold");
        assert_eq!(found[1].as_ref().unwrap().integration_id, "b");
        assert!(found[2].as_ref().unwrap_err().starts_with("line 4: is no profile: unknown field `id`"));
        assert_eq!(found.len(), 3, "what comes after an error is not taken");
        assert_eq!(ids(AudienceFormat::Ndjson, "{\"integrationId\":\" \"}"), ["line 1: integrationId is empty"]);
        assert_eq!(ids(AudienceFormat::Ndjson, " \n"), Vec::<String>::new());
        let long = |length: usize| ids(AudienceFormat::Ndjson, &" ".repeat(length));
        assert_eq!((long(MOST_PROFILE_BYTES).len(), long(MOST_PROFILE_BYTES + 1).len()), (0, 1));
    }

    #[test]
    fn csv_has_a_header_row_and_an_empty_cell_is_absent() {
        let text = "integrationId,tier,name\na,gold,\"Ada,\nL.\"\nb,,\n,x,y\n";
        let found = read(AudienceFormat::Csv, text);
        assert_eq!(found[0].as_ref().unwrap().attributes["name"], "Ada,\nL.");
        assert!(found[1].as_ref().unwrap().attributes.is_empty());
        assert_eq!(found[2], Err("line 5: integrationId is empty".into()));
        assert!(ids(AudienceFormat::Csv, "id\na\n")[0].contains("no column integrationId"));
        assert!(ids(AudienceFormat::Csv, "integrationId,x\na\n")[0].contains("line: 2"));
    }

    #[test]
    fn an_array_is_read_element_by_element() {
        let of = |text: &str| ids(AudienceFormat::Json, text);
        assert_eq!(of(" [ ] "), Vec::<String>::new());
        assert_eq!(
            of(r#"[{"integrationId":"a,]}\""},{"integrationId":"b","attributes":{"x":[1,[2]],"y":{"z":"\\"}}}]"#),
            ["a,]}\"", "b"]
        );
        for (text, error) in [
            ("", "is no JSON array"),
            ("{}", "is no JSON array"),
            ("[", "ends before the array does, after 0 profiles"),
            (r#"[{"integrationId":"a"}"#, "ends before the array does, after 0 profiles"),
            (r#"[{"integrationId":"a"},"#, "ends before the array does, after 1 profiles"),
            (r#"[{"integrationId":"a"},]"#, "element 2: is no profile"),
            ("[,]", "element 1: is no profile"),
            (r#"[{"integrationId":"a"}] [{"integrationId":"b"}]"#, "has more after the array of 1 profiles"),
            (r#"["a"]"#, "element 1: is no profile"),
        ] {
            let last = of(text).pop().unwrap();
            assert!(last.starts_with(error), "{text}: {last}");
        }
        assert_eq!(of(r#"[{"integrationId":"a"},5,{"integrationId":"b"}]"#).len(), 2);
    }

    #[test]
    fn i7_what_status_says_shows_nobodys_data() {
        for (format, text) in [
            (AudienceFormat::Ndjson, "{\"integrationId\":\"canary\",\"attributes\":\"canary\"}"),
            (AudienceFormat::Json, "[{\"integrationId\":\"a\"},\"canary\"]"),
            (AudienceFormat::Csv, "integrationId,x\ncanary\n"),
        ] {
            let error = profiles(format, text.as_bytes()).unwrap().find_map(Result::err).unwrap();
            let said = error.without_data();
            assert!(!said.contains("canary") && (said.contains("line ") || said.contains("element 2")), "{said}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_text() {
        for (format, text) in [
            (AudienceFormat::Ndjson, "\u{feff}{\"integrationId\":\"a\"}"),
            (AudienceFormat::Csv, "\u{feff}integrationId\na\n"),
            (AudienceFormat::Json, "\u{feff}[{\"integrationId\":\"a\"}]\n"),
        ] {
            assert_eq!(ids(format, text), ["a"]);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_profiles_hold_they_come_back_equal_in_each_format(
            audience in prop::collection::vec(("[^\\s].{0,8}", prop::collection::btree_map("[a-z]{1,3}", ".{1,6}", 0..3)), 0..5),
        ) {
            let expected: Vec<Profile> = audience
                .iter()
                .map(|(id, attributes)| serde_json::from_value(json!({ "integrationId": id, "attributes": attributes })).unwrap())
                .collect();
            let lines: Vec<String> = expected.iter().map(|p| serde_json::to_string(p).unwrap()).collect();
            let array = serde_json::to_string_pretty(&expected).unwrap();
            for (format, text) in [(AudienceFormat::Ndjson, lines.join("\n")), (AudienceFormat::Json, array)] {
                let found: Vec<Profile> = read(format, &text).into_iter().map(Result::unwrap).collect();
                prop_assert_eq!(&found, &expected);
            }
        }
    }
}
