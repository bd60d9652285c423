//! Requests to stores over plain HTTP, with small buffers.
//!
//! The usual client reads up to 400 KiB at once from such a connection, and keeps up to three such buffers for each stream. Over
//! TLS a read returns at most one record of 16 KiB, so the usual client is used there.

use std::io::{self, ErrorKind};
use std::time::Duration;

use aws_sdk_s3::config::http::{HttpRequest, HttpResponse};
use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_runtime_api::client::result::ConnectorError;
use http::header::HOST;
use http::{HeaderValue, Request, Uri};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, lookup_host};

/// Most bytes that are read at once.
const BUFFER: usize = 64 << 10;
/// For a connection to a store.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends a request on a connection of its own.
pub(super) async fn send(request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
    let io = |error: hyper::Error| ConnectorError::io(error.into());
    let request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
    let (address, request) = addressed(request)?;
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, connect(address)).await;
    let stream = connected
        .map_err(|error| ConnectorError::timeout(error.into()))?
        .map_err(|error| ConnectorError::io(error.into()))?;
    let _ = stream.set_nodelay(true);
    let mut builder = http1::Builder::new();
    builder.max_buf_size(BUFFER);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(io)?;
    // The task ends with the answer's body.
    tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(io)?;
    HttpResponse::try_from(response.map(SdkBody::from_body_1_x))
        .map_err(|error| ConnectorError::other(error.into(), None))
}

/// Connects to the first address that answers. Each has an equal part of the time, so that a dead one does not use up all.
async fn connect(address: (String, u16)) -> io::Result<TcpStream> {
    let addresses: Vec<_> = lookup_host(address).await?.collect();
    let part = CONNECT_TIMEOUT / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
    let mut failed = io::Error::new(ErrorKind::NotFound, "the host has no address");
    for address in addresses {
        failed = match tokio::time::timeout(part, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => error,
            Err(_) => io::Error::new(ErrorKind::TimedOut, format!("{address} does not answer")),
        };
    }
    Err(failed)
}

/// Host and port of a request, and the request as it is sent there.
fn addressed(mut request: Request<SdkBody>) -> Result<((String, u16), Request<SdkBody>), ConnectorError> {
    let user = |text: &'static str| ConnectorError::user(text.into());
    let uri = request.uri();
    let authority = uri.authority().ok_or_else(|| user("the URL has no host"))?;
    let host = authority.host().trim_matches(['[', ']']).to_owned();
    let address = (host, authority.port_u16().unwrap_or(80));
    // As it is signed: without the default port.
    let name = authority.as_str().trim_end_matches(":80");
    let name = HeaderValue::from_str(name).map_err(|_| user("the URL's host is invalid"))?;
    let path = uri.path_and_query().map_or(Uri::from_static("/"), |path| Uri::from(path.clone()));
    request.headers_mut().entry(HOST).or_insert(name);
    *request.uri_mut() = path;
    Ok((address, request))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_its_host() {
        for (url, host, port, header) in [
            ("http://minio:9000/b/k?x-id=GetObject", "minio", 9000, "minio:9000"),
            ("http://minio/b/k?x-id=GetObject", "minio", 80, "minio"),
            ("http://minio:80/b/k?x-id=GetObject", "minio", 80, "minio"),
            ("http://[::1]:9000/b/k?x-id=GetObject", "::1", 9000, "[::1]:9000"),
        ] {
            let request = Request::get(url).body(SdkBody::empty()).unwrap();
            let (address, request) = addressed(request).unwrap();
            assert_eq!(address, (host.to_owned(), port), "{url}");
            assert_eq!(
                (request.uri().to_string().as_str(), request.headers()[HOST].to_str().unwrap()),
                ("/b/k?x-id=GetObject", header)
            );
        }
    }
}
