//! Reads a gzip-compressed tar archive, and the commit in its pax global header.
//!
//! Extension headers (long names) are read here, since the tar crate would use as much memory for them as the archive requests.

use std::fs::File;
use std::io::{BufReader, Read, Take};

use flate2::bufread::MultiGzDecoder;
use tar::{Archive, EntryType};

use super::ArchiveError;
use super::error::shown;
use super::pax::records;
use super::unpacked::{Unpacked, commit_id};

/// Enough for two paths and all else that git or tar record of a file, and for link targets that are no paths: git packs any
/// target.
const EXTENSION_BYTES: u64 = 1 << 20;

/// tar fills its last record up with zeros: 10 KiB by default, rarely more.
const PADDING_BYTES: usize = 1 << 20;

const BLOCK_BYTES: usize = 512;

type Gzip = BufReader<Take<MultiGzDecoder<BufReader<File>>>>;
type Member<'a> = tar::Entry<'a, Gzip>;

/// Adds all entries of the archive to `out`, and returns the commit.
pub(super) fn read(file: File, out: &mut Unpacked) -> Result<Option<String>, ArchiveError> {
    let stream = MultiGzDecoder::new(BufReader::new(file)).take(out.budget.tar_bytes());
    let mut archive = Archive::new(BufReader::new(stream));
    let mut global = None;
    let mut extension = Extension::default();
    for member in archive.entries().map_err(ArchiveError::reading)?.raw(true) {
        let mut member = member.map_err(ArchiveError::reading)?;
        match member.header().entry_type() {
            EntryType::XGlobalHeader => once(&mut global, read_global(&mut member)?)?,
            EntryType::XHeader => extension.read_pax(&mut member)?,
            EntryType::GNULongName => once(&mut extension.path, read_long_name(&mut member)?)?,
            EntryType::GNULongLink => once(&mut extension.target, read_long_name(&mut member)?)?,
            _ => add(member, std::mem::take(&mut extension), out)?,
        }
    }
    if extension != Extension::default() {
        return Err(ArchiveError::corrupt("it ends after the header of a long name"));
    }
    check_end(archive.into_inner())?;
    Ok(global.flatten())
}

fn add(mut member: Member<'_>, extension: Extension, out: &mut Unpacked) -> Result<(), ArchiveError> {
    let header = member.header();
    let path = extension.path.unwrap_or_else(|| header.path_bytes().into_owned());
    let size = member.size();
    if extension.size.is_some_and(|said| said != size) {
        return Err(ArchiveError::corrupt(format!("`{}` has two sizes", shown(&path))));
    }
    let special = |kind| Err(ArchiveError::SpecialFile { path: shown(&path), kind });
    match header.entry_type() {
        _ if extension.sparse => special("a sparse file"),
        EntryType::Regular => {
            let executable = header.mode().map_err(ArchiveError::reading)? & 0o111 != 0;
            let file = out.contents.append(&mut member, executable)?;
            if file.content.len != size {
                return Err(ArchiveError::corrupt(format!("`{}` breaks off", shown(&path))));
            }
            out.tree.add_file(&path, file)
        }
        EntryType::Directory | EntryType::Symlink if size > 0 => {
            Err(ArchiveError::corrupt(format!("`{}` is not a file but has content", shown(&path))))
        }
        EntryType::Directory => out.tree.add_folder(&path),
        EntryType::Symlink => {
            let target = extension.target.or_else(|| header.link_name_bytes().map(Into::into));
            out.tree.add_link(&path, &target.unwrap_or_default())
        }
        EntryType::Link => special("a hard link"),
        EntryType::Char | EntryType::Block => special("a device"),
        EntryType::Fifo => special("a fifo"),
        EntryType::GNUSparse => special("a sparse file"),
        _ => special("an entry of an unknown type"),
    }
}

/// The contents of the extension headers in front of a member.
#[derive(Default, PartialEq)]
struct Extension {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
    sparse: bool,
}

impl Extension {
    fn read_pax(&mut self, member: &mut Member<'_>) -> Result<(), ArchiveError> {
        for record in records(&read_extension(member)?) {
            let (key, value) = record?;
            match key {
                b"path" => once(&mut self.path, value.into())?,
                b"linkpath" => once(&mut self.target, value.into())?,
                b"size" => {
                    let size = str::from_utf8(value).ok().and_then(|size| size.parse().ok());
                    let size = size.ok_or_else(|| ArchiveError::corrupt("a size is not a number"))?;
                    once(&mut self.size, size)?;
                }
                key if key.starts_with(b"GNU.sparse.") => self.sparse = true,
                _ => {}
            }
        }
        Ok(())
    }
}

/// Returns the commit in the archive's global header.
fn read_global(member: &mut Member<'_>) -> Result<Option<String>, ArchiveError> {
    let mut commit = None;
    for record in records(&read_extension(member)?) {
        let (key, value) = record?;
        match key {
            b"comment" => commit = commit_id(value),
            b"path" | b"linkpath" | b"size" => {
                return Err(ArchiveError::corrupt("its global header renames every entry"));
            }
            _ => {}
        }
    }
    Ok(commit)
}

fn read_long_name(member: &mut Member<'_>) -> Result<Vec<u8>, ArchiveError> {
    let mut name = read_extension(member)?;
    name.pop_if(|last| *last == 0);
    Ok(name)
}

fn read_extension(member: &mut Member<'_>) -> Result<Vec<u8>, ArchiveError> {
    let size = member.size();
    if size > EXTENSION_BYTES {
        return Err(ArchiveError::corrupt(format!("it has an extension header of {size} bytes")));
    }
    let mut data = Vec::new();
    member.read_to_end(&mut data).map_err(ArchiveError::reading)?;
    if data.len() as u64 != size {
        return Err(ArchiveError::corrupt("it ends inside an extension header"));
    }
    Ok(data)
}

fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), ArchiveError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(ArchiveError::corrupt("an extension header repeats a value")),
    }
}

/// Reads to the end of the gzip file, which also checks its checksum. A tar archive ends with two blocks of zeros, of
/// which the first was read already.
fn check_end(mut rest: Gzip) -> Result<(), ArchiveError> {
    let mut block = [0; 8 << 10];
    let mut padding = 0;
    while let n @ 1.. = rest.read(&mut block).map_err(ArchiveError::reading)? {
        padding += n;
        if padding > PADDING_BYTES || block[..n].iter().any(|byte| *byte != 0) {
            return Err(ArchiveError::corrupt("something follows the end of the tar archive"));
        }
    }
    if padding < BLOCK_BYTES {
        return Err(ArchiveError::corrupt("the end of the tar archive is missing"));
    }
    Ok(())
}
