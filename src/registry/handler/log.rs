//! The access log: a line for each download and each archive. It holds no query, token or link.

use std::time::Instant;

use crate::domain::{Address, Release};
use crate::registry::archive::Outcome;
use crate::registry::auth::Identity;
use crate::registry::client::{ClientInfo, loggable};

/// The line of a request for the location of an archive.
pub(super) struct DownloadLine {
    pub address: Address,
    version: String,
    user: String,
    pub client: ClientInfo,
    start: Instant,
}

impl DownloadLine {
    pub(super) fn start(address: Address, release: &Release, client: ClientInfo) -> Self {
        let version = loggable(&release.to_string());
        Self { address, version, user: "-".into(), client, start: Instant::now() }
    }

    pub(super) fn identified(&mut self, identity: &Identity) {
        self.user = loggable(&identity.user);
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

/// The line of a request with a link.
pub(super) struct ArchiveLine {
    address: Address,
    version: String,
    start: Instant,
}

impl ArchiveLine {
    pub(super) fn start(address: Address, release: &Release) -> Self {
        Self { address, version: loggable(&release.to_string()), start: Instant::now() }
    }

    pub(super) fn write(self, outcome: Outcome) {
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
