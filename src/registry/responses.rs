//! Answers of fixed words. Phrases and sentences hold no text of a request; a withdrawal's reason is the publisher's own.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};

use super::auth::Denied;
use super::http::Body;
use super::http::answer::{answer, error, set, with_remedy};

const X_TERRAFORM_GET: HeaderName = HeaderName::from_static("x-terraform-get");

/// Service discovery: `document`, or that of a registry without an identity provider. The address is relative, so that it
/// leads to the server that answers.
pub(super) fn discovery(document: Option<Bytes>) -> Response<Body> {
    let document = document.unwrap_or(Bytes::from_static(br#"{"modules.v1":"/v1/modules/"}"#));
    let mut answer = answer(StatusCode::OK, "OK", document);
    set(&mut answer, header::CONTENT_TYPE, "application/json");
    set(&mut answer, header::CACHE_CONTROL, "max-age=60");
    set(&mut answer, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    answer
}

/// The location of an archive, in the only form that all versions of both clients accept.
pub(super) fn located(location: &str) -> Response<Body> {
    let Ok(mut value) = HeaderValue::from_str(location) else { return version_not_found() };
    value.set_sensitive(true);
    let mut answer = answer(StatusCode::NO_CONTENT, "No Content", Body::empty());
    answer.headers_mut().insert(X_TERRAFORM_GET, value);
    set(&mut answer, header::CACHE_CONTROL, "no-store");
    answer
}

pub(super) fn no_such_path() -> Response<Body> {
    let sentence = "This is a registry of Terraform and OpenTofu modules. Write source = \"HOST/NAMESPACE/NAME/SYSTEM\" and a \
                    version in full, such as 1.2.3, in a module block.\n";
    error(StatusCode::NOT_FOUND, "Not Found", sentence)
}

pub(super) fn module_not_found() -> Response<Body> {
    let sentence = "There is no such module, or none of its versions is stored yet.\n";
    error(StatusCode::NOT_FOUND, "Not Found", sentence)
}

pub(super) fn version_not_found() -> Response<Body> {
    let sentence = "There is no such version, or it is not stored yet.\n";
    error(StatusCode::NOT_FOUND, "Not Found", sentence)
}

/// A version that its publisher has withdrawn.
pub(super) fn withdrawn(reason: &str) -> Response<Body> {
    error(StatusCode::GONE, "Gone: version withdrawn", format!("This version was withdrawn: {reason}\n"))
}

/// The same for every link that is not valid now, whether what it names exists or not.
pub(super) fn link_refused() -> Response<Body> {
    let sentence = "This link is not valid, or it has expired: run init again.\n";
    error(StatusCode::FORBIDDEN, "Forbidden: link not valid", sentence)
}

/// `methods`: those that are answered at this path, such as `GET, HEAD`.
pub(super) fn method_not_allowed(methods: &'static str) -> Response<Body> {
    let sentence = match methods.split_once(", ") {
        Some((one, other)) => format!("This path accepts only {one} and {other}.\n"),
        None => format!("This path accepts only {methods}.\n"),
    };
    let mut answer = error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed", sentence);
    set(&mut answer, header::ALLOW, methods);
    answer
}

/// A request of a client that is not known, or may not download.
pub(super) fn denied(denied: Denied) -> Response<Body> {
    let phrase = denied.phrase();
    let sentence = match denied {
        Denied::Forbidden => "The module does not exist, or you have no permission to download it: ask for the permission to get modules/download \
                              in its namespace.\n"
            .to_owned(),
        _ => format!("{phrase}\n"),
    };
    with_remedy(error(denied.status(), phrase, sentence), denied.retry_after())
}
