//! Shared copies of values that many cached objects have in common, such as the configuration of a Module's Versions.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Weak};

use crate::domain::{Mutex, hash_of};

/// Entries that are added between two removals of unused entries.
const SWEEP_AFTER: usize = 1024;

/// A table of shared values of one type. It holds weak references only: a value is freed with its last user.
#[derive(Debug)]
pub(super) struct Interner<T: ?Sized>(Mutex<Option<Table<T>>>);

#[derive(Debug)]
struct Table<T: ?Sized> {
    by_hash: HashMap<u64, Weak<T>>,
    sweep_at: usize,
}

impl<T: ?Sized> Interner<T> {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// The shared copy of the value that hashes like `key`. `is_equal` protects against two values with one hash: the second is
    /// then not shared.
    fn shared(&self, key: impl Hash, is_equal: impl Fn(&T) -> bool, make: impl FnOnce() -> Arc<T>) -> Arc<T> {
        let hash = hash_of(key);
        let mut table = self.0.lock();
        let table = table.get_or_insert_with(|| Table { by_hash: HashMap::new(), sweep_at: SWEEP_AFTER });
        if let Some(known) = table.by_hash.get(&hash).and_then(Weak::upgrade) {
            return if is_equal(&known) { known } else { make() };
        }
        if table.by_hash.len() >= table.sweep_at {
            table.by_hash.retain(|_, value| value.strong_count() > 0);
            table.sweep_at = table.by_hash.len() + SWEEP_AFTER;
        }
        let value = make();
        table.by_hash.insert(hash, Arc::downgrade(&value));
        value
    }
}

impl Interner<str> {
    pub(super) fn text(&self, text: &str) -> Arc<str> {
        self.shared(text, |known| known == text, || Arc::from(text))
    }
}

impl<T: PartialEq + Hash> Interner<T> {
    pub(super) fn value(&self, value: T) -> Arc<T> {
        let value = Arc::new(value);
        self.shared(&*value, |known| *known == *value, || Arc::clone(&value))
    }
}

#[cfg(test)]
mod tests {
    use std::hash::Hasher;

    use super::*;

    #[derive(Debug, PartialEq)]
    struct Alike(u32);

    impl Hash for Alike {
        fn hash<H: Hasher>(&self, _: &mut H) {}
    }

    #[test]
    fn equal_values_are_shared_and_unused_ones_are_removed() {
        static TEXTS: Interner<str> = Interner::new();
        let (one, two) = (TEXTS.text("bucket"), TEXTS.text("bucket"));
        assert!(Arc::ptr_eq(&one, &two));
        assert_ne!(TEXTS.text("other"), one);
        for number in 0..10 * SWEEP_AFTER {
            TEXTS.text(&number.to_string());
        }
        let kept = TEXTS.0.lock().as_ref().unwrap().by_hash.len();
        assert!(kept <= SWEEP_AFTER + 1, "{kept}");
        assert!(Arc::ptr_eq(&one, &TEXTS.text("bucket")), "a value in use stays");
    }

    #[test]
    fn two_values_with_one_hash_are_kept_apart() {
        static VALUES: Interner<Alike> = Interner::new();
        let (one, two) = (VALUES.value(Alike(1)), VALUES.value(Alike(2)));
        assert_eq!((one.0, two.0), (1, 2));
    }
}
