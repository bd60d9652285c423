//! Index of an archive's entries below its top folder, sorted by path.
//!
//! Each path occurs once, and no file is a folder too. An entry takes 32 bytes and its path in memory, both bounded.
//!
//! Paths are bytes here: git allows names that are not UTF-8 or contain control characters. [`super::links`], which makes the
//! output, decides whether to skip those.

use std::cmp::Ordering;
use std::ops::Range;

use super::ArchiveError;
use super::contents::Regular;
use super::error::shown;
use super::index_memory::IndexMemory;
use super::limits::{Budget, PATH_BYTES, TARGET_BYTES};
use super::names::unreadable;
use super::texts::{Text, Texts};

/// Bytes that are kept of a target that is too long for a link: more than a message shows.
const KEPT_BYTES: usize = 1024;

/// The target of a symbolic link.
#[derive(Clone, Copy, Debug)]
pub(super) struct LinkTarget {
    pub text: Text,
    /// Whether it is longer than any path can be, so that only its beginning is kept.
    pub too_long: bool,
}

/// The entry at a path.
#[derive(Clone, Copy, Debug)]
pub(super) enum Node {
    Folder,
    File(Regular),
    Link(LinkTarget),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub path: Text,
    pub node: Node,
}

/// Where the files of an archive are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// In one top folder, as in GitHub's archives.
    TopFolder,
    /// At the root, as in stored archives.
    Root,
}

/// Collects entries as an archive lists them.
pub(super) struct TreeBuilder {
    budget: Budget,
    layout: Layout,
    top: Option<Box<[u8]>>,
    top_is_listed: bool,
    texts: Texts,
    entries: Vec<Entry>,
    memory: IndexMemory,
}

impl TreeBuilder {
    pub(super) fn new(budget: Budget, layout: Layout) -> Self {
        let (texts, entries, memory) = (Texts::default(), Vec::new(), IndexMemory::default());
        Self { budget, layout, top: None, top_is_listed: false, texts, entries, memory }
    }

    /// Adds a folder; `path` may end with a slash. The top folder itself is no entry.
    pub(super) fn add_folder(&mut self, path: &[u8]) -> Result<(), ArchiveError> {
        let path = checked(path.strip_suffix(b"/").unwrap_or(path))?;
        match self.below_top(path)? {
            b"" if self.top_is_listed => Err(ArchiveError::Duplicate { path: shown(path) }),
            b"" => {
                self.top_is_listed = true;
                Ok(())
            }
            inner => self.add(inner, Node::Folder),
        }
    }

    pub(super) fn add_file(&mut self, path: &[u8], file: Regular) -> Result<(), ArchiveError> {
        self.add_inside(checked(path)?, Node::File(file))
    }

    /// Adds a symbolic link. [`super::links`] resolves `target` later, when all entries are known.
    pub(super) fn add_link(&mut self, path: &[u8], target: &[u8]) -> Result<(), ArchiveError> {
        let path = checked(path)?;
        let too_long = target.len() > TARGET_BYTES;
        let kept = if too_long { &target[..KEPT_BYTES] } else { target };
        let text = self.texts.push(kept, &self.budget)?;
        self.add_inside(path, Node::Link(LinkTarget { text, too_long }))
    }

    /// Sorts the entries and checks that they fit together.
    pub(super) fn finish(mut self) -> Result<Tree, ArchiveError> {
        let texts = self.texts;
        self.entries.sort_unstable_by(|a, b| texts.get(a.path).cmp(texts.get(b.path)));
        let tree = Tree { texts, entries: self.entries, memory: self.memory };
        tree.check()?;
        Ok(tree)
    }

    fn add_inside(&mut self, path: &[u8], node: Node) -> Result<(), ArchiveError> {
        match self.below_top(path)? {
            b"" => Err(ArchiveError::NoTopFolder { path: shown(path) }),
            inner => self.add(inner, node),
        }
    }

