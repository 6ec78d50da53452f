//! The url: placeholders in its path and query only, percent-encoded for their place.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use super::pieces::{self, Piece, Placeholder, Text};
use super::{Declared, Position, Problem, RenderError, TemplateError, Values, value_of};
use crate::api::webhook::Parameter;

/// All but the unreserved characters of RFC 3986, section 2.3.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A parsed url.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlTemplate {
    parts: Vec<Part>,
    /// The url with a harmless value in each place: its host and port are those of every request.
    probe: Url,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    InPath(String),
    InQuery(String),
}

impl UrlTemplate {
    /// Parses a url against the declared parameters.
    ///
    /// # Errors
    /// With line and column, if a placeholder is malformed, unknown or stands where a value could
    /// choose the host or add to the url's shape, or if the rest is no https url.
    pub fn parse(source: &str, parameters: &[Parameter]) -> Result<Self, TemplateError> {
        let mut scan = Scan { source, place: Place::Authority, after_equals: false, parts: Vec::new() };
        for piece in pieces::split(source)? {
            match piece {
                Piece::Text(text) => scan.text(&text)?,
                Piece::Placeholder(placeholder) => scan.placeholder(&placeholder, &Declared(parameters))?,
            }
        }
        let probe = probe(source, &scan.parts)?;
        Ok(Self { parts: scan.parts, probe })
    }

    /// Fills the url in.
    ///
    /// # Errors
    /// If a parameter has no value, or a value would remove a segment of the path.
    pub fn render(&self, values: &Values) -> Result<Url, RenderError> {
        let mut path = Segments::default();
        for part in &self.parts {
            match part {
                Part::Text(text) => path.text(text)?,
                Part::InPath(name) => path.value(name, &value_of(values, name)?.to_text()),
                Part::InQuery(name) => path.query(&value_of(values, name)?.to_text()),
            }
        }
        // The probe parsed, and values are percent-encoded: what is left to fail here is nothing.
        let url = path.finish()?;
        Url::parse(&url).map_err(|_| RenderError::PathSegment("a parameter".to_owned()))
    }

    /// The parameters it uses.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::InPath(name) | Part::InQuery(name) => Some(name.as_str()),
        })
    }

    /// Scheme, host and port of every request.
    #[must_use]
    pub fn origin(&self) -> String {
        self.probe.origin().ascii_serialization()
    }

    /// The host of every request.
    #[must_use]
    pub fn host(&self) -> &str {
        self.probe.host_str().unwrap_or_default()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Authority,
    Path,
    Query,
}

struct Scan<'a> {
    source: &'a str,
    place: Place,
    after_equals: bool,
    parts: Vec<Part>,
}

impl Scan<'_> {
    fn text(&mut self, text: &Text) -> Result<(), TemplateError> {
        for (i, c) in text.text.char_indices() {
            let error =
                |problem| TemplateError { position: Position::of(self.source, text.offset.saturating_add(i)), problem };
            if c.is_whitespace() || c.is_control() || c == '\\' {
                return Err(error(Problem::BadUrlCharacter));
            }
            if c == '#' {
                return Err(error(Problem::Fragment));
            }
            self.character(c, text.offset.saturating_add(i));
        }
        self.parts.push(Part::Text(text.text.clone()));
        Ok(())
    }

    fn character(&mut self, c: char, offset: usize) {
        const AFTER_SCHEME: usize = "https://".len();
        match (self.place, c) {
            (Place::Authority, '/') if offset >= AFTER_SCHEME => self.place = Place::Path,
            (Place::Authority | Place::Path, '?') => self.place = Place::Query,
            (Place::Query, '=') => self.after_equals = true,
            (Place::Query, '&') => self.after_equals = false,
            _ => {}
        }
    }

    fn placeholder(&mut self, placeholder: &Placeholder, declared: &Declared) -> Result<(), TemplateError> {
        declared.resolve_as_text(placeholder)?;
        let name = placeholder.name.clone();
        match self.place {
            Place::Authority => return Err(placeholder.error(Problem::InAuthority)),
            Place::Query if !self.after_equals => return Err(placeholder.error(Problem::InQueryKey)),
            Place::Path => self.parts.push(Part::InPath(name)),
            Place::Query => self.parts.push(Part::InQuery(name)),
        }
        Ok(())
    }
}

