//! The identity of a request for a page.

use std::sync::Arc;

use http::HeaderMap;

use super::pages::Pages;
use super::shell::Viewer;
use crate::registry::auth::{Denied, Identity, Kind};
use crate::registry::http::Peer;

/// The sender of a request for a page or its data.
pub(super) struct Requester {
    pub identity: Arc<Identity>,
    pub viewer: Viewer,
    pub peer: Peer,
}

impl Requester {
    fn new(identity: Arc<Identity>, path: &str, peer: Peer) -> Self {
        let user = (identity.kind != Kind::Anonymous).then(|| identity.user.clone());
        Self { identity, viewer: Viewer::at(path, user), peer }
    }
}

impl Pages {
    /// Who sends a request of the API: a session counts for pages only.
    pub(super) async fn client(&self, headers: &HeaderMap, peer: Peer) -> Result<Requester, Denied> {
        Ok(Requester::new(self.access.identify(headers, peer).await?, "/", peer))
    }

    /// Who opens the page at a path.
    pub(super) async fn requester(
        &self,
        path: &str,
        headers: &HeaderMap,
        peer: Peer,
    ) -> Result<Requester, Denied> {
        let identity = self.sessions.identify(&self.access, headers, peer).await?;
        Ok(Requester::new(identity, path, peer))
    }
}
