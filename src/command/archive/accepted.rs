//! The result of `opendepot archive`. Pure.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::archive::Normalised;
use crate::domain::Release;
use crate::version::warnings;

/// An archive that would be stored.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Accepted {
    /// The URL that was fetched, or the file.
    pub source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Instead of a tag: the full ref, or the commit that was named.
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    pub files: u64,
    pub size: u64,
    /// SHA-256 in base64, as `status.checksum` of a Version.
    pub checksum: String,
    /// As `status.contentDigest` of a Version.
    pub content_digest: String,
    /// What the operator would report as Warning Events.
    pub warnings: Vec<Warning>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Warning {
    pub reason: String,
    pub message: String,
}

impl Accepted {
    /// `fetched`: the tag, ref or commit that was fetched.
    pub(super) fn of(normalised: &Normalised, source: String, fetched: Option<String>) -> Self {
        let is_tag = fetched.as_ref().is_some_and(|name| Release::parse(name).is_ok());
        let (tag, reference) = if is_tag { (fetched, None) } else { (None, fetched) };
        let warnings = warnings::of_archive(&normalised.report).into_iter();
        Self {
            source,
            tag,
            reference,
            commit: normalised.commit.clone(),
            files: normalised.files,
            size: normalised.size,
            checksum: STANDARD.encode(normalised.sha256),
            content_digest: normalised.digest.to_string(),
            warnings: warnings.map(|event| Warning { reason: event.reason, message: event.note }).collect(),
        }
    }
}

impl fmt::Display for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "accepted: {}", self.source)?;
        for (name, value) in [("tag", &self.tag), ("ref", &self.reference), ("commit", &self.commit)] {
            if let Some(value) = value {
                writeln!(f, "{name}: {value}")?;
            }
        }
        writeln!(f, "files: {}\nsize: {}\nchecksum: {}", self.files, self.size, self.checksum)?;
        write!(f, "contentDigest: {}", self.content_digest)?;
        self.warnings.iter().try_for_each(|w| write!(f, "\nwarning: {}: {}", w.reason, w.message))
    }
}
