//! The connection of the commands to a cluster, with the user's kubeconfig.

use kube::Client;

pub use crate::controller::connection::ConnectError;
use crate::controller::connection::client;
pub(crate) use crate::controller::connection::configuration;

/// The field manager of the commands. Flux takes ownership of fields whose manager's name begins with `kubectl`.
pub(crate) const FIELD_MANAGER: &str = "opendepot-release";

/// Why a command cannot work where the CRDs are missing.
pub(crate) const NO_KIND: &str = "the cluster has no kind Module or Version: install OpenDepot's CRDs (opendepot crd), or choose another context";

/// Which side retries a request while the API server is overloaded or starting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    /// The client, for some seconds.
    ByClient,
    /// The command.
    ByCommand,
}

/// A client, and the namespace to work in: the given one, or that of the kubeconfig's context.
pub(crate) async fn connect(namespace: Option<&str>, retry: Retry) -> Result<(Client, String), ConnectError> {
    let mut config = configuration().await?;
    config.default_retry = retry == Retry::ByClient;
    let namespace = namespace.unwrap_or(&config.default_namespace).to_owned();
    Ok((client(config)?, namespace))
}
