//! The access log: a line for each download and each archive. It holds no query, token or link.

use std::time::Instant;

use crate::domain::{Address, Release};
use crate::registry::archive::DownloadOutcome;
use crate::registry::client::{ClientInfo, loggable};
use crate::registry::path::ArchivePath;

/// The status to record of a request that has ended: 499, as nginx does, if its client left before there was an answer. `None`
/// after a panic, which is counted as such.
pub(super) fn final_status(status: Option<u16>) -> Option<u16> {
    status.or_else(|| (!std::thread::panicking()).then_some(499))
}

/// The line of a request for the location of an archive. It is written when this is dropped: with status 499 if the client left
/// before there was an answer.
pub(super) struct DownloadLine {
    pub address: Address,
    version: String,
    pub user: String,
    pub client: ClientInfo,
    start: Instant,
    status: Option<u16>,
}

impl DownloadLine {
    pub(super) fn start(address: Address, release: &Release, client: ClientInfo) -> Self {
        let version = release.to_string();
        Self { address, version, user: "-".into(), client, start: Instant::now(), status: None }
    }

    pub(super) fn write(mut self, status: u16) {
        self.status = Some(status);
    }
}

impl Drop for DownloadLine {
    fn drop(&mut self) {
        let Some(status) = final_status(self.status) else { return };
        tracing::info!(
            user = self.user,
            module = %loggable(&self.address.to_string()),
            version = self.version,
            client = self.client.name,
            client_version = self.client.version,
            status,
            milliseconds = milliseconds(self.start),
            "download"
        );
    }
}

/// The line of a request with a link. It is written when this is dropped: with status 499 if the client left before there was an
/// answer.
pub(super) struct ArchiveLine {
    address: Address,
    version: String,
    start: Instant,
    outcome: Option<DownloadOutcome>,
}

impl ArchiveLine {
    pub(super) fn start(path: &ArchivePath<'_>) -> Self {
        let version = path.release.to_string();
        Self { address: path.address.clone(), version, start: Instant::now(), outcome: None }
    }

    pub(super) fn write(mut self, outcome: DownloadOutcome) {
        self.outcome = Some(outcome);
    }
}

impl Drop for ArchiveLine {
    fn drop(&mut self) {
        let Some(status) = final_status(self.outcome.map(|outcome| outcome.status)) else { return };
        let outcome = self.outcome.unwrap_or(DownloadOutcome::unopened(status));
        tracing::info!(
            module = %loggable(&self.address.to_string()),
            version = self.version,
            mode = outcome.mode,
            bytes = outcome.bytes,
            status = outcome.status,
            milliseconds = milliseconds(self.start),
            "archive"
        );
    }
}

fn milliseconds(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}
