//! Removes from the JSON that the API server sends what nothing reads, and what could not be read.
//!
//! Some fields of a Module or Version accept any JSON and are ignored. The API server stores 1.5 MiB of it, which as a tree takes a
//! hundred times as much memory: `{"":0}` has six bytes, and a map takes 640. It also stores 10,000 levels. `serde_json` refuses a
//! text with 128: one such object would hide all others of its list, and could not be deleted. Whatever a decision reads is nested
//! less deeply.

use bytes::Bytes;

use crate::api::GROUP;

/// The levels of an answer of the API server that are kept.
const DEEPEST: usize = 64;
/// The lists and maps in answers about Modules and Versions that are read: those of Kubernetes, and those of the schemas.
const READ: [&str; 23] = [
    "items",
    "object",
    "metadata",
    "spec",
    "status",
    "annotations",
    "labels",
    "finalizers",
    "ownerReferences",
    "details",
    "causes",
    "moduleConfig",
    "moduleConfigRef",
    "githubClientConfig",
    "storageConfig",
    "s3",
    "presign",
    "versions",
    "conditions",
    "published",
    "objects",
    "source",
    "storage",
];
/// The bytes of a name that are kept: more than each of [`READ`] has, with its quotation mark.
const LONGEST_NAME: usize = 24;

/// Prunes the JSON of a text, chunk by chunk: what is known between two chunks.
#[derive(Clone, Debug, Default)]
pub(crate) struct JsonPruner {
    /// The levels that are kept.
    deepest: usize,
    /// Whether the text is about Modules or Versions; `None` if names do not matter.
    is_ours: Option<bool>,
    depth: usize,
    /// The level of the list or map whose content is being removed.
    emptied: Option<usize>,
    in_string: bool,
    is_escaped: bool,
    /// The beginning of the last string, with the quotation mark at its end, until a comma or bracket: the name of what follows.
    name: Vec<u8>,
}

impl JsonPruner {
    /// For the answer from this path.
    pub(super) fn of(path: &str) -> Self {
        Self { is_ours: Some(path.split('/').nth(2) == Some(GROUP)), ..Self::to_level(DEEPEST) }
    }

    /// For a text of which so many levels are read.
    pub(crate) fn to_level(deepest: usize) -> Self {
        Self { deepest, ..Self::default() }
    }

