//! The token in the headers of a request.

use http::HeaderMap;
use http::header::AUTHORIZATION;
use secrecy::SecretString;

use super::denied::{self, Denied};
use super::token::is_token68;

/// A longer token is refused.
const LONGEST_TOKEN: usize = 16 * 1024;

/// The token of a request, if it has one. Its characters are those of `token68` (RFC 9110). A request with two headers has been
/// refused before, in `http/rules.rs`.
pub(super) fn token(headers: &HeaderMap) -> Result<Option<SecretString>, Denied> {
    let Some(value) = headers.get(AUTHORIZATION) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    // The clients send the scheme alone if the token is empty.
    let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Denied::Unauthenticated(denied::NOT_BEARER));
    }
    checked(rest.trim_matches(' ')).map(Some)
}

/// Checks the length and the characters of a token.
pub(super) fn checked(token: &str) -> Result<SecretString, Denied> {
    if token.is_empty() {
        return Err(Denied::Unauthenticated(denied::EMPTY));
    }
    if token.len() > LONGEST_TOKEN {
        return Err(Denied::Unauthenticated(denied::TOO_LONG));
    }
    if !is_token68(token) {
        return Err(Denied::Unauthenticated(denied::MALFORMED));
    }
    Ok(SecretString::from(token))
}
