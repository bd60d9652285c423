//! The way into the S3 gateway: counts each request, and lets it fail where a test asked for that.
//!
//! Host and headers go through unchanged, since the signature covers them.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Mutex as SyncMutex;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use super::S3Request;
use super::faults::{Faults, S3Failure, error_document};
use super::stores::{Refusal, Store};
use crate::background::lock;
use crate::log::RequestLog;

type Body = BoxBody<Bytes, anyhow::Error>;

const CHECKSUM: &str = "x-amz-checksum-sha256";
/// The SHA-256 of no bytes at all.
const OF_NOTHING: &str = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

/// What the proxy shares with the test.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) faults: Faults,
    pub(super) requests: RequestLog<S3Request>,
    pub(super) stores: SyncMutex<HashMap<String, Store>>,
}

/// One connection to the gateway for each of a client's, as if there were no proxy.
pub(super) struct Upstream {
    address: SocketAddr,
    sender: Mutex<Option<SendRequest<Incoming>>>,
}

impl Upstream {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { address, sender: Mutex::new(None) }
    }

    async fn send(&self, request: Request<Incoming>) -> Result<Response<Incoming>> {
        let mut sender = self.sender.lock().await;
        let usable = match sender.as_mut() {
            Some(open) => open.ready().await.is_ok(),
            None => false,
        };
        if !usable {
            let stream = TcpStream::connect(self.address).await?;
            stream.set_nodelay(true)?;
            let (open, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            *sender = Some(open);
        }
        let open = sender.as_mut().context("no connection to the gateway")?;
        Ok(open.send_request(request).await?)
    }
}

pub(super) async fn answer(
    request: Request<Incoming>,
    upstream: &Upstream,
    shared: &Shared,
) -> Result<Response<Body>> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let (bucket, key) = split(&path);
    let fate = shared.faults.draw(&method, &bucket, &key);
    let store = lock(&shared.stores).get(&bucket).copied();
    let headers = request.headers();
    let sha256 = headers.get("x-amz-checksum-sha256");
    let number = shared.requests.push(S3Request {
        sha256: sha256.and_then(|sum| sum.to_str().ok()).map(str::to_owned),
        signed_body: headers.get("x-amz-content-sha256").is_some_and(|sum| sum.len() == 64),
        checksum_mode: headers.contains_key("x-amz-checksum-mode"),
        create_only: headers.contains_key("if-none-match"),
        status: None,
        at: SystemTime::now(),
        method: method.clone(),
        bucket,
        key,
    });
    let refusal = store.and_then(|store| store.refuses(&method, headers));
    tokio::time::sleep(fate.delay).await;
    for held in &fate.held {
        held.released().await;
    }
    let mut answered = match (fate.failure, refusal) {
        (Some(failure), _) => fail(&failure, request, upstream).await,
        (None, Some(refusal)) => refuse(request, &refusal, None).await,
        (None, None) => forward(request, upstream).await,
    };
    if let (Some(store), Ok(response)) = (store, &mut answered) {
        store.answers(response.headers_mut());
    }
    if method != Method::HEAD && store.is_some_and(Store::has_empty_messages) {
        answered = without_message(answered?).await;
    }
    if let Ok(response) = &answered {
        shared.requests.update(number, |entry| entry.status = Some(response.status().as_u16()));
    }
    answered
}

/// The same, with an empty message if it is an error document.
async fn without_message(response: Response<Body>) -> Result<Response<Body>> {
    if response.status().as_u16() < 400 {
        return Ok(response);
    }
    let (mut parts, body) = response.into_parts();
    let mut text = String::from_utf8(body.collect().await?.to_bytes().to_vec())?;
    if let (Some(start), Some(end)) = (text.find("<Message>"), text.find("</Message>")) {
        text.replace_range(start + "<Message>".len()..end, "");
    }
    // It is set again, from the new body.
    parts.headers.remove("content-length");
    let body = Full::new(Bytes::from(text)).map_err(|never: Infallible| match never {}).boxed();
    Ok(Response::from_parts(parts, body))
}

async fn forward(request: Request<Incoming>, upstream: &Upstream) -> Result<Response<Body>> {
    upstream
        .send(request)
        .await
        .map(|response| response.map(|body| body.map_err(anyhow::Error::from).boxed()))
}

