//! The clauses that `&&` joins at the top of an expression: as parts of the parsed expression, and as
//! the text that a person wrote.

use cel::common::ast::{Expr, operators};
use cel::parser::Expression as Ast;

/// The parts that `&&` joins, in order.
pub fn conjuncts(ast: &Ast) -> Vec<&Ast> {
    let mut found = Vec::new();
    let mut left = vec![ast];
    while let Some(ast) = left.pop() {
        match &ast.expr {
            Expr::Call(call) if call.func_name == operators::LOGICAL_AND => left.extend(call.args.iter().rev()),
            _ => found.push(ast),
        }
    }
    found
}

/// The texts between `&&` outside of brackets and quotes; none if something that binds weaker stands
/// there.
pub fn texts(source: &str) -> Option<Vec<String>> {
    let mut texts = Vec::new();
    let (mut depth, mut start) = (0_usize, 0_usize);
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let at = source.len().saturating_sub(rest.len());
        let quoted = quoted_length(rest);
        let step = match first {
            _ if quoted > 0 => quoted,
            '(' | '[' | '{' => {
                depth = depth.saturating_add(1);
                1
            }
            ')' | ']' | '}' => {
                depth = depth.saturating_sub(1);
                1
            }
            _ if depth > 0 => first.len_utf8(),
            '&' if rest.starts_with("&&") => {
                texts.push(source.get(start..at)?.trim().to_owned());
                start = at.saturating_add(2);
                2
            }
            '|' => return None,
            // The other ? belong to an optional field or index.
            '?' if !source.get(..at).is_some_and(|before| before.ends_with(['.', '['])) => return None,
            _ => first.len_utf8(),
        };
        rest = rest.get(step..)?;
    }
    texts.push(source.get(start..)?.trim().to_owned());
    Some(texts)
}

/// The length of the text in quotes, or of the comment, that something begins with; 0 if it does not.
fn quoted_length(text: &str) -> usize {
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    let Some(quote) = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quote| text.starts_with(quote)) else { return 0 };
    let mut at = quote.len();
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with(quote) {
            return at.saturating_add(quote.len());
        }
        // Whatever an escape is, its second character ends nothing.
        let escaped = rest.starts_with('\\');
        let step: usize = rest.chars().take(if escaped { 2 } else { 1 }).map(char::len_utf8).sum();
        at = at.saturating_add(step);
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clauses_are_what_stands_between_and_outside_of_brackets_and_quotes() {
        let split = |text: &str| texts(text);
        assert_eq!(split("a && b"), Some(vec!["a".into(), "b".into()]));
        assert_eq!(
            split("x == \"&&\" && ['&&'].exists(y, y && z)"),
            Some(vec!["x == \"&&\"".into(), "['&&'].exists(y, y && z)".into()])
        );
        assert_eq!(split("x == '''it's && ''' && y"), Some(vec!["x == '''it's && '''".into(), "y".into()]));
        assert_eq!(split("'\\'&&' == x // && no\n && y").map(|t| t.len()), Some(2));
        assert_eq!(split("p.?tier.orValue('') == 'a' && q[?0].hasValue()").map(|t| t.len()), Some(2));
        assert_eq!(split("a && b || c"), None);
        assert_eq!(split("a && b ? c : d"), None);
        assert_eq!(split("(a || b) && c").map(|t| t.len()), Some(2));
    }
}
