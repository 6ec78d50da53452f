//! What is accepted: how deep, how large, and which names.

use cel::common::ast::{EntryExpr, Expr, IdedEntryExpr, LiteralValue};
use cel::parser::Expression as Ast;

use super::error::ExpressionError;

pub(super) const MOST_DEPTH: usize = 48;
pub(super) const MOST_NODES: usize = 1000;
pub(super) const MOST_LOOPS: usize = 2;

/// The variables of an expression.
#[derive(Clone, Copy, Debug)]
pub struct Scope {
    /// Each with the fields that it has; none if they are not known beforehand.
    pub variables: &'static [(&'static str, &'static [&'static str])],
    /// What a person is told who wrote another name.
    pub known: &'static str,
}

/// Names of types, and of `optional.of`, that stand like variables.
const TYPES: [&str; 13] = [
    "bool",
    "bytes",
    "double",
    "duration",
    "dyn",
    "int",
    "list",
    "map",
    "null_type",
    "optional",
    "string",
    "timestamp",
    "uint",
];

const FUNCTIONS: [&str; 39] = [
    "bool",
    "bytes",
    "contains",
    "double",
    "duration",
    "dyn",
    "endsWith",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getFullYear",
    "getHours",
    "getMilliseconds",
    "getMinutes",
    "getMonth",
    "getSeconds",
    "hasValue",
    "int",
    "matches",
    "none",
    "of",
    "ofNonZeroValue",
    "or",
    "orValue",
    "size",
    "startsWith",
    "string",
    "timestamp",
    "type",
    "uint",
    "value",
    "_?_:_",
    "!_",
    "-_",
    "_[_]",
    "_[?_]",
    "_?._",
    "@in",
];

/// Checks a parsed expression.
pub fn check(ast: &Ast, scope: &Scope) -> Result<(), ExpressionError> {
    let mut walk = Walk { scope, nodes: 0, bound: Vec::new() };
    walk.visit(ast, 0, 0)?;
    match &ast.expr {
        Expr::Literal(literal) => not_boolean(literal).map_or(Ok(()), |what| Err(ExpressionError::NotBoolean(what))),
        Expr::List(_) => Err(ExpressionError::NotBoolean("list")),
        Expr::Map(_) => Err(ExpressionError::NotBoolean("map")),
        _ => Ok(()),
    }
}

fn not_boolean(literal: &LiteralValue) -> Option<&'static str> {
    match literal {
        LiteralValue::Boolean(_) => None,
        LiteralValue::String(_) => Some("text"),
        LiteralValue::Null => Some("null"),
        LiteralValue::Bytes(_) => Some("row of bytes"),
        LiteralValue::Double(_) | LiteralValue::Int(_) | LiteralValue::UInt(_) => Some("number"),
    }
}

struct Walk<'a> {
    scope: &'a Scope,
    nodes: usize,
    /// Variables of the loops around.
    bound: Vec<&'a str>,
}

impl<'a> Walk<'a> {
    fn visit(&mut self, ast: &'a Ast, depth: usize, loops: usize) -> Result<(), ExpressionError> {
        self.nodes = self.nodes.saturating_add(1);
        if depth > MOST_DEPTH {
            return Err(ExpressionError::TooDeep);
        }
        if self.nodes > MOST_NODES {
            return Err(ExpressionError::TooLarge);
        }
        let deeper = depth.saturating_add(1);
        match &ast.expr {
            Expr::Unspecified => Err(ExpressionError::Parser),
            Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => self.variable(name),
            Expr::Select(select) => {
                self.field(&select.operand, &select.field)?;
                self.visit(&select.operand, deeper, loops)
            }
            Expr::Call(call) => {
                Self::function(&call.func_name)?;
                call.target.iter().try_for_each(|target| self.visit(target, deeper, loops))?;
                call.args.iter().try_for_each(|arg| self.visit(arg, deeper, loops))
            }
            Expr::List(list) => list.elements.iter().try_for_each(|element| self.visit(element, deeper, loops)),
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| self.entry(entry, deeper, loops)),
            Expr::Struct(object) => Err(ExpressionError::Object(object.type_name.clone())),
            Expr::Comprehension(of) => {
                let inside = loops.saturating_add(1);
                if inside > MOST_LOOPS {
                    return Err(ExpressionError::LoopsNested);
                }
                self.visit(&of.iter_range, deeper, loops)?;
                self.visit(&of.accu_init, deeper, loops)?;
                self.bound.extend([of.iter_var.as_str(), of.accu_var.as_str()]);
                self.bound.extend(of.iter_var2.as_deref());
                let bound = self.bound.len();
                for part in [&of.loop_cond, &of.loop_step, &of.result] {
                    self.visit(part, deeper, inside)?;
                }
                let own = if of.iter_var2.is_some() { 3 } else { 2 };
                self.bound.truncate(bound.saturating_sub(own));
                Ok(())
            }
        }
    }

    fn entry(&mut self, entry: &'a IdedEntryExpr, depth: usize, loops: usize) -> Result<(), ExpressionError> {
        match &entry.expr {
            EntryExpr::StructField(field) => Err(ExpressionError::Object(field.field.clone())),
            EntryExpr::MapEntry(entry) => {
                self.visit(&entry.key, depth, loops)?;
                self.visit(&entry.value, depth, loops)
            }
        }
    }

    fn variable(&self, name: &str) -> Result<(), ExpressionError> {
        let known = self.scope.variables.iter().any(|(variable, _)| *variable == name);
        if known || self.bound.contains(&name) || TYPES.contains(&name) {
            return Ok(());
        }
        Err(self.unknown(name.to_owned()))
    }

    /// A field of a variable whose fields are known.
    fn field(&self, operand: &Ast, field: &str) -> Result<(), ExpressionError> {
        let Expr::Ident(name) = &operand.expr else { return Ok(()) };
        if self.bound.contains(&name.as_str()) {
            return Ok(());
        }
        let fields = self.scope.variables.iter().find(|(variable, _)| variable == name).map(|(_, fields)| *fields);
        match fields {
            Some(fields) if !fields.contains(&field) => Err(self.unknown(format!("{name}.{field}"))),
            _ => Ok(()),
        }
    }

    fn unknown(&self, name: String) -> ExpressionError {
        ExpressionError::UnknownName { name, known: self.scope.known }
    }

    fn function(name: &str) -> Result<(), ExpressionError> {
        // Operators have two operands and are written `_+_`; `@not_strictly_false` is in loops.
        let operator = name.starts_with('_') && name.ends_with('_') && name.len() <= 4;
        if operator || name == "@not_strictly_false" || FUNCTIONS.contains(&name) {
            return Ok(());
        }
        Err(ExpressionError::UnknownFunction(name.to_owned()))
    }
}
