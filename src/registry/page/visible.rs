//! The Modules that pages show to an identity: those that it may download.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::pages::Pages;
use super::path::Query;
use super::requester::Requester;
use crate::registry::aliases::Aliases;
use crate::registry::auth::{Access, Denied, ModuleRef, Right};
use crate::registry::index::Entry;

/// Modules of a namespace that are reviewed one by one, if there is no right to the whole namespace.
const ONE_BY_ONE: usize = 100;
/// The same in all namespaces together: the number of reviews of an identity is limited.
const ONE_BY_ONE_IN_ALL: usize = 200;
/// Reviews at once.
const AT_ONCE: usize = 16;
/// Seconds after which a list that the limits of reviews do not permit can be requested again.
const LIST_PAUSE: u32 = 30;
/// How long a list waits for its reviews. Later results are remembered for the next request.
const LIST_WAIT: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 5 });

/// The entries to which the viewer has a right.
#[derive(Default)]
pub(super) struct Visible {
    pub entries: Vec<Arc<Entry>>,
    /// Whether some entries were not reviewed, since there are too many: the viewer may have a right to them.
    pub is_part: bool,
}

impl Pages {
    /// The Modules of a list, in their order. Which of them match the query has no effect on what is reviewed: otherwise the time,
    /// and the answers while reviews fail, would show which words the Modules of others contain.
    pub(super) async fn listed(&self, query: &Query, requester: &Requester) -> Result<Visible, Denied> {
        let entries = self.index.entries();
        let (named, has_all) = self.named(&entries, query, requester).await;
        let mut visible = if has_all && query.namespace.is_some() {
            Visible::default()
        } else {
            match visible(&self.access, requester, Right::Download, entries).await {
                Err(Denied::TooMany { .. }) if !named.is_empty() => {
                    Visible { is_part: true, ..Visible::default() }
                }
                visible => visible?,
            }
        };
        visible.entries.extend(named);
        let is_selected = selected(query, &self.aliases);
        visible.entries.retain(|entry| is_selected(entry));
        visible.entries.sort_by(|a, b| (&a.namespace, &a.object).cmp(&(&b.namespace, &b.object)));
        visible.entries.dedup_by(|a, b| Arc::ptr_eq(a, b));
        Ok(visible)
    }

    /// The Modules that the query names, if the viewer has the right to them: all of a namespace (`true`), else at most one. A list
    /// may not come to them within its limits. The rights are reviewed whether or not the namespace or the Module exists.
    async fn named(
        &self,
        entries: &[Arc<Entry>],
        query: &Query,
        requester: &Requester,
    ) -> (Vec<Arc<Entry>>, bool) {
        let Some((namespace, name, system)) = query.named() else { return (Vec::new(), false) };
        let namespace = self.aliases.canonical_namespace(namespace).to_ascii_lowercase();
        let of_namespace: Vec<_> = entries.iter().filter(|entry| *entry.namespace == *namespace).collect();
        // No Module has this system: a denial that is kept from a list, which reviews only namespaces that exist, does not count here.
        let all = ModuleRef { namespace: &namespace, name: "", system: "*", holder: None };
        match self.access.finds(&requester.identity, requester.peer, all).await {
            Ok(true) => return (of_namespace.into_iter().cloned().collect(), true),
            Ok(false) => {}
            // The list decides.
            Err(_) => return (Vec::new(), false),
        }
        let Some(name) = name else { return (Vec::new(), false) };
        let is_named = |entry: &&Arc<Entry>| name_and_system(entry).0.eq_ignore_ascii_case(name);
        let entry = of_namespace
            .into_iter()
            .filter(is_named)
            .max_by_key(|entry| (system == Some(name_and_system(entry).1), entry.served.is_some()));
        // The system decides which Module it is, so a denial counts for that system only.
        let system = format!("{}*", system.unwrap_or_default());
        let module = ModuleRef { name, system: &system, holder: entry.map(|entry| &*entry.object), ..all };
        let is_permitted = self.access.finds(&requester.identity, requester.peer, module).await;
        (entry.filter(|_| is_permitted == Ok(true)).cloned().into_iter().collect(), false)
    }
}

/// Whether a list shows an entry. Words match the aliases of a namespace too.
fn selected<'a>(query: &'a Query, aliases: &'a Aliases) -> impl Fn(&Entry) -> bool + 'a {
    let namespace = query.namespace.as_deref().map(|namespace| aliases.canonical_namespace(namespace));
    let matches = query.matcher();
    move |entry: &Entry| {
        let (name, system) = name_and_system(entry);
        namespace.is_none_or(|namespace| namespace == &*entry.namespace)
            && query.name.as_deref().is_none_or(|wanted| wanted == name)
            && query.provider.as_deref().is_none_or(|provider| provider == system)
            && matches(&text(entry, aliases))
    }
}

