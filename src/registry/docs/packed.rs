//! The documentation of an archive as it is kept: compressed, with its READMEs as safe HTML.

use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use serde::{Deserialize, Serialize};

use super::markdown::{Links, to_html};
use super::model::{Docs, Folder};

/// A folder, with its README as safe HTML in place of Markdown.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ShownFolder {
    /// What it documents; the README is empty.
    pub folder: Folder,
    pub readme: Option<String>,
}

/// The documentation of one archive.
#[derive(Debug)]
pub struct Packed {
    /// The path of each folder, and what it shows, compressed.
    folders: Vec<(String, Box<[u8]>)>,
    /// Whether something was left out, because there is too much.
    pub is_cut: bool,
}

impl Packed {
    /// The paths of all folders: the root, submodules, examples.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.folders.iter().map(|(path, _)| path.as_str())
    }

    /// One folder.
    pub fn folder(&self, path: &str) -> Option<ShownFolder> {
        let (_, deflated) = self.folders.iter().find(|(other, _)| other == path)?;
        unpacked(deflated)
    }

    /// How many bytes it takes.
    pub fn size(&self) -> usize {
        self.folders.iter().map(|(path, deflated)| path.len() + deflated.len() + 64).sum()
    }

    /// Renders the READMEs, and compresses each folder on its own: a page shows one.
    pub fn pack(docs: Docs, links: &Links) -> Self {
        let is_cut = docs.is_cut;
        let folders = docs.folders.into_iter().filter_map(|mut folder| {
            let path = folder.path.clone();
            let readme = folder.readme.take().map(|markdown| to_html(&markdown, links, &path));
            let json = serde_json::to_vec(&ShownFolder { folder, readme }).ok()?;
            let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(&json).ok()?;
            Some((path, encoder.finish().ok()?.into_boxed_slice()))
        });
        Self { folders: folders.collect(), is_cut }
    }
}

fn unpacked(deflated: &[u8]) -> Option<ShownFolder> {
    let mut json = Vec::new();
    DeflateDecoder::new(deflated).read_to_end(&mut json).ok()?;
    serde_json::from_slice(&json).ok()
}
