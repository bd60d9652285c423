//! What changed in a folder between two versions.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::model::{Folder, Input, ModuleCall, Output, Provider, Resource, ResourceMode};
use super::text::canonical;
use super::types::is_wider;

/// How a module gets the default configuration of a provider.
const INHERITED: &str = "inherited";
/// The same if `configuration_aliases` lists it.
const PASSED: &str = "passed by the caller";

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
    /// Whether a configuration that worked before can fail, or can destroy something. Required versions and sources do not
    /// count: whether the configuration permits them is not known here.
    pub is_breaking: bool,
}

/// Leaves out what only looks added or removed in a comparison in which files of one side were unread.
pub(super) fn keep_certain(changes: &mut Vec<Change>, is_old_partial: bool, is_new_partial: bool) {
    changes.retain(|change| {
        let is_of_both = matches!(change.what, "source" | "version");
        let is_passed = |value: Option<&str>| change.what == "configuration" && value == Some(PASSED);
        let (before, after) = (change.before.as_deref(), change.after.as_deref());
        let is_added = change.what == "added" || (is_of_both && before.is_none()) || is_passed(after);
        let is_removed = change.what == "removed" || (is_of_both && after.is_none()) || is_passed(before);
        let is_doubtful = (is_old_partial && is_added) || (is_new_partial && is_removed);
        !is_doubtful
    });
}

/// What changed in a folder that both versions have, first what a caller has to act on.
pub(super) fn changes(old: &Folder, new: &Folder) -> Vec<Change> {
    let mut all = Vec::new();
    for (name, old, new) in pairs(&old.inputs, &new.inputs, |input| &input.name) {
        input(old, new, &mut Changes { subject: "input", name, all: &mut all });
    }
    for (name, old, new) in pairs(&old.outputs, &new.outputs, |output| &output.name) {
        output(old, new, &mut Changes { subject: "output", name, all: &mut all });
    }
    let version = |folder: &Folder| Some(folder.required_version.join(", ")).filter(|v| !v.is_empty());
    let mut terraform = Changes { subject: "terraform", name: "", all: &mut all };
    terraform.text("version", version(old).as_ref(), version(new).as_ref());
    for (name, old, new) in pairs(&old.providers, &new.providers, |provider| &provider.name) {
        provider(old, new, &mut Changes { subject: "provider", name, all: &mut all });
    }
    for (name, old, new) in pairs(&old.calls, &new.calls, |call| &call.name) {
        call(old, new, &mut Changes { subject: "call", name, all: &mut all });
    }
    let (before, after): (BTreeSet<&Resource>, BTreeSet<&Resource>) =
        (old.resources.iter().collect(), new.resources.iter().collect());
    for gone in before.difference(&after) {
        let is_breaking = gone.mode == ResourceMode::Managed;
        all.push(change(subject(gone.mode), &resource_name(gone), "removed", (None, None), is_breaking));
    }
    for added in after.difference(&before) {
        all.push(change(subject(added.mode), &resource_name(added), "added", (None, None), false));
    }
    all.sort_by_key(|change| !change.is_breaking);
    all
}

fn input(old: Option<&Input>, new: Option<&Input>, changes: &mut Changes<'_>) {
    let (old, new) = match (old, new) {
        (Some(old), Some(new)) => (old, new),
        (_, Some(new)) => return changes.added(new.default.as_ref(), new.is_required()),
        (old, None) => return changes.removed(old.and_then(|old| old.default.as_ref()), true),
    };
    let type_of = |input: &Input| input.type_.clone().unwrap_or_else(|| "any".to_owned());
    let (before, after) = (type_of(old), type_of(new));
    if canonical(&before) != canonical(&after) {
        let is_breaking = !is_wider(&before, &after);
        changes.push("type", (Some(before), Some(after)), is_breaking);
    }
    if old.default.as_deref().map(canonical) != new.default.as_deref().map(canonical) {
        let now_required = !old.is_required() && new.is_required();
        changes.push("default", (old.default.clone(), new.default.clone()), now_required);
    }
    let nullable = |input: &Input| input.nullable.or(Some(true));
    changes.flag("nullable", nullable(old), nullable(new), Some(false));
    changes.flag("sensitive", old.sensitive, new.sensitive, None);
    changes.flag("ephemeral", old.ephemeral, new.ephemeral, Some(false));
    changes.text("deprecated", old.deprecated.as_ref(), new.deprecated.as_ref());
}

