//! Whose an object is. In and out: [`Ownership`] and the S3 user metadata that carries it. Pure.
//!
//! S3 takes 2 KB of user metadata, in header values, so values are percent-encoded to visible ASCII, and one that would
//! be over its bound is replaced by its SHA-256. Metadata is what makes a lost status recoverable: keys and encoding
//! are a stored format and must not change.

use std::borrow::Cow;
use std::collections::HashMap;

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

/// What an object says about itself. An empty string stands for "unknown" and is not written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ownership {
    /// Namespace of the publisher.
    pub namespace: String,
    /// Name of the Version object that published it.
    pub version_name: String,
    /// The module's registry name.
    pub module: String,
    /// The version, as its list entry spells it.
    pub version: String,
    /// The repository that it was fetched from.
    pub source: String,
    /// The ref that was fetched, `refs/tags/TAG`.
    pub git_ref: String,
    /// The commit that was archived.
    pub commit: String,
    /// Content digest (`h1:…`) over the module's files.
    pub digest: String,
    /// The revision of the normaliser that wrote the archive; 0 where it cannot be read.
    pub revision: u32,
    /// The archive's format, `zip` or `tar.gz`, where the key does not end in it.
    pub archive: String,
    /// The user's last request token that this object answers. Any length; see [`Ownership::has_request`].
    pub request: Option<String>,
    /// The module's last request token that this object answers.
    pub module_request: Option<String>,
}

/// A field's metadata key and the most bytes that its encoded value may take: together under 1.6 KB of S3's 2 KB.
struct Field(&'static str, usize);

const NAMESPACE: Field = Field("opendepot-namespace", 63);
const VERSION_NAME: Field = Field("opendepot-version-name", 253);
const MODULE: Field = Field("opendepot-module", 160);
const VERSION: Field = Field("opendepot-version", 160);
const SOURCE: Field = Field("opendepot-source", 256);
const GIT_REF: Field = Field("opendepot-ref", 160);
const COMMIT: Field = Field("opendepot-commit", 64);
const DIGEST: Field = Field("opendepot-digest", 128);
/// Absent stands for 1: the first revision wrote none.
const FORMAT: Field = Field("opendepot-format", 10);
/// Longer than any format: what stands for a value that does not fit has to fit itself.
const ARCHIVE: Field = Field("opendepot-archive", 64);
const REQUEST: Field = Field("opendepot-request", 256);
const MODULE_REQUEST: Field = Field("opendepot-module-request", 128);

impl Ownership {
    /// Whether the object names this publisher.
    pub fn names(&self, namespace: &str, version_name: &str) -> bool {
        NAMESPACE.same(&self.namespace, namespace) && VERSION_NAME.same(&self.version_name, version_name)
    }

    /// Whether the object answers this request token, also where the token is too long to be carried in full.
    pub fn has_request(&self, token: &str) -> bool {
        self.request.as_deref().is_some_and(|carried| REQUEST.same(carried, token))
    }

    /// Whether the object answers this request token of its module.
    pub fn has_module_request(&self, token: &str) -> bool {
        self.module_request.as_deref().is_some_and(|carried| MODULE_REQUEST.same(carried, token))
    }

    pub(super) fn to_metadata(&self) -> HashMap<String, String> {
        let revision = self.revision.to_string();
        let fields = [
            (NAMESPACE, Some(&self.namespace)),
            (VERSION_NAME, Some(&self.version_name)),
            (MODULE, Some(&self.module)),
            (VERSION, Some(&self.version)),
            (SOURCE, Some(&self.source)),
            (GIT_REF, Some(&self.git_ref)),
            (COMMIT, Some(&self.commit)),
            (DIGEST, Some(&self.digest)),
            (FORMAT, (self.revision > 1).then_some(&revision)),
            (ARCHIVE, Some(&self.archive)),
            (REQUEST, self.request.as_ref()),
            (MODULE_REQUEST, self.module_request.as_ref()),
        ];
        let written = fields.into_iter().filter_map(|(field, value)| {
            let value = value.filter(|value| !value.is_empty())?;
            Some((field.0.to_owned(), encode(&field.fit(value))))
        });
        written.collect()
    }

    /// `None`, unless the metadata names a publisher.
    pub(super) fn from_metadata(metadata: &HashMap<String, String>) -> Option<Self> {
        let read = |field: Field| metadata.get(field.0).map(|value| decode(value));
        Some(Self {
            namespace: read(NAMESPACE)?,
            version_name: read(VERSION_NAME)?,
            module: read(MODULE).unwrap_or_default(),
            version: read(VERSION).unwrap_or_default(),
            source: read(SOURCE).unwrap_or_default(),
            git_ref: read(GIT_REF).unwrap_or_default(),
            commit: read(COMMIT).unwrap_or_default(),
            digest: read(DIGEST).unwrap_or_default(),
            revision: read(FORMAT).map_or(1, |revision| revision.parse().unwrap_or_default()),
            archive: read(ARCHIVE).unwrap_or_default(),
            request: read(REQUEST),
            module_request: read(MODULE_REQUEST),
        })
    }
}

impl Field {
    /// Whether a value read from an object, or about to be written to it, stands for this one.
    fn same(&self, carried: &str, value: &str) -> bool {
        self.fit(carried) == self.fit(value)
    }

    /// The value, or its hash when the value would not fit. Fitting twice changes nothing.
    fn fit<'a>(&self, value: &'a str) -> Cow<'a, str> {
        if encode(value).len() <= self.1 {
            return Cow::Borrowed(value);
        }
        Cow::Owned(format!("sha256:{}", URL_SAFE_NO_PAD.encode(digest(&SHA256, value.as_bytes()))))
    }
}

