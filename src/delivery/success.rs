//! A Webhook's `successWhen`: whether a 2xx answer means success. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use cel::common::types::{CelInt, CelMap};
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use serde_json::Value;

use super::outcome::{Answer, Body};
use crate::rules::expression::json::{key, value_of, weight};
use crate::rules::expression::{EvaluationError, Expression, ExpressionError, Scope, Verdict};

const SCOPE: Scope =
    Scope { variables: &[("response", &["status", "body"])], known: "response.status or response.body" };

/// The longest body that an expression looks at, in bytes.
pub const MOST_BODY_BYTES: usize = 65_536;

/// The expression, compiled.
#[derive(Clone, Debug, PartialEq)]
pub struct SuccessWhen(Expression);

/// Why an answer is no success. What it says names only what the expression names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSuccess {
    /// The endpoint says that it refuses.
    #[error("successWhen: {0} is false")]
    False(Arc<str>),
    #[error("successWhen: {clause}: {error}")]
    Error { clause: Arc<str>, error: EvaluationError },
    #[error("successWhen: the answer was cut short, or its end took too long")]
    Cut,
    #[error("successWhen: the answer has more than {MOST_BODY_BYTES} bytes")]
    TooLarge,
}

impl SuccessWhen {
    /// Compiles the expression of a Webhook.
    ///
    /// # Errors
    /// If it is no expression that is accepted.
    pub fn compile(source: &str) -> Result<Self, ExpressionError> {
        Expression::compile(source, &SCOPE).map(Self)
    }

    /// Whether an answer means success.
    ///
    /// # Errors
    /// With the reason, if it does not, or leaves that open.
    pub fn check(&self, answer: &Answer) -> Result<(), NoSuccess> {
        let body = match &answer.body {
            Body::Complete(body) if body.len() > MOST_BODY_BYTES => return Err(NoSuccess::TooLarge),
            Body::Complete(body) => body,
            Body::Cut => return Err(NoSuccess::Cut),
            Body::TooLarge => return Err(NoSuccess::TooLarge),
        };
        let body =
            serde_json::from_slice(body).unwrap_or_else(|_| Value::from(String::from_utf8_lossy(body).into_owned()));
        let response = Response { status: i64::from(answer.status), body };
        match self.0.evaluate(&response, weight(&response.body)) {
            Verdict::True => Ok(()),
            Verdict::False { clause } => Err(NoSuccess::False(clause)),
            Verdict::Error { clause, error } => Err(NoSuccess::Error { clause, error }),
        }
    }
}

struct Response {
    status: i64,
    body: Value,
}

impl VariableResolver for Response {
    fn resolve<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        (name == "response").then(|| {
            let status: Box<dyn Val + 'b> = Box::new(CelInt::from(self.status));
            let entries = HashMap::from([(key("status"), status), (key("body"), value_of(&self.body))]);
            CowVal::owned(CelMap::from(entries))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expression: &str, status: u16, body: Body) -> Result<(), String> {
        let answer = Answer { status, retry_after: None, body };
        SuccessWhen::compile(expression).unwrap().check(&answer).map_err(|error| error.to_string())
    }

    fn text(body: &str) -> Body {
        Body::Complete(body.as_bytes().to_vec())
    }

    #[test]
    fn an_answer_is_judged_by_its_status_and_its_body() {
        for (expression, status, body) in [
            ("response.body.ok", 200, r#"{"ok":true}"#),
            ("response.status == 201 && response.body.errors.size() == 0", 201, r#"{"errors":[]}"#),
            ("!has(response.body.errors)", 200, "{}"),
            ("response.body[0].id > 4.5", 200, r#"[{"id":5}]"#),
            ("response.body == 'OK'", 200, "OK"),
            ("response.body == ''", 204, ""),
            ("response.body.all(x, x == null)", 200, "[null]"),
            ("size(response) == 2 && response['status'] == 200", 200, "{}"),
        ] {
            assert_eq!(check(expression, status, text(body)), Ok(()), "{expression} of {body}");
        }
        let refused = check("response.status == 200 && response.body.ok", 200, text(r#"{"ok":false,"why":"canary"}"#));
        assert_eq!(refused, Err("successWhen: response.body.ok is false".into()));
    }

    #[test]
    fn what_leaves_it_open_is_an_error_that_shows_nothing_of_the_body() {
        let ok = |body| check("response.body.ok", 200, body).unwrap_err();
        assert_eq!(ok(text("{}")), "successWhen: response.body.ok: ok is missing");
        assert_eq!(
            ok(text(r#"{"ok":"canary"}"#)),
            "successWhen: response.body.ok: it gives a string, not true or false"
        );
        assert!(!ok(text("canary")).contains("canary"), "{}", ok(text("canary")));
        assert!(ok(Body::Cut).contains("cut short"));
        assert!(ok(Body::TooLarge).contains("more than 65536 bytes"));
        assert_eq!(check("response.body != ''", 200, text(&"x".repeat(MOST_BODY_BYTES))), Ok(()));
        assert!(check("true", 200, text(&"x".repeat(MOST_BODY_BYTES + 1))).unwrap_err().contains("65536 bytes"));
    }

    #[test]
    fn an_expression_that_names_something_else_is_refused() {
        let error = |source| SuccessWhen::compile(source).unwrap_err().to_string();
        assert_eq!(error("response.code == 200"), "response.code is not known: write response.status or response.body");
        assert!(error("profile.integrationId == 'x'").contains("write response.status or response.body"));
        assert!(error("response.status = 200").contains("write == to compare"));
    }
}
