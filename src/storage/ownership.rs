//! The publisher of an object, in its S3 user metadata.
//!
//! S3 accepts 2 KB of user metadata in header values, so values are percent-encoded to visible ASCII, and a value over its bound
//! is replaced by its SHA-256. A lost status is restored from this metadata: keys and encoding are a stored format and must not
//! change.

use std::borrow::Cow;
use std::collections::HashMap;

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

/// The metadata of a published object. An empty string means "unknown" and is not written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ownership {
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
    /// The revision of the normaliser that wrote the archive; 0 if it cannot be read.
    pub revision: u32,
    /// The archive's format, `zip` or `tar.gz`, if the key does not end in it.
    pub archive: String,
    /// The last request token that this object was published for. Any length; see [`Ownership::has_request`].
    pub request: Option<String>,
    /// The same for the Module's request token.
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
/// Absent means 1: the first revision did not write it.
const FORMAT: Field = Field("opendepot-format", 10);
/// Longer than any format: the hash of a value that does not fit must fit itself.
const ARCHIVE: Field = Field("opendepot-archive", 64);
const REQUEST: Field = Field("opendepot-request", 256);
const MODULE_REQUEST: Field = Field("opendepot-module-request", 128);

impl Ownership {
    /// Whether the object names this publisher.
    pub fn names(&self, namespace: &str, version_name: &str) -> bool {
        NAMESPACE.same(&self.namespace, namespace) && VERSION_NAME.same(&self.version_name, version_name)
    }

    /// Whether the object was fetched from this repository, even if its address is too long to be stored in full.
    pub fn is_from(&self, repository: &str) -> bool {
        SOURCE.fit(&self.source).eq_ignore_ascii_case(&SOURCE.fit(repository))
    }

    /// Whether the object was published for this request token, even if the token is too long to be stored in full.
    pub fn has_request(&self, token: &str) -> bool {
        self.request.as_deref().is_some_and(|carried| REQUEST.same(carried, token))
    }

    /// Whether the object was published for this request token of its Module.
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
    /// Whether both values are the same in metadata, where a long value is replaced by its hash.
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
    const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'%');
    utf8_percent_encode(value, ENCODED).to_string()
}

/// Undoes [`encode`]. Invalid escapes are kept as they are: the object may be foreign.
fn decode(value: &str) -> String {
    percent_decode_str(value).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests;
