//! The edits of which a change of an existing Version consists.

use super::file_name::FileName;

/// An existing Version, and the state in which the cache has it. Every write tests both.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VersionRef {
    pub name: String,
    pub uid: String,
    pub resource_version: String,
}

/// A change of an existing Version.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Change {
    pub target: VersionRef,
    pub edits: Vec<Edit>,
}

/// One part of a change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Edit {
    /// Write the resolved configuration, which includes the deletion policy.
    SetConfig(FileName),
    /// Write `moduleConfigRef.deletionPolicy` only.
    SetPolicy { retain: bool },
    /// Write `spec.moduleSuspended`.
    SetSuspended(bool),
    /// Write `spec.expectedDigest`.
    PinDigest(String),
    /// Remove `spec.expectedDigest`.
    UnpinDigest,
    /// Write the annotation with the token of the open request.
    Request(String),
    /// Add owner reference, labels and finalizer.
    Adopt,
}

impl Edit {
    /// For the log.
    pub fn words(&self) -> &'static str {
        match self {
            Self::SetConfig(FileName::Keep | FileName::Derived) => "configuration",
            Self::SetConfig(FileName::Fresh) => "configuration with a new file name",
            Self::SetConfig(FileName::Stored(_)) => "configuration with the stored file name",
            Self::SetPolicy { retain: true } => "deletionPolicy Retain",
            Self::SetPolicy { retain: false } => "deletionPolicy Delete",
            Self::SetSuspended(true) => "suspended",
            Self::SetSuspended(false) => "resumed",
            Self::PinDigest(_) => "expected digest",
            Self::UnpinDigest => "no expected digest",
            Self::Request(_) => "sync request",
            Self::Adopt => "adopted",
        }
    }

    /// Whether it is made while the Module's configuration is unusable.
    pub(super) fn is_independent_of_config(&self) -> bool {
        matches!(self, Self::SetPolicy { .. } | Self::SetSuspended(_) | Self::Request(_))
    }
}

impl Change {
    /// For the log.
    pub fn words(&self) -> String {
        self.edits.iter().map(Edit::words).collect::<Vec<_>>().join(", ")
    }

    pub fn adopts(&self) -> bool {
        self.edits.contains(&Edit::Adopt)
    }

    pub fn pins_digest(&self) -> bool {
        self.edits.iter().any(|edit| matches!(edit, Edit::PinDigest(_)))
    }

    /// Whether it only passes a request on.
    pub fn only_requests(&self) -> bool {
        self.edits.iter().all(|edit| matches!(edit, Edit::Request(_)))
    }
}
