//! Cookies. Browsers accept a cookie with the prefix `__Host-` only over HTTPS and from this very host, so that no other host of
//! the domain can set one.

use http::HeaderValue;
use http::{HeaderMap, header};

use crate::registry::link::LinkKeys;
use crate::registry::seal::OVERHEAD;

/// A session.
pub(super) const SESSION: &str = "__Host-opendepot-session";
/// A sign-in that waits for the identity provider.
pub(super) const ATTEMPT: &str = "__Host-opendepot-sign-in";
/// Browsers keep 4,096 bytes of name and value.
const LONGEST_VALUE: usize = 4000;
/// The longest content whose sealed value, in base64url, is short enough.
pub(super) const LONGEST_CONTENT: usize = LONGEST_VALUE / 4 * 3 - OVERHEAD;

/// `Set-Cookie` that stores a sealed content for a number of seconds. `None` if it is too long for a browser.
pub(super) fn kept(name: &'static str, content: &[u8], seconds: u64, keys: &LinkKeys) -> Option<HeaderValue> {
    if content.len() > LONGEST_CONTENT {
        return None;
    }
    header_value(name, &keys.seal(name, content)?, seconds)
}

/// `Set-Cookie` that removes a cookie.
pub(super) fn removed(name: &'static str) -> Option<HeaderValue> {
    header_value(name, "", 0)
}

/// The content of a cookie of a request.
pub(super) fn opened(headers: &HeaderMap, name: &str, keys: &LinkKeys) -> Option<Vec<u8>> {
    let texts = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = texts.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(own, _)| *own == name).find_map(|(_, value)| keys.open(name, value))
}

fn header_value(name: &str, value: &str, seconds: u64) -> Option<HeaderValue> {
    let text = format!("{name}={value}; Max-Age={seconds}; Path=/; Secure; HttpOnly; SameSite=Lax");
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
