//! The cached Versions by Module, so that a reconcile does not iterate over the Versions of other Modules.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use kube::runtime::reflector::{ObjectRef, Store};

use super::select::Selection;
use super::view::ModuleView;
use crate::api::ADOPT;
use crate::api::state::VersionState;
use crate::domain::Mutex;

/// The cache of Versions, with an index.
pub struct Versions {
    pub cache: Store<VersionState>,
    index: Mutex<HashMap<Group, HashSet<Box<str>>>>,
    /// The names of the Modules that control Versions, by namespace and name of the Version.
    controlling: Mutex<HashMap<String, Box<str>>>,
}

/// What Versions have in common. Each is in one group at most.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Group {
    /// The controller with this UID in this namespace. A copy of a Version in another namespace names the same one.
    Owner(Box<str>, Box<str>),
    /// No controller, and the annotation `adopt` with this namespace and name of a Module.
    Adopt(Box<str>, Box<str>),
}

impl Group {
    fn of(version: &VersionState) -> Option<Self> {
        let namespace = version.namespace().into();
        if let Some(owner) = version.controller() {
            return Some(Self::Owner(namespace, owner.uid.as_str().into()));
        }
        Some(Self::Adopt(namespace, version.annotation(ADOPT)?.into()))
    }
}

impl Versions {
    pub fn new(cache: Store<VersionState>) -> Self {
        Self { cache, index: Mutex::default(), controlling: Mutex::default() }
    }

    /// Records a Version that was added or changed. Returns the name of the Module that controlled it before, if it no longer
    /// does: that Module has to be queued, and the Version does not name it any more.
    pub fn record(&self, version: &VersionState) -> Option<Box<str>> {
        if let Some(group) = Group::of(version) {
            let mut index = self.index.lock();
            let names = index.entry(group).or_default();
            if !names.contains(version.name()) {
                names.insert(version.name().into());
            }
        }
        let (key, mut controlling) = (key(version), self.controlling.lock());
        let Some(module) = version.module() else { return controlling.remove(&key) };
        controlling.insert(key, module.name.as_str().into()).filter(|before| **before != *module.name)
    }

    /// Forgets the Versions that were deleted while their watch was interrupted.
    pub fn forget_missing(&self) {
        let present: HashSet<String> = self.cache.state().iter().map(|version| key(version)).collect();
        self.controlling.lock().retain(|version, _| present.contains(version));
    }

    /// Forgets a Version that was deleted.
    pub fn forget(&self, version: &VersionState) {
        self.controlling.lock().remove(&key(version));
        let Some(group) = Group::of(version) else { return };
        let mut index = self.index.lock();
        if let Some(names) = index.get_mut(&group)
            && names.remove(version.name())
            && names.is_empty()
        {
            index.remove(&group);
        }
    }

    /// The Versions whose controller has this UID, and which are in this namespace.
    pub fn owned(&self, namespace: &str, uid: &str) -> Vec<Arc<VersionState>> {
        self.of(namespace, &Group::Owner(namespace.into(), uid.into()))
    }

    /// The Versions that a Module owns, and those without an owner that are to be adopted by it.
    pub fn of_module(&self, namespace: &str, name: &str, uid: &str) -> Vec<Arc<VersionState>> {
        let mut versions = self.owned(namespace, uid);
        versions.extend(self.of(namespace, &Group::Adopt(namespace.into(), name.into())));
        versions
    }

    /// The Versions with a wanted name that are not those of the Module.
    pub fn others(&self, module: &ModuleView, selection: &Selection) -> Vec<Arc<VersionState>> {
        let named = selection.wanted.iter().filter_map(|wanted| self.named(module.namespace(), &wanted.name));
        named.filter(|version| !module.owns(version) && !module.is_to_adopt(version)).collect()
    }

    fn named(&self, namespace: &str, name: &str) -> Option<Arc<VersionState>> {
        self.cache.get(&ObjectRef::new(name).within(namespace))
    }

    fn of(&self, namespace: &str, group: &Group) -> Vec<Arc<VersionState>> {
        let mut index = self.index.lock();
        let Some(names) = index.get_mut(group) else { return Vec::new() };
        let mut versions = Vec::with_capacity(names.len());
        // A Version may have changed its group, or disappeared while the watch was interrupted.
        names.retain(|name| {
            let version =
                self.named(namespace, name).filter(|version| Group::of(version).as_ref() == Some(group));
            let is_current = version.is_some();
            versions.extend(version);
            is_current
        });
        if names.is_empty() {
            index.remove(group);
        }
        versions
    }
}

fn key(version: &VersionState) -> String {
    format!("{}/{}", version.namespace(), version.name())
}

#[cfg(test)]
mod tests {
    use kube::runtime::reflector;
    use kube::runtime::watcher::Event;
    use serde_json::{Value, json};

    use super::*;

    fn version(name: &str, metadata: &Value) -> VersionState {
        let mut object = json!({"metadata": metadata, "spec": {"type": "Module", "version": "1.0.0"}});
        object["metadata"]["name"] = json!(name);
        object["metadata"]["namespace"] = json!("acme");
        serde_json::from_value(object).unwrap()
    }

