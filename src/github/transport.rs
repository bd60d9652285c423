//! Transport of one HTTP request over TLS. Proxies and trusted certificates come from [`Settings`] and the environment;
//! redirects, rate limits and retries are the caller's.

use std::{future::Future, time::Duration};

use http::header::ACCEPT;
use octocrab::{
    AuthState, OctocrabBuilder,
    auth::AppAuth,
    models::AppId,
    service::middleware::{base_uri::BaseUriLayer, reqwest_connector::ReqwestConnector},
};
use reqwest::{Certificate, Client, Response, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use tokio::{fs::File, io::AsyncWriteExt};
use url::Url;

use super::{
    credential::AppKey,
    error::FetchError,
    settings::{ClientError, Settings},
};

/// Error bodies are read up to this many bytes.
const LONGEST_ERROR_BODY: usize = 64 * 1024;
/// Time limit for reading the rest of an unused body, which makes its connection available to the next request.
const DRAIN: Duration = Duration::from_secs(1);

/// Permissions of an installation token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// Enough for archives.
    ReadContents,
    /// All permissions of the installation.
    Everything,
}

/// Sends one request. A trait, so that tests need no network.
pub(super) trait Transport: Send + Sync {
    /// Sends `GET url`. The caller has checked that this host may receive `token`.
    fn get(
        &self,
        url: &Url,
        token: Option<&SecretString>,
    ) -> impl Future<Output = Result<Response, FetchError>> + Send;

    /// Requests an installation token with the permissions of `scope` from `api`.
    fn mint(
        &self,
        api: &Url,
        app: &AppKey,
        scope: Scope,
    ) -> impl Future<Output = Result<Response, FetchError>> + Send;
}

/// Requests over TLS only, through the system's proxy if there is one.
#[derive(Debug)]
pub(super) struct Https {
    client: Client,
}

impl Https {
    pub(super) fn new(settings: &Settings) -> Result<Self, ClientError> {
        let mut builder = Client::builder()
            .https_only(true)
            .redirect(redirect::Policy::none())
            .referer(false)
            .connect_timeout(settings.connect_timeout)
            .read_timeout(settings.idle_timeout)
            .user_agent(&settings.user_agent);
        if let Some(pem) = &settings.ca_pem {
            let roots = Certificate::from_pem_bundle(pem).map_err(|_| ClientError::Ca)?;
            if roots.is_empty() {
                return Err(ClientError::Ca);
            }
            builder = builder.tls_certs_merge(roots);
        }
        Ok(Self { client: builder.build().map_err(ClientError::Build)? })
    }
}

impl Transport for Https {
    async fn get(&self, url: &Url, token: Option<&SecretString>) -> Result<Response, FetchError> {
        let mut request = self.client.get(url.clone());
        if let Some(token) = token {
            request = request
                .bearer_auth(token.expose_secret())
                .header(ACCEPT, "application/vnd.github+json")
                .header("x-github-api-version", "2022-11-28");
        }
        request.send().await.map_err(|e| FetchError::network(url, &e))
    }

    /// Uses octocrab to sign and address the request, and returns the raw answer, whose headers contain the rate limits.
    /// octocrab's default stack is not used: it adds a second User-Agent, and follows redirects with the App's JWT
    /// regardless of the client's policy.
    async fn mint(&self, api: &Url, app: &AppKey, scope: Scope) -> Result<Response, FetchError> {
        let base = api.as_str().parse().map_err(|e: http::uri::InvalidUri| FetchError::network(api, &e))?;
        let auth = AppAuth { app_id: AppId(app.app_id), key: app.key.clone() };
        let Ok(octocrab) = OctocrabBuilder::new_empty()
            .with_service(ReqwestConnector::new(self.client.clone()))
            .with_layer(&BaseUriLayer::new(base))
            .with_auth(AuthState::App(auth))
            .build();
        let route = format!("/app/installations/{}/access_tokens", app.installation_id);
        let narrowed = json!({ "permissions": { "contents": "read" } });
        let body = (scope == Scope::ReadContents).then_some(&narrowed);
        let response = octocrab._post(route, body).await.map_err(|e| FetchError::network(api, &e))?;
        Ok(response.map(reqwest::Body::wrap).into())
    }
}

/// Returns the first bytes of a body. Errors are ignored: an explanation is optional.
pub(super) async fn bounded_body(mut response: Response) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = LONGEST_ERROR_BODY - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() == LONGEST_ERROR_BODY {
            break;
        }
    }
    body
}

/// Reads a short body to its end, since a connection with an unread answer cannot be reused.
pub(super) async fn drain(response: Response) {
    let _late = tokio::time::timeout(DRAIN, bounded_body(response)).await;
}

/// Writes a body to `into`, chunk by chunk, and returns its length. `limit` is inclusive.
pub(super) async fn save(
    mut response: Response,
    url: &Url,
    limit: u64,
    into: &mut File,
) -> Result<u64, FetchError> {
    let too_large = FetchError::TooLarge { limit };
    if response.content_length().is_some_and(|length| length > limit) {
        return Err(too_large);
    }
    let spool = |e: std::io::Error| FetchError::Spool { source: e.into() };
    let mut received = 0;
    while let Some(chunk) = response.chunk().await.map_err(|e| FetchError::broken_body(url, received, &e))? {
        received += chunk.len() as u64;
        if received > limit {
            return Err(too_large);
        }
        into.write_all(&chunk).await.map_err(spool)?;
    }
    into.flush().await.map_err(spool)?;
    Ok(received)
}
