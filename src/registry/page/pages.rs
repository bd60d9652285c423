//! What pages need.

use std::sync::Arc;

use super::unsent::Unsent;
use crate::registry::aliases::Aliases;
use crate::registry::auth::Access;
use crate::registry::docs::Library;
use crate::registry::index::Index;
use crate::registry::session::Sessions;

/// Everything that pages need.
pub struct Pages {
    /// All Modules.
    pub index: Arc<Index>,
    /// Who may download.
    pub access: Arc<Access>,
    /// Second names of namespaces.
    pub aliases: Aliases,
    /// Sessions of people.
    pub sessions: Arc<Sessions>,
    /// Documentation of archives.
    pub library: Library,
    /// Answers that are being sent.
    pub unsent: Unsent,
    /// `HOST[:PORT]` of `--url`.
    pub host: Option<String>,
}
