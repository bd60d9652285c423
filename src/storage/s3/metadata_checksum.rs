//! SHA-256 and size of an object in its user metadata, written by the PUT that stores it.
//!
//! Stores that return no SHA-256 are verified with it, and a lost status is restored from it. So the keys are a stored format
//! and must not change. Objects of early versions lack them.

use std::collections::HashMap;

use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::types::ReplicationStatus;
use jiff::Timestamp;

use crate::domain::hash_of;
use crate::storage::{Found, Ownership};

const SHA256: &str = "opendepot-sha256";
const SIZE: &str = "opendepot-size";

/// Adds both to the metadata of a PUT.
pub(super) fn add_checksum(metadata: &mut HashMap<String, String>, sha256: &str, size: u64) {
    metadata.insert(SHA256.to_owned(), sha256.to_owned());
    metadata.insert(SIZE.to_owned(), size.to_string());
}

/// The object that a HEAD shows. Some gateways return no length, such as those that compress: then the size in our metadata
/// counts, unless the SHA-256 shows that the metadata describes other content.
pub(super) fn found(head: &HeadObjectOutput) -> Found {
    let size = head.content_length().and_then(|size| u64::try_from(size).ok());
    let sha256 = head.checksum_sha256().and_then(of_whole_object);
    let mut ownership = head.metadata().and_then(Ownership::from_metadata);
    let contradicts = head.metadata().is_some_and(|metadata| contradicts(metadata, sha256, size));
    if contradicts && let Some(ownership) = &mut ownership {
        // The publisher is still known, the content is not.
        ownership.digest.clear();
    }
    let stated_size = || head.metadata()?.get(SIZE)?.parse().ok().filter(|_| !contradicts);
    Found {
        size: size.or_else(stated_size),
        sha256: sha256.map(str::to_owned).or_else(|| metadata_sha256(head.metadata()?, size)),
        sha256_returned: sha256.is_some(),
        sent_sha256: head.metadata().and_then(|metadata| metadata.get(SHA256)).cloned(),
        ownership,
        stored_at: head.last_modified().and_then(|at| Timestamp::from_second(at.secs()).ok()),
        identity: identity(head),
    }
}

/// A hash that is equal for one object under two names of its bucket. A replica has the time and the version ID of its original.
fn identity(head: &HeadObjectOutput) -> Option<u64> {
    let is_replica = head.replication_status() == Some(&ReplicationStatus::Replica);
    head.last_modified().map(|at| hash_of((at.secs(), head.e_tag(), head.version_id(), is_replica)))
}

/// The SHA-256 that an answer states, unless it is that of the parts of a multipart upload, as of a bucket that was copied back.
pub(super) fn of_whole_object(sha256: &str) -> Option<&str> {
    // The number of parts follows a hyphen, which base64 does not contain.
    (!sha256.contains('-')).then_some(sha256)
}

/// The SHA-256 in the metadata, unless the size there is not that of the object: then other content has a copy of the metadata.
fn metadata_sha256(metadata: &HashMap<String, String>, size: Option<u64>) -> Option<String> {
    let stated: u64 = metadata.get(SIZE)?.parse().ok()?;
    let same_size = size.is_none_or(|size| size == stated);
    metadata.get(SHA256).filter(|sha256| same_size && !sha256.is_empty()).cloned()
}

