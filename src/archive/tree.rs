//! The index of what an archive lists: checked paths below the top folder, and what lies at each.
//!
//! In: names, kinds and places of contents, in any order. Out: a sorted tree in which each path occurs once and no file
//! is a folder too. Pure: it touches neither disk nor archive. An entry costs 32 bytes and its path, both bounded.

use std::cmp::Ordering;
use std::ops::Range;

use super::ArchiveError;
use super::error::shown;
use super::limits::{ALL_PATHS_BYTES, Budget, PATH_BYTES};
use super::spool::Content;

/// A piece of text in [`Texts`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Text {
    start: u32,
    len: u16,
}

/// Many short texts in one allocation.
#[derive(Debug, Default)]
pub(super) struct Texts(String);

impl Texts {
    /// Keeps the concatenation of `parts`.
    ///
    /// # Errors
    /// When all texts together get too long.
    pub fn push(&mut self, parts: &[&str]) -> Result<Text, ArchiveError> {
        let too_long = || ArchiveError::PathsTooLong { limit: ALL_PATHS_BYTES };
        let start = self.0.len();
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if start + len > ALL_PATHS_BYTES {
            return Err(too_long());
        }
        self.0.extend(parts.iter().copied());
        Ok(Text {
            start: u32::try_from(start).map_err(|_| too_long())?,
            len: u16::try_from(len).map_err(|_| too_long())?,
        })
    }

    pub fn get(&self, text: Text) -> &str {
        let start = text.start as usize;
        &self.0[start..start + usize::from(text.len)]
    }
}

/// What lies at a path.
#[derive(Clone, Copy, Debug)]
pub(super) enum Node {
    Folder,
    File { content: Content, executable: bool },
    Link { target: Text },
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub path: Text,
    pub node: Node,
}

/// Collects entries as an archive lists them.
pub(super) struct TreeBuilder {
    budget: Budget,
    top: Option<Box<str>>,
    top_is_listed: bool,
    texts: Texts,
    entries: Vec<Entry>,
}

impl TreeBuilder {
    pub fn new(budget: Budget) -> Self {
        Self { budget, top: None, top_is_listed: false, texts: Texts::default(), entries: Vec::new() }
    }

    /// Adds a folder; `path` may end with a slash. The top folder itself is no entry.
    pub fn add_folder(&mut self, path: &[u8]) -> Result<(), ArchiveError> {
        let path = checked(path.strip_suffix(b"/").unwrap_or(path))?;
        match self.below_top(path)? {
            "" if self.top_is_listed => Err(ArchiveError::Duplicate { path: shown(path.as_bytes()) }),
            "" => {
                self.top_is_listed = true;
                Ok(())
            }
            inner => self.add(inner, Node::Folder),
        }
    }

    pub fn add_file(&mut self, path: &[u8], content: Content, executable: bool) -> Result<(), ArchiveError> {
        let path = checked(path)?;
        self.add_inside(path, Node::File { content, executable })
    }

    /// Adds a symbolic link. Where `target` leads is found out later, when all entries are known.
    pub fn add_link(&mut self, path: &[u8], target: &[u8]) -> Result<(), ArchiveError> {
        let path = checked(path)?;
        if target.len() > PATH_BYTES {
            return Err(ArchiveError::bad_name(
                path.as_bytes(),
                "is a link to a path of more than 1,024 bytes",
            ));
        }
        let target = printable(target)?;
        let target = self.texts.push(&[target])?;
        self.add_inside(path, Node::Link { target })
    }

    /// Sorts the entries and checks that they fit together.
    pub fn finish(mut self) -> Result<Tree, ArchiveError> {
        let texts = self.texts;
        self.entries.sort_unstable_by(|a, b| texts.get(a.path).cmp(texts.get(b.path)));
        let tree = Tree { texts, entries: self.entries };
        tree.check()?;
        Ok(tree)
    }

    fn add_inside(&mut self, path: &str, node: Node) -> Result<(), ArchiveError> {
        match self.below_top(path)? {
            "" => Err(ArchiveError::NoTopFolder { path: shown(path.as_bytes()) }),
            inner => self.add(inner, node),
        }
    }

