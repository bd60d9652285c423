//! Errors that end the registry.

use crate::registry::aliases::InvalidAlias;
use crate::registry::auth::AccessError;
use crate::registry::http::TlsError;
use crate::registry::key_file::KeyFileError;
use crate::registry::session::LoginError;
use crate::startup::StartupError;

/// Why the registry cannot start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Startup(#[from] StartupError),
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error(transparent)]
    Login(#[from] LoginError),
    #[error(transparent)]
    Alias(#[from] InvalidAlias),
    #[error(transparent)]
    LinkKeys(#[from] KeyFileError),
    #[error("--tls-cert-file, --tls-key-file: {0}")]
    Tls(#[from] TlsError),
}
