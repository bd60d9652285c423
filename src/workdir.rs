//! The folder for temporary archives: one per process.
//!
//! The folder of a killed process is removed at the next start. Otherwise a volume that outlives its container would fill up.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::{NamedTempFile, TempDir};

const PREFIX: &str = "opendepot-spool-";
const LOCK: &str = "in-use";
/// How long a folder without a lock file is kept after its last change: a process may be creating it, or may still use it
/// after a cleaner of temporary files removed the lock. Longer than the processing of any archive.
const UNLOCKED: Duration = Duration::from_hours(1);

/// A folder that is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Workdir {
    dir: TempDir,
    #[cfg_attr(not(test), expect(dead_code, reason = "held, not read"))]
    // Kept until the process ends: the lock marks the folder as in use.
    lock: File,
}

impl Workdir {
    /// Creates the folder below `parent`, and removes the folders of ended processes.
    pub(crate) fn new(parent: &Path) -> io::Result<Self> {
        fs::create_dir_all(parent)?;
        let dir = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?;
        // Locked before it gets its name, so that a process that starts now never finds it without a lock.
        let unnamed = dir.path().join("in-use.new");
        let lock = File::create(&unnamed)?;
        lock.lock()?;
        fs::rename(unnamed, dir.path().join(LOCK))?;
        for left in fs::read_dir(parent)?.filter_map(Result::ok).map(|entry| entry.path()) {
            if left != dir.path() && is_abandoned(&left) {
                tracing::debug!(folder = %left.display(), "removing the work folder of an ended process");
                // Another process that starts now may remove it too.
                let _ = fs::remove_dir_all(&left);
            }
        }
        Ok(Self { dir, lock })
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().to_owned()
    }
}

/// A new file in `folder`, which is created again if a cleaner of temporary files removed it.
pub(crate) fn temporary_file(folder: &Path) -> io::Result<NamedTempFile> {
    match NamedTempFile::new_in(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(folder)?;
            NamedTempFile::new_in(folder)
        }
        result => result,
    }
}

/// Whether no process uses this folder.
fn is_abandoned(folder: &Path) -> bool {
    let ours = folder.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with(PREFIX));
    if !ours {
        return false;
    }
    match File::open(folder.join(LOCK)) {
        Ok(lock) => lock.try_lock().is_ok(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let changed = fs::metadata(folder).and_then(|folder| folder.modified());
            changed.is_ok_and(|changed| changed.elapsed().is_ok_and(|age| age > UNLOCKED))
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_in_use_stay_and_abandoned_ones_go() {
        let parent = tempfile::tempdir().unwrap();
        let first = Workdir::new(parent.path()).unwrap();
        let second = Workdir::new(parent.path()).unwrap();
        assert!(first.path().exists() && second.path().exists());
        // A killed process runs no destructor: the folder stays, the lock does not.
        let left = first.dir.keep();
        drop(first.lock);
        let third = Workdir::new(parent.path()).unwrap();
        assert!(!left.exists() && second.path().exists() && third.path().exists());
        let gone = third.path();
        drop(third);
        assert!(!gone.exists());
    }

    #[test]
    fn a_folder_without_a_lock_goes_only_when_it_is_old() {
        let parent = tempfile::tempdir().unwrap();
        let unlocked = parent.path().join(format!("{PREFIX}new"));
        let foreign = parent.path().join("other");
        for folder in [&unlocked, &foreign] {
            fs::create_dir(folder).unwrap();
        }
        let _first = Workdir::new(parent.path()).unwrap();
        assert!(unlocked.exists(), "its process may be about to lock it");
        let old = std::time::SystemTime::now() - UNLOCKED - Duration::from_mins(1);
        for folder in [&unlocked, &foreign] {
            File::open(folder).unwrap().set_modified(old).unwrap();
        }
        let _second = Workdir::new(parent.path()).unwrap();
        assert!(!unlocked.exists() && foreign.exists());
    }

    #[test]
    fn processes_that_start_at_once_leave_each_others_folders() {
        let parent = tempfile::tempdir().unwrap();
        let spools: Vec<Workdir> = std::thread::scope(|scope| {
            let start =
                || scope.spawn(|| (0..25).map(|_| Workdir::new(parent.path()).unwrap()).collect::<Vec<_>>());
            let threads: Vec<_> = (0..8).map(|_| start()).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(spools.len(), 200);
        assert!(spools.iter().all(|spool| spool.path().join(LOCK).exists()));
    }

    #[test]
    fn a_folder_that_was_cleaned_away_is_made_again() {
        let parent = tempfile::tempdir().unwrap();
        let spool = Workdir::new(parent.path()).unwrap();
        fs::remove_dir_all(spool.path()).unwrap();
        assert!(temporary_file(&spool.path()).unwrap().path().exists());
    }
}
