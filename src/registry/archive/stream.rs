//! The body of an answer, as the object's bytes arrive.

use std::fmt::Display;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::Stream as _;
use hyper::body::{Body, Frame, SizeHint};

use super::stream_permits::StreamPermit;
use crate::registry::metrics::RegistryMetrics;
use crate::storage::ObjectBody;

/// A store that sends nothing for this long has stopped. Slow streams are cut later than that.
const SILENCE: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });

/// The outcome of a request for an archive, for the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DownloadOutcome {
    /// How it was answered: `memory` (what needs no bytes), `redirect` (to the store) or `stream` (through the registry).
    pub mode: &'static str,
    pub status: u16,
    /// Bytes of the archive that were streamed.
    pub bytes: u64,
}

impl DownloadOutcome {
    /// A request that ended before the archive was opened.
    pub fn unopened(status: u16) -> Self {
        Self { mode: "memory", status, bytes: 0 }
    }
}

/// Called when an answer has ended.
pub(super) type Done = Box<dyn FnOnce(DownloadOutcome) + Send>;

/// The body of an answer with an object's bytes. If fewer bytes arrive than were announced, it fails, and the connection is
/// closed: a client must not mistake a part for the whole.
pub(super) struct Streamed {
    first: Option<Bytes>,
    rest: ObjectBody,
    left: u64,
    sent: u64,
    /// Since when the store sends nothing, although the client accepts bytes.
    waiting: Option<Instant>,
    status: u16,
    metrics: RegistryMetrics,
    done: Option<Done>,
    _permit: StreamPermit,
}

/// Why a stream was cut.
#[derive(Debug, thiserror::Error)]
#[error("the store ended the archive early")]
pub(super) struct CutShort;

impl Streamed {
    /// A body of `length` bytes, of which `first` has been read already.
    pub(super) fn new(
        (first, rest): (Bytes, ObjectBody),
        length: u64,
        status: u16,
        metrics: RegistryMetrics,
        done: Done,
        permit: StreamPermit,
    ) -> Self {
        metrics.streams.inc();
        let (first, done) = (Some(first), Some(done));
        Self { first, rest, left: length, sent: 0, waiting: None, status, metrics, done, _permit: permit }
    }

    fn cut(&mut self, reason: &dyn Display) -> Result<Frame<Bytes>, CutShort> {
        self.metrics.s3_error("cut");
        tracing::warn!(%reason, sent = self.sent, missing = self.left, "the stream of an archive ended early");
        Err(CutShort)
    }

    /// Whether the store has sent nothing for long. Bytes that have arrived meanwhile wait for a slow client.
    fn has_stopped(&mut self) -> bool {
        self.left > 0
            && self.waiting.is_some_and(|since| since.elapsed() >= SILENCE)
            && Pin::new(&mut self.rest).poll_next(&mut Context::from_waker(Waker::noop())).is_pending()
    }
}

impl Body for Streamed {
    type Data = Bytes;
    type Error = CutShort;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutShort>>> {
        let next = match self.first.take() {
            Some(first) => Some(Ok(first)),
            None if self.left == 0 => return Poll::Ready(None),
            None => {
                let Poll::Ready(next) = Pin::new(&mut self.rest).poll_next(cx) else {
                    self.waiting.get_or_insert_with(Instant::now);
                    return Poll::Pending;
                };
                self.waiting = None;
                next
            }
        };
        Poll::Ready(match next {
            Some(Ok(chunk)) => match self.left.checked_sub(chunk.len() as u64) {
                Some(left) => {
                    self.left = left;
                    self.sent += chunk.len() as u64;
                    self.metrics.stream_bytes.inc_by(chunk.len() as u64);
                    Some(Ok(Frame::data(chunk)))
                }
                None => Some(self.cut(&"the store sent more bytes than it announced")),
            },
            Some(Err(error)) => Some(self.cut(&error)),
            None => Some(self.cut(&CutShort)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

impl Drop for Streamed {
    fn drop(&mut self) {
        self.metrics.streams.dec();
        if self.has_stopped() {
            drop(self.cut(&"the store stopped sending"));
        }
        if let Some(done) = self.done.take() {
            done(DownloadOutcome { mode: "stream", status: self.status, bytes: self.sent });
        }
    }
}