/// The text that is searched: the addresses and the description.
fn text(entry: &Entry, aliases: &Aliases) -> String {
    let (name, system) = name_and_system(entry);
    let namespaces = std::iter::once(&*entry.namespace).chain(aliases.of(&entry.namespace));
    let addresses: Vec<String> = namespaces.map(|namespace| format!("{namespace}/{name}/{system}")).collect();
    format!("{} {}", addresses.join(" "), entry.description.as_deref().unwrap_or_default())
}

/// Name and system of the claimed address; of one that claims none, the name of the object.
pub(super) fn name_and_system(entry: &Entry) -> (&str, &str) {
    match &entry.claim {
        Ok(address) => (&address.name, &address.system),
        Err(_) => (&entry.object, ""),
    }
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

/// The same without a limit of time. Each namespace is reviewed as a whole first. Where that is denied, the first hundred Modules
/// are reviewed one by one. What the limits of reviews do not permit to review is not shown; if nothing is shown because of them,
/// that is an error, as is any other review without an answer.
async fn permitted(
    access: &Access,
    requester: &Requester,
    right: Right,
    entries: Vec<Arc<Entry>>,
) -> Result<Visible, Denied> {
    let namespaces = by_namespace(access, requester, right, entries);
    let limited = &OnceLock::new();
    // `None` if the limits of reviews do not permit the review.
    let has = |namespace: Box<str>, object: Box<str>| async move {
        // `""` is all of a namespace.
        let module = ModuleRef { namespace: &namespace, name: &object, system: "", holder: Some(&object) };
        match access.sees(&requester.identity, requester.peer, right, module).await {
            Err(Denied::TooMany { phrase, .. }) => {
                limited.get_or_init(|| Denied::TooMany { phrase, retry_after: LIST_PAUSE });
                Ok(None)
            }
            outcome => outcome.map(Some),
        }
    };
    let namespaces = stream::iter(namespaces.into_iter().map(|(namespace, entries)| async move {
        Ok::<_, Denied>((has(namespace, "".into()).await?, entries))
    }));
    let namespaces: Vec<(Option<bool>, Vec<Arc<Entry>>)> = namespaces.buffered(AT_ONCE).try_collect().await?;
    let (mut permitted, mut one_by_one): (Vec<Arc<Entry>>, Vec<Arc<Entry>>) = (Vec::new(), Vec::new());
    let mut is_part = false;
    for (has_all, entries) in namespaces {
        match has_all {
            Some(true) => permitted.extend(entries),
            Some(false) => {
                is_part |= entries.len() > ONE_BY_ONE;
                one_by_one.extend(entries.into_iter().take(ONE_BY_ONE));
            }
            None => {}
        }
    }
    is_part |= one_by_one.len() > ONE_BY_ONE_IN_ALL;
    one_by_one.truncate(ONE_BY_ONE_IN_ALL);
    let one_by_one = stream::iter(one_by_one.into_iter().map(|entry| async move {
        let has = has(entry.namespace.clone(), entry.object.clone()).await?;
        Ok::<_, Denied>(has.unwrap_or(false).then_some(entry))
    }));
    let one_by_one: Vec<Option<Arc<Entry>>> = one_by_one.buffered(AT_ONCE).try_collect().await?;
    permitted.extend(one_by_one.into_iter().flatten());
    match limited.get() {
        Some(denied) if permitted.is_empty() => Err(*denied),
        limited => Ok(Visible { entries: permitted, is_part: is_part || limited.is_some() }),
    }
}

/// The entries of each namespace. Those to which the viewer had the right are first: the limits of reviews may not permit to review
/// all.
fn by_namespace(
    access: &Access,
    requester: &Requester,
    right: Right,
    entries: Vec<Arc<Entry>>,
) -> Vec<(Box<str>, Vec<Arc<Entry>>)> {
    let mut namespaces: BTreeMap<Box<str>, Vec<Arc<Entry>>> = BTreeMap::new();
    for entry in entries {
        namespaces.entry(entry.namespace.clone()).or_default().push(entry);
    }
    let mut namespaces: Vec<_> = namespaces.into_iter().collect();
    namespaces.sort_by_cached_key(|(namespace, _)| {
        !access.had(&requester.identity, right, ModuleRef { namespace, name: "", system: "", holder: None })
    });
    namespaces
}
