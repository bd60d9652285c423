//! Documentation of a module, read from its stored archive: README, inputs, outputs, requirements, resources.
//!
//! Archives are untrusted input. What is read is bounded in size, number, depth and time, and an expression that cannot be parsed
//! costs no other. Types and defaults are shown as they are written, as `terraform-config-inspect` does.
//!
//! ```text
//! archive ─► folders (which files) ─► native │ json (one file) ─► blocks ─► merge (override files) ─► Docs ─► compare
//!    └───────── child: a process for each archive; library: fetches it; cache: what is kept, packed; markdown: HTML of READMEs
//! ```

mod blocks;
mod cache;
mod child;
mod compare;
mod differences;
mod folders;
mod json;
mod library;
mod markdown;
mod merge;
mod model;
mod native;
mod packed;
mod pieces;
mod repair;
#[cfg(test)]
mod tests;
mod text;
mod types;

pub use cache::NoDocs;
pub use child::{Arguments, run};
#[cfg(test)]
pub(crate) use compare::compare_unpacked;
pub use compare::{Comparison, ModuleChanges, Presence};
pub use differences::Change;
pub use library::Library;
pub use markdown::{Links, to_html};
pub use model::{Docs, Folder, Input, ModuleCall, Output, Provider, Resource, ResourceMode, Unreadable};
pub use packed::{Packed, ShownFolder};

/// Parsers for the fuzz targets.
#[cfg(feature = "fuzzing")]
pub mod fuzzing {
    use super::compare::compare_unpacked;
    use super::{Docs, Folder, json, merge, native};

    /// What a file declares.
    ///
    /// # Errors
    /// Where nothing of it can be read.
    pub fn declared(source: &str, is_json: bool) -> Result<Folder, String> {
        let mut folder = Folder::default();
        let why = if is_json { json::read(source, &mut folder) } else { native::read(source, &mut folder) };
        why.filter(|_| folder == Folder::default()).map_or(Ok(folder), Err)
    }

    /// Whether a folder equals itself when it is compared, also after it was overridden by itself.
    pub fn is_same(mut folder: Folder) -> bool {
        merge::finish(&mut folder);
        let docs = Docs { folders: vec![folder.clone()], is_cut: false };
        merge::override_with(&mut folder, docs.folders[0].clone());
        merge::finish(&mut folder);
        compare_unpacked(&docs, &Docs { folders: vec![folder], is_cut: false }).is_empty()
    }
}
