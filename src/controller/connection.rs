//! Connections to the API server, with the kubeconfig that kubectl reads or the service account of a pod.

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::time::Duration;

use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::runtime::watcher;
use kube::{Client, Config};

use super::bounded_client::bounded;
use super::client::explain;
use super::without_secrets::without_secrets;

/// Seconds after which the API server ends a watch, which then continues on a new connection. If no end arrives within 5 more
/// seconds, kube treats the connection as lost: a load balancer may drop one without closing it.
const WATCH_SECONDS: u32 = 120;
/// Longer than the 34 seconds after which the API server ends a write whose webhooks hang, with an answer that names the webhook.
const READ_TIMEOUT: Duration = Duration::from_secs(40);
/// Time without a byte after which a connection for watches counts as lost. A watch can be silent until it ends.
const WATCH_READ_TIMEOUT: Duration = Duration::from_secs(150);

/// Why no cluster is configured.
#[derive(Debug, thiserror::Error)]
pub enum NotConfigured {
    #[error("the kubeconfig cannot be used: {}", without_secrets(&**.0))]
    Kubeconfig(Box<KubeconfigError>),
    #[error(
        "no Kubernetes cluster is configured: kubeconfig: {kubeconfig}; service account of a pod: {in_cluster}"
    )]
    Neither { kubeconfig: Box<KubeconfigError>, in_cluster: Box<InClusterError> },
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("{0}")]
    Config(#[from] NotConfigured),
    #[error(
        "the kubeconfig names a proxy-url for this cluster, which opendepot does not support: use a context without it, or a \
         tunnel"
    )]
    Proxy,
    #[error("the kubeconfig cannot be used: {}", explain(.0))]
    Client(#[from] kube::Error),
}

/// The kubeconfig that kubectl reads: the files of `KUBECONFIG`, or that of the home folder.
///
/// # Errors
/// [`KubeconfigError`] if none of the files exists, or one cannot be read.
pub(crate) fn kubeconfig() -> Result<Kubeconfig, KubeconfigError> {
    match std::env::var_os("KUBECONFIG").filter(|list| !list.is_empty()) {
        Some(list) => merged(&list),
        None => Kubeconfig::read().map(without_empty_context).map_err(hidden_as_absent),
    }
}

/// A file in a folder that this process may not search, such as the home of the image's user, counts as absent: no user has named
/// it. One that exists and cannot be read may be the one that a user chose.
fn hidden_as_absent(error: KubeconfigError) -> KubeconfigError {
    match error {
        KubeconfigError::ReadConfig(error, path)
            if error.kind() == ErrorKind::PermissionDenied && path.try_exists().is_err() =>
        {
            KubeconfigError::ReadConfig(io::Error::new(ErrorKind::NotFound, error), path)
        }
        error => error,
    }
}

/// Merges a list of files. As in client-go, files that do not exist are skipped, and an empty current context is none.
fn merged(list: &OsStr) -> Result<Kubeconfig, KubeconfigError> {
    let paths: Vec<PathBuf> =
        std::env::split_paths(list).filter(|path| !path.as_os_str().is_empty()).collect();
    let mut present = paths.iter().filter(|path| path.try_exists().unwrap_or(true)).peekable();
    if let (None, Some(first)) = (present.peek(), paths.first()) {
        return Kubeconfig::read_from(first);
    }
    present.try_fold(Kubeconfig::default(), |merged, path| {
        merged.merge(without_empty_context(Kubeconfig::read_from(path)?))
    })
}

fn without_empty_context(mut kubeconfig: Kubeconfig) -> Kubeconfig {
    kubeconfig.current_context = kubeconfig.current_context.filter(|name| !name.is_empty());
    kubeconfig
}

/// The configuration of the kubeconfig, or that of the pod if there is none. Fails if there is neither.
async fn inferred() -> Result<Config, NotConfigured> {
    let read = async { Config::from_custom_kubeconfig(kubeconfig()?, &KubeConfigOptions::default()).await };
    let mut config = match read.await {
        Ok(config) => config,
        Err(error) if !is_absent(&error) => return Err(NotConfigured::Kubeconfig(Box::new(error))),
        Err(kubeconfig) => Config::incluster().map_err(|in_cluster| NotConfigured::Neither {
            kubeconfig: Box::new(kubeconfig),
            in_cluster: Box::new(in_cluster),
        })?,
    };
    // The proxy of the environment is for GitHub and S3. kube compares NO_PROXY with the wrong address.
    config.proxy_url = None;
    Ok(config)
}

/// Whether there is no kubeconfig. As in client-go, one without a current context is none. A damaged one is not: with the service
/// account of its pod, a command would change another cluster than the one that its user chose.
fn is_absent(error: &KubeconfigError) -> bool {
    match error {
        KubeconfigError::FindPath | KubeconfigError::CurrentContextNotSet => true,
        // The home folder may be `/dev/null`.
        KubeconfigError::ReadConfig(error, _) => {
            matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
        }
        _ => false,
    }
}

