//! The requests that the API server rejects, as the status reports them.

use std::collections::BTreeSet;

use kube::core::Status;

use crate::domain::text::{cut, sentence};

/// The longest part of the API server's message that is kept, in bytes: a webhook may answer with a page.
const MAX_ANSWER: usize = 400;

/// The requests that the API server rejects now, with messages for the status.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RejectedRequests {
    /// The Versions, by name.
    pub names: BTreeSet<String>,
    /// The message for the first of them.
    pub words: String,
    /// The message, if the Module itself cannot be patched.
    pub module: Option<String>,
    /// Whether the creates that were not attempted wait as well.
    pub creates: bool,
}

/// The message of a rejection for the status. `what` begins it: the request that was rejected.
pub(super) fn rejection(what: &str, status: &Status) -> String {
    let answer = cut(&status.message, MAX_ANSWER);
    sentence(&format!("{what}: the API server rejected the request: {answer}"))
}
