//! The range of bytes that a client requests. Pure.

use http::{HeaderMap, HeaderName, header};

/// The bytes to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Selection {
    Whole,
    /// From the first to the last byte.
    Part(u64, u64),
    /// Bytes that do not exist.
    Unsatisfiable,
}

/// What `Range` and `If-Range` select of `size` bytes. A header that is not understood, and one with several ranges, selects
/// everything, and so does one that names all bytes: only the whole object comes with its checksum.
pub(super) fn select(headers: &HeaderMap, size: u64, etag: &str) -> Selection {
    let Some(range) = single(headers, &header::RANGE) else { return Selection::Whole };
    // A part of other content must not be appended to what the client has.
    if headers.contains_key(header::IF_RANGE) && single(headers, &header::IF_RANGE) != Some(etag) {
        return Selection::Whole;
    }
    parse(range, size).unwrap_or(Selection::Whole)
}

/// The only value of a header.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).into_iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value.trim())
}

/// `None` if the header is not understood.
fn parse(range: &str, size: u64) -> Option<Selection> {
    let (unit, range) = range.split_once('=')?;
    let (first, last) = range.trim().split_once('-')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = match (first, last) {
        ("", count) => (size.saturating_sub(number(count)?), u64::MAX),
        (first, "") => (number(first)?, u64::MAX),
        (first, last) => (number(first)?, number(last)?),
    };
    if first > last {
        return None;
    }
    Some(if first >= size {
        Selection::Unsatisfiable
    } else if first == 0 && last >= size - 1 {
        Selection::Whole
    } else {
        Selection::Part(first, last.min(size - 1))
    })
}

/// A number of digits only. One that is too large is beyond every object.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ETAG: &str = "\"sha256-aa\"";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn selected(range: &str) -> Selection {
        select(&headers(&[("range", range)]), 10, ETAG)
    }

    #[test]
    fn one_range_is_understood() {
        use Selection::{Part, Unsatisfiable, Whole};
        for (range, selection) in [
            ("bytes=0-0", Part(0, 0)),
            ("bytes=2-5", Part(2, 5)),
            ("Bytes = 2-5", Part(2, 5)),
            ("bytes=9-9", Part(9, 9)),
            ("bytes=2-", Part(2, 9)),
            ("bytes=2-99999999999999999999999", Part(2, 9)),
            ("bytes=-3", Part(7, 9)),
            ("bytes=0-8", Part(0, 8)),
            ("bytes=0-", Whole),
            ("bytes=0-9", Whole),
            ("bytes=0-99", Whole),
            ("bytes=-10", Whole),
            ("bytes=-30", Whole),
            ("bytes=10-", Unsatisfiable),
            ("bytes=10-20", Unsatisfiable),
            ("bytes=99999999999999999999999-", Unsatisfiable),
            ("bytes=-0", Unsatisfiable),
            ("bytes=0-1,3-4", Whole),
            ("bytes=5-2", Whole),
            ("bytes=-", Whole),
            ("bytes=+1-2", Whole),
            ("bytes=1 -2", Whole),
            ("bytes=--2", Whole),
            ("bytes=", Whole),
            ("lines=0-1", Whole),
            ("", Whole),
        ] {
            assert_eq!(selected(range), selection, "{range}");
        }
        assert_eq!(select(&HeaderMap::new(), 10, ETAG), Whole);
        let two = headers(&[("range", "bytes=0-1"), ("range", "bytes=0-1")]);
        assert_eq!(select(&two, 10, ETAG), Whole);
    }

    #[test]
    fn a_range_of_other_content_is_not_sent() {
        let with = |if_range| select(&headers(&[("range", "bytes=2-5"), ("if-range", if_range)]), 10, ETAG);
        assert_eq!(with(ETAG), Selection::Part(2, 5));
        for other in ["\"sha256-bb\"", "W/\"sha256-aa\"", "Thu, 01 Jan 2026 00:00:00 GMT", ""] {
            assert_eq!(with(other), Selection::Whole, "{other}");
        }
    }

    proptest! {
        #[test]
        fn a_part_is_never_outside_of_the_object(range in "(bytes=)?[0-9,-]{0,24}", size in any::<u64>()) {
            if let Selection::Part(first, last) = select(&headers(&[("range", &range)]), size, ETAG) {
                prop_assert!(first <= last && last < size);
            }
        }

        #[test]
        fn an_explicit_range_selects_what_it_names(first in 0..100_u64, length in 1..100_u64, size in 1..100_u64) {
            let last = first + length - 1;
            let selection = select(&headers(&[("range", &format!("bytes={first}-{last}"))]), size, ETAG);
            let expected = match (first, last.min(size - 1)) {
                (first, _) if first >= size => Selection::Unsatisfiable,
                (0, last) if last == size - 1 => Selection::Whole,
                (first, last) => Selection::Part(first, last),
            };
            prop_assert_eq!(selection, expected);
        }

        #[test]
        fn any_text_is_read(range in "[ -~]{0,60}", size in any::<u64>()) {
            select(&headers(&[("range", &range), ("if-range", &range)]), size, ETAG);
        }
    }
}
