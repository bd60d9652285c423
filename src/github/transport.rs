//! The wire. In go a URL and a credential; out comes GitHub's answer, whatever its status. Redirects, limits and retries
//! are not decided here: one call is one request. Proxies and roots of trust come from [`Settings`] and the environment.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use http::header::ACCEPT;
use octocrab::{
    AuthState, OctocrabBuilder,
    auth::AppAuth,
    models::{AppId, InstallationId},
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
/// How long the rest of a body that nobody needs is waited for, to keep its connection for the next request.
const DRAIN: Duration = Duration::from_secs(1);

/// What an installation token is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// Reading repositories' contents, which is all that an archive takes.
    ReadContents,
    /// Whatever the installation may do.
    Everything,
}

/// Sends one request. A trait, so that the order of requests can be tested without a network.
pub(super) trait Transport: Send + Sync {
    /// `GET url`, with `token` when the caller found that this host may have it.
    fn get(
        &self,
        url: &Url,
        token: Option<&SecretString>,
    ) -> impl Future<Output = Result<Response, FetchError>> + Send;

    /// Asks `api` for an installation token in the name of the App: with `scope`, for no more than that.
    fn mint(
        &self,
        api: &Url,
        app: &AppKey,
        scope: Scope,
    ) -> impl Future<Output = Result<Response, FetchError>> + Send;
}

/// The real wire: TLS only, through the system's proxy where there is one.
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

    /// octocrab signs and addresses the request; the answer is handed on as it came, since its headers carry the limits.
    /// Its ready-made stack is not used: that adds a second User-Agent to the client's own, and follows redirects with the
    /// App's JWT, whatever the client's own policy says.
    async fn mint(&self, api: &Url, app: &AppKey, scope: Scope) -> Result<Response, FetchError> {
        let failed = |e: octocrab::Error| FetchError::network(api, &e);
        let base = api.as_str().parse().map_err(|e: http::uri::InvalidUri| FetchError::network(api, &e))?;
        let auth = AppAuth { app_id: AppId(app.app_id()), key: app.signing_key() };
        let Ok(octocrab) = OctocrabBuilder::new_empty()
            .with_service(ReqwestConnector::new(self.client.clone()))
            .with_layer(&BaseUriLayer::new(base))
            .with_auth(AuthState::App(auth))
            .build();
        let route = format!("/app/installations/{}/access_tokens", InstallationId(app.installation_id()));
        let narrowed = json!({ "permissions": { "contents": "read" } });
        let body = (scope == Scope::ReadContents).then_some(&narrowed);
        let response = octocrab._post(route, body).await.map_err(failed)?;
        Ok(response.map(reqwest::Body::wrap).into())
    }
}

/// The first bytes of a body, and no error: who asks for an explanation can live without one.
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

/// Reads a short body to its end, because a connection with an unread answer cannot be used again.
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
    let next = |received| move |e: reqwest::Error| FetchError::broken_body(url, received, &e);
    while let Some(chunk) = response.chunk().await.map_err(next(received))? {
        received += length(&chunk);
        if received > limit {
            return Err(too_large);
        }
        into.write_all(&chunk).await.map_err(spool)?;
    }
    into.flush().await.map_err(spool)?;
    Ok(received)
}

fn length(chunk: &Bytes) -> u64 {
    u64::try_from(chunk.len()).unwrap_or(u64::MAX)
}
