//! Placeholders, `${$Name}`, in the parameters of a campaign and in the url, headers and payload of
//! a webhook. Pure: it knows neither Kubernetes nor HTTP.
//!
//! A value can never change the shape of what it is put into: inside a JSON string it is escaped, in
//! a URL it is percent-encoded, in a header it is checked.

pub mod binding;
pub mod header;
pub mod payload;
mod pieces;
pub mod url;
pub mod value;

use std::collections::BTreeMap;
use std::fmt;

pub use value::ParameterValue;

use crate::api::webhook::{Parameter, ParameterType};

/// The values that fill a webhook's templates, by parameter name.
pub type Values = BTreeMap<String, ParameterValue>;

/// A place in a template, counted from 1 as editors do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

impl Position {
    /// The position of a byte offset in a text.
    pub(crate) fn of(text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline.saturating_add(1));
        let line = before.matches('\n').count().saturating_add(1);
        let column = before.get(line_start..).unwrap_or_default().chars().count().saturating_add(1);
        Self { line, column }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// A template that cannot be used, found before anything is sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{position}: {problem}")]
pub struct TemplateError {
    pub position: Position,
    pub problem: Problem,
}

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("a placeholder begins here with ${{ but is not closed: write ${{$Name}}")]
    Unclosed,
    #[error("${{ begins a placeholder and needs a $ after it: write ${{$Name}}, or $${{ for a literal ${{")]
    NoDollar,
    #[error("\"{0}\" is no placeholder: write ${{$Name}}, or ${{$Name | \"default\"}} in a Campaign")]
    Malformed(String),
    #[error("the Webhook has no parameter {name}: {}", declared(.known))]
    UnknownParameter { name: String, known: Vec<String> },
    #[error("a default has no meaning here, since each parameter has a value: write it in the Campaign's parameters")]
    DefaultInWebhook,
    #[error("{0} is not known: write one of {known}", known = binding::KNOWN)]
    UnknownSource(String),
    #[error("the payload is not JSON: {0}")]
    NotJson(String),
    #[error("a placeholder cannot stand in an object's key: a value must not name a field")]
    InKey,
    #[error("{0} is a list and can stand only as a whole JSON value, without quotes around it")]
    ListInText(String),
    #[error(
        "there is no array with one record at {0} (spec.batch.recordsAt): write one there, which is repeated for each record"
    )]
    NoRecords(String),
    #[error("a placeholder can stand only in the path and the query of a url: a value must not choose the host")]
    InAuthority,
    #[error("in the query a placeholder can stand only after =, as in ?id=${{$Name}}")]
    InQueryKey,
    #[error("a url with a fragment (#…): remove it, since it is never sent")]
    Fragment,
    #[error("a url cannot hold white space, control characters or \\: percent-encode them")]
    BadUrlCharacter,
    #[error("this is no url that can be called: {0}")]
    BadUrl(String),
    #[error("a header's value holds visible ASCII characters and spaces only")]
    BadHeaderCharacter,
}

fn declared(known: &[String]) -> String {
    if known.is_empty() {
        return "it declares none, add it to spec.parameters".to_owned();
    }
    format!("it declares {}", known.join(", "))
}

/// A value that cannot be put into its place: an error of that record only.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    #[error("parameter {0} has no value here: the Webhook was given it after this Coupon was issued")]
    ParameterMissing(String),
    #[error("the value of {0} would empty a part of the url's path, or make it . or ..")]
    PathSegment(String),
    #[error("the value of header {0} would hold a line break or another character that headers cannot carry")]
    HeaderValue(String),
}

/// The declared parameters of a webhook, for looking placeholders up while parsing.
pub(crate) struct Declared<'a>(pub &'a [Parameter]);

impl Declared<'_> {
    fn type_of(&self, name: &str) -> Result<ParameterType, Problem> {
        self.0.iter().find(|p| p.name == name).map(|p| p.type_).ok_or_else(|| Problem::UnknownParameter {
            name: name.to_owned(),
            known: self.0.iter().map(|p| p.name.clone()).collect(),
        })
    }

    /// The parameter of a placeholder in a webhook's template.
    fn resolve(&self, placeholder: &pieces::Placeholder) -> Result<ParameterType, TemplateError> {
        if placeholder.default.is_some() {
            return Err(placeholder.error(Problem::DefaultInWebhook));
        }
        self.type_of(&placeholder.name).map_err(|problem| placeholder.error(problem))
    }

    /// The same, in a place that takes text.
    fn resolve_as_text(&self, placeholder: &pieces::Placeholder) -> Result<(), TemplateError> {
        match self.resolve(placeholder)? {
            ParameterType::StringList | ParameterType::NumberList => {
                Err(placeholder.error(Problem::ListInText(placeholder.name.clone())))
            }
            _ => Ok(()),
        }
    }
}

/// The value of a parameter, or the error that it has none.
pub(crate) fn value_of<'a>(values: &'a Values, name: &str) -> Result<&'a ParameterValue, RenderError> {
    values.get(name).ok_or_else(|| RenderError::ParameterMissing(name.to_owned()))
}
