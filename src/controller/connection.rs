//! Connections to the API server.

use std::time::Duration;

use kube::Config;
use kube::config::InferConfigError;

/// The configuration of the cluster, or of the kubeconfig. Fails if there is neither.
pub(crate) async fn inferred() -> Result<Config, InferConfigError> {
    let mut config = Config::infer().await?;
    // The proxy of the environment is for GitHub and S3. kube compares NO_PROXY with the wrong address.
    config.proxy_url = None;
    Ok(config)
}

/// The same with timeouts: an API server that accepts a connection and does not answer blocks no caller.
pub(crate) async fn config() -> Result<Config, InferConfigError> {
    let mut config = inferred().await?;
    // kube retries a POST up to 15 times; each caller has its own back-off.
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(10));
    config.read_timeout = Some(Duration::from_secs(30));
    Ok(config)
}
