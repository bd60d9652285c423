//! The metadata of an object, as far as manifests contain it and the API server checks it without looking at the cluster. Pure.

use serde_json::{Map, Value, json};

use super::schema::Violation;
use crate::domain::names::{is_dns_label, is_dns_subdomain};

/// Annotations may have this many bytes together.
const MAX_ANNOTATIONS: usize = 256 << 10;

const KEY: &str = "write [PREFIX/]NAME with letters, digits, '-', '_' and '.', at most 63 in NAME";
const VALUE: &str = "write at most 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends";

pub(crate) fn schema() -> Value {
    // Null is the same as absent, also for a value of a label.
    let text = json!({"type": "string", "nullable": true});
    let texts = json!({"type": "object", "nullable": true, "additionalProperties": text});
    let number = json!({"type": "integer", "nullable": true});
    let flag = json!({"type": "boolean", "nullable": true});
    let required = json!({"type": "string", "minLength": 1});
    let owner = json!({"type": "object", "required": ["apiVersion", "kind", "name", "uid"], "properties": {
        "apiVersion": required, "kind": required, "name": required, "uid": required,
        "controller": flag, "blockOwnerDeletion": flag,
    }});
    json!({"type": "object", "properties": {
        "name": text, "generateName": text, "namespace": text, "labels": texts, "annotations": texts,
        "finalizers": {"type": "array", "nullable": true, "items": {"type": "string"}},
        "ownerReferences": {"type": "array", "nullable": true, "items": owner},
        "uid": text, "resourceVersion": text, "selfLink": text, "generation": number,
        "deletionGracePeriodSeconds": number, "creationTimestamp": text, "deletionTimestamp": text,
        "managedFields": {"type": "array", "nullable": true, "items": {
            "type": "object", "x-kubernetes-preserve-unknown-fields": true,
        }},
    }})
}

/// What the schema cannot express.
pub(crate) fn check(metadata: &Value) -> Vec<Violation> {
    let mut found = Vec::new();
    names(metadata, &mut found);
    maps(metadata, &mut found);
    for field in ["creationTimestamp", "deletionTimestamp"] {
        if let Some(time) = metadata[field].as_str().filter(|time| time.parse::<jiff::Timestamp>().is_err()) {
            found.push(invalid(field, time, "write a time such as 2026-01-01T00:00:00Z"));
        }
    }
    for (index, name) in metadata["finalizers"].as_array().into_iter().flatten().enumerate() {
        if let Some(name) = name.as_str().filter(|name| !is_qualified(name)) {
            found.push(invalid(&format!("finalizers[{index}]"), name, KEY));
        }
    }
    found
}

fn invalid(field: &str, value: &str, advice: &str) -> Violation {
    Violation::new(format!("metadata.{field}"), format!("Invalid value: {value:?}: {advice}"))
}

fn names(metadata: &Value, found: &mut Vec<Violation>) {
    let text = |field: &str| metadata[field].as_str();
    match (&metadata["name"], text("generateName")) {
        (Value::Null, None) => found.push(Violation::new("metadata.name", "Required value")),
        (Value::String(name), _) if !is_dns_subdomain(name, 253) => {
            let advice = "write lower-case letters, digits, '-' and '.', such as terraform-aws-eks";
            found.push(invalid("name", name, advice));
        }
        _ => {}
    }
    // The API server appends to it.
    let is_start =
        |start: &str| is_dns_subdomain(&format!("{}x", start.strip_suffix('-').unwrap_or(start)), 254);
    if let Some(start) = text("generateName").filter(|start| !start.is_empty() && !is_start(start)) {
        let advice = "write the beginning of a name, such as terraform-";
        found.push(invalid("generateName", start, advice));
    }
    if let Some(namespace) = text("namespace").filter(|name| !name.is_empty() && !is_dns_label(name)) {
        found.push(invalid("namespace", namespace, "write the name of a namespace, such as team-a"));
    }
}

/// Labels and annotations.
fn maps(metadata: &Value, found: &mut Vec<Violation>) {
    let empty = Map::new();
    let entries = |field: &str| metadata[field].as_object().unwrap_or(&empty);
    for (key, value) in entries("labels") {
        let field = format!("labels.{key}");
        if !is_qualified(key) {
            found.push(invalid(&field, key, KEY));
        }
        if let Some(value) = value.as_str().filter(|value| !value.is_empty() && !is_name(value)) {
            found.push(invalid(&field, value, VALUE));
        }
    }
    for key in entries("annotations").keys().filter(|key| !is_qualified(&key.to_lowercase())) {
        found.push(invalid(&format!("annotations.{key}"), key, KEY));
    }
    let size = |(key, value): (&String, &Value)| key.len() + value.as_str().map_or(0, str::len);
    if entries("annotations").iter().map(size).sum::<usize>() > MAX_ANNOTATIONS {
        let message = format!("Too long: may have at most {MAX_ANNOTATIONS} bytes together");
        found.push(Violation::new("metadata.annotations", message));
    }
}

/// A key of a label, or a finalizer.
fn is_qualified(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => is_dns_subdomain(prefix, 253) && is_name(name),
        None => is_name(key),
    }
}

/// A value of a label that is not empty.
fn is_name(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let edge = |c: char| c.is_ascii_alphanumeric();
    text.len() <= 63 && text.bytes().all(legal) && text.starts_with(edge) && text.ends_with(edge)
}
