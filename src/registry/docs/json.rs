//! Reads a file in JSON syntax (`.tf.json`, `.tofu.json`).
//!
//! A block is an object with its labels as keys, or a list of such objects. A string is a template, as in the native syntax.

use serde_json::{Map, Value};

use super::model::{Folder, Input, ModuleCall, Output, Provider, Resource, ResourceMode};
use super::text::cut;

/// What one file declares, or where it cannot be read.
pub(super) fn read(source: &str) -> Result<Folder, String> {
    let source = source.strip_prefix('\u{feff}').unwrap_or(source);
    // serde_json refuses more than 128 levels.
    let root: Value = serde_json::from_str(source)
        .map_err(|error| format!("syntax error in line {}, column {}", error.line(), error.column()))?;
    let mut folder = Folder::default();
    for (name, body) in labelled(&root, "variable") {
        folder.inputs.push(input(name, body));
    }
    for (name, body) in labelled(&root, "output") {
        folder.outputs.push(Output {
            name: name.into(),
            description: text(body, "description"),
            sensitive: flag(body, "sensitive"),
            deprecated: text(body, "deprecated"),
        });
    }
    for (name, body) in labelled(&root, "module") {
        let (source, version) = (text(body, "source"), text(body, "version"));
        folder.calls.push(ModuleCall { name: name.into(), source, version });
    }
    for (name, _) in labelled(&root, "provider") {
        folder.providers.push(Provider::named(name));
    }
    for (block, mode) in [
        ("resource", ResourceMode::Managed),
        ("data", ResourceMode::Data),
        ("ephemeral", ResourceMode::Ephemeral),
    ] {
        for (kind, names) in labelled(&root, block) {
            for (name, body) in bodies(names) {
                folder.resources.push(Resource { mode, type_: kind.into(), name: name.into() });
                let written = body.get("provider").and_then(Value::as_str);
                let provider =
                    written.and_then(|text| text.split('.').next()).or_else(|| kind.split('_').next());
                folder.providers.extend(provider.map(Provider::named));
            }
        }
    }
    for settings in root.get("terraform").into_iter().flat_map(objects) {
        folder.required_version.extend(settings.get("required_version").and_then(plain));
        let required = settings.get("required_providers").into_iter().flat_map(objects).flatten();
        for (name, required) in required.filter(|(name, _)| !is_comment(name)) {
            let entry = |key| required.get(key).and_then(plain);
            let version = plain(required).or_else(|| entry("version"));
            folder.providers.push(Provider { name: name.clone(), source: entry("source"), version });
        }
    }
    Ok(folder)
}

type Object = Map<String, Value>;

fn input(name: &str, body: &Object) -> Input {
    Input {
        name: name.into(),
        type_: text(body, "type"),
        default: body.get("default").map(|value| cut(format!("{value:#}"))),
        description: text(body, "description"),
        sensitive: flag(body, "sensitive"),
        nullable: flag(body, "nullable"),
        ephemeral: flag(body, "ephemeral"),
        deprecated: text(body, "deprecated"),
    }
}

/// Whether a property is a comment, by Terraform's JSON syntax.
fn is_comment(name: &str) -> bool {
    name == "//"
}

/// The blocks of a kind, with their first label.
fn labelled<'a>(root: &'a Value, block: &str) -> impl Iterator<Item = (&'a str, &'a Object)> {
    let blocks = root.get(block).into_iter().flat_map(objects);
    blocks.flat_map(bodies)
}

/// The bodies that an object has by label.
fn bodies(labels: &Object) -> impl Iterator<Item = (&str, &Object)> {
    let labels = labels.iter().filter(|(label, _)| !is_comment(label));
    labels.flat_map(|(label, body)| objects(body).map(|body| (label.as_str(), body)))
}

/// An object, or the objects of a list.
fn objects(value: &Value) -> impl Iterator<Item = &Object> {
    let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
    value.as_object().into_iter().chain(list.iter().filter_map(Value::as_object))
}

fn text(body: &Object, key: &str) -> Option<String> {
    body.get(key).and_then(plain)
}

fn plain(value: &Value) -> Option<String> {
    value.as_str().map(|text| cut(text.trim().to_owned()))
}

fn flag(body: &Object, key: &str) -> Option<bool> {
    body.get(key).and_then(Value::as_bool)
}
