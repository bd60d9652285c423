//! What changed between two versions of a module, for those who call it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::model::{Docs, Folder, Input, Output, Resource, ResourceMode};
use super::text::canonical;

/// What changed between two versions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// The root and the submodules that changed. Examples are not called, and not compared.
    pub modules: Vec<ModuleChanges>,
}

/// What changed in a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ModuleChanges {
    /// Relative to the root; empty for the root.
    pub path: String,
    /// Whether the folder is in both versions.
    pub presence: Presence,
    /// The changes, those first that a caller has to act on.
    pub changes: Vec<Change>,
}

/// In which versions a folder is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    /// In both.
    #[default]
    Both,
    /// Only in the newer one.
    Added,
    /// Only in the older one.
    Removed,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The subject: `input`, `output`, `provider`, `terraform`, `resource`, `data` or `ephemeral`.
    pub subject: &'static str,
    /// Its name; empty for `terraform`.
    pub name: String,
    /// What happened to it: `added`, `removed`, or what of it changed.
    pub what: &'static str,
    /// The value before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// The value after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Whether a configuration that worked before can fail, or can destroy something.
    pub is_breaking: bool,
}

impl Comparison {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.modules.is_empty()
    }
}

/// What changed from `old` to `new`.
pub fn compare(old: &Docs, new: &Docs) -> Comparison {
    let called = |docs: &'_ Docs| -> BTreeSet<String> {
        let folders = docs.folders.iter().filter(|folder| !folder.path.starts_with("examples/"));
        folders.map(|folder| folder.path.clone()).collect()
    };
    let paths = &called(old) | &called(new);
    let modules = paths.into_iter().filter_map(|path| {
        let (presence, changes) = match (old.folder(&path), new.folder(&path)) {
            (Some(old), Some(new)) => (Presence::Both, changes(old, new)),
            (None, _) => (Presence::Added, Vec::new()),
            (_, None) => (Presence::Removed, Vec::new()),
        };
        let is_same = presence == Presence::Both && changes.is_empty();
        (!is_same).then_some(ModuleChanges { path, presence, changes })
    });
    Comparison { modules: modules.collect() }
}

fn changes(old: &Folder, new: &Folder) -> Vec<Change> {
    let mut out = Vec::new();
    for (old, new) in pairs(&old.inputs, &new.inputs, |input| &input.name) {
        input(old, new, &mut out);
    }
    for (old, new) in pairs(&old.outputs, &new.outputs, |output| &output.name) {
        output(old, new, &mut out);
    }
    let version = |folder: &Folder| Some(folder.required_version.join(", ")).filter(|v| !v.is_empty());
    differ("terraform", "", "version", version(old), version(new), &mut out);
    for (old, new) in pairs(&old.providers, &new.providers, |provider| &provider.name) {
        let name = old.or(new).map(|provider| provider.name.as_str()).unwrap_or_default();
        match (old, new) {
            (Some(old), Some(new)) => {
                differ("provider", name, "source", old.source.clone(), new.source.clone(), &mut out);
                differ("provider", name, "version", old.version.clone(), new.version.clone(), &mut out);
            }
            (None, Some(new)) => out.push(appeared("provider", name, new.version.clone(), false)),
            (Some(old), None) => out.push(disappeared("provider", name, old.version.clone(), false)),
            (None, None) => {}
        }
    }
    let (before, after): (BTreeSet<&Resource>, BTreeSet<&Resource>) =
        (old.resources.iter().collect(), new.resources.iter().collect());
    for gone in before.difference(&after) {
        let is_breaking = gone.mode == ResourceMode::Managed;
        out.push(disappeared(subject(gone.mode), &resource_name(gone), None, is_breaking));
    }
    for added in after.difference(&before) {
        out.push(appeared(subject(added.mode), &resource_name(added), None, false));
    }
    out.sort_by_key(|change| !change.is_breaking);
    out
}