    fn owned(name: &str, uid: &str) -> VersionState {
        controlled(name, uid, "network")
    }

    fn controlled(name: &str, uid: &str, module: &str) -> VersionState {
        let owner = json!({"apiVersion": "opendepot.defdev.io/v1alpha1", "kind": "Module", "name": module, "uid": uid,
            "controller": true});
        version(name, &json!({"ownerReferences": [owner]}))
    }

    struct Cache(reflector::store::Writer<VersionState>, Versions);

    impl Cache {
        fn of(versions: &[VersionState]) -> Self {
            let (cache, writer) = reflector::store();
            let mut cache = Self(writer, Versions::new(cache));
            for version in versions {
                cache.apply(version);
            }
            cache
        }

        fn apply(&mut self, version: &VersionState) {
            self.0.apply_watcher_event(&Event::Apply(version.clone()));
            let _ = self.1.record(version);
        }

        fn owned(&self, uid: &str) -> Vec<String> {
            let mut names: Vec<String> =
                self.1.owned("acme", uid).iter().map(|version| version.name().to_owned()).collect();
            names.sort();
            names
        }

        fn groups(&self) -> usize {
            self.1.index.lock().len()
        }
    }

    #[test]
    fn a_version_is_found_by_its_owner_until_it_has_another_one_or_is_gone() {
        let mut cache = Cache::of(&[owned("a", "one"), owned("b", "one"), owned("c", "two")]);
        assert_eq!(
            (cache.owned("one"), cache.owned("two")),
            (vec!["a".into(), "b".into()], vec!["c".into()])
        );
        cache.apply(&owned("b", "two"));
        assert_eq!(
            (cache.owned("one"), cache.owned("two")),
            (vec!["a".to_owned()], vec!["b".into(), "c".into()])
        );
        // Deleted while the watch was interrupted: no event said so.
        cache.0.apply_watcher_event(&Event::Delete(owned("a", "one")));
        assert_eq!(cache.owned("one"), [""; 0]);
        cache.1.forget(&owned("b", "two"));
        cache.1.forget(&owned("c", "two"));
        assert_eq!(cache.groups(), 0, "what is gone takes no memory");
    }

    #[test]
    fn the_deletion_of_a_copy_in_another_namespace_loses_no_version() {
        let (cache, mut copy) = (Cache::of(&[owned("a", "one")]), owned("a", "one"));
        copy.metadata.namespace = Some("beta".into());
        let _ = cache.1.record(&copy);
        cache.1.forget(&copy);
        assert_eq!(cache.owned("one"), ["a"]);
    }

    #[test]
    fn the_module_that_no_longer_controls_a_version_is_named_once() {
        let cache = Cache::of(&[]);
        let bare = version("a", &json!({}));
        for (state, expected) in [
            (controlled("a", "one", "net"), None),
            (controlled("a", "one", "net"), None),
            (controlled("b", "one", "net"), None),
            (controlled("a", "two", "other"), Some("net")),
            (bare.clone(), Some("other")),
            (bare, None),
            (controlled("a", "one", "net"), None),
        ] {
            assert_eq!(cache.1.record(&state).as_deref(), expected, "{state:?}");
        }
        cache.1.forget(&owned("a", "one"));
        assert_eq!(cache.1.controlling.lock().len(), 1);
        cache.1.forget_missing();
        assert_eq!(cache.1.controlling.lock().len(), 0, "what is gone takes no memory");
    }

    #[test]
    fn a_module_is_concerned_by_wanted_names_and_by_versions_that_name_it() {
        let cache = Cache::of(&[
            owned("network-1.0.0", "uid-of-network"),
            owned("network-2.0.0", "another"),
            version("network-3.0.0", &json!({})),
            version("restored", &json!({"annotations": {ADOPT: "network"}})),
            version("of-another", &json!({"annotations": {ADOPT: "net"}})),
            owned("unrelated", "another"),
        ]);
        let module = json!({"metadata": {"name": "network", "namespace": "acme", "uid": "uid-of-network"}, "spec": {
            "versions": [{"version": "1.0.0"}, {"version": "2.0.0"}, {"version": "3.0.0"}, {"version": "4.0.0"}],
            "moduleConfig": {},
        }});
        let module = ModuleView::take_from(&mut serde_json::from_value(module).unwrap());
        let selection = super::super::select::select(&module, &[]);
        assert_eq!(selection.wanted.len(), 4);
        let names = |versions: Vec<Arc<VersionState>>| {
            let mut names: Vec<String> = versions.iter().map(|version| version.name().to_owned()).collect();
            names.sort();
            names
        };
        assert_eq!(names(cache.1.others(&module, &selection)), ["network-2.0.0", "network-3.0.0"]);
        let own = cache.1.of_module("acme", "network", "uid-of-network");
        assert_eq!(names(own), ["network-1.0.0", "restored"]);
    }
}