fn output(old: Option<&Output>, new: Option<&Output>, changes: &mut Changes<'_>) {
    let (old, new) = match (old, new) {
        (Some(old), Some(new)) => (old, new),
        (_, Some(_)) => return changes.added(None, false),
        (_, None) => return changes.removed(None, true),
    };
    changes.flag("sensitive", old.sensitive, new.sensitive, Some(true));
    changes.flag("ephemeral", old.ephemeral, new.ephemeral, Some(true));
    changes.text("deprecated", old.deprecated.as_ref(), new.deprecated.as_ref());
}

fn provider(old: Option<&Provider>, new: Option<&Provider>, changes: &mut Changes<'_>) {
    let is_passed = |provider: &Provider| provider.aliases.contains(&provider.name);
    match (old, new) {
        (Some(old), Some(new)) => {
            changes.text("source", old.source.as_ref(), new.source.as_ref());
            changes.text("version", old.version.as_ref(), new.version.as_ref());
            let way = |provider: &Provider| if is_passed(provider) { PASSED } else { INHERITED };
            if way(old) != way(new) {
                // A caller may pass it in either case.
                let values = (Some(way(old).into()), Some(way(new).into()));
                changes.push("configuration", values, is_passed(new));
            }
        }
        (_, Some(new)) => changes.added(new.version.as_ref(), is_passed(new)),
        (old, None) => changes.removed(old.and_then(|old| old.version.as_ref()), false),
    }
    let aliases = |provider: Option<&Provider>| -> BTreeSet<String> {
        let aliases = provider.into_iter().flat_map(|provider| &provider.aliases);
        aliases.filter(|alias| alias.as_str() != changes.name).cloned().collect()
    };
    let (before, after) = (aliases(old), aliases(new));
    // A caller passes each of them.
    for alias in after.difference(&before) {
        changes.all.push(change("provider", alias, "added", (None, None), true));
    }
    for alias in before.difference(&after) {
        changes.all.push(change("provider", alias, "removed", (None, None), true));
    }
}

fn call(old: Option<&ModuleCall>, new: Option<&ModuleCall>, changes: &mut Changes<'_>) {
    match (old, new) {
        (Some(old), Some(new)) => {
            changes.text("source", old.source.as_ref(), new.source.as_ref());
            changes.text("version", old.version.as_ref(), new.version.as_ref());
        }
        (_, Some(_)) => changes.added(None, false),
        // What it created is destroyed, as with a resource.
        (_, None) => changes.removed(None, true),
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

/// The changes of one subject, which are added to those of all.
struct Changes<'a> {
    subject: &'static str,
    name: &'a str,
    all: &'a mut Vec<Change>,
}

/// The value before, and after.
type Values = (Option<String>, Option<String>);

impl Changes<'_> {
    fn push(&mut self, what: &'static str, values: Values, is_breaking: bool) {
        self.all.push(change(self.subject, self.name, what, values, is_breaking));
    }

    fn added(&mut self, after: Option<&String>, is_breaking: bool) {
        self.push("added", (None, after.cloned()), is_breaking);
    }

    fn removed(&mut self, before: Option<&String>, is_breaking: bool) {
        self.push("removed", (before.cloned(), None), is_breaking);
    }

    fn text(&mut self, what: &'static str, old: Option<&String>, new: Option<&String>) {
        if old != new {
            self.push(what, (old.cloned(), new.cloned()), false);
        }
    }

    /// A flag; `None` counts as false. `breaking`: the new value that breaks callers.
    fn flag(&mut self, what: &'static str, old: Option<bool>, new: Option<bool>, breaking: Option<bool>) {
        let (old, new) = (old.unwrap_or_default(), new.unwrap_or_default());
        if old != new {
            self.push(what, (Some(old.to_string()), Some(new.to_string())), breaking == Some(new));
        }
    }
}

pub(super) fn change(
    subject: &'static str,
    name: &str,
    what: &'static str,
    (before, after): Values,
    is_breaking: bool,
) -> Change {
    Change { subject, name: name.into(), what, before, after, is_breaking }
}

/// The items of two lists by name, side by side.
fn pairs<'a, T>(
    old: &'a [T],
    new: &'a [T],
    name: impl Fn(&'a T) -> &'a String,
) -> impl Iterator<Item = (&'a str, Option<&'a T>, Option<&'a T>)> {
    let mut sides: BTreeMap<&String, (Option<&T>, Option<&T>)> = BTreeMap::new();
    for item in old {
        sides.entry(name(item)).or_default().0 = Some(item);
    }
    for item in new {
        sides.entry(name(item)).or_default().1 = Some(item);
    }
    sides.into_iter().map(|(name, (old, new))| (name.as_str(), old, new))
}
