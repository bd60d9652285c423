//! How many Versions are in which state: what alerts are made of.
//!
//! In: what the watches keep. Out: counts by state and reason, both from fixed sets, made when somebody asks. A status is
//! anybody's to write who may: a reason that is none of ours counts as `Other`, so that nobody can make labels up.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use kube::runtime::reflector::Store;

use crate::crd::lean::LeanVersion;
use crate::crd::version::TYPE_MODULE;
use crate::failure::Reason;

/// State and reason.
pub type Kind = (&'static str, &'static str);

/// The Versions that this process watches. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct Census(Arc<Mutex<Vec<Store<LeanVersion>>>>);

impl Census {
    /// Counts these as well.
    pub fn add(&self, versions: Store<LeanVersion>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(versions);
    }

    /// How many there are of each kind.
    pub fn count(&self) -> BTreeMap<Kind, i64> {
        let stores = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut counts = BTreeMap::new();
        for version in stores.iter().flat_map(Store::state).filter(|v| v.type_ == TYPE_MODULE) {
            *counts.entry(kind(&version)).or_default() += 1;
        }
        counts
    }
}

/// `ready`, `stalled` (waits for a person), `deleting`, or `working` on it.
fn kind(version: &LeanVersion) -> Kind {
    let reason = Reason::of(&version.status.reason).map(Reason::as_str);
    let reason = reason.unwrap_or(if version.status.reason.is_empty() { "New" } else { "Other" });
    let state = match (version.terminating(), version.status.ready, version.status.stalled) {
        (true, ..) => "deleting",
        (_, Some(true), _) => "ready",
        (_, _, true) => "stalled",
        _ => "working",
    };
    (state, reason)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn version(status: &str, reason: &str, stalled: &str, change: &Value) -> LeanVersion {
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
    fn each_version_is_of_one_kind_and_nobody_makes_labels_up() {
        let null = Value::Null;
        for (version, expected) in [
            (version("True", "Synced", "False", &null), ("ready", "Synced")),
            (version("False", "ArchiveUnsafe", "True", &null), ("stalled", "ArchiveUnsafe")),
            (version("False", "TagNotFound", "False", &null), ("working", "TagNotFound")),
            (version("True", "Synced", "False", &json!("2026-01-01T00:00:00Z")), ("deleting", "Synced")),
            (version("False", "AnythingAtAll", "False", &null), ("working", "Other")),
            (LeanVersion::default(), ("working", "New")),
        ] {
            assert_eq!(kind(&version), expected);
        }
    }
}
