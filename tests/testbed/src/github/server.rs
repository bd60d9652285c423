//! The way to GitHub: a CONNECT proxy that answers TLS itself, as whichever of GitHub's hosts was asked for.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::answer::{Answer, redirect, spoil, text};
use super::faults::{Failure, Hop, Subject};
use super::state::{Credential, GitHubRequest, State};
use super::{rest, site};
use crate::authority::Authority;
use crate::background::{Task, lock, percent_decode};

/// A request to one part of GitHub.
#[derive(Debug)]
pub(super) struct Call {
    /// `github.com`, or the host of an Enterprise Server.
    pub(super) instance: String,
    pub(super) hop: Hop,
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// The path inside this part of GitHub, as sent.
    raw: String,
    segments: Vec<String>,
    query: String,
}

impl Call {
    fn new(host: &str, method: Method, path: &str, query: &str, headers: HeaderMap, body: Bytes) -> Self {
        let (instance, hop, raw) = match host {
            "github.com" => (host, Hop::Site, path),
            "api.github.com" => ("github.com", Hop::Api, path),
            "codeload.github.com" => ("github.com", Hop::Codeload, path),
            _ => match (path.strip_prefix("/api/v3"), path.strip_prefix("/_codeload")) {
                (Some(rest), _) => (host, Hop::Api, rest),
                (None, Some(rest)) => (host, Hop::Codeload, rest),
                (None, None) => (host, Hop::Site, path),
            },
        };
        let segments = raw.split('/').skip(1).map(percent_decode).collect();
        let (instance, raw, query) = (instance.to_owned(), raw.to_owned(), query.to_owned());
        Self { instance, hop, method, headers, body, raw, segments, query }
    }

    /// The decoded parts of the path.
    pub(super) fn path(&self) -> Vec<&str> {
        self.segments.iter().map(String::as_str).collect()
    }

    /// The path as sent, from behind its first `parts` on: empty, or with a leading slash.
    pub(super) fn raw_after(&self, parts: usize) -> String {
        self.raw.split('/').skip(parts + 1).fold(String::new(), |path, part| path + "/" + part)
    }

    pub(super) fn authorization(&self) -> Option<&str> {
        self.headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap_or_default())
    }

    /// The installation that a token is asked of.
    pub(super) fn installation(&self) -> Option<u64> {
        match self.path()[..] {
            ["app", "installations", id, "access_tokens"] if self.method == Method::POST => id.parse().ok(),
            _ => None,
        }
    }

    /// The token in a link to an archive.
    pub(super) fn link(&self) -> Option<String> {
        let pairs = url::form_urlencoded::parse(self.query.as_bytes());
        pairs.into_owned().find(|(name, _)| name == "token").map(|(_, token)| token)
    }

    pub(super) fn api_url(&self) -> String {
        match self.instance.as_str() {
            "github.com" => "https://api.github.com".to_owned(),
            host => format!("https://{host}/api/v3"),
        }
    }

    pub(super) fn codeload_url(&self) -> String {
        match self.instance.as_str() {
            "github.com" => "https://codeload.github.com".to_owned(),
            host => format!("https://{host}/_codeload"),
        }
    }

    fn credential(&self) -> Credential {
        match self.authorization() {
            None => Credential::Nothing,
            Some(value) if value.contains("ghs_") => Credential::Installation,
            Some(value) if value.contains("ghp_") => Credential::Personal,
            Some(value) if value.matches('.').count() == 2 => Credential::Jwt,
            Some(_) => Credential::Unknown,
        }
    }

    fn subject(&self, state: &State) -> Subject {
        let path = self.path();
        let repository = match (self.hop, &path[..]) {
            (Hop::Api, path) => rest::subject(state, &self.instance, path),
            (_, [owner, name, ..]) => Some(super::repos::key(&self.instance, owner, name)),
            _ => None,
        };
        Subject { repository, installation: self.installation().filter(|_| self.hop == Hop::Api) }
    }
}

/// What all connections share.
struct Front {
    state: Arc<State>,
    authority: Authority,
    configs: Mutex<HashMap<String, Arc<ServerConfig>>>,
}

