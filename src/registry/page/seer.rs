//! Who looks at a page, and the page on which people sign in.

use std::sync::Arc;

use axum::http::{HeaderMap, Response, StatusCode, header};

use super::login::Offer;
use super::pages::Pages;
use super::shell::{Page, Viewer, with_forms};
use crate::registry::auth::{Denied, Identity, Kind};
use crate::registry::http::answer::with_remedy;
use crate::registry::http::{Body, Peer};
use crate::registry::session::Refused;

/// Sentences of the sign-in page about a session without a user.
const NOT_ACCEPTED: &str = "Your session is no longer accepted.";
const NOT_KNOWN: &str = "The registry cannot check your session at the moment.";
const EARLIER: &str = "This browser has a session of an earlier sign-in.";

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
        Ok(Seer::new(self.access.identify(headers, peer.network()).await?, "/", peer))
    }

    /// Who opens the page at a path.
    pub(super) async fn seer(&self, path: &str, headers: &HeaderMap, peer: Peer) -> Result<Seer, Denied> {
        let identity = self.sessions.identify(&self.access, headers, peer.network()).await?;
        Ok(Seer::new(identity, path, peer))
    }

    /// The page on which people sign in and out.
    pub(super) async fn login(&self, back: &str, headers: &HeaderMap, peer: Peer) -> Response<Body> {
        // Without a session there is no identity. A session that has ended counts as none.
        let (mut viewer, mut session) = (Viewer::at(back, None), None);
        if self.sessions.token(headers).is_some() {
            match self.seer(back, headers, peer).await {
                Ok(seer) => viewer = seer.viewer,
                Err(denied) => session = Some(of_session(denied)),
            }
        }
        self.login_page(&viewer, session, None, (StatusCode::OK, "OK"))
    }

    /// The page after an attempt to sign in or out that failed. `back`: where the attempt was to lead.
    pub fn sign_in_failed(&self, refused: &Refused, back: &str, headers: &HeaderMap) -> Response<Body> {
        let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !accepts.contains("text/html") {
            return refused.plain();
        }
        let viewer = Viewer::at(back, None);
        let session = self.sessions.token(headers).map(|_| EARLIER);
        let (sentence, status) = (Some(refused.sentence.as_str()), (refused.status, refused.phrase));
        let page = self.login_page(&viewer, session, sentence, status);
        with_remedy(page, refused.retry_after)
    }

    fn login_page(
        &self,
        viewer: &Viewer,
        session: Option<&'static str>,
        refused: Option<&str>,
        (status, phrase): (StatusCode, &'static str),
    ) -> Response<Body> {
        let offer = Offer {
            viewer,
            session,
            has_provider: self.sessions.is_sso(),
            has_forms: self.sessions.has_forms(),
            refused,
        };
        with_forms(Page { title: "Sign in", words: "", viewer, main: offer.render() }.answer(status, phrase))
    }
}

/// The sentence about a session without a user.
fn of_session(denied: Denied) -> &'static str {
    match denied {
        Denied::Malformed(_) | Denied::Unauthenticated(_) | Denied::Forbidden => NOT_ACCEPTED,
        Denied::TooMany { .. } | Denied::Unavailable { .. } => NOT_KNOWN,
    }
}
