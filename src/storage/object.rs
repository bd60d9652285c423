//! What a PUT takes and what a HEAD returns.

use std::path::Path;

use jiff::Timestamp;

use super::Ownership;

/// An object as HEAD shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Length in bytes, if S3 or our metadata shows it.
    pub size: Option<u64>,
    /// SHA-256 of the object in base64, as S3 returns it or, if it does not, as our metadata contains it.
    pub sha256: Option<String>,
    /// Whether S3 returned the SHA-256.
    pub sha256_returned: bool,
    /// SHA-256 of the upload, according to our metadata. Objects of early versions lack it.
    pub sent_sha256: Option<String>,
    /// The publisher that the metadata names.
    pub ownership: Option<Ownership>,
    /// When it was stored, by S3's clock.
    pub stored_at: Option<Timestamp>,
    /// A hash of what S3 shows of one object under each name of its bucket, such as the alias of an access point: if it differs, there
    /// are two objects. `None` if S3 does not show enough.
    pub identity: Option<u64>,
}

impl Found {
    /// Whether the object has this SHA-256 (base64) and size. If one of them is unknown, only the other is compared.
    pub fn is_intact(&self, sha256: &str, size: u64) -> bool {
        match &self.sha256 {
            Some(found) => found == sha256 && self.may_have_size(size),
            None => self.size == Some(size),
        }
    }

    /// Whether only the size is known: an object of another client may have the same size.
    pub fn proves_nothing(&self) -> bool {
        self.sha256.is_none() && self.ownership.is_none()
    }

    /// Whether the object has this size, or an unknown one.
    pub fn may_have_size(&self, size: u64) -> bool {
        self.size.is_none_or(|found| found == size)
    }
}

/// The bytes of an upload.
#[derive(Clone, Copy, Debug)]
pub enum Body<'a> {
    /// A file. It must not change until the PUT has ended.
    File(&'a Path),
    Memory(&'static [u8]),
}

/// An object to store.
#[derive(Clone, Debug)]
pub struct Upload<'a> {
    pub body: Body<'a>,
    pub size: u64,
    /// SHA-256 in base64, which S3 verifies before it stores anything.
    pub sha256: &'a str,
    /// Written to the object's metadata.
    pub ownership: &'a Ownership,
    pub encryption: &'a Encryption,
    /// Store only if there is no object yet (`If-None-Match: *`).
    pub create_only: bool,
}

/// Server-side encryption. Without either field, the bucket's default applies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Encryption {
    /// `AES256`, `aws:kms` or `aws:kms:dsse`.
    pub server_side_encryption: Option<String>,
    /// ID or ARN of the KMS key.
    pub kms_key_id: Option<String>,
}

/// The result of a PUT that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    Stored,
    /// `create_only`, and there is an object already. It may be from this very upload: a retry after a lost answer finds what
    /// the first attempt stored.
    AlreadyExists,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_store_does_not_return_is_no_difference() {
        let found = |sha256: Option<&str>, size| Found {
            size,
            sha256: sha256.map(str::to_owned),
            sha256_returned: sha256.is_some(),
            sent_sha256: None,
            ownership: None,
            stored_at: None,
            identity: None,
        };
        for (sha256, size, intact) in [
            (Some("c2hh"), Some(7), true),
            (Some("c2hh"), None, true),
            (None, Some(7), true),
            (Some("c2hh"), Some(8), false),
            (Some("c2hh"), Some(0), false),
            (Some("b3RoZXI="), Some(7), false),
            (Some("b3RoZXI="), None, false),
            (None, Some(8), false),
            (None, None, false),
        ] {
            assert_eq!(found(sha256, size).is_intact("c2hh", 7), intact, "{sha256:?} {size:?}");
        }
    }
}
