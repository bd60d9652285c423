//! One connection: TLS handshake, requests, and its end.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};
use tokio_rustls::TlsAcceptor;

use super::activity::{Activity, CloseReason};
use super::connections::ConnectionPermit;
use super::limits::Limits;
use super::service::{Handler, Shared, respond};
use super::socket::Socket;
use super::tls::Tls;

/// How long bytes of a client are read and dropped after the last answer, and how many. Closing a socket with unread bytes
/// destroys an answer that the client has not read yet.
const LINGER: (Duration, usize) = (Duration::from_secs(1), 256 << 10);

/// Serves a connection until it ends.
pub(super) async fn run<H: Handler>(
    stream: TcpStream,
    address: IpAddr,
    permit: ConnectionPermit,
    tls: Option<Arc<Tls>>,
    shared: Arc<Shared<H>>,
) {
    let activity = Arc::clone(&permit.activity);
    let mut watchdog = Watchdog::new(Arc::clone(&activity), shared.limits);
    // A packet that waits for the acknowledgement of the one before delays small answers.
    let _ = stream.set_nodelay(true);
    let socket = Socket::new(stream, activity);
    let Some(tls) = tls else { return serve(socket, address, watchdog, shared).await };
    let mut handshake = pin!(TlsAcceptor::from(tls.config()).accept(socket));
    match poll_fn(|cx| watchdog.until(cx, |cx| handshake.as_mut().poll(cx))).await {
        Ok(Ok(stream)) => serve(stream, address, watchdog, shared).await,
        Ok(Err(error)) => tracing::debug!(%address, %error, "the TLS handshake failed"),
        Err(cut) => {
            tracing::debug!(%address, reason = cut.reason(), "closed a connection during its TLS handshake");
        }
    }
}

async fn serve<H: Handler>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    address: IpAddr,
    mut watchdog: Watchdog,
    shared: Arc<Shared<H>>,
) {
    let activity = Arc::clone(&watchdog.activity);
    let service = service_fn(|request| {
        let answer = respond(Arc::clone(&shared), Arc::clone(&activity), address, request);
        async { Ok::<_, Infallible>(answer.await) }
    });
    let mut connection = http1::Builder::new()
        // The watchdog has limits of its own, which tell idle connections from slow ones.
        .header_read_timeout(None)
        .max_header_size(shared.limits.header_bytes)
        .max_buf_size(shared.limits.header_bytes)
        .serve_connection(TokioIo::new(stream), service);
    let mut shut_down = false;
    let ended = poll_fn(|cx| {
        watchdog.until(cx, |cx| {
            if activity.ends_when_idle() && !shut_down {
                Pin::new(&mut connection).graceful_shutdown();
                shut_down = true;
            }
            Pin::new(&mut connection).poll(cx)
        })
    });
    match ended.await {
        Ok(result) => {
            if let Err(error) = result {
                tracing::debug!(%address, %error, "a connection failed");
            }
            if !activity.ended() {
                linger(connection.into_parts().io.into_inner(), watchdog).await;
            }
        }
        Err(cut) => tracing::debug!(%address, reason = cut.reason(), "closed a connection"),
    }
}

/// Reads what the client still sends, until it closes the connection, or another one needs the permit.
async fn linger(mut stream: impl AsyncRead + Unpin, mut watchdog: Watchdog) {
    let (time, mut most) = LINGER;
    let drop_bytes = async {
        let mut buffer = [0; 2048];
        while let Ok(bytes @ 1..) = stream.read(&mut buffer).await {
            match most.checked_sub(bytes) {
                Some(rest) => most = rest,
                None => return,
            }
        }
    };
    let mut rest = pin!(tokio::time::timeout(time, drop_bytes));
    let _ = poll_fn(|cx| watchdog.until(cx, |cx| rest.as_mut().poll(cx))).await;
}

/// Ends a connection that has taken too long, or whose permit is needed.
struct Watchdog {
    activity: Arc<Activity>,
    limits: Limits,
    timer: Pin<Box<Sleep>>,
    /// Whether the timer is set. It may be set for a time before the deadline: most deadlines move before they are reached.
    set: bool,
}

impl Watchdog {
    fn new(activity: Arc<Activity>, limits: Limits) -> Self {
        let timer = Box::pin(tokio::time::sleep(limits.headers));
        Self { activity, limits, timer, set: true }
    }

    /// The result of `work`, or why it has to end.
    fn until<T>(
        &mut self,
        cx: &mut Context<'_>,
        work: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<Result<T, CloseReason>> {
        // Before the flags are read: what is set later wakes the task.
        self.activity.register(cx.waker());
        if self.activity.is_evicted() {
            return Poll::Ready(Err(CloseReason::Evicted));
        }
        match work(cx) {
            Poll::Ready(result) => Poll::Ready(Ok(result)),
            Poll::Pending => self.overdue(cx).map(Err),
        }
    }

    fn overdue(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        loop {
            let now = Instant::now();
            let Some((at, cut)) = self.activity.deadline(&self.limits, now) else { return Poll::Pending };
            if at <= now {
                return Poll::Ready(cut);
            }
            if !self.set || at < self.timer.deadline() {
                self.timer.as_mut().reset(at);
                self.set = true;
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.set = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answered_connection_whose_slot_is_needed_reads_nothing_more() {
        let (_client, stream) = tokio::io::duplex(1);
        let activity = Arc::new(Activity::new());
        let watchdog = Watchdog::new(Arc::clone(&activity), Limits::default());
        let lingering = tokio::spawn(linger(stream, watchdog));
        tokio::task::yield_now().await;
        assert!(!lingering.is_finished());
        activity.evict();
        tokio::time::timeout(LINGER.0 / 2, lingering).await.expect("it ends at once").unwrap();
    }
}
