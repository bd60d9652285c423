//! Hashes of values.

use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher, Hash};

/// A hash of `value`: equal for equal values, in each process of one build, because the hasher has no random keys.
pub(crate) fn hash_of(value: impl Hash) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(value)
}
