//! How a text of YAML is read: without limits on what it contains, and with limits on what its aliases repeat. Pure.

use serde_yaml::budget::BudgetBreach;
use serde_yaml::{Budget, Error, Options};

use crate::domain::text::yaml_options;

/// Options for a text. The reader's default limits are for servers, and would reject large manifests. A text cannot contain more
/// values than bytes. With its length added to the defaults, only aliases are limited: a few lines of them can repeat billions of
/// values.
pub(super) fn options(text: &str) -> Options {
    let limit = |default: usize| default.saturating_add(text.len());
    let default = Budget::default();
    let mut options = yaml_options();
    options.budget = serde_yaml::budget! {
        max_documents: limit(default.max_documents),
        max_events: limit(limit(default.max_events)),
        max_nodes: limit(default.max_nodes),
        max_total_scalar_bytes: limit(default.max_total_scalar_bytes),
        max_anchors: limit(default.max_anchors),
        max_aliases: limit(default.max_aliases),
        max_merge_keys: limit(default.max_merge_keys),
        max_recorded_anchor_events: limit(default.max_recorded_anchor_events),
        max_recorded_anchor_bytes: limit(default.max_recorded_anchor_bytes),
        enforce_alias_anchor_ratio: false,
    };
    options
}

/// The message about a limit, if that is what the error is about.
pub(super) fn exceeded(error: &Error) -> Option<String> {
    let what = match error {
        Error::AliasError { error, .. } => return exceeded(error),
        Error::Budget { breach: BudgetBreach::SequenceUnbalanced, .. } => return None,
        Error::Budget { breach: BudgetBreach::Depth { depth }, .. } => {
            format!("values are nested {depth} levels deep")
        }
        Error::Budget { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => "aliases repeat too many values".to_owned(),
        _ => return None,
    };
    Some(format!("{what}: this is more than opendepot validate reads, although it may be valid YAML"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::document::documents;

    #[test]
    fn large_texts_are_read() {
        let comments = "# comment\n".repeat(200);
        let aliases = format!("a: &a [1, 2]\nb:\n{comments}{}", "- *a\n".repeat(2000));
        assert_eq!(documents(&aliases).unwrap()[0].value["b"][1999], json!([1, 2]));
        assert_eq!(documents(&"a: 1\n---\n".repeat(2000)).unwrap().len(), 2000);
        let keys: Vec<String> = (0..130_000).map(|number| format!("k{number}: v\n")).collect();
        assert_eq!(documents(&keys.concat()).unwrap()[0].line("k129999"), Some(130_000));
    }

    #[test]
    fn aliases_that_repeat_too_much_and_deep_values_are_named_as_limits() {
        let bomb: Vec<String> = (1..12)
            .map(|level| format!("a{level}: &a{level} [{}]\n", format!("*a{},", level - 1).repeat(10)))
            .collect();
        // Aliases do not repeat few large values either.
        let large = format!("a: &a {}\nb:\n{}", "x".repeat(1 << 20), "- *a\n".repeat(100));
        let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
        for (text, expected) in [
            (format!("a0: &a0 [1, 2, 3]\n{}", bomb.concat()), "aliases repeat too many values: "),
            (large, "aliases repeat too many values: "),
            (format!("a: {deep}"), "values are nested 65 levels deep: "),
            (format!("{{\"a\": 1}}\n{{\"a\": {deep}}}"), "values are nested 65 levels deep: "),
        ] {
            // As large as the main thread's: without optimisation, 64 levels need more than a test has.
            let thread = std::thread::Builder::new().stack_size(8 << 20);
            let error = thread.spawn(move || documents(&text).unwrap_err()).unwrap().join().unwrap();
            assert!(error.to_string().starts_with(expected) && error.line.is_some(), "{error}");
        }
    }
}
