//! The keys of archive links, from `--link-key-file`, read again while the registry runs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use thiserror::Error;

use super::link::{InvalidKeys, LinkKeys};

/// Interval at which the file is read.
const INTERVAL: Duration = Duration::from_secs(30);

/// Why `--link-key-file` cannot be used.
#[derive(Debug, Error)]
#[error("--link-key-file {path}: {problem}")]
pub struct KeyFileError {
    path: PathBuf,
    problem: Problem,
}

#[derive(Debug, Error)]
enum Problem {
    #[error("cannot be read: {0}")]
    File(#[from] std::io::Error),
    #[error(transparent)]
    Keys(#[from] InvalidKeys),
}

/// The current keys.
#[derive(Clone, Debug)]
pub struct CurrentKeys {
    keys: Arc<ArcSwap<LinkKeys>>,
    path: Option<PathBuf>,
}

impl CurrentKeys {
    /// Reads the file. Without one, the keys are random: links of one replica are refused by the others.
    ///
    /// # Errors
    /// [`KeyFileError`] if the file cannot be used.
    pub fn new(path: Option<PathBuf>) -> Result<Self, KeyFileError> {
        let keys = match &path {
            Some(path) => read(path)?,
            None => LinkKeys::random(),
        };
        Ok(Self { keys: Arc::new(ArcSwap::from_pointee(keys)), path })
    }

    /// The keys as they are now.
    pub fn load(&self) -> Arc<LinkKeys> {
        self.keys.load_full()
    }

    /// Reads the file at each interval, as long as it is polled. A file that cannot be used leaves the keys as they are.
    pub async fn watch(self) {
        let Some(path) = self.path else { return };
        let mut failing = false;
        loop {
            tokio::time::sleep(INTERVAL).await;
            let file = path.clone();
            match tokio::task::spawn_blocking(move || read(&file)).await {
                Ok(Ok(keys)) => {
                    self.keys.store(Arc::new(keys));
                    failing = false;
                }
                Ok(Err(error)) if !failing => {
                    tracing::error!(%error, "the link keys were changed and cannot be used; the old ones are used");
                    failing = true;
                }
                Ok(Err(_)) | Err(_) => {}
            }
        }
    }
}

fn read(path: &std::path::Path) -> Result<LinkKeys, KeyFileError> {
    let wrong = |problem| KeyFileError { path: path.to_owned(), problem };
    let text = std::fs::read(path).map_err(|error| wrong(error.into()))?;
    LinkKeys::parse(&text).map_err(|error| wrong(error.into()))
}
