//! Which Modules an identity sees: those that it may download.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use futures::{StreamExt as _, stream};

use crate::registry::auth::{Access, Asked, Denied, Identity};
use crate::registry::index::Entry;

/// Modules of a namespace that are asked for one by one, where not all may be downloaded.
const ONE_BY_ONE: usize = 100;
/// Questions at once.
const AT_ONCE: usize = 8;

/// The entries that `identity` may download, in the order of `entries`.
///
/// Each namespace is asked for as a whole first. Where that is refused, its first hundred Modules are asked for one by one.
pub(super) async fn visible(
    access: &Access,
    identity: &Arc<Identity>,
    peer: IpAddr,
    entries: Vec<Arc<Entry>>,
) -> Result<Vec<Arc<Entry>>, Denied> {
    let mut namespaces: BTreeMap<Box<str>, Vec<Arc<Entry>>> = BTreeMap::new();
    for entry in entries {
        namespaces.entry(entry.namespace.clone()).or_default().push(entry);
    }
    let namespaces = stream::iter(namespaces.into_values().map(|entries| async move {
        let Some(first) = entries.first() else { return Ok(entries) };
        if access.sees(identity, peer, asked(&first.namespace, "")).await? {
            return Ok(entries);
        }
        let one_by_one = stream::iter(entries.into_iter().take(ONE_BY_ONE).map(|entry| async move {
            let sees = access.sees(identity, peer, asked(&entry.namespace, &entry.object)).await?;
            Ok::<_, Denied>(sees.then_some(entry))
        }));
        let seen: Vec<Result<Option<Arc<Entry>>, Denied>> = one_by_one.buffered(AT_ONCE).collect().await;
        seen.into_iter().filter_map(Result::transpose).collect::<Result<Vec<_>, Denied>>()
    }));
    let seen: Vec<Result<Vec<Arc<Entry>>, Denied>> = namespaces.buffered(AT_ONCE).collect().await;
    Ok(seen.into_iter().collect::<Result<Vec<_>, Denied>>()?.concat())
}

/// A Module, or all of a namespace for `""`.
fn asked<'a>(namespace: &'a str, object: &'a str) -> Asked<'a> {
    Asked { namespace, name: object, system: "", holder: Some(object) }
}
