//! What both servers of the binary read and install at their start.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use kube::{Client, Config};
use reqwest::Certificate;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::controller::client::explain;
use crate::controller::connection::{NotConfigured, client, config_with_timeouts, for_watches};
use crate::domain::{CertificatesError, Endpoint, EndpointError, certificates};
use crate::observe::admin;
use crate::storage::{CaError, Storage, StorageRule, StorageRules};
use crate::workdir::Workdir;

/// What prevents a start, or ends a server.
#[derive(Debug, thiserror::Error)]
pub enum StartupError {
    #[error("cannot listen on {address}: {error}; choose another address with {flag}")]
    Listen { flag: &'static str, address: SocketAddr, error: std::io::Error },
    #[error("cannot use {path} for archives: {error}; name a writable folder with --spool-dir")]
    Workdir { path: PathBuf, error: std::io::Error },
    #[error("{0}; run in a cluster, correct the kubeconfig, or set KUBECONFIG")]
    Cluster(#[from] NotConfigured),
    #[error("Kubernetes client: {}", explain(.0))]
    Kube(#[from] kube::Error),
    #[error(transparent)]
    Ca(#[from] CaError),
    #[error(
        "--ca-file: cannot read {path}: {error}; name a file of PEM certificates that this process may read"
    )]
    CaFile { path: PathBuf, error: std::io::Error },
    #[error("--ca-file: {0}")]
    CaCertificates(#[from] CertificatesError),
    #[error("{setting}: {error}")]
    Endpoint { setting: &'static str, error: EndpointError },
    #[error("cannot wait for signals: {0}")]
    Signal(std::io::Error),
    #[error("{0} ended unexpectedly; the process exits to be restarted")]
    Ended(&'static str),
}

/// Listens on the address that a flag gives.
pub(crate) fn listen(flag: &'static str, address: SocketAddr) -> Result<TcpListener, StartupError> {
    admin::listen(address).map_err(|error| StartupError::Listen { flag, address, error })
}

/// Raises the soft limit of open files to the hard one, as Go's runtime does: container runtimes set the soft limit to 1,024,
/// for programs that use `select`. Returns the limit in force, if there is one.
#[cfg(not(windows))]
pub(crate) fn raise_open_files() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current }
}

#[cfg(windows)]
pub(crate) fn raise_open_files() -> Option<u64> {
    None
}

/// The folder for temporary archives, below `--spool-dir` or the system's temporary folder.
pub(crate) fn workdir(spool_dir: Option<&Path>) -> Result<Workdir, StartupError> {
    let path = spool_dir.map_or_else(std::env::temp_dir, Path::to_owned);
    Workdir::new(&path).map_err(|error| StartupError::Workdir { path, error })
}

/// The configuration of the cluster, a client for requests, and one for watches.
pub(crate) async fn connect() -> Result<(Config, Client, Client), StartupError> {
    let config = config_with_timeouts().await?;
    let watching = for_watches(config.clone());
    Ok((config.clone(), client(config)?, client(watching)?))
}

/// Waits for the end of a task that should not end. `kind` names the tasks in the error if one panicked.
pub(crate) async fn ended(tasks: &mut JoinSet<&'static str>, kind: &'static str) -> StartupError {
    StartupError::Ended(tasks.join_next().await.and_then(Result::ok).unwrap_or(kind))
}

/// The certificates of `--ca-file`.
pub fn ca_certificates(path: Option<&Path>) -> Result<Vec<Certificate>, StartupError> {
    let Some(path) = path else { return Ok(Vec::new()) };
    let pem = std::fs::read(path).map_err(|error| StartupError::CaFile { path: path.to_owned(), error })?;
    Ok(certificates(&pem)?)
}

/// The rules of `--allow-storage` and `--s3-endpoint`. The storage's default endpoint becomes that of the process.
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
#[cfg(windows)]
pub fn signalled() -> Result<impl Future<Output = ()>, StartupError> {
    let mut interrupt = tokio::signal::windows::ctrl_c().map_err(StartupError::Signal)?;
    Ok(async move {
        interrupt.recv().await;
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(not(windows))]
    #[test]
    fn the_soft_limit_of_open_files_becomes_the_hard_one() {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

        let limit = getrlimit(Resource::Nofile);
        // Without a limit there is none to raise.
        let Some(most) = limit.maximum else { return };
        setrlimit(Resource::Nofile, Rlimit { current: Some(most - 1), ..limit }).unwrap();
        assert_eq!(raise_open_files(), Some(most));
        assert_eq!(getrlimit(Resource::Nofile).current, Some(most));
    }
}
