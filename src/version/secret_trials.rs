//! Which Versions try a Secret that GitHub rejected before this process became leader: the first one at once. The others wait
//! for their usual hour, unless the Secret works for one of them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::domain::Mutex;

/// Above this number of Secrets, all are forgotten, and each is tried once more.
const MAX_SECRETS: usize = 1024;

/// The Secrets that were tried, by namespace and name, and whether GitHub has accepted each.
#[derive(Debug, Default)]
pub struct SecretTrials(Mutex<HashMap<(String, String), bool>>);

impl SecretTrials {
    /// Whether a Version may try the Secret now: the first caller may, and all once it has worked.
    pub fn may_try(&self, namespace: &str, name: &str) -> bool {
        let mut all = self.0.lock();
        if all.len() >= MAX_SECRETS {
            all.clear();
        }
        match all.entry((namespace.to_owned(), name.to_owned())) {
            Entry::Occupied(accepted) => *accepted.get(),
            Entry::Vacant(first) => {
                first.insert(false);
                true
            }
        }
    }

    /// Records whether GitHub accepted the Secret.
    pub fn record(&self, namespace: &str, name: &str, accepted: bool) {
        let mut all = self.0.lock();
        // A Secret that no stalled Version waits for is not recorded.
        if let Some(last) = all.get_mut(&(namespace.to_owned(), name.to_owned())) {
            *last = accepted;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_version_tries_a_secret_and_the_others_follow_only_if_it_works() {
        let trials = SecretTrials::default();
        let tries = |namespace: &str| (0..100).filter(|_| trials.may_try(namespace, "app")).count();
        assert_eq!((tries("acme"), tries("beta")), (1, 1));
        trials.record("acme", "app", false);
        assert_eq!(tries("acme"), 0);
        trials.record("acme", "app", true);
        assert_eq!((tries("acme"), tries("beta")), (100, 0));
        trials.record("acme", "app", false);
        assert_eq!(tries("acme"), 0, "it was replaced by one that does not work");
    }

    #[test]
    fn secrets_are_remembered_in_bounded_number_and_only_where_a_version_waits() {
        let trials = SecretTrials::default();
        trials.record("acme", "healthy", true);
        assert_eq!(trials.0.lock().len(), 0);
        for number in 0..MAX_SECRETS * 3 {
            trials.may_try("acme", &number.to_string());
        }
        assert!(trials.0.lock().len() <= MAX_SECRETS);
    }
}
