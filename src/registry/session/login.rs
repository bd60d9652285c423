//! `--login-issuer` and its companions, and their part of service discovery. Pure.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use thiserror::Error;
use url::{Url, form_urlencoded};

use super::attempt::{Attempt, text};
use crate::registry::auth::{Access, Endpoints, Issuer};
use crate::registry::path::MODULES;

/// The path to which the provider sends browsers back.
pub(super) const CALLBACK: &str = "/login/callback";
/// The first and the last port at which the clients may listen for the provider's answer. They never use the last one.
const PORTS: [u16; 2] = [10_000, 10_020];

/// Settings of signing in. Their names are those of the flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginSettings {
    /// `--login-issuer`
    pub issuer: String,
    /// `--login-client`
    pub client: String,
    /// `--login-scopes`
    pub scopes: Vec<String>,
}

/// The process cannot start with these settings.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum LoginError {
    #[error("--login-issuer {0}: no issuer in --auth-config has this url: write one of them")]
    Issuer(String),
    #[error(
        "--login-issuer: set --url to the https URL of the registry, to which the identity provider sends browsers back"
    )]
    Url,
    #[error("--login-scopes: add openid, without which an identity provider issues no id token")]
    Scopes,
}

/// Checked settings.
pub struct Login {
    pub issuer: Arc<Issuer>,
    pub client: String,
    scopes: Vec<String>,
    redirect: String,
}

impl Login {
    /// Checks the settings.
    pub fn new(settings: LoginSettings, access: &Access, url: Option<&Url>) -> Result<Self, LoginError> {
        let LoginSettings { issuer, client, scopes } = settings;
        let issuer = access.issuer(&issuer).ok_or(LoginError::Issuer(issuer))?;
        let redirect = url.filter(|url| url.scheme() == "https").and_then(|url| url.join(CALLBACK).ok());
        let redirect = redirect.ok_or(LoginError::Url)?.into();
        if !scopes.iter().any(|scope| scope == "openid") {
            return Err(LoginError::Scopes);
        }
        Ok(Self { issuer, client, scopes, redirect })
    }

    /// The provider's URL that a browser is sent to.
    pub fn authorization(&self, endpoints: &Endpoints, attempt: &Attempt) -> String {
        let mut url = endpoints.authorization.clone();
        let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, text(&attempt.verifier).as_bytes()));
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.client)
            .append_pair("redirect_uri", &self.redirect)
            .append_pair("scope", &self.scopes.join(" "))
            .append_pair("state", &text(&attempt.state))
            .append_pair("nonce", &text(&attempt.nonce))
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256");
        url.into()
    }

    /// The form that exchanges a code for tokens.
    pub fn exchange(&self, code: &str, attempt: &Attempt) -> String {
        form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "authorization_code")
            .append_pair("client_id", &self.client)
            .append_pair("redirect_uri", &self.redirect)
            .append_pair("code", code)
            .append_pair("code_verifier", &text(&attempt.verifier))
            .finish()
    }

    /// The document of service discovery, with the provider's own endpoints for `terraform login`.
    pub fn discovery(&self, endpoints: &Endpoints) -> String {
        json!({
            "modules.v1": MODULES,
            "login.v1": {
                "client": self.client,
                "grant_types": ["authz_code"],
                "authz": endpoints.authorization.as_str(),
                "token": endpoints.token.as_str(),
                "ports": PORTS,
                "scopes": self.scopes,
            },
        })
        .to_string()
    }
}
