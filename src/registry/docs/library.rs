//! Documentation of stored archives, read when one of their pages is first opened, and kept compressed.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{Context, SHA256};
use futures::future::{BoxFuture, FutureExt as _, Shared};
use futures::{StreamExt as _, stream};
use tracing::Instrument as _;

use super::cache::{DocsCache, DocsKey, DocsResult, NoDocs};
use super::child;
use super::compare::{Comparison, compare};
use super::folders::LIMITS;
use super::markdown::Links;
#[cfg(test)]
use super::packed::Packed;
use crate::controller::bulkhead::{Bulkhead, BulkheadPermit};
use crate::domain::{Mutex, hash_of};
use crate::registry::archive::{self, Archive, Opened, ReadFailure};
use crate::registry::http::Peer;
use crate::registry::index::ServedVersion;
use crate::registry::metrics::RegistryMetrics;
use crate::storage::Storage;
use crate::workdir::temporary_file;

/// Archives that are read at once, one of each namespace if there are several, and comparisons and large pages that are made at
/// once.
const AT_ONCE: usize = 2;
/// Archives that wait to be read. Half of them may be for one client, since a crawler opens the pages of all versions, and half
/// of one namespace, whose archives may all be slow.
const WAITING: usize = 32;
/// How long fetching an archive may take, and reading it, without the wait for a slot.
const TIME: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });
/// Requests that wait for an archive to be read, or for their turn. Each of them keeps a connection that others could use. Half of
/// them may be of one client.
const REQUESTS: usize = 256;
/// How long a request waits.
const REQUEST_WAIT: Duration = Duration::from_secs(30);

/// Reads the documentation of archives. A clone shares the limits.
#[derive(Clone)]
pub struct Library {
    storage: Arc<Storage>,
    spool_dir: PathBuf,
    metrics: RegistryMetrics,
    cache: Arc<Mutex<DocsCache>>,
    reading: Arc<Mutex<HashMap<DocsKey, Reading>>>,
    /// Two permits for each archive: by client, and by `tenant`.
    waiting: Arc<Bulkhead>,
    /// By `tenant`.
    slots: Arc<Bulkhead>,
    /// By client: the pages that one waits for do not delay those of others.
    turns: Arc<Bulkhead>,
    /// By client.
    requests: Arc<Bulkhead>,
}

/// A read of an archive, for which several requests can wait.
type Reading = Shared<BoxFuture<'static, DocsResult>>;

impl Library {
    /// Archives are unpacked into `spool_dir`. Failures of the store are counted in `metrics`.
    pub fn new(storage: Arc<Storage>, spool_dir: PathBuf, metrics: RegistryMetrics) -> Self {
        let limit = |all, each| Arc::new(Bulkhead::new(all, each));
        Self {
            storage,
            spool_dir,
            metrics,
            cache: Arc::default(),
            reading: Arc::default(),
            waiting: limit(2 * WAITING, WAITING / 2),
            slots: limit(AT_ONCE, 1),
            turns: limit(AT_ONCE, AT_ONCE),
            requests: limit(REQUESTS, REQUESTS / 2),
        }
    }

    /// Stores the documentation of a version, without an archive.
    #[cfg(test)]
    pub fn put(&self, version: &ServedVersion, docs: super::Docs) {
        let links = Links::of(version);
        let packed = Packed::pack(docs, &links);
        let mut cache = self.cache.lock();
        cache.put(key(&version.archive, &links), Ok(Arc::new(packed)), Instant::now());
    }

    /// The permits of comparisons and large pages that are made, and of requests that wait.
    #[cfg(test)]
    pub fn limits(&self) -> [Arc<Bulkhead>; 2] {
        [&self.turns, &self.requests].map(Arc::clone)
    }

