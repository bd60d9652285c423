//! Terraform's protocol for credentials helpers: `get`, `store` and `forget`, then a host.
//!
//! Both clients run the helper for every host that a configuration mentions. A token is given only to hosts that the user has
//! named: for any other host, no file is read and no request is sent.

mod github;
mod kubernetes;

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;
use url::quirks::domain_to_ascii;

use super::auth::token::{Unverified, is_token68};
use crate::domain::names::{is_dns_label, is_dns_subdomain};

/// A verb of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Verb {
    Get,
    Store,
    Forget,
}

/// Settings of the helper.
#[derive(Clone, Debug, Default)]
pub struct Helper {
    /// The hosts that may receive tokens.
    pub hosts: Vec<String>,
    /// A file that holds a token.
    pub token_file: Option<PathBuf>,
    /// `NAMESPACE/NAME` of the service account whose tokens the user's kubeconfig may request; not checked yet.
    pub service_account: Option<String>,
}

/// Why there is no token. Both clients write the message to their log (`TF_LOG=warn`) only, and go on without a token.
#[derive(Debug, Error)]
pub enum CredentialsError {
    #[error(
        "no source of a token for {0}: set OPENDEPOT_TOKEN_FILE, write --service-account NAMESPACE/NAME in args of \
         credentials_helper, or give the GitHub Actions job the permission id-token: write"
    )]
    NoSource(String),
    #[error("OPENDEPOT_TOKEN_FILE {path}: {error}")]
    File { path: PathBuf, error: std::io::Error },
    #[error("OPENDEPOT_TOKEN_FILE {0}: write one token into the file, and nothing else")]
    NoToken(PathBuf),
    #[error(
        "OPENDEPOT_TOKEN_FILE {path}: the token is not for {host}: set the audience of the projected volume to {host}"
    )]
    OtherAudience { path: PathBuf, host: String },
    #[error("cannot get a token from GitHub Actions: {0}")]
    GitHub(String),
    #[error("service account {0:?}: write NAMESPACE/NAME, such as team-a/terraform")]
    ServiceAccount(String),
    #[error("cannot get a token for service account {account}: {problem}")]
    Kubernetes { account: String, problem: String },
    #[error("this helper stores no tokens: remove credentials_helper before `terraform login`")]
    Store,
}

/// Answers one request: the text for standard output.
pub async fn answer(helper: &Helper, verb: Verb, host: &str) -> Result<String, CredentialsError> {
    match verb {
        // Nothing is stored, so there is nothing to forget.
        Verb::Forget => Ok(String::new()),
        Verb::Store => Err(CredentialsError::Store),
        Verb::Get if !helper.answers(host) => Ok("{}\n".into()),
        Verb::Get => {
            let token = helper.token(&normalised(host)).await?;
            let answer = serde_json::json!({ "token": token.expose_secret() });
            Ok(format!("{answer}\n"))
        }
    }
}

impl Helper {
    /// Why a request for a token has an empty answer, if it has. This is no error: the clients request tokens for all hosts.
    pub fn unnamed(&self, verb: Verb, host: &str) -> Option<String> {
        let is_unnamed = verb == Verb::Get && !self.answers(host);
        is_unnamed.then(|| {
            format!(
                "no token for {host:?}: it is not among the hosts in --host or OPENDEPOT_HOST {:?}; write a host as in addresses \
                 of modules, such as registry.acme.io or registry.acme.io:8443",
                self.hosts
            )
        })
    }

    fn answers(&self, host: &str) -> bool {
        let host = normalised(host);
        !host.is_empty() && self.hosts.iter().any(|named| normalised(named) == host)
    }

    /// The first source that is configured decides.
    async fn token(&self, host: &str) -> Result<SecretString, CredentialsError> {
        if let Some(path) = &self.token_file {
            return from_file(path, host);
        }
        if let Some(token) = github::token(host).await {
            return token.map_err(CredentialsError::GitHub);
        }
        if let Some(account) = &self.service_account {
            let (namespace, name) = service_account(account)?;
            let failed = |problem| CredentialsError::Kubernetes { account: account.clone(), problem };
            return kubernetes::request(namespace, name, host).await.map_err(failed);
        }
        Err(CredentialsError::NoSource(host.into()))
    }
}

fn service_account(text: &str) -> Result<(&str, &str), CredentialsError> {
    text.split_once('/')
        .filter(|(namespace, name)| is_dns_label(namespace) && is_dns_subdomain(name, 253))
        .ok_or_else(|| CredentialsError::ServiceAccount(text.to_owned()))
}

/// As both clients write hosts: in lower case, without the port of HTTPS, and international names in their ASCII form.
fn normalised(host: &str) -> String {
    let host = host.trim().to_ascii_lowercase();
    let host = host.strip_suffix(":443").unwrap_or(&host);
    if host.is_ascii() {
        return host.to_owned();
    }
    let name = host.split(':').next().unwrap_or_default();
    // Empty if it is not a host name: then no client requests it.
    let ascii = domain_to_ascii(name);
    if ascii.is_empty() { host.to_owned() } else { host.replacen(name, &ascii, 1) }
}

