//! What the API server refuses, as the status reports it.

use std::collections::BTreeSet;

use kube::core::Status;

use crate::domain::text::{cut, sentence};

/// The longest part of the API server's message that is kept, in bytes: a webhook may answer with a page.
const MAX_MESSAGE: usize = 400;

/// What the API server refuses now, with messages for the status.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Refused {
    /// The Versions, by name.
    pub names: BTreeSet<String>,
    /// The message for the first of them.
    pub words: String,
    /// The message, if the Module itself cannot be patched.
    pub module: Option<String>,
    /// Whether the creates that were not attempted wait as well.
    pub creates: bool,
}

/// The message of a refusal for the status. `what` begins it: the request that was refused.
pub(super) fn refusal(what: &str, status: &Status) -> String {
    let answer = cut(&status.message, MAX_MESSAGE);
    sentence(&format!("{what}: the API server rejected the request: {answer}"))
}
