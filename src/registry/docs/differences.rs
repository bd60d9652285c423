//! What changed in a folder between two versions.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::model::{Folder, Input, ModuleCall, Output, Provider, Resource, ResourceMode};
use super::text::canonical;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The subject: `input`, `output`, `provider`, `terraform`, `resource`, `data`, `ephemeral`, `call` of another module, or the
    /// `module` itself.
    pub subject: &'static str,
    /// Its name; empty for `terraform` and `module`.
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

/// A module that is gone.
pub(super) fn gone() -> Change {
    disappeared("module", "", None, true)
}

/// Leaves out what only looks added or removed, since the files of a side were not all read.
pub(super) fn keep_certain(changes: &mut Vec<Change>, is_old_partial: bool, is_new_partial: bool) {
    changes.retain(|change| {
        let is_of_both = matches!(change.what, "source" | "version");
        let is_added = change.what == "added" || (is_of_both && change.before.is_none());
        let is_removed = change.what == "removed" || (is_of_both && change.after.is_none());
        let is_doubtful = (is_old_partial && is_added) || (is_new_partial && is_removed);
        !is_doubtful
    });
}

/// What changed in a folder that both versions have, first what a caller has to act on.
pub(super) fn changes(old: &Folder, new: &Folder) -> Vec<Change> {
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
        provider(old, new, &mut out);
    }
    for (old, new) in pairs(&old.calls, &new.calls, |call| &call.name) {
        call(old, new, &mut out);
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
            let ephemeral = |output: &Output| output.ephemeral.unwrap_or(false);
            flag("output", &new.name, "ephemeral", ephemeral(old), ephemeral(new), !ephemeral(old), out);
            deprecation("output", &new.name, old.deprecated.as_ref(), new.deprecated.as_ref(), out);
        }
        (None, None) => {}
    }
}

fn provider(old: Option<&Provider>, new: Option<&Provider>, out: &mut Vec<Change>) {
    match (old, new) {
        (Some(old), Some(new)) => {
            differ("provider", &new.name, "source", old.source.clone(), new.source.clone(), out);
            differ("provider", &new.name, "version", old.version.clone(), new.version.clone(), out);
        }
        (None, Some(new)) => out.push(appeared("provider", &new.name, new.version.clone(), false)),
        (Some(old), None) => out.push(disappeared("provider", &old.name, old.version.clone(), false)),
        (None, None) => {}
    }
    let aliases = |provider: Option<&Provider>| -> BTreeSet<String> {
        provider.into_iter().flat_map(|provider| provider.aliases.iter().cloned()).collect()
    };
    let (before, after) = (aliases(old), aliases(new));
    // A caller passes each of them.
    out.extend(after.difference(&before).map(|alias| appeared("provider", alias, None, true)));
    out.extend(before.difference(&after).map(|alias| disappeared("provider", alias, None, true)));
}

fn call(old: Option<&ModuleCall>, new: Option<&ModuleCall>, out: &mut Vec<Change>) {
    match (old, new) {
        (Some(old), Some(new)) => {
            differ("call", &new.name, "source", old.source.clone(), new.source.clone(), out);
            differ("call", &new.name, "version", old.version.clone(), new.version.clone(), out);
        }
        (None, Some(new)) => out.push(appeared("call", &new.name, None, false)),
        // What it created is destroyed, as with a resource.
        (Some(old), None) => out.push(disappeared("call", &old.name, None, true)),
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
