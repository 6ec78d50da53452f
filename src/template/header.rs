//! A header's value: text and placeholders, checked to be something a header can carry.

use super::pieces::{self, Piece};
use super::{Declared, Position, Problem, RenderError, TemplateError, Values, value_of};
use crate::api::webhook::Parameter;

/// A parsed header value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderTemplate {
    name: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Parameter(String),
}

impl HeaderTemplate {
    /// Parses a header's value against the declared parameters.
    ///
    /// # Errors
    /// With line and column, if a placeholder is malformed or unknown, or the text cannot stand in a header.
    pub fn parse(name: &str, source: &str, parameters: &[Parameter]) -> Result<Self, TemplateError> {
        let source = source.trim();
        let mut parts = Vec::new();
        for piece in pieces::split(source)? {
            parts.push(match piece {
                Piece::Text(text) if is_carried(&text.text) => Part::Text(text.text),
                Piece::Text(text) => {
                    let position = Position::of(source, text.offset);
                    return Err(TemplateError { position, problem: Problem::BadHeaderCharacter });
                }
                Piece::Placeholder(placeholder) => {
                    Declared(parameters).resolve_as_text(&placeholder)?;
                    Part::Parameter(placeholder.name)
                }
            });
        }
        Ok(Self { name: name.to_owned(), parts })
    }

    /// The header's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Fills the value in.
    ///
    /// # Errors
    /// If a parameter has no value, or its value cannot stand in a header.
    pub fn render(&self, values: &Values) -> Result<String, RenderError> {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Parameter(name) => out.push_str(&value_of(values, name)?.to_text()),
            }
        }
        let value = out.trim_matches([' ', '\t']);
        if is_carried(value) { Ok(value.to_owned()) } else { Err(RenderError::HeaderValue(self.name.clone())) }
    }

    /// The parameters it uses.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| if let Part::Parameter(name) = part { Some(name.as_str()) } else { None })
    }
}

/// True if a header can carry the text as it is: visible ASCII, spaces and tabs (RFC 9110, section
/// 5.5, without the octets above ASCII, which receivers read differently).
#[must_use]
pub fn is_carried(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_graphic() || c == ' ' || c == '\t')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::ParameterValue;
    use super::*;
    use crate::api::webhook::ParameterType;

    fn template(source: &str) -> Result<HeaderTemplate, TemplateError> {
        HeaderTemplate::parse("X-Id", source, &[Parameter { name: "Id".into(), type_: ParameterType::String }])
    }

    #[test]
    fn a_line_break_in_the_template_is_found_at_once() {
        assert_eq!(template("a\nb").unwrap_err().problem, Problem::BadHeaderCharacter);
        assert_eq!(
            template(" a ${$Id}\n")
                .unwrap()
                .render(&Values::from([("Id".into(), ParameterValue::String("x".into()))]))
                .unwrap(),
            "a x"
        );
    }

    proptest! {
        #[test]
        fn no_value_can_add_a_header(id in "(?s).*|[ -~]*|[\r\n\t :a]*") {
            let values = Values::from([("Id".to_owned(), ParameterValue::String(id.clone()))]);
            match template("id=${$Id};").unwrap().render(&values) {
                Ok(value) => {
                    prop_assert_eq!(&value, &format!("id={id};"));
                    prop_assert!(http::HeaderValue::from_str(&value).is_ok());
                }
                Err(error) => {
                    prop_assert_eq!(error, RenderError::HeaderValue("X-Id".into()));
                    prop_assert!(id.chars().any(|c| !c.is_ascii_graphic() && c != ' ' && c != '\t'));
                }
            }
        }
    }
}
