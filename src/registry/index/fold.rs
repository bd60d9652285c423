//! The fold of both watches into served modules. Pure: events in, changed modules out.
//!
//! Whatever the order of events, the result equals that of a fresh list.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::assemble::serve;
use super::entry::{Entry, WhyMissing, entry};
use super::served::StoredVersion;
use super::states::{NotServed, States, state};
use crate::api::state::{ModuleListing, VersionState};
use crate::domain::Release;
use crate::registry::aliases::Aliases;
use crate::registry::answers::encoded::Encodings;
use crate::storage::StorageRules;

/// Namespace and name of an object.
type NamespacedName = (Box<str>, Box<str>);

/// A change that a watch reports.
#[derive(Debug)]
pub enum WatchChange<K> {
    /// An object was added or changed.
    Applied(K),
    /// An object was deleted.
    Deleted(K),
    /// All objects of a scope, after a list: a namespace, or the cluster.
    Listed(Option<Box<str>>, Vec<K>),
}

static MODULE_NOT_SERVED: WhyMissing = WhyMissing::NotServed;

/// What is kept of a Version: a list of 10,000 needs less than half of what their whole states would.
#[derive(Debug)]
pub(super) struct KeptVersion {
    at: NamespacedName,
    /// UID of the Module that controls it, and its content.
    owned: Option<(Box<str>, Content)>,
}

#[derive(Debug, PartialEq, Eq)]
enum Content {
    Stored(Arc<StoredVersion>),
    /// The version, and why it cannot be served. In a box, since most Versions are stored.
    Unstored(Box<(Release, WhyMissing)>),
}

impl KeptVersion {
    /// What is kept of a Version, if archives may be read at locations that `rules` permit.
    pub(super) fn of(version: &VersionState, rules: &StorageRules) -> Self {
        let owner = version.module().map(|module| Box::from(module.uid.as_str()));
        let stored = StoredVersion::of(version, rules).map(|stored| Content::Stored(Arc::new(stored)));
        let content = stored.or_else(|| {
            let release = Release::parse(&version.version).ok()?;
            Some(Content::Unstored(Box::new((release, WhyMissing::of(version, rules)))))
        });
        Self { at: key(version.namespace(), version.name()), owned: owner.zip(content) }
    }
}

/// What both watches have reported so far.
#[derive(Debug, Default)]
pub struct Fold {
    /// The locations at which archives may be read.
    pub(super) rules: StorageRules,
    aliases: Aliases,
    modules: HashMap<NamespacedName, ModuleListing>,
    /// The namespace and name of the Module with a UID.
    uids: HashMap<Box<str>, NamespacedName>,
    /// By UID of the Module, then by namespace and name of the Version.
    versions: HashMap<Box<str>, BTreeMap<NamespacedName, Content>>,
    /// The owner of each Version that is kept.
    owners: HashMap<NamespacedName, Box<str>>,
    /// UIDs of Modules to serve again.
    dirty: HashSet<Box<str>>,
    /// The answer to `/versions` of each served Module, by UID, after the last [`Self::updates`].
    listings: HashMap<Box<str>, Arc<Encodings>>,
    states: States,
    /// UIDs of the Modules of which a stored version cannot be read, after the last [`Self::updates`].
    limited: HashSet<Box<str>>,
}

/// The current state of a Module.
#[derive(Clone, Debug)]
pub struct Update {
    pub uid: Box<str>,
    /// How the pages show it, and its served form; `None` if it is gone.
    pub entry: Option<Arc<Entry>>,
    /// Whether it has a version at a location that the rules do not allow, and had none before.
    pub is_newly_limited: bool,
}

impl Fold {
    /// Archives at other locations than `rules` permit are not served, nor are Modules of a namespace that has the name of an
    /// alias.
    pub fn new(rules: StorageRules, aliases: Aliases) -> Self {
        Self { rules, aliases, ..Self::default() }
    }

    /// Applies a change of a Module.
    pub fn module(&mut self, change: WatchChange<ModuleListing>) {
        match change {
            WatchChange::Applied(module) => self.put_module(module),
            WatchChange::Deleted(module) => self.drop_module(&key(module.namespace(), module.name())),
            WatchChange::Listed(scope, modules) => {
                let listed: HashSet<NamespacedName> =
                    modules.iter().map(|module| key(module.namespace(), module.name())).collect();
                for key in gone(self.modules.keys(), scope.as_deref(), |key| listed.contains(key)) {
                    self.drop_module(&key);
                }
                for module in modules {
                    self.put_module(module);
                }
            }
        }
    }

    /// Applies a change of a Version.
    pub(super) fn kept_version(&mut self, change: WatchChange<KeptVersion>) {
        match change {
            WatchChange::Applied(version) => self.put_version(version),
            WatchChange::Deleted(version) => self.drop_version(&version.at),
            WatchChange::Listed(scope, versions) => {
                let listed: HashSet<&NamespacedName> = versions.iter().map(|version| &version.at).collect();
                for key in gone(self.owners.keys(), scope.as_deref(), |key| listed.contains(key)) {
                    self.drop_version(&key);
                }
                for version in versions {
                    self.put_version(version);
                }
            }
        }
    }