fn input(old: Option<&Input>, new: Option<&Input>, out: &mut Vec<Change>) {
    match (old, new) {
        (None, Some(new)) => {
            out.push(appeared("input", &new.name, new.default.clone(), new.is_required()));
        }
        (Some(old), None) => out.push(disappeared("input", &old.name, old.default.clone(), true)),
        (Some(old), Some(new)) => {
            let any = || Some("any".to_owned());
            let type_of = |input: &Input| input.type_.clone().or_else(any);
            if differs(type_of(old).as_deref(), type_of(new).as_deref()) {
                let (before, after) = (type_of(old), type_of(new));
                let widened = after.as_deref() == Some("any");
                out.push(changed("input", &new.name, "type", before, after, !widened));
            }
            if differs(old.default.as_deref(), new.default.as_deref()) {
                let now_required = !old.is_required() && new.is_required();
                let (before, after) = (old.default.clone(), new.default.clone());
                out.push(changed("input", &new.name, "default", before, after, now_required));
            }
            let nullable = |input: &Input| input.nullable.unwrap_or(true);
            flag("input", &new.name, "nullable", nullable(old), nullable(new), nullable(old), out);
            let sensitive = |input: &Input| input.sensitive.unwrap_or(false);
            flag("input", &new.name, "sensitive", sensitive(old), sensitive(new), false, out);
            let ephemeral = |input: &Input| input.ephemeral.unwrap_or(false);
            flag("input", &new.name, "ephemeral", ephemeral(old), ephemeral(new), ephemeral(old), out);
            deprecation("input", &new.name, old.deprecated.as_ref(), new.deprecated.as_ref(), out);
        }
        (None, None) => {}
    }
}

fn output(old: Option<&Output>, new: Option<&Output>, out: &mut Vec<Change>) {
    match (old, new) {
        (None, Some(new)) => out.push(appeared("output", &new.name, None, false)),
        (Some(old), None) => out.push(disappeared("output", &old.name, None, true)),
        (Some(old), Some(new)) => {
            let sensitive = |output: &Output| output.sensitive.unwrap_or(false);
            flag("output", &new.name, "sensitive", sensitive(old), sensitive(new), !sensitive(old), out);
            deprecation("output", &new.name, old.deprecated.as_ref(), new.deprecated.as_ref(), out);
        }
        (None, None) => {}
    }
}

fn subject(mode: ResourceMode) -> &'static str {
    match mode {
        ResourceMode::Managed => "resource",
        ResourceMode::Data => "data",
        ResourceMode::Ephemeral => "ephemeral",
    }
}

fn resource_name(resource: &Resource) -> String {
    format!("{}.{}", resource.type_, resource.name)
}

/// Whether two expressions mean something else.
fn differs(old: Option<&str>, new: Option<&str>) -> bool {
    old.map(canonical) != new.map(canonical)
}

fn differ(
    subject: &'static str,
    name: &str,
    what: &'static str,
    old: Option<String>,
    new: Option<String>,
    out: &mut Vec<Change>,
) {
    if old != new {
        out.push(changed(subject, name, what, old, new, false));
    }
}

fn flag(
    subject: &'static str,
    name: &str,
    what: &'static str,
    old: bool,
    new: bool,
    is_breaking: bool,
    out: &mut Vec<Change>,
) {
    if old != new {
        let (old, new) = (Some(old.to_string()), Some(new.to_string()));
        out.push(changed(subject, name, what, old, new, is_breaking));
    }
}

fn deprecation(
    subject: &'static str,
    name: &str,
    old: Option<&String>,
    new: Option<&String>,
    out: &mut Vec<Change>,
) {
    differ(subject, name, "deprecated", old.cloned(), new.cloned(), out);
}

fn appeared(subject: &'static str, name: &str, after: Option<String>, is_breaking: bool) -> Change {
    changed(subject, name, "added", None, after, is_breaking)
}

fn disappeared(subject: &'static str, name: &str, before: Option<String>, is_breaking: bool) -> Change {
    changed(subject, name, "removed", before, None, is_breaking)
}

fn changed(
    subject: &'static str,
    name: &str,
    what: &'static str,
    before: Option<String>,
    after: Option<String>,
    is_breaking: bool,
) -> Change {
    Change { subject, name: name.into(), what, before, after, is_breaking }
}

/// The items of two lists, side by side by name.
fn pairs<'a, T>(
    old: &'a [T],
    new: &'a [T],
    name: impl Fn(&'a T) -> &'a String,
) -> Vec<(Option<&'a T>, Option<&'a T>)> {
    let mut sides: BTreeMap<&String, (Option<&T>, Option<&T>)> = BTreeMap::new();
    for item in old {
        sides.entry(name(item)).or_default().0 = Some(item);
    }
    for item in new {
        sides.entry(name(item)).or_default().1 = Some(item);
    }
    sides.into_values().collect()
}
