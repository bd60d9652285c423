//! Errors that end the registry.

use std::net::SocketAddr;
use std::path::PathBuf;

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
    #[error("--ca-file: {0}")]
    Ca(#[from] crate::storage::CaError),
    #[error("no Kubernetes API server is configured ({0}); run in a cluster, or set KUBECONFIG")]
    Cluster(#[from] kube::config::InferConfigError),
    #[error("Kubernetes client: {0}")]
    Kube(#[from] kube::Error),
    #[error("cannot listen on {address}: {error}; choose another address with {flag}")]
    Listen { flag: &'static str, address: SocketAddr, error: std::io::Error },
    #[error("cannot use {path} for archives: {error}; name a writable folder with --spool-dir")]
    Workdir { path: PathBuf, error: std::io::Error },
    #[error("{0} ended; the process exits so that it is restarted")]
    Ended(&'static str),
}
