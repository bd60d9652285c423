//! Errors that end the operator.

use std::path::PathBuf;

use crate::controller::lease::LeadershipLost;
use crate::github;

/// Why the operator cannot start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    #[error(transparent)]
    Startup(#[from] crate::startup::StartupError),
    #[error("--ca-file: {0}")]
    Ca(#[from] crate::storage::CaError),
    #[error("cannot use {path} for archives: {error}; name a writable folder with --spool-dir")]
    Workdir { path: PathBuf, error: std::io::Error },
    #[error("GitHub client: {0}")]
    GitHub(#[from] github::ClientError),
    #[error("no Kubernetes API server is configured ({0}); run in a cluster, or set KUBECONFIG")]
    Cluster(#[from] kube::config::InferConfigError),
    #[error("Kubernetes client: {0}")]
    Kube(#[from] kube::Error),
    #[error("cannot listen on {address}: {error}; choose another address with --listen")]
    Listen { address: std::net::SocketAddr, error: std::io::Error },
    #[error("{0}; the process exits, and its replacement stands by")]
    Lease(#[from] LeadershipLost),
    #[error("{0} ended; the process exits so that it is restarted")]
    Ended(&'static str),
}
