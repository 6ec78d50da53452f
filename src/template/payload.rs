//! The payload: a template that is JSON once its placeholders are filled.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::pieces::{self, Piece, Placeholder};
use super::{Declared, Position, Problem, RenderError, TemplateError, Values, value_of};
use crate::api::webhook::Parameter;

/// A parsed payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayloadTemplate {
    head: Vec<Part>,
    /// The one element of the array of records, which is repeated for each; empty if there is no such array.
    record: Vec<Part>,
    tail: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// Inside a JSON string: escaped.
    InString(String),
    /// A whole JSON value, in the parameter's own type.
    Whole(String),
}

impl PayloadTemplate {
    /// Parses a payload against the declared parameters. `records_at` is a JSON pointer (RFC 6901) to the
    /// array of records, if there is one.
    ///
    /// # Errors
    /// With line and column, if a placeholder is malformed, unknown or stands where a value could
    /// change the payload's shape, if the rest is not JSON, or if there is no array of one record at the
    /// pointer.
    pub fn parse(source: &str, parameters: &[Parameter], records_at: Option<&str>) -> Result<Self, TemplateError> {
        let declared = Declared(parameters);
        let mut scan = Scan::new(source);
        for piece in pieces::split(source)? {
            match piece {
                Piece::Text(text) => scan.text(&text.text, text.offset)?,
                Piece::Placeholder(placeholder) => scan.placeholder(&placeholder, &declared)?,
            }
        }
        scan.finish(records_at)
    }

    /// Fills in the record, or an empty text if it has no array of records.
    ///
    /// # Errors
    /// If a parameter has no value.
    pub fn record(&self, values: &Values) -> Result<String, RenderError> {
        render(&self.record, values)
    }

    /// Fills in the rest of the payload around records that were filled in before, with commas between.
    ///
    /// # Errors
    /// If a parameter has no value.
    pub fn around(&self, records: &[String], values: &Values) -> Result<String, RenderError> {
        let head = render(&self.head, values)?;
        let tail = render(&self.tail, values)?;
        Ok(format!("{head}{}{tail}", records.join(",")))
    }

    /// A placeholder that stands outside the record: a request of several has no value for it.
    #[must_use]
    pub fn outside_record(&self) -> Option<&str> {
        self.head.iter().chain(&self.tail).find_map(Part::parameter)
    }

    /// The parameters it uses.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.head.iter().chain(&self.record).chain(&self.tail).filter_map(Part::parameter)
    }
}

impl Part {
    fn parameter(&self) -> Option<&str> {
        match self {
            Self::Text(_) => None,
            Self::InString(name) | Self::Whole(name) => Some(name.as_str()),
        }
    }
}

fn render(parts: &[Part], values: &Values) -> Result<String, RenderError> {
    let mut out = String::new();
    for part in parts {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::InString(name) => out.push_str(&escaped(&value_of(values, name)?.to_text())),
            Part::Whole(name) => out.push_str(&value_of(values, name)?.to_json().to_string()),
        }
    }
    Ok(out)
}

/// The inside of a JSON string that reads as this text.
fn escaped(text: &str) -> String {
    let quoted = serde_json::Value::String(text.to_owned()).to_string();
    quoted.strip_prefix('"').and_then(|q| q.strip_suffix('"')).unwrap_or_default().to_owned()
}

/// Follows the text to know what is inside a JSON string, and builds beside it a probe: the payload
/// with the smallest value in each place, which must then be JSON.
struct Scan<'a> {
    source: &'a str,
    parts: Vec<Part>,
    probe: String,
    /// Where each piece begins: offset in the probe, offset in the template.
    origins: Vec<(usize, usize)>,
    in_string: bool,
    escape: bool,
    /// The first placeholder of the current or last string; it must not turn out to be a key.
    in_this_string: Option<Placeholder>,
}

impl<'a> Scan<'a> {
    fn new(source: &'a str) -> Self {
        Self {
            source,
            parts: Vec::new(),
            probe: String::new(),
            origins: Vec::new(),
            in_string: false,
            escape: false,
            in_this_string: None,
        }
    }

    fn text(&mut self, text: &str, offset: usize) -> Result<(), TemplateError> {
        for c in text.chars() {
            self.character(c)?;
        }
        self.origins.push((self.probe.len(), offset));
        self.probe.push_str(text);
        self.parts.push(Part::Text(text.to_owned()));
        Ok(())
    }

