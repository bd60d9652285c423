//! What a connection does at the moment, and when it has taken too long.
//!
//! All changes happen while the connection's task is polled, which computes its deadline afterwards. So no timer is set for a
//! request that is answered at once.

use futures::task::AtomicWaker;
use tokio::time::Instant;

use super::limits::{Limits, MinimumRate};
use crate::domain::Mutex;

/// The activity of one connection, shared by its socket, its requests and the table of connections.
#[derive(Debug)]
pub(super) struct Activity {
    state: Mutex<State>,
    task: AtomicWaker,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    since: Instant,
    /// Since when the socket accepts no bytes.
    blocked: Option<Instant>,
    rate: Option<Window>,
    /// Bytes that were sent.
    sent: u64,
    /// Whether the client has closed its side.
    ended: bool,
    /// The connection has to end now, since another one needs its permit.
    evicted: bool,
    /// The connection ends after the request that is running.
    closing: bool,
}

/// The period in which an answer has to send enough bytes.
#[derive(Debug)]
struct Window {
    rate: MinimumRate,
    since: Instant,
    sent_before: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// From the first byte until the first request is read: handshake and headers.
    Fresh,
    /// No request is being read. The end of an answer may be in a buffer still: until it is sent, the next request waits.
    Idle,
    /// A request has begun.
    Headers,
    /// The body of a request is read, which has its own limit.
    Body,
    /// A request is read completely, and its answer has not ended.
    Busy,
}

/// Why a connection is closed before its client closes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseReason {
    /// The handshake, or the line and headers of a request, took too long.
    Headers,
    Idle,
    /// The client read nothing of an answer for too long.
    Stalled,
    /// An answer was sent more slowly than its [`MinimumRate`].
    TooSlow,
    /// Another connection needs its permit.
    Evicted,
}

impl CloseReason {
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Headers => "its request took too long to arrive",
            Self::Idle => "it was idle",
            Self::Stalled => "its client read nothing of the answer for too long",
            Self::TooSlow => "the answer was too slow",
            Self::Evicted => "another connection needed its permit",
        }
    }
}

impl Activity {
    pub(super) fn new() -> Self {
        let state = State {
            phase: Phase::Fresh,
            since: Instant::now(),
            blocked: None,
            rate: None,
            sent: 0,
            ended: false,
            evicted: false,
            closing: false,
        };
        Self { state: Mutex::new(state), task: AtomicWaker::new() }
    }

    pub(super) fn received(&self, bytes: usize) {
        let mut state = self.state.lock();
        state.ended |= bytes == 0;
        if bytes > 0 && state.phase == Phase::Idle && state.blocked.is_none() {
            (state.phase, state.since) = (Phase::Headers, Instant::now());
        }
    }

    pub(super) fn sent(&self, bytes: usize) {
        let mut state = self.state.lock();
        state.sent += bytes as u64;
        state.blocked = None;
        if state.phase == Phase::Idle {
            // The end of an answer that was in a buffer.
            state.since = Instant::now();
        }
    }

    /// The socket accepts no bytes at the moment.
    pub(super) fn blocked(&self) {
        self.state.lock().blocked.get_or_insert_with(Instant::now);
    }

    /// The line and headers of a request were read, and its body is awaited.
    pub(super) fn awaits_body(&self) {
        let mut state = self.state.lock();
        (state.phase, state.since) = (Phase::Body, Instant::now());
    }

    /// A request was read.
    pub(super) fn begun(&self) {
        let mut state = self.state.lock();
        (state.phase, state.rate) = (Phase::Busy, None);
    }

    /// An answer begins that has to be sent at this rate.
    pub(super) fn paced(&self, rate: MinimumRate) {
        let mut state = self.state.lock();
        state.rate = Some(Window { rate, since: Instant::now(), sent_before: state.sent });
    }

    /// The answer was passed to the connection. Its end may still be in a buffer.
    pub(super) fn answered(&self) {
        let mut state = self.state.lock();
        (state.phase, state.since) = (Phase::Idle, Instant::now());
    }

    /// All that was passed to the connection is sent: an answer that has ended is not in a buffer any more.
    pub(super) fn flushed(&self) {
        let mut state = self.state.lock();
        if state.phase != Phase::Busy {
            state.rate = None;
        }
    }

    /// Whether the client has closed its side.
    pub(super) fn ended(&self) -> bool {
        self.state.lock().ended
    }

