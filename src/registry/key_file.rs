//! The keys of archive links, from `--link-key-file`, read again while the registry runs.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use thiserror::Error;

use super::link::{InvalidKeys, LinkKeys};
use super::reread::read_again;

/// Why `--link-key-file` cannot be used.
#[derive(Debug, Error)]
pub enum KeyFileError {
    #[error("--link-key-file {path}: cannot be read: {error}")]
    File { path: PathBuf, error: io::Error },
    #[error("--link-key-file {path}: {error}")]
    Keys { path: PathBuf, error: InvalidKeys },
}

#[derive(Clone)]
pub struct CurrentKeys {
    keys: Arc<ArcSwap<LinkKeys>>,
    path: Option<PathBuf>,
}

impl CurrentKeys {
    /// Reads the file. Without one, the keys are random: links of one replica are refused by the others.
    pub fn new(path: Option<PathBuf>) -> Result<Self, KeyFileError> {
        let keys = match &path {
            Some(path) => read(path)?,
            None => LinkKeys::random(),
        };
        Ok(Self { keys: Arc::new(ArcSwap::from_pointee(keys)), path })
    }

    pub fn load(&self) -> Arc<LinkKeys> {
        self.keys.load_full()
    }

    /// Reads the file at each interval, as long as it is polled. A file that cannot be used leaves the keys as they are.
    pub async fn watch(self, interval: Duration) {
        let (Some(path), keys) = (self.path, self.keys) else { return };
        let replace = move || read(&path).map(|found| keys.store(Arc::new(found)));
        let log = |error: &str| {
            tracing::error!(%error, "the link keys were changed and cannot be used; the old ones are used");
        };
        read_again(interval, replace, log).await;
    }
}

fn read(path: &Path) -> Result<LinkKeys, KeyFileError> {
    let text = std::fs::read(path).map_err(|error| KeyFileError::File { path: path.into(), error })?;
    LinkKeys::parse(&text).map_err(|error| KeyFileError::Keys { path: path.into(), error })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Address, Release};
    use crate::registry::link::Permit;

    #[tokio::test]
    async fn a_new_key_is_used_and_a_file_that_cannot_be_used_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let [first, second] = ["a".repeat(32), "b".repeat(32)];
        std::fs::write(&path, &first).unwrap();
        let keys = CurrentKeys::new(Some(path.clone())).unwrap();
        let watched = tokio::spawn(keys.clone().watch(Duration::from_millis(5)));
        let address: Address = "a/b/c".parse().unwrap();
        let release = Release::parse("1.0.0").unwrap();
        let permit = Permit { address: &address, release: &release, sha256: &[1; 32] };
        let link = || keys.load().link(permit, 1_800_000_000);
        let old = link();
        for unusable in ["", "short", &[&first, &first, &first].map(String::as_str).join("\n")] {
            std::fs::write(&path, unusable).unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert_eq!(link(), old, "{unusable}");
        }
        std::fs::remove_file(&path).unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(link(), old, "no file");
        std::fs::write(&path, format!("{second}\n{first}\n")).unwrap();
        let changed = async {
            while link() == old {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), changed).await.expect("the new key");
        assert!(keys.load().permits(&old, permit, 1_800_000_000), "the previous key");
        watched.abort();
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named_at_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let refused = || CurrentKeys::new(Some(path.clone())).err().unwrap().to_string();
        assert!(
            refused().starts_with(&format!("--link-key-file {}: cannot be read", path.display())),
            "{}",
            refused()
        );
        std::fs::write(&path, "short").unwrap();
        assert!(refused().contains("openssl rand"), "{}", refused());
    }
}
