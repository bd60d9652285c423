//! What all connections to one GitHub share with the tests.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use http::{Method, Version};

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
    /// `github.com`, `api.github.com`, `codeload.github.com`, a host of an Enterprise Server, or a portal.
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
    /// The body, which only requests for tokens have.
    pub body: String,
    /// HTTP/2, unless the client does not offer that.
    pub version: Version,
    /// The answer's status. None when there is none yet, or the connection broke first.
    pub status: Option<u16>,
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
    /// Other hosts that requests were sent to: `HOST:PORT`.
    pub(super) refused: Mutex<Vec<String>>,
    enterprise: Mutex<HashMap<String, Edition>>,
    private: Mutex<HashSet<String>>,
    portals: Mutex<HashMap<String, Portal>>,
    clocks: Mutex<HashMap<String, i64>>,
    latency: AtomicU64,
}

/// Which GitHub an instance is, and so where its parts are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Edition {
    /// github.com: the API at `api.`, archives at `codeload.`.
    Public,
    /// An Enterprise Server: everything at one host.
    Server,
    /// An Enterprise Server with subdomain isolation: archives at `codeload.`.
    Isolated,
    /// Enterprise Cloud with data residency (`SUBDOMAIN.ghe.com`): as github.com.
    DataResidency,
}

/// A host that sends its visitors round before it shows them a login page.
#[derive(Debug, Clone, Copy)]
pub(super) struct Portal {
    pub(super) status: u16,
    pub(super) hops: u32,
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
            private: Mutex::default(),
            portals: Mutex::default(),
            clocks: Mutex::default(),
            latency: AtomicU64::new(0),
        }
    }

    pub(super) fn serve_host(&self, host: &str, isolated: bool) {
        let edition = match isolated {
            _ if host.ends_with(".ghe.com") => Edition::DataResidency,
            true => Edition::Isolated,
            false => Edition::Server,
        };
        lock(&self.enterprise).insert(host.to_owned(), edition);
    }

    pub(super) fn serve_portal(&self, host: &str, portal: Portal) {
        lock(&self.portals).insert(host.to_owned(), portal);
    }

    pub(super) fn portal(&self, host: &str) -> Option<Portal> {
        lock(&self.portals).get(host).copied()
    }

    pub(super) fn set_private_mode(&self, host: &str) {
        lock(&self.private).insert(host.to_owned());
    }

    /// Whether an instance shows nothing to those who have not signed in.
    pub(super) fn is_in_private_mode(&self, instance: &str) -> bool {
        lock(&self.private).contains(instance)
    }

    pub(super) fn set_clock(&self, instance: &str, ahead: i64) {
        lock(&self.clocks).insert(instance.to_owned(), ahead);
    }

    /// How many seconds the clock of an instance is ahead of everybody else's.
    pub(super) fn ahead(&self, instance: &str) -> i64 {
        lock(&self.clocks).get(instance).copied().unwrap_or_default()
    }

    pub(super) fn serves(&self, host: &str) -> bool {
        self.portal(host).is_some() || self.locate(host, "").is_some()
    }

    /// The instance and its edition, which part of it a host and path are, and the path inside that part.
    pub(super) fn locate<'a>(
        &self,
        host: &'a str,
        path: &'a str,
    ) -> Option<(&'a str, Edition, Hop, &'a str)> {
        let edition = |name: &str| match name {
            "github.com" => Some(Edition::Public),
            name => lock(&self.enterprise).get(name).copied(),
        };
        let below = |prefix: &str| {
            let name = host.strip_prefix(prefix)?;
            edition(name).map(|edition| (name, edition))
        };
        match (below("api."), below("codeload.")) {
            (Some((name, edition @ (Edition::Public | Edition::DataResidency))), _) => {
                return Some((name, edition, Hop::Api, path));
            }
            (_, Some((name, edition))) if edition != Edition::Server => {
                return Some((name, edition, Hop::Codeload, path));
            }
            _ => {}
        }
        let edition = edition(host)?;
        let inside = |prefix: &str| path.strip_prefix(prefix);
        Some(match (edition, inside("/api/v3"), inside("/_codeload")) {
            (Edition::Server | Edition::Isolated, Some(rest), _) => (host, edition, Hop::Api, rest),
            (Edition::Server, None, Some(rest)) => (host, edition, Hop::Codeload, rest),
            _ => (host, edition, Hop::Site, path),
        })
    }

    pub(super) fn set_latency(&self, latency: Duration) {
        let millis = u64::try_from(latency.as_millis()).unwrap_or(u64::MAX);
        self.latency.store(millis, Ordering::Relaxed);
    }

    pub(super) fn latency(&self) -> Duration {
        Duration::from_millis(self.latency.load(Ordering::Relaxed))
    }
}
