//! What all connections to one GitHub share with the tests.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use http::Method;

use super::access::Access;
use super::faults::{Faults, Hop};
use super::limits::Limits;
use super::repos::Repos;
use super::site::Links;
use crate::background::lock;
use crate::log::RequestLog;

/// Which kind of credential a request carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    /// None.
    Nothing,
    /// An installation's token (`ghs_…`).
    Installation,
    /// A personal token (`ghp_…`).
    Personal,
    /// A JWT, as Apps send it.
    Jwt,
    /// Something else.
    Unknown,
}

/// One request that GitHub was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitHubRequest {
    /// `github.com`, `api.github.com`, `codeload.github.com`, or an Enterprise Server.
    pub host: String,
    /// Which part of GitHub that is.
    pub hop: Hop,
    /// The method.
    pub method: Method,
    /// The path as it was sent, without the query.
    pub path: String,
    /// `HOST/OWNER/NAME` in lower case, when the path names a repository.
    pub repository: Option<String>,
    /// The installation, when a token of it is asked for.
    pub installation: Option<u64>,
    /// Whether there was an `Authorization` header.
    pub had_authorization: bool,
    /// What kind it was.
    pub credential: Credential,
    /// The answer's status; 0 when there is none yet, or the connection broke first.
    pub status: u16,
    /// When it arrived.
    pub at: SystemTime,
}

/// See above.
#[derive(Debug)]
pub(super) struct State {
    pub(super) repos: Arc<Repos>,
    pub(super) access: Access,
    pub(super) limits: Limits,
    pub(super) links: Links,
    pub(super) faults: Faults,
    pub(super) requests: RequestLog<GitHubRequest>,
    /// What was sent to anybody else: `HOST:PORT`.
    pub(super) refused: Mutex<Vec<String>>,
    enterprise: Mutex<HashSet<String>>,
    latency: AtomicU64,
}

impl State {
    pub(super) fn new(repos: Repos) -> Self {
        Self {
            repos: Arc::new(repos),
            access: Access::default(),
            limits: Limits::default(),
            links: Links::default(),
            faults: Faults::default(),
            requests: RequestLog::default(),
            refused: Mutex::default(),
            enterprise: Mutex::default(),
            latency: AtomicU64::new(0),
        }
    }

    pub(super) fn serve_host(&self, host: &str) {
        lock(&self.enterprise).insert(host.to_owned());
    }

    pub(super) fn serves(&self, host: &str) -> bool {
        matches!(host, "github.com" | "api.github.com" | "codeload.github.com")
            || lock(&self.enterprise).contains(host)
    }

    pub(super) fn set_latency(&self, latency: Duration) {
        let millis = u64::try_from(latency.as_millis()).unwrap_or(u64::MAX);
        self.latency.store(millis, Ordering::Relaxed);
    }

    pub(super) fn latency(&self) -> Duration {
        Duration::from_millis(self.latency.load(Ordering::Relaxed))
    }
}
