//! The listener over real sockets, with limits of milliseconds.

mod connections;
mod requests;
mod stopping;
mod tls;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, header};
use hyper::body::Frame;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::answer::{answer, error};
use super::*;

/// Longer than anything here takes.
const DEADLINE: Duration = Duration::from_secs(10);

/// Limits that tests do not reach unless they mean to.
const LIMITS: Limits = Limits {
    header_bytes: 32 << 10,
    headers: DEADLINE,
    idle: DEADLINE,
    stall: DEADLINE,
    connections: 100,
    per_peer: 100,
    finish: DEADLINE,
};

const SHORT: Duration = Duration::from_millis(150);

/// Answers by the path.
#[derive(Default)]
struct Paths {
    /// Requests and bodies that have not ended.
    running: Arc<AtomicUsize>,
    panics: AtomicUsize,
    /// The statuses of requests that never reached `handle`.
    refused: std::sync::Mutex<Vec<u16>>,
    /// Ends requests for `/wait`.
    go: Notify,
}

struct Running(Arc<AtomicUsize>);

impl Running {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A body without an end: as fast as it is read, or one byte at a time.
struct Endless {
    pause: Option<Pin<Box<tokio::time::Sleep>>>,
    _running: Running,
}

impl hyper::body::Body for Endless {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Some(pause) = &mut self.pause else {
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![b'x'; 64 << 10])))));
        };
        std::task::ready!(pause.as_mut().poll(cx));
        self.pause = Some(Box::pin(tokio::time::sleep(Duration::from_millis(5))));
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))))
    }
}

impl Handler for Paths {
    async fn handle(&self, request: Request<Bytes>, peer: Peer) -> Response<Body> {
        let running = Running::new(&self.running);
        match request.uri().path() {
            "/" => answer(StatusCode::OK, "OK", "hello"),
            "/peer" => answer(StatusCode::OK, "OK", format!("{peer:?}")),
            "/refused" => error(StatusCode::UNAUTHORIZED, "token expired: get a new one", "No.\n"),
            "/panic" => panic!("a defect"),
            "/login" => answer(StatusCode::OK, "OK", request.into_body()),
            "/size" if request.method() == Method::HEAD => {
                let mut answer = answer(StatusCode::OK, "OK", Body::empty());
                answer.headers_mut().insert(header::CONTENT_LENGTH, 12_345.into());
                answer
            }
            "/endless" => Response::new(Body::new(Endless { pause: None, _running: running })),
            "/trickle" => {
                let pause = Some(Box::pin(tokio::time::sleep(Duration::ZERO)));
                let mut answer = Response::new(Body::new(Endless { pause, _running: running }));
                answer.extensions_mut().insert(MinimumRate { bytes: 10_000, within: SHORT });
                answer
            }
            "/page" => {
                let mut answer = answer(StatusCode::OK, "OK", "x".repeat(16 << 20) + "end");
                answer.extensions_mut().insert(MinimumRate { bytes: 10_000, within: SHORT });
                answer
            }
            "/wait" => {
                self.go.notified().await;
                answer(StatusCode::OK, "OK", "done")
            }
            _ => error(StatusCode::NOT_FOUND, "Not Found", "No.\n"),
        }
    }

    fn largest_body(&self, head: &Parts) -> u64 {
        if head.uri.path() == "/login" { 16 << 10 } else { 0 }
    }

    fn unhandled(&self, status: StatusCode) {
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            self.panics.fetch_add(1, Ordering::SeqCst);
        } else {
            self.refused.lock().unwrap().push(status.as_u16());
        }
    }
}

/// A running listener.
struct Served {
    address: SocketAddr,
    paths: Arc<Paths>,
    stopper: Stopper,
    task: JoinHandle<()>,
}

impl Served {
    async fn start(limits: Limits) -> Self {
        Self::with(limits, None, TrustedProxies::default()).await
    }

    async fn with(limits: Limits, tls: Option<Arc<Tls>>, proxies: TrustedProxies) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (paths, (stopper, stop)) = (Arc::new(Paths::default()), Stopper::new());
        let task = tokio::spawn(serve(listener, tls, limits, proxies, Arc::clone(&paths), stop));
        Self { address, paths, stopper, task }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// What is answered to this text on a connection of its own, until the server closes it.
    async fn answer(&self, text: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        stream.write_all(text.as_ref()).await.unwrap();
        rest(&mut stream).await
    }

    /// Waits until this many requests are running.
    async fn running(&self, count: usize) {
        let reached = async {
            while self.paths.running.load(Ordering::SeqCst) != count {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(DEADLINE, reached).await.expect("the requests");
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")
}

/// Everything up to the end of the connection, which the server closes before the deadline.
async fn rest(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    // A reset after the answer is an end as well.
    let end = tokio::time::timeout(DEADLINE / 2, stream.read_to_end(&mut bytes)).await;
    let _ = end.expect("the server closes the connection");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// One answer that ends with this text.
async fn answer_ending(stream: &mut (impl tokio::io::AsyncRead + Unpin), end: &str) -> String {
    let mut bytes = Vec::new();
    let read = async {
        while !bytes.ends_with(end.as_bytes()) {
            assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0, "{}", String::from_utf8_lossy(&bytes));
        }
    };
    tokio::time::timeout(DEADLINE, read).await.expect("an answer");
    String::from_utf8_lossy(&bytes).into_owned()
}
