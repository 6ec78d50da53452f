//! Splits a template into text and placeholders.

use super::{Position, Problem, TemplateError};

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Text(Text),
    Placeholder(Placeholder),
}

/// Literal text, with `$${` already written as `${`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text {
    pub text: String,
    pub offset: usize,
}

/// `${$Name}` or `${$Name | "default"}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placeholder {
    pub name: String,
    pub default: Option<String>,
    pub position: Position,
    pub offset: usize,
}

impl Placeholder {
    pub fn error(&self, problem: Problem) -> TemplateError {
        TemplateError { position: self.position, problem }
    }
}

/// Splits a template.
pub(super) fn split(source: &str) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    let mut rest = source;
    while !rest.is_empty() {
        let offset = source.len().saturating_sub(rest.len());
        if let Some(after) = rest.strip_prefix("$${") {
            push_text(&mut pieces, "${", offset);
            rest = after;
        } else if let Some(inner) = rest.strip_prefix("${") {
            let (placeholder, after) = placeholder(source, inner, offset)?;
            pieces.push(Piece::Placeholder(placeholder));
            rest = after;
        } else {
            let (text, after) = plain(rest);
            push_text(&mut pieces, text, offset);
            rest = after;
        }
    }
    Ok(pieces)
}

/// Text up to the next `$`. A `$` at the front is text too: the caller saw that it begins nothing.
fn plain(rest: &str) -> (&str, &str) {
    let end = rest.char_indices().skip(1).find(|(_, c)| *c == '$').map_or(rest.len(), |(i, _)| i);
    rest.split_at(end)
}

fn push_text(pieces: &mut Vec<Piece>, text: &str, offset: usize) {
    // Not merged with the text before it: an escape changes how far offsets and text run together.
    pieces.push(Piece::Text(Text { text: text.to_owned(), offset }));
}

fn placeholder<'a>(source: &str, inner: &'a str, offset: usize) -> Result<(Placeholder, &'a str), TemplateError> {
    let position = Position::of(source, offset);
    let error = |problem| TemplateError { position, problem };
    let Some(inner) = inner.strip_prefix('$') else {
        return Err(error(Problem::NoDollar));
    };
    let end = closing_brace(inner).ok_or_else(|| error(Problem::Unclosed))?;
    let (content, after) = inner.split_at(end);
    let (name, default) =
        parse_content(content).ok_or_else(|| error(Problem::Malformed(format!("${{${content}}}"))))?;
    let after = after.strip_prefix('}').unwrap_or(after);
    Ok((Placeholder { name, default, position, offset }, after))
}

/// The offset of the closing brace, which a quoted default may contain.
fn closing_brace(inner: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (i, c) in inner.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '}' if !quoted => return Some(i),
            '\n' => return None,
            _ => {}
        }
    }
    None
}

/// `Name` or `Name | "default"`; the default is a JSON string.
fn parse_content(content: &str) -> Option<(String, Option<String>)> {
    let (name, default) = match content.split_once('|') {
        None => (content, None),
        Some((name, default)) => (name.trim_end(), Some(serde_json::from_str::<String>(default.trim()).ok()?)),
    };
    let well_formed = !name.is_empty() && name.split('.').all(is_word);
    well_formed.then(|| (name.to_owned(), default))
}

fn is_word(part: &str) -> bool {
    !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(source: &str) -> Vec<String> {
        split(source)
            .unwrap()
            .into_iter()
            .map(|p| match p {
                Piece::Text(t) => format!("t:{}", t.text),
                Piece::Placeholder(p) => {
                    format!("p:{}{}", p.name, p.default.map(|d| format!("|{d}")).unwrap_or_default())
                }
            })
            .collect()
    }

    #[test]
    fn text_escapes_and_placeholders_are_told_apart() {
        assert_eq!(names("a ${$B} c"), ["t:a ", "p:B", "t: c"]);
        assert_eq!(names("\"$source\""), ["t:\"", "t:$source\""]);
        assert_eq!(names("$${$B}"), ["t:${", "t:$B}"]);
        assert_eq!(names("$"), ["t:$"]);
        assert_eq!(names("${$A.B.c-d | \"x}\\\"y\"}!"), ["p:A.B.c-d|x}\"y", "t:!"]);
        assert_eq!(names("${$Ä}é$"), ["p:Ä", "t:é", "t:$"]);
    }

    #[test]
    fn an_error_names_its_line_and_column() {
        let error = split("one\n  é${Name}").unwrap_err();
        assert_eq!(error.to_string().split(':').next(), Some("line 2, column 4"));
        assert_eq!(error.problem, Problem::NoDollar);
        assert_eq!(split("${$A").unwrap_err().problem, Problem::Unclosed);
        assert_eq!(split("${$A | x}").unwrap_err().problem, Problem::Malformed("${$A | x}".into()));
        assert_eq!(split("${$A..B}").unwrap_err().problem, Problem::Malformed("${$A..B}".into()));
    }
}
