//! What is in an archive, and what git says should be.

use std::collections::BTreeMap;
use std::io::{Cursor, Read as _};
use std::path::Path;
use std::process::Command;

use base64::Engine as _;

/// Files by path: whether they are executable, and their content.
pub(crate) type Tree = BTreeMap<String, (bool, Vec<u8>)>;

/// The files of a zip or tar.gz.
pub(crate) fn tree(bytes: &[u8]) -> Tree {
    if bytes.starts_with(b"PK") {
        zip_tree(bytes)
    } else {
        tar_tree(&mut flate2::read::GzDecoder::new(bytes))
    }
}

fn zip_tree(bytes: &[u8]) -> Tree {
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
    (0..archive.len())
        .map(|at| {
            let mut file = archive.by_index(at).unwrap();
            let (name, mode) = (file.name().unwrap().into_owned(), file.unix_mode().unwrap());
            let mut content = Vec::new();
            file.read_to_end(&mut content).unwrap();
            (name, (mode & 0o111 != 0, content))
        })
        .collect()
}

fn tar_tree(reader: &mut impl std::io::Read) -> Tree {
    let mut archive = tar::Archive::new(reader);
    let mut tree = Tree::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.header().entry_type() != tar::EntryType::Regular {
            continue;
        }
        let (name, mode) =
            (entry.path().unwrap().to_str().unwrap().to_owned(), entry.header().mode().unwrap());
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        tree.insert(name, (mode & 0o111 != 0, content));
    }
    tree
}

/// The files that git has at a tag of a bare repository.
pub(crate) fn git_tree(repository: &Path, tag: &str) -> Tree {
    let output = Command::new("git")
        .args(["-c", "safe.directory=*", "-C"])
        .arg(repository)
        .args(["archive", "--format=tar", tag])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    tar_tree(&mut output.stdout.as_slice())
}

/// The files below a folder.
pub(crate) fn folder_tree(folder: &Path) -> Tree {
    fn walk(root: &Path, folder: &Path, tree: &mut Tree) {
        use std::os::unix::fs::PermissionsExt as _;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, tree);
            } else {
                let executable = path.metadata().unwrap().permissions().mode() & 0o111 != 0;
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                tree.insert(name, (executable, std::fs::read(&path).unwrap()));
            }
        }
    }
    let mut tree = Tree::new();
    walk(folder, folder, &mut tree);
    tree
}

/// SHA-256 of bytes in base64, as S3 gives it.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD
        .encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes))
}

/// Go's dirhash `h1:` of a tree, computed apart from the product's code.
pub(crate) fn h1(tree: &Tree) -> String {
    let hex = |bytes: &[u8]| bytes.iter().fold(String::new(), |hex, b| hex + &format!("{b:02x}"));
    let sha = |bytes: &[u8]| aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let line = |(name, (_, content)): (&String, &(bool, Vec<u8>))| {
        format!("{}  {name}\n", hex(sha(content).as_ref()))
    };
    let lines: String = tree.iter().map(line).collect::<Vec<_>>().concat();
    format!("h1:{}", base64::engine::general_purpose::STANDARD.encode(sha(lines.as_bytes())))
}
