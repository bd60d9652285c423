//! Documentation of stored archives, read when one of their pages is first opened, and kept compressed.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{Context, SHA256};
use futures::future::{BoxFuture, FutureExt as _, Shared};
use futures::{StreamExt as _, stream};
use tokio::sync::Semaphore;

use super::cache::{Answer, Kept, Key, NoDocs};
use super::compare::{Comparison, compare};
use super::folders::{LIMITS, read};
use super::markdown::Links;
use super::packed::Packed;
use crate::domain::Mutex;
use crate::registry::archive::{self, Archive, Failed, Fault, Opened};
use crate::registry::index::ServedVersion;
use crate::registry::metrics::RegistryMetrics;
use crate::storage::Storage;
use crate::workdir::temporary_file;

/// Archives that are read at once, and comparisons that run at once.
const AT_ONCE: usize = 2;
/// Archives that wait to be read.
const WAITING: usize = 32;
/// How long fetching and reading an archive may take, without the wait for a slot.
const TIME: Duration = Duration::from_secs(10);
/// Requests that wait for an archive to be read, or for a comparison. Each of them keeps a connection that others could use.
const REQUESTS: usize = 256;
/// How long a request waits.
const PATIENCE: Duration = Duration::from_secs(30);

/// Reads the documentation of archives. A clone shares the limits.
#[derive(Clone)]
pub struct Library {
    storage: Arc<Storage>,
    spool_dir: PathBuf,
    metrics: RegistryMetrics,
    kept: Arc<Mutex<Kept>>,
    reading: Arc<Mutex<HashMap<Key, Reading>>>,
    slots: Arc<Semaphore>,
    comparing: Arc<Semaphore>,
    requests: Arc<Semaphore>,
}

/// A read of an archive, for which several requests can wait.
type Reading = Shared<BoxFuture<'static, Answer>>;

impl Library {
    /// Archives are unpacked into `spool_dir`. Failures of the store are counted in `metrics`.
    pub fn new(storage: Arc<Storage>, spool_dir: PathBuf, metrics: RegistryMetrics) -> Self {
        let (kept, reading) = (Arc::default(), Arc::default());
        let [slots, comparing, requests] =
            [AT_ONCE, AT_ONCE, REQUESTS].map(|count| Arc::new(Semaphore::new(count)));
        Self { storage, spool_dir, metrics, kept, reading, slots, comparing, requests }
    }

    /// Stores the documentation of a version, without an archive.
    #[cfg(test)]
    pub fn put(&self, version: &ServedVersion, docs: super::Docs) {
        let links = Links::of(version);
        let packed = Packed::pack(docs, &links);
        let mut kept = self.kept.lock();
        kept.put(key(&version.archive, &links), Ok(Arc::new(packed)), Instant::now());
    }

    /// The permits of comparisons that run, and of requests that wait.
    #[cfg(test)]
    pub fn limits(&self) -> [Arc<Semaphore>; 2] {
        [&self.comparing, &self.requests].map(Arc::clone)
    }

    /// The documentation of a version. Requests for the same archive share one read, which continues if all of them end.
    pub async fn docs(&self, version: &ServedVersion) -> Answer {
        let links = Links::of(version);
        let key = key(&version.archive, &links);
        if let Some(known) = self.kept.lock().get(&key, Instant::now()) {
            return known;
        }
        if version.archive.size > LIMITS.archive_bytes {
            return Err(NoDocs::TooLarge);
        }
        let Ok(_permit) = self.requests.try_acquire() else { return Err(NoDocs::Busy) };
        let read = self.begin(key, version.archive.clone(), links)?;
        tokio::time::timeout(PATIENCE, read).await.unwrap_or(Err(NoDocs::Busy))
    }