    fn character(&mut self, c: char) -> Result<(), TemplateError> {
        if self.in_string {
            match c {
                _ if self.escape => self.escape = false,
                '\\' => self.escape = true,
                '"' => self.in_string = false,
                _ => {}
            }
            return Ok(());
        }
        match c {
            '"' => {
                self.in_string = true;
                self.in_this_string = None;
            }
            ':' => {
                if let Some(placeholder) = self.in_this_string.take() {
                    return Err(placeholder.error(Problem::InKey));
                }
            }
            c if c.is_whitespace() => {}
            _ => self.in_this_string = None,
        }
        Ok(())
    }

    fn placeholder(&mut self, placeholder: &Placeholder, declared: &Declared) -> Result<(), TemplateError> {
        self.origins.push((self.probe.len(), placeholder.offset));
        let name = placeholder.name.clone();
        if self.in_string {
            declared.resolve_as_text(placeholder)?;
            // A letter that no escape sequence may end with: \x and \u00x are not JSON.
            self.probe.push('x');
            self.escape = false;
            self.in_this_string.get_or_insert_with(|| placeholder.clone());
            self.parts.push(Part::InString(name));
        } else {
            declared.resolve(placeholder)?;
            // null beside other characters is never JSON, as a digit might be.
            self.probe.push_str("null");
            self.in_this_string = None;
            self.parts.push(Part::Whole(name));
        }
        Ok(())
    }

    fn finish(self, records_at: Option<&str>) -> Result<PayloadTemplate, TemplateError> {
        if let Err(error) = serde_json::from_str::<IgnoredAny>(&self.probe) {
            return Err(self.not_json(&error));
        }
        let Some(pointer) = records_at else {
            return Ok(PayloadTemplate { head: self.parts, record: Vec::new(), tail: Vec::new() });
        };
        let start = Position::of(self.source, 0);
        let span = only_element(&self.probe, pointer)
            .ok_or_else(|| TemplateError { position: start, problem: Problem::NoRecords(pointer.to_owned()) })?;
        Ok(self.divided(span))
    }

    /// Divides the parts where the record begins and ends in the probe.
    fn divided(self, (start, end): (usize, usize)) -> PayloadTemplate {
        let mut payload = PayloadTemplate { head: Vec::new(), record: Vec::new(), tail: Vec::new() };
        for (part, (at, _)) in self.parts.into_iter().zip(self.origins) {
            let Part::Text(text) = part else {
                let place = match at {
                    _ if at < start => &mut payload.head,
                    _ if at < end => &mut payload.record,
                    _ => &mut payload.tail,
                };
                place.push(part);
                continue;
            };
            // Where the record's bounds fall in this text; both are bounds of characters.
            let within = |offset: usize| offset.saturating_sub(at).min(text.len());
            let (head, rest) = text.split_at_checked(within(start)).unwrap_or((&text, ""));
            let (record, tail) = rest.split_at_checked(within(end).saturating_sub(head.len())).unwrap_or((rest, ""));
            for (text, place) in [(head, &mut payload.head), (record, &mut payload.record), (tail, &mut payload.tail)] {
                if !text.is_empty() {
                    place.push(Part::Text(text.to_owned()));
                }
            }
        }
        payload
    }

    fn not_json(&self, error: &serde_json::Error) -> TemplateError {
        let offset = self.template_offset(offset_of(&self.probe, error.line(), error.column()));
        let said = error.to_string();
        let problem = said.split(" at line ").next().unwrap_or(&said).to_owned();
        TemplateError { position: Position::of(self.source, offset), problem: Problem::NotJson(problem) }
    }

    fn template_offset(&self, probe_offset: usize) -> usize {
        let origin = self.origins.iter().rev().find(|(probe, _)| *probe <= probe_offset);
        let (probe, template) = origin.copied().unwrap_or_default();
        let mut offset = template.saturating_add(probe_offset.saturating_sub(probe)).min(self.source.len());
        while !self.source.is_char_boundary(offset) {
            offset = offset.saturating_sub(1);
        }
        offset
    }
}

