//! The Versions that wait for a permit which others hold, by repository.

use std::collections::HashMap;

use crate::domain::Mutex;

/// How many Versions of each repository that is not failing wait.
#[derive(Debug, Default)]
pub(super) struct WaitingVersions(Mutex<HashMap<String, usize>>);

/// Counts one Version that waits.
pub(super) struct Waiting<'a> {
    all: &'a WaitingVersions,
    repository: &'a str,
}

impl WaitingVersions {
    pub(super) fn add<'a>(&'a self, repository: &'a str) -> Waiting<'a> {
        *self.0.lock().entry(repository.to_owned()).or_default() += 1;
        Waiting { all: self, repository }
    }

    /// Whether Versions of another repository wait.
    pub(super) fn has_others(&self, repository: &str) -> bool {
        self.0.lock().keys().any(|waiting| waiting != repository)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut all = self.all.0.lock();
        if let Some(count) = all.get_mut(self.repository) {
            *count -= 1;
            if *count == 0 {
                all.remove(self.repository);
            }
        }
    }
}
