//! The identity of a request for a page.

use std::sync::Arc;

use axum::http::HeaderMap;

use super::pages::Pages;
use super::shell::Viewer;
use crate::registry::auth::{Denied, Identity, Kind};
use crate::registry::http::Peer;

/// Who looks at a page.
pub(super) struct Seer {
    pub identity: Arc<Identity>,
    pub viewer: Viewer,
    pub peer: Peer,
}

impl Seer {
    fn new(identity: Arc<Identity>, path: &str, peer: Peer) -> Self {
        let user = (identity.kind != Kind::Anonymous).then(|| identity.user.clone());
        Self { identity, viewer: Viewer::at(path, user), peer }
    }
}

impl Pages {
    /// Who sends a request of the API: a session counts for pages only.
    pub(super) async fn client(&self, headers: &HeaderMap, peer: Peer) -> Result<Seer, Denied> {
        Ok(Seer::new(self.access.identify(headers, peer).await?, "/", peer))
    }

    /// Who opens the page at a path.
    pub(super) async fn seer(&self, path: &str, headers: &HeaderMap, peer: Peer) -> Result<Seer, Denied> {
        let identity = self.sessions.identify(&self.access, headers, peer).await?;
        Ok(Seer::new(identity, path, peer))
    }
}
