//! Parses JSON of unknown origin without what is nested deeply.
//!
//! A tree of empty objects may take a hundred times the memory of its text, and nothing reads it.

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::controller::json_pruner::JsonPruner;

/// An object, with the lists and objects in it. What these contain is kept too, except that inner lists and objects are empty.
pub(in crate::registry) fn object(json: &[u8]) -> Option<Map<String, Value>> {
    serde_json::from_slice(&JsonPruner::to_level(2).prune(Bytes::copy_from_slice(json))).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parsed(text: &str) -> Option<Value> {
        object(text.as_bytes()).map(Value::Object)
    }

    #[test]
    fn what_is_read_is_kept_and_nested_values_are_not() {
        let claims = json!({
            "iss": "https://a.example/\u{e9}\"", "exp": 1_800_000_000, "nbf": -1, "iat": 1.5, "max": u64::MAX,
            "aud": ["a", "b"], "email_verified": true, "none": null, "owner": {"id": 7}, "empty": [[], {}],
        });
        assert_eq!(parsed(&claims.to_string()), Some(claims));
        let nested = json!({"a": [{"": 0}, [[1]], "x"], "b": {"c": {"d": 1}, "e": [1]}});
        assert_eq!(parsed(&nested.to_string()), Some(json!({"a": [{}, [], "x"], "b": {"c": {}, "e": []}})));
        let deep = format!("{{\"a\":{}{},\"b\":1}}", "[".repeat(100), "]".repeat(100));
        assert_eq!(parsed(&deep), Some(json!({"a": [[]], "b": 1})));
        assert_eq!(
            parsed(r#"{"a": 1, "a": "2"}"#),
            Some(json!({"a": "2"})),
            "the last one, as serde_json takes it"
        );
    }

    #[test]
    fn what_is_no_object_is_nothing() {
        for text in ["", "[]", "7", "null", "{", "{} {}", "{}x", r#"{"a": [[}]}"#, "{1: 2}"] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }
}
