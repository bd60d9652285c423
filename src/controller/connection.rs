//! Connections to the API server.

use std::time::Duration;

use kube::config::InferConfigError;
use kube::{Client, Config};

/// The configuration of the cluster, or of the kubeconfig.
///
/// # Errors
/// [`InferConfigError`] if there is neither.
pub(crate) async fn inferred() -> Result<Config, InferConfigError> {
    let mut config = Config::infer().await?;
    // The proxy of the environment is for GitHub and S3. kube compares NO_PROXY with the wrong address.
    config.proxy_url = None;
    Ok(config)
}

/// The same with limits: an API server that accepts a connection and does not answer holds up no caller.
///
/// # Errors
/// [`InferConfigError`] if there is neither.
pub(crate) async fn config() -> Result<Config, InferConfigError> {
    let mut config = inferred().await?;
    // kube retries a POST up to 15 times; each caller has its own back-off.
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(10));
    config.read_timeout = Some(Duration::from_secs(30));
    Ok(config)
}

/// One client for requests and one for watches, which are silent for minutes.
///
/// # Errors
/// [`kube::Error`] if the configuration cannot be used.
pub(crate) fn clients(config: &Config) -> Result<(Client, Client), kube::Error> {
    let mut watching = config.clone();
    watching.read_timeout = Some(Duration::from_mins(5));
    Ok((Client::try_from(config.clone())?, Client::try_from(watching)?))
}
