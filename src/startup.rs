//! What both servers of the binary read and install at their start.

use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::domain::{Endpoint, EndpointError};
use crate::storage::{Storage, StorageRule, StorageRules};

/// What prevents a start.
#[derive(Debug, Error)]
pub enum StartupError {
    #[error("--ca-file: cannot read {path}: {error}")]
    CaFile { path: PathBuf, error: std::io::Error },
    #[error("{setting}: {error}")]
    Endpoint { setting: &'static str, error: EndpointError },
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

/// The rules of `--allow-storage` and `--s3-endpoint`. The storage's default endpoint becomes that of the process.
///
/// # Errors
/// [`StartupError::Endpoint`] if the default endpoint is no URL.
pub fn storage_rules(
    allow: &[StorageRule],
    endpoints: &[Endpoint],
    storage: &Storage,
) -> Result<StorageRules, StartupError> {
    let endpoint =
        |url: &str| url.parse().map_err(|error| StartupError::Endpoint { setting: setting_of(url), error });
    let default_endpoint = storage.default_endpoint().map(endpoint).transpose()?;
    crate::domain::use_default_endpoint(default_endpoint.as_ref());
    Ok(StorageRules::new(allow.to_vec(), endpoints.to_vec(), default_endpoint))
}

/// The setting that names the default endpoint.
fn setting_of(url: &str) -> &'static str {
    let variables = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"];
    let is_set = |variable: &&str| std::env::var(variable).is_ok_and(|value| value == url);
    variables.into_iter().find(is_set).unwrap_or("endpoint_url of the AWS profile")
}

/// Resolves at SIGTERM or SIGINT. The signal handlers are installed by the call, not by the first poll.
///
/// # Errors
/// [`StartupError::Signal`] if they cannot be installed.
#[cfg(not(windows))]
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

/// Resolves at Ctrl-C. The signal handler is installed by the call, not by the first poll.
///
/// # Errors
/// [`StartupError::Signal`] if it cannot be installed.
#[cfg(windows)]
pub fn signalled() -> Result<impl Future<Output = ()>, StartupError> {
    let mut interrupt = tokio::signal::windows::ctrl_c().map_err(StartupError::Signal)?;
    Ok(async move {
        interrupt.recv().await;
    })
}
