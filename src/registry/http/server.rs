//! Accepts connections until the listener is stopped.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::connection;
use super::connections::Connections;
use super::limits::Limits;
use super::peer::TrustedProxies;
use super::service::{Handler, Shared};
use super::stop::Stop;
use super::tls::Tls;

/// Pause after a connection could not be accepted, such as without free file descriptors.
const PAUSE: Duration = Duration::from_millis(100);
/// At most one line about rejected connections in this time, and one about those that could not be accepted.
const LOG_INTERVAL: Duration = Duration::from_mins(1);

/// Serves until `stop` closes the listener, and then until the running requests have ended.
pub async fn serve<H: Handler>(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    limits: Limits,
    proxies: TrustedProxies,
    handler: Arc<H>,
    mut stop: Stop,
) {
    let shared = Arc::new(Shared { handler, limits, proxies, stop: stop.clone() });
    let mut server = Server {
        shared,
        tls,
        connections: Arc::default(),
        tasks: JoinSet::new(),
        refused: Counted::default(),
        failed: Counted::default(),
    };
    loop {
        tokio::select! {
            biased;
            () = stop.closing() => break,
            Some(_) = server.tasks.join_next() => {}
            accepted = listener.accept() => server.accepted(accepted).await,
        }
    }
    // The system has already accepted these connections, and their clients expect answers.
    while let Some(Ok((stream, from))) = listener.accept().now_or_never() {
        server.start(stream, from);
    }
    drop(listener);
    server.finish().await;
}

struct Server<H> {
    shared: Arc<Shared<H>>,
    tls: Option<Arc<Tls>>,
    connections: Arc<Connections>,
    tasks: JoinSet<()>,
    refused: Counted,
    failed: Counted,
}

impl<H: Handler> Server<H> {
    async fn accepted(&mut self, accepted: io::Result<(TcpStream, SocketAddr)>) {
        match accepted {
            Ok((stream, from)) => self.start(stream, from),
            // Errors of the connection, which its client has closed already.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
                ) => {}
            Err(error) => {
                // Without free file descriptors, the new connection needs one of an idle connection.
                self.connections.close_longest_idle();
                if let Some(count) = self.failed.add() {
                    tracing::warn!(%error, count, "cannot accept a connection");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    fn start(&mut self, stream: TcpStream, from: SocketAddr) {
        let address = from.ip().to_canonical();
        let counted = (!self.shared.proxies.contains(address)).then_some(address);
        let Some(place) = self.connections.admit(counted, &self.shared.limits) else {
            if let Some(count) = self.refused.add() {
                tracing::warn!(
                    last = %address,
                    count,
                    "rejected connections: too many are open, and all of them are busy"
                );
            }
            return;
        };
        let shared = Arc::clone(&self.shared);
        self.tasks.spawn(connection::run(stream, address, place, self.tls.clone(), shared));
    }

    /// Closes idle connections, and waits for the others.
    async fn finish(mut self) {
        self.connections.close();
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(self.shared.limits.finish, ended).await.is_err() {
            tracing::warn!(connections = self.tasks.len(), "aborted requests that took too long to end");
            self.tasks.shutdown().await;
        }
    }
}

/// Counts events, and when to log them.
#[derive(Debug, Default)]
struct Counted {
    count: u64,
    logged: Option<Instant>,
}

impl Counted {
    /// Counts one more. Returns the number since the last line if there has been none for [`LOG_INTERVAL`].
    fn add(&mut self) -> Option<u64> {
        self.count += 1;
        let now = Instant::now();
        let is_due = self.logged.is_none_or(|logged| now.duration_since(logged) >= LOG_INTERVAL);
        is_due.then(|| {
            self.logged = Some(now);
            std::mem::take(&mut self.count)
        })
    }
}
