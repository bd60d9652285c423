//! The content of Versions that go, until their Module has it on record.
//!
//! In: Versions on their way out, as the watch tells of them. Out: their digests, by version. A Version that somebody
//! deletes right after its first publish is gone before its Module looks again; what it held is not forgotten for that.
//! In memory only.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use crate::crd::Release;
use crate::crd::lean::LeanVersion;

/// What is known of the Versions that went, by the UID of their Module.
#[derive(Debug, Default)]
pub struct Departed(Mutex<HashMap<String, BTreeMap<String, String>>>);

impl Departed {
    /// Remembers what a Version held, if it is on its way out.
    pub fn note(&self, version: &LeanVersion) {
        let (Some(owner), Some(digest)) = (version.controller(), &version.status.content_digest) else {
            return;
        };
        let Ok(release) = Release::parse(&version.version) else { return };
        if version.terminating() {
            self.with(|all| {
                all.entry(owner.uid.clone()).or_default().insert(release.to_string(), digest.clone());
            });
        }
    }

    /// What is remembered for a Module.
    pub fn of(&self, uid: &str) -> BTreeMap<String, String> {
        self.with(|all| all.get(uid).cloned().unwrap_or_default())
    }

    /// `known` is on record.
    pub fn recorded(&self, uid: &str, known: &BTreeMap<String, String>) {
        self.with(|all| {
            if let Some(noted) = all.get_mut(uid) {
                noted.retain(|version, digest| known.get(version) != Some(digest));
                if noted.is_empty() {
                    all.remove(uid);
                }
            }
        });
    }

    /// Forgets all but the Modules with these UIDs.
    pub fn retain(&self, keep: impl Fn(&str) -> bool) {
        self.with(|all| all.retain(|uid, _| keep(uid)));
    }

    fn with<T>(&self, change: impl FnOnce(&mut HashMap<String, BTreeMap<String, String>>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn version(deleted: Option<&str>, digest: Option<&str>) -> LeanVersion {
        let object = json!({
            "metadata": {
                "name": "network-1.0.0", "deletionTimestamp": deleted,
                "ownerReferences": [{"apiVersion": "v1", "kind": "Module", "name": "network", "uid": "uid", "controller": true}],
            },
            "spec": {"type": "Module", "version": "v1.0.0"},
            "status": {"contentDigest": digest},
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn what_a_version_held_is_remembered_from_its_deletion_until_it_is_on_record() {
        let departed = Departed::default();
        let known = || departed.of("uid");
        departed.note(&version(None, Some("h1:a")));
        departed.note(&version(Some("2026-01-01T00:00:00Z"), None));
        assert!(known().is_empty(), "it stays, or held nothing");
        departed.note(&version(Some("2026-01-01T00:00:00Z"), Some("h1:a")));
        let first = known();
        assert_eq!(first, BTreeMap::from([("1.0.0".to_owned(), "h1:a".to_owned())]));
        departed.recorded("other", &first);
        assert_eq!(known(), first, "each Module has its own");
        departed.recorded("uid", &first);
        assert!(known().is_empty());
        departed.note(&version(Some("2026-01-01T00:00:00Z"), Some("h1:a")));
        departed.retain(|uid| uid != "uid");
        assert!(known().is_empty(), "a Module that is gone needs none");
    }
}
