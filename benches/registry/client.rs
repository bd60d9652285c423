//! A client that costs little: blocking connections that are kept alive, and answers that are read only as far as HTTP needs.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

/// Connections that are kept alive.
pub(crate) const CONNECTIONS: usize = 16;
/// The host of requests, which is the audience of the token.
pub(crate) const AUDIENCE: &str = "registry.test";

/// A server, and how to reach it.
#[derive(Clone)]
pub(crate) struct Server {
    pub address: SocketAddr,
    pub tls: Option<Arc<ClientConfig>>,
}

pub(crate) trait Connection: Read + Write + Send {}
impl<T: Read + Write + Send> Connection for T {}

/// An answer without the headers of its connection.
pub(crate) struct Answer {
    pub status: StatusCode,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: Bytes,
}

impl Answer {
    pub(crate) fn header(&self, wanted: &str) -> &str {
        let header = self.headers.iter().find(|(name, _)| name == wanted);
        header.unwrap_or_else(|| panic!("no {wanted}: {}", self.status)).1.to_str().unwrap()
    }
}

impl Server {
    pub(crate) fn connect(&self) -> Box<dyn Connection> {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        let Some(config) = &self.tls else { return Box::new(stream) };
        let name = ServerName::from(self.address.ip());
        Box::new(StreamOwned::new(ClientConnection::new(Arc::clone(config), name).unwrap(), stream))
    }

    /// The answer to one request.
    pub(crate) async fn once(&self, request: &str) -> Answer {
        let (target, request) = (self.clone(), request.to_owned());
        tokio::task::spawn_blocking(move || {
            let (bytes, head) = exchange(&mut target.connect(), &request);
            let mut lines = std::str::from_utf8(&bytes[..head]).unwrap().lines();
            let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
            let headers = lines.filter_map(|line| line.split_once(": "));
            let headers =
                headers.filter(|(name, _)| !["content-length", "date", "connection"].contains(name));
            Answer {
                status,
                headers: headers
                    .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
                    .collect(),
                body: Bytes::copy_from_slice(&bytes[head + 4..]),
            }
        })
        .await
        .unwrap()
    }

    /// The path of an archive link, by the path of its `download`.
    pub(crate) async fn archive_path(&self, download: &str, token: &str) -> String {
        let answer = self.once(&request(download, token, "gzip")).await;
        assert_eq!(answer.status, 204, "{download}: {}", String::from_utf8_lossy(&answer.body));
        answer.header("x-terraform-get").split('?').next().unwrap().to_owned()
    }

    /// Answers per second, as long as `time` lasts.
    pub(crate) async fn load(&self, request: &str, time: Duration) -> f64 {
        let expected = self.once(request).await.status;
        let line = format!("HTTP/1.1 {} ", expected.as_u16());
        let mut connections: Vec<_> = (0..CONNECTIONS).map(|_| self.connect()).collect();
        for connection in &mut connections {
            // The handshake is over, and the answer is in the caches.
            exchange(connection, request);
        }
        let start = Instant::now();
        let threads: Vec<_> = connections
            .into_iter()
            .map(|mut connection| {
                let (line, request) = (line.clone(), request.to_owned());
                std::thread::spawn(move || {
                    let mut count = 0_u32;
                    while start.elapsed() < time {
                        let (answer, _) = exchange(&mut connection, &request);
                        assert!(answer.starts_with(line.as_bytes()), "{}", String::from_utf8_lossy(&answer));
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        let count =
            tokio::task::spawn_blocking(|| threads.into_iter().map(|t| t.join().unwrap()).sum::<u32>());
        f64::from(count.await.unwrap()) / start.elapsed().as_secs_f64()
    }
}

/// A request as Terraform sends it.
pub(crate) fn request(path: &str, token: &str, encoding: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nhost: {AUDIENCE}\r\nuser-agent: Terraform/1.11.4\r\nx-terraform-version: 1.11.4\r\n\
         authorization: Bearer {token}\r\naccept-encoding: {encoding}\r\n\r\n"
    )
}

/// Sends a request and reads its answer, which ends with the body of the announced length. Gives the head's length.
pub(crate) fn exchange(connection: &mut Box<dyn Connection>, request: &str) -> (Vec<u8>, usize) {
    connection.write_all(request.as_bytes()).unwrap();
    let (mut bytes, mut buffer) = (Vec::with_capacity(16 << 10), [0; 16 << 10]);
    loop {
        let read = connection.read(&mut buffer).unwrap();
        assert_ne!(read, 0, "the connection ended: {}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&buffer[..read]);
        let Some(head) = bytes.windows(4).position(|end| end == b"\r\n\r\n") else { continue };
        let text = std::str::from_utf8(&bytes[..head]).unwrap();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |length| length.parse().unwrap());
        if bytes.len() >= head + 4 + length {
            return (bytes, head);
        }
    }
}
