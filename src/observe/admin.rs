//! The admin server: `/livez`, `/readyz` and `/metrics`, for the kubelet and Prometheus. Read-only.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use http::{StatusCode, header};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::liveness::Liveness;
use super::log_limit::LogLimit;

/// Open connections. One more closes the oldest: the answer to a probe or a scrape takes moments.
const CONNECTIONS: usize = 64;
/// Maximum duration of a connection, which serves one request.
const TIME: Duration = Duration::from_secs(30);
/// Pause after a connection could not be accepted, such as without free file descriptors.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Renders the metrics in the OpenMetrics text format.
pub(crate) type Scrape = Arc<dyn Fn() -> Result<String, std::fmt::Error> + Send + Sync>;

/// State that the server reads.
#[derive(Clone)]
pub(crate) struct Admin {
    /// Called at each scrape.
    pub scrape: Scrape,
    pub liveness: Liveness,
    /// True once the caches have held every object, or while this replica stands by. False again when the registry stops.
    pub ready: Arc<AtomicBool>,
}

/// Listens at an address. An IPv6 address accepts IPv4 too, and `[::]` falls back to `0.0.0.0` if the system has no IPv6:
/// the kubelet probes a pod at its own address, which may be of either family.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    bind(address).or_else(|error| without_ipv6(address, &error).map_or(Err(error), bind))
}

/// Whether a connection could not be accepted because its client has closed it already.
pub(crate) fn is_of_the_client(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset)
}

/// The IPv4 wildcard address, if listening at the IPv6 one failed because the system has no IPv6.
fn without_ipv6(address: SocketAddr, error: &io::Error) -> Option<SocketAddr> {
    let any = address.ip() == IpAddr::from(Ipv6Addr::UNSPECIFIED);
    // These errors occur only if the system has IPv6.
    let there = matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::PermissionDenied);
    (any && !there).then(|| (Ipv4Addr::UNSPECIFIED, address.port()).into())
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        // The default depends on the system.
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    TcpListener::from_std(socket.into())
}

/// Serves until `stop` resolves. Every pod of the cluster may connect, so connections are limited in number and time.
pub(crate) async fn serve(
    listener: TcpListener,
    admin: Admin,
    stop: impl Future<Output = ()> + Send + 'static,
) {
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(admin);
    let mut server = Server { router, open: VecDeque::new(), failed: LogLimit::default() };
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            accepted = listener.accept() => server.accepted(accepted).await,
        }
    }
}

struct Server {
    router: Router,
    /// The open connections, the oldest first. Some may have ended.
    open: VecDeque<JoinHandle<()>>,
    failed: LogLimit,
}

impl Server {
    async fn accepted(&mut self, accepted: io::Result<(TcpStream, SocketAddr)>) {
        match accepted {
            Ok((stream, _)) => {
                self.start(stream);
                // A probe in a burst of connections is answered before others close its connection.
                tokio::task::yield_now().await;
            }
            Err(error) if is_of_the_client(&error) => {}
            Err(error) => {
                self.close_oldest();
                if let Some(count) = self.failed.add() {
                    tracing::warn!(%error, count, "cannot accept a connection of a probe or a scrape");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }

    fn start(&mut self, stream: TcpStream) {
        self.open.retain(|connection| !connection.is_finished());
        if self.open.len() >= CONNECTIONS {
            self.close_oldest();
        }
        self.open.push_back(tokio::spawn(answer(stream, self.router.clone())));
    }

    fn close_oldest(&mut self) {
        if let Some(oldest) = self.open.pop_front() {
            oldest.abort();
        }
    }
}

/// Answers one request, if it arrives in time.
async fn answer(stream: TcpStream, router: Router) {
    let connection = http1::Builder::new()
        .keep_alive(false)
        // The whole connection has a time limit.
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Ok(Err(error)) = tokio::time::timeout(TIME, connection).await {
        tracing::debug!(%error, "a connection of a probe or a scrape failed");
    }
}

async fn livez(State(admin): State<Admin>) -> impl IntoResponse {
    let silent = admin.liveness.silent(Instant::now());
    if silent.is_empty() {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("stuck: {}\n", silent.join(", ")))
    }
}

async fn readyz(State(admin): State<Admin>) -> impl IntoResponse {
    if admin.ready.load(Ordering::Acquire) {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready: starting or stopping\n")
    }
}

async fn metrics(State(admin): State<Admin>) -> Result<impl IntoResponse, StatusCode> {
    let text = (admin.scrape)().map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn admin(is_ready: bool) -> Admin {
        Admin {
            scrape: Arc::new(|| Ok::<_, std::fmt::Error>(String::new())),
            liveness: Liveness::default(),
            ready: Arc::new(AtomicBool::new(is_ready)),
        }
    }

    #[tokio::test]
    async fn a_process_that_is_not_ready_starts_or_stops() {
        let admin = admin(false);
        let answer = readyz(State(admin)).await.into_response();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        let text = axum::body::to_bytes(answer.into_body(), 100).await.unwrap();
        assert_eq!(text, "not ready: starting or stopping\n");
    }

    #[tokio::test]
    async fn a_probe_is_answered_however_many_connections_are_idle() {
        let admin = admin(true);
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(serve(listener, admin, std::future::pending()));
        let mut idle = Vec::new();
        for _ in 0..CONNECTIONS + 10 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET /met").await.unwrap();
            idle.push(stream);
        }
        let mut probe = TcpStream::connect(address).await.unwrap();
        probe.write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let mut text = String::new();
        probe.read_to_string(&mut text).await.unwrap();
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("\r\n\r\nok\n"), "{text}");
        let mut byte = [0];
        // The end of the connection, or a reset.
        assert!(matches!(idle[0].read(&mut byte).await, Ok(0) | Err(_)), "the oldest made room");
        let newest = idle.last_mut().unwrap().read(&mut byte);
        assert!(tokio::time::timeout(Duration::from_millis(50), newest).await.is_err(), "it is still open");
        server.abort();
    }

    #[test]
    fn only_the_wildcard_address_falls_back_and_only_where_there_is_no_ipv6() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        // EAFNOSUPPORT, of a kernel without IPv6.
        let unsupported = io::Error::from_raw_os_error(97);
        let none = without_ipv6(address("[::]:8080"), &unsupported);
        assert_eq!(none, Some(address("0.0.0.0:8080")));
        for (listen, error) in [
            ("[::1]:8080", io::Error::from_raw_os_error(97)),
            ("0.0.0.0:8080", io::Error::from_raw_os_error(97)),
            ("[::]:8080", ErrorKind::AddrInUse.into()),
            ("[::]:80", ErrorKind::PermissionDenied.into()),
        ] {
            assert_eq!(without_ipv6(address(listen), &error), None, "{listen}: {error}");
        }
    }
}
