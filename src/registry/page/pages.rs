//! What pages need.

use std::sync::Arc;

use super::send_budget::SendBudget;
use crate::registry::aliases::Aliases;
use crate::registry::auth::Access;
use crate::registry::docs::Library;
use crate::registry::index::Index;
use crate::registry::session::Sessions;

/// Everything that pages need.
pub struct Pages {
    pub index: Arc<Index>,
    pub access: Access,
    pub aliases: Aliases,
    pub sessions: Sessions,
    pub library: Library,
    pub send_budget: SendBudget,
    /// `HOST[:PORT]` of `--url`.
    pub host: Option<String>,
}
