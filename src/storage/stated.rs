//! What an object says about its own bytes: SHA-256 and size, in user metadata that one PUT stores together with them. In and
//! out: S3 user metadata, and with it what a HEAD shows. Pure.
//!
//! For stores that keep no SHA-256 themselves. There it is all that a lost status can be made from, so the keys are a
//! stored format and must not change. Objects stored by early versions lack them.

use std::collections::HashMap;

use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::DateTime;

use super::{Found, Ownership};

const SHA256: &str = "opendepot-sha256";
const SIZE: &str = "opendepot-size";

/// Adds both.
pub(super) fn state(metadata: &mut HashMap<String, String>, sha256: &str, size: u64) {
    metadata.insert(SHA256.to_owned(), sha256.to_owned());
    metadata.insert(SIZE.to_owned(), size.to_string());
}

/// What a HEAD shows.
pub(super) fn found(head: &HeadObjectOutput) -> Found {
    let size = head.content_length().and_then(|size| u64::try_from(size).ok()).unwrap_or_default();
    let sha256 = head.checksum_sha256();
    let mut ownership = head.metadata().and_then(Ownership::from_metadata);
    if head.metadata().is_some_and(|metadata| contradicts(metadata, sha256, size))
        && let Some(ownership) = &mut ownership
    {
        // Whose it is stands; what it holds is not known.
        ownership.digest.clear();
    }
    Found {
        size,
        sha256: sha256.map(str::to_owned).or_else(|| stated(head.metadata()?, size)),
        ownership,
        stored_at: head.last_modified().map(DateTime::secs),
    }
}

/// The SHA-256 that is stated, where the object still has the size that it was stored with: metadata outlives what
/// happens to the bytes.
fn stated(metadata: &HashMap<String, String>, size: u64) -> Option<String> {
    let right_size = metadata.get(SIZE)?.parse() == Ok(size);
    metadata.get(SHA256).filter(|sha256| right_size && !sha256.is_empty()).cloned()
}

/// Whether the metadata speaks of other bytes than those that S3 has. What it says of their content is not true then.
fn contradicts(metadata: &HashMap<String, String>, sha256: Option<&str>, size: u64) -> bool {
    let differs = |key: &str, now: &str| metadata.get(key).is_some_and(|stated| stated != now);
    differs(SIZE, &size.to_string()) || sha256.is_some_and(|sha256| differs(SHA256, sha256))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_format_does_not_change() {
        let mut metadata = HashMap::new();
        state(&mut metadata, "c2hh", 7);
        let expected = [("opendepot-sha256", "c2hh"), ("opendepot-size", "7")];
        assert_eq!(metadata, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    }

    #[test]
    fn only_an_object_of_the_stated_size_is_believed() {
        let mut metadata = HashMap::new();
        assert_eq!(stated(&metadata, 7), None);
        state(&mut metadata, "c2hh", 7);
        assert_eq!(stated(&metadata, 7).as_deref(), Some("c2hh"));
        assert_eq!(stated(&metadata, 8), None);
        metadata.insert(SIZE.to_owned(), "seven".to_owned());
        assert_eq!(stated(&metadata, 7), None);
        state(&mut metadata, "", 7);
        assert_eq!(stated(&metadata, 7), None);
    }

    #[test]
    fn metadata_that_was_copied_to_other_bytes_is_found_out() {
        let mut metadata = HashMap::new();
        assert!(!contradicts(&metadata, Some("c2hh"), 7), "one of an early version says nothing");
        state(&mut metadata, "c2hh", 7);
        assert!(!contradicts(&metadata, Some("c2hh"), 7) && !contradicts(&metadata, None, 7));
        assert!(contradicts(&metadata, Some("b3RoZXI="), 7));
        assert!(contradicts(&metadata, Some("c2hh"), 8) && contradicts(&metadata, None, 8));
    }

    #[test]
    fn where_s3_keeps_no_checksum_the_metadata_counts_and_never_of_other_bytes() {
        let head = |sha256: Option<&str>, size: i64| {
            let owner = Ownership {
                namespace: "team".into(),
                version_name: "vpc-1.0.0".into(),
                digest: "h1:x".into(),
                ..Ownership::default()
            };
            let mut metadata = owner.to_metadata();
            state(&mut metadata, "c2hh", 7);
            let head = HeadObjectOutput::builder().content_length(size).set_metadata(Some(metadata));
            let found = found(&head.set_checksum_sha256(sha256.map(str::to_owned)).build());
            (found.sha256, found.ownership.expect("an owner").digest)
        };
        let are = |sha256: Option<&str>, digest: &str| (sha256.map(str::to_owned), digest.to_owned());
        assert_eq!(head(None, 7), are(Some("c2hh"), "h1:x"));
        assert_eq!(head(Some("c2hh"), 7), are(Some("c2hh"), "h1:x"));
        assert_eq!(head(Some("b3RoZXI="), 7), are(Some("b3RoZXI="), ""));
        assert_eq!(head(None, 9), are(None, ""));
    }
}
