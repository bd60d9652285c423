//! The bodies of the registry's answers.

pub(crate) mod detail;
pub(crate) mod encoded;
pub(crate) mod listing;
