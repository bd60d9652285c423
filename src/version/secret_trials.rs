//! Which Versions try, after a restart, a Secret that failed before and may have been corrected since: the first one at once. The
//! others wait for their usual hour, unless the Secret works for one of them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::domain::Mutex;
use crate::github::FetchError;

/// Above this number of trials, all are forgotten, and each is made once more.
const MAX_TRIALS: usize = 1024;

/// Namespace and name of a Secret, and the repository, if the trial is about access to it.
type Trial = (String, String, Option<String>);

#[derive(Debug)]
enum State {
    /// The Version with this UID makes it, and has no answer of GitHub yet.
    Open(Box<str>),
    /// Whether GitHub has accepted the Secret, or has given it access to the repository.
    Answered(bool),
}

/// The trials that were made.
#[derive(Debug, Default)]
pub struct SecretTrials(Mutex<HashMap<Trial, State>>);

impl SecretTrials {
    /// Whether the Version `uid` may try the Secret now: the first caller may, and all once it has worked. `repository`: if
    /// GitHub accepted the Secret before, but gave it no access.
    pub fn may_try(&self, uid: &str, namespace: &str, name: &str, repository: Option<&str>) -> bool {
        let mut all = self.0.lock();
        if all.len() >= MAX_TRIALS {
            all.clear();
        }
        match all.entry(trial(namespace, name, repository)) {
            Entry::Occupied(known) => matches!(known.get(), State::Answered(true)),
            Entry::Vacant(first) => {
                first.insert(State::Open(uid.into()));
                true
            }
        }
    }

    /// Forgets the trials of the Version `uid` that have shown nothing: another Version may try.
    pub fn take_back(&self, uid: &str, namespace: &str, name: &str, repository: &str) {
        let mut all = self.0.lock();
        for repository in [None, Some(repository)] {
            let trial = trial(namespace, name, repository);
            if matches!(all.get(&trial), Some(State::Open(by)) if **by == *uid) {
                all.remove(&trial);
            }
        }
    }

    /// Records what a fetch from the repository with the Secret shows.
    pub fn record(&self, namespace: &str, name: &str, repository: &str, error: Option<&FetchError>) {
        let (is_accepted, has_access) = match error {
            None | Some(FetchError::TagNotFound { .. } | FetchError::TooLarge { .. }) => (true, true),
            Some(FetchError::RepositoryNotFound { .. } | FetchError::Forbidden { .. }) => (true, false),
            Some(FetchError::CredentialRefused { .. }) => (false, false),
            Some(_) => return,
        };
        let mut all = self.0.lock();
        for (repository, works) in [(None, is_accepted), (Some(repository), has_access)] {
            // A Secret that no stalled Version waits for is not recorded.
            if let Some(last) = all.get_mut(&trial(namespace, name, repository)) {
                *last = State::Answered(works);
            }
        }
    }
}

fn trial(namespace: &str, name: &str, repository: Option<&str>) -> Trial {
    (namespace.to_owned(), name.to_owned(), repository.map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NET: &str = "https://github.com/acme/net";

    fn refused() -> FetchError {
        FetchError::CredentialRefused { status: 401, what: "Bad credentials".into() }
    }

    fn invisible() -> FetchError {
        FetchError::RepositoryNotFound { repository: NET.into(), authenticated: true }
    }

    #[test]
    fn one_version_tries_a_secret_and_the_others_follow_only_if_it_works() {
        let trials = SecretTrials::default();
        let tries =
            |namespace: &str| (0..100).filter(|_| trials.may_try("a", namespace, "app", None)).count();
        assert_eq!((tries("acme"), tries("beta")), (1, 1));
        trials.record("acme", "app", NET, Some(&refused()));
        assert_eq!(tries("acme"), 0);
        trials.record("acme", "app", NET, None);
        assert_eq!((tries("acme"), tries("beta")), (100, 0));
        trials.record("acme", "app", NET, Some(&refused()));
        assert_eq!(tries("acme"), 0, "it was replaced by one that does not work");
        let missing = FetchError::TagNotFound { repository: NET.into(), tried: Vec::new() };
        for accepted in [missing, invisible(), FetchError::TooLarge { limit: 7 }] {
            trials.record("acme", "app", NET, Some(&refused()));
            trials.record("acme", "app", NET, Some(&accepted));
            assert_eq!(tries("acme"), 100, "{accepted}");
        }
        trials.record("acme", "app", NET, Some(&FetchError::Network { what: "no answer".into() }));
        assert_eq!(tries("acme"), 100, "an outage shows nothing");
    }

    #[test]
    fn access_is_tried_once_for_each_repository() {
        let trials = SecretTrials::default();
        let may_try = |repository| trials.may_try("a", "acme", "app", Some(repository));
        let tries = |repository| (0..100).filter(|_| may_try(repository)).count();
        assert_eq!((tries(NET), tries("another")), (1, 1));
        trials.record("acme", "app", NET, Some(&invisible()));
        trials.record("acme", "app", "another", None);
        assert_eq!((tries(NET), tries("another")), (0, 100));
    }

    #[test]
    fn a_trial_that_has_shown_nothing_is_left_to_another_version() {
        let trials = SecretTrials::default();
        for repository in [None, Some(NET)] {
            let tries = || (0..100).filter(|_| trials.may_try("a", "acme", "app", repository)).count();
            assert_eq!((tries(), tries()), (1, 0));
            trials.take_back("a", "beta", "app", NET);
            trials.take_back("b", "acme", "app", NET);
            assert_eq!(tries(), 0, "neither another Secret's nor another Version's");
            trials.take_back("a", "acme", "app", NET);
            assert_eq!((tries(), tries()), (1, 0));
            trials.record("acme", "app", NET, Some(&refused()));
            trials.take_back("a", "acme", "app", NET);
            assert_eq!(tries(), 0, "GitHub has answered");
            trials.record("acme", "app", NET, None);
            trials.take_back("a", "acme", "app", NET);
            assert_eq!(tries(), 100, "it works");
        }
    }

    #[test]
    fn trials_are_remembered_in_bounded_number_and_only_where_a_version_waits() {
        let trials = SecretTrials::default();
        trials.record("acme", "healthy", NET, None);
        assert_eq!(trials.0.lock().len(), 0);
        for number in 0..MAX_TRIALS * 3 {
            trials.may_try("a", "acme", &number.to_string(), None);
        }
        assert!(trials.0.lock().len() <= MAX_TRIALS);
    }
}
