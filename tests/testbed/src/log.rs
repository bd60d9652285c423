//! A log of requests that a test reads while servers write to it.

use std::sync::Mutex;

use crate::background::lock;

/// Entries in the order of arrival. An entry can be completed later, when its answer is known.
#[derive(Debug)]
pub(crate) struct RequestLog<T>(Mutex<(u64, Vec<(u64, T)>)>);

impl<T> Default for RequestLog<T> {
    fn default() -> Self {
        Self(Mutex::new((0, Vec::new())))
    }
}

impl<T: Clone> RequestLog<T> {
    /// Adds an entry and returns its number, for [`Self::update`].
    pub(crate) fn push(&self, entry: T) -> u64 {
        let (next, entries) = &mut *lock(&self.0);
        *next += 1;
        entries.push((*next, entry));
        *next
    }

    /// Changes an entry, unless it was forgotten.
    pub(crate) fn update(&self, number: u64, change: impl FnOnce(&mut T)) {
        let (_, entries) = &mut *lock(&self.0);
        if let Ok(at) = entries.binary_search_by_key(&number, |(number, _)| *number) {
            change(&mut entries[at].1);
        }
    }

    /// The entries that `wanted` picks.
    pub(crate) fn select(&self, wanted: impl Fn(&T) -> bool) -> Vec<T> {
        lock(&self.0).1.iter().map(|(_, entry)| entry).filter(|entry| wanted(entry)).cloned().collect()
    }

    /// Drops the entries that `unwanted` picks.
    pub(crate) fn forget(&self, unwanted: impl Fn(&T) -> bool) {
        lock(&self.0).1.retain(|(_, entry)| !unwanted(entry));
    }
}
