//! The connection of the commands to a cluster, with the user's kubeconfig.

use kube::config::Kubeconfig;
use kube::{Client, Config};

use crate::controller::connection::{NotConfigured, config, kubeconfig};

/// The field manager of the commands. Flux takes ownership of fields whose manager's name begins with `kubectl`.
pub(crate) const FIELD_MANAGER: &str = "opendepot-release";

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("no Kubernetes cluster is configured: {0}")]
    Config(#[from] NotConfigured),
    #[error(
        "the kubeconfig names a proxy-url for this cluster, which opendepot does not support: use a context without it, or a \
         tunnel"
    )]
    Proxy,
    #[error("the kubeconfig cannot be used: {0}")]
    Client(#[from] kube::Error),
}

/// The configuration of the kubeconfig, or of the pod.
///
/// # Errors
/// [`ConnectError`] if there is neither, or a proxy is needed.
pub(crate) async fn configuration() -> Result<Config, ConnectError> {
    let config = config().await?;
    // In a pod, a kubeconfig that cannot be used is ignored. Only the configuration of a pod has this file.
    let is_of_pod = config.root_cert_file.is_some();
    if !is_of_pod && kubeconfig().is_ok_and(|kubeconfig| has_proxy(&kubeconfig)) {
        return Err(ConnectError::Proxy);
    }
    Ok(config)
}

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
    Ok((Client::try_from(config)?, namespace))
}

/// Whether the cluster of the current context is behind a proxy.
fn has_proxy(kubeconfig: &Kubeconfig) -> bool {
    let Some(current) = &kubeconfig.current_context else { return false };
    let context = kubeconfig.contexts.iter().find(|named| named.name == *current);
    let Some(context) = context.and_then(|named| named.context.as_ref()) else { return false };
    let cluster = kubeconfig.clusters.iter().find(|named| named.name == context.cluster);
    let proxy = cluster.and_then(|named| named.cluster.as_ref()?.proxy_url.as_ref());
    proxy.is_some_and(|url| !url.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_proxy_of_the_current_context_counts() {
        for (current, expected) in
            [(Some("direct"), false), (Some("empty"), false), (Some("behind"), true), (None, false)]
        {
            let names = ["direct", "empty", "behind"];
            let contexts =
                names.map(|name| json!({"name": name, "context": {"cluster": name, "user": "me"}}));
            let kubeconfig: Kubeconfig = serde_json::from_value(json!({
                "current-context": current,
                "contexts": contexts,
                "clusters": [
                    {"name": "direct", "cluster": {"server": "https://a"}},
                    {"name": "empty", "cluster": {"server": "https://b", "proxy-url": ""}},
                    {"name": "behind", "cluster": {"server": "https://c", "proxy-url": "http://proxy:3128"}},
                ],
            }))
            .unwrap();
            assert_eq!(has_proxy(&kubeconfig), expected, "{current:?}");
        }
    }
}
