//! Requests to stores over plain HTTP, with small buffers.
//!
//! The usual client reads up to 400 KiB at once from such a connection, and keeps up to three such buffers for each stream. Over
//! TLS a read returns at most one record of 16 KiB, so the usual client is used there.

use std::time::Duration;

use aws_sdk_s3::config::http::{HttpRequest, HttpResponse};
use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_runtime_api::client::result::ConnectorError;
use http::header::HOST;
use http::{HeaderValue, Request, Uri};
use hyper::client::conn::http1;
use hyper_util::client::legacy::connect::HttpConnector;
use tower::ServiceExt as _;

/// Most bytes that are read at once.
const BUFFER: usize = 64 << 10;
/// For a connection to a store.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends a request on a connection of its own.
pub(super) async fn send(request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
    let io = |error: hyper::Error| ConnectorError::io(error.into());
    let request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
    let mut request = with_host(request);
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    // Each address has a part of the time, so that a dead one does not use up all.
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, connector.oneshot(request.uri().clone())).await;
    let stream = connected
        .map_err(|_| ConnectorError::timeout(format!("no connection within {CONNECT_TIMEOUT:?}").into()))?
        .map_err(|error| ConnectorError::io(error.into()))?;
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = path.map_or_else(Uri::default, Uri::from);
    let mut builder = http1::Builder::new();
    builder.max_buf_size(BUFFER);
    let (mut sender, connection) = builder.handshake(stream).await.map_err(io)?;
    // The task ends with the answer's body.
    tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(io)?;
    HttpResponse::try_from(response.map(SdkBody::from_body_1_x))
        .map_err(|error| ConnectorError::other(error.into(), None))
}

/// Names the host of a request as it is signed: as it is spelled, without the scheme's port. Clients may spell it otherwise.
pub(super) fn with_host<B>(mut request: Request<B>) -> Request<B> {
    let uri = request.uri();
    let port = if uri.scheme_str() == Some("https") { ":443" } else { ":80" };
    let name = uri.authority().map(|authority| authority.as_str().trim_end_matches(port));
    if let Some(Ok(name)) = name.map(HeaderValue::from_str) {
        request.headers_mut().entry(HOST).or_insert(name);
    }
    request
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn a_request_names_its_host() {
        for (url, host) in [
            ("http://minio:9000/b/k?x-id=GetObject", "minio:9000"),
            ("http://minio/b/k?x-id=GetObject", "minio"),
            ("http://minio:80/b/k?x-id=GetObject", "minio"),
            ("http://[::1]:9000/b/k?x-id=GetObject", "[::1]:9000"),
            ("https://STS.corp.example:443/", "STS.corp.example"),
            ("https://sts.corp.example:80/", "sts.corp.example:80"),
        ] {
            let request = with_host(Request::get(url).body(()).unwrap());
            assert_eq!(request.headers()[HOST], host, "{url}");
        }
    }

    #[tokio::test]
    async fn a_request_names_its_path() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/b/k?x-id=GetObject", listener.local_addr().unwrap());
        let sent = tokio::spawn(send(HttpRequest::get(url).unwrap()));
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        assert!(request.starts_with(b"GET /b/k?x-id=GetObject HTTP/1.1\r\n"), "{}", request.escape_ascii());
        assert_eq!(sent.await.unwrap().unwrap().status().as_u16(), 204);
    }
}
