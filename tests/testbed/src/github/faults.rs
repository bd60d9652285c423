//! Faults that GitHub can be given.

use std::sync::Mutex;
use std::time::Duration;

use crate::background::lock;
use crate::hold::{Held, Hold};

/// The three kinds of server that a download passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hop {
    /// The REST API: `api.github.com`, or `/api/v3` of a GitHub Enterprise Server.
    Api,
    /// What people see: `github.com`.
    Site,
    /// Where archives come from: `codeload.github.com`, or `/_codeload` of a GitHub Enterprise Server.
    Codeload,
}

/// The fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// No fault, but late. The request continues to the next fault that applies.
    Delay(Duration),
    /// No fault, but late: until the fault is cleared. The request continues to the next fault that applies.
    Hold,
    /// An error answer with this HTTP status.
    Status(u16),
    /// The connection breaks before an answer: on HTTP/2, this request's stream.
    Cut,
    /// No answer ever comes.
    Hang,
    /// A redirect to the same path on another host.
    RedirectTo(String),
    /// The same with this HTTP status.
    RedirectWith(u16, String),
    /// Too much from one address: a web page with this HTTP status (403 or 429), and no time.
    AbusePage(u16),
    /// The primary rate limit is spent, and is reset after this time.
    PrimaryLimit(Duration),
    /// A secondary rate limit: 403 or 429, with `retry-after` when a time is given.
    SecondaryLimit(u16, Option<Duration>),
    /// Instead of an archive: a web page, with status 200.
    Html,
    /// Instead of an archive: nothing, with status 200.
    EmptyBody,
    /// An archive that breaks off half way: on HTTP/1.1 with the connection, on HTTP/2 with a reset of the stream.
    TruncatedBody,
    /// An archive that stops half way and leaves the connection open.
    StalledBody,
    /// An archive of which a byte comes each second.
    TrickledBody,
    /// An archive that never ends.
    EndlessBody,
}

impl Failure {
    /// Whether this spoils an archive on its way, rather than replacing an answer.
    pub(super) fn is_about_the_archive(&self) -> bool {
        use Failure::{EmptyBody, EndlessBody, Html, StalledBody, TrickledBody, TruncatedBody};
        matches!(self, Html | EmptyBody | TruncatedBody | StalledBody | TrickledBody | EndlessBody)
    }

    /// The only kind of server that does this, if there is one.
    fn only_at(&self) -> Option<Hop> {
        match self {
            Self::PrimaryLimit(_) => Some(Hop::Api),
            _ => self.is_about_the_archive().then_some(Hop::Codeload),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Scope {
    Everything,
    Repository(String),
    Installation(u64),
}

/// A fault: which requests it meets, how often, and with what.
#[derive(Debug, Clone)]
pub struct Fault {
    scope: Scope,
    hop: Option<Hop>,
    left: Option<u32>,
    failure: Failure,
    hold: Hold,
}

impl Fault {
    /// For each request about a repository (`OWNER/NAME`, or `HOST/OWNER/NAME`), until it is cleared.
    pub fn on(repository: &str, failure: Failure) -> Self {
        let mut name = repository.to_lowercase();
        if name.matches('/').count() == 1 {
            name = format!("github.com/{name}");
        }
        Self { scope: Scope::Repository(name), hop: None, left: None, failure, hold: Hold::default() }
    }

    /// For each request for a token of an installation.
    pub fn on_installation(installation: u64, failure: Failure) -> Self {
        Self {
            scope: Scope::Installation(installation),
            hop: None,
            left: None,
            failure,
            hold: Hold::default(),
        }
    }

    /// For every request. Not for a testbed that is shared.
    pub fn everywhere(failure: Failure) -> Self {
        Self { scope: Scope::Everything, hop: None, left: None, failure, hold: Hold::default() }
    }

    /// Only at one kind of server.
    #[must_use]
    pub fn at(mut self, hop: Hop) -> Self {
        self.hop = Some(hop);
        self
    }

    /// Only this many times.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.left = Some(times);
        self
    }

    fn meets(&self, hop: Hop, subject: &Subject) -> bool {
        let in_scope = match &self.scope {
            Scope::Everything => true,
            Scope::Repository(name) => subject.repository.as_deref() == Some(name),
            Scope::Installation(id) => subject.installation == Some(*id),
        };
        let at_hop = self.hop.or(self.failure.only_at()).is_none_or(|wanted| wanted == hop);
        in_scope && at_hop && self.left != Some(0)
    }
}

/// What a request is about.
#[derive(Debug, Default, Clone)]
pub(super) struct Subject {
    pub(super) repository: Option<String>,
    pub(super) installation: Option<u64>,
}

/// What a request has to go through.
#[derive(Debug, Default)]
pub(super) struct Fate {
    pub(super) delay: Duration,
    pub(super) held: Vec<Held>,
    pub(super) failure: Option<Failure>,
}

/// The faults of one GitHub, in the order in which they were given.
#[derive(Debug, Default)]
pub(super) struct Faults(Mutex<Vec<Fault>>);

impl Faults {
    pub(super) fn add(&self, fault: Fault) {
        lock(&self.0).push(fault);
    }

    pub(super) fn clear(&self, key: &str) {
        let scope = Scope::Repository(key.to_owned());
        lock(&self.0).retain(|fault| fault.scope != scope);
    }

    pub(super) fn release(&self, key: &str) {
        let scope = Scope::Repository(key.to_owned());
        lock(&self.0).retain(|fault| fault.scope != scope || fault.failure != Failure::Hold);
    }

    pub(super) fn clear_installation(&self, installation: u64) {
        lock(&self.0).retain(|fault| fault.scope != Scope::Installation(installation));
    }

    pub(super) fn clear_everywhere(&self) {
        lock(&self.0).retain(|fault| fault.scope != Scope::Everything);
    }

    /// Takes one use of each fault that meets this request: delays add up, the first other failure is the last.
    pub(super) fn draw(&self, hop: Hop, subject: &Subject) -> Fate {
        let mut fate = Fate::default();
        for fault in lock(&self.0).iter_mut().filter(|fault| fault.meets(hop, subject)) {
            fault.left = fault.left.map(|left| left - 1);
            match &fault.failure {
                Failure::Delay(delay) => fate.delay += *delay,
                Failure::Hold => fate.held.push(fault.hold.held()),
                failure => {
                    fate.failure = Some(failure.clone());
                    break;
                }
            }
        }
        fate
    }
}
