//! The chart's README, `values.schema.json` and `files/defaults.json` are made of `values.yaml`, whose comments have the form that
//! helm-docs and helm-schema read: `# -- description` and `# @schema` blocks.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::support::generated::is_generated;
use crate::support::root;

const CHART: &str = "deploy/helm/opendepot";

/// What the comments above a key say.
#[derive(Debug, Default)]
struct Note {
    schema: Map<String, Value>,
    description: String,
}

/// The notes of a values file by path, the paths in the order of the file, and the schema's root.
#[derive(Debug, Default)]
struct Notes {
    root: Map<String, Value>,
    by_path: BTreeMap<String, Note>,
    order: Vec<String>,
}

fn mapping(yaml: &[String], of: &str) -> Map<String, Value> {
    serde_yaml::from_str(&yaml.join("\n")).unwrap_or_else(|error| panic!("@schema of {of}: {error}"))
}

/// The path of a key by its indentation.
fn path(parents: &mut Vec<String>, indentation: usize, key: &str) -> String {
    parents.truncate(indentation / 2);
    parents.push(key.to_owned());
    parents.join(".")
}

fn notes(text: &str) -> Notes {
    let mut notes = Notes::default();
    let (mut parents, mut schema, mut description) = (Vec::new(), Vec::new(), Vec::<String>::new());
    let mut block = None;
    for line in text.lines() {
        let trimmed = line.trim_start();
        let comment = trimmed.strip_prefix('#').map(|rest| rest.strip_prefix(' ').unwrap_or(rest));
        match (comment, block) {
            (Some(mark @ ("@schema" | "@schema.root")), None) => block = Some(mark),
            (Some("@schema"), Some("@schema")) => block = None,
            (Some("@schema.root"), Some("@schema.root")) => {
                notes.root = mapping(&std::mem::take(&mut schema), "the root");
                block = None;
            }
            (Some(comment), Some(_)) => schema.push(comment.to_owned()),
            (Some(comment), None) => match comment.strip_prefix("-- ") {
                Some(first) => description = vec![first.to_owned()],
                None if description.is_empty() => {}
                None => description.push(comment.to_owned()),
            },
            (None, _) => {
                if let Some((key, _)) = trimmed.split_once(':').filter(|(key, _)| !key.starts_with('-')) {
                    let path = path(&mut parents, line.len() - trimmed.len(), key);
                    let schema = mapping(&std::mem::take(&mut schema), &path);
                    let description = std::mem::take(&mut description).join(" ");
                    notes.order.push(path.clone());
                    notes.by_path.insert(path, Note { schema, description });
                }
                description.clear();
                assert!(schema.is_empty(), "a @schema block is above no key: {schema:?}");
            }
        }
    }
    notes
}

/// True if the note itself describes what is below.
fn closed(note: &Note) -> bool {
    ["$ref", "properties"].iter().any(|key| note.schema.contains_key(*key))
        || note.schema.get("additionalProperties").is_some_and(|more| *more != json!(false))
}

/// What is below a path, unless the path is one value.
fn group<'a>(notes: &Notes, path: &str, value: &'a Value) -> Option<&'a Map<String, Value>> {
    value.as_object().filter(|map| !map.is_empty() && !closed(&notes.by_path[path]))
}

fn child(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { [path, key].join(".") }
}

fn schema(notes: &Notes, path: &str, value: &Value) -> Value {
    let note = &notes.by_path[path];
    let mut schema = note.schema.clone();
    if let Some(map) = group(notes, path, value) {
        schema.entry("type").or_insert(json!("object"));
        schema.entry("additionalProperties").or_insert(json!(false));
        schema.insert("properties".into(), properties(notes, path, map));
    } else if !["type", "$ref", "enum"].iter().any(|key| schema.contains_key(*key)) {
        let kind = match value {
            Value::Bool(_) => "boolean",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            _ => panic!("{path} needs a @schema block: its default has no type"),
        };
        schema.insert("type".into(), json!(kind));
    }
    if !note.description.is_empty() {
        schema.insert("description".into(), json!(note.description));
    }
    Value::Object(schema)
}

