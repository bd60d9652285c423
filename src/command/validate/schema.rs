//! Checks a value against a schema of a `CustomResourceDefinition`, with the API server's messages. Pure.
//!
//! `pattern` is not evaluated: a test fails if a schema of the CRDs has one, because its message is a regular expression.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::rules;

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Violation {
    /// The field, such as `spec.versions[0].version`.
    pub path: String,
    pub message: String,
}

impl Violation {
    pub(super) fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}

/// All violations of a value. A field with a default may be absent or null.
pub(crate) fn check(schema: &Value, value: &Value) -> Vec<Violation> {
    let mut found = Vec::new();
    walk(schema, value, "", &mut found);
    found
}

fn walk(schema: &Value, value: &Value, path: &str, found: &mut Vec<Violation>) {
    let mut add = |message: String| found.push(Violation::new(path, message));
    if value.is_null() && (schema["nullable"] == true || !schema["default"].is_null()) {
        return;
    }
    if let Some(expected) = schema["type"].as_str().filter(|expected| !is_of_type(value, expected)) {
        add(format!("Invalid value: must be of type {expected}: \"{}\"", type_of(value)));
        return;
    }
    if let Some(allowed) = schema["enum"].as_array().filter(|allowed| !allowed.contains(value)) {
        let allowed: Vec<String> = allowed.iter().map(ToString::to_string).collect();
        add(format!("Unsupported value: {value}: supported values: {}", allowed.join(", ")));
    }
    let limit = |name: &str| schema[name].as_f64();
    match value {
        Value::String(text) => string(schema, text, path, found),
        Value::Number(number) => {
            if let (Some(least), Some(number)) = (limit("minimum"), number.as_f64())
                && number < least
            {
                add(format!("Invalid value: {number}: should be greater than or equal to {least}"));
            }
            let format = schema["format"].as_str().unwrap_or_default();
            if !is_in_range(format, number) {
                add(format!("Invalid value: {number}: must be of type integer with format {format}"));
            }
        }
        Value::Array(items) => array(schema, items, path, found),
        Value::Object(fields) => object(schema, fields, path, found),
        Value::Null | Value::Bool(_) => {}
    }
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        let text = rule["rule"].as_str().unwrap_or_default();
        let message = match rules::is_kept(text, value) {
            Ok(true) => continue,
            Ok(false) => rule["message"].as_str().unwrap_or(text).to_owned(),
            Err(error) => error.to_string(),
        };
        let shown = if value.is_object() { "object".to_owned() } else { value.to_string() };
        found.push(Violation::new(path, format!("Invalid value: {shown}: {message}")));
    }
}

fn string(schema: &Value, text: &str, path: &str, found: &mut Vec<Violation>) {
    let mut add = |message: String| found.push(Violation::new(path, message));
    let length = u64::try_from(text.chars().count()).unwrap_or(u64::MAX);
    if let Some(most) = schema["maxLength"].as_u64().filter(|most| length > *most) {
        add(format!("Too long: may not be longer than {most}"));
    }
    if let Some(least) = schema["minLength"].as_u64().filter(|least| length < *least) {
        add(format!("Invalid value: {text:?}: should be at least {least} chars long"));
    }
}

fn array(schema: &Value, items: &[Value], path: &str, found: &mut Vec<Violation>) {
    let count = u64::try_from(items.len()).unwrap_or(u64::MAX);
    if let Some(most) = schema["maxItems"].as_u64().filter(|most| count > *most) {
        found.push(Violation::new(path, format!("Too many: {count}: must have at most {most} items")));
    }
    let keys = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
    let keys: Vec<&str> = keys.filter_map(Value::as_str).collect();
    let mut seen = BTreeSet::new();
    for (index, item) in items.iter().enumerate() {
        let key: Map<String, Value> =
            keys.iter().map(|key| ((*key).to_owned(), item[*key].clone())).collect();
        if !keys.is_empty() && !seen.insert(Value::from(key.clone()).to_string()) {
            let message = format!("Duplicate value: {}", Value::from(key));
            found.push(Violation::new(format!("{path}[{index}]"), message));
        }
    }
    for (index, item) in items.iter().enumerate() {
        walk(&schema["items"], item, &format!("{path}[{index}]"), found);
    }
}

fn object(schema: &Value, fields: &Map<String, Value>, path: &str, found: &mut Vec<Violation>) {
    let empty = Map::new();
    let known = schema["properties"].as_object().unwrap_or(&empty);
    let inner = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    let is_open = schema["x-kubernetes-preserve-unknown-fields"] == true;
    let values = Some(&schema["additionalProperties"]).filter(|schema| schema.is_object());
    for (name, value) in fields {
        match (known.get(name), values) {
            (Some(schema), _) | (None, Some(schema)) => walk(schema, value, &inner(name), found),
            (None, None) if is_open => {}
            (None, None) => {
                found.push(Violation::new(inner(name), format!("unknown field \"{}\"", inner(name))));
            }
        }
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let has_default = known.get(name).is_some_and(|schema| !schema["default"].is_null());
        if !has_default && fields.get(name).is_none() {
            found.push(Violation::new(inner(name), "Required value"));
        }
    }
}

fn is_of_type(value: &Value, expected: &str) -> bool {
    match expected {
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "number" => value.is_number(),
        expected => type_of(value) == expected,
    }
}

/// Whether a number is in the range of an integer format. Other formats have no range.
fn is_in_range(format: &str, number: &serde_json::Number) -> bool {
    let Some(value) = number.as_f64() else { return true };
    let (least, most) = match format {
        "int32" => (f64::from(i32::MIN), f64::from(i32::MAX)),
        "uint32" => (0.0, f64::from(u32::MAX)),
        "int64" => return number.is_i64() || number.is_f64() && value.abs() < 9.2e18,
        _ => return true,
    };
    (least..=most).contains(&value)
}

/// The API server's name for the type of a value.
fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
