//! Reads the records that end a zip archive.
//!
//! Readers differ in how they search for these records, so one file can contain different archives. Here they must end where the
//! file ends, and the central directory must end where they start.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;

use super::ArchiveError;

const END: &[u8] = b"PK\x05\x06";
/// Length of the end record, up to the comment that follows it.
const END_LEN: usize = 22;
const LONGEST_COMMENT: u64 = u16::MAX as u64;

const LOCATOR: &[u8] = b"PK\x06\x07";
const LOCATOR_LEN: u64 = 20;
const END64: &[u8] = b"PK\x06\x06";
const END64_LEN: u64 = 56;
/// The length that the record states, which excludes its first 12 bytes. Longer records are rejected: the zip crate would read them into memory, however long
/// they are.
const END64_COUNTED: u64 = END64_LEN - 12;

/// Reads the last record, and the zip64 records in front of it if there are any. Returns where the central directory is in the
/// file, and the archive's comment.
pub(super) fn read_end(file: &mut File) -> Result<(Range<u64>, Vec<u8>), ArchiveError> {
    let len = file.seek(SeekFrom::End(0)).map_err(ArchiveError::reading)?;
    let tail_start = len.saturating_sub(LONGEST_COMMENT + END_LEN as u64);
    let tail = read_at(file, tail_start, len - tail_start)?;
    let at = tail.windows(END.len()).rposition(|window| window == END).unwrap_or(tail.len());
    let Some((record, comment)) = tail[at..].split_at_checked(END_LEN) else {
        return Err(ArchiveError::corrupt("its end is missing"));
    };
    if usize::from(le16(&record[20..])) != comment.len() {
        return Err(ArchiveError::corrupt("its comment has another length than stated"));
    }
    let end = tail_start + at as u64;
    let (entries, size, start) = (le16(&record[10..]), le32(&record[12..]), le32(&record[16..]));
    let wide = entries == u16::MAX || size == u32::MAX || start == u32::MAX;
    let directory = match end.checked_sub(LOCATOR_LEN) {
        Some(locator) if wide => zip64_directory(file, locator)?,
        _ => None,
    };
    let directory = directory.map_or_else(|| exact(start.into(), size.into(), end), Ok)?;
    Ok((directory, comment.to_vec()))
}

/// The directory's position in the zip64 records; `None` if there are no such records. `locator` is where the last of
/// them has to start.
fn zip64_directory(file: &mut File, locator: u64) -> Result<Option<Range<u64>>, ArchiveError> {
    let record = read_at(file, locator, LOCATOR_LEN)?;
    if !record.starts_with(LOCATOR) {
        return Ok(None);
    }
    let end = le64(&record[8..]);
    if end.checked_add(END64_LEN) != Some(locator) {
        return Err(ArchiveError::corrupt("its zip64 records do not follow each other"));
    }
    let record = read_at(file, end, END64_LEN)?;
    if !record.starts_with(END64) || le64(&record[4..]) != END64_COUNTED {
        return Err(ArchiveError::corrupt("its zip64 end record is invalid"));
    }
    exact(le64(&record[48..]), le64(&record[40..]), end).map(Some)
}

/// The directory that starts at `start`, if it ends at `end`.
fn exact(start: u64, size: u64, end: u64) -> Result<Range<u64>, ArchiveError> {
    let wrong = || ArchiveError::corrupt("its central directory is not where its end record states");
    (start.checked_add(size) == Some(end)).then_some(start..end).ok_or_else(wrong)
}

/// Where the central header at `start` ends.
pub(super) fn central_header_end(file: &mut (impl Read + Seek), start: u64) -> Result<u64, ArchiveError> {
    const FIXED_LEN: u64 = 46;
    let header = read_at(file, start, FIXED_LEN)?;
    let lengths = [28, 30, 32].map(|at| u64::from(le16(&header[at..])));
    Ok(start + FIXED_LEN + lengths.iter().sum::<u64>())
}

fn read_at(file: &mut (impl Read + Seek), start: u64, len: u64) -> Result<Vec<u8>, ArchiveError> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(start)).map_err(ArchiveError::reading)?;
    file.take(len).read_to_end(&mut bytes).map_err(ArchiveError::reading)?;
    if bytes.len() as u64 == len { Ok(bytes) } else { Err(ArchiveError::corrupt("it ends too early")) }
}

fn le16(bytes: &[u8]) -> u16 {
    u16::from_le_bytes([bytes[0], bytes[1]])
}

fn le32(bytes: &[u8]) -> u32 {
    u32::from(le16(bytes)) | u32::from(le16(&bytes[2..])) << 16
}

fn le64(bytes: &[u8]) -> u64 {
    u64::from(le32(bytes)) | u64::from(le32(&bytes[4..])) << 32
}
