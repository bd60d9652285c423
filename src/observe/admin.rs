//! The admin server: `/livez`, `/readyz` and `/metrics`, for the kubelet and Prometheus. Read-only.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::liveness::Liveness;

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
/// the kubelet probes a pod at its own address, of whichever family that is.
pub(crate) fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    bind(address).or_else(|error| without_ipv6(address, &error).map_or(Err(error), bind))
}

/// The IPv4 wildcard address, if listening at the IPv6 one failed because the system has no IPv6.
fn without_ipv6(address: SocketAddr, error: &std::io::Error) -> Option<SocketAddr> {
    let any = address.ip() == IpAddr::from(Ipv6Addr::UNSPECIFIED);
    // These errors occur only if the system has IPv6.
    let there = matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::PermissionDenied);
    (any && !there).then(|| (Ipv4Addr::UNSPECIFIED, address.port()).into())
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
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

/// Serves until `stop` resolves.
pub(crate) async fn serve(
    listener: TcpListener,
    admin: Admin,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(admin);
    axum::serve(listener, router).with_graceful_shutdown(stop).await
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
    use super::*;

    #[tokio::test]
    async fn a_process_that_is_not_ready_starts_or_stops() {
        let admin = Admin {
            scrape: Arc::new(|| Ok::<_, std::fmt::Error>(String::new())),
            liveness: Liveness::default(),
            ready: Arc::new(AtomicBool::new(false)),
        };
        let answer = readyz(State(admin)).await.into_response();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        let text = axum::body::to_bytes(answer.into_body(), 100).await.unwrap();
        assert_eq!(text, "not ready: starting or stopping\n");
    }

    #[test]
    fn only_the_wildcard_address_falls_back_and_only_where_there_is_no_ipv6() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        // EAFNOSUPPORT, of a kernel without IPv6.
        let unsupported = std::io::Error::from_raw_os_error(97);
        let none = without_ipv6(address("[::]:8080"), &unsupported);
        assert_eq!(none, Some(address("0.0.0.0:8080")));
        for (listen, error) in [
            ("[::1]:8080", std::io::Error::from_raw_os_error(97)),
            ("0.0.0.0:8080", std::io::Error::from_raw_os_error(97)),
            ("[::]:8080", ErrorKind::AddrInUse.into()),
            ("[::]:80", ErrorKind::PermissionDenied.into()),
        ] {
            assert_eq!(without_ipv6(address(listen), &error), None, "{listen}: {error}");
        }
    }
}
