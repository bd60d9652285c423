//! What no request may contain.

use http::request::Parts;
use http::{HeaderMap, Response, StatusCode, Version, header};

use super::answer::{Body, error};

/// Refuses requests whose `Host` is not certain (RFC 9112, section 3.2), two `Authorization` headers, since a proxy may have
/// checked the other one, and an unexpected body, since a proxy could read its bytes as another request.
///
/// `most`: the largest body that is expected, in bytes.
pub(super) fn check(head: &Parts, most: u64) -> Result<(), Box<Response<Body>>> {
    let headers = &head.headers;
    let hosts = headers.get_all(header::HOST).into_iter().count();
    if hosts > 1 || (hosts == 0 && head.version == Version::HTTP_11) {
        return refusal(
            StatusCode::BAD_REQUEST,
            "Bad Request: not one Host header",
            "The request must have exactly one Host header.\n",
        );
    }
    if headers.get_all(header::AUTHORIZATION).into_iter().nth(1).is_some() {
        return refusal(
            StatusCode::BAD_REQUEST,
            "Bad Request: two Authorization headers",
            "The request has more than one Authorization header.\n",
        );
    }
    match body_length(headers) {
        Some(length) if length <= most => Ok(()),
        Some(_) if most > 0 => {
            refusal(StatusCode::PAYLOAD_TOO_LARGE, "Content Too Large", "The request's body is too large.\n")
        }
        None if most > 0 => refusal(
            StatusCode::LENGTH_REQUIRED,
            "Length Required",
            "The request's body has no Content-Length.\n",
        ),
        _ => refusal(
            StatusCode::BAD_REQUEST,
            "Bad Request: unexpected body",
            "The request has a body, which is not expected here.\n",
        ),
    }
}

pub(super) fn refusal<T>(
    status: StatusCode,
    phrase: &'static str,
    sentence: &'static str,
) -> Result<T, Box<Response<Body>>> {
    Err(Box::new(error(status, phrase, sentence)))
}

/// The length of the body; `None` if it has no certain one.
fn body_length(headers: &HeaderMap) -> Option<u64> {
    if headers.contains_key(header::TRANSFER_ENCODING) {
        return None;
    }
    let Some(length) = headers.get(header::CONTENT_LENGTH) else { return Some(0) };
    length.to_str().ok()?.parse().ok()
}
