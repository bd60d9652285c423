//! Transport of one HTTP request over TLS. Proxies and trusted certificates come from [`Settings`] and the environment;
//! redirects, rate limits and retries are the caller's.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use http::header::ACCEPT;
use octocrab::{
    AuthState, OctocrabBuilder,
    auth::AppAuth,
    models::AppId,
    service::middleware::{base_uri::BaseUriLayer, reqwest_connector::ReqwestConnector},
};
use reqwest::{Client, Response, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use tokio::{fs::File, io::AsyncWriteExt};
use url::Url;

use super::{
    credential::AppKey,
    error::FetchError,
    settings::{ClientError, Settings},
};
use crate::domain::Mutex;

/// Time limit for a connection, including TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an unused connection is kept, which is shorter than servers and proxies keep it.
const IDLE: Duration = Duration::from_secs(30);
/// How long each request has a new connection after [`Transport::forget_connections`]: until no connection from before is kept.
const FORGET: Duration = IDLE.saturating_mul(2);
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

    /// Sends no further request on a connection that is unused now. Running downloads continue.
    fn forget_connections(&self);
}

/// Requests over TLS only, through the system's proxy if there is one.
#[derive(Debug)]
pub(super) struct Https {
    pooled: Client,
    /// Opens a connection for each request. A client that is built later would read the system's certificates again, which may
    /// fail without an error.
    unpooled: Client,
    /// When connections were last forgotten.
    forgotten: Mutex<Option<Instant>>,
}

impl Https {
    pub(super) fn new(settings: &Settings) -> Result<Self, ClientError> {
        let client = |most_idle| Self::build(settings, most_idle);
        Ok(Self { pooled: client(usize::MAX)?, unpooled: client(0)?, forgotten: Mutex::default() })
    }

    /// The client for the next request.
    fn client(&self) -> &Client {
        let is_recent = self.forgotten.lock().is_some_and(|at| at.elapsed() < FORGET);
        if is_recent { &self.unpooled } else { &self.pooled }
    }

    fn build(settings: &Settings, most_idle: usize) -> Result<Client, reqwest::Error> {
        Client::builder()
            .https_only(true)
            // HTTP/2 would use a connection again after a timeout, also one whose packets are lost behind a proxy.
            .http1_only()
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(most_idle)
            .redirect(redirect::Policy::none())
            .referer(false)
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(settings.idle_timeout)
            // GitHub rejects requests without one.
            .user_agent(concat!("opendepot/", env!("CARGO_PKG_VERSION")))
            .tls_certs_merge(settings.roots.clone())
            .build()
    }
}

impl Transport for Https {
    async fn get(&self, url: &Url, token: Option<&SecretString>) -> Result<Response, FetchError> {
        let mut request = self.client().get(url.clone());
        if let Some(token) = token {
            request =
                request.bearer_auth(token.expose_secret()).header(ACCEPT, "application/vnd.github+json");
        }
        request.send().await.map_err(|e| FetchError::network(url, &e))
    }

    /// Uses octocrab to sign and address the request, and returns the raw answer, whose headers contain the rate limits.
    /// octocrab's default stack is not used: it adds a second User-Agent, and follows redirects with the App's JWT
    /// regardless of the client's policy.
    async fn mint(&self, api: &Url, app: &AppKey, scope: Scope) -> Result<Response, FetchError> {
        let base = api.as_str().parse().map_err(|e: http::uri::InvalidUri| FetchError::network(api, &e))?;
        let auth = AppAuth { app_id: AppId(app.app_id), key: app.key.clone() };
        let client = self.client().clone();
        let Ok(octocrab) = OctocrabBuilder::new_empty()
            .with_service(ReqwestConnector::new(client))
            .with_layer(&BaseUriLayer::new(base))
            .with_auth(AuthState::App(auth))
            .build();
        let route = format!("/app/installations/{}/access_tokens", app.installation_id);
        let narrowed = json!({ "permissions": { "contents": "read" } });
        let body = (scope == Scope::ReadContents).then_some(&narrowed);
        let response = octocrab._post(route, body).await.map_err(|e| FetchError::network(api, &e))?;
        Ok(response.map(reqwest::Body::wrap).into())
    }

    fn forget_connections(&self) {
        *self.forgotten.lock() = Some(Instant::now());
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

#[cfg(test)]
mod tests {
    use opendepot_testbed::authority::Authority;
    use opendepot_testbed::https::{Https as Server, Reply};

    use super::*;

    /// The limit of a whole fetch is 15 minutes.
    #[tokio::test]
    async fn a_server_that_sends_nothing_is_not_waited_for() {
        let authority = Authority::new("silent").unwrap();
        let silent = Reply { delay: Duration::from_mins(1), ..Reply::status(200, "late") };
        let server = Server::start(&authority, move |_| silent.clone()).unwrap();
        let idle_timeout = Duration::from_millis(100);
        let roots = vec![reqwest::Certificate::from_pem(authority.pem().as_bytes()).unwrap()];
        let client = Https::new(&Settings { roots, idle_timeout, ..Settings::default() }).unwrap();
        let url = server.url.parse().unwrap();
        let answer = tokio::time::timeout(Duration::from_secs(30), client.get(&url, None)).await;
        let error = answer.expect("it ends before the server answers").unwrap_err().to_string();
        assert!(error.ends_with("timed out"), "{error}");
    }

    /// The host of archives may answer each request on a connection with 400.
    #[tokio::test]
    async fn a_connection_that_is_forgotten_is_not_used_again() {
        let authority = Authority::new("forgotten").unwrap();
        let answer = |connection| Reply::status([400, 200, 201][connection], "400: Invalid request");
        let server = Server::start(&authority, move |asked| answer(asked.connection)).unwrap();
        let roots = vec![reqwest::Certificate::from_pem(authority.pem().as_bytes()).unwrap()];
        let client = Https::new(&Settings { roots, ..Settings::default() }).unwrap();
        let url = server.url.parse().unwrap();
        let first = client.get(&url, None).await.unwrap();
        assert_eq!(first.status(), 400);
        drain(first).await;
        client.forget_connections();
        for status in [200, 201] {
            let next = client.get(&url, None).await.unwrap();
            assert_eq!(next.status(), status, "each has a new connection");
            drain(next).await;
        }
    }

    #[tokio::test]
    async fn an_announced_length_of_exactly_the_limit_is_accepted() {
        let url = Url::parse("https://codeload.github.com/acme/net").unwrap();
        for (length, is_accepted) in [(0, true), (7, true), (8, true), (9, false)] {
            let answer = Response::from(http::Response::new("x".repeat(length)));
            assert_eq!(answer.content_length(), Some(length as u64));
            let mut into = File::from_std(tempfile::tempfile().unwrap());
            let saved = save(answer, &url, 8, &mut into).await;
            match saved {
                Ok(bytes) => assert_eq!((bytes, is_accepted), (length as u64, true)),
                Err(error) => assert!(
                    !is_accepted && matches!(error, FetchError::TooLarge { limit: 8 }),
                    "{length}: {error}"
                ),
            }
        }
    }
}