    /// Since when the connection waits for its client, if no request is being answered.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        let state = self.state.lock();
        let is_waiting = match state.phase {
            Phase::Fresh | Phase::Headers | Phase::Body => state.blocked.is_none(),
            // Also while it reads the rest of an answer: else a client that reads a byte from time to time would keep its permit.
            Phase::Idle => true,
            Phase::Busy => false,
        };
        (is_waiting && !state.evicted).then_some(state.since)
    }

    /// When the connection has taken too long, unless something happens before. Also checks the rate of an answer.
    pub(super) fn deadline(&self, limits: &Limits, now: Instant) -> Option<(Instant, CloseReason)> {
        let mut state = self.state.lock();
        let phase = match state.phase {
            // Long enough for the first request of a client that has just connected, except over a very slow connection.
            Phase::Fresh if state.closing => Some((state.since + limits.headers / 5, CloseReason::Headers)),
            Phase::Fresh | Phase::Headers => Some((state.since + limits.headers, CloseReason::Headers)),
            Phase::Idle if state.blocked.is_none() => Some((state.since + limits.idle, CloseReason::Idle)),
            Phase::Idle | Phase::Body | Phase::Busy => None,
        };
        let stalled = state.blocked.map(|since| (since + limits.stall, CloseReason::Stalled));
        let slow = state.slow(now);
        [phase, stalled, slow].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// Ends the connection now.
    pub(super) fn evict(&self) {
        self.state.lock().evicted = true;
        self.task.wake();
    }

    /// Ends the connection when no request is running.
    pub(super) fn close(&self) {
        self.state.lock().closing = true;
        self.task.wake();
    }

    pub(super) fn is_evicted(&self) -> bool {
        self.state.lock().evicted
    }

    /// Whether the connection has to end when no request is running. One that has just been opened may have its first request
    /// under way.
    pub(super) fn ends_when_idle(&self) -> bool {
        let state = self.state.lock();
        state.closing && state.phase != Phase::Fresh
    }

    /// The task to wake for [`evict`](Self::evict) and [`close`](Self::close).
    pub(super) fn register(&self, task: &std::task::Waker) {
        self.task.register(task);
    }
}

impl State {
    fn slow(&mut self, now: Instant) -> Option<(Instant, CloseReason)> {
        let sent = self.sent;
        let window = self.rate.as_mut()?;
        let end = window.since + window.rate.within;
        if now >= end && sent - window.sent_before >= window.rate.bytes {
            (window.since, window.sent_before) = (now, sent);
        }
        Some((window.since + window.rate.within, CloseReason::TooSlow))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn cut(activity: &Activity, at: Instant) -> Option<CloseReason> {
        activity.deadline(&Limits::default(), at).filter(|(deadline, _)| *deadline <= at).map(|(_, cut)| cut)
    }

    #[test]
    fn each_phase_has_its_limit() {
        let after = |seconds| Instant::now() + Duration::from_secs(seconds);
        let activity = Activity::new();
        activity.received(1);
        assert_eq!(cut(&activity, after(9)), None);
        assert_eq!(cut(&activity, after(10)), Some(CloseReason::Headers));
        activity.begun();
        assert_eq!(cut(&activity, after(9_000)), None, "a handler has its own limits");
        activity.blocked();
        assert_eq!(cut(&activity, after(29)), None);
        assert_eq!(cut(&activity, after(30)), Some(CloseReason::Stalled));
        activity.sent(1);
        assert_eq!(cut(&activity, after(30)), None);
        activity.answered();
        assert_eq!(cut(&activity, after(59)), None);
        assert_eq!(cut(&activity, after(60)), Some(CloseReason::Idle));
        activity.received(1);
        assert_eq!(cut(&activity, after(9)), None);
        assert_eq!(cut(&activity, after(10)), Some(CloseReason::Headers));
    }

    #[test]
    fn a_connection_that_sends_the_end_of_an_answer_is_not_idle() {
        let limits = Limits { stall: Limits::default().idle * 2, ..Limits::default() };
        let next = |activity: &Activity| activity.deadline(&limits, Instant::now()).map(|(_, cut)| cut);
        let activity = Activity::new();
        activity.begun();
        activity.blocked();
        activity.answered();
        let answered = Instant::now();
        activity.received(1);
        assert_eq!(next(&activity), Some(CloseReason::Stalled), "the next request waits");
        assert!(activity.waiting_since().is_some(), "it may have to go");
        activity.sent(1);
        assert_eq!(next(&activity), Some(CloseReason::Idle));
        assert!(activity.waiting_since().is_some_and(|since| since >= answered), "idle from its last byte");
    }

    #[test]
    fn a_slow_answer_is_found_out_in_each_window() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let activity = Activity::new();
        activity.begun();
        activity.paced(MinimumRate { bytes: 100, within: Duration::from_secs(30) });
        activity.sent(100);
        assert_eq!(cut(&activity, after(31)), None);
        activity.sent(250);
        assert_eq!(cut(&activity, after(62)), None);
        activity.sent(99);
        assert_eq!(cut(&activity, after(91)), None);
        assert_eq!(cut(&activity, after(92)), Some(CloseReason::TooSlow));
        activity.paced(MinimumRate { bytes: 100, within: Duration::from_secs(20) });
        activity.flushed();
        activity.blocked();
        activity.answered();
        assert_eq!(cut(&activity, after(21)), Some(CloseReason::TooSlow), "its end is in a buffer");
        activity.flushed();
        assert_eq!(cut(&activity, after(21)), None, "the answer is sent");
    }
}