    /// The part of `path` below the top folder, which the first entry decides.
    fn below_top<'p>(&mut self, path: &'p [u8]) -> Result<&'p [u8], ArchiveError> {
        if self.layout == Layout::Root {
            return Ok(path);
        }
        let slash = path.iter().position(|byte| *byte == b'/');
        let (top, inner) = slash.map_or((path, &b""[..]), |at| (&path[..at], &path[at + 1..]));
        match &self.top {
            Some(first) if **first == *top => Ok(inner),
            Some(_) => Err(ArchiveError::NoTopFolder { path: shown(path) }),
            None => {
                // GitHub composes it of the repository's name and the tag or commit. It is removed, so it may be long.
                if let Some(why) = unreadable(top) {
                    return Err(ArchiveError::bad_name(path, why));
                }
                self.top = Some(top.into());
                Ok(inner)
            }
        }
    }

    fn add(&mut self, path: &[u8], node: Node) -> Result<(), ArchiveError> {
        self.budget.check_entries(self.entries.len() as u64 + 1)?;
        let path = self.texts.push(path, &self.budget)?;
        self.entries.push(Entry { path, node });
        self.memory.grow_to(self.texts.bytes() + size_of_val(&*self.entries));
        Ok(())
    }
}

/// All entries of an archive, sorted by path, bytewise. Folders need no entry of their own.
pub(super) struct Tree {
    pub texts: Texts,
    pub entries: Vec<Entry>,
    pub memory: IndexMemory,
}

impl Tree {
    pub(super) fn text(&self, text: Text) -> &[u8] {
        self.texts.get(text)
    }

    /// The entries below `folder`, at any depth; all for `""`.
    pub(super) fn below(&self, folder: &[u8]) -> Range<usize> {
        if folder.is_empty() {
            return 0..self.entries.len();
        }
        let side = |entry: &Entry| side_of(self.text(entry.path), folder);
        let start = self.entries.partition_point(|entry| side(entry) == Ordering::Less);
        let end = self.entries.partition_point(|entry| side(entry) != Ordering::Greater);
        start..end
    }

    /// What is at `path`, a folder also when only its contents are listed.
    pub(super) fn find(&self, path: &[u8]) -> Option<Node> {
        match self.entries.binary_search_by(|entry| self.text(entry.path).cmp(path)) {
            Ok(found) => Some(self.entries[found].node),
            Err(_) if self.below(path).is_empty() => None,
            Err(_) => Some(Node::Folder),
        }
    }

    /// Whether `folder` is listed and contains nothing: a submodule. Git has no empty folders of its own, and `git archive` lists
    /// none whose files are all left out.
    pub(super) fn is_empty_folder(&self, folder: &[u8]) -> bool {
        matches!(self.find(folder), Some(Node::Folder)) && self.below(folder).is_empty()
    }

    fn check(&self) -> Result<(), ArchiveError> {
        let is_folder = |entry: &Entry| matches!(entry.node, Node::Folder);
        for pair in self.entries.windows(2) {
            let path = self.text(pair[0].path);
            if path == self.text(pair[1].path) {
                let path = shown(path);
                return Err(if is_folder(&pair[0]) == is_folder(&pair[1]) {
                    ArchiveError::Duplicate { path }
                } else {
                    ArchiveError::FileIsFolder { path }
                });
            }
        }
        for entry in self.entries.iter().filter(|entry| !is_folder(entry)) {
            let path = self.text(entry.path);
            if !self.below(path).is_empty() {
                return Err(ArchiveError::FileIsFolder { path: shown(path) });
            }
        }
        Ok(())
    }
}

/// Where `path` sorts relative to the paths below `folder`: equal if it is one of them.
fn side_of(path: &[u8], folder: &[u8]) -> Ordering {
    let head = &path[..path.len().min(folder.len())];
    head.cmp(folder).then_with(|| path.get(folder.len()).map_or(Ordering::Less, |next| next.cmp(&b'/')))
}

/// `name` as a relative path, or what is wrong with it. [`super::names::unnameable`] checks whether a module can have a file of
/// that name.
fn checked(name: &[u8]) -> Result<&[u8], ArchiveError> {
    if name.len() > PATH_BYTES {
        return Err(ArchiveError::bad_name(name, "is longer than 4,095 bytes"));
    }
    if name.starts_with(b"/") {
        return Err(ArchiveError::AbsolutePath { path: shown(name) });
    }
    for component in name.split(|byte| *byte == b'/') {
        match component {
            b"" => return Err(ArchiveError::bad_name(name, "has an empty path component")),
            b"." => return Err(ArchiveError::bad_name(name, "has the path component `.`")),
            b".." => return Err(ArchiveError::ParentPath { path: shown(name) }),
            _ => {}
        }
    }
    Ok(name)
}
