//! The payload: a template that is JSON once its placeholders are filled.

use serde::de::IgnoredAny;

use super::pieces::{self, Piece, Placeholder};
use super::{Declared, Position, Problem, RenderError, TemplateError, Values, value_of};
use crate::api::webhook::Parameter;

/// A parsed payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayloadTemplate {
    parts: Vec<Part>,
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
    /// Parses a payload against the declared parameters.
    ///
    /// # Errors
    /// With line and column, if a placeholder is malformed, unknown or stands where a value could
    /// change the payload's shape, or if the rest is not JSON.
    pub fn parse(source: &str, parameters: &[Parameter]) -> Result<Self, TemplateError> {
        let declared = Declared(parameters);
        let mut scan = Scan::new(source);
        for piece in pieces::split(source)? {
            match piece {
                Piece::Text(text) => scan.text(&text.text, text.offset)?,
                Piece::Placeholder(placeholder) => scan.placeholder(&placeholder, &declared)?,
            }
        }
        scan.finish()
    }

    /// Fills the payload in.
    ///
    /// # Errors
    /// If a parameter has no value.
    pub fn render(&self, values: &Values) -> Result<String, RenderError> {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::InString(name) => out.push_str(&escaped(&value_of(values, name)?.to_text())),
                Part::Whole(name) => out.push_str(&value_of(values, name)?.to_json().to_string()),
            }
        }
        Ok(out)
    }

    /// The parameters it uses.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::InString(name) | Part::Whole(name) => Some(name.as_str()),
        })
    }
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

    fn finish(self) -> Result<PayloadTemplate, TemplateError> {
        match serde_json::from_str::<IgnoredAny>(&self.probe) {
            Ok(_) => Ok(PayloadTemplate { parts: self.parts }),
            Err(error) => Err(self.not_json(&error)),
        }
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
        PayloadTemplate::parse(source, &parameters()).unwrap_err().to_string()
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
            PayloadTemplate::parse(r#"{"a": ["${$Text}", {"b": "$source"}], "c": "$${x}"}"#, &parameters()).unwrap();
        let values = Values::from([("Text".to_owned(), ParameterValue::String("v".into()))]);
        let json: Value = serde_json::from_str(&template.render(&values).unwrap()).unwrap();
        assert_eq!(json, json!({"a": ["v", {"b": "$source"}], "c": "${x}"}));
    }

    #[test]
    fn a_parameter_without_a_value_is_an_error_of_the_record() {
        let template = PayloadTemplate::parse(r#"["${$Text}"]"#, &parameters()).unwrap();
        assert_eq!(template.render(&Values::new()), Err(RenderError::ParameterMissing("Text".into())));
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
            let template = PayloadTemplate::parse(source, &parameters()).unwrap();
            let values = Values::from([
                ("Text".to_owned(), ParameterValue::String(text.clone())),
                ("When".to_owned(), ParameterValue::Time(other.clone())),
                ("Count".to_owned(), ParameterValue::Number(count.clone())),
                ("Flag".to_owned(), ParameterValue::Boolean(flag)),
                ("Names".to_owned(), ParameterValue::StringList(names.clone())),
                ("Scores".to_owned(), ParameterValue::NumberList(scores.clone())),
            ]);
            let json: Value = serde_json::from_str(&template.render(&values).unwrap()).unwrap();
            let expected = json!({"d": [{
                "identity": text.clone(), "n": count, "f": flag, "mix": format!("a\n{text}{other}é{flag}"),
                "names": names, "scores": scores, "whole": text, "when": other,
            }]});
            prop_assert_eq!(json, expected);
        }

        #[test]
        fn no_source_makes_the_parser_panic(source in ".*|(\\$|\\{|\\}|\"|\\\\|:|,|\\[|\\]|\\$Text|é|\n| |\\|){0,40}") {
            let _ = PayloadTemplate::parse(&source, &parameters());
        }
    }
}
