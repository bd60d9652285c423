//! Which files of an archive are read: those of the root, of submodules below `modules/` and of examples below `examples/`.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::cache::NoDocs;
use super::markdown::LONGEST_README;
use super::merge::{finish, override_with};
use super::model::{Docs, Folder, Unreadable};
use super::{json, native};
use crate::archive::{ArchiveError, Limits, StoredArchive, StoredFile};

/// The most folders that are read.
const FOLDERS: usize = 200;
/// The longest file that is read, in bytes.
const FILE: u64 = 1 << 20;
/// The most bytes that are read of a README: a few more than are shown, so that the page says that it is cut. They leave room for a
/// byte order mark and for a part of a character at the end.
const README: u64 = LONGEST_README as u64 + 8;
/// The most bytes that are read of all files together.
const TOTAL: u64 = 4 << 20;
/// The most components of a submodule's path.
const DEPTH: usize = 5;
/// Folders of a submodule that no other module calls.
const OF_A_SUBMODULE: [&str; 3] = ["examples", "test", "tests"];

/// The limits of an archive whose documentation is read.
pub(super) const LIMITS: Limits = Limits {
    archive_bytes: 64 << 20,
    unpacked_bytes: 256 << 20,
    entries: 20_000,
    ratio: 200,
    ratio_exempt_bytes: 64 << 20,
};

/// The documentation of the archive at `stored`. It blocks, at most until `deadline` and for one file longer.
pub(super) fn read(stored: &Path, spool_dir: &Path, deadline: Instant) -> Result<Docs, DocsFailure> {
    let archive = StoredArchive::open(stored, &LIMITS, spool_dir)?;
    let mut docs = Docs::default();
    let mut left = TOTAL;
    for (path, files) in grouped(&archive) {
        if docs.folders.len() == FOLDERS {
            docs.is_cut = true;
            break;
        }
        let mut folder = Folder { path: path.into(), ..Folder::default() };
        let mut overrides = Vec::new();
        for (name, file) in files {
            if Instant::now() > deadline {
                return Err(DocsFailure::new(NoDocs::TooSlow, format!("not read in time from {name} on")));
            }
            let len = if is_readme(name) { file.len.min(README) } else { file.len };
            if len > FILE || len > left {
                docs.is_cut |= len <= FILE;
                folder.unreadable.push(Unreadable { file: name.into(), why: "too large to show".into() });
                continue;
            }
            left -= len;
            let bytes = archive.read(file, len)?;
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if is_readme(name) {
                folder.readme = Some(text);
                continue;
            }
            let is_json = Path::new(name).extension().is_some_and(|extension| extension == "json");
            let mut over = Folder::default();
            let declared = if is_override(name) { &mut over } else { &mut folder };
            let parse = if is_json { json::read } else { native::read };
            let why = contained(|| parse(&text, declared));
            folder.unreadable.extend(why.map(|why| Unreadable { file: name.into(), why }));
            if is_override(name) {
                overrides.push(over);
            }
        }
        for over in overrides {
            override_with(&mut folder, over);
        }
        docs.is_cut |= finish(&mut folder);
        docs.folders.push(folder);
    }
    Ok(docs)
}

/// What of a file could not be read. A panic of a parser costs this file only.
pub(super) fn contained(read: impl FnOnce() -> Option<String>) -> Option<String> {
    let failed = |_| Some("the parser of the registry failed: report this as a defect".to_owned());
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(failed)
}

/// Why an archive could not be read, for its page and for the log.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct DocsFailure {
    pub why: NoDocs,
    pub cause: String,
}

impl DocsFailure {
    pub(super) fn new(why: NoDocs, cause: String) -> Self {
        Self { why, cause }
    }
}

impl From<ArchiveError> for DocsFailure {
    fn from(error: ArchiveError) -> Self {
        let why = if matches!(error, ArchiveError::Io { .. }) { NoDocs::Disk } else { NoDocs::Unreadable };
        Self::new(why, error.to_string())
    }
}

type Files<'a> = Vec<(&'a str, StoredFile<'a>)>;

/// The files that are read, by folder: the root, submodules, examples. A folder without configuration is none.
fn grouped(archive: &StoredArchive) -> impl Iterator<Item = (&str, Files<'_>)> {
    let mut folders: BTreeMap<(u8, &str), Files<'_>> = BTreeMap::new();
    folders.insert((0, ""), Vec::new());
    for file in archive.files() {
        let (folder, name) = file.path.rsplit_once('/').unwrap_or(("", file.path));
        if let Some(group) = group(folder).filter(|_| is_readme(name) || is_configuration(name)) {
            folders.entry((group, folder)).or_default().push((name, file));
        }
    }
    folders.into_iter().filter_map(|((group, folder), mut files)| {
        let is_shown = group == 0 || files.iter().any(|(name, _)| is_configuration(name));
        drop_shadowed(&mut files);
        is_shown.then_some((folder, files))
    })
}

/// The position of a folder's group; `None` for one that is not shown.
fn group(folder: &str) -> Option<u8> {
    let components: Vec<&str> = folder.split('/').collect();
    let is_called = |below: &[&str]| !below.iter().any(|part| OF_A_SUBMODULE.contains(part));
    match components.as_slice() {
        [""] => Some(0),
        ["modules", _, below @ ..] if components.len() <= DEPTH && is_called(below) => Some(1),
        ["examples", _] => Some(2),
        _ => None,
    }
}

pub(super) fn is_readme(name: &str) -> bool {
    name.eq_ignore_ascii_case("README.md")
}

/// Whether Terraform or OpenTofu loads a file of this name. Both ignore those of editors.
fn is_configuration(name: &str) -> bool {
    stem(name).is_some() && !name.starts_with('.') && !name.starts_with('#')
}

/// The name without its extension.
fn stem(name: &str) -> Option<&str> {
    [".tf", ".tofu", ".tf.json", ".tofu.json"].iter().find_map(|extension| name.strip_suffix(extension))
}

fn is_override(name: &str) -> bool {
    stem(name).is_some_and(|stem| stem == "override" || stem.ends_with("_override"))
}

/// Leaves out files that only OpenTofu reads if Terraform has its own of the same name: modules that are written for both clients
/// declare the same in both files.
fn drop_shadowed(files: &mut Files<'_>) {
    let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
    let has_twin = |name: &str, own: &str, other: &str| {
        name.strip_suffix(own).is_some_and(|stem| names.contains(&format!("{stem}{other}").as_str()))
    };
    files.retain(|(name, _)| !has_twin(name, ".tofu", ".tf") && !has_twin(name, ".tofu.json", ".tf.json"));
}
