//! The rules of the schema in CEL (`x-kubernetes-validations`): the part of the language that they use. Pure.
//!
//! A rule is one or more terms with `||` between them. A test fails if a rule of the CRDs has another form.

use regex_lite::Regex;
use serde_json::Value;

/// A rule that has another form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this rule cannot be evaluated offline: {0}")]
pub(crate) struct Unsupported(String);

/// Whether a value keeps a rule. A rule about changes (`oldSelf`) is kept by each new object.
///
/// # Errors
/// [`Unsupported`] if the rule has another form.
pub(crate) fn is_kept(rule: &str, value: &Value) -> Result<bool, Unsupported> {
    if rule.contains("oldSelf") {
        return Ok(true);
    }
    for term in terms(rule) {
        if holds(term.trim(), value).ok_or_else(|| Unsupported(rule.to_owned()))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The parts between `||` that are in no parentheses and no string.
fn terms(rule: &str) -> Vec<&str> {
    let (mut terms, mut start, mut depth, mut in_string) = (Vec::new(), 0, 0_usize, false);
    let bytes = rule.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'\'' => in_string = !in_string,
            _ if in_string => {}
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b'|' if depth == 0 && bytes.get(at + 1) == Some(&b'|') => {
                terms.push(&rule[start..at]);
                start = at + 2;
            }
            _ => {}
        }
    }
    terms.push(&rule[start..]);
    terms
}

/// Whether a term holds; `None` if it has another form.
fn holds(term: &str, value: &Value) -> Option<bool> {
    const DOTS: &str = "self.key.split('/').exists(part, part == '.' || part == '..')";
    const SAME_OWNER: &str = "self.repoUrl.lowerAscii().split('/')[3] == self.repoOwner.lowerAscii()";
    let text = |name: &str| value[name].as_str().unwrap_or_default();
    if term == DOTS {
        return Some(text("key").split('/').any(|part| part == "." || part == ".."));
    }
    if term == SAME_OWNER {
        let owner = text("repoUrl").split('/').nth(3).unwrap_or_default();
        return Some(owner.eq_ignore_ascii_case(text("repoOwner")));
    }
    if let Some(negated) = term.strip_prefix('!') {
        return holds(negated, value).map(|holds| !holds);
    }
    if let Some(name) = term.strip_prefix("has(self.").and_then(|rest| rest.strip_suffix(')')) {
        return is_name(name).then(|| !value[name].is_null());
    }
    if let Some((name, other)) = term.strip_prefix("self.").and_then(|rest| rest.split_once(" != ")) {
        let other = other.strip_prefix('\'')?.strip_suffix('\'')?;
        return is_name(name).then(|| text(name) != other);
    }
    let (subject, rest) = term.split_once(".matches('")?;
    // As in Go, which the API server is written in, `\d` and `\s` of `regex-lite` are ASCII.
    let expression = Regex::new(&rest.strip_suffix("')")?.replace("\\\\", "\\")).ok()?;
    match subject.strip_prefix("self.") {
        Some(name) => is_name(name).then(|| expression.is_match(text(name))),
        None if subject == "self" => Some(expression.is_match(value.as_str().unwrap_or_default())),
        None => None,
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::definitions;

    fn rules(schema: &Value, found: &mut Vec<String>) {
        match schema {
            Value::Object(fields) => {
                for rule in
                    fields.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten()
                {
                    found.push(rule["rule"].as_str().unwrap().to_owned());
                }
                fields.values().for_each(|value| rules(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| rules(value, found)),
            _ => {}
        }
    }

    #[test]
    fn every_rule_of_both_kinds_can_be_evaluated() {
        let mut found = Vec::new();
        for (_, definition) in definitions() {
            rules(&serde_json::to_value(&definition).unwrap(), &mut found);
        }
        assert!(found.len() > 20, "{}", found.len());
        for rule in &found {
            // The first term that holds ends a rule, so each is evaluated by itself.
            for term in terms(rule).iter().filter(|_| !rule.contains("oldSelf")) {
                assert!(holds(term.trim(), &json!({})).is_some(), "{term}");
            }
        }
        let other = "self.versions.all(v, v.version != '')";
        assert_eq!(is_kept(other, &json!({})), Err(Unsupported(other.to_owned())));
    }

    #[test]
    fn terms_are_alternatives() {
        let rule = "!has(self.a) || self.a.matches('^(x|y||\\\\d)$')";
        for (value, expected) in [
            (json!({}), true),
            (json!({"a": null}), true),
            (json!({"a": "x"}), true),
            (json!({"a": "7"}), true),
            (json!({"a": "z"}), false),
        ] {
            assert_eq!(is_kept(rule, &value), Ok(expected), "{value}");
        }
    }

    #[test]
    fn digits_and_spaces_are_ascii() {
        let matches = |text: &str, value: &str| Regex::new(text).unwrap().is_match(value);
        assert!(matches(r"^\d{2}$", "10") && !matches(r"^\d$", "\u{661}"));
        assert!(matches(r"^[\d.]+$", "1.0") && !matches(r"^[^\s]$", " ") && matches(r"^[^\s]$", "\u{a0}"));
        assert!(matches(r"^[^/\\]+$", "a") && !matches(r"^[^/\\]+$", "\\"));
        assert!(!matches(r"^[^/\\[:cntrl:]]+$", "a\nb") && !matches(r"^[^/\\[:cntrl:]]+$", "a/b"));
        assert!(matches(r"^[^/\\[:cntrl:]]+$", "a b:[n]"));
    }
}
