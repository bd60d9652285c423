//! Conditional answers: the encoding that the client accepts, and 304 if it has it already.

use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use crate::registry::answers::encoded::{Encodings, accepts_gzip};
use crate::registry::http::Body;
use crate::registry::http::answer::{answer, set};
use crate::registry::http::entity_tag::is_cached;

/// A JSON body in the encoding that the client accepts, or 304 if the client has it.
pub(super) fn conditional(body: &Encodings, request: &HeaderMap) -> Response<Body> {
    let gzip = accepts_gzip(request);
    let encoded = if gzip { &body.gzip } else { &body.plain };
    let mut answer = if is_cached(request, &encoded.etag) {
        answer(StatusCode::NOT_MODIFIED, "Not Modified", Body::empty())
    } else {
        let mut answer = answer(StatusCode::OK, "OK", encoded.body.clone());
        set(&mut answer, header::CONTENT_TYPE, "application/json");
        if gzip {
            set(&mut answer, header::CONTENT_ENCODING, "gzip");
        }
        answer
    };
    if let Ok(etag) = HeaderValue::from_str(&encoded.etag) {
        answer.headers_mut().insert(header::ETAG, etag);
    }
    set(&mut answer, header::CACHE_CONTROL, "private, no-cache");
    set(&mut answer, header::VARY, "Authorization, Accept-Encoding");
    set(&mut answer, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    answer
}
