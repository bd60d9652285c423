//! The records of a pax extension header.
//!
//! The tar crate ends a record at the first newline, but a record contains its length, and a name or link target may contain a
//! newline.

use super::ArchiveError;

/// A key and its value.
type Record<'a> = (&'a [u8], &'a [u8]);

/// The records in `data`, `LENGTH KEY=VALUE` each, with the newline that ends it counted.
pub(super) fn records(mut data: &[u8]) -> impl Iterator<Item = Result<Record<'_>, ArchiveError>> {
    std::iter::from_fn(move || {
        if data.is_empty() {
            return None;
        }
        let Some((record, rest)) = next(data) else {
            data = &[];
            return Some(Err(ArchiveError::corrupt("malformed pax extension")));
        };
        data = rest;
        Some(Ok(record))
    })
}

fn next(data: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let space = data.iter().position(|byte| *byte == b' ')?;
    let digits = data[..space].iter().all(u8::is_ascii_digit);
    let len: usize = digits.then(|| str::from_utf8(&data[..space]).ok()?.parse().ok()).flatten()?;
    let (record, rest) = data.split_at_checked(len)?;
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some(((&record[..equals], &record[equals + 1..]), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(data: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
        records(data).map(Result::ok).collect()
    }

    #[test]
    fn a_record_is_as_long_as_it_says() {
        let none: Vec<Record<'_>> = Vec::new();
        assert_eq!(all(b""), Some(none));
        assert_eq!(all(b"8 a=b=c\n"), Some(vec![(&b"a"[..], &b"b=c"[..])]));
        assert_eq!(all(b"6 a=b\n5 c=\n"), Some(vec![(&b"a"[..], &b"b"[..]), (b"c", b"")]));
        let long = b"16 linkpath=a\nb\n6 a=b\n";
        assert_eq!(all(long), Some(vec![(&b"linkpath"[..], &b"a\nb"[..]), (b"a", b"b")]));
    }

    #[test]
    fn anything_else_is_malformed() {
        let cases: [&[u8]; 12] = [
            b"nonsense\n",
            b"6 a=b",
            b"5 a=b\n",
            b"7 a=b\n",
            b"+6 a=b\n",
            b" a=b\n",
            b"6  ab\n",
            b"0 a=b\n",
            b"2 a=b\n",
            b"99999999999999999999 a=b\n",
            b"6 a=b\n\n",
            b"6 a=b\n\0\0",
        ];
        for data in cases {
            assert_eq!(all(data), None, "{}", data.escape_ascii());
        }
    }
}