/// Percent-encodes all but visible ASCII, and the percent sign: header values lose spaces at their ends.
fn encode(value: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_graphic() && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push(char::from(HEX[usize::from(byte >> 4)]));
            encoded.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    encoded
}

/// Undoes [`encode`]. What is no escape stays as it is: the object may be somebody else's.
fn decode(value: &str) -> String {
    let bytes = value.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escape = (byte == b'%').then(|| bytes.get(at + 1..at + 3)).flatten().and_then(hex_byte);
        decoded.push(escape.unwrap_or(byte));
        at += if escape.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    digits.iter().try_fold(0, |byte: u8, &digit| {
        let value = char::from(digit).to_digit(16)?;
        Some(byte << 4 | u8::try_from(value).ok()?)
    })
}

#[cfg(test)]
mod tests {
    use proptest::{option, prelude::*};

    use super::*;

    fn published() -> Ownership {
        Ownership {
            namespace: "opendepot-system".into(),
            version_name: "terraform-aws-eks-21.18.0".into(),
            module: "terraform-aws-eks".into(),
            version: "v21.18.0+build.1".into(),
            source: "https://github.com/terraform-aws-modules/terraform-aws-eks".into(),
            git_ref: "refs/tags/v21.18.0".into(),
            commit: "0123456789abcdef0123456789abcdef01234567".into(),
            digest: "h1:YWJj/+=".into(),
            revision: 1,
            archive: String::new(),
            request: Some("2026-11-23T10:00:00Z by ü % =?utf-8?q?".into()),
            module_request: None,
        }
    }

