//! Connections of clients: over HTTP/1.1, and over TLS also over HTTP/2 if a client offers it, as some stores have it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use http::header::HOST;
use http::{HeaderValue, Request, Uri, Version};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::S3;
use super::proxy::{Shared, Upstream, answer};
use crate::authority::Authority;
use crate::background::{Task, runtime};
use crate::port::Port;

/// A connection without a request for so long is closed. S3 waits 5 to 20 seconds: awslabs/aws-sdk-kotlin#1214,
/// vectordotdev/vector#9703.
const IDLE: Duration = Duration::from_secs(5);

/// The way to an S3 over TLS. It ends when this is dropped.
pub struct S3Tls {
    front: Port,
    _task: Task,
}

impl S3 {
    /// Also listens on another port, with a certificate of this authority. [`S3::stop`] does not end that.
    pub fn over_tls(&self, authority: &Authority) -> Result<S3Tls> {
        let acceptor = TlsAcceptor::from(authority.tls(&["127.0.0.1"], &["h2", "http/1.1"])?);
        let front = Port::new()?;
        let task = start(&front, Some(acceptor), self.back, self.shared.clone())?;
        Ok(S3Tls { front, _task: task })
    }
}

impl S3Tls {
    /// Where clients reach it, for `AWS_ENDPOINT_URL_S3`.
    pub fn endpoint(&self) -> String {
        format!("https://{}", self.front.address())
    }
}

/// Listens on `front` and forwards to `back`, until the task is dropped; then all connections break.
pub(super) fn start(
    front: &Port,
    tls: Option<TlsAcceptor>,
    back: SocketAddr,
    shared: Arc<Shared>,
) -> Result<Task> {
    let listener = {
        let _entered = runtime()?.enter();
        front.listen()?
    };
    Task::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                Ok((stream, _)) = listener.accept() => {
                    let _ = stream.set_nodelay(true);
                    connections.spawn(serve(stream, tls.clone(), back, shared.clone()));
                }
                Some(_) = connections.join_next() => {}
                // The port refuses connections: the task is about to be dropped.
                else => tokio::task::yield_now().await,
            }
        }
    })
}

async fn serve(stream: TcpStream, tls: Option<TlsAcceptor>, back: SocketAddr, shared: Arc<Shared>) {
    let Some(tls) = tls else { return over_http1(stream, back, shared).await };
    let Ok(stream) = tls.accept(stream).await else { return };
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        over_http2(stream, back, shared).await;
    } else {
        over_http1(stream, back, shared).await;
    }
}

async fn over_http1(stream: impl AsyncRead + AsyncWrite + Unpin, back: SocketAddr, shared: Arc<Shared>) {
    let upstream = Arc::new(Upstream::new(back));
    let service = service_fn(move |request| {
        let (upstream, shared) = (upstream.clone(), shared.clone());
        // An error here breaks the client's connection, which is what it stands for.
        async move { answer(request, &upstream, &shared).await }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(IDLE);
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

async fn over_http2(stream: impl AsyncRead + AsyncWrite + Unpin, back: SocketAddr, shared: Arc<Shared>) {
    let service = service_fn(move |request| {
        // The gateway speaks HTTP/1.1: each request has a connection to it.
        let (upstream, shared) = (Upstream::new(back), shared.clone());
        async move { answer(as_http1(request)?, &upstream, &shared).await }
    });
    let builder = http2::Builder::new(TokioExecutor::new());
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

/// The same request as HTTP/1.1 has it. The signature covers the host.
fn as_http1(mut request: Request<Incoming>) -> Result<Request<Incoming>> {
    let uri = std::mem::take(request.uri_mut());
    let host = uri.authority().context("the request names no host")?.as_str();
    request.headers_mut().insert(HOST, HeaderValue::from_str(host)?);
    *request.version_mut() = Version::HTTP_11;
    *request.uri_mut() = uri.path_and_query().cloned().map(Uri::from).unwrap_or_default();
    Ok(request)
}
