//! A TCP connection between a registry and the API server that a test can slow down or cut.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use opendepot_testbed::port::Port;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{SOON, World};

/// The wire. It needs a runtime with several threads where clients block the test's own.
pub(crate) struct Wire {
    port: Port,
    to: SocketAddr,
    kubeconfig: PathBuf,
    delay: Arc<AtomicU64>,
    running: Mutex<JoinSet<()>>,
}

impl Wire {
    /// A wire to the API server of this test.
    pub(crate) async fn new(world: &World) -> Self {
        let kubernetes = &world.bed.kubernetes;
        let port = Port::new().unwrap();
        let (url, account) =
            (format!("https://{}", port.address()), ("opendepot-system", "opendepot-registry"));
        let (kubeconfig, _) = kubernetes.kubeconfig_of(account.0, account.1, Some(&url)).unwrap();
        let to = kubernetes.address().parse().unwrap();
        let wire = Self { port, to, kubeconfig, delay: Arc::default(), running: Mutex::default() };
        wire.restore().await;
        wire
    }

    /// A kubeconfig of the registry whose requests are sent over the wire.
    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Accepts that many connections while the wire is cut, and closes each at once, as an API server that starts.
    pub(crate) async fn turn_away(&self, attempts: usize) {
        let listener = self.port.listen().unwrap();
        for _ in 0..attempts {
            let client = tokio::time::timeout(SOON, listener.accept()).await;
            drop(client.expect("a client connects").unwrap());
        }
        self.port.refuse().unwrap();
    }

    /// A kubeconfig of others with this address in place of the API server's.
    pub(crate) fn carrying(&self, kubeconfig: &Path) -> String {
        let text = std::fs::read_to_string(kubeconfig).unwrap();
        assert!(text.contains(&self.to.to_string()), "another API server");
        text.replace(&self.to.to_string(), &self.port.address().to_string())
    }

    /// From now on, what the API server sends arrives that much later.
    pub(crate) fn delay(&self, delay: Duration) {
        let delay = u64::try_from(delay.as_millis()).unwrap();
        self.delay.store(delay, Ordering::SeqCst);
    }

    /// Breaks all connections and refuses new ones, as an API server that is killed.
    pub(crate) async fn cut(&self) {
        self.port.refuse().unwrap();
        self.running.lock().await.shutdown().await;
    }

    /// Carries again, at the same address.
    pub(crate) async fn restore(&self) {
        let listener = self.port.listen().unwrap();
        let (to, delay) = (self.to, Arc::clone(&self.delay));
        self.running.lock().await.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let delay = Arc::clone(&delay);
                connections.spawn(async move {
                    // Either side may be gone: that is what a cut is.
                    let _ = connection(client, to, &delay).await;
                });
            }
        });
    }
}

async fn connection(client: TcpStream, to: SocketAddr, delay: &AtomicU64) -> anyhow::Result<()> {
    let server = TcpStream::connect(to).await.context("the API server does not listen")?;
    let (mut from_client, to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    tokio::select! {
        end = tokio::io::copy(&mut from_client, &mut to_server) => end.map(drop)?,
        end = late(from_server, to_client, delay) => end?,
    }
    Ok(())
}

/// Passes on each piece a while after it came. Pieces that come meanwhile are not held up by one another.
async fn late(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: &AtomicU64) -> anyhow::Result<()> {
    let (sender, mut pieces) = mpsc::unbounded_channel();
    let read = async move {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let bytes = from.read(&mut buffer).await?;
            if bytes == 0 || sender.send((Instant::now(), buffer[..bytes].to_vec())).is_err() {
                return anyhow::Ok(());
            }
        }
    };
    let write = async move {
        while let Some((came, piece)) = pieces.recv().await {
            let delay = Duration::from_millis(delay.load(Ordering::SeqCst));
            tokio::time::sleep_until(came + delay).await;
            to.write_all(&piece).await?;
        }
        anyhow::Ok(())
    };
    tokio::try_join!(read, write).map(drop)
}