    /// The next chunk. Each list or map that is ignored, or nested too deeply, is empty. It is copied only if there is one.
    pub(crate) fn prune(&mut self, chunk: Bytes) -> Bytes {
        let mut kept = Vec::new();
        // Where the part begins that is kept and not copied yet.
        let mut from = self.emptied.is_none().then_some(0);
        for (at, &byte) in chunk.iter().enumerate() {
            if self.in_string && self.name.len() < LONGEST_NAME {
                self.name.push(byte);
            }
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' => self.is_escaped = self.in_string,
                b'"' => {
                    self.in_string = !self.in_string;
                    if self.in_string {
                        self.name.clear();
                    }
                }
                _ if self.in_string => {}
                b',' => self.name.clear(),
                b'{' | b'[' => {
                    self.depth += 1;
                    if let Some(start) = from.take_if(|_| self.is_to_be_empty()) {
                        kept.extend_from_slice(&chunk[start..=at]);
                        self.emptied = Some(self.depth);
                    }
                    self.name.clear();
                }
                b'}' | b']' => {
                    if self.emptied.take_if(|emptied| *emptied == self.depth).is_some() {
                        from = Some(at);
                    }
                    self.depth = self.depth.saturating_sub(1);
                    self.name.clear();
                }
                _ => {}
            }
        }
        match from {
            Some(0) => return chunk,
            Some(start) => kept.extend_from_slice(&chunk[start..]),
            None => {}
        }
        kept.into()
    }

    /// Whether the list or map that begins here is to be empty. In each object, `managedFields` repeats the names of all fields.
    fn is_to_be_empty(&self) -> bool {
        let is_named = |name: &str| self.name.strip_suffix(b"\"") == Some(name.as_bytes());
        let is_ignored = match self.is_ours {
            Some(true) => !self.name.is_empty() && !READ.into_iter().any(is_named),
            Some(false) => is_named("managedFields"),
            None => false,
        };
        is_ignored || self.depth > self.deepest
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;
    use crate::api::definitions;

    /// The text in chunks of this size, each pruned.
    fn pruned(mut pruner: JsonPruner, text: &str, size: usize) -> String {
        let chunks = text.as_bytes().chunks(size).map(Bytes::copy_from_slice);
        String::from_utf8(chunks.flat_map(|chunk| pruner.prune(chunk)).collect()).unwrap()
    }

    /// Two lines, as in a watch, the first with a value of so many levels.
    fn text(levels: usize, inner: &str) -> String {
        // Braces, quotes and backslashes within a string are no nesting.
        let odd = r#""}]\"{\\\"[{[""#;
        let (open, close) = ("[".repeat(levels), "]".repeat(levels));
        format!("{{\"a\":{odd},\"b\":{open}{inner}{close},{odd}:{{}}}}\n[{odd}]\n")
    }

    #[test]
    fn a_list_that_is_nested_too_deeply_is_empty_however_the_text_arrives() {
        // The object itself is one level.
        let most = DEEPEST - 1;
        for (levels, kept) in [
            (0, text(0, "1")),
            (most, text(most, "1")),
            (most + 1, text(most, "[]")),
            (200, text(most, "[]")),
            (10_000, text(most, "[]")),
        ] {
            for size in [1, 2, 3, 7, 1 << 20] {
                assert_eq!(
                    pruned(JsonPruner::of(""), &text(levels, "1"), size),
                    kept,
                    "{levels} levels in chunks of {size}"
                );
            }
        }
        let line = text(most, "[]").lines().next().map(str::to_owned).unwrap();
        serde_json::from_str::<Value>(&line).unwrap();
    }

    #[test]
    fn what_nothing_reads_is_empty() {
        // A text that no list or map follows as its value is no name.
        let text = |map: &str, list: &str, managed: &str| {
            let long = "metadata".repeat(4);
            format!(
                r#"{{"object": {{"metadata": {{"managedFields": [{managed}], "annotations": {{"gcs": "{{[", "a": "gcs"}}}},
                "status": {{"conditions": [{{"type": "gcs"}}, {{"gcs" : {{{map}}}}}], "objects":["gcs", {{"key": "a"}}, "]"],
                "gcs": null, "x": "gcs", "gc\\s": [{list}], "s3\"": {{{map}}}, "{long}":[{list}], "x": "gcs"}}, "x": "gcs"}}}}
                {{"object": {{"spec": {{"versions": [{{"version": "1"}}], "unknown": [{list}]}}}}}}"#
            )
        };
        let map = r#""a": {"metadata": [1]}, "": 0, "]}": "\\\"""#;
        let list = r#"{"fieldsV1": {"f:a": {}}}, "a", [{"": 0}]"#;
        let full = text(map, list, list);
        for size in [1, 2, 3, 7, 1 << 20] {
            let ours = JsonPruner::of("/apis/opendepot.defdev.io/v1alpha1/namespaces/acme/versions");
            assert_eq!(pruned(ours, &full, size), text("", "", ""), "chunks of {size}");
        }
        let others = JsonPruner::of("/api/v1/namespaces/acme/secrets/a");
        assert_eq!(pruned(others, &full, 7), text(map, list, ""));
    }

    /// The lists and maps of a schema, each with whether it accepts any JSON.
    fn lists_and_maps(schema: &Value, found: &mut BTreeMap<String, bool>) {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            if field["type"] == "object" || field["type"] == "array" {
                let preserves = field["x-kubernetes-preserve-unknown-fields"] == true;
                found.insert(name.clone(), preserves && field.get("properties").is_none());
            }
            lists_and_maps(field, found);
        }
        if let Some(items) = schema.get("items") {
            lists_and_maps(items, found);
        }
    }

    #[test]
    fn each_list_or_map_of_a_schema_is_read_unless_it_accepts_any_json() {
        let mut found = BTreeMap::new();
        for (_, definition) in definitions() {
            let versions = serde_json::to_value(definition.spec.versions).unwrap();
            lists_and_maps(&versions[0]["schema"]["openAPIV3Schema"], &mut found);
        }
        assert_eq!(found.values().filter(|accepts_any| **accepts_any).count(), 5, "{found:?}");
        for (name, accepts_any) in found {
            assert_ne!(READ.contains(&name.as_str()), accepts_any, "{name}");
        }
        assert!(READ.iter().all(|name| name.len() < LONGEST_NAME));
    }

    #[test]
    fn an_ordinary_text_is_not_copied() {
        let chunk = Bytes::from(json!({"spec": {"versions": [{"version": "1.0.0"}]}}).to_string());
        assert_eq!(JsonPruner::of("").prune(chunk.clone()).as_ptr(), chunk.as_ptr());
    }
}
