//! The folder where archives wait on disk.
//!
//! In: where there is room. Out: a folder of this process alone. What a killed process left behind is removed at the next
//! start: a volume that outlives its container would fill up otherwise.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

const PREFIX: &str = "opendepot-spool-";
const LOCK: &str = "in-use";

/// A folder that is removed when this is dropped.
#[derive(Debug)]
pub struct Spool {
    dir: TempDir,
    #[cfg_attr(not(test), expect(dead_code, reason = "held, not read"))]
    // Held for as long as the process lives: the lock tells a folder in use from one that was left behind.
    lock: File,
}

impl Spool {
    /// Makes the folder below `parent`, and removes those that no process holds any more.
    pub fn new(parent: &Path) -> io::Result<Self> {
        fs::create_dir_all(parent)?;
        let dir = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?;
        let lock = File::create(dir.path().join(LOCK))?;
        lock.lock()?;
        for left in fs::read_dir(parent)?.filter_map(Result::ok).map(|entry| entry.path()) {
            if left != dir.path() && is_abandoned(&left) {
                tracing::debug!(folder = %left.display(), "removing what an earlier process left behind");
                // Another process that starts now may be removing it as well.
                let _ = fs::remove_dir_all(&left);
            }
        }
        Ok(Self { dir, lock })
    }

    /// The folder.
    pub fn path(&self) -> PathBuf {
        self.dir.path().to_owned()
    }
}

fn is_abandoned(folder: &Path) -> bool {
    let ours = folder.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with(PREFIX));
    // Without a lock file the folder is one that is just being made.
    ours && File::open(folder.join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_in_use_stay_and_abandoned_ones_go() {
        let parent = tempfile::tempdir().unwrap();
        let first = Spool::new(parent.path()).unwrap();
        let second = Spool::new(parent.path()).unwrap();
        assert!(first.path().exists() && second.path().exists());
        // A killed process runs no destructor: the folder stays, the lock does not.
        let left = first.dir.keep();
        drop(first.lock);
        let third = Spool::new(parent.path()).unwrap();
        assert!(!left.exists() && second.path().exists() && third.path().exists());
        let gone = third.path();
        drop(third);
        assert!(!gone.exists());
    }
}
