//! Reads a zip archive, and the commit in its comment.
//!
//! Entries are read one at a time from the central directory: an index of them all, as `ZipArchive` makes it, would use as much
//! memory as the archive requests, and hide duplicate names.
//!
//! A zip names everything twice, and its parts may be anywhere. Git writes one entry after another and then the directory,
//! without a gap, and both agree. Only that is accepted, so that another reader cannot find something else in the file.

use std::fs::File;
use std::io::{BufReader, Read};

use zip::read::{ArchiveOffset, Config, ZipFileEntry};
use zip::result::ZipError;
use zip::unstable::read::ZipIterable;
use zip::{CompressionMethod, ZipReadOptions};

use super::ArchiveError;
use super::error::shown;
use super::limits::TARGET_BYTES;
use super::unpacked::{Unpacked, commit_id};
use super::zip_end::{central_header_end, read_end};

/// The most bytes that may follow an entry's content: sizes and checksum of a streamed entry. An entry itself is longer.
const DATA_DESCRIPTOR: u64 = 24;

/// Adds all entries of the archive to `out`, and returns the commit.
pub(super) fn read(mut file: File, out: &mut Unpacked) -> Result<Option<String>, ArchiveError> {
    let (directory, comment) = read_end(&mut file)?;
    let config = Config { archive_offset: ArchiveOffset::Known(0) };
    let archive = ZipIterable::try_new(BufReader::new(file), config).map_err(reading)?;
    let mut archive = archive.enforce_header_consistency(true);
    let entries = archive.files().map_err(reading)?;
    let (mut content_end, mut last_header) = (0, None);
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(reading)?;
        let header = entry.central_header_start();
        if last_header.replace(header).is_none() && header != directory.start {
            return Err(ArchiveError::corrupt("it has two central directories"));
        }
        follows(content_end, entry.header_start())?;
        content_end = add(entry, entries.reader_mut(), out)?;
    }
    follows(content_end, directory.start)?;
    let listed = last_header.map(|start| central_header_end(entries.reader_mut(), start)).transpose()?;
    if listed.unwrap_or(directory.start) != directory.end {
        return Err(ArchiveError::corrupt(
            "its central directory has more entries than its end record states",
        ));
    }
    Ok(commit_id(&comment))
}

/// Checks that what starts at `start` follows a content that ends at `end`. If entries could share their bytes, the whole file
/// might be read once for each of them.
fn follows(end: u64, start: u64) -> Result<(), ArchiveError> {
    match start.checked_sub(end) {
        None => Err(ArchiveError::corrupt("its entries overlap")),
        Some(0..=DATA_DESCRIPTOR) => Ok(()),
        Some(_) => Err(ArchiveError::corrupt("there is something between its entries")),
    }
}

/// The kind of an entry, in its Unix mode.
const TYPE: u32 = 0o170_000;
const UNKNOWN: u32 = 0;
const FOLDER: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// Adds one entry, and returns where its content ends in the file.
fn add(
    entry: ZipFileEntry<'_>,
    archive: &mut BufReader<File>,
    out: &mut Unpacked,
) -> Result<u64, ArchiveError> {
    let name = entry.name_raw().to_vec();
    let mode = entry.unix_mode().unwrap_or(UNKNOWN);
    if entry.encrypted() {
        return Err(ArchiveError::Encrypted { path: shown(&name) });
    }
    let method = entry.compression();
    if !matches!(method, CompressionMethod::Stored | CompressionMethod::Deflated) {
        return Err(ArchiveError::UnsupportedMethod { path: shown(&name), method: method.to_string() });
    }
    let (size, compressed) = (entry.size(), entry.compressed_size());
    let mut content = entry.with_reader(archive, ZipReadOptions::default()).map_err(reading)?;
    let end = content.data_start().and_then(|start| start.checked_add(compressed));
    match (mode & TYPE, name.ends_with(b"/")) {
        (UNKNOWN | REGULAR | FOLDER, true) | (FOLDER, false) => {
            if size > 0 {
                return Err(ArchiveError::corrupt(format!("the folder `{}` has content", shown(&name))));
            }
            out.tree.add_folder(&name)?;
        }
        (UNKNOWN | REGULAR, false) => {
            let file = out.contents.append(content, mode & 0o111 != 0)?;
            if file.content.len != size {
                return Err(ArchiveError::corrupt(format!("`{}` breaks off", shown(&name))));
            }
            out.tree.add_file(&name, file)?;
        }
        (LINK, _) => {
            let mut target = Vec::new();
            let read = content.by_ref().take(TARGET_BYTES as u64 + 1).read_to_end(&mut target);
            read.map_err(ArchiveError::reading)?;
            out.tree.add_link(&name, &target)?;
        }
        _ => return Err(ArchiveError::SpecialFile { path: shown(&name), kind: "a device, fifo or socket" }),
    }
    end.ok_or_else(|| ArchiveError::corrupt(format!("the position of `{}` is unknown", shown(&name))))
}

fn reading(error: ZipError) -> ArchiveError {
    match error {
        ZipError::Io(error) => ArchiveError::reading(error),
        other => ArchiveError::corrupt(shown(other.to_string().as_bytes())),
    }
}
