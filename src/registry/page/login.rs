//! The page on which people sign in and out.

use http::{HeaderMap, Response, StatusCode, header};
use maud::{Markup, html};

use super::pages::Pages;
use super::shell::{Page, Viewer, returning, with_forms};
use crate::registry::auth::Denied;
use crate::registry::http::answer::with_remedy;
use crate::registry::http::{Body, Peer};
use crate::registry::session::SignInError;

/// Sentences about a session without a user.
const NOT_ACCEPTED: &str = "Your session is no longer accepted.";
const NOT_KNOWN: &str = "The registry cannot check your session at the moment.";
const EARLIER: &str = "This browser has a session of an earlier sign-in.";

impl Pages {
    /// The page on which people sign in and out. `back`: where to go afterwards.
    pub(super) async fn login(&self, back: &str, headers: &HeaderMap, peer: Peer) -> Response<Body> {
        // Without a session there is no identity. A session that has ended counts as none.
        let (mut viewer, mut session) = (Viewer::at(back, None), None);
        if self.sessions.token(headers).is_some() {
            match self.requester(back, headers, peer).await {
                Ok(requester) => viewer = requester.viewer,
                Err(denied) => session = Some(of_session(denied)),
            }
        }
        self.login_page(&viewer, session, None, (StatusCode::OK, "OK"))
    }

    /// The page after an attempt to sign in or out that failed. `back`: where the attempt was to lead.
    pub fn sign_in_failed(&self, refused: &SignInError, back: &str, headers: &HeaderMap) -> Response<Body> {
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

    /// `session`: the sentence about a session without a user, which can only be ended. `refused`: why the last attempt failed.
    fn login_page(
        &self,
        viewer: &Viewer,
        session: Option<&'static str>,
        refused: Option<&str>,
        (status, phrase): (StatusCode, &'static str),
    ) -> Response<Body> {
        let Viewer { user, path, .. } = viewer;
        let (has_provider, has_forms) = (self.sessions.is_sso(), self.sessions.has_forms());
        let main = html! {
            div.message {
                h1 { @if user.is_some() { "You are signed in" } @else { "Sign in" } }
                @if let Some(sentence) = refused { p.notice.bad role="alert" { (sentence) } }
                @if let Some(user) = user {
                    p { "As " code { (user) } "." }
                    @if has_forms { (sign_out("/")) }
                } @else {
                    @if let Some(sentence) = session {
                        p.notice.warn role="status" { (sentence) }
                        @if has_forms { (sign_out(path)) }
                    }
                    @if has_provider {
                        p { a.button href=(returning("/login/start", path)) { "Sign in with the identity provider" } }
                    }
                    @if has_forms { (sign_in(path)) }
                    @if !has_provider && !has_forms {
                        p { "Signing in is not possible here, since the registry runs without an https URL in "
                            code { "--url" } "." }
                    }
                }
                p { a href=(path) { "Back" } }
            }
        };
        with_forms(Page { title: "Sign in", words: "", viewer, main }.answer(status, phrase))
    }
}

/// The sentence about a session without a user.
fn of_session(denied: Denied) -> &'static str {
    match denied {
        Denied::Unauthenticated(_) | Denied::Forbidden => NOT_ACCEPTED,
        Denied::TooMany { .. } | Denied::Unavailable { .. } => NOT_KNOWN,
    }
}

fn sign_in(back: &str) -> Markup {
    html! {
        form action="/login" method="post" {
            input type="hidden" name="return" value=(back);
            label for="token" { "Token" }
            input #token type="password" name="token" required autocomplete="off" maxlength="4096";
            p.count { "The token that Terraform uses for this registry. It is kept in a cookie of this browser, encrypted, for at most 12 hours." }
            button type="submit" { "Sign in" }
        }
    }
}

fn sign_out(back: &str) -> Markup {
    html! {
        form action="/logout" method="post" {
            input type="hidden" name="return" value=(back);
            button type="submit" { "Sign out" }
        }
    }
}
