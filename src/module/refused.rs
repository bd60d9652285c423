//! What the API server refuses, as the status reports it.

use std::collections::BTreeSet;

/// What the API server refuses now, with messages for the status.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Refused {
    /// The Versions, by name.
    pub names: BTreeSet<String>,
    /// The message for the first of them.
    pub words: String,
    /// The message, if the Module itself cannot be patched.
    pub module: Option<String>,
    /// Whether the creates that were not attempt wait as well.
    pub creates: bool,
}

impl Refused {
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.module.is_none()
    }
}
