//! Answers that several pages give, and the host of a request.

use http::{HeaderMap, Response, StatusCode, header};

use super::shell::{Viewer, message};
use crate::domain::names::is_registry_host;
use crate::registry::auth::Denied;
use crate::registry::http::Body;
use crate::registry::http::answer::{answer, private, set, set_text, with_remedy};

pub(super) const NO_DOCS: &str = "documentation not available";

type NotFound = (&'static str, &'static str);
pub(super) const NO_MODULE: NotFound =
    ("No such module", "There is no module at this address, or you have no permission to see it.");
pub(super) const NO_VERSION: NotFound =
    ("No such version", "There is no such version of this module, or it is not stored yet.");

pub(super) fn not_found(viewer: &Viewer, (title, sentence): NotFound) -> Response<Body> {
    message(viewer, StatusCode::NOT_FOUND, "Not Found", title, sentence)
}

/// A page for a request that is denied: the same whether the module exists or not.
pub(super) fn refused(denied: Denied, viewer: &Viewer) -> Response<Body> {
    let why = denied.phrase();
    let (phrase, title, sentence) = match denied {
        // How a client gets a token is of no use in a browser.
        Denied::Unauthenticated(_) if denied.lacks_token() => {
            (why, "Sign in to see this page", "Only users who may install a module can see it.")
        }
        Denied::Unauthenticated(_) => (why, "Sign in again to see this page", why),
        Denied::Forbidden => (
            "Forbidden",
            "You have no permission to see this page",
            "The module does not exist, or you have no permission to get modules/download in its namespace.",
        ),
        Denied::TooMany { .. } | Denied::Unavailable { .. } => (why, "Not now", why),
    };
    let page = message(viewer, denied.status(), phrase, title, sentence);
    with_remedy(page, denied.retry_after())
}

/// A redirect to the list of modules, with these words.
pub(super) fn to_list(words: &str) -> Response<Body> {
    let mut answer = answer(StatusCode::FOUND, "Found", Body::empty());
    let to = if words.is_empty() { "/".to_owned() } else { format!("/?q={words}") };
    set_text(&mut answer, header::LOCATION, &to);
    set(&mut answer, header::CACHE_CONTROL, "no-store");
    answer
}

pub(super) fn json(body: Vec<u8>) -> Response<Body> {
    let mut answer = answer(StatusCode::OK, "OK", body);
    set(&mut answer, header::CONTENT_TYPE, "application/json");
    private(answer)
}

/// The placeholder in a snippet for a host that is not known. An address without a host belongs to the public registry.
pub(super) const NO_HOST: &str = "HOST";

/// `Host`, if an address may begin with it. It is shown to the one who sent it only.
pub(super) fn stated_host(headers: &HeaderMap) -> Option<String> {
    let host = headers.get(header::HOST)?.to_str().ok()?;
    is_registry_host(host).then(|| host.to_owned())
}
