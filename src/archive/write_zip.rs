//! Writes the zip format.
//!
//! It is written here, and not by the zip crate, for two reasons: the stored bytes are compared for as long as a module
//! exists, and must not change with the version of a crate; and that crate keeps several hundred bytes for each entry
//! until the end, although 24 are enough. Like Go's own writer, it puts sizes and checksum behind each content.

use std::io::{self, Read, Write};

use flate2::Crc;
use flate2::write::DeflateEncoder;

use super::contents::{ContentReader, Contents, Regular};
use super::digest::{ContentDigest, ContentHasher};
use super::links::Files;
use super::sink::{CHUNK_BYTES, LEVEL, Sink, permissions};

/// 1 January 1980, 00:00:00, the first moment that the format can express: two bytes of time, two of date.
const TIMESTAMP: [u8; 4] = [0, 0, 0x21, 0];
/// Sizes follow the content; the name is UTF-8.
const FLAGS: [u8; 2] = (0x0008_u16 | 0x0800).to_le_bytes();
const DEFLATED: [u8; 2] = 8_u16.to_le_bytes();
/// Made by version 2.0 on Unix, whose modes are in the external attributes.
const MADE_BY: [u8; 2] = [20, 3];
const REGULAR_FILE: u32 = 0o100_000;
/// Versions that a reader must understand: deflate, and zip64.
const PLAIN: [u8; 2] = 20_u16.to_le_bytes();
const ZIP64: [u8; 2] = 45_u16.to_le_bytes();

/// The values that need the fields of zip64. They are a parameter because a test of zip64 would otherwise need gigabytes.
pub(super) struct Narrow {
    /// From this length on, a content's compressed size might not fit into 32 bits: it can be a little longer than the
    /// content itself. The length alone decides, because the header precedes the content.
    pub content: u64,
    /// From this number on, offsets and sizes of the archive itself do not fit.
    pub offset: u64,
    /// From this number on, entries cannot be counted.
    pub entries: u64,
}

impl Narrow {
    /// Those of the format: all ones in a field mean that the value is in the zip64 fields.
    pub(super) const ZIP: Self =
        Self { content: 0xff00_0000, offset: u32::MAX as u64, entries: u16::MAX as u64 };

    fn is_large(&self, file: &Regular) -> bool {
        file.content.len >= self.content
    }

    /// `value`, or all ones where it does not fit.
    fn offset(&self, value: u64) -> u32 {
        if value < self.offset { low32(value) } else { u32::MAX }
    }

    /// `value`, or all ones where it does not fit.
    fn entries(&self, value: u64) -> u16 {
        if value < self.entries { u16::try_from(value).unwrap_or(u16::MAX) } else { u16::MAX }
    }
}

/// What the central directory contains about a file besides the index.
struct Record {
    crc: u32,
    compressed: u64,
    offset: u64,
}

pub(super) fn write(
    files: &Files,
    contents: &Contents,
    sink: &mut Sink<'_>,
    narrow: &Narrow,
) -> io::Result<ContentDigest> {
    let mut deflate = DeflateEncoder::new(Vec::new(), LEVEL);
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut records = Vec::with_capacity(files.len());
    let mut digest = ContentHasher::new();
    for (path, file) in files.iter() {
        let offset = sink.size;
        sink.write_all(&local_header(path, file, narrow)?)?;
        let start = sink.size;
        let mut content = contents.open(file.content)?;
        let crc = compress(&mut content, &mut deflate, &mut chunk, sink)?;
        let record = Record { crc, compressed: sink.size - start, offset };
        sink.write_all(&data_descriptor(file, &record, narrow))?;
        records.push(record);
        digest.add(path, &content.sha256());
    }
    let start = sink.size;
    for ((path, file), record) in files.iter().zip(&records) {
        sink.write_all(&central_header(path, file, record, narrow)?)?;
    }
    sink.write_all(&end(records.len() as u64, start, sink.size - start, narrow))?;
    Ok(digest.finish())
}

/// Deflates `content` into `sink` and returns its CRC-32. The compressor is used again for each file: it takes longer
/// to set up than to compress a small file.
fn compress(
    content: &mut ContentReader<'_>,
    deflate: &mut DeflateEncoder<Vec<u8>>,
    chunk: &mut [u8],
    sink: &mut Sink<'_>,
) -> io::Result<u32> {
    let mut crc = Crc::new();
    while let n @ 1.. = content.read(chunk)? {
        crc.update(&chunk[..n]);
        deflate.write_all(&chunk[..n])?;
        sink.write_all(deflate.get_ref())?;
        deflate.get_mut().clear();
    }
    sink.write_all(&deflate.reset(Vec::new())?)?;
    Ok(crc.sum())
}

