//! Whether a type constraint accepts all values that another one accepts.

use std::collections::BTreeMap;

use hcl_edit::expr::{Expression, FuncCall, Iter, Object};
use hcl_edit::parser::parse_expr;

use super::text::{attribute_name, canonical};

/// Whether a caller can pass to the type `new` whatever it passed to `old`, as far as that shows in the texts.
///
/// Attributes of objects may be added if they are `optional`, and may become `optional`.
pub(super) fn is_wider(old: &str, new: &str) -> bool {
    match (parse_expr(old), parse_expr(new)) {
        (Ok(old), Ok(new)) => accepts(&old, &new, false),
        _ => false,
    }
}

/// `is_element`: of a list, set or map. There, `any` is one type for all elements, and not wider than a type that converts each.
fn accepts(old: &Expression, new: &Expression, is_element: bool) -> bool {
    if let Some(new) = optional(new) {
        return accepts(optional(old).unwrap_or(old), new, is_element);
    }
    match (old, new) {
        (_, Expression::Variable(new)) if new.as_str() == "any" && !is_element => optional(old).is_none(),
        (Expression::FuncCall(old), Expression::FuncCall(new)) => {
            let is_element = is_element || matches!(name(new), "list" | "set" | "map");
            name(old) == name(new) && all_accept(old.args.iter(), new.args.iter(), is_element)
        }
        (Expression::Array(old), Expression::Array(new)) => all_accept(old.iter(), new.iter(), is_element),
        (Expression::Object(old), Expression::Object(new)) => attributes_accept(old, new, is_element),
        _ => canonical(&old.to_string()) == canonical(&new.to_string()),
    }
}

fn all_accept(old: Iter<'_>, new: Iter<'_>, is_element: bool) -> bool {
    let (old, new): (Vec<_>, Vec<_>) = (old.collect(), new.collect());
    old.len() == new.len() && old.into_iter().zip(new).all(|(old, new)| accepts(old, new, is_element))
}

fn attributes_accept(old: &Object, new: &Object, is_element: bool) -> bool {
    let (old, new) = (attributes(old), attributes(new));
    let kept = old.iter().all(|(name, old)| new.get(name).is_some_and(|new| accepts(old, new, is_element)));
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
            ("object({ a = string, b = bool })", "object({ a = any, b = optional(any) })", true),
            ("tuple([bool])", "tuple([any])", true),
            ("object({ a = optional(string) })", "object({ a = any })", false),
            ("list(any)", "list(any)", true),
            // The old type converts each element, such as 1 and true.
            ("map(string)", "map(any)", false),
            ("list(object({ a = string }))", "list(object({ a = any }))", false),
            ("object({ a = list(string) })", "object({ a = list(any) })", false),
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
