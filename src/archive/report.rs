//! Report of what was left out of an archive or is missing in it: the first few of each kind, escaped, and their number.

use std::fmt;

/// How many of each kind are named.
const NAMED: usize = 20;

/// The first of many, and how many there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<T> {
    /// The first 20, in a fixed order.
    pub first: Vec<T>,
    pub total: usize,
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self { first: Vec::new(), total: 0 }
    }
}

impl<T> Listed<T> {
    /// Counts one, and keeps it if it is one of the first.
    pub(super) fn add(&mut self, item: impl FnOnce() -> T) {
        self.total += 1;
        if self.first.len() < NAMED {
            self.first.push(item());
        }
    }
}

/// What was left out of an archive, and what it lacks of its repository. All names are escaped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Symbolic links that were left out.
    pub skipped_links: Listed<SkippedLink>,
    /// Files that were left out because a module cannot have such a path.
    pub skipped_files: Listed<String>,
    /// Submodules, which GitHub's archives leave empty.
    pub submodules: Listed<String>,
    /// Files whose content is a Git LFS pointer.
    pub lfs_pointers: Listed<String>,
}

/// A symbolic link that could not be replaced by anything and is not in the output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedLink {
    /// Its path in the module, escaped.
    pub path: String,
    /// Its target, as written, escaped.
    pub target: String,
    pub why: SkipReason,
}

/// Why a link is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipReason {
    /// Its target does not exist.
    Dangles,
    /// It leads back to itself, or through more than 40 links.
    Loops,
    /// It points to a folder that contains the link, so that a copy would have no end.
    PointsToAncestor,
    /// Its target is no possible file name: not UTF-8, with control characters or a backslash, or too long.
    Unnameable,
    /// It points to a file or folder that is left out because of its name.
    PointsToSkipped,
    /// It points into a submodule, of which the archive has only an empty folder.
    PointsToSubmodule,
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dangles => "points to nothing",
            Self::Loops => "is part of a loop of links",
            Self::PointsToAncestor => "points to a folder that contains it",
            Self::Unnameable => "points to an impossible file name",
            Self::PointsToSkipped => "points to a file or folder that is left out because of its name",
            Self::PointsToSubmodule => "points into a git submodule, which GitHub's archives leave empty",
        })
    }
}
