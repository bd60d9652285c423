//! Why an archive cannot be used. Names from an archive are escaped and cut before they are part of a message.

use std::io;

/// Why an archive could not be normalised.
///
/// [`ArchiveError::Io`] is a fault of this machine and passes; every other variant is a fault of the archive, and the
/// same bytes will fail again.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The bytes are neither a zip nor a gzip file.
    #[error("the download is neither a zip nor a tar.gz archive: {found}")]
    NotAnArchive { found: String },
    /// The archive breaks off, fails its own checksums or contradicts itself.
    #[error("the archive is truncated or corrupt ({what})")]
    Corrupt { what: String },
    /// No file is left below the top folder.
    #[error("the archive holds no file; tag a commit that contains the module")]
    Empty,
    /// An entry is outside the one folder that GitHub puts everything in.
    #[error("the archive's entries do not share one top folder, as GitHub's do: `{path}` is outside of it")]
    NoTopFolder { path: String },
    /// An entry's path starts with `/`.
    #[error("the archive contains the absolute path `{path}`; remove it from the repository")]
    AbsolutePath { path: String },
    /// An entry's path has a `..` component.
    #[error("the archive contains the path `{path}`, which climbs with `..`; remove it from the repository")]
    ParentPath { path: String },
    /// An entry's name cannot be a path of a module, and Terraform would read it, or it means something else elsewhere.
    #[error("the archive contains `{path}`, which {why}; rename it in the repository")]
    BadName { path: String, why: &'static str },
    /// Two entries have the same path.
    #[error("the archive contains `{path}` twice")]
    Duplicate { path: String },
    /// A file or link has entries below it.
    #[error("the archive contains `{path}` both as a file and as a folder")]
    FileIsFolder { path: String },
    /// A device, fifo, hard link or sparse file, which no git repository holds.
    #[error("the archive contains `{path}`, {kind}; only files, folders and symbolic links can be published")]
    SpecialFile { path: String, kind: &'static str },
    /// A zip entry is encrypted.
    #[error("the archive's entry `{path}` is encrypted; publish it without a password")]
    Encrypted { path: String },
    /// A zip entry is compressed with something else than deflate.
    #[error(
        "the archive's entry `{path}` is compressed by {method}; only stored and deflated entries can be read"
    )]
    UnsupportedMethod { path: String, method: String },
    #[error(
        "the symbolic link `{path}` points to `{target}`, outside of the module; remove or re-point it in the repository"
    )]
    LinkLeavesTree { path: String, target: String },
    /// Following the symbolic links takes more steps than any real repository needs.
    #[error("the archive's symbolic links are nested too deeply to follow; simplify them in the repository")]
    TangledLinks,
    /// The downloaded file is larger than [`Limits::archive_bytes`](super::Limits::archive_bytes).
    #[error("the archive is larger than {limit} bytes; make it smaller, or raise --max-archive-size")]
    ArchiveTooLarge { limit: u64 },
    /// The files are larger than [`Limits::unpacked_bytes`](super::Limits::unpacked_bytes) in total.
    #[error(
        "the archive's files exceed {limit} bytes in total, symbolic links followed; make them smaller, or raise --max-unpacked-size"
    )]
    UnpackedTooLarge { limit: u64 },
    /// The files are larger than [`Limits::ratio`](super::Limits::ratio) allows for so small an archive.
    #[error(
        "the archive's files are more than {ratio} times as large as the archive itself, as in a decompression bomb"
    )]
    RatioTooHigh { ratio: u64 },
    /// There are more entries than [`Limits::entries`](super::Limits::entries).
    #[error(
        "the archive has more than {limit} entries, symbolic links followed; make it smaller, or raise --max-entries"
    )]
    TooManyEntries { limit: u64 },
    /// All paths together are too long to be kept in memory.
    #[error(
        "the paths in the archive take more than {limit} bytes in total; use fewer or shorter ones, or raise --max-entries, with which that limit grows"
    )]
    PathsTooLong { limit: u64 },
    /// Reading the download, or writing to the spool folder, failed.
    #[error("cannot {action}: {source}; check the spool folder's free space and permissions")]
    Io { action: &'static str, source: io::Error },
}

impl ArchiveError {
    /// For `map_err`: a failure of this machine's disk.
    pub(super) fn io(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, source }
    }

    /// A failed read of the download: the disk's fault if the operating system says so, else a decoder's complaint
    /// about the bytes, which may repeat some of them.
    pub(super) fn reading(error: io::Error) -> Self {
        if error.raw_os_error().is_some() {
            Self::Io { action: "read the downloaded archive", source: error }
        } else {
            Self::corrupt(shown(error.to_string().as_bytes()))
        }
    }

    pub(super) fn corrupt(what: impl Into<String>) -> Self {
        Self::Corrupt { what: what.into() }
    }

    pub(super) fn bad_name(path: &[u8], why: &'static str) -> Self {
        Self::BadName { path: shown(path), why }
    }
}

/// A name out of an archive as it may appear in a message: printable, and at most 200 characters. What cannot be seen, or
/// would change how its surroundings are read, is written as an escape; so are bytes that are not UTF-8.
pub(super) fn shown(name: &[u8]) -> String {
    const LONGEST: usize = 200;
    let mut safe = String::new();
    for (count, character) in escaped(name).enumerate() {
        if count == LONGEST {
            safe.pop();
            safe.push('…');
            break;
        }
        safe.push(character);
    }
    safe
}

fn escaped(name: &[u8]) -> impl Iterator<Item = char> {
    name.utf8_chunks().flat_map(|chunk| {
        let text = chunk.valid().chars().flat_map(|character| {
            // Rust takes these for printable; they look like spaces, or like nothing.
            let blank = matches!(
                character,
                '\u{115f}' | '\u{1160}' | '\u{2800}' | '\u{3164}' | '\u{ffa0}' | '\u{1d159}'
            );
            let unicode = blank.then(|| character.escape_unicode()).into_iter().flatten();
            unicode.chain((!blank).then(|| character.escape_debug()).into_iter().flatten())
        });
        text.chain(chunk.invalid().escape_ascii().map(char::from))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_a_message_is_what_it_looks_like() {
        let cases: [(&[u8], &str); 10] = [
            (b"main.tf", "main.tf"),
            ("größe/日本語".as_bytes(), "größe/日本語"),
            (b"caf\xe9.txt", r"caf\xe9.txt"),
            (b"Icon\r", r"Icon\r"),
            (b"a\nb\0", r"a\nb\0"),
            (b"old\\a", r"old\\a"),
            ("a\u{202e}b\u{2066}".as_bytes(), r"a\u{202e}b\u{2066}"),
            ("a\u{200b}\u{feff}\u{ad}\u{2060}".as_bytes(), r"a\u{200b}\u{feff}\u{ad}\u{2060}"),
            ("\u{3164}\u{2800}\u{a0}".as_bytes(), r"\u{3164}\u{2800}\u{a0}"),
            ("\u{fe0f}\u{e0041}".as_bytes(), r"\u{fe0f}\u{e0041}"),
        ];
        for (name, expected) in cases {
            assert_eq!(shown(name), expected);
        }
        assert_eq!(shown(&[b'x'; 200]), "x".repeat(200));
        assert_eq!(shown(&[b'x'; 201]), "x".repeat(199) + "…");
    }
}
