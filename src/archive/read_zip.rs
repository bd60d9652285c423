//! Unpacks a zip archive.
//!
//! In: a file that starts like a zip. Out: entries in a tree and contents in a spool, and the commit from the archive's
//! comment. Entries are read one at a time from the central directory: an index of them all, as `ZipArchive` makes it,
//! would take memory that the archive decides on, and hide duplicate names.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

use zip::read::{ArchiveOffset, Config, ZipFile, ZipFileEntry};
use zip::result::ZipError;
use zip::unstable::read::ZipIterable;
use zip::{CompressionMethod, ZipReadOptions};

use super::error::shown;
use super::limits::PATH_BYTES;
use super::{ArchiveError, COMMIT_LEN, Unpacked, commit_id};

/// How the record that ends a zip archive starts, and its length up to the length of the comment that follows it.
const END: &[u8] = b"PK\x05\x06";
const END_LEN: usize = 20;

/// Adds all that the archive holds to `out`.
pub(super) fn read(mut file: File, out: &mut Unpacked) -> Result<Option<String>, ArchiveError> {
    let commit = commit(&mut file)?;
    let mut unclaimed = file.seek(SeekFrom::End(0)).map_err(ArchiveError::reading)?;
    let config = Config { archive_offset: ArchiveOffset::Known(0) };
    let mut archive = ZipIterable::try_new(BufReader::new(file), config).map_err(reading)?;
    let entries = archive.files().map_err(reading)?;
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(reading)?;
        // Entries that share their bytes could make us read the whole file once for each of them.
        unclaimed = unclaimed
            .checked_sub(entry.compressed_size())
            .ok_or_else(|| ArchiveError::corrupt("its entries overlap"))?;
        add(entry, entries.reader_mut(), out)?;
    }
    Ok(commit)
}

/// What the entry's Unix mode says it is.
const TYPE: u32 = 0o170_000;
const UNKNOWN: u32 = 0;
const FOLDER: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

fn add(
    entry: ZipFileEntry<'_>,
    archive: &mut BufReader<File>,
    out: &mut Unpacked,
) -> Result<(), ArchiveError> {
    let name = entry.name_raw().to_vec();
    let mode = entry.unix_mode().unwrap_or(UNKNOWN);
    if entry.encrypted() {
        return Err(ArchiveError::Encrypted { path: shown(&name) });
    }
    match (mode & TYPE, name.ends_with(b"/")) {
        (UNKNOWN | REGULAR | FOLDER, true) | (FOLDER, false) => {
            if entry.size() > 0 {
                return Err(ArchiveError::corrupt(format!("the folder `{}` has content", shown(&name))));
            }
            out.tree.add_folder(&name)
        }
        (UNKNOWN | REGULAR, false) => {
            let size = entry.size();
            let content = out.spool.append(open(entry, archive)?)?;
            if content.len != size {
                return Err(ArchiveError::corrupt(format!("`{}` breaks off", shown(&name))));
            }
            out.tree.add_file(&name, content, mode & 0o111 != 0)
        }
        (LINK, false) => {
            let mut target = Vec::new();
            let content = open(entry, archive)?.take(PATH_BYTES as u64 + 1).read_to_end(&mut target);
            content.map_err(ArchiveError::reading)?;
            out.tree.add_link(&name, &target)
        }
        _ => Err(ArchiveError::SpecialFile { path: shown(&name), kind: "a device, fifo or socket" }),
    }
}

fn open<'a>(
    entry: ZipFileEntry<'a>,
    archive: &'a mut BufReader<File>,
) -> Result<ZipFile<'a, BufReader<File>>, ArchiveError> {
    match entry.compression() {
        CompressionMethod::Stored | CompressionMethod::Deflated => {
            entry.with_reader(archive, ZipReadOptions::default()).map_err(reading)
        }
        other => {
            Err(ArchiveError::UnsupportedMethod { path: shown(entry.name_raw()), method: other.to_string() })
        }
    }
}

fn reading(error: ZipError) -> ArchiveError {
    match error {
        ZipError::Io(error) => ArchiveError::reading(error),
        other => ArchiveError::corrupt(other.to_string()),
    }
}

/// The archive's comment, if it has the length of a commit id: a zip keeps it at its very end.
fn commit(file: &mut File) -> Result<Option<String>, ArchiveError> {
    let mut tail = [0; END_LEN + 2 + COMMIT_LEN];
    let len = file.seek(SeekFrom::End(0)).map_err(ArchiveError::reading)?;
    let Some(start) = len.checked_sub(tail.len() as u64) else { return Ok(None) };
    file.seek(SeekFrom::Start(start))
        .and_then(|_| file.read_exact(&mut tail))
        .map_err(ArchiveError::reading)?;
    let (comment_len, comment) = tail[END_LEN..].split_at(2);
    let is_end = tail.starts_with(END) && usize::from(comment_len[0]) == COMMIT_LEN && comment_len[1] == 0;
    Ok(if is_end { commit_id(comment) } else { None })
}
