//! Documentation of a module, read from its stored archive: README, inputs, outputs, requirements, resources.
//!
//! Archives are strangers' input. What is read is bounded in size, number, depth and time, and a file that cannot be read costs its own
//! contents only. Types and defaults are shown as they are written, as `terraform-config-inspect` does.
//!
//! ```text
//! archive ─► folders (which files) ─► native │ json (one file) ─► merge (override files) ─► Docs ─► compare
//!    └───────── library: fetches, reads and keeps; markdown: HTML of READMEs
//! ```

mod compare;
mod folders;
mod json;
mod library;
mod markdown;
mod merge;
mod model;
mod native;
#[cfg(test)]
mod tests;
mod text;

pub use compare::{Change, Comparison, ModuleChanges, Presence, compare};
pub use folders::{Refused, read};
pub use library::{Library, NoDocs, Packed, ShownFolder};
pub use markdown::{Links, to_html};
pub use model::{Docs, Folder, Input, ModuleCall, Output, Provider, Resource, ResourceMode, Unreadable};
