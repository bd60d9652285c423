//! GitHub's expressions, as far as the workflows use them: `${{ PATH }}` in texts, and the terms of an `if:`.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// Replaces each `${{ … }}` by its value in the context, or by nothing if it has none.
pub(super) fn substitute(text: &str, context: &Value) -> Result<String> {
    let mut done = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${{") {
        let (expression, after) = after.split_once("}}").context("an expression ends with }}")?;
        done.push_str(before);
        done.push_str(lookup(expression.trim(), context)?);
        rest = after;
    }
    Ok(done + rest)
}

fn lookup<'a>(path: &str, context: &'a Value) -> Result<&'a str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    ensure!(path.chars().all(plain), "this runner knows no functions: {path}");
    Ok(path.split('.').fold(context, |value, key| &value[key]).as_str().unwrap_or_default())
}

/// Whether an `if:` holds. Without a status function it requires `success()` too.
pub(super) fn holds(condition: &str, context: &Value, failed: bool) -> Result<bool> {
    let terms: Vec<&str> = condition.split("&&").map(str::trim).collect();
    let has_status = terms.iter().any(|term| ["success()", "failure()", "always()"].contains(term));
    let mut all = has_status || !failed;
    for term in terms {
        all &= match term {
            "success()" => !failed,
            "failure()" => failed,
            "always()" => true,
            comparison => {
                let (left, right) = comparison.split_once(" == ").context("an `if:` compares with ==")?;
                lookup(left, context)? == right.trim_matches('\'')
            }
        };
    }
    Ok(all)
}
