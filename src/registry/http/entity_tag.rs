//! Whether a client already has the content that it requests. Pure.

use http::{HeaderMap, header};

/// Whether the client has this content already. `If-None-Match` compares weakly (RFC 9110, 13.1.2).
pub fn is_cached(headers: &HeaderMap, etag: &str) -> bool {
    let values = headers.get_all(header::IF_NONE_MATCH).into_iter();
    let mut tags = values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    tags.any(|tag| {
        let tag = tag.trim();
        tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ETAG: &str = "\"sha256-aa\"";

    fn headers(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::IF_NONE_MATCH, value.parse().unwrap())])
    }

    #[test]
    fn known_content_is_recognised() {
        for (value, cached) in [
            (ETAG, true),
            ("*", true),
            ("W/\"sha256-aa\"", true),
            ("\"x\", \"sha256-aa\"", true),
            ("\"sha256-bb\"", false),
            ("sha256-aa", false),
            ("", false),
        ] {
            assert_eq!(is_cached(&headers(value), ETAG), cached, "{value}");
        }
        assert!(!is_cached(&HeaderMap::new(), ETAG));
    }

    proptest! {
        #[test]
        fn any_text_is_read(value in "[ -~]{0,60}") {
            is_cached(&headers(&value), ETAG);
        }
    }
}
