//! The access log: a line for each download and each archive. It holds no query, token or link.

use std::time::Instant;

use crate::domain::{Address, Release};
use crate::registry::archive::{Outcome, Way};
use crate::registry::client::{ClientInfo, loggable};
use crate::registry::metrics::{Endpoint, RegistryMetrics};
use crate::registry::path::ArchivePath;

/// The line of a request for the location of an archive.
pub(super) struct DownloadLine {
    pub address: Address,
    version: String,
    pub user: String,
    pub client: ClientInfo,
    start: Instant,
}

impl DownloadLine {
    pub(super) fn start(address: Address, release: &Release, client: ClientInfo) -> Self {
        let version = loggable(&release.to_string());
        Self { address, version, user: "-".into(), client, start: Instant::now() }
    }

    pub(super) fn write(self, status: u16) {
        tracing::info!(
            user = self.user,
            module = %self.address,
            version = self.version,
            client = self.client.name,
            client_version = self.client.version,
            status,
            milliseconds = milliseconds(self.start),
            "download"
        );
    }
}

/// The line of a request with a link. It is written when this is dropped: with status 499, which is counted, if the client left
/// before there was an answer.
pub(super) struct ArchiveLine {
    address: Address,
    version: String,
    start: Instant,
    metrics: RegistryMetrics,
    outcome: Option<Outcome>,
}

impl ArchiveLine {
    pub(super) fn start(asked: &ArchivePath<'_>, metrics: &RegistryMetrics) -> Self {
        let version = loggable(&asked.release.to_string());
        let (address, metrics) = (asked.address.clone(), metrics.clone());
        Self { address, version, start: Instant::now(), metrics, outcome: None }
    }

    pub(super) fn write(mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }
}

impl Drop for ArchiveLine {
    fn drop(&mut self) {
        let outcome = match self.outcome {
            Some(outcome) => outcome,
            // A panic is counted as such.
            None if std::thread::panicking() => return,
            None => {
                self.metrics.answered(Endpoint::Archive, 499, self.start.elapsed());
                Outcome { way: Way::Memory, status: 499, bytes: 0 }
            }
        };
        tracing::info!(
            module = %self.address,
            version = self.version,
            mode = outcome.way.as_str(),
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