    #[test]
    fn the_stored_format_does_not_change() {
        let mut written: Vec<_> = published().to_metadata().into_iter().collect();
        written.sort();
        let expected = [
            ("opendepot-commit", "0123456789abcdef0123456789abcdef01234567"),
            ("opendepot-digest", "h1:YWJj/+="),
            ("opendepot-module", "terraform-aws-eks"),
            ("opendepot-namespace", "opendepot-system"),
            ("opendepot-ref", "refs/tags/v21.18.0"),
            ("opendepot-request", "2026-11-23T10:00:00Z%20by%20%C3%BC%20%25%20=?utf-8?q?"),
            ("opendepot-source", "https://github.com/terraform-aws-modules/terraform-aws-eks"),
            ("opendepot-version", "v21.18.0+build.1"),
            ("opendepot-version-name", "terraform-aws-eks-21.18.0"),
        ];
        assert_eq!(written, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    #[test]
    fn the_first_revision_is_not_written_and_an_unreadable_one_is_none_that_is_known() {
        let read =
            |metadata: &HashMap<String, String>| Ownership::from_metadata(metadata).expect("ours").revision;
        let later = Ownership { revision: 2, ..published() }.to_metadata();
        assert_eq!(later.get("opendepot-format").map(String::as_str), Some("2"));
        assert_eq!((read(&published().to_metadata()), read(&later)), (1, 2));
        let odd = later.into_iter().map(|(key, value)| (key, value.replace('2', "two"))).collect();
        assert_eq!(read(&odd), 0);
    }

    #[test]
    fn an_object_without_a_publisher_is_nobodys() {
        let mut metadata = published().to_metadata();
        metadata.remove("opendepot-version-name");
        assert_eq!(Ownership::from_metadata(&metadata), None);
        assert_eq!(Ownership::from_metadata(&HashMap::new()), None);
    }

    #[test]
    fn a_publisher_is_known_by_both_names() {
        let ownership = published();
        assert!(ownership.names("opendepot-system", "terraform-aws-eks-21.18.0"));
        assert!(!ownership.names("opendepot-system", "terraform-aws-eks-21.18.1"));
        assert!(!ownership.names("team-a", "terraform-aws-eks-21.18.0"));
        // Nor by a part of them, or by what begins so.
        for (namespace, name) in [
            ("opendepot", "terraform-aws-eks-21.18.0"),
            ("opendepot-system-2", "terraform-aws-eks-21.18.0"),
            ("opendepot-system", "terraform-aws-eks-21.18"),
            ("opendepot-system", "terraform-aws-eks-21.18.0-rc1"),
            ("OpenDepot-System", "terraform-aws-eks-21.18.0"),
            ("", ""),
        ] {
            assert!(!ownership.names(namespace, name), "{namespace} {name}");
        }
    }

    #[test]
    fn a_long_token_is_still_recognised() {
        let token = "x".repeat(100_000);
        let before = Ownership { request: Some(token.clone()), ..published() };
        let after = Ownership::from_metadata(&before.to_metadata()).expect("ours");
        for ownership in [before, after] {
            assert!(ownership.has_request(&token));
            assert!(!ownership.has_request(&token[1..]));
            assert!(!ownership.has_module_request(&token));
        }
    }

    #[test]
    fn foreign_escapes_are_read_as_text() {
        assert_eq!(decode("100%"), "100%");
        assert_eq!(decode("%zz%4"), "%zz%4");
        assert_eq!(decode("%+1"), "%+1");
        assert_eq!(decode("%ff"), "\u{fffd}");
    }

    prop_compose! {
        /// Short enough to be carried in full, even if each character takes twelve bytes.
        fn any_ownership()(
            names in ("(?s).{1,5}", "(?s).{1,21}"),
            texts in ("(?s).{0,13}", "(?s).{0,13}", "(?s).{0,21}", "(?s).{0,13}", "(?s).{0,5}", "(?s).{0,10}"),
            tokens in (option::of("(?s).{1,21}"), option::of("(?s).{1,10}")),
            revision in 1..100_u32,
            archive in "(zip|tar[.]gz)?",
        ) -> Ownership {
            Ownership {
                namespace: names.0, version_name: names.1,
                module: texts.0, version: texts.1, source: texts.2, git_ref: texts.3,
                commit: texts.4, digest: texts.5, revision, archive,
                request: tokens.0, module_request: tokens.1,
            }
        }
    }

    proptest! {
        #[test]
        fn metadata_brings_back_what_was_written(ownership in any_ownership()) {
            let metadata = ownership.to_metadata();
            prop_assert!(metadata.values().all(|value| value.bytes().all(|byte| byte.is_ascii_graphic())));
            prop_assert_eq!(Ownership::from_metadata(&metadata), Some(ownership));
        }

        #[test]
        fn metadata_fits_into_two_kilobytes(text in ".{0,3000}") {
            let ownership = Ownership {
                namespace: text.clone(), version_name: text.clone(), module: text.clone(), version: text.clone(),
                source: text.clone(), git_ref: text.clone(),
                commit: text.clone(), digest: text.clone(), revision: u32::MAX, archive: text.clone(),
                request: Some(text.clone()), module_request: Some(text),
            };
            let size: usize = ownership.to_metadata().iter().map(|(key, value)| key.len() + value.len()).sum();
            prop_assert!(size < 2048, "{} bytes", size);
        }
    }
}
