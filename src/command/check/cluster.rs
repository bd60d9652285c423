//! The checks of the cluster: the API server, CRDs and permissions.

use kube::{Client, Config};

use super::arguments::Arguments;
use super::report::Line;
use super::{crds, rights};
use crate::command::connection::{ConnectError, configuration};
use crate::controller::lease::own_namespace;
use crate::controller::{client, connection};

/// A connection to the API server.
pub(crate) struct Cluster {
    pub client: Client,
    /// Namespace of the kubeconfig's context, or of the pod.
    pub namespace: String,
}

/// Connects to the cluster and checks it.
pub(crate) async fn cluster(arguments: &Arguments) -> (Vec<Line>, Option<Cluster>) {
    const CHECK: &str = "cluster";
    let failed = |message: String, fix: &str| (vec![Line::failed(CHECK, message, fix)], None);
    let mut config: Config = match configuration().await {
        Ok(config) => config,
        Err(error @ ConnectError::Proxy) => {
            return failed(error.to_string(), "choose a context of the kubeconfig without proxy-url");
        }
        Err(error) => {
            let fix = "correct the kubeconfig, set KUBECONFIG, or run this in a pod with a ServiceAccount";
            return failed(error.to_string(), fix);
        }
    };
    config.auth_info.impersonate.clone_from(&arguments.impersonate);
    let of_user = || arguments.impersonate.as_deref().and_then(namespace_of);
    let lease_namespace = arguments.lease_namespace.clone().or_else(of_user);
    let lease_namespace = lease_namespace.unwrap_or_else(|| own_namespace(&config));
    let (url, namespace) = (connection::address(&config), config.default_namespace.clone());
    let connection = match connection::client(config) {
        Ok(client) => client,
        Err(error) => {
            let message = format!("the kubeconfig cannot be used: {}", client::explain(&error));
            return failed(message, "correct the kubeconfig, or log in again");
        }
    };
    let version = match connection.apiserver_version().await {
        Ok(version) => version,
        Err(error) => {
            return failed(format!("{url}: {}", client::explain(&error)), fix(&error, arguments));
        }
    };
    let mut lines = vec![Line::ok(CHECK, format!("Kubernetes {} at {url}", version.git_version))];
    lines.extend(crds::check(&connection).await);
    let lease = arguments.leader_elect.then_some((lease_namespace.as_str(), arguments.lease_name.as_str()));
    lines.extend(rights::check(&connection, &arguments.namespaces, &arguments.secret_names, lease).await);
    (lines, Some(Cluster { client: connection, namespace }))
}

/// What to do if the API server cannot be used.
fn fix(error: &kube::Error, arguments: &Arguments) -> &'static str {
    match error {
        kube::Error::Api(status) if status.code == 401 => {
            "log in again, or renew the credentials of the kubeconfig"
        }
        kube::Error::Api(status) if status.is_forbidden() && arguments.impersonate.is_some() => {
            "allow your user to impersonate this one, or leave out --as"
        }
        _ => "check the kubeconfig and the network",
    }
}

/// The namespace of a service account's user name.
fn namespace_of(user: &str) -> Option<String> {
    Some(user.strip_prefix("system:serviceaccount:")?.split_once(':')?.0.to_owned())
}
