//! The pruned status of a Version.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize as _;
use serde_json::Value;

use super::intern::Interner;
use super::{TEXTS, boxed, condition, flag, is_true, list, text};
use crate::api::requests::{self, PendingForce};
use crate::domain::ObjectLocation;
use crate::domain::text::cut;

/// The longest part of a condition's message that is kept, in bytes: a Module repeats it, and a rate limit's end is read from
/// it after a restart.
pub(super) const MESSAGE: usize = 320;
/// How much of that is the end of a longer message.
const MESSAGE_END: usize = 160;
/// The longest reason that is kept, in bytes; ours are shorter, and any client with the right writes statuses.
const REASON: usize = 64;

/// The status of a Version.
#[derive(Clone, Debug, Default)]
pub struct StatusState {
    pub observed_generation: Option<i64>,
    pub synced: bool,
    /// `Ready`; `None` before the first reconcile ended.
    pub ready: Option<ConditionState>,
    pub reconciling: Option<ConditionState>,
    pub stalled: Option<ConditionState>,
    /// The beginning and the end of `Ready`'s message, if it is not True.
    pub message: Box<str>,
    pub checksum: Option<Box<str>>,
    pub content_digest: Option<Box<str>>,
    pub archive_size_bytes: Option<i64>,
    pub source: Option<SourceState>,
    pub storage: Option<StoredLocation>,
    /// The entries of `objects` that differ from `storage`.
    other_objects: Box<[StoredLocation]>,
    /// Whether `objects` has an entry that equals `storage`.
    storage_is_listed: bool,
    pub last_sync_time: Option<Timestamp>,
    /// `lastHandledRequest`, shortened.
    pub last_handled_request: Option<Box<str>>,
    /// `lastModuleRequest`, shortened.
    pub last_module_request: Option<Box<str>>,
    pub pending_force: Option<PendingForce>,
}

/// A condition without its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionState {
    /// Whether its status is True.
    pub is_true: bool,
    pub reason: Arc<str>,
    /// When its status last changed.
    pub since: Option<Timestamp>,
}

/// `status.source`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceState {
    /// The repository.
    pub url: Arc<str>,
    /// The ref that was fetched.
    pub ref_: Box<str>,
    pub commit: Option<Box<str>>,
}

/// A location whose store is shared with all objects in the same store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredLocation {
    /// The location without its key.
    store: Arc<ObjectLocation>,
    key: Box<str>,
}

impl StatusState {
    /// Whether `Ready` is True; `None` before the first reconcile ended.
    pub fn is_ready(&self) -> Option<bool> {
        self.ready.as_ref().map(|ready| ready.is_true)
    }

    /// `Ready`'s reason; empty before the first reconcile ended.
    pub fn reason(&self) -> &str {
        self.ready.as_ref().map(|ready| &*ready.reason).unwrap_or_default()
    }

    pub fn is_stalled(&self) -> bool {
        self.stalled.as_ref().is_some_and(|stalled| stalled.is_true)
    }

    /// Whether the object is recorded with this bucket and key, however its endpoint is spelled.
    pub fn has_same_key(&self, location: &ObjectLocation) -> bool {
        self.storage.as_ref().is_some_and(|stored| stored.location().is_same_object(location))
    }

    /// Whether the object is recorded at this location, with the same canonical endpoint: another store may hold a foreign object
    /// under the same key.
    pub fn is_recorded_at(&self, location: &ObjectLocation) -> bool {
        self.storage.as_ref().is_some_and(|stored| stored.location().is_same_location(location))
    }

    /// The entries of `objects`: every location where an object of this Version may exist.
    pub fn objects(&self) -> impl Iterator<Item = &StoredLocation> {
        self.storage.as_ref().filter(|_| self.storage_is_listed).into_iter().chain(&self.other_objects)
    }
}

impl StoredLocation {
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The full location.
    pub fn location(&self) -> ObjectLocation {
        ObjectLocation { key: self.key.clone().into(), ..(*self.store).clone() }
    }
}