fn properties(notes: &Notes, path: &str, values: &Map<String, Value>) -> Value {
    let each = values.iter().map(|(key, value)| (key.clone(), schema(notes, &child(path, key), value)));
    Value::Object(each.collect())
}

/// The defaults by their paths, which templates cannot read from values.yaml. A value that is null has none.
fn defaults(notes: &Notes, path: &str, values: &Map<String, Value>, into: &mut BTreeMap<String, Value>) {
    for (key, value) in values {
        let path = child(path, key);
        match group(notes, &path, value) {
            Some(map) => defaults(notes, &path, map, into),
            None if value.is_null() => {}
            None => drop(into.insert(path, value.clone())),
        }
    }
}

fn whole_schema(notes: &Notes, values: &Value) -> String {
    let mut schema = notes.root.clone();
    schema.insert("$schema".into(), json!("http://json-schema.org/draft-07/schema#"));
    schema.insert("type".into(), json!("object"));
    schema.insert("additionalProperties".into(), json!(false));
    schema.insert("properties".into(), properties(notes, "", values.as_object().unwrap()));
    serde_json::to_string_pretty(&schema).unwrap() + "\n"
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Bool(_) => "bool",
        Value::Number(_) => "int",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
        Value::Null => "unset",
    }
}

/// A row for each value that has a description. Fails for one that has none, nor a parent with one.
fn rows(notes: &Notes, values: &Value) -> String {
    let mut rows = Vec::new();
    for path in &notes.order {
        let value = path.split('.').fold(values, |value, key| &value[key]);
        let described = |path: &str| !notes.by_path[path].description.is_empty();
        if !described(path) {
            let parent = path.match_indices('.').any(|(at, _)| described(&path[..at]));
            let group = value.as_object().is_some_and(|map| !map.is_empty());
            assert!(parent || group, "{path} has no description: write # -- above it");
            continue;
        }
        let default = value.to_string().replace('|', "\\|");
        let description = notes.by_path[path].description.replace('|', "\\|");
        rows.push(format!("| {path} | {} | `{default}` | {description} |\n", kind(value)));
    }
    rows.concat()
}

const START: &str = "<!-- Made of values.yaml: UPDATE_GENERATED=1 cargo test --test it chart_reference -->\n";

#[test]
fn readme_schema_and_defaults_of_the_chart_are_made_of_its_values() {
    let read = |name: &str| std::fs::read_to_string(root().join(CHART).join(name)).unwrap_or_default();
    let text = read("values.yaml");
    let (values, notes): (Value, Notes) = (serde_yaml::from_str(&text).unwrap(), notes(&text));
    let readme = read("README.md");
    let (before, _) = readme.split_once(START).expect("the README has the line above its table");
    let table =
        format!("| Key | Type | Default | Description |\n|---|---|---|---|\n{}", rows(&notes, &values));
    let mut by_path = BTreeMap::new();
    defaults(&notes, "", values.as_object().unwrap(), &mut by_path);
    for (name, made) in [
        ("values.schema.json", whole_schema(&notes, &values)),
        ("files/defaults.json", serde_json::to_string_pretty(&by_path).unwrap() + "\n"),
        ("README.md", format!("{before}{START}\n{table}")),
    ] {
        is_generated(&format!("{CHART}/{name}"), &made, "chart_reference");
    }
}

#[test]
fn a_value_without_description_or_type_is_refused() {
    let failure = |text: &str| {
        let values: Value = serde_yaml::from_str(text).unwrap();
        let made = std::panic::catch_unwind(|| {
            let notes = notes(text);
            (whole_schema(&notes, &values), rows(&notes, &values))
        });
        made.err().map(|error| error.downcast_ref::<String>().cloned().unwrap_or_default())
    };
    let group = "group:\n  # @schema\n  # type: [string, \"null\"]\n  # @schema\n  # -- Two\n  # lines.\n  key: null\n";
    assert_eq!(failure(group), None);
    assert!(notes(group).by_path["group.key"].description == "Two lines.");
    assert!(failure(&group.replace("# --", "#")).unwrap().starts_with("group.key has no description"));
    assert!(failure("# -- A list.\nlist: []\n").unwrap().starts_with("list needs a @schema block"));
}
