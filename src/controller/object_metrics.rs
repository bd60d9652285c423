//! Numbers of Modules and Versions by state and reason, counted from the caches at each scrape.
//!
//! States and reasons are fixed sets. Other clients may write statuses, so an unknown reason counts as `Other`: labels cannot
//! be invented.

use std::sync::Arc;

use kube::runtime::reflector::Store;

use crate::api::state::{ModuleState, VersionState};
use crate::api::version::TYPE_MODULE;
use crate::controller::failure::Reason;
use crate::domain::Mutex;
use crate::observe::metrics::{Counts, StateAndReason};

type Stores = (Store<ModuleState>, Store<VersionState>);

/// The caches of this process. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct ObjectMetrics(Arc<Mutex<Vec<Stores>>>);

impl ObjectMetrics {
    /// Adds the caches of a scope.
    pub(crate) fn add(&self, modules: Store<ModuleState>, versions: Store<VersionState>) {
        self.0.lock().push((modules, versions));
    }

    pub(crate) fn count(&self) -> (Counts, Counts) {
        let stores = self.0.lock().clone();
        let (mut modules, mut versions) = (Counts::new(), Counts::new());
        for (some_modules, some_versions) in &stores {
            for module in some_modules.state() {
                *modules.entry(module_kind(&module)).or_default() += 1;
            }
            for version in some_versions.state().iter().filter(|version| is_counted(version)) {
                *versions.entry(version_kind(version)).or_default() += 1;
            }
        }
        (modules, versions)
    }
}

/// Whether this operator publishes and deletes it: it is no Version that the original OpenDepot left behind.
fn is_counted(version: &VersionState) -> bool {
    *version.type_ == *TYPE_MODULE && (version.has_finalizer || !version.is_original)
}

fn module_kind(module: &ModuleState) -> StateAndReason {
    kind(module.is_terminating(), module.ready, module.stalled, &module.reason)
}

fn version_kind(version: &VersionState) -> StateAndReason {
    let status = &version.status;
    kind(version.is_terminating(), status.is_ready(), status.is_stalled(), status.reason())
}

/// `ready`, `stalled` (requires manual action), `deleting` or `working`.
fn kind(terminating: bool, ready: Option<bool>, stalled: bool, reason: &str) -> StateAndReason {
    let known = reason.parse().ok().map(Reason::as_str);
    let state = match (terminating, ready, stalled) {
        (true, ..) => "deleting",
        (_, Some(true), _) => "ready",
        (_, _, true) => "stalled",
        _ => "working",
    };
    (state, known.unwrap_or(if reason.is_empty() { "New" } else { "Other" }))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn version(status: &str, reason: &str, stalled: &str, change: &Value) -> VersionState {
        let mut object = json!({
            "metadata": {"name": "a"}, "spec": {"type": "Module", "version": "1.0.0"},
            "status": {"conditions": [
                {"type": "Ready", "status": status, "reason": reason}, {"type": "Stalled", "status": stalled},
            ]},
        });
        if let Some(at) = change.as_str() {
            object["metadata"]["deletionTimestamp"] = json!(at);
        }
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn each_object_has_one_state_and_labels_cannot_be_invented() {
        let null = Value::Null;
        for (version, expected) in [
            (version("True", "Synced", "False", &null), ("ready", "Synced")),
            (version("False", "ArchiveUnsafe", "True", &null), ("stalled", "ArchiveUnsafe")),
            (version("False", "TagNotFound", "False", &null), ("working", "TagNotFound")),
            (version("True", "Synced", "False", &json!("2026-01-01T00:00:00Z")), ("deleting", "Synced")),
            (version("False", "AnythingAtAll", "False", &null), ("working", "Other")),
            (VersionState::default(), ("working", "New")),
        ] {
            assert_eq!(version_kind(&version), expected);
        }
        let module: ModuleState = serde_json::from_value(json!({
            "metadata": {"name": "a"},
            "status": {"conditions": [
                {"type": "Stalled", "status": "True"}, {"type": "Ready", "status": "False", "reason": "NameTaken"},
            ]},
        }))
        .unwrap();
        assert_eq!(module_kind(&module), ("stalled", "NameTaken"));
        assert_eq!(module_kind(&ModuleState::default()), ("working", "New"));
    }

    #[test]
    fn what_the_original_left_behind_is_not_counted() {
        let (ours, original) = ("opendepot.defdev.io/stored-object", "opendepot.defdev.io/finalizer");
        for (kind, finalizers, expected) in [
            ("Module", vec![ours], true),
            ("Module", vec![], true),
            ("Module", vec![original, ours], true),
            ("Module", vec![original], false),
            ("Provider", vec![], false),
        ] {
            let version: VersionState = serde_json::from_value(json!({
                "metadata": {"name": "a", "finalizers": finalizers}, "spec": {"type": kind, "version": "1.0.0"},
            }))
            .unwrap();
            assert_eq!(is_counted(&version), expected, "{kind} {finalizers:?}");
        }
    }
}