    /// The Modules that were changed since the last call, as they are served now.
    pub fn updates(&mut self) -> Vec<Update> {
        let dirty = std::mem::take(&mut self.dirty);
        dirty.into_iter().map(|uid| self.update(uid)).collect()
    }

    fn update(&mut self, uid: Box<str>) -> Update {
        let entry = self.entry(&uid).map(Arc::new);
        let is_limited = entry.as_ref().is_some_and(|entry| entry.is_limited());
        let was_limited = self.limited.remove(&uid);
        if is_limited {
            self.limited.insert(uid.clone());
        }
        let listing = entry.as_ref().and_then(|entry| entry.served.as_ref()?.listing.clone());
        self.listings.remove(&uid);
        self.listings.extend(listing.map(|listing| (uid.clone(), listing)));
        Update { uid, entry, is_newly_limited: is_limited && !was_limited }
    }

    /// What the metrics show of all Modules, served or not, after the last [`Self::updates`].
    pub fn states(&self) -> States {
        let shadowed = || self.modules.values().find(|module| self.is_shadowed(module));
        let shadowed = self.states.has_shadowed().then(shadowed).flatten();
        let mut states =
            States { shadowed: shadowed.map(|module| module.namespace().into()), ..self.states.clone() };
        states.limit(self.limited.len());
        states
    }

    /// Whether no address leads to this Module, because an alias has the name of its namespace.
    fn is_shadowed(&self, module: &ModuleListing) -> bool {
        self.aliases.shadows(module.namespace())
    }

    fn not_served(&self, module: &ModuleListing) -> Option<NotServed> {
        NotServed::of(module, self.is_shadowed(module))
    }

    fn entry(&self, uid: &str) -> Option<Entry> {
        let module = self.modules.get(self.uids.get(uid)?)?;
        let not_served = self.not_served(module);
        let versions = self.versions.get(uid).into_iter().flatten();
        // A Version of another namespace cannot be owned, whatever its owner reference says.
        let own = versions.filter(|((namespace, _), _)| **namespace == *module.namespace());
        let (mut stored, mut missing) = (Vec::new(), Vec::new());
        for ((_, name), version) in own {
            match version {
                Content::Stored(version) => stored.push((&**name, version)),
                Content::Unstored(version) => missing.push((&version.0, &version.1)),
            }
        }
        let served = if not_served.is_none() {
            serve(module, stored.into_iter(), self.listings.get(uid))
        } else {
            missing.extend(stored.into_iter().map(|(_, version)| (&version.release, &MODULE_NOT_SERVED)));
            None
        };
        Some(entry(module, not_served, served.map(Arc::new), missing.into_iter()))
    }

    fn put_module(&mut self, mut module: ModuleListing) {
        let (at, uid): (NamespacedName, Box<str>) =
            (key(module.namespace(), module.name()), module.uid().into());
        // Each write changes it, and no answer has it.
        module.metadata.resource_version = None;
        // Most writes change nothing that is served, and it takes milliseconds to assemble a Module of 5,000 versions.
        if self.modules.get(&at) == Some(&module) {
            return;
        }
        self.drop_module(&at);
        self.states.add(state(self.not_served(&module)), 1);
        self.dirty.insert(uid.clone());
        self.uids.insert(uid, at.clone());
        self.modules.insert(at, module);
    }

    fn drop_module(&mut self, at: &NamespacedName) {
        if let Some(module) = self.modules.remove(at) {
            self.states.add(state(self.not_served(&module)), -1);
            self.uids.remove(module.uid());
            self.dirty.insert(module.uid().into());
        }
    }

    fn put_version(&mut self, KeptVersion { at, owned }: KeptVersion) {
        let kept = self.owners.get(&at).and_then(|owner| Some((owner, self.versions.get(owner)?.get(&at)?)));
        if kept == owned.as_ref().map(|(owner, content)| (owner, content)) {
            return;
        }
        self.drop_version(&at);
        let Some((owner, content)) = owned else { return };
        self.versions.entry(owner.clone()).or_default().insert(at.clone(), content);
        self.dirty.insert(owner.clone());
        self.owners.insert(at, owner);
    }

    fn drop_version(&mut self, at: &NamespacedName) {
        let Some(owner) = self.owners.remove(at) else { return };
        if let Some(versions) = self.versions.get_mut(&owner) {
            versions.remove(at);
            if versions.is_empty() {
                self.versions.remove(&owner);
            }
        }
        self.dirty.insert(owner);
    }
}

fn key(namespace: &str, name: &str) -> NamespacedName {
    (namespace.into(), name.into())
}

/// The known objects of a scope that are not in its list.
fn gone<'a>(
    known: impl Iterator<Item = &'a NamespacedName>,
    scope: Option<&str>,
    is_listed: impl Fn(&NamespacedName) -> bool,
) -> Vec<NamespacedName> {
    let in_scope = |key: &&NamespacedName| scope.is_none_or(|scope| scope == &*key.0);
    known.filter(in_scope).filter(|&key| !is_listed(key)).cloned().collect()
}
