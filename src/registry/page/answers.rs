//! Answers that several pages give, and the host of a request.

use axum::http::{HeaderMap, Response, StatusCode, header};

use super::shell::{Viewer, message};
use crate::registry::auth::Denied;
use crate::registry::http::Body;
use crate::registry::http::answer::{answer, private, set, with_remedy};

pub(super) const NO_DOCS: &str = "documentation not available";

type NotFound = (&'static str, &'static str);
pub(super) const NO_MODULE: NotFound =
    ("No such module", "There is no module at this address, or you may not see it.");
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
            "You may not see this page",
            "The module does not exist, or you have no right to get modules/download in its namespace.",
        ),
        Denied::Malformed(_) => (why, "This request cannot be read", why),
        Denied::TooMany { .. } | Denied::Unavailable { .. } => (why, "Not now", why),
    };
    let page = message(viewer, denied.status(), phrase, title, sentence);
    with_remedy(page, denied.retry_after())
}

pub(super) fn json(body: Vec<u8>) -> Response<Body> {
    let mut answer = answer(StatusCode::OK, "OK", body);
    set(&mut answer, header::CONTENT_TYPE, "application/json");
    private(answer)
}

/// The placeholder in a snippet for a host that is not known. An address without a host belongs to the public registry.
pub(super) const NO_HOST: &str = "HOST";

/// `Host`, if that is a host that an address may begin with: the clients take only one with a dot. It is shown to the one who
/// sent it only.
pub(super) fn stated_host(headers: &HeaderMap) -> Option<String> {
    let host = headers.get(header::HOST)?.to_str().ok()?;
    let (name, port) = host.rsplit_once(':').unwrap_or((host, "443"));
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            // The clients take the Unicode form only.
            && !label.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("xn--"))
            && !label.ends_with('-')
    };
    let is_name = name.len() <= 253 && name.contains('.') && name.split('.').all(is_label);
    let is_port = port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok();
    (is_name && is_port).then(|| host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_the_clients_refuse_is_not_shown() {
        for (host, is_shown) in [
            ("registry.acme.io", true),
            ("registry.acme.io:8443", true),
            ("192.0.2.1:8443", true),
            ("localhost:8443", false),
            ("registry", false),
            ("xn--mdulos-bxa.acme.io", false),
            ("registry.XN--mdulos-bxa.io", false),
            ("[::1]:8443", false),
            ("my_registry:8443", false),
            ("my_registry.acme.io", false),
            (".", false),
            ("acme.", false),
            ("-a.acme.io", false),
            ("acme.io:", false),
            ("acme.io:+443", false),
            ("acme.io:70000", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(header::HOST, host.parse().unwrap())]);
            assert_eq!(stated_host(&headers), is_shown.then(|| host.to_owned()), "{host}");
        }
    }
}