/// Listens on a free port, until the task is dropped.
pub(super) async fn start(state: Arc<State>, authority: Authority) -> Result<(SocketAddr, Task)> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("cannot listen on 127.0.0.1")?;
    let address = listener.local_addr()?;
    let front = Arc::new(Front { state, authority, configs: Mutex::default() });
    let task = Task::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                Ok((stream, _)) = listener.accept() => { connections.spawn(accept(stream, front.clone())); }
                Some(_) = connections.join_next() => {}
            }
        }
    })?;
    Ok((address, task))
}

async fn accept(stream: TcpStream, front: Arc<Front>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let front = front.clone();
        async move { connect(request, &front) }
    });
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
}

/// Opens a tunnel to one of GitHub's hosts, and to nobody else.
fn connect(request: Request<Incoming>, front: &Arc<Front>) -> Result<Response<Full<Bytes>>> {
    let host = request.uri().host().unwrap_or_default().to_lowercase();
    let port = request.uri().port_u16().unwrap_or(80);
    if request.method() != Method::CONNECT || port != 443 || !front.state.serves(&host) {
        lock(&front.state.refused).push(format!("{host}:{port}"));
        return Ok(Response::builder().status(403).body(Full::from("only GitHub is played here\n"))?);
    }
    let config = front.config(&host)?;
    let state = front.state.clone();
    tokio::spawn(async move {
        let Ok(upgraded) = hyper::upgrade::on(request).await else { return };
        let Ok(tls) = TlsAcceptor::from(config).accept(TokioIo::new(upgraded)).await else { return };
        let service = service_fn(move |request| {
            let (state, host) = (state.clone(), host.clone());
            // An error here breaks the client's connection, which is what it stands for.
            async move { answer(&state, &host, request).await }
        });
        let _ = http1::Builder::new().serve_connection(TokioIo::new(tls), service).await;
    });
    Ok(Response::new(Full::default()))
}

impl Front {
    fn config(&self, host: &str) -> Result<Arc<ServerConfig>> {
        let mut configs = lock(&self.configs);
        if let Some(config) = configs.get(host) {
            return Ok(config.clone());
        }
        let identity = self.authority.server(&[host])?;
        let key = PrivateKeyDer::try_from(identity.key_der).map_err(|error| anyhow::anyhow!("{error}"))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![CertificateDer::from(identity.certificate_der)], key)?;
        let config = Arc::new(config);
        configs.insert(host.to_owned(), config.clone());
        Ok(config)
    }
}

async fn answer(state: &State, host: &str, request: Request<Incoming>) -> Result<Answer> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let (path, query) = (parts.uri.path(), parts.uri.query().unwrap_or_default());
    let call = Call::new(host, parts.method, path, query, parts.headers, body);
    let subject = call.subject(state);
    let number = state.requests.push(GitHubRequest {
        host: host.to_owned(),
        hop: call.hop,
        method: call.method.clone(),
        path: path.to_owned(),
        repository: subject.repository.clone(),
        installation: subject.installation,
        had_authorization: call.authorization().is_some(),
        credential: call.credential(),
        status: 0,
        at: SystemTime::now(),
    });
    let fate = state.faults.draw(call.hop, &subject);
    tokio::time::sleep(state.latency() + fate.delay).await;
    let answer = respond(state, &call, fate.failure.as_ref()).await?;
    state.requests.update(number, |entry| entry.status = answer.status().as_u16());
    Ok(answer)
}

async fn respond(state: &State, call: &Call, failure: Option<&Failure>) -> Result<Answer> {
    match failure {
        Some(Failure::Cut) => bail!("cut"),
        Some(Failure::Hang) => std::future::pending().await,
        Some(Failure::RedirectTo(host)) => {
            let end = if call.query.is_empty() { String::new() } else { format!("?{}", call.query) };
            return redirect(302, &format!("https://{host}{}{end}", call.raw));
        }
        Some(Failure::Status(status)) => {
            let line = http::StatusCode::from_u16(*status)?.canonical_reason().unwrap_or("Error");
            return if call.hop == Hop::Api {
                super::answer::api_error(*status, line)
            } else {
                text(*status, &format!("{status}: {line}"))
            };
        }
        Some(Failure::SecondaryLimit(status, after)) => return rest::secondary_limit(*status, *after),
        _ => {}
    }
    let answer = match call.hop {
        Hop::Api => rest::respond(state, call, failure)?,
        Hop::Site => site::site(state, call)?,
        Hop::Codeload => site::codeload(state, call).await?,
    };
    match failure {
        Some(failure) if failure.is_about_the_archive() => spoil(answer, failure).await,
        _ => Ok(answer),
    }
}
