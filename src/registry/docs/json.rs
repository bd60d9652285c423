//! Reads a file in JSON syntax (`.tf.json`, `.tofu.json`).
//!
//! A block is an object with its labels as keys, or a list of such objects. A string is a template, as in the native syntax.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::model::{Folder, Input, ModuleCall, Output, Provider, Resource, ResourceMode};
use super::text::{cut, is_alias, is_identifier};

/// What one file declares, or where it cannot be read.
pub(super) fn read(source: &str) -> (Folder, Option<String>) {
    let source = source.strip_prefix('\u{feff}').unwrap_or(source);
    // serde_json refuses more than 128 levels.
    let root: Root = match serde_json::from_str(source) {
        Ok(root) => root,
        Err(error) => {
            let why = format!("syntax error in line {}, column {}", error.line(), error.column());
            return (Folder::default(), Some(why));
        }
    };
    let mut folder = Folder::default();
    for (name, body) in root.labelled("variable") {
        folder.inputs.push(input(name, body));
    }
    for (name, body) in root.labelled("output") {
        folder.outputs.push(output(name, body));
    }
    for (name, body) in root.labelled("module") {
        let (source, version) = (text(body, "source"), text(body, "version"));
        folder.calls.push(ModuleCall { name: name.into(), source, version });
    }
    for (name, _) in root.labelled("provider") {
        folder.providers.push(Provider::named(name));
    }
    root.add_resources(&mut folder);
    root.add_settings(&mut folder);
    (folder, None)
}

type Object = Map<String, Value>;

/// The properties of the root, or of the objects that it lists. A name can be there several times.
struct Root(Vec<(String, Value)>);

impl Root {
    /// The objects of a kind.
    fn blocks(&self, block: &str) -> impl Iterator<Item = &Object> {
        self.0.iter().filter(move |(name, _)| name == block).flat_map(|(_, value)| objects(value))
    }

    /// The blocks of a kind, with their first label.
    fn labelled(&self, block: &str) -> impl Iterator<Item = (&str, &Object)> {
        self.blocks(block).flat_map(bodies)
    }

    fn add_resources(&self, folder: &mut Folder) {
        for (block, mode) in [
            ("resource", ResourceMode::Managed),
            ("data", ResourceMode::Data),
            ("ephemeral", ResourceMode::Ephemeral),
        ] {
            for (kind, names) in self.labelled(block) {
                for (name, body) in bodies(names) {
                    folder.resources.push(Resource { mode, type_: kind.into(), name: name.into() });
                    let written = body.get("provider").and_then(Value::as_str);
                    let provider =
                        written.and_then(|text| text.split('.').next()).or_else(|| kind.split('_').next());
                    let provider = provider.filter(|name| is_identifier(name));
                    folder.providers.extend(provider.map(Provider::named));
                }
            }
        }
    }

    fn add_settings(&self, folder: &mut Folder) {
        for settings in self.blocks("terraform") {
            folder.required_version.extend(settings.get("required_version").and_then(plain));
            let required = settings.get("required_providers").into_iter().flat_map(objects).flatten();
            for (name, required) in required.filter(|(name, _)| is_identifier(name)) {
                folder.providers.push(provider(name, required));
            }
        }
    }
}

impl<'de> Deserialize<'de> for Root {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Properties)
    }
}

struct Properties;

impl<'de> Visitor<'de> for Properties {
    type Value = Root;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object, or a list of objects")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Root, A::Error> {
        let mut all = Vec::new();
        while let Some(property) = map.next_entry()? {
            all.push(property);
        }
        Ok(Root(all))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Root, A::Error> {
        let mut all = Vec::new();
        while let Some(Root(properties)) = list.next_element()? {
            all.extend(properties);
        }
        Ok(Root(all))
    }
}

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

fn output(name: &str, body: &Object) -> Output {
    Output {
        name: name.into(),
        description: text(body, "description"),
        sensitive: flag(body, "sensitive"),
        ephemeral: flag(body, "ephemeral"),
        deprecated: text(body, "deprecated"),
    }
}

fn provider(name: &str, required: &Value) -> Provider {
    let entry = |key| required.get(key).and_then(plain);
    let listed = required.get("configuration_aliases").and_then(Value::as_array);
    let aliases = listed.into_iter().flatten().filter_map(plain);
    Provider {
        name: name.into(),
        source: entry("source"),
        version: plain(required).or_else(|| entry("version")),
        aliases: aliases.filter(|alias| is_alias(alias, name)).collect(),
    }
}

/// The bodies that an object has by label. Terraform refuses labels that are no names; `//` is a comment.
fn bodies(labels: &Object) -> impl Iterator<Item = (&str, &Object)> {
    let labels = labels.iter().filter(|(label, _)| is_identifier(label));
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

/// A flag, which may be the text `true` or `false`.
fn flag(body: &Object, key: &str) -> Option<bool> {
    let value = body.get(key)?;
    value.as_bool().or_else(|| value.as_str().and_then(|text| text.parse().ok()))
}