    /// The part of `path` below the top folder, which the first entry decides.
    fn below_top<'p>(&mut self, path: &'p str) -> Result<&'p str, ArchiveError> {
        let (top, inner) = path.split_once('/').unwrap_or((path, ""));
        if **self.top.get_or_insert_with(|| top.into()) == *top {
            Ok(inner)
        } else {
            Err(ArchiveError::NoTopFolder { path: shown(path.as_bytes()) })
        }
    }

    fn add(&mut self, path: &str, node: Node) -> Result<(), ArchiveError> {
        self.budget.check_entries(self.entries.len() as u64 + 1)?;
        if let [drive, b':', ..] = path.as_bytes()
            && drive.is_ascii_alphabetic()
        {
            return Err(ArchiveError::bad_name(
                path.as_bytes(),
                "starts with a drive letter, which makes it absolute on some systems",
            ));
        }
        let path = self.texts.push(&[path])?;
        self.entries.push(Entry { path, node });
        Ok(())
    }
}

/// All entries of an archive, sorted by path, bytewise. Folders need no entry of their own.
pub(super) struct Tree {
    texts: Texts,
    entries: Vec<Entry>,
}

impl Tree {
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub fn text(&self, text: Text) -> &str {
        self.texts.get(text)
    }

    /// The entries below `folder`, at any depth; all for `""`.
    pub fn below(&self, folder: &str) -> Range<usize> {
        if folder.is_empty() {
            return 0..self.entries.len();
        }
        let side = |entry: &Entry| side_of(self.text(entry.path).as_bytes(), folder.as_bytes());
        let start = self.entries.partition_point(|entry| side(entry) == Ordering::Less);
        let end = self.entries.partition_point(|entry| side(entry) != Ordering::Greater);
        start..end
    }

    /// What lies at `path`, a folder also when only its contents are listed.
    pub fn find(&self, path: &str) -> Option<Node> {
        match self.entries.binary_search_by(|entry| self.text(entry.path).cmp(path)) {
            Ok(found) => Some(self.entries[found].node),
            Err(_) if self.below(path).is_empty() => None,
            Err(_) => Some(Node::Folder),
        }
    }

    fn check(&self) -> Result<(), ArchiveError> {
        let is_folder = |entry: &Entry| matches!(entry.node, Node::Folder);
        for pair in self.entries.windows(2) {
            let path = self.text(pair[0].path);
            if path == self.text(pair[1].path) {
                let path = shown(path.as_bytes());
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
                return Err(ArchiveError::FileIsFolder { path: shown(path.as_bytes()) });
            }
        }
        Ok(())
    }
}

/// Where `path` sorts relative to what lies below `folder`: equal when it is one of those.
fn side_of(path: &[u8], folder: &[u8]) -> Ordering {
    let head = &path[..path.len().min(folder.len())];
    head.cmp(folder).then_with(|| path.get(folder.len()).map_or(Ordering::Less, |next| next.cmp(&b'/')))
}

/// `name` as a relative path that means the same on every system, or what is wrong with it.
fn checked(name: &[u8]) -> Result<&str, ArchiveError> {
    if name.len() > PATH_BYTES {
        return Err(ArchiveError::bad_name(name, "is longer than 1,024 bytes"));
    }
    let path = printable(name)?;
    if path.starts_with('/') {
        return Err(ArchiveError::AbsolutePath { path: shown(name) });
    }
    for component in path.split('/') {
        match component {
            "" => return Err(ArchiveError::bad_name(name, "has an empty path component")),
            "." => return Err(ArchiveError::bad_name(name, "has the path component `.`")),
            ".." => return Err(ArchiveError::ParentPath { path: shown(name) }),
            _ => {}
        }
    }
    if path.contains('\\') {
        return Err(ArchiveError::bad_name(
            name,
            "has a backslash, which is a path separator on some systems",
        ));
    }
    Ok(path)
}

fn printable(name: &[u8]) -> Result<&str, ArchiveError> {
    let text = str::from_utf8(name).map_err(|_| ArchiveError::bad_name(name, "is not UTF-8"))?;
    if text.chars().any(char::is_control) {
        return Err(ArchiveError::bad_name(name, "has a control character in its name or link target"));
    }
    Ok(text)
}
