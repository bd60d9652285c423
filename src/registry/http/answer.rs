//! Answers with a reason phrase, which `terraform init` prints.

use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use hyper::ext::ReasonPhrase;

/// The body of an answer.
pub type Body = axum::body::Body;

/// An answer with a reason phrase of fixed words.
pub fn answer(status: StatusCode, phrase: &'static str, body: impl Into<Body>) -> Response<Body> {
    let mut answer = Response::new(body.into());
    *answer.status_mut() = status;
    // A phrase with characters that are not allowed is left out, and the standard one is sent.
    if let Ok(phrase) = ReasonPhrase::try_from(phrase.as_bytes()) {
        answer.extensions_mut().insert(phrase);
    }
    answer
}

/// An error as plain text, which is not cached. The sentence is for the client's user: `terraform init` prints it for downloads.
pub fn error(status: StatusCode, phrase: &'static str, sentence: impl Into<Body>) -> Response<Body> {
    let mut answer = answer(status, phrase, sentence);
    set(&mut answer, header::CONTENT_TYPE, "text/plain; charset=utf-8");
    set(&mut answer, header::CACHE_CONTROL, "no-store");
    set(&mut answer, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    answer
}

/// Sets a header of fixed words.
pub fn set(answer: &mut Response<Body>, name: HeaderName, value: &'static str) {
    answer.headers_mut().insert(name, HeaderValue::from_static(value));
}

/// Sets a header, unless its value has characters that are not allowed.
pub fn set_text(answer: &mut Response<Body>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
}

/// Adds the headers of an answer that depends on the client's permissions: only this client may cache it, and has to validate it
/// before each use.
pub fn private(mut answer: Response<Body>) -> Response<Body> {
    set(&mut answer, header::CACHE_CONTROL, "private, no-cache");
    set(&mut answer, header::VARY, "Authorization, Accept-Encoding");
    set(&mut answer, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    answer
}

/// Has the connection closed after an answer.
pub fn closing(mut answer: Response<Body>) -> Response<Body> {
    set(&mut answer, header::CONNECTION, "close");
    answer
}

/// Adds what the client can do next: after 401, send a token (RFC 6750); after a number of seconds, if there is one, try again.
pub fn with_remedy(mut answer: Response<Body>, seconds: Option<u32>) -> Response<Body> {
    if answer.status() == StatusCode::UNAUTHORIZED {
        set(&mut answer, header::WWW_AUTHENTICATE, "Bearer");
    }
    if let Some(seconds) = seconds {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    answer
}
