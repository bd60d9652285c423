//! What GitHub shows: the hosts that are reached, the credentials of a Secret, and a repository.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};

use super::report::Line;
use crate::controller::client::explain;
use crate::domain::Repository;
use crate::github::{Credential, FetchError, GitHub, credential_from_secret};

const GITHUB: &str = "github";
const EGRESS: &str = "egress";

/// One line per host.
pub(crate) async fn egress(github: &GitHub, hosts: &BTreeSet<String>) -> Vec<Line> {
    let mut lines = Vec::new();
    for host in hosts {
        lines.push(match github.reach(host).await {
            Ok(status) => Line::ok(EGRESS, format!("https://{host} answers (HTTP {status})")),
            Err(error) => Line::failed(
                EGRESS,
                error.to_string(),
                "allow egress to port 443 (NetworkPolicy, firewall), or set HTTPS_PROXY; for a private CA, set --ca-file",
            ),
        });
    }
    lines
}

/// The credentials of a Secret, or the line to print.
pub(crate) async fn credential(client: &Client, namespace: &str, name: &str) -> Result<Credential, Line> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let what = format!("Secret {name} in namespace {namespace}");
    let keys = "githubAppID, githubInstallID and githubPrivateKey, or githubToken";
    let found = secrets.get_opt(name).await.map_err(|error| {
        let fix = "grant get of Secrets in that namespace, or name another one with --secret";
        Line::failed(GITHUB, format!("{what} cannot be read: {}", explain(&error)), fix)
    })?;
    let missing = || Line::failed(GITHUB, format!("{what} does not exist"), format!("create it with {keys}"));
    let secret = found.ok_or_else(missing)?;
    let data: BTreeMap<String, Vec<u8>> = secret.data.into_iter().flatten().map(|(k, v)| (k, v.0)).collect();
    credential_from_secret(&data)
        .map_err(|error| Line::failed(GITHUB, format!("{what}: {error}"), format!("set {keys}")))
}

/// Whether GitHub shows the repository to the credential.
pub(crate) async fn repository(github: &GitHub, repository: &Repository, credential: &Credential) -> Line {
    let whom = match credential {
        Credential::Anonymous => "without credentials".to_owned(),
        Credential::Token(_) => "with the token of the Secret".to_owned(),
        Credential::App(app) => format!("as App {}, installation {}", app.app_id, app.installation_id),
    };
    match github.is_visible(repository, credential).await {
        Ok(()) => Line::ok(GITHUB, format!("{repository} is visible {whom}")),
        Err(error) => Line::failed(GITHUB, error.to_string(), fix(&error)),
    }
}

fn fix(error: &FetchError) -> &'static str {
    match error {
        FetchError::RepositoryNotFound { authenticated: true, .. } => {
            "give the App or the token access to this repository, or correct the address"
        }
        // Each run of this command has a new token, so the answer is not certain.
        FetchError::TokenNotReady { .. } => {
            "install the App in the organisation with access to this repository, or correct the address; check again, because \
             the new token may not have reached all of GitHub's servers"
        }
        FetchError::RepositoryNotFound { .. } => {
            "correct the address or, for a private repository, create a Secret and set useAuthenticatedClient (here: --secret)"
        }
        FetchError::CredentialRefused { .. } => {
            "renew githubToken, or compare githubAppID, githubInstallID and githubPrivateKey with the App's settings"
        }
        FetchError::HostNotAllowed { .. } => "set --github-host to this host, here and at the operator",
        FetchError::Network { .. } => "check the egress, the proxy and --ca-file",
        FetchError::RateLimited { .. } | FetchError::Blocked { .. } => {
            "wait until then, or use an App's credentials"
        }
        _ => "see the message; if GitHub itself fails, check again later",
    }
}
