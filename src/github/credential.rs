//! Credentials for GitHub from a Secret, validated before any request. No secret appears in a message or `Debug` text.

use std::{collections::BTreeMap, str};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, prelude::BASE64_STANDARD};
use octocrab::{
    auth::{EncodingKey, create_jwt},
    models::AppId,
};
use secrecy::{ExposeSecret, SecretString};

const APP_ID: &str = "githubAppID";
const INSTALLATION_ID: &str = "githubInstallID";
const PRIVATE_KEY: &str = "githubPrivateKey";
const TOKEN: &str = "githubToken";
const PEM_START: &str = "-----BEGIN";

/// Credential of a request.
#[derive(Debug, Clone)]
pub enum Credential {
    /// Public repositories only.
    Anonymous,
    /// A personal access token, classic or fine-grained.
    Token(SecretString),
    App(AppKey),
}

/// A GitHub App's private key and installation.
#[derive(Debug, Clone)]
pub struct AppKey {
    pub(crate) app_id: u64,
    pub(crate) installation_id: u64,
    pub(super) key: EncodingKey,
    fingerprint: Fingerprint,
}

/// A Secret without a usable credential.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    #[error("no credential: set githubAppID, githubInstallID and githubPrivateKey, or githubToken")]
    Missing,
    /// Some keys of an App are missing, and there is no token.
    #[error("the GitHub App's credential is incomplete: {} is missing or empty", .missing.join(" and "))]
    Incomplete { missing: Vec<&'static str> },
    #[error(
        "{key} is not a number: copy it from the App's settings page or from the URL of its installation"
    )]
    NotANumber { key: &'static str },
    /// The value is neither a PEM file nor the base64 of one.
    #[error("githubPrivateKey is not PEM: store the .pem file from GitHub, unchanged or base64-encoded once")]
    NotPem,
    /// The PEM file contains something else, or is damaged.
    #[error(
        "githubPrivateKey contains no usable RSA private key: generate a new key on the App's settings page"
    )]
    UnusableKey,
    #[error("githubToken contains characters that are invalid in a token: store only the token, on one line")]
    BadToken,
}

/// SHA-256 of a secret, to compare secrets without storing them.
type Fingerprint = [u8; 32];

/// A credential and a host. Each account has its own rate limits and installation token.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Account {
    pub(super) host: String,
    pub(super) identity: Identity,
}

/// Identity of a credential. An App's contains the fingerprint of its key: only callers with the key share its token. When an App
/// requests tokens, it is `AppItself`: GitHub counts these requests separately from those with the tokens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Identity {
    Anonymous,
    Token(Fingerprint),
    App { app_id: u64, installation_id: u64, fingerprint: Fingerprint },
    AppItself { app_id: u64, fingerprint: Fingerprint },
}

impl Identity {
    /// The label in metrics of the quota left for archives.
    pub(super) fn kind(&self) -> Option<&'static str> {
        match self {
            Self::Anonymous => Some("anonymous"),
            Self::Token(_) => Some("token"),
            Self::App { .. } => Some("app"),
            Self::AppItself { .. } => None,
        }
    }
}

impl Credential {
    /// A personal access token, possibly with white space around it.
    pub fn token(text: &[u8]) -> Result<Self, CredentialError> {
        let token = str::from_utf8(text.trim_ascii()).ok();
        let token = token.filter(|token| !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic()));
        Ok(Self::Token(token.ok_or(CredentialError::BadToken)?.into()))
    }

    pub(super) fn identity(&self) -> Identity {
        match self {
            Self::Anonymous => Identity::Anonymous,
            Self::Token(token) => Identity::Token(fingerprint(token.expose_secret().as_bytes())),
            &Self::App(AppKey { app_id, installation_id, fingerprint, .. }) => {
                Identity::App { app_id, installation_id, fingerprint }
            }
        }
    }
}

impl AppKey {
    /// Parses a PEM private key (PKCS#1 or PKCS#8, plain or base64-encoded once more) and signs with it once, so that a
    /// damaged key is found before any request.
    pub fn new(app_id: u64, installation_id: u64, pem: &[u8]) -> Result<Self, CredentialError> {
        let pem = pem_text(pem).ok_or(CredentialError::NotPem)?;
        let key = EncodingKey::from_rsa_pem(pem.expose_secret().as_bytes())
            .map_err(|_| CredentialError::UnusableKey)?;
        create_jwt(AppId(app_id), &key).map_err(|_| CredentialError::UnusableKey)?;
        let fingerprint = fingerprint(key.inner());
        Ok(Self { app_id, installation_id, key, fingerprint })
    }

    /// The identity for which GitHub counts requests for tokens.
    pub(super) fn itself(&self) -> Identity {
        Identity::AppItself { app_id: self.app_id, fingerprint: self.fingerprint }
    }
}

/// Reads a Secret's data: a complete GitHub App first, else a personal token. Empty values count as missing.
pub fn credential_from_secret(data: &BTreeMap<String, Vec<u8>>) -> Result<Credential, CredentialError> {
    let value = |key: &str| data.get(key).map(|v| v.trim_ascii()).filter(|v| !v.is_empty());
    let app = [APP_ID, INSTALLATION_ID, PRIVATE_KEY];
    if let [Some(app_id), Some(installation_id), Some(pem)] = app.map(value) {
        let app_id = number(APP_ID, app_id)?;
        let installation_id = number(INSTALLATION_ID, installation_id)?;
        return AppKey::new(app_id, installation_id, pem).map(Credential::App);
    }
    if let Some(token) = value(TOKEN) {
        return Credential::token(token);
    }
    let missing: Vec<_> = app.into_iter().filter(|key| value(key).is_none()).collect();
    if missing.len() == app.len() {
        return Err(CredentialError::Missing);
    }
    Err(CredentialError::Incomplete { missing })
}

fn number(key: &'static str, value: &[u8]) -> Result<u64, CredentialError> {
    str::from_utf8(value).ok().and_then(|v| v.parse().ok()).ok_or(CredentialError::NotANumber { key })
}

fn pem_text(value: &[u8]) -> Option<SecretString> {
    let text = str::from_utf8(value).ok()?;
    if text.contains(PEM_START) {
        return Some(tidied(text));
    }
    let packed: Vec<u8> = value.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
    let text = String::from_utf8(BASE64_STANDARD.decode(packed).ok()?).ok()?;
    text.contains(PEM_START).then(|| tidied(&text))
}

/// Restores line ends that quoting or indenting in YAML or in environment files has changed. PEM contains no backslash, so a
/// literal `\n` is a line end.
fn tidied(pem: &str) -> SecretString {
    let lines = pem.replace("\\r", "").replace("\\n", "\n");
    lines.lines().map(str::trim).collect::<Vec<_>>().join("\n").into()
}

fn fingerprint(secret: &[u8]) -> Fingerprint {
    let mut bytes = Fingerprint::default();
    bytes.copy_from_slice(digest(&SHA256, secret).as_ref());
    bytes
}

#[cfg(test)]
pub(super) mod tests;
