//! The files that `opendepot validate` reads.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// A text to check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub name: String,
    pub text: String,
    /// Whether it is standard input.
    pub is_input: bool,
    /// Whether the user named it, and not only its folder.
    pub is_named: bool,
}

/// Reads a file, standard input, or a folder.
///
/// # Errors
/// The path that cannot be read, and why.
pub(crate) fn read(argument: &str) -> Result<Vec<File>, (String, String)> {
    let failed = |path: &Path, error: &io::Error| (path.display().to_string(), error.to_string());
    if argument == "-" {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map_err(|error| failed(Path::new("-"), &error))?;
        return Ok(vec![File { name: argument.to_owned(), text, is_input: true, is_named: true }]);
    }
    let path = Path::new(argument);
    let is_named = !path.is_dir();
    let mut paths = Vec::new();
    if is_named {
        paths.push(path.to_owned());
    } else {
        collect(path, &mut paths).map_err(|error| failed(path, &error))?;
    }
    let file = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).map_err(|error| failed(&path, &error))?;
        Ok(File { name: path.display().to_string(), text, is_input: false, is_named })
    };
    paths.into_iter().map(file).collect()
}

/// The manifests of a folder in the order of their names. Links to folders are not followed, so that there is no loop.
fn collect(folder: &Path, into: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut entries = std::fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let is_manifest =
            path.extension().is_some_and(|end| ["yaml", "yml", "json"].iter().any(|e| end == *e));
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if entry.file_type()?.is_dir() {
            collect(&path, into)?;
        } else if is_manifest && path.is_file() {
            into.push(path);
        }
    }
    Ok(())
}
