//! Request tokens: values of the annotations `requestedAt` and `module-request`, as they are compared and recorded.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};

use super::{MODULE_REQUEST, REQUESTED_AT};

/// The longest token that is kept as written, in bytes. An annotation may hold 256 KiB, and a token is kept in memory for
/// each object that carries one.
const LONGEST: usize = 256;

/// The token as it is compared and recorded: itself, or `sha256:HEX` of a token over 256 bytes. Shortening a shortened
/// token changes nothing.
pub fn shorten(token: &str) -> Cow<'_, str> {
    if token.len() <= LONGEST {
        return Cow::Borrowed(token);
    }
    let mut hash = String::from("sha256:");
    for byte in digest(&SHA256, token.as_bytes()).as_ref() {
        // Writing to a string cannot fail.
        let _ = write!(hash, "{byte:02x}");
    }
    Cow::Owned(hash)
}

/// Shortens the tokens among an object's annotations.
pub fn shorten_annotations(annotations: &mut BTreeMap<String, String>) {
    for key in [REQUESTED_AT, MODULE_REQUEST] {
        if let Some(token) = annotations.get_mut(key) {
            shorten_recorded(token);
        }
    }
}

/// Shortens a recorded token in place: an earlier release recorded long ones as written.
pub fn shorten_recorded(token: &mut String) {
    if let Cow::Owned(short) = shorten(token) {
        *token = short;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_tokens_are_hashed_and_short_ones_kept() {
        let (longest, long) = ("é".repeat(128), "x".repeat(257));
        assert_eq!(shorten(&longest), longest);
        let short = shorten(&long).into_owned();
        assert_eq!(short, "sha256:15eb95a462ee20bd91a415ae2d4aed341288186ddaa2b37908f7d592f0c3f85f");
        assert_eq!(shorten(&short), short);
        let mut annotations =
            BTreeMap::from([(REQUESTED_AT.to_owned(), long), ("other".to_owned(), longest)]);
        let other = annotations["other"].clone();
        shorten_annotations(&mut annotations);
        assert_eq!(
            annotations,
            BTreeMap::from([(REQUESTED_AT.to_owned(), short), ("other".to_owned(), other)])
        );
    }
}
