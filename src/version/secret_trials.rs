//! Which Version tries a Secret that GitHub refused, after this process became leader and remembers nothing of it: the first
//! one at once. The others wait for their usual hour, unless the Secret works for one of them.

use std::collections::HashMap;

use crate::domain::Mutex;

/// Above this number of Secrets, all are forgotten, and tried once more.
const MAX_SECRETS: usize = 1024;

/// What is known of a Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trial {
    /// A Version tries it, or GitHub has refused it since.
    Begun,
    /// GitHub has accepted it.
    Succeeded,
}

/// The Secrets that were tried, by namespace and name.
#[derive(Debug, Default)]
pub struct SecretTrials(Mutex<HashMap<(String, String), Trial>>);

impl SecretTrials {
    /// Whether a Version may try the Secret now: the first that asks, and all once it has worked.
    pub fn may_try(&self, namespace: &str, name: &str) -> bool {
        let mut all = self.0.lock();
        if all.len() >= MAX_SECRETS {
            all.clear();
        }
        let before = all.entry((namespace.to_owned(), name.to_owned()));
        let mut is_first = false;
        let trial = before.or_insert_with(|| {
            is_first = true;
            Trial::Begun
        });
        is_first || *trial == Trial::Succeeded
    }

    /// Records whether GitHub accepted the Secret.
    pub fn record(&self, namespace: &str, name: &str, accepted: bool) {
        let mut all = self.0.lock();
        // Of a Secret that no stalled Version has asked for, nothing has to be known.
        if let Some(trial) = all.get_mut(&(namespace.to_owned(), name.to_owned())) {
            *trial = if accepted { Trial::Succeeded } else { Trial::Begun };
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
