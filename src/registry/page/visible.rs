//! Which Modules an identity sees: those that it may download.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::seer::Seer;
use crate::registry::auth::{Access, Asked, Denied, Right};
use crate::registry::index::Entry;

/// Modules of a namespace that are asked for one by one, where not all may be downloaded.
const ONE_BY_ONE: usize = 100;
/// The same in all namespaces together: an identity may cause a limited number of reviews.
const ONE_BY_ONE_IN_ALL: usize = 200;
/// Questions at once.
const AT_ONCE: usize = 8;
/// How long a list waits for the answers. Those that come later are known when the list is asked for again.
const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 5 });

/// The entries that the viewer may download, in their order.
pub(super) async fn visible(
    access: &Access,
    seer: &Seer,
    entries: Vec<Arc<Entry>>,
) -> Result<Vec<Arc<Entry>>, Denied> {
    let permitted = tokio::time::timeout(PATIENCE, permitted(access, seer, Right::Download, entries));
    permitted.await.unwrap_or(Err(Denied::api_server()))
}

/// The entries whose messages the viewer may read: none where that is not known.
pub(super) async fn readable(access: &Access, seer: &Seer, entries: Vec<Arc<Entry>>) -> Vec<Arc<Entry>> {
    let permitted = tokio::time::timeout(PATIENCE, permitted(access, seer, Right::Read, entries));
    permitted.await.unwrap_or(Err(Denied::api_server())).unwrap_or_default()
}

/// The entries to which the viewer has a right. Each namespace is asked for as a whole first. Where that is refused, its first
/// hundred Modules are asked for one by one, as far as the limits of reviews permit: what is not asked for is not shown. Any
/// other question without an answer ends it.
async fn permitted(
    access: &Access,
    seer: &Seer,
    right: Right,
    entries: Vec<Arc<Entry>>,
) -> Result<Vec<Arc<Entry>>, Denied> {
    let mut namespaces: BTreeMap<Box<str>, Vec<Arc<Entry>>> = BTreeMap::new();
    for entry in entries {
        namespaces.entry(entry.namespace.clone()).or_default().push(entry);
    }
    let has = |namespace: Box<str>, object: Box<str>| async move {
        // `""` is all of a namespace.
        let asked = Asked { namespace: &namespace, name: &object, system: "", holder: Some(&object) };
        access.sees(&seer.identity, seer.peer.network(), right, asked).await
    };
    let left = AtomicUsize::new(ONE_BY_ONE_IN_ALL);
    let may_ask = || left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok();
    let namespaces = stream::iter(namespaces.into_iter().map(|(namespace, entries)| async move {
        if has(namespace, "".into()).await? {
            return Ok(entries);
        }
        let asked = entries.into_iter().take(ONE_BY_ONE).take_while(|_| may_ask());
        let one_by_one = stream::iter(asked.map(|entry| async move {
            match has(entry.namespace.clone(), entry.object.clone()).await {
                Ok(has) => Ok(has.then_some(entry)),
                Err(Denied::TooMany { .. }) => Ok(None),
                Err(denied) => Err(denied),
            }
        }));
        let permitted: Vec<Option<Arc<Entry>>> = one_by_one.buffered(AT_ONCE).try_collect().await?;
        Ok(permitted.into_iter().flatten().collect())
    }));
    let permitted: Vec<Vec<Arc<Entry>>> = namespaces.buffered(AT_ONCE).try_collect().await?;
    Ok(permitted.concat())
}
