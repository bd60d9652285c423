//! What changed between two versions of a module, for those who call it.

use std::collections::BTreeSet;

use serde::Serialize;

use super::differences::{Change, change, changes, keep_certain};
use super::folders::is_readme;
use super::model::Folder;
use super::packed::{Packed, escaped};

/// The most bytes of HTML that show the changes of a comparison.
const LONGEST_COMPARISON: usize = 2 << 20;
/// The tags of a change, in bytes of HTML.
const TAGS: usize = 256;

/// What changed between two versions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// The root and the submodules that changed, those first that are gone. Examples are not called, and not compared.
    pub modules: Vec<ModuleChanges>,
    /// Whether a version exceeds the limits of the comparison: changes may be missing then.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_cut: bool,
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
    /// Files that could not all be read, of either version: what they declare is not compared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<String>,
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

impl Comparison {
    /// Whether all was compared, and nothing changed.
    pub fn is_empty(&self) -> bool {
        self.modules.is_empty() && !self.is_cut
    }

    /// Whether all was compared.
    pub fn is_whole(&self) -> bool {
        !self.is_cut && self.modules.iter().all(|module| module.unreadable.is_empty())
    }
}

/// What changed from `old` to `new`. Only one folder of each is unpacked at a time.
pub(super) fn compare(old: &Packed, new: &Packed) -> Comparison {
    let paths = &called(old) | &called(new);
    let (mut is_cut, mut room) = (old.is_cut || new.is_cut, LONGEST_COMPARISON);
    let modules = paths.into_iter().filter_map(|path| {
        let unpacked = |docs: &Packed| docs.folder(path).map(|shown| shown.folder);
        let removed = || change("module", "", "removed", (None, None), true);
        let one_sided = |presence, changes| ModuleChanges { presence, changes, ..ModuleChanges::default() };
        let mut module = match (unpacked(old), unpacked(new)) {
            (Some(before), Some(after)) => in_both((old.is_cut, &before), (new.is_cut, &after))?,
            (None, _) => (!old.is_cut).then(|| one_sided(Presence::Added, Vec::new()))?,
            (_, None) => (!new.is_cut).then(|| one_sided(Presence::Removed, vec![removed()]))?,
        };
        is_cut |= cut(&mut module.changes, &mut room);
        Some(ModuleChanges { path: path.to_owned(), ..module })
    });
    let mut modules: Vec<ModuleChanges> = modules.collect();
    modules.sort_by_key(|module| module.presence != Presence::Removed);
    Comparison { modules, is_cut }
}

/// Keeps the first changes, as far as there is room. Returns whether there are more.
fn cut(changes: &mut Vec<Change>, room: &mut usize) -> bool {
    let fits = |change: &&Change| {
        let texts = [Some(&change.name), change.before.as_ref(), change.after.as_ref()];
        let html: usize = texts.into_iter().flatten().map(|text| escaped(text.as_bytes())).sum();
        let left = room.checked_sub(TAGS + html);
        *room = left.unwrap_or(0);
        left.is_some()
    };
    let fitting = changes.iter().take_while(fits).count();
    let is_cut = fitting < changes.len();
    changes.truncate(fitting);
    is_cut
}

/// The same for documentation that is not packed.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn compare_unpacked(old: &super::model::Docs, new: &super::model::Docs) -> Comparison {
    let packed = |docs: &super::model::Docs| Packed::pack(docs.clone(), &super::markdown::Links::default());
    compare(&packed(old), &packed(new))
}

/// The paths of the folders that are compared.
fn called(docs: &Packed) -> BTreeSet<&str> {
    docs.paths().filter(|path| !path.starts_with("examples/")).collect()
}

/// What changed in a folder that both versions have; `None` if nothing did. The flags: whether a version is cut.
fn in_both(
    (is_old_cut, before): (bool, &Folder),
    (is_new_cut, after): (bool, &Folder),
) -> Option<ModuleChanges> {
    let (unread_before, unread_after) = (unreadable(before), unreadable(after));
    let mut changes = changes(before, after);
    keep_certain(
        &mut changes,
        is_old_cut || !unread_before.is_empty(),
        is_new_cut || !unread_after.is_empty(),
    );
    let unreadable: Vec<String> = (&unread_before | &unread_after).into_iter().map(str::to_owned).collect();
    let is_same = changes.is_empty() && unreadable.is_empty();
    (!is_same).then(|| ModuleChanges { changes, unreadable, ..ModuleChanges::default() })
}

/// The configuration files that could not be read completely.
fn unreadable(folder: &Folder) -> BTreeSet<&str> {
    folder.unreadable.iter().map(|file| file.file.as_str()).filter(|name| !is_readme(name)).collect()
}