    /// What `show` makes of the documentation of a version, for the page of a folder. A large page is made in turn. `namespace`
    /// has a share of the reads; `None` if there is no other.
    pub async fn show<T: Send + 'static>(
        &self,
        namespace: Option<&str>,
        version: &ServedVersion,
        folder: &str,
        peer: Peer,
        show: impl FnOnce(DocsResult) -> T + Send + 'static,
    ) -> Result<T, NoDocs> {
        let docs = self.docs(namespace, version, peer).await;
        if !docs.as_ref().is_ok_and(|packed| packed.is_large(folder)) {
            return Ok(show(docs));
        }
        // Nothing is held during the wait: many requests could hold more than is kept.
        drop(docs);
        match self.turn(peer).await {
            Ok(turn) => {
                let docs = self.known(version);
                in_turn(turn, move || show(docs)).await
            }
            Err(why) => Ok(show(Err(why))),
        }
    }

    /// What `show` makes of what changed between two versions. A request that ends while it waits starts no comparison.
    pub async fn compare<T: Send + 'static>(
        &self,
        namespace: Option<&str>,
        old: &ServedVersion,
        new: &ServedVersion,
        peer: Peer,
        show: impl FnOnce(&Comparison) -> T + Send + 'static,
    ) -> Result<T, NoDocs> {
        // Both are read before the wait. Nothing is held meanwhile.
        for version in [old, new] {
            self.docs(namespace, version, peer).await?;
        }
        let turn = self.turn(peer).await?;
        let (old, new) = (self.known(old)?, self.known(new)?);
        in_turn(turn, move || show(&compare(&old, &new))).await
    }

    /// The documentation of a version. Requests for the same archive share one read, which continues if all of them end.
    async fn docs(&self, namespace: Option<&str>, version: &ServedVersion, peer: Peer) -> DocsResult {
        let links = Links::of(version);
        let key = key(&version.archive, &links);
        let known = {
            let (mut cache, now) = (self.cache.lock(), Instant::now());
            cache.get(&key, now).or_else(|| cache.get(&failure_key(&key, &version.archive), now))
        };
        if let Some(known) = known {
            return known;
        }
        if version.archive.size > LIMITS.archive_bytes {
            return Err(NoDocs::TooLarge);
        }
        let _permit = self.requests.try_acquire(hash_of(peer)).ok_or(NoDocs::Busy)?;
        let tenant = tenant(namespace, key);
        let read = self.begin(key, version.archive.clone(), links, hash_of(peer), tenant)?;
        tokio::time::timeout(REQUEST_WAIT, read).await.unwrap_or(Err(NoDocs::Busy))
    }

    async fn turn(&self, peer: Peer) -> Result<BulkheadPermit, NoDocs> {
        let peer = hash_of(peer);
        let _permit = self.requests.try_acquire(peer).ok_or(NoDocs::Busy)?;
        tokio::time::timeout(REQUEST_WAIT, self.turns.acquire(peer)).await.map_err(|_| NoDocs::Busy)
    }

    /// The documentation of a version that was read before. Another read would keep the turn from the others.
    fn known(&self, version: &ServedVersion) -> DocsResult {
        let known = self.cache.lock().get(&key(&version.archive, &Links::of(version)), Instant::now());
        known.unwrap_or(Err(NoDocs::Busy))
    }

    fn begin(
        &self,
        key: DocsKey,
        archive: Archive,
        links: Links,
        peer: u64,
        tenant: u64,
    ) -> Result<Reading, NoDocs> {
        let mut reading = self.reading.lock();
        if let Some(read) = reading.get(&key) {
            return Ok(read.clone());
        }
        let waits = self.waiting.try_acquire(peer).zip(self.waiting.try_acquire(tenant));
        let waits = waits.ok_or(NoDocs::Busy)?;
        let library = self.clone();
        let task = tokio::spawn(async move {
            let _waits = waits;
            // A read that panics must not be the answer until the registry ends.
            let answer = AssertUnwindSafe(library.read(tenant, &archive, &links)).catch_unwind().await;
            let answer = answer.unwrap_or(Err(NoDocs::Disk));
            let is_of_object = matches!(answer, Err(NoDocs::TooSlow | NoDocs::Store(_)));
            let kept_by = if is_of_object { failure_key(&key, &archive) } else { key };
            library.cache.lock().put(kept_by, answer.clone(), Instant::now());
            library.reading.lock().remove(&key);
            answer
        });
        let read = task.map(|ended| ended.unwrap_or(Err(NoDocs::Disk))).boxed().shared();
        reading.insert(key, read.clone());
        Ok(read)
    }

    async fn read(&self, tenant: u64, archive: &Archive, links: &Links) -> DocsResult {
        // Held until the child has ended, even if no request waits for it.
        let _slot = self.slots.acquire(tenant).await;
        let object = archive.location.location();
        let fetched = tokio::time::timeout(TIME, self.fetch(archive)).await;
        let file = fetched.unwrap_or_else(|_| {
            // A kind of its own, for which there is no alert: a download may take longer.
            self.metrics.s3_error("slow");
            tracing::warn!(%object, limit = ?TIME, "an archive arrived too slowly for its documentation to be read");
            Err(NoDocs::TooSlow)
        })?;
        let span = tracing::warn_span!("documentation", %object);
        child::documentation(&file, &self.spool_dir, links, TIME).instrument(span).await.map(Arc::new)
    }

    /// A failure of the store, classified, logged and counted as those of downloads.
    fn failed(&self, archive: &Archive, failed: &ReadFailure) -> NoDocs {
        archive::report(failed, &archive.location.location(), &self.metrics);
        NoDocs::Store(failed.fault())
    }

    /// The archive in a temporary file. Fails unless the bytes have the recorded checksum.
    async fn fetch(&self, archive: &Archive) -> Result<tempfile::TempPath, NoDocs> {
        let failed = |failed: ReadFailure| self.failed(archive, &failed);
        let opened = archive::open(&self.storage, archive, None, &self.metrics).await;
        let Opened { first, rest, .. } = opened.map_err(failed)?;
        let (file, path) = temporary_file(&self.spool_dir).map_err(NoDocs::disk)?.into_parts();
        let mut file = tokio::fs::File::from_std(file);
        let (mut hash, mut size) = (Context::new(&SHA256), 0_u64);
        let mut body = stream::iter([Ok(first)]).chain(rest);
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| failed(ReadFailure::Storage(error)))?;
            size += chunk.len() as u64;
            if size > archive.size {
                return Err(failed(ReadFailure::Differs));
            }
            hash.update(&chunk);
            tokio::io::AsyncWriteExt::write_all(&mut file, &chunk).await.map_err(NoDocs::disk)?;
        }
        tokio::io::AsyncWriteExt::flush(&mut file).await.map_err(NoDocs::disk)?;
        if size < archive.size {
            return Err(failed(ReadFailure::NoBytes));
        }
        let is_recorded = hash.finish().as_ref() == archive.sha256;
        if is_recorded { Ok(path) } else { Err(failed(ReadFailure::Differs)) }
    }
}

/// Works apart from the threads that answer requests. The turn is held until the work has ended, even if no request waits for it.
async fn in_turn<T: Send + 'static>(
    turn: BulkheadPermit,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, NoDocs> {
    let done = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        work()
    });
    done.await.map_err(|_| NoDocs::Disk)
}

/// Whose share of the reads an archive takes: its namespace's, or if there is no other, its own.
fn tenant(namespace: Option<&str>, key: DocsKey) -> u64 {
    namespace.map_or_else(|| hash_of(key), hash_of)
}

/// The archive's checksum, so that a key never stands for other content, and what its links lead to.
fn key(archive: &Archive, links: &Links) -> DocsKey {
    digest(&archive.sha256, links.base.as_bytes())
}

/// The key of a failure of the object, which another object with the same content does not have.
fn failure_key(key: &DocsKey, archive: &Archive) -> DocsKey {
    digest(key, format!("{:?}", archive.location.location()).as_bytes())
}

fn digest(first: &[u8; 32], second: &[u8]) -> DocsKey {
    let mut hash = Context::new(&SHA256);
    hash.update(first);
    hash.update(second);
    let mut key = [0; 32];
    key.copy_from_slice(hash.finish().as_ref());
    key
}

#[cfg(test)]
mod tests;
