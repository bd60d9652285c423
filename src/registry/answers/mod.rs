//! The bodies of the registry's answers.

pub mod detail;
pub mod encoded;
pub mod listing;