async fn fail(
    failure: &S3Failure,
    request: Request<Incoming>,
    upstream: &Upstream,
) -> Result<Response<Body>> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    match failure {
        S3Failure::Answer(status, code) => refuse(request, &refusal(*status, code)?, None).await,
        S3Failure::RetryAfter(status, code, seconds) => {
            refuse(request, &refusal(*status, code)?, Some(*seconds)).await
        }
        S3Failure::Page(status) => page(request, *status).await,
        S3Failure::WrongSize => {
            let mut response = forward(request, upstream).await?;
            if method == Method::HEAD && response.status() == StatusCode::OK {
                response.headers_mut().insert("content-length", HeaderValue::from(1));
            }
            Ok(response)
        }
        S3Failure::WrongChecksum => {
            let mut response = forward(request, upstream).await?;
            if response.headers().contains_key(CHECKSUM) {
                response.headers_mut().insert(CHECKSUM, HeaderValue::from_static(OF_NOTHING));
            }
            Ok(response)
        }
        S3Failure::NoMetadata => {
            let mut response = forward(request, upstream).await?;
            let names = response.headers().keys().filter(|name| is_kept_with_object(name));
            for name in names.cloned().collect::<Vec<_>>() {
                response.headers_mut().remove(name);
            }
            Ok(response)
        }
        S3Failure::CutBefore => Err(anyhow!("cut")),
        S3Failure::CutAfter | S3Failure::HangAfter => {
            forward(request, upstream).await?.into_body().collect().await?;
            if *failure == S3Failure::HangAfter { std::future::pending().await } else { Err(anyhow!("cut")) }
        }
        S3Failure::CutBody => cut_body(forward(request, upstream).await?).await,
        S3Failure::Hang => std::future::pending().await,
        S3Failure::HideMissing => {
            let response = forward(request, upstream).await?;
            let missing = response.status() == StatusCode::NOT_FOUND;
            if missing { error(&method, &path, &refusal(403, "AccessDenied")?, None) } else { Ok(response) }
        }
        S3Failure::Delay(_) | S3Failure::Hold => forward(request, upstream).await,
    }
}

/// The first half of the body, and then the end of the connection.
async fn cut_body(response: Response<Body>) -> Result<Response<Body>> {
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await?.to_bytes();
    let half = bytes.slice(..bytes.len() / 2);
    // Later than the first bytes, which are sent before the connection breaks.
    let cut = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Err(anyhow!("cut"))
    };
    let frames = stream::iter([Ok(Frame::data(half))]).chain(stream::once(cut));
    Ok(Response::from_parts(parts, BoxBody::new(StreamBody::new(frames))))
}

fn is_kept_with_object(name: &HeaderName) -> bool {
    ["x-amz-meta-", "x-amz-checksum-"].iter().any(|prefix| name.as_str().starts_with(prefix))
}

/// Reads the whole request first, as S3 does, so that the client sees the answer rather than a broken pipe.
async fn refuse(request: Request<Incoming>, refusal: &Refusal, after: Option<u32>) -> Result<Response<Body>> {
    let (method, path) = drained(request).await?;
    error(&method, &path, refusal, after)
}

async fn drained(request: Request<Incoming>) -> Result<(Method, String)> {
    let (parts, mut body) = request.into_parts();
    while let Some(frame) = body.frame().await {
        frame?;
    }
    Ok((parts.method, parts.uri.path().to_owned()))
}

fn refusal(status: u16, code: &'static str) -> Result<Refusal> {
    let status = StatusCode::from_u16(status)?;
    Ok(Refusal { status, code, message: status.canonical_reason().unwrap_or("Error") })
}

/// The page of a proxy or a firewall that knows nothing of S3.
async fn page(request: Request<Incoming>, status: u16) -> Result<Response<Body>> {
    let (method, _) = drained(request).await?;
    let text = if method == Method::HEAD { "" } else { "<html><body>Request blocked</body></html>" };
    let body = Full::new(Bytes::from(text)).map_err(|never: Infallible| match never {}).boxed();
    Ok(Response::builder().status(status).header("content-type", "text/html").body(body)?)
}

fn error(method: &Method, path: &str, refusal: &Refusal, after: Option<u32>) -> Result<Response<Body>> {
    let document = if method == Method::HEAD {
        String::new()
    } else {
        error_document(refusal.code, refusal.message, path)
    };
    let body = Full::new(Bytes::from(document)).map_err(|never: Infallible| match never {}).boxed();
    let mut response =
        Response::builder().status(refusal.status).header("content-type", "application/xml").body(body)?;
    if let Some(seconds) = after {
        response.headers_mut().insert("retry-after", HeaderValue::from(seconds));
    }
    Ok(response)
}

/// Bucket and key of a path-style request.
fn split(path: &str) -> (String, String) {
    let path = crate::background::percent_decode(path.trim_start_matches('/'));
    match path.split_once('/') {
        Some((bucket, key)) => (bucket.to_owned(), key.to_owned()),
        None => (path, String::new()),
    }
}
