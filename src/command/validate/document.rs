//! YAML and JSON texts, and on which line each field is. Pure.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use serde_yaml::Spanned;

use super::limits;

/// One document of a text.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Document {
    pub value: Value,
    /// The lines of fields by their paths, such as `spec.versions[0].version`; empty for a stream of JSON.
    lines: BTreeMap<String, u64>,
}

/// Why a text has no documents.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Unparsable {
    pub line: Option<u64>,
    message: String,
}

/// A value and the line where it is used.
struct Node(Value, BTreeMap<String, u64>);

impl Document {
    /// The line of a field, or of what contains it.
    pub(crate) fn line(&self, path: &str) -> Option<u64> {
        let mut path = path;
        loop {
            match self.lines.get(path) {
                Some(line) => return Some(*line),
                None if path.is_empty() => return None,
                None => path = &path[..path.rfind(['.', '[']).unwrap_or(0)],
            }
        }
    }
}

/// All documents of a text: YAML, or JSON objects one after the other.
///
/// # Errors
/// [`Unparsable`] with the line.
pub(crate) fn documents(text: &str) -> Result<Vec<Document>, Unparsable> {
    let parsed = serde_yaml::from_multiple_with_options::<Spanned<Node>>(text, limits::options(text));
    let error = match parsed {
        Ok(documents) => return Ok(documents.into_iter().map(document).collect()),
        Err(error) => error,
    };
    let stream = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    if text.trim_start().starts_with('{')
        && let Ok(values) = stream.collect::<Result<Vec<_>, _>>()
    {
        return Ok(values.into_iter().map(|value| Document { value, lines: BTreeMap::new() }).collect());
    }
    let line = error.location().map(|location| location.line());
    if let Some(message) = limits::exceeded(&error) {
        return Err(Unparsable { line, message });
    }
    let text_of = error.to_string();
    let message = match &error {
        serde_yaml::Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("the key {key} is there twice")
        }
        _ => text_of.split(" at line ").next().unwrap_or_default().to_owned(),
    };
    let hint = if text.contains("{{") {
        ". A template must be rendered first, such as with helm template, whose output `opendepot validate -` reads"
    } else {
        ""
    };
    let message = message.trim_start_matches("error: ");
    Err(Unparsable { line, message: format!("not valid YAML: {message}{hint}") })
}

fn document(parsed: Spanned<Node>) -> Document {
    let line = parsed.referenced.line();
    let Node(value, mut lines) = parsed.value;
    lines.insert(String::new(), line);
    Document { value, lines }
}

impl Node {
    /// Takes a part's lines under the part's name.
    fn add(lines: &mut BTreeMap<String, u64>, name: &str, part: Spanned<Self>) -> Value {
        let line = part.referenced.line();
        let Self(value, below) = part.value;
        for (path, line) in below {
            let dot = if path.starts_with('[') { "" } else { "." };
            lines.insert(format!("{name}{dot}{path}"), line);
        }
        lines.insert(name.to_owned(), line);
        value
    }
}

impl From<Value> for Node {
    fn from(value: Value) -> Self {
        Self(value, BTreeMap::new())
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of YAML")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Value::Null.into())
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Value::Null.into())
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Value::from(value).into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Value::from(value).into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Value::from(value).into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Value::from(value).into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Value::from(value).into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let (mut values, mut lines) = (Vec::new(), BTreeMap::new());
        while let Some(item) = items.next_element::<Spanned<Node>>()? {
            let name = format!("[{}]", values.len());
            values.push(Node::add(&mut lines, &name, item));
        }
        Ok(Node(Value::from(values), lines))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Node, A::Error> {
        let (mut values, mut lines) = (Map::new(), BTreeMap::new());
        while let Some(name) = fields.next_key::<String>()? {
            let value = Node::add(&mut lines, &name, fields.next_value::<Spanned<Node>>()?);
            values.insert(name, value);
        }
        Ok(Node(Value::from(values), lines))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_field_has_its_line() {
        let text = "# first\na: 1\nb:\n  - c: x\n    d: [1, 2]\n---\n{\"e\": null}\n";
        let documents = documents(text).unwrap();
        assert_eq!(documents[0].value, json!({"a": 1, "b": [{"c": "x", "d": [1, 2]}]}));
        assert_eq!(documents[1].value, json!({"e": null}));
        for (path, line) in [("a", 2), ("b[0].c", 4), ("b[0].d", 5), ("b[0].none", 4), ("none", 2), ("", 2)] {
            assert_eq!(documents[0].line(path), Some(line), "{path}");
        }
        assert_eq!(documents[1].line("e"), Some(7));
    }

    #[test]
    fn json_objects_may_follow_each_other_and_errors_have_a_line() {
        let stream = documents("{\"a\": 1}\n{\"b\": 2}\n").unwrap();
        assert_eq!((stream.len(), stream[1].line("b")), (2, None));
        for (text, line, expected) in [
            ("a: 1\na: 2\n", 2, "not valid YAML: the key a is there twice"),
            ("a: 1\nb: {{ .Values.b }}\n", 2, "must be rendered first"),
            ("a: [", 1, "not valid YAML: "),
        ] {
            let error = documents(text).unwrap_err();
            assert_eq!(error.line, Some(line), "{error}");
            assert!(error.to_string().contains(expected) && !error.to_string().contains("-->"), "{error}");
        }
        assert_eq!(documents("").unwrap(), []);
    }
}
