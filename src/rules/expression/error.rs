//! What is wrong with an expression, and with its evaluation.

use cel::{ExecutionError, ParseErrors, Value};

use super::MOST_BYTES;
use super::bounds::{MOST_DEPTH, MOST_LOOPS, MOST_NODES};
use super::edit::{MOST_REGEX_BYTES, MOST_REGEXES};

/// An expression that is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionError {
    #[error("has {0} bytes, and {MOST_BYTES} are possible: shorten it")]
    TooLong(usize),
    #[error("line {line}, column {column}: {message}")]
    Syntax { line: isize, column: isize, message: String },
    #[error("is no CEL expression")]
    Parser,
    #[error("is nested more than {MOST_DEPTH} deep: take it apart with && or ||, or use `in` with a list")]
    TooDeep,
    #[error("has more than {MOST_NODES} parts: shorten it")]
    TooLarge,
    #[error("nests more than {MOST_LOOPS} loops (all, exists, exists_one, map, filter) in each other: take it apart")]
    LoopsNested,
    #[error("{name} is not known: write {known}")]
    UnknownName { name: String, known: &'static str },
    #[error("{0}() is not known, or not with so many arguments: CEL's standard functions can be used")]
    UnknownFunction(String),
    #[error("objects such as {0}{{…}} cannot be made here")]
    Object(String),
    #[error("matches() needs its regular expression as a text in quotes, not computed")]
    RegexComputed,
    #[error(
        "matches(): a regular expression has at most {MOST_REGEX_BYTES} bytes, and there are at most {MOST_REGEXES}"
    )]
    RegexTooLong,
    #[error("matches(): {0}")]
    Regex(String),
    #[error("gives a {0}, where true or false is needed: compare it with something")]
    NotBoolean(&'static str),
}

impl ExpressionError {
    pub(super) fn syntax(errors: &ParseErrors) -> Self {
        let Some(first) = errors.errors.first() else { return Self::Parser };
        if first.msg.contains("Recursion limit") {
            return Self::TooDeep;
        }
        let message: String = first.msg.replace('\n', " ").chars().take(200).collect();
        let hint = HINTS.iter().find(|(sign, _)| message.contains(sign)).map(|(_, hint)| *hint);
        let message = hint.map_or(message, str::to_owned);
        Self::Syntax { line: first.pos.0, column: first.pos.1, message }
    }
}

/// What people write who are used to another language, as the parser complains of it.
const HINTS: [(&str, &str); 10] = [
    ("recognition error at: '= '", "a single = is nothing: write == to compare"),
    ("recognition error at: '='", "a single = is nothing: write ==, >= or <="),
    ("input 'and'", "write && instead of and"),
    ("input 'or'", "write || instead of or"),
    ("input 'not'", "write ! instead of not"),
    ("recognition error at: '&", "write &&"),
    ("recognition error at: '|", "write ||"),
    ("recognition error at: '“", "write straight quotes"),
    ("recognition error at: '$", "write the name without $"),
    ("mismatched input '<EOF>'", "it ends too early, or is empty: leave the field out if there is no condition"),
];

/// An evaluation that gave neither true nor false. Its words hold no data but names that the
/// expression itself has, so that it may stand in status.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvaluationError {
    #[error("{0} is missing")]
    Missing(String),
    #[error("something that it looks up by a computed name is missing")]
    MissingComputed,
    #[error("it gives a {0}, not true or false")]
    NotBoolean(String),
    #[error("{0}")]
    Type(String),
    #[error("a number is out of range, or divided by zero")]
    Arithmetic,
    #[error("a list has no such place")]
    Index,
    #[error("a function cannot take what it is given, such as a text that is no time")]
    Argument,
    #[error("it takes too many steps over data of this size")]
    TooExpensive,
    #[error("it cannot be evaluated")]
    Failed,
}

impl EvaluationError {
    /// What a person may read of an error; `source` is the expression.
    pub(super) fn of(error: &ExecutionError, source: &str) -> Self {
        let types = |operator: &str, a: &Value, b: &Value| {
            Self::Type(format!("{operator} does not go with {} and {}", a.type_of(), b.type_of()))
        };
        match error {
            ExecutionError::NoSuchKey(key) if source.contains(key.as_str()) => Self::Missing(key.to_string()),
            ExecutionError::NoSuchKey(_) => Self::MissingComputed,
            ExecutionError::UndeclaredReference(name) => Self::Missing(name.to_string()),
            ExecutionError::NoSuchOverload(overload) => Self::Type(overload_text(overload.function(), overload)),
            ExecutionError::UnexpectedType { got, want } => {
                Self::Type(format!("a {got} stands where a {want} is needed"))
            }
            ExecutionError::ValuesNotComparable(a, b) => types("a comparison", a, b),
            ExecutionError::UnsupportedBinaryOperator(operator, a, b) => types(operator, a, b),
            ExecutionError::UnsupportedIndex(index, of) => types("[…]", of, index),
            ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) | ExecutionError::Overflow(..) => {
                Self::Arithmetic
            }
            ExecutionError::IndexOutOfBounds(_) => Self::Index,
            ExecutionError::FunctionError { .. } => Self::Argument,
            _ => Self::Failed,
        }
    }
}

fn overload_text(function: &str, overload: &cel::OverloadError) -> String {
    let readable = match function {
        "@in" => "in",
        "_[_]" => "[…]",
        other => other.trim_matches('_'),
    };
    format!("{readable} does not go with ({})", overload.argument_types().join(", "))
}
