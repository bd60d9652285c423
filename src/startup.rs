//! What both servers of the binary read and install at their start.

use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::domain::{Endpoint, EndpointError};
use crate::storage::{StorageRule, StorageRules};

/// What prevents a start.
#[derive(Debug, Error)]
pub enum StartupError {
    #[error("--ca-file: cannot read {path}: {error}")]
    CaFile { path: PathBuf, error: std::io::Error },
    #[error("{variable}: {error}")]
    Endpoint { variable: &'static str, error: EndpointError },
    #[error("cannot wait for signals: {0}")]
    Signal(std::io::Error),
}

/// The content of `--ca-file`.
///
/// # Errors
/// [`StartupError::CaFile`] if the file cannot be read.
pub fn ca_certificates(path: Option<&Path>) -> Result<Option<Vec<u8>>, StartupError> {
    let Some(path) = path else { return Ok(None) };
    let pem = std::fs::read(path).map_err(|error| StartupError::CaFile { path: path.to_owned(), error })?;
    Ok(Some(pem))
}

/// The variables of the AWS SDK that set the default endpoint of S3, the first that is set.
const DEFAULT_ENDPOINT: [&str; 2] = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"];

/// The rules of `--allow-storage` and `--s3-endpoint`. The endpoint of the environment becomes the default of the process.
///
/// # Errors
/// [`StartupError::Endpoint`] if the variable is no endpoint.
pub fn storage_rules(allow: &[StorageRule], endpoints: &[Endpoint]) -> Result<StorageRules, StartupError> {
    let set = |variable| Some((variable, std::env::var(variable).ok().filter(|url| !url.is_empty())?));
    let default_endpoint = match DEFAULT_ENDPOINT.into_iter().find_map(set) {
        Some((variable, url)) => {
            Some(url.parse().map_err(|error| StartupError::Endpoint { variable, error })?)
        }
        None => None,
    };
    crate::domain::use_default_endpoint(default_endpoint.as_ref());
    Ok(StorageRules::new(allow.to_vec(), endpoints.to_vec(), default_endpoint))
}

/// Resolves at SIGTERM or SIGINT. The signal handlers are installed by the call, not by the first poll.
///
/// # Errors
/// [`StartupError::Signal`] if they cannot be installed.
pub fn signalled() -> Result<impl Future<Output = ()>, StartupError> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).map_err(StartupError::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StartupError::Signal)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
