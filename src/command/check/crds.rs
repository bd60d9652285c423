//! Whether the CustomResourceDefinitions of the cluster are those of this binary.
//!
//! The schemas are read from the API server's `OpenAPI` documents, which every authenticated client may read: the operator has no
//! permission for CustomResourceDefinitions.

use kube::Client;
use serde_json::{Map, Value};

use super::report::Line;
use crate::api::{GROUP, VERSION, definitions};
use crate::controller::client::explain;

const CHECK: &str = "crds";
const FIX: &str = "apply the CustomResourceDefinitions of this release: `opendepot crd` prints them";
/// Differences that a message lists.
const MAX_LISTED: usize = 3;

/// One line per kind.
pub(crate) async fn check(client: &Client) -> Vec<Line> {
    let path = format!("/openapi/v3/apis/{GROUP}/{VERSION}");
    let document = match read(client, &path).await {
        Ok(document) => document,
        // Without either kind, the answer is a page that is no status, so kube's `is_not_found` is false.
        Err(kube::Error::Api(status)) if status.code == 404 => Value::Null,
        Err(error) => {
            let message = format!("the schemas cannot be read at {path}: {}", explain(&error));
            return vec![Line::skipped(CHECK, message)];
        }
    };
    let lines = definitions().map(|(plural, definition)| {
        let name = format!("{plural}.{GROUP}");
        let Some(served) = schema_of(&document, &definition.spec.names.kind) else {
            return Line::failed(CHECK, format!("{name}: {VERSION} is not served"), FIX);
        };
        let versions = serde_json::to_value(definition.spec.versions).unwrap_or_default();
        line(&name, &differences(&versions[0]["schema"]["openAPIV3Schema"], served))
    });
    lines.into()
}

async fn read(client: &Client, path: &str) -> Result<Value, kube::Error> {
    let request = http::Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError)?;
    client.request(request).await
}

fn schema_of<'a>(document: &'a Value, kind: &str) -> Option<&'a Value> {
    let is_kind =
        |named: &Value| named["kind"] == kind && named["group"] == GROUP && named["version"] == VERSION;
    let of_kind = |schema: &&Value| {
        schema["x-kubernetes-group-version-kind"].as_array().is_some_and(|kinds| kinds.iter().any(is_kind))
    };
    document["components"]["schemas"].as_object()?.values().find(of_kind)
}

fn line(name: &str, differences: &[String]) -> Line {
    let listed = differences[..differences.len().min(MAX_LISTED)].join(", ");
    let fields = match differences.len() {
        0 => return Line::ok(CHECK, format!("{name}: {VERSION}, with the schema of this release")),
        count if count <= MAX_LISTED => listed,
        count => format!("{count} fields, such as {listed}"),
    };
    let message = format!("{name}: the schema is from another release: it differs in {fields}");
    Line::failed(CHECK, message, FIX)
}

/// The paths of the fields of `spec` and `status` whose schemas differ. Descriptions do not count.
fn differences(ours: &Value, served: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for part in ["spec", "status"] {
        let [ours, served] = [ours, served].map(|schema| &schema["properties"][part]);
        compare(ours, served, part, &mut found);
    }
    found
}

fn compare(ours: &Value, served: &Value, path: &str, found: &mut Vec<String>) {
    let empty = Map::new();
    let [our_fields, their_fields] = [ours, served].map(|schema| schema.as_object().unwrap_or(&empty));
    let own_rules = |fields: &Map<String, Value>| {
        let rules =
            fields.iter().filter(|(key, _)| !["description", "properties", "items"].contains(&key.as_str()));
        rules.map(|(key, value)| (key.clone(), with_floats(value))).collect::<Map<String, Value>>()
    };
    if own_rules(our_fields) != own_rules(their_fields) {
        found.push(path.to_owned());
        if ours.is_null() || served.is_null() {
            return;
        }
    }
    if let (Some(ours), Some(served)) = (our_fields.get("items"), their_fields.get("items")) {
        compare(ours, served, &format!("{path}[]"), found);
    }
    let [our_names, their_names] =
        [ours, served].map(|schema| schema["properties"].as_object().unwrap_or(&empty));
    let names = our_names.keys().chain(their_names.keys().filter(|name| !our_names.contains_key(*name)));
    for name in names {
        let [ours, served] = [our_names, their_names].map(|fields| fields.get(name).unwrap_or(&Value::Null));
        compare(ours, served, &format!("{path}.{name}"), found);
    }
}

/// The same value with each number as a float: the API server returns `0` for `0.0`.
fn with_floats(value: &Value) -> Value {
    match value {
        Value::Number(number) => number.as_f64().map_or_else(|| value.clone(), Value::from),
        Value::Array(values) => values.iter().map(with_floats).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(key, value)| (key.clone(), with_floats(value))).collect()
        }
        _ => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema(spec: &Value) -> Value {
        json!({"properties": {"spec": {"type": "object", "properties": spec}, "status": {"type": "object"}}})
    }

    #[test]
    fn each_field_that_differs_is_named_and_descriptions_are_not_compared() {
        let ours = schema(&json!({
            "bucket": {"type": "string", "maxLength": 63.0, "description": "new"},
            "added": {"type": "object", "properties": {"inner": {"type": "string"}}},
            "list": {"type": "array", "items": {"type": "object", "properties": {"version": {"type": "string"}}}},
        }));
        let served = schema(&json!({
            "bucket": {"type": "string", "maxLength": 63, "description": "old"},
            "list": {"type": "array", "items": {"type": "object", "properties": {"version": {"type": "integer"}}}},
            "removed": {"type": "string"},
        }));
        assert_eq!(differences(&ours, &ours), Vec::<String>::new());
        assert_eq!(differences(&ours, &served), ["spec.added", "spec.list[].version", "spec.removed"]);
    }
}
