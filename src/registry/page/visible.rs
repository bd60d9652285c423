//! The Modules that pages show to an identity: those that it may download.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::requester::Requester;
use crate::registry::auth::{Access, Denied, ModuleRef, Right};
use crate::registry::index::Entry;

/// Modules of a namespace that are reviewed one by one, if there is no right to the whole namespace.
const ONE_BY_ONE: usize = 100;
/// The same in all namespaces together: the number of reviews of an identity is limited.
const ONE_BY_ONE_IN_ALL: usize = 200;
/// Reviews at once.
const AT_ONCE: usize = 8;
/// How long a list waits for its reviews. Later results are remembered for the next request.
const LIST_WAIT: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 5 });

/// The entries to which the viewer has a right.
#[derive(Default)]
pub(super) struct Visible {
    /// In their order.
    pub entries: Vec<Arc<Entry>>,
    /// Whether some entries were not reviewed, since there are too many: the viewer may have a right to them.
    pub is_part: bool,
}

/// The entries to which the viewer has a right, as far as they can be reviewed.
pub(super) async fn visible(
    access: &Access,
    requester: &Requester,
    right: Right,
    entries: Vec<Arc<Entry>>,
) -> Result<Visible, Denied> {
    let permitted = tokio::time::timeout(LIST_WAIT, permitted(access, requester, right, entries));
    permitted.await.unwrap_or(Err(Denied::API_SERVER))
}

/// The same without a limit of time. Each namespace is reviewed as a whole first. If that is denied, its first hundred Modules
/// are reviewed one by one. What the limits of reviews do not permit to review is not shown; if nothing is shown because of them,
/// that is an error, as is any other review without an answer.
async fn permitted(
    access: &Access,
    requester: &Requester,
    right: Right,
    entries: Vec<Arc<Entry>>,
) -> Result<Visible, Denied> {
    let mut namespaces: BTreeMap<Box<str>, Vec<Arc<Entry>>> = BTreeMap::new();
    for entry in entries {
        namespaces.entry(entry.namespace.clone()).or_default().push(entry);
    }
    let limited = &OnceLock::new();
    // `None` if the limits of reviews do not permit the review.
    let has = |namespace: Box<str>, object: Box<str>| async move {
        // `""` is all of a namespace.
        let module = ModuleRef { namespace: &namespace, name: &object, system: "", holder: Some(&object) };
        match access.sees(&requester.identity, requester.peer, right, module).await {
            Err(denied @ Denied::TooMany { .. }) => {
                limited.get_or_init(|| denied);
                Ok(None)
            }
            outcome => outcome.map(Some),
        }
    };
    let (left, is_part) = (AtomicUsize::new(ONE_BY_ONE_IN_ALL), AtomicBool::new(false));
    let may_ask = |position: usize| {
        let may =
            position < ONE_BY_ONE && left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok();
        if !may {
            is_part.store(true, Relaxed);
        }
        may
    };
    let namespaces = stream::iter(namespaces.into_iter().map(|(namespace, entries)| async move {
        match has(namespace, "".into()).await? {
            Some(true) => return Ok(entries),
            Some(false) => {}
            None => return Ok(Vec::new()),
        }
        let selected = entries.into_iter().enumerate().take_while(|(position, _)| may_ask(*position));
        let one_by_one = stream::iter(selected.map(|(_, entry)| async move {
            let has = has(entry.namespace.clone(), entry.object.clone()).await?;
            Ok(has.unwrap_or(false).then_some(entry))
        }));
        let permitted: Vec<Option<Arc<Entry>>> = one_by_one.buffered(AT_ONCE).try_collect().await?;
        Ok(permitted.into_iter().flatten().collect())
    }));
    let permitted: Vec<Vec<Arc<Entry>>> = namespaces.buffered(AT_ONCE).try_collect().await?;
    let permitted = permitted.concat();
    match limited.get() {
        Some(denied) if permitted.is_empty() => Err(*denied),
        limited => {
            let is_part = limited.is_some() || is_part.into_inner();
            Ok(Visible { entries: permitted, is_part })
        }
    }
}
