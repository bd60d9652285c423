//! The files that `opendepot validate` reads.

use std::io::{self, Read as _};
use std::path::Path;

use crate::api::GROUP;

/// A text to check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub name: String,
    pub text: String,
    /// Whether the user named it, and not only its folder.
    pub is_named: bool,
}

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    File(File),
    /// A file of a folder that is no text, and is no manifest of this group.
    Other,
    Unreadable {
        name: String,
        error: String,
    },
}

/// Reads a file, standard input, or a folder. A file that cannot be read does not end the reading of a folder.
pub(crate) fn read(argument: &str) -> Vec<Found> {
    let path = Path::new(argument);
    let mut found = Vec::new();
    if argument == "-" {
        let mut bytes = Vec::new();
        let read = io::stdin().read_to_end(&mut bytes);
        found.push(Found::of(path, read.map(|_| bytes), true));
    } else if path.is_dir() {
        collect(path, &mut found);
    } else {
        found.push(Found::of(path, std::fs::read(path), true));
    }
    found
}

impl Found {
    fn of(path: &Path, bytes: io::Result<Vec<u8>>, is_named: bool) -> Self {
        let name = path.display().to_string();
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(error) => return Self::Unreadable { name, error: error.to_string() },
        };
        match String::from_utf8(bytes) {
            Ok(text) => Self::File(File { name, text, is_named }),
            Err(error) if !is_named && !names_group(error.as_bytes()) => Self::Other,
            Err(error) => Self::Unreadable { name, error: format!("this is not UTF-8 text: {error}") },
        }
    }
}

/// Whether a file contains the name of the API group. UTF-16 has a zero beside each letter.
fn names_group(bytes: &[u8]) -> bool {
    let letters: Vec<u8> = bytes.iter().copied().filter(|byte| *byte != 0).collect();
    letters.windows(GROUP.len()).any(|part| part == GROUP.as_bytes())
}

/// The manifests of a folder in the order of their names. Links to folders are not followed, so that there is no loop.
fn collect(folder: &Path, into: &mut Vec<Found>) {
    let entries = std::fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut entries = match entries {
        Ok(entries) => entries,
        Err(error) => return into.push(Found::of(folder, Err(error), false)),
    };
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let is_manifest =
            path.extension().is_some_and(|end| ["yaml", "yml", "json"].iter().any(|e| end == *e));
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => collect(&path, into),
            Ok(_) if is_manifest && path.is_file() => {
                into.push(Found::of(&path, std::fs::read(&path), false));
            }
            Ok(_) => {}
            Err(error) => into.push(Found::of(&path, Err(error), false)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_text_hides_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("\u{feff}apiVersion: {GROUP}");
        let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        for (name, content) in
            [("a.json", &b"\xff\xfe\x80"[..]), ("b.yaml", &utf16[..]), ("c.yaml", &b"a: 1"[..])]
        {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        let found = read(&folder.path().display().to_string());
        let [Found::Other, Found::Unreadable { name, error }, Found::File(file)] = &found[..] else {
            panic!("{found:?}")
        };
        assert!(name.ends_with("b.yaml") && error.starts_with("this is not UTF-8 text: "), "{error}");
        assert!(file.name.ends_with("c.yaml") && file.text == "a: 1" && !file.is_named);
        for name in ["a.json", "none.yaml"] {
            let found = read(&folder.path().join(name).display().to_string());
            assert!(matches!(&found[..], [Found::Unreadable { .. }]), "{found:?}");
        }
    }
}
