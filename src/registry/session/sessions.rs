//! Sessions of people: their begin, their end, and the identity that a request for a page has.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use jiff::Timestamp;
use reqwest::Certificate;
use secrecy::{ExposeSecret, SecretString};
use tokio::task::JoinSet;
use url::Url;

use super::attempt::{self, Attempt};
use super::callback::{self, CallbackQuery};
use super::cookie;
use super::login::Login;
use super::path::SessionAction;
use super::provider::Provider;
use super::request;
use super::sign_in_error::SignInError;
use super::token;
use crate::registry::auth::token::Unverified;
use crate::registry::auth::{Access, AccessError, Denied, Identity};
use crate::registry::client::loggable;
use crate::registry::http::answer::{answer, set};
use crate::registry::http::{Body, Peer};
use crate::registry::key_file::CurrentKeys;
use crate::registry::link::now;

/// Sessions of people who use the page, and the identity provider at which they sign in.
pub struct Sessions {
    keys: CurrentKeys,
    /// `--url`, if forms can sign in there.
    url: Option<Url>,
    provider: Option<Arc<Provider>>,
    /// It keeps the provider's metadata current, and ends when this is dropped.
    _tasks: JoinSet<()>,
}

impl Sessions {
    /// Without an identity provider, people sign in with a token.
    pub fn new(keys: CurrentKeys, url: Option<Url>) -> Self {
        let url = url.filter(request::keeps_cookies);
        Self { keys, url, provider: None, _tasks: JoinSet::new() }
    }

    /// With an identity provider, whose metadata is read in the background.
    pub fn with_login(self, login: Login, roots: &[Certificate]) -> Result<Self, AccessError> {
        let source = login.issuer.discovery(roots)?;
        let provider = Arc::new(Provider::new(login, source));
        let mut tasks = JoinSet::new();
        let current = Arc::clone(&provider);
        tasks.spawn(async move { current.keep_current().await });
        Ok(Self { provider: Some(provider), _tasks: tasks, ..self })
    }

    /// Whether there is an identity provider to sign in at, by the link `/login/start?return=PATH`.
    pub fn is_sso(&self) -> bool {
        self.provider.is_some()
    }

    /// Whether a form can sign in or out: browsers keep the cookie, and the form's origin equals that of `--url`. The page with
    /// the form needs `Referrer-Policy: same-origin`: with `no-referrer`, browsers send `Origin: null`.
    pub fn has_forms(&self) -> bool {
        self.url.is_some()
    }

    /// The document of service discovery, if there is a provider and it has answered.
    pub fn discovery(&self) -> Option<Bytes> {
        self.provider.as_ref()?.known().map(|known| known.document.clone())
    }

    /// The token of the session in a request's cookies. It counts for pages only.
    pub fn token(&self, headers: &HeaderMap) -> Option<SecretString> {
        let content = cookie::opened(headers, cookie::SESSION, &self.keys.load())?;
        token::token(&content, now())
    }

    /// Who opens a page: the identity of the `Authorization` header, else of the session, else anonymous. A session whose token
    /// is no longer accepted is refused.
    pub async fn identify(
        &self,
        access: &Access,
        headers: &HeaderMap,
        peer: Peer,
    ) -> Result<Arc<Identity>, Denied> {
        match self.token(headers).filter(|_| !headers.contains_key(header::AUTHORIZATION)) {
            Some(token) => access.identify_token(&token, peer).await,
            None => access.identify(headers, peer).await,
        }
    }

    /// Signs in with the token of a form, and redirects to the form's `return`.
    pub async fn login(
        &self,
        access: &Access,
        headers: &HeaderMap,
        body: &[u8],
        peer: Peer,
    ) -> Result<Response<Body>, SignInError> {
        request::check_origin(headers, self.url.as_ref())?;
        let form = request::form(headers, body)?;
        if form.token.expose_secret().is_empty() {
            return Err(SignInError::bad_request("Paste a token."));
        }
        self.begin(access, &form.token, &form.back, peer).await
    }

    /// Ends the session, and redirects to the form's `return`.
    pub fn logout(&self, headers: &HeaderMap, body: &[u8]) -> Result<Response<Body>, SignInError> {
        request::check_origin(headers, self.url.as_ref())?;
        let form = request::form(headers, body)?;
        let cookies = [cookie::removed(cookie::SESSION), cookie::removed(cookie::ATTEMPT)];
        Ok(redirect(StatusCode::SEE_OTHER, &form.back, cookies))
    }

    /// The path to return to from a request of signing in, also if it fails.
    pub fn back(&self, action: SessionAction, headers: &HeaderMap, query: &str, body: &[u8]) -> String {
        match action {
            SessionAction::Login | SessionAction::Logout => request::back(body),
            SessionAction::Start => request::back(query.as_bytes()),
            SessionAction::Callback => {
                self.attempt(headers).map_or_else(|| "/".to_owned(), |attempt| attempt.back)
            }
        }
    }

