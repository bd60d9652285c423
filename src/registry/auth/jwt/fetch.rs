//! Requests to an issuer: its metadata, the JWKS that the metadata names, and tokens for codes.

use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Certificate, Client, Response, StatusCode, redirect};
use serde::Deserialize;
use url::Url;

use super::config::IssuerConfig;
use super::key_ring::{Pending, Source};
use super::keys::KeySet;
use crate::domain::certificates;
use crate::domain::text::error_chain;
use crate::registry::auth::settings::AccessError;

/// Time limit of both requests together.
const TIMEOUT: Duration = Duration::from_secs(5);
const LONGEST_DOCUMENT: usize = 256 * 1024;

/// The metadata of one issuer, over HTTPS without redirects. The proxy of the environment is used, as for GitHub.
pub struct Discovery {
    client: Client,
    issuer: String,
    address: Url,
}

#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
    authorization_endpoint: Option<String>,
    token_endpoint: Option<String>,
}

/// Where users sign in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    pub authorization: Url,
    pub token: Url,
}

impl Discovery {
    /// Trusts the issuer's own `certificateAuthority`, or else the system's certificates and those of `--ca-file`.
    pub fn new(config: &IssuerConfig, roots: &[Certificate]) -> Result<Self, AccessError> {
        let builder = Client::builder()
            .https_only(true)
            // HTTP/2 would use a connection again after a timeout, also one whose packets are lost behind a proxy.
            .http1_only()
            // Shorter than servers and proxies keep an unused connection.
            .pool_idle_timeout(Duration::from_secs(30))
            .redirect(redirect::Policy::none())
            .referer(false)
            .timeout(TIMEOUT)
            .user_agent(concat!("opendepot/", env!("CARGO_PKG_VERSION")));
        let builder = if let Some(pem) = &config.certificate_authority {
            let own = certificates(pem.as_bytes());
            let issuer = config.url.clone();
            builder.tls_certs_only(own.map_err(|error| AccessError::CertificateAuthority { issuer, error })?)
        } else {
            builder.tls_certs_merge(roots.iter().cloned())
        };
        let client = builder.build().map_err(AccessError::Client)?;
        Ok(Self { client, issuer: config.url.clone(), address: config.discovery.clone() })
    }

    /// Where users sign in, according to the metadata.
    pub async fn endpoints(&self) -> Result<Endpoints, String> {
        endpoints(&get(&self.client, &self.address).await?, &self.issuer)
    }

    /// Sends a form, and returns the status and the body of the answer.
    pub async fn post(&self, url: &Url, form: String) -> Result<(StatusCode, Vec<u8>), String> {
        let request = self.client.post(url.clone()).body(form);
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        let request = request.header(ACCEPT, "application/json");
        let response = request.send().await.map_err(|error| failed(url, error))?;
        Ok((response.status(), body(response, url).await?))
    }
}

impl Source for Discovery {
    fn fetch(&self) -> Pending {
        let (client, issuer, address) = (self.client.clone(), self.issuer.clone(), self.address.clone());
        Box::pin(async move {
            let both = async {
                let metadata = get(&client, &address).await?;
                let jwks = jwks_address(&metadata, &issuer)?;
                KeySet::parse(&get(&client, &jwks).await?).map_err(|problem| format!("{jwks}: {problem}"))
            };
            let late = |_| Err(format!("no answer within {} s", TIMEOUT.as_secs()));
            tokio::time::timeout(TIMEOUT, both).await.unwrap_or_else(late)
        })
    }
}

/// The address of the keys in metadata that is the issuer's own.
pub(super) fn jwks_address(text: &[u8], issuer: &str) -> Result<Url, String> {
    https("jwks_uri", &metadata(text, issuer)?.jwks_uri)
}

/// The endpoints in metadata that is the issuer's own.
pub(super) fn endpoints(text: &[u8], issuer: &str) -> Result<Endpoints, String> {
    let metadata = metadata(text, issuer)?;
    let endpoint = |name: &str, url: Option<String>| {
        https(name, &url.ok_or_else(|| format!("the metadata has no {name}"))?)
    };
    Ok(Endpoints {
        authorization: endpoint("authorization_endpoint", metadata.authorization_endpoint)?,
        token: endpoint("token_endpoint", metadata.token_endpoint)?,
    })
}

fn metadata(text: &[u8], issuer: &str) -> Result<Metadata, String> {
    let metadata: Metadata =
        serde_json::from_slice(text).map_err(|error| format!("not OpenID metadata: {error}"))?;
    if metadata.issuer != issuer {
        return Err(format!("the metadata belongs to the issuer {:?}", metadata.issuer));
    }
    Ok(metadata)
}

fn https(name: &str, text: &str) -> Result<Url, String> {
    let address = Url::parse(text).ok().filter(|url| url.scheme() == "https");
    address.ok_or_else(|| format!("{name} {text:?} is not an https URL"))
}

async fn get(client: &Client, url: &Url) -> Result<Vec<u8>, String> {
    let response = client.get(url.clone()).send().await.map_err(|error| failed(url, error))?;
    if response.status() != StatusCode::OK {
        return Err(format!("{url}: {}", response.status()));
    }
    body(response, url).await
}

async fn body(mut response: Response, url: &Url) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| failed(url, error))? {
        if body.len() + chunk.len() > LONGEST_DOCUMENT {
            return Err(format!("{url}: more than {LONGEST_DOCUMENT} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// With all causes: the first ones contain only that a request failed.
fn failed(url: &Url, error: reqwest::Error) -> String {
    let error = error.without_url();
    let causes: Vec<String> = error_chain(&error).map(ToString::to_string).collect();
    format!("{url}: {}", causes.join(": "))
}
