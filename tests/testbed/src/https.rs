//! A server over TLS that answers as a test says, and records what it was asked.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::authority::Authority;
use crate::background::{Task, lock};

/// A request.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The number of the connection, from 0 on.
    pub connection: usize,
    /// The path.
    pub path: String,
    /// The query, without the question mark.
    pub query: String,
    /// The headers.
    pub headers: HeaderMap,
}

/// What is answered.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: String,
    /// Time before the answer.
    pub delay: Duration,
}

impl Reply {
    /// 200 with JSON.
    pub fn json(body: &impl ToString) -> Self {
        let headers = vec![("content-type", "application/json".to_owned())];
        Self { status: 200, headers, body: body.to_string(), delay: Duration::ZERO }
    }

    /// A status with a text.
    pub fn status(status: u16, body: &str) -> Self {
        Self { status, headers: Vec::new(), body: body.to_owned(), delay: Duration::ZERO }
    }
}

/// The server. It ends when this is dropped.
pub struct Https {
    /// `https://127.0.0.1:PORT`
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    _task: Task,
}

impl Https {
    /// Listens on a free port, with a certificate of this authority.
    pub fn start(
        authority: &Authority,
        answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Result<Self> {
        let acceptor = TlsAcceptor::from(authority.tls(&["127.0.0.1"], &[])?);
        // The listener belongs to the runtime that accepts on it.
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).context("cannot listen on 127.0.0.1")?;
        listener.set_nonblocking(true)?;
        let url = format!("https://{}", listener.local_addr()?);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (record, answer) = (Arc::clone(&asked), Arc::new(answer));
        let task = Task::spawn(async move {
            let Ok(listener) = TcpListener::from_std(listener) else { return };
            for connection in 0.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                let (acceptor, record, answer) = (acceptor.clone(), Arc::clone(&record), Arc::clone(&answer));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request: Request<Incoming>| {
                        let asked = asked_by(connection, &request);
                        lock(&record).push(asked.clone());
                        respond(answer(&asked))
                    });
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        })?;
        Ok(Self { url, asked, _task: task })
    }

    /// All requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.asked).clone()
    }

    /// How often this path was asked for.
    pub fn count(&self, path: &str) -> usize {
        lock(&self.asked).iter().filter(|asked| asked.path == path).count()
    }
}

fn asked_by(connection: usize, request: &Request<Incoming>) -> Asked {
    Asked {
        connection,
        path: request.uri().path().to_owned(),
        query: request.uri().query().unwrap_or_default().to_owned(),
        headers: request.headers().clone(),
    }
}

async fn respond(reply: Reply) -> Result<Response<Full<Bytes>>, Infallible> {
    tokio::time::sleep(reply.delay).await;
    let mut response = Response::new(Full::from(reply.body));
    *response.status_mut() = http::StatusCode::from_u16(reply.status).unwrap_or_default();
    for (name, value) in reply.headers {
        if let Ok(value) = value.parse() {
            response.headers_mut().insert(name, value);
        }
    }
    Ok(response)
}
