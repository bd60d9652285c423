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
    /// Time for which a client may read nothing of an answer.
    pub stall: Duration,
    /// Open connections.
    pub connections: usize,
    /// Open connections from one address, unless that is a trusted proxy.
    pub per_peer: usize,
    /// Time for running requests after the listener has stopped.
    pub finish: Duration,
}

/// File descriptors that are not for clients' connections: requests to S3 and the API server, files, the admin listener.
const OTHER_FILES: u64 = 256;

impl Limits {
    /// The same limits, with no more connections than a process with this limit of open files can serve.
    #[must_use]
    pub fn within(self, open_files: Option<u64>) -> Self {
        let Some(open_files) = open_files else { return self };
        let for_clients = open_files.saturating_sub(OTHER_FILES).max(open_files / 2).max(1);
        Self { connections: self.connections.min(usize::try_from(for_clients).unwrap_or(usize::MAX)), ..self }
    }
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

impl MinimumRate {
    /// The rate of archives, and of answers that take much memory until they are sent.
    pub const LOWEST: Self = Self { bytes: 64 << 10, within: Duration::from_secs(30) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_the_rest() {
        let connections = |open_files| Limits::default().within(open_files).connections;
        let limits = [None, Some(524_288), Some(1280), Some(1024), Some(256), Some(100), Some(0)];
        assert_eq!(limits.map(connections), [1024, 1024, 1024, 768, 128, 50, 1]);
    }
}
