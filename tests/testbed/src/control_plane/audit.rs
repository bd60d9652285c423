//! The API server's audit log: who called what, with which answer. The way to prove "no write at rest".

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use serde::Deserialize;

use crate::background::{eventually, lock};

/// Everything is logged once it has been answered, except the API server's calls to itself and what the administrator reads, which
/// is most of all calls, and which no test counts. Watches are logged when they start.
pub(super) const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: None
    users: ["system:apiserver"]
  - level: None
    nonResourceURLs: ["/readyz*", "/livez*", "/openapi/*"]
  - level: Metadata
    nonResourceURLs: ["/version"]
  - level: None
    users: ["admin"]
    verbs: ["get", "list", "watch"]
  - level: Metadata
"#;

/// One call to the API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// `system:serviceaccount:NAMESPACE:NAME`, `admin`, …
    pub user: String,
    /// The number of the caller's token: `JTI=…`; empty for other credentials.
    pub credential: String,
    /// `create`, `update`, `patch`, `delete`, `deletecollection`, `get`, `list` or `watch`.
    pub verb: String,
    /// The API group, empty for the core group.
    pub group: String,
    /// The plural resource, such as `modules`.
    pub resource: String,
    /// Such as `status`; empty for the object itself.
    pub subresource: String,
    /// Empty for resources of the whole cluster.
    pub namespace: String,
    /// Empty for a list, and for a create whose object did not say.
    pub name: String,
    /// The HTTP status of the answer.
    pub code: u16,
    /// What the caller calls itself.
    pub user_agent: String,
    /// When it arrived: RFC 3339 with microseconds, so that these compare as text.
    pub received: String,
    /// When it was answered, in the same form.
    pub at: String,
    /// Path and query.
    pub uri: String,
}

impl AuditEntry {
    /// Whether this call asked for a change.
    pub fn is_write(&self) -> bool {
        matches!(self.verb.as_str(), "create" | "update" | "patch" | "delete" | "deletecollection")
    }

    /// Whether the call is about a Lease or an Event.
    pub fn is_lease_or_event(&self) -> bool {
        matches!(self.resource.as_str(), "leases" | "events")
    }
}

/// A position in the audit log; its beginning by default.
#[derive(Debug, Clone, Copy, Default)]
pub struct AuditMark {
    position: usize,
    /// Calls that arrived earlier and are logged after the position are not counted.
    received: Option<Timestamp>,
}

/// The audit log of one control plane.
#[derive(Debug)]
pub struct Audit {
    path: PathBuf,
    read: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    bytes: u64,
    all: Vec<AuditEntry>,
}

impl Audit {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), read: Mutex::default() }
    }

    /// The end of the log, once it holds a call of now.
    pub async fn mark(&self, client: &Client) -> Result<AuditMark> {
        let received = self.catch_up(client).await?.parse()?;
        Ok(AuditMark { received: Some(received), ..self.position()? })
    }

    /// What was called since `mark`, once the log holds a call of now.
    pub async fn since(&self, mark: AuditMark, client: &Client) -> Result<Vec<AuditEntry>> {
        self.catch_up(client).await?;
        self.matching(mark, |entry| !entry.uri.starts_with("/version?testbed="))
    }

    /// Waits until the log holds a call that is made now, and returns when that arrived.
    async fn catch_up(&self, client: &Client) -> Result<String> {
        let from = self.position()?.position;
        let uri = format!("/version?testbed={}", uuid::Uuid::new_v4());
        client.request_text(http::Request::get(&uri).body(Vec::new())?).await?;
        eventually(Duration::from_mins(1), || async {
            let found = |all: &[AuditEntry]| {
                all[from..].iter().rev().find(|entry| entry.uri == uri).map(|entry| entry.received.clone())
            };
            self.with(found)?.context("the audit log lags behind")
        })
        .await
    }

    /// The end of what the log holds now.
    pub fn position(&self) -> Result<AuditMark> {
        self.with(|all| AuditMark { position: all.len(), received: None })
    }

    /// Of what the log holds after `mark` now, what is asked for. The log of a long run is long: only that is copied.
    pub fn matching(&self, mark: AuditMark, wanted: impl Fn(&AuditEntry) -> bool) -> Result<Vec<AuditEntry>> {
        let counted = |entry: &&AuditEntry| {
            let received = || entry.received.parse::<Timestamp>().ok();
            mark.received.is_none_or(|mark| received().is_none_or(|received| received >= mark))
        };
        self.with(|all| {
            all[mark.position..].iter().filter(|entry| wanted(entry)).filter(counted).cloned().collect()
        })
    }

    fn with<T>(&self, see: impl FnOnce(&[AuditEntry]) -> T) -> Result<T> {
        let mut entries = lock(&self.read);
        let mut file = File::open(&self.path).context("there is no audit log yet")?;
        file.seek(SeekFrom::Start(entries.bytes))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        // The last line may be half written.
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        for line in text[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let event: Event = serde_json::from_slice(line).context("a line of the audit log is no event")?;
            // A watch is logged when it starts and again when it ends: that is one call.
            if event.stage != "ResponseComplete" || event.verb != "watch" {
                entries.all.push(event.into());
            }
        }
        entries.bytes += whole as u64;
        Ok(see(&entries.all))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    stage: String,
    verb: String,
    #[serde(rename = "requestURI")]
    request_uri: String,
    request_received_timestamp: String,
    stage_timestamp: String,
    user: User,
    #[serde(default)]
    user_agent: String,
    #[serde(default)]
    object_ref: Object,
    #[serde(default)]
    response_status: Status,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    username: String,
    #[serde(default)]
    extra: HashMap<String, Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Object {
    api_group: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Status {
    code: u16,
}

impl From<Event> for AuditEntry {
    fn from(event: Event) -> Self {
        let credential = event.user.extra.get("authentication.kubernetes.io/credential-id");
        Self {
            credential: credential.and_then(|all| all.first()).cloned().unwrap_or_default(),
            user: event.user.username,
            verb: event.verb,
            group: event.object_ref.api_group,
            resource: event.object_ref.resource,
            subresource: event.object_ref.subresource,
            namespace: event.object_ref.namespace,
            name: event.object_ref.name,
            code: event.response_status.code,
            user_agent: event.user_agent,
            received: event.request_received_timestamp,
            at: event.stage_timestamp,
            uri: event.request_uri,
        }
    }
}
