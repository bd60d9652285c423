//! Why `opendepot publish` fails.

use std::path::PathBuf;

use super::manifest::ManifestError;
use crate::command::connection::ConnectError;

/// Why a version was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error(transparent)]
    Connection(#[from] ConnectError),
    #[error("cannot read {path}: {error}")]
    File { path: PathBuf, error: std::io::Error },
    #[error("cannot write {path}: {error}")]
    Outputs { path: PathBuf, error: std::io::Error },
    #[error("manifest {path}: {error}")]
    Manifest { path: PathBuf, error: ManifestError },
    #[error("there is no Module {module} in the namespace {namespace}: create it, or give --manifest")]
    NoModule { module: String, namespace: String },
    #[error("{doing} failed: {message}")]
    Refused { doing: String, message: String },
    /// The API server did not answer, or said that it cannot work now.
    #[error("{doing} failed: {message}")]
    Unanswered { doing: String, message: String },
    #[error("{0}")]
    Prevented(String),
    #[error("{version} is not among the {limit} newest versions that versionHistoryLimit keeps")]
    Excluded { version: String, limit: i64 },
    #[error("{missing} after {after}{hint} {state}")]
    Late { missing: String, after: String, hint: &'static str, state: String },
}

impl PublishError {
    /// Whether the same request may succeed some seconds later: the API server did not answer, or was overloaded or starting.
    pub(super) fn is_transient(&self) -> bool {
        matches!(self, Self::Unanswered { .. })
    }
}