fn local_header(path: &[u8], file: &Regular, narrow: &Narrow) -> io::Result<Vec<u8>> {
    let (version, size, extra) =
        if narrow.is_large(file) { (ZIP64, u32::MAX, zip64_extra(&[0, 0])?) } else { (PLAIN, 0, Vec::new()) };
    let parts: [&[u8]; 12] = [
        b"PK\x03\x04",
        &version,
        &FLAGS,
        &DEFLATED,
        &TIMESTAMP,
        &0_u32.to_le_bytes(),
        &size.to_le_bytes(),
        &size.to_le_bytes(),
        &len16(path)?,
        &len16(&extra)?,
        path,
        &extra,
    ];
    Ok(parts.concat())
}

fn data_descriptor(file: &Regular, record: &Record, narrow: &Narrow) -> Vec<u8> {
    let sizes = [record.compressed, file.content.len];
    let sizes = if narrow.is_large(file) {
        sizes.map(u64::to_le_bytes).concat()
    } else {
        sizes.map(|size| low32(size).to_le_bytes()).concat()
    };
    [b"PK\x07\x08", &record.crc.to_le_bytes()[..], &sizes].concat()
}

fn central_header(path: &[u8], file: &Regular, record: &Record, narrow: &Narrow) -> io::Result<Vec<u8>> {
    let mut wide = Vec::new();
    let [mut compressed, mut len] = [record.compressed, file.content.len].map(low32);
    if narrow.is_large(file) {
        wide.extend([file.content.len, record.compressed]);
        [compressed, len] = [u32::MAX; 2];
    }
    let offset = narrow.offset(record.offset);
    if offset == u32::MAX {
        wide.push(record.offset);
    }
    let (version, extra) = if wide.is_empty() { (PLAIN, Vec::new()) } else { (ZIP64, zip64_extra(&wide)?) };
    let attributes = (REGULAR_FILE | permissions(file.executable)) << 16;
    let parts: [&[u8]; 16] = [
        b"PK\x01\x02",
        &MADE_BY,
        &version,
        &FLAGS,
        &DEFLATED,
        &TIMESTAMP,
        &record.crc.to_le_bytes(),
        &compressed.to_le_bytes(),
        &len.to_le_bytes(),
        &len16(path)?,
        &len16(&extra)?,
        // No comment, first disk, no internal attributes.
        &[0; 6],
        &attributes.to_le_bytes(),
        &offset.to_le_bytes(),
        path,
        &extra,
    ];
    Ok(parts.concat())
}

/// The records behind the central directory, which has `entries` and begins at `start`.
fn end(entries: u64, start: u64, size: u64, narrow: &Narrow) -> Vec<u8> {
    let mut end = Vec::new();
    let short_entries = narrow.entries(entries);
    let [short_size, short_start] = [size, start].map(|value| narrow.offset(value));
    if short_entries == u16::MAX || short_start == u32::MAX || short_size == u32::MAX {
        let [entries, size, directory, zip64_end] =
            [entries, size, start, start + size].map(u64::to_le_bytes);
        // The record counts its own length from here on: 44 bytes.
        end.extend([b"PK\x06\x06", &44_u64.to_le_bytes()[..], &MADE_BY, &ZIP64, &[0; 8]].concat());
        end.extend([entries, entries, size, directory].concat());
        end.extend([b"PK\x06\x07", &[0; 4][..], &zip64_end, &1_u32.to_le_bytes()].concat());
    }
    let short_entries = short_entries.to_le_bytes();
    let [size, start] = [short_size, short_start].map(u32::to_le_bytes);
    end.extend([b"PK\x05\x06", &[0; 4][..], &short_entries, &short_entries, &size, &start, &[0; 2]].concat());
    end
}

/// The extra field with values that do not fit into the 32 bits of a header.
fn zip64_extra(values: &[u64]) -> io::Result<Vec<u8>> {
    let values: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Ok([&1_u16.to_le_bytes()[..], &len16(&values)?, &values].concat())
}

/// `value`, or all ones if it is in the zip64 fields.
fn low32(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn len16(bytes: &[u8]) -> io::Result<[u8; 2]> {
    u16::try_from(bytes.len()).map(u16::to_le_bytes).map_err(io::Error::other)
}
