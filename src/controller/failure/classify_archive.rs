//! Reasons of rejected archives.

use super::{Failure, Reason};
use crate::archive::ArchiveError;

impl From<ArchiveError> for Failure {
    fn from(error: ArchiveError) -> Self {
        use ArchiveError as E;
        let reason = match &error {
            E::NotAnArchive { .. } => Reason::NotAnArchive,
            E::Corrupt { .. } => Reason::ArchiveCorrupt,
            E::Empty => Reason::ArchiveEmpty,
            E::NoTopFolder { .. }
            | E::AbsolutePath { .. }
            | E::ParentPath { .. }
            | E::BadName { .. }
            | E::Duplicate { .. }
            | E::FileIsFolder { .. }
            | E::SpecialFile { .. }
            | E::Encrypted { .. }
            | E::UnsupportedMethod { .. }
            | E::LinkLeavesTree { .. }
            | E::TangledLinks => Reason::ArchiveUnsafe,
            E::ArchiveTooLarge { .. }
            | E::UnpackedTooLarge { .. }
            | E::RatioTooHigh { .. }
            | E::TooManyEntries { .. }
            | E::PathsTooLong { .. } => Reason::ArchiveTooLarge,
            E::Io { .. } => Reason::SpoolFailed,
        };
        Self::new(reason, error.to_string())
    }
}
