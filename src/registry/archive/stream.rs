//! The body of an answer, as the object's bytes arrive.

use std::fmt::Display;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::Stream as _;
use hyper::body::{Body, Frame, SizeHint};

use super::slots::Slot;
use crate::registry::metrics::RegistryMetrics;
use crate::storage::ObjectBody;

/// A store that sends nothing for this long has stopped. Slow streams are cut later than that.
const SILENCE: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });

/// How an archive was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From memory: HEAD, and what needs no bytes.
    Memory,
    /// By a redirect to the store.
    Redirect,
    /// By a stream through the registry.
    Stream,
}

/// The outcome of a request for an archive, for the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub way: Way,
    pub status: u16,
    /// Bytes of the archive that were streamed.
    pub bytes: u64,
}

impl Outcome {
    /// A request that was refused before the archive was looked at.
    pub fn refused(status: u16) -> Self {
        Self { way: Way::Memory, status, bytes: 0 }
    }
}

impl Way {
    /// The word for logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Redirect => "redirect",
            Self::Stream => "stream",
        }
    }
}

/// Called when an answer has ended.
pub(super) type Done = Box<dyn FnOnce(Outcome) + Send>;

/// An object's bytes on the way to a client. If fewer bytes arrive than were announced, it fails, and the connection is closed:
/// a client must not take a part for the whole.
pub(super) struct Streamed {
    first: Option<Bytes>,
    rest: ObjectBody,
    left: u64,
    sent: u64,
    /// Since when the store sends nothing, although the client takes bytes.
    waiting: Option<Instant>,
    status: u16,
    metrics: RegistryMetrics,
    done: Option<Done>,
    _slot: Slot,
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
        slot: Slot,
    ) -> Self {
        metrics.streams.inc();
        let (first, done) = (Some(first), Some(done));
        Self { first, rest, left: length, sent: 0, waiting: None, status, metrics, done, _slot: slot }
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
            done(Outcome { way: Way::Stream, status: self.status, bytes: self.sent });
        }
    }
}
