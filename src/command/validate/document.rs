//! YAML and JSON texts, and on which line each field is. Pure.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use serde_yaml::Spanned;

use super::limits;

/// One document of a text.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Document {
    pub value: Value,
    /// The lines of fields by their paths, such as `spec.versions[0].version`; empty for JSON that is no YAML.
    lines: BTreeMap<String, u64>,
}

/// Why a text cannot be parsed.
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
    let error = match yaml(text, 0) {
        Ok(documents) => return Ok(documents),
        Err(error) => unparsable(&error),
    };
    match objects(text) {
        Some(objects) => stream(text, &objects, error),
        None if text.contains("{{") => {
            let hint = "A template must be rendered first, such as with helm template, whose output \
                        `opendepot validate -` reads";
            Err(Unparsable { message: format!("{}. {hint}", error.message), ..error })
        }
        None => Err(error),
    }
}

/// The documents of a text with this number of lines before it.
fn yaml(text: &str, before: u64) -> Result<Vec<Document>, serde_yaml::Error> {
    let parsed = serde_yaml::from_multiple_with_options::<Spanned<Node>>(text, limits::options(text))?;
    Ok(parsed.into_iter().map(|parsed| document(parsed, before)).collect())
}

fn unparsable(error: &serde_yaml::Error) -> Unparsable {
    let line = error.location().map(|location| location.line());
    let message = limits::exceeded(error).unwrap_or_else(|| match error {
        serde_yaml::Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("not valid YAML: duplicate key {key}")
        }
        error => {
            let text = error.to_string();
            let text = text.split(" at line ").next().unwrap_or_default().trim_start_matches("error: ");
            format!("not valid YAML: {text}")
        }
    });
    Unparsable { line, message }
}

/// The ends of the objects of a text, if it is JSON. YAML allows no second object without `---` before it.
fn objects(text: &str) -> Option<Vec<usize>> {
    if !text.trim_start().starts_with('{') {
        return None;
    }
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    let mut ends = Vec::new();
    while let Some(value) = values.next() {
        value.ok()?;
        ends.push(values.byte_offset());
    }
    Some(ends)
}

/// The objects of a text of JSON. Each is read as YAML, whose reader returns lines and rejects a duplicate key.
fn stream(text: &str, ends: &[usize], error: Unparsable) -> Result<Vec<Document>, Unparsable> {
    let (mut documents, mut start, mut before) = (Vec::new(), 0, 0);
    for end in ends {
        let part = &text[start..*end];
        match yaml(part, before) {
            Ok(read) => documents.extend(read),
            Err(error) if limits::exceeded(&error).is_some() => {
                return Err(unparsable(&error).after(before));
            }
            // Some JSON is no YAML, such as an object whose key has more than 1,024 characters.
            Err(_) => match serde_json::from_str::<Node>(part) {
                Ok(Node(value, _)) => documents.push(Document { value, lines: BTreeMap::new() }),
                Err(twice) if twice.is_data() => {
                    let message = twice.to_string();
                    let message = message.split(" at line ").next().unwrap_or_default();
                    let line = u64::try_from(twice.line()).ok();
                    return Err(
                        Unparsable { line, message: format!("not valid JSON: {message}") }.after(before)
                    );
                }
                Err(_) => return Err(error),
            },
        }
        before += part.bytes().map(|byte| u64::from(byte == b'\n')).sum::<u64>();
        start = *end;
    }
    Ok(documents)
}

impl Unparsable {
    /// The same, with this number of lines before it.
    fn after(self, lines: u64) -> Self {
        Self { line: self.line.map(|line| line + lines), ..self }
    }
}

fn document(parsed: Spanned<Node>, before: u64) -> Document {
    let line = parsed.referenced.line();
    let Node(value, mut lines) = parsed.value;
    lines.insert(String::new(), line);
    for line in lines.values_mut() {
        *line += before;
    }
    Document { value, lines }
}

impl Node {
    /// Adds a part's lines under the part's name, and returns its value.
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
            // YAML's reader rejects that itself.
            if values.contains_key(&name) {
                return Err(A::Error::custom(format!("duplicate key {name}")));
            }
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
        let stream = documents("{\"a\": 1}\n{\n\t\"b\": [2,\n3]}\n").unwrap();
        assert_eq!((stream.len(), &stream[1].value), (2, &json!({"b": [2, 3]})));
        assert_eq!(
            (stream[0].line("a"), stream[1].line("b"), stream[1].line("b[1]")),
            (Some(1), Some(3), Some(4))
        );
        for (text, line, expected) in [
            ("a: 1\na: 2\n", 2, "not valid YAML: duplicate key a"),
            ("{\"a\": 1,\n\"a\": 2}", 2, "duplicate key a"),
            ("{\"a\": 1}\n{\"b\": {\"c\": 1,\n\"c\": 2}}", 3, "duplicate key c"),
            ("a: 1\nb: {{ .Values.b }}\n", 2, "must be rendered first"),
            ("a: [", 1, "not valid YAML: "),
        ] {
            let error = documents(text).unwrap_err();
            assert_eq!(error.line, Some(line), "{error}");
            assert!(error.to_string().contains(expected) && !error.to_string().contains("-->"), "{error}");
        }
        assert_eq!(documents("").unwrap(), []);
    }

    #[test]
    fn json_that_is_no_yaml_is_read_and_has_no_key_twice() {
        let key = "k".repeat(2000);
        let text = format!("{{\"a\": 1}}\n{{\"{key}\": {{\"b\": null}}}}\n");
        let read = documents(&text).unwrap();
        assert_eq!((&read[1].value[&key], read[1].line("b")), (&json!({"b": null}), None));
        let error = documents(&text.replace("\"b\"", "\"b\": 1,\n\"b\"")).unwrap_err();
        assert_eq!(error.to_string(), "not valid JSON: duplicate key b");
        assert_eq!(error.line, Some(3));
    }
}
