//! Edits a parsed expression so that whatever may repeat or grow draws on the meter.

use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, ListExpr, LiteralValue, operators};
use cel::parser::Expression as Ast;
use regex::{Regex, RegexBuilder};

use super::error::ExpressionError;
use super::meter::{ADD, CHARGE, HAS_PREFIX, MATCHES, TICK, UTC};

pub(super) const MOST_REGEX_BYTES: usize = 512;
pub(super) const MOST_REGEXES: usize = 16;

/// What a compiled regular expression may take in memory.
const REGEX_MEMORY: usize = 10 * 1024 * 1024;

/// Edits expressions, and collects their regular expressions.
#[derive(Default)]
pub struct Editor {
    regexes: Vec<Regex>,
}

impl Editor {
    pub fn into_regexes(self) -> Vec<Regex> {
        self.regexes
    }

    /// The expression with a meter. It is not deep, since its bounds were checked.
    pub fn edited(&mut self, ast: Ast) -> Result<Ast, ExpressionError> {
        let id = ast.id;
        let expr = match ast.expr {
            Expr::Call(call) => self.call(call)?,
            Expr::Select(select) if select.test && is_attributes(&select.operand) => {
                // `has(profile.attributes.x)` is asked of the variables at once, without a map of them all.
                Expr::Ident(format!("{HAS_PREFIX}{}.{}", path(&select.operand).unwrap_or_default(), select.field))
            }
            Expr::Select(mut select) => {
                *select.operand = self.edited(*select.operand)?;
                Expr::Select(select)
            }
            Expr::List(list) => Expr::List(self.list(list)?),
            Expr::Map(mut map) => {
                for entry in &mut map.entries {
                    if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                        entry.key = self.edited(std::mem::take(&mut entry.key))?;
                        entry.value = self.edited(std::mem::take(&mut entry.value))?;
                    }
                }
                Expr::Map(map)
            }
            Expr::Comprehension(of) => self.comprehension(*of)?,
            other => other,
        };
        Ok(Ast { id, expr })
    }

    fn list(&mut self, mut list: ListExpr) -> Result<ListExpr, ExpressionError> {
        list.elements = list.elements.into_iter().map(|element| self.edited(element)).collect::<Result<_, _>>()?;
        Ok(list)
    }

    fn call(&mut self, mut call: CallExpr) -> Result<Expr, ExpressionError> {
        if call.func_name == "matches" {
            return self.matches(call);
        }
        call.target = call.target.map(|target| self.edited(*target).map(Box::new)).transpose()?;
        call.args = call.args.into_iter().map(|arg| self.edited(arg)).collect::<Result<_, _>>()?;
        if call.func_name == operators::ADD {
            ADD.clone_into(&mut call.func_name);
        }
        // `timestamp("…+02:00").getHours()` would give local hours, where the CEL specification says UTC.
        if call.func_name == "timestamp" && call.target.is_none() {
            return Ok(function(UTC, vec![unnamed(Expr::Call(call))]));
        }
        Ok(Expr::Call(call))
    }

    /// `text.matches("…")` and `matches(text, "…")`: the regular expression is compiled here, once.
    fn matches(&mut self, call: CallExpr) -> Result<Expr, ExpressionError> {
        let mut operands: Vec<Ast> = call.target.map(|target| *target).into_iter().chain(call.args).collect();
        let (Some(pattern), Some(text), true) = (operands.pop(), operands.pop(), operands.is_empty()) else {
            return Err(ExpressionError::UnknownFunction("matches".to_owned()));
        };
        let Expr::Literal(LiteralValue::String(pattern)) = pattern.expr else {
            return Err(ExpressionError::RegexComputed);
        };
        let place = self.regex(pattern.inner())?;
        Ok(function(MATCHES, vec![self.edited(text)?, number(place)]))
    }

    fn regex(&mut self, pattern: &str) -> Result<usize, ExpressionError> {
        if pattern.len() > MOST_REGEX_BYTES || self.regexes.len() >= MOST_REGEXES {
            return Err(ExpressionError::RegexTooLong);
        }
        let regex =
            RegexBuilder::new(pattern).size_limit(REGEX_MEMORY).dfa_size_limit(REGEX_MEMORY).nest_limit(32).build();
        let regex = regex.map_err(|error| ExpressionError::Regex(error.to_string().replace('\n', " ")))?;
        self.regexes.push(regex);
        Ok(self.regexes.len().saturating_sub(1))
    }

    /// Each round of a loop draws on the meter, by the size of what it repeats; so does each element of
    /// a list that it makes, by its size.
    fn comprehension(&mut self, mut of: ComprehensionExpr) -> Result<Expr, ExpressionError> {
        let cost = size(&of.loop_step);
        of.iter_range = self.edited(of.iter_range)?;
        of.loop_step = match collected(&of) {
            Some(Collected { guard, element }) => {
                let element = function(CHARGE, vec![number(cost), self.edited(element.clone())?]);
                let guard = guard.cloned().map(|guard| self.edited(guard)).transpose()?;
                appended(&of.accu_var, guard.map(|guard| ticking(cost, guard)), unnamed(element))
            }
            None => self.edited(of.loop_step)?,
        };
        if !matches!(of.loop_cond.expr, Expr::Literal(_)) || !appends(&of) {
            of.loop_cond = ticking(cost, of.loop_cond);
        }
        Ok(Expr::Comprehension(Box::new(of)))
    }
}

