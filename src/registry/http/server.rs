//! Accepts connections until the listener is stopped.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use futures::FutureExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::connection;
use super::connections::Connections;
use super::limits::Limits;
use super::peer::{Peer, TrustedProxies};
use super::service::{Handler, Shared};
use super::stop::Stop;
use super::tls::Tls;
use crate::observe::admin::{ACCEPT_PAUSE, is_of_the_client};
use crate::observe::log_limit::LogLimit;

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
        refused: LogLimit::default(),
        failed: LogLimit::default(),
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
    refused: LogLimit,
    failed: LogLimit,
}

impl<H: Handler> Server<H> {
    async fn accepted(&mut self, accepted: io::Result<(TcpStream, SocketAddr)>) {
        match accepted {
            Ok((stream, from)) => self.start(stream, from),
            Err(error) if is_of_the_client(&error) => {}
            Err(error) => {
                // Without free file descriptors, the new connection needs one of an idle connection.
                self.connections.close_longest_idle();
                if let Some(count) = self.failed.add() {
                    tracing::warn!(%error, count, "cannot accept a connection");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }

    fn start(&mut self, stream: TcpStream, from: SocketAddr) {
        let address = from.ip().to_canonical();
        let counted = (!self.shared.proxies.contains(address)).then_some(Peer::of(address));
        let Some(permit) = self.connections.admit(counted, &self.shared.limits) else {
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
        self.tasks.spawn(connection::run(stream, address, permit, self.tls.clone(), shared));
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
