//! Parts of a request of signing in: its origin, its form, and the path to return to. Pure.

use http::{HeaderMap, StatusCode, header};
use secrecy::SecretString;
use url::{Host, Url, form_urlencoded};

use super::sign_in_error::SignInError;

/// A longer path is not one of the registry's.
const LONGEST_PATH: usize = 1024;

/// Checks that a form was sent by a page of this registry: no other origin can make a browser sign in or out. `url`: `--url`, if
/// browsers keep cookies there.
pub(super) fn check_origin(headers: &HeaderMap, url: Option<&Url>) -> Result<(), SignInError> {
    let Some(url) = url else {
        let sentence = "Signing in is not possible: the registry runs without an https --url.";
        return Err(SignInError::forbidden(sentence));
    };
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let own = url.origin().ascii_serialization();
    match (origins.next(), origins.next()) {
        (Some(origin), None) if origin.as_bytes() == own.as_bytes() => Ok(()),
        _ => Err(SignInError::forbidden(
            "This form was not sent by a page of this registry: open the page at the registry's own address and try again.",
        )),
    }
}

/// Whether browsers keep a cookie with `Secure` at this URL: over HTTPS, and most of them from this very machine.
pub(super) fn keeps_cookies(url: &Url) -> bool {
    let is_loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    url.scheme() == "https" || is_loopback
}

/// The fields of a form.
pub(super) struct Form {
    pub token: SecretString,
    /// The path to return to.
    pub back: String,
}

/// The fields of a form; the last of a name counts.
pub(super) fn form(headers: &HeaderMap, body: &[u8]) -> Result<Form, SignInError> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        let phrase = "Unsupported Media Type";
        let sentence = "Send a form: application/x-www-form-urlencoded.";
        return Err(SignInError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, phrase, sentence));
    }
    let mut form = Form { token: SecretString::from(""), back: "/".to_owned() };
    for (name, value) in form_urlencoded::parse(body) {
        match &*name {
            // Pasted, often with the end of its line.
            "token" => form.token = SecretString::from(value.trim()),
            "return" => form.back = String::from(local(&value)),
            _ => {}
        }
    }
    Ok(form)
}

/// The value of `return` in a query or a form.
pub fn back(query: &[u8]) -> String {
    let mut values = form_urlencoded::parse(query).filter(|(name, _)| name == "return");
    values.next().map_or_else(|| "/".to_owned(), |(_, value)| local(&value).to_owned())
}

/// The text if it is one path of this registry, else `/`. Browsers read `//` and `/\` as the start of a host.
pub(crate) fn local(path: &str) -> &str {
    let characters = |byte: u8| byte.is_ascii_graphic() && byte != b'\\';
    let one_path = path.starts_with('/') && !path.starts_with("//") && path.len() <= LONGEST_PATH;
    if one_path && path.bytes().all(characters) { path } else { "/" }
}
