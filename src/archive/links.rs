//! Replaces symbolic links by what they point to, because Terraform and OpenTofu install links as broken files.
//!
//! In: a tree with links. Out: a flat, sorted list of files, and the links that had to be left out. Pure: contents are
//! not copied, only referred to again. Each copy counts against the same limits as if the archive had listed it, so
//! that a few links cannot stand for billions of files.

use std::fmt;

use super::ArchiveError;
use super::error::shown;
use super::limits::{Budget, PATH_BYTES};
use super::spool::Content;
use super::tree::{Entry, Node, Text, Texts, Tree};

/// Links that lead to one another, as many as Linux follows.
const HOPS: usize = 40;

/// Links to folders through which a path of the output may lead. Real modules have one or two; each costs some of the
/// stack, and what overflows that ends the process.
pub(super) const NESTED: usize = 100;

/// Left-out links that are reported one by one.
const REPORTED: usize = 20;

/// A symbolic link that could not be replaced by anything and is not in the output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedLink {
    /// Its path in the module.
    pub path: String,
    /// What it points to, as written.
    pub target: String,
    /// Why it is left out.
    pub why: SkipReason,
}

/// Why a link is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipReason {
    /// There is nothing where it points to.
    Dangles,
    /// It leads back to itself, or through more than 40 links.
    Loops,
    /// It points to a folder that contains the link, so that a copy would have no end.
    PointsToAncestor,
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dangles => "points to nothing",
            Self::Loops => "is part of a loop of links",
            Self::PointsToAncestor => "points to a folder that it is in itself",
        })
    }
}

/// A regular file of the output.
#[derive(Clone, Copy, Debug)]
pub(super) struct File {
    path: Text,
    pub content: Content,
    pub executable: bool,
}

/// The output's files, sorted by path, bytewise.
pub(super) struct Files {
    texts: Texts,
    files: Vec<File>,
}

impl Files {
    pub fn len(&self) -> usize {
        self.files.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &File)> {
        self.files.iter().map(|file| (self.texts.get(file.path), file))
    }
}

/// The links that were left out.
#[derive(Debug, Default)]
pub(super) struct Skipped {
    /// The first of them, in the order of their paths.
    pub links: Vec<SkippedLink>,
    /// How many there were.
    pub total: u64,
}

/// Follows all links of `tree`.
pub(super) fn expand(tree: &Tree, budget: Budget) -> Result<(Files, Skipped), ArchiveError> {
    let mut expansion = Expansion {
        tree,
        budget,
        steps: 0,
        entries: 0,
        bytes: 0,
        output: Files { texts: Texts::default(), files: Vec::new() },
        skipped: Skipped::default(),
        through: Vec::new(),
    };
    expansion.copy("", "")?;
    let Expansion { mut output, skipped, .. } = expansion;
    let Files { texts, files } = &mut output;
    files.sort_unstable_by(|a, b| texts.get(a.path).cmp(texts.get(b.path)));
    Ok((output, skipped))
}

/// Where a link leads.
enum Destination {
    File { content: Content, executable: bool },
    Folder(String),
    Nowhere(SkipReason),
}

/// Where a walk ends.
enum Stop<'t> {
    At(Destination),
    /// At a link with this target, from whose folder the walk goes on.
    AtLink(&'t str),
    Outside,
}

struct Expansion<'t> {
    tree: &'t Tree,
    budget: Budget,
    steps: u64,
    entries: u64,
    bytes: u64,
    output: Files,
    skipped: Skipped,
    /// The paths of the links through which the folder that is being copied was reached.
    through: Vec<&'t str>,
}

impl<'t> Expansion<'t> {
    /// Copies what lies below the folder `from` to below `to`. It calls itself for each link to a folder, to a bounded
    /// depth.
    fn copy(&mut self, from: &str, to: &str) -> Result<(), ArchiveError> {
        let tree = self.tree;
        for entry in &tree.entries()[tree.below(from)] {
            self.entries += 1;
            self.budget.check_entries(self.entries)?;
            let inner = tree.text(entry.path)[from.len()..].trim_start_matches('/');
            let separator = if to.is_empty() { "" } else { "/" };
            match entry.node {
                Node::Folder => {}
                Node::File { content, executable } => {
                    self.emit(&[to, separator, inner], content, executable)?;
                }
                Node::Link { target } => self.follow(entry, target, &[to, separator, inner].concat())?,
            }
        }
        Ok(())
    }