/// A token that is for another audience might open something else, and is not handed over.
fn from_file(path: &Path, host: &str) -> Result<SecretString, CredentialsError> {
    let text =
        std::fs::read_to_string(path).map_err(|error| CredentialsError::File { path: path.into(), error })?;
    let token = SecretString::from(text.trim());
    if !is_token68(token.expose_secret()) {
        return Err(CredentialsError::NoToken(path.into()));
    }
    match Unverified::parse(token.expose_secret()) {
        Some(jwt) if !jwt.is_for([host]) => {
            Err(CredentialsError::OtherAudience { path: path.into(), host: host.into() })
        }
        _ => Ok(token),
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::{Value, json};

    use super::*;

    fn helper(token: &str) -> (tempfile::TempDir, Helper) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, token).unwrap();
        let hosts = vec!["registry.acme.io".into(), "127.0.0.1:8443".into()];
        (folder, Helper { hosts, token_file: Some(path), service_account: None })
    }

    fn jwt(audience: &Value) -> String {
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.c2ln", part(json!({ "alg": "RS256" })), part(json!({ "aud": audience })))
    }

    #[tokio::test]
    async fn only_named_hosts_are_answered() {
        let (_folder, helper) = helper("odt_secret\n");
        for host in ["registry.acme.io", "Registry.ACME.io", "registry.acme.io:443", "127.0.0.1:8443"] {
            let answer = answer(&helper, Verb::Get, host).await.unwrap();
            assert_eq!(answer, "{\"token\":\"odt_secret\"}\n", "{host}");
        }
        // The file is not even read, and the service account not looked at.
        let broken =
            Helper { token_file: Some("/none".into()), service_account: Some("none".into()), ..helper };
        for host in
            ["app.terraform.io", "registry.acme.io.evil.com", "registry.acme.io:8443", "127.0.0.1", ""]
        {
            assert_eq!(answer(&broken, Verb::Get, host).await.unwrap(), "{}\n", "{host}");
        }
        let url = Helper { hosts: vec!["https://registry.acme.io".into()], ..broken.clone() };
        assert_eq!(answer(&url, Verb::Get, "registry.acme.io").await.unwrap(), "{}\n");
        let note = url.unnamed(Verb::Get, "registry.acme.io").unwrap();
        assert!(note.contains("OPENDEPOT_HOST [\"https://registry.acme.io\"]"), "{note}");
        assert_eq!(broken.unnamed(Verb::Get, "registry.acme.io"), None);
        assert_eq!(url.unnamed(Verb::Forget, "registry.acme.io"), None);
        let unnamed = Helper { hosts: vec![String::new()], ..broken };
        assert_eq!(answer(&unnamed, Verb::Get, "registry.acme.io").await.unwrap(), "{}\n");
        assert_eq!(answer(&unnamed, Verb::Get, "").await.unwrap(), "{}\n");
    }

    #[test]
    fn an_international_host_is_named_in_either_form() {
        for host in ["módulos.acme.io", "Módulos.ACME.io:443", "xn--mdulos-bxa.acme.io"] {
            let helper = Helper { hosts: vec![host.into()], ..Helper::default() };
            assert!(helper.answers("xn--mdulos-bxa.acme.io"), "{host}");
            assert!(!helper.answers("xn--mdulos-bxa.acme.io:8443"), "{host}");
            assert!(!helper.answers("modulos.acme.io"), "{host}");
        }
        let helper = Helper { hosts: vec!["módulos.acme.io:8443".into()], ..Helper::default() };
        assert!(helper.answers("xn--mdulos-bxa.acme.io:8443"));
        let helper = Helper { hosts: vec!["mó dulos".into()], ..Helper::default() };
        assert!(!helper.answers(""));
    }

    #[tokio::test]
    async fn a_jwt_is_given_only_to_its_audience() {
        for (token, given) in [
            (jwt(&json!("registry.acme.io")), true),
            (jwt(&json!(["a", "registry.acme.io"])), true),
            (jwt(&json!(["https://kubernetes.default.svc"])), false),
            (jwt(&json!("registry.acme.io.evil")), false),
            (jwt(&Value::Null), false),
            ("two tokens".into(), false),
            (String::new(), false),
        ] {
            let (_folder, helper) = helper(&token);
            match answer(&helper, Verb::Get, "registry.acme.io").await {
                Ok(answer) => assert!(given && answer.contains(&token), "{token}"),
                Err(error) => {
                    let message = error.to_string();
                    assert!(!given && (token.is_empty() || !message.contains(&token)), "{message}");
                    assert!(message.contains("OPENDEPOT_TOKEN_FILE"), "{message}");
                }
            }
        }
    }

    #[test]
    fn a_service_account_is_a_namespace_and_a_name() {
        assert_eq!(service_account("team-a/ci.1").ok(), Some(("team-a", "ci.1")));
        for text in ["", "ci", "/ci", "team-a/", "Team/ci", "a.b/ci", "a/b/c", "team-a/ci "] {
            let message = service_account(text).unwrap_err().to_string();
            assert!(message.contains("such as team-a/terraform"), "{message}");
        }
    }

    #[tokio::test]
    async fn nothing_is_stored() {
        let (_folder, helper) = helper("odt_secret");
        assert_eq!(answer(&helper, Verb::Forget, "registry.acme.io").await.unwrap(), "");
        assert!(answer(&helper, Verb::Store, "registry.acme.io").await.is_err());
    }
}
