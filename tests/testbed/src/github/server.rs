//! The way to GitHub: a CONNECT proxy that answers TLS itself, as whichever of GitHub's hosts was asked for.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use k8s_openapi::jiff::{SignedDuration, Timestamp, fmt::rfc2822::DateTimePrinter};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::answer::{Answer, abuse, login, redirect, spoil, text};
use super::call::Call;
use super::faults::{Failure, Hop};
use super::state::{GitHubRequest, State};
use super::{rest, site};
use crate::authority::Authority;
use crate::background::{Task, lock};

/// Headers that mean one thing, so that two of them mean nothing: strict servers refuse such requests.
const SINGLETONS: [&str; 12] = [
    "authorization",
    "content-length",
    "content-type",
    "from",
    "host",
    "if-modified-since",
    "max-forwards",
    "proxy-authorization",
    "range",
    "referer",
    "user-agent",
    "x-github-api-version",
];
/// What one connection carries at once over HTTP/2, as github.com has it.
const STREAMS: u32 = 100;
/// A connection without a request for so long is closed, as github.com does it.
const IDLE: Duration = Duration::from_mins(1);

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

/// Opens a tunnel to one of GitHub's hosts, and to no other host.
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
        let http2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
        let service = service_fn(move |request| {
            let (state, host) = (state.clone(), host.clone());
            // An error here breaks the client's connection, which is what it stands for.
            async move { answer(&state, &host, request).await }
        });
        let tls = TokioIo::new(tls);
        if http2 {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            let _ = builder.max_concurrent_streams(STREAMS).serve_connection(tls, service).await;
        } else {
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(IDLE);
            let _ = builder.serve_connection(tls, service).await;
        }
    });
    Ok(Response::new(Full::default()))
}

impl Front {
    fn config(&self, host: &str) -> Result<Arc<ServerConfig>> {
        let mut configs = lock(&self.configs);
        if let Some(config) = configs.get(host) {
            return Ok(config.clone());
        }
        let config = self.authority.tls(&[host], &["h2", "http/1.1"])?;
        configs.insert(host.to_owned(), config.clone());
        Ok(config)
    }
}

async fn answer(state: &State, host: &str, request: Request<Incoming>) -> Result<Answer> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let (path, version) = (parts.uri.path().to_owned(), parts.version);
    let call = Call::new(state, host, parts, body);
    let subject = call.subject(state);
    let number = state.requests.push(GitHubRequest {
        host: host.to_owned(),
        hop: call.hop,
        method: call.method.clone(),
        path,
        repository: subject.repository.clone(),
        installation: subject.installation,
        had_authorization: call.authorization().is_some(),
        credential: call.credential(),
        body: String::from_utf8_lossy(&call.body).into_owned(),
        version,
        status: None,
        at: SystemTime::now(),
    });
    let fate = state.faults.draw(call.hop, &subject);
    tokio::time::sleep(state.latency() + fate.delay).await;
    for held in &fate.held {
        held.released().await;
    }
    let mut answer = match SINGLETONS.iter().find(|name| call.headers.get_all(**name).iter().count() > 1) {
        Some(twice) => text(400, &format!("Bad Request: {twice} is there twice"))?,
        None => respond(state, host, &call, fate.failure.as_ref()).await?,
    };
    let ahead = state.ahead(&call.instance);
    if ahead != 0 {
        let now = Timestamp::now() + SignedDuration::from_secs(ahead);
        let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&now)?;
        answer.headers_mut().insert(header::DATE, date.parse()?);
    }
    state.requests.update(number, |entry| entry.status = Some(answer.status().as_u16()));
    Ok(answer)
}

/// Sends its visitors round as often as was wished for, and then asks them to sign in.
fn portal(state: &State, host: &str, call: &Call) -> Option<Result<Answer>> {
    let portal = state.portal(host)?;
    let hop: u32 = call.query.strip_prefix("hop=").and_then(|hop| hop.parse().ok()).unwrap_or(0);
    Some(if hop < portal.hops {
        redirect(portal.status, &format!("https://{host}{}?hop={}", call.raw, hop + 1))
    } else {
        login()
    })
}

async fn respond(state: &State, host: &str, call: &Call, failure: Option<&Failure>) -> Result<Answer> {
    if let Some(answer) = portal(state, host, call) {
        return answer;
    }
    let elsewhere = |status, host: &str| {
        let end = if call.query.is_empty() { String::new() } else { format!("?{}", call.query) };
        redirect(status, &format!("https://{host}{}{end}", call.raw))
    };
    match failure {
        Some(Failure::Cut) => bail!("cut"),
        Some(Failure::Hang) => std::future::pending().await,
        Some(Failure::RedirectTo(host)) => return elsewhere(302, host),
        Some(Failure::RedirectWith(status, host)) => return elsewhere(*status, host),
        Some(Failure::AbusePage(status)) => return abuse(*status),
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