impl From<&ObjectLocation> for StoredLocation {
    fn from(location: &ObjectLocation) -> Self {
        static STORES: Interner<ObjectLocation> = Interner::new();
        let store = ObjectLocation { key: String::new(), ..location.clone() };
        Self { key: location.key.as_str().into(), store: STORES.value(store) }
    }
}

impl From<&Value> for StatusState {
    fn from(status: &Value) -> Self {
        let ready = condition_state(status, "Ready");
        let location =
            |value: &Value| ObjectLocation::deserialize(value).ok().map(|location| (&location).into());
        let storage: Option<StoredLocation> = status.get("storage").and_then(location);
        let objects: Vec<StoredLocation> = list(status, "objects").iter().filter_map(location).collect();
        let storage_is_listed = storage.as_ref().is_some_and(|storage| objects.contains(storage));
        let message = text(condition(status, "Ready"), "message");
        let recorded = |field| text(status, field).map(|recorded| requests::shorten(recorded).into());
        Self {
            observed_generation: status.get("observedGeneration").and_then(Value::as_i64),
            synced: flag(status, "synced"),
            message: message
                .filter(|_| ready.as_ref().is_some_and(|ready| !ready.is_true))
                .map(|message| shortened(message).into())
                .unwrap_or_default(),
            ready,
            reconciling: condition_state(status, "Reconciling"),
            stalled: condition_state(status, "Stalled"),
            checksum: boxed(status, "checksum"),
            content_digest: boxed(status, "contentDigest"),
            archive_size_bytes: status.get("archiveSizeBytes").and_then(Value::as_i64),
            source: status.get("source").and_then(source_state),
            other_objects: objects.into_iter().filter(|object| Some(object) != storage.as_ref()).collect(),
            storage,
            storage_is_listed,
            last_sync_time: text(status, "lastSyncTime").and_then(|time| time.parse().ok()),
            last_handled_request: recorded("lastHandledRequest"),
            last_module_request: recorded("lastModuleRequest"),
            pending_force: PendingForce::parse(text(status, "pendingForce")),
        }
    }
}

/// A message of at most [`MESSAGE`] bytes, without its middle if it is longer: what to do, and the time of the next attempt, are at
/// its end.
fn shortened(message: &str) -> String {
    if message.len() <= MESSAGE {
        return message.to_owned();
    }
    let end = message.ceil_char_boundary(message.len() - MESSAGE_END);
    cut(message, MESSAGE - MESSAGE_END) + &message[end..]
}

fn condition_state(status: &Value, type_: &str) -> Option<ConditionState> {
    let condition = condition(status, type_);
    Some(ConditionState {
        is_true: is_true(condition)?,
        reason: TEXTS.text(&cut(text(condition, "reason").unwrap_or_default(), REASON)),
        since: text(condition, "lastTransitionTime").and_then(|time| time.parse().ok()),
    })
}

fn source_state(source: &Value) -> Option<SourceState> {
    Some(SourceState {
        url: TEXTS.text(text(source, "url")?),
        ref_: boxed(source, "ref").unwrap_or_default(),
        commit: boxed(source, "commit"),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kept(message: &str) -> String {
        let ready = json!({"type": "Ready", "status": "False", "reason": "TagNotFound", "message": message});
        StatusState::from(&json!({"conditions": [ready]})).message.into()
    }

    #[test]
    fn a_long_message_keeps_what_to_do_and_the_time_of_the_next_attempt() {
        const END: &str =
            "Move the tag back, or publish a new version. Next attempt at 1970-01-12T13:48:00Z.";
        for short in [format!("no tag. {END}"), "x".repeat(MESSAGE)] {
            assert_eq!(kept(&short), short);
        }
        for word in ["x", "é"] {
            let long = kept(&format!("{} {END}", word.repeat(400)));
            assert!(long.len() <= MESSAGE && long.len() > MESSAGE - 4, "{long}");
            assert!(long.starts_with(word) && long.ends_with(&format!("{word} {END}")), "{long}");
            assert_eq!(long.matches('…').count(), 1, "{long}");
        }
    }
}
