//! Bodies in both encodings that clients accept.

use std::io::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, Response, StatusCode, header};

use crate::domain::text::hex;
use crate::registry::http::answer::{answer, private, set, set_text};
use crate::registry::http::entity_tag::is_cached;
use crate::registry::http::{Body, MinimumRate};

/// The body in both encodings, each with its entity tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encodings {
    pub plain: Encoded,
    pub gzip: Encoded,
}

/// A body and its strong entity tag. Each encoding has its own (RFC 9110, 8.8.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    pub body: Bytes,
    /// The entity tag, with quotes.
    pub etag: String,
}

impl Encodings {
    /// The body in the encoding that the client accepts, or 304 if the client has it.
    pub(crate) fn answer(&self, request: &HeaderMap) -> Response<Body> {
        let is_gzip = accepts_gzip(request);
        let encoded = if is_gzip { &self.gzip } else { &self.plain };
        respond(request, is_gzip, &encoded.etag, || encoded.body.clone())
    }
}

/// A body in both encodings.
pub(crate) fn encoded(text: Vec<u8>) -> Encodings {
    let hash = hash(&text);
    let [plain, compressed] = [false, true].map(|is_gzip| etag(&hash, is_gzip));
    let gzip = gzip(&text, Compression::default());
    Encodings {
        plain: Encoded { body: text.into(), etag: plain },
        gzip: Encoded { body: gzip.into(), etag: compressed },
    }
}

/// The same answer with a body that is made for one request: it is compressed only if it is sent so.
pub(crate) fn answer_once(text: Vec<u8>, request: &HeaderMap) -> Response<Body> {
    let is_gzip = accepts_gzip(request);
    let etag = etag(&hash(&text), is_gzip);
    let body = || -> Bytes { if is_gzip { gzip(&text, Compression::fast()).into() } else { text.into() } };
    respond(request, is_gzip, &etag, body)
}

fn hash(text: &[u8]) -> String {
    hex(&digest(&SHA256, text).as_ref()[..16])
}

fn etag(hash: &str, is_gzip: bool) -> String {
    format!("\"{hash}{}\"", if is_gzip { "-gzip" } else { "" })
}

fn respond(request: &HeaderMap, is_gzip: bool, etag: &str, body: impl FnOnce() -> Bytes) -> Response<Body> {
    let mut answer = if is_cached(request, etag) {
        answer(StatusCode::NOT_MODIFIED, "Not Modified", Body::empty())
    } else {
        let mut answer = answer(StatusCode::OK, "OK", body());
        set(&mut answer, header::CONTENT_TYPE, "application/json");
        if is_gzip {
            set(&mut answer, header::CONTENT_ENCODING, "gzip");
        }
        // A slow client keeps the bytes of a list in memory that has changed since.
        answer.extensions_mut().insert(MinimumRate::LOWEST);
        answer
    };
    set_text(&mut answer, header::ETAG, etag);
    private(answer)
}

pub(crate) fn gzip(text: &[u8], level: Compression) -> Vec<u8> {
    let mut compressed = GzEncoder::new(Vec::new(), level);
    // Writing to memory cannot fail.
    compressed.write_all(text).and_then(|()| compressed.finish()).unwrap_or_default()
}

/// Whether `Accept-Encoding` accepts gzip (RFC 9110, 12.5.3): named, or by `*`, with a weight above 0.
pub(crate) fn accepts_gzip(request: &HeaderMap) -> bool {
    let values = request.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let mut any = None;
    for part in values.flat_map(|value| value.split(',')) {
        let mut fields = part.split(';').map(str::trim);
        let coding = fields.next().unwrap_or_default();
        let weight = fields.find_map(|field| {
            let (name, value) = field.split_once('=')?;
            name.eq_ignore_ascii_case("q").then_some(value)
        });
        let weight = weight.map_or(Ok(1.0), str::parse::<f32>);
        let accepted = weight.is_ok_and(|weight| weight > 0.0);
        if coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip") {
            return accepted;
        }
        if coding == "*" {
            any = Some(accepted);
        }
    }
    any.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::ACCEPT_ENCODING, value.parse().unwrap())])
    }

    #[test]
    fn a_body_for_one_request_is_answered_as_one_that_is_kept() {
        let text = b"[1]".to_vec();
        let kept = encoded(text.clone());
        for (encoding, encoded) in [("gzip", &kept.gzip), ("identity", &kept.plain)] {
            let mut headers = request(encoding);
            assert_eq!(answer_once(text.clone(), &headers).headers(), kept.answer(&headers).headers());
            headers.insert(header::IF_NONE_MATCH, encoded.etag.parse().unwrap());
            assert_eq!(answer_once(text.clone(), &headers).status(), StatusCode::NOT_MODIFIED);
        }
    }

    #[test]
    fn gzip_is_sent_only_to_those_who_accept_it() {
        for (value, accepted) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5", true),
            ("*", true),
            ("*;q=0", false),
            ("gzip;q=0", false),
            ("gzip;q=0.000, *", false),
            ("gzip;Q=0", false),
            ("gzip; Q=0.5", true),
            ("identity", false),
            ("gzip;q=x", false),
            ("", false),
        ] {
            assert_eq!(accepts_gzip(&request(value)), accepted, "{value}");
        }
    }
}
