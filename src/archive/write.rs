//! Writes files as an archive whose bytes depend only on their paths, contents and execute bits.
//!
//! Everything that could differ between two runs is fixed: order, times, owners, modes, compression level, and the pieces in
//! which the compressor gets its input.

use std::path::Path;

use tempfile::{NamedTempFile, TempPath};

use super::ArchiveError;
use super::contents::Contents;
use super::digest::ContentDigest;
use super::links::Files;
use super::sink::Sink;
use super::write_zip::Narrow;
use super::{write_tar, write_zip};
use crate::domain::ArchiveFormat;

/// An archive that was written.
pub(super) struct Written {
    pub file: TempPath,
    pub size: u64,
    pub sha256: [u8; 32],
    pub digest: ContentDigest,
}

/// Writes `files` to a new temporary file in `dir`.
pub(super) fn write(
    files: &Files,
    contents: &Contents,
    format: ArchiveFormat,
    dir: &Path,
    narrow: &Narrow,
) -> Result<Written, ArchiveError> {
    let failed = "write the normalised archive";
    let file = NamedTempFile::new_in(dir).map_err(ArchiveError::io(failed))?;
    let mut sink = Sink::new(file.as_file());
    let written = match format {
        ArchiveFormat::Zip => write_zip::write(files, contents, &mut sink, narrow),
        ArchiveFormat::Tar => write_tar::write(files, contents, &mut sink),
    };
    let digest = written.map_err(ArchiveError::io(failed))?;
    let (size, sha256) = sink.finish().map_err(ArchiveError::io(failed))?;
    Ok(Written { file: file.into_temp_path(), size, sha256, digest })
}
