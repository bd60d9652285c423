//! Reads a file in JSON syntax (`.tf.json`, `.tofu.json`).
//!
//! A block is an object with its labels as keys, or a list of such objects. A string is a template, as in the native syntax.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::blocks::Body;
use super::model::{Folder, Provider};
use super::text::{cut, is_configuration, is_identifier};

/// Adds what one file declares. Returns where it cannot be read.
pub(super) fn read(source: &str, folder: &mut Folder) -> Option<String> {
    let source = source.strip_prefix('\u{feff}').unwrap_or(source);
    // serde_json refuses more than 128 levels.
    let root: Root = match serde_json::from_str(source) {
        Ok(root) => root,
        Err(error) => {
            return Some(format!("syntax error in line {}, column {}", error.line(), error.column()));
        }
    };
    for (block, value) in &root.0 {
        for body in objects(value) {
            match block.as_str() {
                "terraform" => folder.add(block, &[], body),
                "resource" | "data" | "ephemeral" => {
                    for (kind, names) in bodies(body) {
                        bodies(names).for_each(|(name, body)| folder.add(block, &[kind, name], body));
                    }
                }
                _ => bodies(body).for_each(|(name, body)| folder.add(block, &[name], body)),
            }
        }
    }
    None
}

type Object = Map<String, Value>;

/// The properties of the root, or of the objects that it lists. A name can be there several times.
struct Root(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Root {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self(Vec::new()))
    }
}

impl<'de> Visitor<'de> for Root {
    type Value = Self;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object, or a list of objects")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        while let Some(property) = map.next_entry()? {
            self.0.push(property);
        }
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Self, A::Error> {
        while let Some(Self(properties)) = list.next_element()? {
            self.0.extend(properties);
        }
        Ok(self)
    }
}

impl Body for Object {
    fn text(&self, key: &str) -> Option<String> {
        self.get(key).and_then(plain)
    }

    fn flag(&self, key: &str) -> Option<bool> {
        let value = self.get(key)?;
        value.as_bool().or_else(|| value.as_str().and_then(|text| text.parse().ok()))
    }

    fn type_(&self) -> Option<String> {
        self.text("type")
    }

    fn default(&self) -> Option<String> {
        self.get("default").map(|value| cut(format!("{value:#}")))
    }

    fn provider(&self) -> Option<String> {
        self.get("provider").and_then(Value::as_str).map(str::to_owned)
    }

    fn required_providers(&self) -> Vec<Provider> {
        let required = self.get("required_providers").into_iter().flat_map(objects).flatten();
        let required = required.filter(|(name, _)| is_identifier(name));
        required.map(|(name, required)| provider(name, required)).collect()
    }
}

fn provider(name: &str, required: &Value) -> Provider {
    let entry = |key| required.get(key).and_then(plain);
    let listed = required.get("configuration_aliases").and_then(Value::as_array);
    let aliases = listed.into_iter().flatten().filter_map(plain);
    Provider {
        source: entry("source"),
        version: plain(required).or_else(|| entry("version")),
        aliases: aliases.filter(|alias| is_configuration(alias, name)).collect(),
        ..Provider::named(name)
    }
}

/// The bodies that an object has by label. `Folder::add` leaves out labels that are not names, such as the
/// comment `//`.
fn bodies(labels: &Object) -> impl Iterator<Item = (&str, &Object)> {
    labels.iter().flat_map(|(label, body)| objects(body).map(|body| (label.as_str(), body)))
}

/// An object, or the objects of a list.
fn objects(value: &Value) -> impl Iterator<Item = &Object> {
    let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
    value.as_object().into_iter().chain(list.iter().filter_map(Value::as_object))
}

fn plain(value: &Value) -> Option<String> {
    value.as_str().map(|text| cut(text.trim().to_owned()))
}
