//! Which versions immutable Modules have on record, as the Module controller last wrote it.
//!
//! In: `status.published` of each Module. Out: whether a version's content is still missing there. A Version that somebody
//! deletes right after its first publish waits for that: once it is gone, nobody else knows what it held. In memory only;
//! of a Module that this process has not seen yet, nothing is claimed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

/// The records, by the UID of their Module. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Pins(Arc<Mutex<HashMap<String, BTreeSet<String>>>>);

impl Pins {
    /// What a Module has on record now; `None` when it pins nothing.
    pub fn set(&self, uid: &str, published: Option<&BTreeMap<String, String>>) {
        self.with(|all| match published {
            None => drop(all.remove(uid)),
            Some(published) => {
                let known = all.entry(uid.to_owned()).or_default();
                if !known.iter().eq(published.keys()) {
                    *known = published.keys().cloned().collect();
                }
            }
        });
    }

    /// Whether this Module pins contents, and has none of this version yet.
    pub fn lacks(&self, uid: &str, version: &str) -> bool {
        self.with(|all| all.get(uid).is_some_and(|known| !known.contains(version)))
    }

    fn with<T>(&self, change: impl FnOnce(&mut HashMap<String, BTreeSet<String>>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_an_immutable_module_has_not_recorded_is_waited_for() {
        let pins = Pins::default();
        assert!(!pins.lacks("uid", "1.0.0"), "nothing is known of this Module");
        let published =
            |versions: &[&str]| versions.iter().map(|v| ((*v).to_owned(), "h1:a".to_owned())).collect();
        pins.set("uid", Some(&BTreeMap::new()));
        assert!(pins.lacks("uid", "1.0.0"));
        pins.set("uid", Some(&published(&["1.0.0"])));
        assert!(!pins.lacks("uid", "1.0.0") && pins.lacks("uid", "1.1.0") && !pins.lacks("other", "1.1.0"));
        pins.set("uid", None);
        assert!(!pins.lacks("uid", "1.1.0"), "it pins nothing any more, or is gone");
    }
}
