//! The HTTP clients of the SDK: with and without the proxy, and with roots that are trusted in addition to the system's.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_sdk_s3::config::http::{HttpRequest, HttpResponse};
use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector};
use aws_smithy_runtime_api::client::result::ConnectorError;
use reqwest::{Certificate, Client, ClientBuilder, redirect};
use thiserror::Error;

use super::plain_http::{CONNECT_TIMEOUT, with_host};
use super::proxy::ProxyRouter;
use crate::domain::text::causes;
use crate::domain::{Mutex, hash_of};

/// For a connection to a link-local address. There is none on a machine without a metadata service.
const LINK_TIMEOUT: Duration = Duration::from_secs(1);
/// How long an unused connection is kept. S3 closes it after 5 to 20 seconds, and a request that is sent at that moment fails.
const IDLE: Duration = Duration::from_secs(4);
/// How long each request to a server that failed has a new connection: until no connection from before is kept.
const AFTER_FAILURE: Duration = IDLE.saturating_mul(2);

/// Why the roots of the system cannot be used.
#[derive(Debug, Error)]
#[error(
    "cannot use the system's certificates: {0}; install CA certificates, or name a file of them with --ca-file"
)]
pub struct CaError(String);

/// The clients of both servers, with additional roots.
pub(super) fn http_client(roots: &[Certificate]) -> Result<ProxyRouter, CaError> {
    let proxied = SharedHttpConnector::new(Http::new(roots, CONNECT_TIMEOUT, |builder| builder)?);
    let direct = SharedHttpConnector::new(Http::new(roots, LINK_TIMEOUT, ClientBuilder::no_proxy)?);
    Ok(ProxyRouter { proxied, direct, small_buffers: None, limit: None })
}

/// A client that uses the proxy, unless `settings` excludes it.
///
/// It never uses HTTP/2, whose streams share one connection and its window: downloads that slow clients do not read would stop all
/// others, and a connection that drops packets would be used again after a timeout.
fn client(
    roots: &[Certificate],
    connect_timeout: Duration,
    settings: impl FnOnce(ClientBuilder) -> ClientBuilder,
) -> Result<Client, CaError> {
    let builder = Client::builder()
        .http1_only()
        .pool_idle_timeout(IDLE)
        .redirect(redirect::Policy::none())
        .referer(false)
        .connect_timeout(connect_timeout)
        .tls_certs_merge(roots.iter().cloned());
    settings(builder).build().map_err(|error| CaError(causes(&error)))
}

/// Sends requests of the SDK.
///
/// One of several servers behind an address may fail while the others work. The SDK would close its connection, which `reqwest`
/// cannot do; so the next requests use none of the connections that are open.
#[derive(Clone, Debug)]
struct Http {
    pooled: Client,
    /// Opens a connection for each request.
    unpooled: Client,
    /// When a server last failed, by a hash of its authority.
    failed: Arc<Mutex<HashMap<u64, Instant>>>,
}

impl Http {
    fn new(
        roots: &[Certificate],
        connect_timeout: Duration,
        settings: fn(ClientBuilder) -> ClientBuilder,
    ) -> Result<Self, CaError> {
        let pooled = client(roots, connect_timeout, settings)?;
        let unpooled = client(roots, connect_timeout, |builder| settings(builder).pool_max_idle_per_host(0))?;
        Ok(Self { pooled, unpooled, failed: Arc::default() })
    }

    /// The client for a request to this server. If the server has just failed, no connection is used again.
    fn client(&self, server: u64) -> &Client {
        let mut failed = self.failed.lock();
        failed.retain(|_, at| at.elapsed() < AFTER_FAILURE);
        if failed.contains_key(&server) { &self.unpooled } else { &self.pooled }
    }
}

impl HttpConnector for Http {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let this = self.clone();
        HttpConnectorFuture::new(async move {
            let request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
            let request = with_host(request);
            let server = hash_of(request.uri().authority());
            let request = reqwest::Request::try_from(request.map(reqwest::Body::wrap));
            let request = request.map_err(|error| ConnectorError::user(error.into()))?;
            let response = this.client(server).execute(request).await;
            let status = response.as_ref().ok().map(|response| response.status().as_u16());
            if matches!(status, None | Some(500 | 502..=504)) {
                this.failed.lock().insert(server, Instant::now());
            }
            let response = http::Response::<reqwest::Body>::from(response.map_err(not_sent)?);
            HttpResponse::try_from(response.map(SdkBody::from_body_1_x))
                .map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}

/// An error as the SDK distinguishes them: it repeats requests after both kinds.
fn not_sent(error: reqwest::Error) -> ConnectorError {
    let error = error.without_url();
    if error.is_timeout() { ConnectorError::timeout(error.into()) } else { ConnectorError::io(error.into()) }
}

#[cfg(test)]
pub(super) mod tests {
    use http_body_util::BodyExt as _;
    use opendepot_testbed::authority::Authority;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// The clients without the environment's proxy, since tests connect to loopback.
    pub(in crate::storage) fn without_proxy(roots: &[Certificate]) -> ProxyRouter {
        let clients = http_client(roots).unwrap();
        ProxyRouter { proxied: clients.direct.clone(), ..clients }
    }

    #[tokio::test]
    async fn a_store_that_speaks_http_2_is_asked_over_http_1_and_left_before_it_closes() {
        let authority = Authority::new("store").unwrap();
        let acceptor = TlsAcceptor::from(authority.tls(&["127.0.0.1"], &["h2", "http/1.1"]).unwrap());
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        // The SDK signs the host as it is spelled.
        let host = format!("127.1:{}", listener.local_addr().unwrap().port());
        let url = format!("https://{host}/modules/vpc/a%20b.zip?x-id=GetObject");
        let served = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = acceptor.accept(stream).await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
            let protocol = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
            let answered = Instant::now();
            // S3 closes it then.
            let closed = tokio::time::timeout(Duration::from_secs(20), stream.read_u8()).await;
            assert!(closed.expect("the client closes it").is_err(), "it sends nothing more");
            (protocol, String::from_utf8(request).unwrap().to_lowercase(), answered.elapsed())
        });
        let client = without_proxy(&[Certificate::from_pem(authority.pem().as_bytes()).unwrap()]);
        let answer = client.call(HttpRequest::get(url).unwrap()).await.unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "ok");
        let (protocol, request, unused) = served.await.unwrap();
        assert!(unused > Duration::from_secs(2), "another request could use the connection: {unused:?}");
        assert_eq!(protocol.as_deref(), Some(&b"http/1.1"[..]));
        assert!(request.starts_with("get /modules/vpc/a%20b.zip?x-id=getobject http/1.1\r\n"), "{request}");
        assert!(request.contains(&format!("\r\nhost: {host}\r\n")), "{request}");
        assert!(!request.contains("accept-encoding"), "the bytes are used as they are stored: {request}");
    }
}