fn probe(source: &str, parts: &[Part]) -> Result<Url, TemplateError> {
    let text: String = parts.iter().map(|part| if let Part::Text(text) = part { text.as_str() } else { "x" }).collect();
    let start = Position::of(source, 0);
    let bad = |why: String| TemplateError { position: start, problem: Problem::BadUrl(why) };
    let url = Url::parse(&text).map_err(|e| bad(e.to_string()))?;
    if url.scheme() != "https" {
        return Err(bad("it must begin with https://".to_owned()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad("it holds a user name or a password: put credentials into a header from a Secret".to_owned()));
    }
    Ok(url)
}

/// Writes a url while watching the path's segments that hold a value.
#[derive(Default)]
struct Segments {
    out: String,
    segment_start: usize,
    /// The parameter in the current segment.
    parameter: Option<String>,
    in_query: bool,
}

impl Segments {
    fn text(&mut self, text: &str) -> Result<(), RenderError> {
        for c in text.chars() {
            if !self.in_query && (c == '/' || c == '?') {
                self.end_segment()?;
                self.in_query = c == '?';
                self.segment_start = self.out.len().saturating_add(1);
            }
            self.out.push(c);
        }
        Ok(())
    }

    fn value(&mut self, name: &str, value: &str) {
        self.parameter = Some(name.to_owned());
        self.query(value);
    }

    fn query(&mut self, value: &str) {
        self.out.extend(utf8_percent_encode(value, ENCODED));
    }

    /// A url's parser takes `.` and `..`, percent-encoded or not, out of the path, and an empty
    /// segment turns `/coupons/<id>` into the list of all coupons.
    fn end_segment(&mut self) -> Result<(), RenderError> {
        let Some(name) = self.parameter.take() else { return Ok(()) };
        let segment = self.out.get(self.segment_start..).unwrap_or_default().to_ascii_lowercase().replace("%2e", ".");
        if matches!(segment.as_str(), "" | "." | "..") {
            return Err(RenderError::PathSegment(name));
        }
        Ok(())
    }

    fn finish(mut self) -> Result<String, RenderError> {
        self.end_segment()?;
        Ok(self.out)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::ParameterValue;
    use super::*;
    use crate::api::webhook::ParameterType;

    fn parameters() -> Vec<Parameter> {
        vec![
            Parameter { name: "Id".into(), type_: ParameterType::String },
            Parameter { name: "Tags".into(), type_: ParameterType::StringList },
        ]
    }

    fn parse(source: &str) -> Result<UrlTemplate, TemplateError> {
        UrlTemplate::parse(source, &parameters())
    }

    fn values(id: &str) -> Values {
        Values::from([("Id".to_owned(), ParameterValue::String(id.to_owned()))])
    }

    #[test]
    fn values_are_percent_encoded_for_their_place() {
        let template = parse("https://shop.example/c/${$Id}/x?id=${$Id}&b=1").unwrap();
        let url = template.render(&values("a b/ü?&=#")).unwrap();
        assert_eq!(
            url.as_str(),
            "https://shop.example/c/a%20b%2F%C3%BC%3F%26%3D%23/x?id=a%20b%2F%C3%BC%3F%26%3D%23&b=1"
        );
    }

    #[test]
    fn a_value_cannot_choose_the_host_nor_name_a_parameter() {
        for source in [
            "https://${$Id}/",
            "https://a.${$Id}.example/",
            "https://a.example:${$Id}/",
            "https://a.example${$Id}",
            "${$Id}",
        ] {
            assert_eq!(parse(source).unwrap_err().problem, Problem::InAuthority, "{source}");
        }
        assert_eq!(parse("https://a.example/?${$Id}").unwrap_err().problem, Problem::InQueryKey);
        assert_eq!(parse("https://a.example/?a=1&${$Id}=1").unwrap_err().problem, Problem::InQueryKey);
    }

    #[test]
    fn what_is_no_plain_https_url_is_refused() {
        for source in [
            "http://a.example/",
            "https://u:p@a.example/",
            "https://",
            "ftp://a/",
            "https://a b/",
            "https://a\\b/",
            "https://a/#x",
            "https://a/\n",
            "https://[::1/",
        ] {
            assert!(parse(source).is_err(), "{source}");
        }
        assert!(matches!(parse("https://a/${$Tags}").unwrap_err().problem, Problem::ListInText(_)));
    }

    #[test]
    fn a_value_cannot_remove_a_path_segment() {
        for (source, id) in [
            ("https://a.example/c/${$Id}", ".."),
            ("https://a.example/c/${$Id}/x", "."),
            ("https://a.example/c/.${$Id}?a=1", "."),
            ("https://a.example/c/%2E${$Id}", "."),
            ("https://a.example/c/${$Id}", ""),
        ] {
            assert_eq!(
                parse(source).unwrap().render(&values(id)),
                Err(RenderError::PathSegment("Id".into())),
                "{source} {id}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_value_can_add_a_path_segment_or_a_query_parameter(id in "(?s).*|[./?&=#%\\\\;\n]{1,8}|\\.\\.|%2e%2e|/\\.\\./") {
            let template = parse("https://shop.example/a/${$Id}/b/x${$Id}?p=${$Id}&q=y${$Id}").unwrap();
            match template.render(&values(&id)) {
                Err(error) => prop_assert_eq!(error, RenderError::PathSegment("Id".into())),
                Ok(url) => {
                    prop_assert_eq!(url.host_str(), Some("shop.example"));
                    let segments: Vec<String> = url.path_segments().unwrap()
                        .map(|s| percent_encoding::percent_decode_str(s).decode_utf8().unwrap().into_owned()).collect();
                    prop_assert_eq!(segments, vec!["a".to_owned(), id.clone(), "b".to_owned(), format!("x{id}")]);
                    let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
                    prop_assert_eq!(pairs, vec![("p".to_owned(), id.clone()), ("q".to_owned(), format!("y{id}"))]);
                    prop_assert_eq!(url.fragment(), None);
                }
            }
        }

        #[test]
        fn no_source_makes_the_parser_panic(source in ".*|https://(\\$|\\{|\\}|\\$\\{\\$Id\\}|/|\\?|=|&|%|:|@|\\[|é){0,20}") {
            if let Ok(template) = parse(&source) {
                let _ = template.render(&values("v"));
            }
        }
    }
}
