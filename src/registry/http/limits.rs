//! Limits of the listener.

use std::time::Duration;

/// Limits of connections. Tests shorten the times.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Size of a request's line and headers. Larger ones are answered with 431.
    pub header_bytes: usize,
    /// Time for a TLS handshake, and for the line and headers of a request.
    pub headers: Duration,
    /// Time without a request.
    pub idle: Duration,
    /// Time for which a client may take none of an answer.
    pub stall: Duration,
    /// Open connections.
    pub connections: usize,
    /// Open connections from one address, unless that is a trusted proxy.
    pub per_peer: usize,
    /// Time for running requests after the listener has stopped.
    pub finish: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes: 32 << 10,
            headers: Duration::from_secs(10),
            idle: Duration::from_mins(1),
            stall: Duration::from_secs(30),
            connections: 1024,
            per_peer: 128,
            finish: Duration::from_mins(1),
        }
    }
}

/// An extension of an answer: the connection is closed if fewer bytes than this are sent within the time. The time counts from
/// the answer on, whether the body or the client is slow.
#[derive(Clone, Copy, Debug)]
pub struct MinimumRate {
    pub bytes: u64,
    pub within: Duration,
}
