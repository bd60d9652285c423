//! The connection of the commands to a cluster, with the user's kubeconfig.

use kube::Client;
use kube::config::InferConfigError;

use crate::controller::connection::inferred;

/// The field manager: Flux takes over what others write whose name begins with `kubectl`.
pub(crate) const FIELD_MANAGER: &str = "opendepot-release";

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("no Kubernetes cluster is configured: {0}")]
    Config(#[from] InferConfigError),
    #[error("the kubeconfig cannot be used: {0}")]
    Client(#[from] kube::Error),
}

/// A client, and the namespace to work in: the given one, or that of the kubeconfig's context.
pub(crate) async fn connect(namespace: Option<&str>) -> Result<(Client, String), ConnectError> {
    let config = inferred().await?;
    let namespace = namespace.unwrap_or(&config.default_namespace).to_owned();
    Ok((Client::try_from(config)?, namespace))
}
