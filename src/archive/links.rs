//! Replaces symbolic links by what they point to, because Terraform and OpenTofu install links as broken files.
//!
//! The result is a sorted list of files and a report of what was left out. Contents are not copied, only referred to again. Each
//! copy counts against the same limits as if the archive had listed it, so that a few links cannot expand to billions of files.
//!
//! A path that a module cannot have is left out here, because links give files other paths; only what Terraform would read as
//! configuration makes the whole archive unusable.

use super::ArchiveError;
use super::contents::Regular;
use super::error::shown;
use super::index_memory::IndexMemory;
use super::limits::{Budget, PATH_BYTES};
use super::names::{is_configuration, unnameable, unusable};
use super::report::{Listed, Report, SkipReason, SkippedLink};
use super::texts::{Text, Texts};
use super::tree::{Entry, LinkTarget, Node, Tree};

/// The longest chain of links that is followed: the limit of Linux.
const HOPS: usize = 40;

/// Links to folders through which a path of the output may lead. Real modules have one or two; each uses some of the stack,
/// whose overflow would end the process.
pub(super) const NESTED: usize = 100;

/// The output's files, sorted by path, bytewise.
pub(super) struct Files {
    texts: Texts,
    sorted: Vec<(Text, Regular)>,
    _memory: IndexMemory,
}

impl Files {
    pub(super) fn len(&self) -> usize {
        self.sorted.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &Regular)> {
        self.sorted.iter().map(|(path, file)| (self.texts.get(*path), file))
    }
}

/// Follows all links of `tree`. A file that no link leads to keeps its path in memory, and only the others get a new one.
pub(super) fn expand(mut tree: Tree, budget: Budget) -> Result<(Files, Report), ArchiveError> {
    let mut memory = std::mem::take(&mut tree.memory);
    let mut expansion = Expansion {
        tree: &tree,
        budget,
        steps: 0,
        entries: 0,
        bytes: 0,
        files: Vec::new(),
        new_texts: Texts::after(&tree.texts),
        memory: &mut memory,
        report: Report { submodules: submodules(&tree), ..Report::default() },
        through: Vec::new(),
    };
    expansion.copy(b"", b"")?;
    let Expansion { mut files, new_texts, report, .. } = expansion;
    let mut texts = tree.texts;
    texts.append(new_texts);
    files.sort_unstable_by(|(a, _), (b, _)| texts.get(*a).cmp(texts.get(*b)));
    Ok((Files { texts, sorted: files, _memory: memory }, report))
}

/// The submodules of `tree`: git keeps nothing else that becomes an empty folder.
fn submodules(tree: &Tree) -> Listed<String> {
    let mut found = Listed::default();
    let folders = tree.entries.iter().filter(|entry| matches!(entry.node, Node::Folder));
    let paths = folders.map(|entry| tree.text(entry.path));
    paths.filter(|path| tree.is_empty_folder(path)).for_each(|path| found.add(|| shown(path)));
    found
}

/// Where a link leads.
enum Destination {
    File(Regular),
    Folder(Vec<u8>),
    Nowhere(SkipReason),
}

/// Where a walk ends.
enum Stop {
    At(Destination),
    /// At a link with this target, from whose folder the walk continues.
    AtLink(LinkTarget),
    Outside,
}

struct Expansion<'t> {
    tree: &'t Tree,
    budget: Budget,
    steps: u64,
    entries: u64,
    bytes: u64,
    files: Vec<(Text, Regular)>,
    /// The paths that `tree` does not have.
    new_texts: Texts,
    memory: &'t mut IndexMemory,
    report: Report,
    /// The paths of the links through which the folder that is being copied was reached.
    through: Vec<&'t [u8]>,
}

