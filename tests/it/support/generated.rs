//! Files that are made of the code.

use super::root;

/// Fails unless a file of the repository is what the code makes of it now. With `UPDATE_GENERATED`, writes it first. `tests` selects
/// the tests that update it.
pub(crate) fn is_generated(path: &str, made: &str, tests: &str) {
    let file = root().join(path);
    if updates() {
        std::fs::write(&file, made).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(kept == made, "{path} is out of date: run UPDATE_GENERATED=1 cargo test --test it {tests}");
}

/// Whether generated files are written.
pub(crate) fn updates() -> bool {
    std::env::var_os("UPDATE_GENERATED").is_some()
}