/// A loop that only appends to a list, `@result + [element]`, perhaps only where a guard holds: `map` and
/// `filter`. The interpreter is fast for just this shape, so it is kept.
struct Collected<'a> {
    guard: Option<&'a Ast>,
    element: &'a Ast,
}

fn collected(of: &ComprehensionExpr) -> Option<Collected<'_>> {
    let element = |step| match &call_of(step, operators::ADD)?.args[..] {
        [accumulator, list] if is_variable(accumulator, &of.accu_var) => match &list.expr {
            Expr::List(list) if list.optional_indices.is_empty() => list.elements.first(),
            _ => None,
        },
        _ => None,
    };
    let guarded = || match &call_of(&of.loop_step, operators::CONDITIONAL)?.args[..] {
        [guard, step, otherwise] if is_variable(otherwise, &of.accu_var) => {
            Some(Collected { guard: Some(guard), element: element(step)? })
        }
        _ => None,
    };
    element(&of.loop_step).map(|element| Collected { guard: None, element }).or_else(guarded)
}

fn appends(of: &ComprehensionExpr) -> bool {
    collected(of).is_some()
}

fn appended(accumulator: &str, guard: Option<Ast>, element: Ast) -> Ast {
    let accumulator = || unnamed(Expr::Ident(accumulator.to_owned()));
    let list = unnamed(Expr::List(ListExpr::new(vec![element])));
    let step = unnamed(function(operators::ADD, vec![accumulator(), list]));
    match guard {
        Some(guard) => unnamed(function(operators::CONDITIONAL, vec![guard, step, accumulator()])),
        None => step,
    }
}

/// `@tick(cost) ? condition : false`: an exhausted meter is an error that ends the loop.
fn ticking(cost: usize, condition: Ast) -> Ast {
    let tick = unnamed(function(TICK, vec![number(cost)]));
    let never = unnamed(Expr::Literal(LiteralValue::Boolean(false.into())));
    unnamed(function(operators::CONDITIONAL, vec![tick, condition, never]))
}

fn call_of<'a>(ast: &'a Ast, name: &str) -> Option<&'a CallExpr> {
    match &ast.expr {
        Expr::Call(call) if call.func_name == name && call.target.is_none() => Some(call),
        _ => None,
    }
}

fn is_variable(ast: &Ast, name: &str) -> bool {
    matches!(&ast.expr, Expr::Ident(other) if other == name)
}

/// True of `profile.attributes` and `campaign.attributes`.
fn is_attributes(ast: &Ast) -> bool {
    path(ast).is_some()
}

fn path(ast: &Ast) -> Option<String> {
    let Expr::Select(select) = &ast.expr else { return None };
    let Expr::Ident(variable) = &select.operand.expr else { return None };
    let known = ["profile", "campaign"].contains(&variable.as_str()) && select.field == "attributes" && !select.test;
    known.then(|| format!("{variable}.attributes"))
}

fn function(name: &str, args: Vec<Ast>) -> Expr {
    Expr::Call(CallExpr { func_name: name.to_owned(), target: None, args })
}

fn number(n: usize) -> Ast {
    unnamed(Expr::Literal(LiteralValue::Int(i64::try_from(n).unwrap_or(i64::MAX).into())))
}

/// A part that nobody wrote, and so has no place in the text.
fn unnamed(expr: Expr) -> Ast {
    Ast { id: 0, expr }
}

/// How many parts an expression has.
fn size(ast: &Ast) -> usize {
    let all = |parts: &[Ast]| parts.iter().map(size).sum::<usize>();
    let inner = match &ast.expr {
        Expr::Call(call) => all(&call.args).saturating_add(call.target.as_deref().map_or(0, size)),
        Expr::Select(select) => size(&select.operand),
        Expr::List(list) => all(&list.elements),
        Expr::Map(map) => map.entries.iter().map(|entry| entry_size(&entry.expr)).sum(),
        Expr::Comprehension(of) => {
            [&of.iter_range, &of.accu_init, &of.loop_cond, &of.loop_step, &of.result].map(size).into_iter().sum()
        }
        _ => 0,
    };
    inner.saturating_add(1)
}

fn entry_size(entry: &EntryExpr) -> usize {
    match entry {
        EntryExpr::MapEntry(entry) => size(&entry.key).saturating_add(size(&entry.value)),
        EntryExpr::StructField(field) => size(&field.value),
    }
}
