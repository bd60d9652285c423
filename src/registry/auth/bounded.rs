//! A map with a maximum size, which removes its oldest entries: those that are too many, and those that have ended.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Replaced and removed entries for which the order is not swept yet, beside as many as there are entries.
const SPARE: usize = 64;

pub(super) struct Bounded<K, V> {
    capacity: usize,
    entries: HashMap<K, (u64, V)>,
    /// The keys in the order of insertion, with the number of the insertion. Replaced and removed entries stay until they are
    /// swept.
    order: VecDeque<(u64, K)>,
    inserted: u64,
}

impl<K: Copy + Eq + Hash, V> Bounded<K, V> {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, entries: HashMap::new(), order: VecDeque::new(), inserted: 0 }
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(_, value)| value)
    }

    /// Inserts or replaces an entry, which is the newest then. The oldest entries that have ended are removed.
    pub(super) fn insert(&mut self, key: K, value: V, has_ended: impl Fn(&V) -> bool) {
        self.inserted += 1;
        self.entries.insert(key, (self.inserted, value));
        self.order.push_back((self.inserted, key));
        while let Some(&(number, oldest)) = self.order.front() {
            let entry = self.entries.get(&oldest).filter(|(current, _)| *current == number);
            if let Some((_, value)) = entry {
                if self.entries.len() <= self.capacity && !has_ended(value) {
                    break;
                }
                self.entries.remove(&oldest);
            }
            self.order.pop_front();
        }
        if self.order.len() > 2 * self.entries.len() + SPARE {
            let entries = &self.entries;
            self.order.retain(|(number, key)| entries.get(key).is_some_and(|(current, _)| current == number));
        }
    }

    pub(super) fn remove(&mut self, key: &K) {
        self.entries.remove(key);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> (usize, usize) {
        (self.entries.len(), self.order.len())
    }
}
