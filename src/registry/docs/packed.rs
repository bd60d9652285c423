//! The documentation of an archive as it is kept: compressed, with its READMEs as safe HTML.

use std::io::{Read as _, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use serde::{Deserialize, Serialize, Serializer};

use super::markdown::{Links, to_html};
use super::model::{Docs, Folder};

/// The largest folder that is shown, in bytes of HTML besides its README: each view of its page makes them, and several copies.
const LARGEST_FOLDER: usize = 2 << 20;
/// The longest HTML of a README, in bytes.
const LONGEST_HTML: usize = 2 << 20;
/// Pages with more bytes of HTML are large. Those of the largest public modules are smaller.
const LARGE: usize = 512 << 10;
const FAILED: &str = "<p><em>The registry cannot show this README: report this as a defect. It is in the module's archive.</em></p>";
const TOO_LONG: &str = "<p><em>This README is too long for a page. It is in the module's archive.</em></p>";

/// A folder, with its README as safe HTML in place of Markdown.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ShownFolder {
    /// What it documents; the README is empty.
    pub folder: Folder,
    pub readme: Option<String>,
}

/// The documentation of one archive.
#[derive(Debug, Serialize, Deserialize)]
pub struct Packed {
    /// The path of each folder, the length of its HTML, and what it shows.
    folders: Vec<(String, usize, Deflated)>,
    /// Whether something was left out, because there is too much.
    pub is_cut: bool,
}

impl Packed {
    /// The paths of all folders: the root, submodules, examples.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.folders.iter().map(|(path, ..)| path.as_str())
    }

    /// One folder.
    pub fn folder(&self, path: &str) -> Option<ShownFolder> {
        let (.., deflated) = self.folders.iter().find(|(other, ..)| other == path)?;
        deflated.unpacked()
    }

    /// Whether a folder's page takes so much memory and time that few are made at once.
    pub fn is_large(&self, path: &str) -> bool {
        self.folders.iter().any(|(other, html, _)| other == path && *html > LARGE)
    }

    /// How many bytes it takes.
    pub fn size(&self) -> usize {
        self.folders.iter().map(|(path, _, deflated)| path.len() + deflated.0.len() + 64).sum()
    }

    /// Renders the READMEs, and compresses each folder on its own: a page shows one.
    pub fn pack(docs: Docs, links: &Links) -> Self {
        let mut is_cut = docs.is_cut;
        let folders = docs.folders.into_iter().filter_map(|mut folder| {
            let path = folder.path.clone();
            let readme = folder.readme.take().map(|markdown| rendered(&markdown, links, &path));
            let mut html = html_len(&folder);
            if html > LARGEST_FOLDER {
                // Its page has the README, and the notice that documentation is missing.
                is_cut = true;
                folder = Folder { path: path.clone(), ..Folder::default() };
                html = html_len(&folder);
            }
            html += readme.as_ref().map_or(0, String::len);
            Some((path, html, Deflated::pack(&ShownFolder { folder, readme })?))
        });
        let folders = folders.collect();
        Self { folders, is_cut }
    }
}

/// A README as HTML, or why it is not shown. A panic of the renderer costs this README only.
fn rendered(markdown: &str, links: &Links, folder: &str) -> String {
    match catch_unwind(AssertUnwindSafe(|| to_html(markdown, links, folder))) {
        Ok(html) if html.len() <= LONGEST_HTML => html,
        Ok(_) => TOO_LONG.to_owned(),
        Err(_) => FAILED.to_owned(),
    }
}

/// About how many bytes of HTML show what a folder declares.
fn html_len(folder: &Folder) -> usize {
    let json = serde_json::to_vec(folder).unwrap_or_default();
    let inputs = folder.inputs.iter().map(|input| &input.name);
    let names = inputs.chain(folder.outputs.iter().map(|output| &output.name));
    let names = names.chain(folder.providers.iter().flat_map(|provider| &provider.aliases));
    // The JSON has each name once, the page up to five times. The quotes of the JSON count for tags.
    escaped(&json) + 4 * names.map(|name| escaped(name.as_bytes())).sum::<usize>()
}

/// How long a text is in HTML.
pub(super) fn escaped(text: &[u8]) -> usize {
    let len = |byte: &u8| -> usize {
        match byte {
            b'&' => "&amp;".len(),
            b'"' => "&quot;".len(),
            b'<' | b'>' => "&lt;".len(),
            _ => 1,
        }
    };
    text.iter().map(len).sum()
}

/// What a folder shows, compressed. Serialised as Base64.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct Deflated(Box<[u8]>);

impl Deflated {
    fn pack(folder: &ShownFolder) -> Option<Self> {
        let json = serde_json::to_vec(folder).ok()?;
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(&json).ok()?;
        Some(Self(encoder.finish().ok()?.into_boxed_slice()))
    }

    fn unpacked(&self) -> Option<ShownFolder> {
        let mut json = Vec::new();
        DeflateDecoder::new(&*self.0).read_to_end(&mut json).ok()?;
        serde_json::from_slice(&json).ok()
    }
}

impl Serialize for Deflated {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl TryFrom<String> for Deflated {
    type Error = base64::DecodeError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Ok(Self(STANDARD.decode(text)?.into_boxed_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::{Input, Provider};
    use super::*;

    #[test]
    fn a_folder_is_measured_as_its_page() {
        let input = |number: usize, description: &str| Input {
            name: format!("input_{number}"),
            type_: Some("map(object({\n  name = string\n}))".into()),
            description: Some(description.into()),
            ..Input::default()
        };
        for (inputs, description, is_large, is_shown) in [
            (200, "What it sets, and \"why\". ".repeat(8), false, true),
            (600, "x".repeat(1 << 10), true, true),
            (100, "&".repeat(16 << 10), false, false),
            (100, "\"".repeat(16 << 10), false, false),
        ] {
            let inputs: Vec<Input> = (0..inputs).map(|number| input(number, &description)).collect();
            let count = inputs.len();
            let folder = Folder { readme: Some("# A".into()), inputs, ..Folder::default() };
            let docs = Docs { folders: vec![folder], is_cut: false };
            let packed = Packed::pack(docs, &Links::default());
            let shown = packed.folder("").unwrap();
            assert_eq!((packed.is_large(""), packed.is_cut), (is_large, !is_shown), "{count}");
            assert_eq!(shown.folder.inputs.len(), if is_shown { count } else { 0 });
            assert!(shown.readme.unwrap().contains(">A</h3>"), "{count}");
        }
        let name = "a".repeat(64 << 10);
        let aliases = (0..10).map(|number| format!("{name}.b{number}")).collect();
        let provider = Provider { name: name.clone(), aliases, ..Provider::default() };
        let folder = Folder { providers: vec![provider], ..Folder::default() };
        // The table has each alias once, the block to copy twice.
        assert!(html_len(&folder) > 3 * 10 * name.len());
    }
}
