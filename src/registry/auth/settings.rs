//! Settings of access control, and what can be wrong with them.

use std::path::PathBuf;

use reqwest::Certificate;
use secrecy::SecretString;
use thiserror::Error;

use crate::domain::CertificatesError;
use crate::domain::text::causes;

/// Settings of access control. Their names are those of the flags.
#[derive(Clone, Debug, Default)]
pub struct AccessSettings {
    /// `--audience`, or its default: `HOST[:PORT]` of `--url`.
    pub audience: Option<String>,
    /// `--auth-config`: a file in the format of Kubernetes' `AuthenticationConfiguration`.
    pub auth_config: Option<PathBuf>,
    /// `--tokens-dir`: a mounted Secret.
    pub tokens_dir: Option<PathBuf>,
    pub anonymous: bool,
    /// Whether `--login-issuer` is set, so that `terraform login` works.
    pub login: bool,
    /// The certificates of `--ca-file`, trusted for identity providers in addition to the system's.
    pub roots: Vec<Certificate>,
    /// The token with which this process talks to the API server: see [`own_token`](super::own_token).
    pub own_token: Option<SecretString>,
}

/// The process cannot start with these settings. Each message names the flag and what to write.
#[derive(Debug, Error)]
pub enum AccessError {
    #[error("--audience: write the registry's host, such as registry.acme.io, or set --url")]
    NoAudience,
    #[error("--audience {0:?}: write a text of visible characters, such as registry.acme.io")]
    InvalidAudience(String),
    #[error(
        "--audience {0}: tokens for this audience give access to the Kubernetes API: write another one, such as the registry's host"
    )]
    ApiAudience(String),
    #[error("--tokens-dir {path}: {error}: mount the Secret with the tokens there")]
    TokensDir { path: PathBuf, error: std::io::Error },
    #[error("--auth-config {path}: {error}")]
    AuthConfigFile { path: PathBuf, error: std::io::Error },
    #[error("--auth-config {path}: {problem}")]
    AuthConfig { path: PathBuf, problem: String },
    #[error("--auth-config: certificateAuthority of {issuer}: {error}")]
    CertificateAuthority { issuer: String, error: CertificatesError },
    #[error("cannot create the HTTP client for identity providers: {}", causes(.0))]
    Client(reqwest::Error),
}