    /// What changed between two versions. A request that ends while it waits starts no comparison.
    pub async fn compare(&self, old: &ServedVersion, new: &ServedVersion) -> Result<Comparison, NoDocs> {
        // Both are read before the wait. Nothing is held meanwhile: many requests could hold more than is kept.
        for version in [old, new] {
            self.docs(version).await?;
        }
        let Ok(_permit) = self.requests.try_acquire() else { return Err(NoDocs::Busy) };
        let turn = tokio::time::timeout(PATIENCE, Arc::clone(&self.comparing).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Err(NoDocs::Busy) };
        let kept = |version: &ServedVersion| {
            let known = self.kept.lock().get(&key(&version.archive, &Links::of(version)), Instant::now());
            // A read would keep the turn from the others.
            known.unwrap_or(Err(NoDocs::Busy))
        };
        let (old, new) = (kept(old)?, kept(new)?);
        let compared = tokio::task::spawn_blocking(move || {
            // The turn is held until the work has ended, even if no request waits for it.
            let _turn = turn;
            compare(&old, &new)
        });
        compared.await.map_err(|_| NoDocs::Disk)
    }

    fn begin(&self, key: Key, archive: Archive, links: Links) -> Result<Reading, NoDocs> {
        let mut reading = self.reading.lock();
        if let Some(read) = reading.get(&key) {
            return Ok(read.clone());
        }
        if reading.len() >= WAITING {
            return Err(NoDocs::Busy);
        }
        let library = self.clone();
        let task = tokio::spawn(async move {
            let answer = library.read(&archive, links).await;
            library.kept.lock().put(key, answer.clone(), Instant::now());
            library.reading.lock().remove(&key);
            answer
        });
        let read = task.map(|ended| ended.unwrap_or(Err(NoDocs::Disk))).boxed().shared();
        reading.insert(key, read.clone());
        Ok(read)
    }

    async fn read(&self, archive: &Archive, links: Links) -> Answer {
        let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else { return Err(NoDocs::Busy) };
        let deadline = Instant::now() + TIME;
        let fetched = tokio::time::timeout(TIME, self.fetch(archive)).await;
        let file = fetched.unwrap_or(Err(NoDocs::Store(Fault::Silent)))?;
        let spool_dir = self.spool_dir.clone();
        let parsed = tokio::task::spawn_blocking(move || {
            let docs = read(&file, &spool_dir, deadline);
            // The slot is held until the work has ended, even if no request waits for it.
            drop(slot);
            docs.map(|docs| Arc::new(Packed::pack(docs, &links)))
        });
        match tokio::time::timeout(deadline.saturating_duration_since(Instant::now()) + TIME, parsed).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(NoDocs::Unreadable),
            Err(_) => Err(NoDocs::TooSlow),
        }
    }

    /// The archive in a temporary file. Fails unless the bytes have the recorded checksum. Failures of the store are
    /// classified and counted as those of downloads.
    async fn fetch(&self, archive: &Archive) -> Result<tempfile::TempPath, NoDocs> {
        let failed = |failed: Failed| {
            archive::report(&failed, &archive.location.location(), &self.metrics);
            NoDocs::Store(failed.fault())
        };
        let opened = archive::open(&self.storage, archive, None, &self.metrics).await;
        let Opened { first, rest, .. } = opened.map_err(failed)?;
        let (file, path) = temporary_file(&self.spool_dir).map_err(disk)?.into_parts();
        let mut file = tokio::fs::File::from_std(file);
        let (mut hash, mut size) = (Context::new(&SHA256), 0_u64);
        let mut body = stream::iter([Ok(first)]).chain(rest);
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| failed(Failed::Storage(error)))?;
            size += chunk.len() as u64;
            if size > archive.size {
                return Err(failed(Failed::Differs));
            }
            hash.update(&chunk);
            tokio::io::AsyncWriteExt::write_all(&mut file, &chunk).await.map_err(disk)?;
        }
        tokio::io::AsyncWriteExt::flush(&mut file).await.map_err(disk)?;
        if size < archive.size {
            return Err(failed(Failed::NoBytes));
        }
        let is_recorded = hash.finish().as_ref() == archive.sha256;
        if is_recorded { Ok(path) } else { Err(failed(Failed::Differs)) }
    }
}

/// The archive's checksum, so that a key never stands for other content, and what its links lead to.
fn key(archive: &Archive, links: &Links) -> Key {
    let mut hash = Context::new(&SHA256);
    hash.update(&archive.sha256);
    hash.update(links.base.as_bytes());
    let mut key = [0; 32];
    key.copy_from_slice(hash.finish().as_ref());
    key
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn disk(error: std::io::Error) -> NoDocs {
    tracing::warn!(%error, "an archive could not be written to the spool folder; free or enlarge the volume of --spool-dir");
    NoDocs::Disk
}