/// Whether the metadata describes other content than the object's.
fn contradicts(metadata: &HashMap<String, String>, sha256: Option<&str>, size: Option<u64>) -> bool {
    let differs = |key: &str, now: &str| metadata.get(key).is_some_and(|stated| stated != now);
    size.is_some_and(|size| differs(SIZE, &size.to_string()))
        || sha256.is_some_and(|sha256| differs(SHA256, sha256))
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::operation::head_object::builders::HeadObjectOutputBuilder;
    use aws_sdk_s3::primitives::DateTime;

    use super::*;

    #[test]
    fn the_stored_format_does_not_change() {
        let mut metadata = HashMap::new();
        add_checksum(&mut metadata, "c2hh", 7);
        let expected = [("opendepot-sha256", "c2hh"), ("opendepot-size", "7")];
        assert_eq!(metadata, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    }

    #[test]
    fn two_objects_differ_and_two_names_of_one_do_not() {
        let head = || {
            let head = HeadObjectOutput::builder().last_modified(DateTime::from_secs(60)).e_tag("tag");
            head.version_id("one").replication_status(ReplicationStatus::Pending)
        };
        let own = |head: HeadObjectOutputBuilder| found(&head.build()).identity;
        assert!(own(head()).is_some() && own(head().set_last_modified(None)).is_none());
        let replicated = head().replication_status(ReplicationStatus::Completed);
        assert_eq!(own(head()), own(replicated));
        for other in [
            head().last_modified(DateTime::from_secs(61)),
            head().e_tag("other"),
            head().version_id("two"),
            head().replication_status(ReplicationStatus::Replica),
        ] {
            assert_ne!(own(head()), own(other.clone()), "{other:?}");
        }
    }

    #[test]
    fn only_an_object_of_the_stated_size_is_believed() {
        let mut metadata = HashMap::new();
        assert_eq!(metadata_sha256(&metadata, Some(7)), None);
        add_checksum(&mut metadata, "c2hh", 7);
        assert_eq!(metadata_sha256(&metadata, Some(7)).as_deref(), Some("c2hh"));
        assert_eq!(metadata_sha256(&metadata, Some(8)), None);
        metadata.insert(SIZE.to_owned(), "seven".to_owned());
        assert_eq!(metadata_sha256(&metadata, Some(7)), None);
        add_checksum(&mut metadata, "", 7);
        assert_eq!(metadata_sha256(&metadata, Some(7)), None);
    }

    #[test]
    fn metadata_that_was_copied_to_other_bytes_is_found_out() {
        let mut metadata = HashMap::new();
        assert!(!contradicts(&metadata, Some("c2hh"), Some(7)), "one of an early version says nothing");
        add_checksum(&mut metadata, "c2hh", 7);
        assert!(!contradicts(&metadata, Some("c2hh"), Some(7)) && !contradicts(&metadata, None, Some(7)));
        assert!(contradicts(&metadata, Some("b3RoZXI="), Some(7)));
        assert!(contradicts(&metadata, Some("c2hh"), Some(8)) && contradicts(&metadata, None, Some(8)));
    }

    #[test]
    fn without_a_length_the_metadata_counts_unless_the_checksum_differs() {
        let head = |sha256: Option<&str>, metadata: HashMap<String, String>| {
            let head = HeadObjectOutput::builder().set_metadata(Some(metadata));
            let found = found(&head.set_checksum_sha256(sha256.map(str::to_owned)).build());
            assert_eq!(found.sha256_returned, sha256.is_some());
            (found.size, found.sha256)
        };
        let mut metadata = HashMap::new();
        add_checksum(&mut metadata, "c2hh", 7);
        let known = (Some(7), Some("c2hh".to_owned()));
        assert_eq!(head(Some("c2hh"), metadata.clone()), known);
        assert_eq!(head(None, metadata.clone()), known);
        assert_eq!(head(Some("b3RoZXI="), metadata), (None, Some("b3RoZXI=".to_owned())));
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
            add_checksum(&mut metadata, "c2hh", 7);
            let head = HeadObjectOutput::builder().content_length(size).set_metadata(Some(metadata));
            let found = found(&head.set_checksum_sha256(sha256.map(str::to_owned)).build());
            (found.sha256, found.ownership.expect("an owner").digest)
        };
        let are = |sha256: Option<&str>, digest: &str| (sha256.map(str::to_owned), digest.to_owned());
        assert_eq!(head(None, 7), are(Some("c2hh"), "h1:x"));
        assert_eq!(head(Some("c2hh"), 7), are(Some("c2hh"), "h1:x"));
        assert_eq!(head(Some("b3RoZXI="), 7), are(Some("b3RoZXI="), ""));
        assert_eq!(head(None, 9), are(None, ""));
        assert_eq!(head(Some("b3RoZXI=-2"), 7), are(Some("c2hh"), "h1:x"), "the checksum of two parts");
    }
}
