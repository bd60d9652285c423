//! Whether a type constraint accepts all values that another one accepts.

use hcl_edit::expr::{Expression, FuncCall, Object, ObjectKey};
use hcl_edit::parser::parse_expr;

use super::text::canonical;

/// Whether a caller can pass to the type `new` whatever it passed to `old`, as far as that shows in the texts.
///
/// Attributes of objects may be added if they are `optional`, and may become `optional`.
pub(super) fn is_wider(old: &str, new: &str) -> bool {
    if new == "any" {
        return true;
    }
    match (parse_expr(old), parse_expr(new)) {
        (Ok(old), Ok(new)) => accepts(&old, &new),
        _ => false,
    }
}

fn accepts(old: &Expression, new: &Expression) -> bool {
    if let Some(new) = optional(new) {
        return accepts(optional(old).unwrap_or(old), new);
    }
    match (old, new) {
        (Expression::FuncCall(old), Expression::FuncCall(new)) => {
            name(old) == name(new) && all_accept(old.args.iter(), new.args.iter())
        }
        (Expression::Array(old), Expression::Array(new)) => all_accept(old.iter(), new.iter()),
        (Expression::Object(old), Expression::Object(new)) => attributes_accept(old, new),
        _ => canonical(&old.to_string()) == canonical(&new.to_string()),
    }
}

fn all_accept<'a>(
    mut old: impl Iterator<Item = &'a Expression>,
    mut new: impl Iterator<Item = &'a Expression>,
) -> bool {
    loop {
        match (old.next(), new.next()) {
            (Some(old), Some(new)) if accepts(old, new) => {}
            (old, new) => return old.is_none() && new.is_none(),
        }
    }
}

fn attributes_accept(old: &Object, new: &Object) -> bool {
    let kept = old.iter().all(|(key, old)| {
        let new = attribute(new, key);
        new.is_some_and(|new| accepts(old.expr(), new))
    });
    let mut added = new.iter().filter(|(key, _)| attribute(old, key).is_none());
    kept && added.all(|(_, new)| optional(new.expr()).is_some())
}

/// The type of the attribute with the name of `key`, which may be quoted in one of the objects.
fn attribute<'a>(object: &'a Object, key: &ObjectKey) -> Option<&'a Expression> {
    let same = object.iter().find(|(other, _)| attribute_name(other) == attribute_name(key));
    same.map(|(_, value)| value.expr())
}

fn attribute_name(key: &ObjectKey) -> Option<&str> {
    match key {
        ObjectKey::Ident(ident) => Some(ident.as_str()),
        ObjectKey::Expression(expression) => expression.as_str(),
    }
}

/// The type of an attribute that may be left out.
fn optional(type_: &Expression) -> Option<&Expression> {
    let call = type_.as_func_call().filter(|call| name(call) == "optional")?;
    call.args.get(0)
}

fn name(call: &FuncCall) -> &str {
    call.name.name.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_wider_only_if_callers_can_pass_what_they_passed() {
        for (old, new, expected) in [
            ("string", "any", true),
            ("object({ a = string })", "object({ a = string, b = optional(number) })", true),
            (
                "object({ a = string })",
                "object({\n  \"a\" = string\n  b = optional(number, 1) # new\n})",
                true,
            ),
            ("object({ a = string })", "object({ a = optional(string) })", true),
            ("object({ a = optional(string, \"x\") })", "object({ a = optional(string, \"y\") })", true),
            (
                "map(object({ a = list(object({ b = bool })) }))",
                "map(object({ a = list(object({ b = bool, c = optional(bool) })), d = optional(any) }))",
                true,
            ),
            ("tuple([object({}), bool])", "tuple([object({ a = optional(bool) }), bool])", true),
            ("object({ a = string })", "object({ a = string, b = number })", false),
            ("object({ a = optional(string) })", "object({ a = string })", false),
            ("object({ a = string, b = optional(string) })", "object({ a = string })", false),
            ("object({ a = string })", "object({ a = number, b = optional(string) })", false),
            ("object({ a = string })", "map(string)", false),
            ("list(string)", "set(string)", false),
            ("tuple([bool])", "tuple([bool, bool])", false),
            ("string", "number", false),
            ("object({ a = ", "object({ a = string })", false),
        ] {
            assert_eq!(is_wider(old, new), expected, "{old} to {new}");
        }
    }
}