/// The same with timeouts: an API server that accepts a connection and does not answer blocks no caller.
pub(crate) async fn config_with_timeouts() -> Result<Config, NotConfigured> {
    let mut config = inferred().await?;
    // kube retries a POST up to 15 times; each caller has its own back-off.
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(10));
    config.read_timeout = Some(READ_TIMEOUT);
    Ok(config)
}

/// The same for the commands of users, whose kubeconfig can name a proxy.
///
/// # Errors
/// [`ConnectError`] if there is neither, or a proxy is needed.
pub(crate) async fn configuration() -> Result<Config, ConnectError> {
    let config = config_with_timeouts().await?;
    if kubeconfig().is_ok_and(|kubeconfig| has_proxy(&kubeconfig)) {
        return Err(ConnectError::Proxy);
    }
    Ok(config)
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

/// The configuration of [`config_with_timeouts`], for a client that watches.
pub(crate) fn for_watches(mut config: Config) -> Config {
    config.read_timeout = Some(WATCH_READ_TIMEOUT);
    config
}

/// The address of the API server without a user and password, which kube does not use.
pub(crate) fn address(config: &Config) -> String {
    let url = &config.cluster_url;
    let user = url.authority().and_then(|authority| Some(authority.as_str().rsplit_once('@')?.0));
    user.map_or_else(|| url.to_string(), |user| url.to_string().replacen(&format!("{user}@"), "", 1))
}

/// A client with this configuration, whose [answers](super::bounded_client) have bounds.
pub(crate) fn client(config: Config) -> Result<Client, kube::Error> {
    Ok(bounded(Client::try_from(config)?))
}

/// The parameters of a watch, whose lists are read in pages of `page_size` objects.
pub(crate) fn watch_config(page_size: u32) -> watcher::Config {
    watcher::Config::default().page_size(page_size).timeout(WATCH_SECONDS)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_silent_watch_ends_before_its_connection_counts_as_lost() {
        let seconds = watch_config(50).timeout.map(u64::from);
        assert!(seconds.is_some_and(|seconds| seconds < WATCH_READ_TIMEOUT.as_secs()), "{seconds:?}");
        let config = Config::new("https://kubernetes.default.svc".parse().unwrap());
        assert_eq!(for_watches(config).read_timeout, Some(WATCH_READ_TIMEOUT));
    }

    #[test]
    fn a_list_of_files_is_merged_as_kubectl_merges_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let good =
            file("good", "current-context: a\ncontexts: [{name: a, context: {cluster: a, user: a}}]\n");
        let other =
            file("other", "current-context: b\ncontexts: [{name: b, context: {cluster: b, user: b}}]\n");
        let unset = file("unset", "current-context: ''\n");
        let (damaged, absent, none) = (file("damaged", "a: ["), folder.path().join("absent"), PathBuf::new());
        for (paths, expected) in [
            (vec![&good], Some("a 1")),
            (vec![&absent, &good], Some("a 1")),
            (vec![&good, &absent, &none], Some("a 1")),
            (vec![&unset, &good, &other], Some("a 2")),
            (vec![&other, &unset, &good], Some("b 2")),
            (vec![&unset], Some("- 0")),
            (vec![&absent], None),
            (vec![&good, &damaged], None),
        ] {
            let merged = merged(&std::env::join_paths(&paths).unwrap()).ok();
            let merged = merged.map(|merged| {
                let current = merged.current_context.unwrap_or_else(|| "-".to_owned());
                format!("{current} {}", merged.contexts.len())
            });
            assert_eq!(merged.as_deref(), expected, "{paths:?}");
        }
    }

    #[tokio::test]
    async fn a_pod_uses_its_account_only_if_there_is_no_kubeconfig() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kubeconfig");
        let context = "contexts: [{name: a, context: {cluster: a, user: a}}]\n";
        for (text, expected) in [
            (None, true),
            (Some(String::new()), true),
            (Some(context.to_owned()), true),
            (Some(format!("current-context: ''\n{context}")), true),
            (Some(format!("current-context: b\n{context}")), false),
            (Some(format!("current-context: a\n{context}")), false),
            (Some("current-context: [".to_owned()), false),
        ] {
            if let Some(text) = &text {
                std::fs::write(&path, text).unwrap();
            }
            let error = match merged(path.as_os_str()) {
                Ok(kubeconfig) => {
                    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.err()
                }
                Err(error) => Some(error),
            };
            assert_eq!(error.as_ref().map(is_absent), Some(expected), "{text:?}: {error:?}");
        }
        let below_a_file = merged(path.join("config").as_os_str()).unwrap_err();
        assert!(is_absent(&below_a_file), "{below_a_file:?}");
        for (denied, expected) in [(path.join("config"), true), (path, false)] {
            let error = KubeconfigError::ReadConfig(ErrorKind::PermissionDenied.into(), denied);
            assert!(!is_absent(&error), "named by KUBECONFIG: {error:?}");
            assert_eq!(is_absent(&hidden_as_absent(error)), expected, "of the home folder");
        }
    }

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