/// Where the one element of the array at a JSON pointer begins and ends in a text.
fn only_element(json: &str, pointer: &str) -> Option<(usize, usize)> {
    let mut at: &RawValue = serde_json::from_str(json).ok()?;
    for token in pointer.strip_prefix('/').filter(|_| pointer.len() > 1).into_iter().flat_map(|rest| rest.split('/')) {
        let token = token.replace("~1", "/").replace("~0", "~");
        at = if at.get().starts_with('[') {
            let elements: Vec<&RawValue> = serde_json::from_str(at.get()).ok()?;
            elements.get(token.parse::<usize>().ok()?).copied()?
        } else {
            let fields: BTreeMap<String, &RawValue> = serde_json::from_str(at.get()).ok()?;
            fields.get(&token).copied()?
        };
    }
    let elements: Vec<&RawValue> = serde_json::from_str(at.get()).ok()?;
    let [element] = elements.as_slice() else { return None };
    let start = element.get().as_ptr().addr().checked_sub(json.as_ptr().addr())?;
    Some((start, start.saturating_add(element.get().len())))
}

/// `serde_json` counts lines and the bytes of a line, both from 1.
fn offset_of(text: &str, line: usize, column: usize) -> usize {
    let before: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    before.saturating_add(column.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::ParameterValue;
    use super::*;
    use crate::api::webhook::ParameterType;

    fn parameters() -> Vec<Parameter> {
        [
            ("Text", ParameterType::String),
            ("Count", ParameterType::Number),
            ("Flag", ParameterType::Boolean),
            ("Names", ParameterType::StringList),
            ("Scores", ParameterType::NumberList),
            ("When", ParameterType::Time),
        ]
        .map(|(name, type_)| Parameter { name: name.to_owned(), type_ })
        .to_vec()
    }

    fn problem(source: &str) -> String {
        PayloadTemplate::parse(source, &parameters(), None).unwrap_err().to_string()
    }

    #[test]
    fn errors_say_where_and_what() {
        assert_eq!(problem("{\n \"a\": }"), "line 2, column 7: the payload is not JSON: expected value");
        assert!(
            problem(r#"{"a": ${$Nope}}"#)
                .starts_with("line 1, column 7: the Webhook has no parameter Nope: it declares Text")
        );
        assert!(problem(r#"{"a": "${$Names}"}"#).contains("can stand only as a whole JSON value"));
        assert!(
            problem(r#"{"${$Text}": 1}"#)
                .starts_with("line 1, column 3: a placeholder cannot stand in an object's key")
        );
        assert!(problem(r#"{"k-${$Text}-x" : 1}"#).contains("object's key"));
        assert!(problem(r"{${$Text}: 1}").contains("not JSON"));
        assert!(problem(r#"{"a": 1${$Count}}"#).contains("not JSON"));
        assert!(problem(r#"{"a": -${$Count}}"#).contains("not JSON"));
        assert!(problem(r#"{"a": ${$Count}${$Count}}"#).contains("not JSON"));
        assert!(problem(r#"{"a": "\${$Text}"}"#).contains("not JSON"));
        assert!(problem(r#"{"a": "\u00${$Text}"}"#).contains("not JSON"));
        assert!(problem(r#"{"a": "${$Text | "x"}"}"#).contains("default has no meaning"));
        assert!(problem("").contains("not JSON"));
    }

    #[test]
    fn a_string_value_beside_a_placeholder_key_is_fine() {
        let template =
            PayloadTemplate::parse(r#"{"a": ["${$Text}", {"b": "$source"}], "c": "$${x}"}"#, &parameters(), None)
                .unwrap();
        let values = Values::from([("Text".to_owned(), ParameterValue::String("v".into()))]);
        let json: Value = serde_json::from_str(&template.around(&[], &values).unwrap()).unwrap();
        assert_eq!(json, json!({"a": ["v", {"b": "$source"}], "c": "${x}"}));
    }

    #[test]
    fn a_parameter_without_a_value_is_an_error_of_the_record() {
        let template = PayloadTemplate::parse(r#"["${$Text}"]"#, &parameters(), None).unwrap();
        assert_eq!(template.around(&[], &Values::new()), Err(RenderError::ParameterMissing("Text".into())));
    }

    #[test]
    fn the_record_is_repeated_and_nothing_else_is() {
        let source = r#"{ "n": ${$Count}, "é": {"a/b": [ {"who":"${$Text}","x":[1]} ]}, "z": "ü" }"#;
        let template = PayloadTemplate::parse(source, &parameters(), Some("/é/a~1b")).unwrap();
        assert_eq!(template.outside_record(), Some("Count"));
        let values = |text: &str| {
            Values::from([
                ("Text".to_owned(), ParameterValue::String(text.into())),
                ("Count".to_owned(), ParameterValue::Number(1.into())),
            ])
        };
        let records = ["a\"b", "c"].map(|text| template.record(&values(text)).unwrap());
        assert_eq!(records[0], r#"{"who":"a\"b","x":[1]}"#);
        let body = template.around(&records, &values("")).unwrap();
        let json: Value = serde_json::from_str(&body).unwrap();
        let record = |who: &str| json!({ "who": who, "x": [1] });
        assert_eq!(json, json!({ "n": 1, "é": { "a/b": [record("a\"b"), record("c")] }, "z": "ü" }));
    }

    #[test]
    fn a_pointer_to_anything_but_an_array_of_one_record_is_an_error() {
        for (source, pointer) in [
            (r#"{"d":[]}"#, "/d"),
            (r#"{"d":[1,2]}"#, "/d"),
            (r#"{"d":{}}"#, "/d"),
            (r#"{"d":[1]}"#, "/e"),
            (r#"{"d":[1]}"#, "/d/0"),
            ("[[1]]", "/1"),
            ("null", "/"),
        ] {
            let error = PayloadTemplate::parse(source, &[], Some(pointer)).unwrap_err();
            assert_eq!(error.problem, Problem::NoRecords(pointer.into()), "{source}");
        }
        assert!(PayloadTemplate::parse("[[1]]", &[], Some("/0")).is_ok());
    }

    fn finite() -> impl Strategy<Value = serde_json::Number> {
        prop_oneof![
            any::<i64>().prop_map(serde_json::Number::from),
            any::<f64>().prop_filter_map("finite", serde_json::Number::from_f64),
        ]
    }

    proptest! {
        #[test]
        fn whatever_the_values_the_payload_parses_and_they_come_back_equal(
            text in ".*", other in "[\"\\\\{}$:,\n\u{0}-\u{1f}\u{2028}]*", flag: bool,
            count in finite(), names in prop::collection::vec(".*", 0..4), scores in prop::collection::vec(finite(), 0..4),
        ) {
            let source = r#"{"d": [{"identity": "${$Text}", "n": ${$Count}, "f": ${$Flag}, "mix": "a\n${$Text}${$When}é${$Flag}",
                "names": ${$Names}, "scores": ${$Scores}, "whole": ${$Text}, "when": ${$When}}]}"#;
            let template = PayloadTemplate::parse(source, &parameters(), None).unwrap();
            let values = Values::from([
                ("Text".to_owned(), ParameterValue::String(text.clone())),
                ("When".to_owned(), ParameterValue::Time(other.clone())),
                ("Count".to_owned(), ParameterValue::Number(count.clone())),
                ("Flag".to_owned(), ParameterValue::Boolean(flag)),
                ("Names".to_owned(), ParameterValue::StringList(names.clone())),
                ("Scores".to_owned(), ParameterValue::NumberList(scores.clone())),
            ]);
            let json: Value = serde_json::from_str(&template.around(&[], &values).unwrap()).unwrap();
            let divided = PayloadTemplate::parse(source, &parameters(), Some("/d")).unwrap();
            let record = divided.record(&values).unwrap();
            prop_assert_eq!(divided.around(&[record], &values).unwrap(), template.around(&[], &values).unwrap());
            let expected = json!({"d": [{
                "identity": text.clone(), "n": count, "f": flag, "mix": format!("a\n{text}{other}é{flag}"),
                "names": names, "scores": scores, "whole": text, "when": other,
            }]});
            prop_assert_eq!(json, expected);
        }

        #[test]
        fn no_source_makes_the_parser_panic(source in ".*|(\\$|\\{|\\}|\"|\\\\|:|,|\\[|\\]|\\$Text|é|\n| |\\|){0,40}") {
            let _ = PayloadTemplate::parse(&source, &parameters(), None);
            let _ = PayloadTemplate::parse(&format!("{{\"d\":[{source}]}}"), &parameters(), Some("/d"));
        }
    }
}