    fn emit(&mut self, path: &[&str], content: Content, executable: bool) -> Result<(), ArchiveError> {
        if path.iter().map(|part| part.len()).sum::<usize>() > PATH_BYTES {
            return Err(too_long(&path.concat()));
        }
        self.bytes = self.bytes.saturating_add(content.len);
        self.budget.check_bytes(self.bytes)?;
        let path = self.output.texts.push(path)?;
        self.output.files.push(File { path, content, executable });
        Ok(())
    }

    /// Puts what the link `entry` stands for at `to`.
    fn follow(&mut self, entry: &Entry, target: Text, to: &str) -> Result<(), ArchiveError> {
        if to.len() > PATH_BYTES {
            return Err(too_long(to));
        }
        let (link, target) = (self.tree.text(entry.path), self.tree.text(target));
        let why = match self.resolve(link, target)? {
            Destination::File { content, executable } => return self.emit(&[to], content, executable),
            Destination::Folder(folder) => {
                self.through.push(link);
                // A folder with one of these links in it would lead back here, for ever.
                let endless = self.through.iter().any(|link| is_below(link, &folder));
                if !endless {
                    if self.through.len() > NESTED {
                        return Err(ArchiveError::TangledLinks);
                    }
                    self.copy(&folder, to)?;
                }
                self.through.pop();
                if !endless {
                    return Ok(());
                }
                SkipReason::PointsToAncestor
            }
            Destination::Nowhere(why) => why,
        };
        self.skipped.total += 1;
        if self.skipped.links.len() < REPORTED {
            self.skipped.links.push(SkippedLink { path: to.into(), target: target.into(), why });
        }
        Ok(())
    }

    /// Finds where `link`, which points to `target`, leads in the end.
    fn resolve(&mut self, link: &str, mut target: &'t str) -> Result<Destination, ArchiveError> {
        let written = target;
        let leaves = || ArchiveError::LinkLeavesTree {
            path: shown(link.as_bytes()),
            target: shown(written.as_bytes()),
        };
        let mut at = parent(link).to_owned();
        let mut ahead = Vec::new();
        for _ in 0..HOPS {
            if target.starts_with('/') {
                return Err(leaves());
            }
            if target.is_empty() {
                return Ok(Destination::Nowhere(SkipReason::Dangles));
            }
            ahead.extend(target.rsplit('/'));
            match self.walk(&mut at, &mut ahead)? {
                Stop::At(destination) => return Ok(destination),
                Stop::AtLink(next) => target = next,
                Stop::Outside => return Err(leaves()),
            }
        }
        Ok(Destination::Nowhere(SkipReason::Loops))
    }

    /// Walks from the folder `at` along the components `ahead`, the next one last, up to their end or the next link, as
    /// the kernel does: `..` is the parent of where one really is.
    fn walk(&mut self, at: &mut String, ahead: &mut Vec<&str>) -> Result<Stop<'t>, ArchiveError> {
        while let Some(component) = ahead.pop() {
            self.steps += 1;
            if self.steps > self.budget.link_steps() {
                return Err(ArchiveError::TangledLinks);
            }
            match component {
                "" | "." => continue,
                ".." if at.is_empty() => return Ok(Stop::Outside),
                ".." => {
                    at.truncate(parent(at).len());
                    continue;
                }
                name if at.is_empty() => at.push_str(name),
                name => at.extend(["/", name]),
            }
            match self.tree.find(at) {
                Some(Node::Folder) => {}
                Some(Node::Link { target }) => {
                    at.truncate(parent(at).len());
                    return Ok(Stop::AtLink(self.tree.text(target)));
                }
                Some(Node::File { content, executable }) if ahead.is_empty() => {
                    return Ok(Stop::At(Destination::File { content, executable }));
                }
                Some(Node::File { .. }) | None => {
                    return Ok(Stop::At(Destination::Nowhere(SkipReason::Dangles)));
                }
            }
        }
        Ok(Stop::At(Destination::Folder(std::mem::take(at))))
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

fn is_below(path: &str, folder: &str) -> bool {
    folder.is_empty() || path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

fn too_long(path: &str) -> ArchiveError {
    ArchiveError::bad_name(path.as_bytes(), "is longer than 1,024 bytes once symbolic links are followed")
}