impl Expansion<'_> {
    /// Copies what is below the folder `from` to below `to`. It calls itself for each link to a folder, to a bounded
    /// depth.
    fn copy(&mut self, from: &[u8], to: &[u8]) -> Result<(), ArchiveError> {
        let tree = self.tree;
        for entry in &tree.entries[tree.below(from)] {
            self.entries += 1;
            self.budget.check_entries(self.entries)?;
            let path = tree.text(entry.path);
            let inner = if from.is_empty() { path } else { &path[from.len() + 1..] };
            let separator: &[u8] = if to.is_empty() { b"" } else { b"/" };
            let at = [to, separator, inner].concat();
            match entry.node {
                Node::Folder => {}
                Node::File(file) => self.emit(&at, entry, file)?,
                Node::Link(target) => self.follow(entry, target, &at)?,
            }
        }
        Ok(())
    }

    /// Puts `file` at `path`, or leaves it out if a module cannot have that path. `entry` is the file itself or a link to it.
    fn emit(&mut self, path: &[u8], entry: &Entry, file: Regular) -> Result<(), ArchiveError> {
        if path.len() > PATH_BYTES {
            return Err(too_long(path));
        }
        if let Some(why) = unusable(path) {
            if is_configuration(path) {
                return Err(ArchiveError::bad_name(path, why));
            }
            self.report.skipped_files.add(|| shown(path));
            return Ok(());
        }
        self.bytes = self.bytes.saturating_add(file.content.len);
        self.budget.check_bytes(self.bytes)?;
        let is_copied = !self.through.is_empty();
        let text = if is_copied { self.new_texts.push(path, &self.budget)? } else { entry.path };
        self.files.push((text, file));
        let entries = size_of_val(&*self.tree.entries) + size_of_val(&*self.files);
        self.memory.grow_to(self.new_texts.bytes() + entries);
        if file.lfs_pointer {
            self.report.lfs_pointers.add(|| shown(path));
        }
        Ok(())
    }

    /// Puts the file or folder to which the link `entry` leads at `to`.
    fn follow(&mut self, entry: &Entry, target: LinkTarget, to: &[u8]) -> Result<(), ArchiveError> {
        if to.len() > PATH_BYTES {
            return Err(too_long(to));
        }
        let (link, written) = (self.tree.text(entry.path), self.tree.text(target.text));
        let destination = self.resolve(link, target)?;
        // The copy of a folder that contains one of these links would have no end.
        let is_endless = |folder: &[u8]| self.through.iter().chain([&link]).any(|at| is_below(at, folder));
        let why = match destination {
            Destination::File(file) => return self.emit(to, entry, file),
            Destination::Folder(folder) if is_endless(&folder) => SkipReason::PointsToAncestor,
            Destination::Folder(_) if self.through.len() >= NESTED => return Err(ArchiveError::TangledLinks),
            Destination::Folder(folder) => {
                self.through.push(link);
                self.copy(&folder, to)?;
                self.through.pop();
                return Ok(());
            }
            Destination::Nowhere(why) => why,
        };
        self.report.skipped_links.add(|| SkippedLink { path: shown(to), target: shown(written), why });
        Ok(())
    }

    /// Resolves `link`, which points to `target`.
    fn resolve(&mut self, link: &[u8], mut target: LinkTarget) -> Result<Destination, ArchiveError> {
        let tree = self.tree;
        let written = tree.text(target.text);
        let leaves = || ArchiveError::LinkLeavesTree { path: shown(link), target: shown(written) };
        let mut at = parent(link).to_owned();
        let mut ahead = Vec::new();
        for _ in 0..HOPS {
            let text = tree.text(target.text);
            if text.starts_with(b"/") {
                return Err(leaves());
            }
            if target.too_long {
                return Ok(Destination::Nowhere(SkipReason::Unnameable));
            }
            if text.is_empty() {
                return Ok(Destination::Nowhere(SkipReason::Dangles));
            }
            // What is left of a long target behind a link costs time too, although it is not looked up.
            self.steps += text.len() as u64 / 64;
            ahead.extend(text.rsplit(|byte| *byte == b'/'));
            match self.walk(&mut at, &mut ahead)? {
                Stop::At(destination) => return Ok(destination),
                Stop::AtLink(next) => target = next,
                Stop::Outside => return Err(leaves()),
            }
        }
        Ok(Destination::Nowhere(SkipReason::Loops))
    }

    /// Walks from the folder `at` along the components `ahead`, the next one last, up to their end or the next link, as
    /// the kernel does: `..` is the parent of the resolved folder.
    fn walk(&mut self, at: &mut Vec<u8>, ahead: &mut Vec<&[u8]>) -> Result<Stop, ArchiveError> {
        while let Some(component) = ahead.pop() {
            // A look-up compares whole paths.
            self.steps += 1 + at.len() as u64 / 1024;
            if self.steps > self.budget.link_steps() {
                return Err(ArchiveError::TangledLinks);
            }
            match component {
                b"" | b"." => continue,
                b".." if at.is_empty() => return Ok(Stop::Outside),
                b".." => {
                    at.truncate(parent(at).len());
                    continue;
                }
                name if at.is_empty() => at.extend_from_slice(name),
                name => at.extend_from_slice(&[b"/", name].concat()),
            }
            let why = match self.tree.find(at) {
                Some(Node::Folder) => continue,
                Some(Node::Link(target)) => {
                    at.truncate(parent(at).len());
                    return Ok(Stop::AtLink(target));
                }
                Some(Node::File(_)) if !ahead.is_empty() => SkipReason::Dangles,
                Some(Node::File(_)) if unusable(at).is_some() => SkipReason::PointsToSkipped,
                Some(Node::File(file)) => return Ok(Stop::At(Destination::File(file))),
                None => self.why_nothing(at, component),
            };
            return Ok(Stop::At(Destination::Nowhere(why)));
        }
        let folder = std::mem::take(at);
        Ok(Stop::At(if self.tree.is_empty_folder(&folder) {
            Destination::Nowhere(SkipReason::PointsToSubmodule)
        } else if unusable(&folder).is_some() {
            Destination::Nowhere(SkipReason::PointsToSkipped)
        } else {
            Destination::Folder(folder)
        }))
    }

    /// Why there is nothing at `path`, whose last component is `name`.
    fn why_nothing(&self, path: &[u8], name: &[u8]) -> SkipReason {
        if unnameable(name).is_some() {
            SkipReason::Unnameable
        } else if self.tree.is_empty_folder(parent(path)) {
            SkipReason::PointsToSubmodule
        } else {
            SkipReason::Dangles
        }
    }
}

fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(b"", |slash| &path[..slash])
}

fn is_below(path: &[u8], folder: &[u8]) -> bool {
    folder.is_empty() || path.strip_prefix(folder).is_some_and(|rest| rest.starts_with(b"/"))
}

fn too_long(path: &[u8]) -> ArchiveError {
    ArchiveError::bad_name(path, "is longer than 4,095 bytes once symbolic links are followed")
}
