//! Whether a type constraint accepts all values that another one accepts.

use std::collections::BTreeMap;

use hcl_edit::expr::{Expression, FuncCall, Iter, Object};
use hcl_edit::parser::parse_expr;

use super::text::{attribute_name, canonical};

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

fn all_accept(old: Iter<'_>, new: Iter<'_>) -> bool {
    let (old, new): (Vec<_>, Vec<_>) = (old.collect(), new.collect());
    old.len() == new.len() && old.into_iter().zip(new).all(|(old, new)| accepts(old, new))
}

fn attributes_accept(old: &Object, new: &Object) -> bool {
    let (old, new) = (attributes(old), attributes(new));
    let kept = old.iter().all(|(name, old)| new.get(name).is_some_and(|new| accepts(old, new)));
    let mut added = new.iter().filter(|(name, _)| !old.contains_key(*name));
    kept && added.all(|(_, new)| optional(new).is_some())
}

/// The values of an object by name. An object can have very many.
fn attributes(object: &Object) -> BTreeMap<Option<&str>, &Expression> {
    object.iter().map(|(key, value)| (attribute_name(key), value.expr())).collect()
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