    /// Redirects to the identity provider.
    pub fn start(&self, query: &str) -> Result<Response<Body>, SignInError> {
        let provider = self.provider()?;
        let known = provider.known().ok_or_else(not_known)?;
        let attempt = Attempt::new(&request::back(query.as_bytes()), now());
        let content = attempt.content();
        let cookie = cookie::kept(cookie::ATTEMPT, &content, attempt::LIFETIME, &self.keys.load());
        let cookie = cookie.ok_or_else(|| {
            let sentence = "The registry has a defect; its log has the details.";
            SignInError::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error", sentence)
        })?;
        let to = provider.login.authorization(&known.endpoints, &attempt);
        Ok(redirect(StatusCode::FOUND, &to, [Some(cookie)]))
    }

    /// Signs in with the identity provider's answer, and redirects to the page that [`start`](Self::start) received.
    pub async fn callback(
        &self,
        access: &Access,
        headers: &HeaderMap,
        query: &str,
        peer: Peer,
    ) -> Result<Response<Body>, SignInError> {
        let provider = self.provider()?;
        let answer = CallbackQuery::parse(query);
        let attempt = self.attempt(headers);
        let attempt = attempt.filter(|attempt| attempt.has_state(&answer.state)).ok_or_else(|| {
            SignInError::bad_request(
                "This sign-in was started in another tab or browser, or more than 10 minutes ago: start again.",
            )
        })?;
        let code = answer.code(provider.login.issuer.url())?;
        let known = provider.known().ok_or_else(not_known)?;
        let exchange = async {
            let tokens = provider.exchange(&known, code, &attempt, peer).await?;
            check_id_token(&provider.login, &tokens.id_token, &attempt).await?;
            Ok::<_, SignInError>(tokens)
        };
        let tokens = counted(access, peer, exchange).await?;
        let token = callback::choose(&tokens, &provider.login.issuer)?;
        self.begin(access, &SecretString::from(token), &attempt.back, peer).await
    }

    /// The sign-in at the identity provider that a browser has begun.
    fn attempt(&self, headers: &HeaderMap) -> Option<Attempt> {
        let content = cookie::opened(headers, cookie::ATTEMPT, &self.keys.load())?;
        Attempt::open(&content, now())
    }

    /// Begins a session, always with a new cookie, so that a cookie that was planted before is useless.
    async fn begin(
        &self,
        access: &Access,
        token: &SecretString,
        back: &str,
        peer: Peer,
    ) -> Result<Response<Body>, SignInError> {
        let text = token.expose_secret();
        // Before it is reviewed.
        if !token::fits(text) {
            return Err(SignInError::too_long());
        }
        let identity = access.identify_token(token, peer).await.map_err(SignInError::denied)?;
        let now = now();
        let expires = identity.expires.map(|time| u64::try_from(time.as_second()).unwrap_or_default());
        let end = token::end(now, expires);
        let content = token::content(text, end);
        let cookie = cookie::kept(cookie::SESSION, &content, end.saturating_sub(now), &self.keys.load());
        let cookie = cookie.ok_or_else(SignInError::too_long)?;
        tracing::info!(user = loggable(&identity.user), kind = identity.kind.label(), "signed in");
        let cookies = [Some(cookie), cookie::removed(cookie::ATTEMPT)];
        Ok(redirect(StatusCode::SEE_OTHER, back, cookies))
    }

    fn provider(&self) -> Result<&Provider, SignInError> {
        self.provider.as_deref().ok_or_else(|| {
            let sentence = "This registry has no identity provider: sign in with a token.";
            SignInError::new(StatusCode::NOT_FOUND, "Not Found", sentence)
        })
    }
}

/// A sign-in at the identity provider, which counts as a failed token until it has another result: the client may leave before.
pub(super) async fn counted<T>(
    access: &Access,
    peer: Peer,
    sign_in: impl Future<Output = Result<T, SignInError>>,
) -> Result<T, SignInError> {
    access.begin_sign_in(peer).map_err(SignInError::denied)?;
    let result = sign_in.await;
    if !result.as_ref().is_err_and(|refused| refused.is_failed_token) {
        access.uncount_sign_in(peer);
    }
    result
}

pub(super) async fn check_id_token(
    login: &Login,
    id_token: &str,
    attempt: &Attempt,
) -> Result<(), SignInError> {
    let is_answer =
        |jwt: Unverified<'_>| callback::is_answer(&jwt, login.issuer.url(), &login.client, attempt);
    if !Unverified::parse(id_token).is_some_and(is_answer) {
        let sentence = "The identity provider's id token does not belong to this sign-in: start again.";
        return Err(SignInError::provider(sentence).counted(true));
    }
    let audience = [login.client.clone()];
    let checked = login.issuer.check(id_token, &audience, Timestamp::now(), Instant::now()).await;
    checked.map(drop).map_err(SignInError::denied)
}

fn redirect<const N: usize>(
    status: StatusCode,
    to: &str,
    cookies: [Option<HeaderValue>; N],
) -> Response<Body> {
    let mut answer = answer(status, status.canonical_reason().unwrap_or_default(), Body::empty());
    let location = HeaderValue::from_str(to).unwrap_or(HeaderValue::from_static("/"));
    answer.headers_mut().insert(header::LOCATION, location);
    for cookie in cookies.into_iter().flatten() {
        answer.headers_mut().append(header::SET_COOKIE, cookie);
    }
    set(&mut answer, header::CACHE_CONTROL, "no-store");
    set(&mut answer, header::REFERRER_POLICY, "no-referrer");
    answer
}

fn not_known() -> SignInError {
    SignInError::later("The identity provider has not answered yet: try again.")
}
