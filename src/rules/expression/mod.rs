//! CEL expressions of people who are not trusted: bounded when they are accepted, and metered when
//! they are evaluated.
//!
//! The `cel` crate on its own overflows the stack on deep input, and hangs or eats memory on nested
//! loops. So a text is parsed on a thread with a large stack, refused when it is long, deep, large or
//! nests loops, checked for names that nobody knows, and edited so that loops and growing values draw
//! on a meter ([`meter`]). What is accepted ends soon, whatever the data.

mod bounds;
mod clauses;
mod edit;
mod error;
pub mod json;
mod meter;

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, LazyLock};

use cel::common::types::CelBool;
use cel::common::value::CowVal;
use cel::context::VariableResolver;
use cel::parser::Expression as Ast;
use cel::{Context, Env, ExecutionError, Value};
use regex::Regex;

pub use bounds::Scope;
pub use error::{EvaluationError, ExpressionError};
use meter::Meter;
pub use meter::{HAS_PREFIX, spend};

/// The longest text of an expression, in bytes.
pub const MOST_BYTES: usize = 4096;

/// Parsing and dropping a deep expression needs far more stack than a thread has by default.
const PARSER_STACK: usize = 16 * 1024 * 1024;

/// An expression, compiled once and evaluated many times.
#[derive(Clone)]
pub struct Expression {
    source: Arc<str>,
    /// The parts that `&&` joins, in order: so that what fails can be named.
    clauses: Arc<[Clause]>,
    regexes: Arc<[Regex]>,
}

struct Clause {
    /// On one line, and shortened: what a reason shows of it.
    text: Arc<str>,
    ast: Ast,
}

/// A clause in a reason is shortened to so many characters.
const MOST_CLAUSE: usize = 120;

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl std::fmt::Debug for Expression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Expression").field(&self.source).finish()
    }
}

/// What came of an evaluation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    True,
    /// This clause does not hold.
    False {
        clause: Arc<str>,
    },
    /// This clause could not be evaluated, and none of the others is false.
    Error {
        clause: Arc<str>,
        error: EvaluationError,
    },
}

enum Outcome {
    Bool(bool),
    Error(EvaluationError),
}

static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib();
    meter::declare(&mut env);
    Arc::new(env)
});

impl Expression {
    /// Compiles a text whose variables are those of a scope.
    ///
    /// # Errors
    /// If it is no expression, larger than is accepted, or names something that is not in the scope.
    pub fn compile(source: &str, scope: &Scope) -> Result<Self, ExpressionError> {
        if source.len() > MOST_BYTES {
            return Err(ExpressionError::TooLong(source.len()));
        }
        let (text, scope) = (source.to_owned(), *scope);
        let thread = std::thread::Builder::new().name("expression".into()).stack_size(PARSER_STACK);
        // What the parser panics on is no expression either.
        let parsed = thread.spawn(move || parse(&text, &scope)).map(std::thread::JoinHandle::join);
        let (clauses, regexes) = parsed.ok().and_then(Result::ok).ok_or(ExpressionError::Parser)??;
        Ok(Self { source: source.into(), clauses: clauses.into(), regexes: regexes.into() })
    }

    /// The text.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Evaluates it. `weight` is the size of the data in bytes: the larger they are, the fewer steps are
    /// made.
    ///
    /// As CEL has it, a clause that is false decides, whatever is wrong with the others.
    #[must_use]
    pub fn evaluate(&self, variables: &dyn VariableResolver, weight: usize) -> Verdict {
        let mut context = Context::with_env(ENVIRONMENT.clone());
        context.set_variable_resolver(variables);
        let meter = Meter::start(weight.saturating_add(self.source.len()), &self.regexes);
        let mut failed: Option<Verdict> = None;
        for clause in self.clauses.iter() {
            let text = || clause.text.clone();
            match clause.evaluate(&context, &meter, &self.source) {
                Outcome::Bool(true) => {}
                Outcome::Bool(false) => return Verdict::False { clause: text() },
                Outcome::Error(error) => failed = failed.or_else(|| Some(Verdict::Error { clause: text(), error })),
            }
        }
        failed.unwrap_or(Verdict::True)
    }
}

impl Clause {
    fn evaluate(&self, context: &Context<'_, '_>, meter: &Meter, source: &str) -> Outcome {
        let evaluated = std::panic::catch_unwind(AssertUnwindSafe(|| match Value::resolve_val(&self.ast, context) {
            Ok(value) => boolean(&value),
            Err(error) => Err(EvaluationError::of(&error, source)),
        }));
        // An error of the meter may have been absorbed by `||`, so the meter itself is asked.
        match evaluated {
            _ if meter.is_exhausted() => Outcome::Error(EvaluationError::TooExpensive),
            Ok(Ok(value)) => Outcome::Bool(value),
            Ok(Err(error)) => Outcome::Error(error),
            Err(_) => Outcome::Error(EvaluationError::Failed),
        }
    }
}

fn boolean(value: &CowVal<'_, '_>) -> Result<bool, EvaluationError> {
    let bool = value.downcast_ref::<CelBool>().map(|bool| *bool.inner());
    bool.ok_or_else(|| EvaluationError::NotBoolean(value.get_type().name().to_owned()))
}

type Parsed = Result<(Vec<Clause>, Vec<Regex>), ExpressionError>;

/// Everything that needs a large stack.
fn parse(source: &str, scope: &Scope) -> Parsed {
    let program = ENVIRONMENT.compile(source).map_err(|errors| ExpressionError::syntax(&errors))?;
    bounds::check(program.expression(), scope)?;
    let mut editor = edit::Editor::default();
    let conjuncts = clauses::conjuncts(program.expression());
    let clauses = match clauses::texts(source).filter(|texts| texts.len() == conjuncts.len()) {
        Some(texts) => texts.into_iter().zip(conjuncts).collect(),
        None => vec![(source.to_owned(), program.expression())],
    };
    let clauses =
        clauses.into_iter().map(|(text, ast)| Ok(Clause { text: shortened(&text), ast: editor.edited(ast.clone())? }));
    let clauses = clauses.collect::<Result<Vec<_>, ExpressionError>>()?;
    Ok((clauses, editor.into_regexes()))
}

fn shortened(clause: &str) -> Arc<str> {
    let one_line = clause.split_whitespace().collect::<Vec<_>>().join(" ");
    if one_line.chars().count() <= MOST_CLAUSE {
        return one_line.into();
    }
    one_line.chars().take(MOST_CLAUSE).chain(['…']).collect::<String>().into()
}

/// The meter's own error, as it travels through an evaluation.
fn too_expensive() -> ExecutionError {
    ExecutionError::InternalError("too expensive".to_owned())
}
