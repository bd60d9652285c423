//! Which Module is served at which address, and which versions it has. Requests read it; one task writes it.

mod assemble;
pub mod entry;
mod fold;
pub mod served;
mod states;
#[cfg(test)]
mod tests;
pub mod watch;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use tokio::sync::{Semaphore, watch as signal};

use crate::controller::bulkhead::Bulkhead;
use crate::domain::{Address, hash_of};
use crate::registry::http::Peer;

pub use entry::{Entry, Missing, WhyMissing};
pub use fold::{Fold, Update, WatchChange};
pub use served::{ServedModule, ServedVersion};
pub use states::{NotServed, States};

/// How long a request waits for a module or version that this replica has not seen yet: another replica may have listed it.
const INDEX_WAIT: Duration = Duration::from_secs(2);

/// Maximum number of requests that wait, of those with an identity and of those without one.
const WAITING: usize = 256;
/// Waits at once of one address, for requests without an identity. An ingress or a NAT is the address of many clients.
const PER_PEER: usize = 64;

/// The served modules.
#[derive(Debug)]
pub struct Index {
    modules: RwLock<Modules>,
    /// Changes with each update.
    updated: signal::Sender<u64>,
    waiting: Semaphore,
    /// Requests without an identity, apart from the others.
    unidentified: Bulkhead,
}

#[derive(Debug, Default)]
struct Modules {
    /// The Modules that hold an address. Two hold one only if a status was forged: neither is served then.
    by_address: HashMap<Address, Vec<Holder>>,
    /// Every Module, by namespace and name.
    entries: BTreeMap<(Box<str>, Box<str>), Arc<Entry>>,
    /// The entry of each Module, by UID.
    by_uid: HashMap<Box<str>, Arc<Entry>>,
    states: States,
}

/// UID and served form of a Module that holds an address.
type Holder = (Box<str>, Arc<ServedModule>);

impl Default for Index {
    fn default() -> Self {
        Self {
            modules: RwLock::default(),
            updated: signal::Sender::new(0),
            waiting: Semaphore::new(WAITING),
            unidentified: Bulkhead::new(WAITING, PER_PEER),
        }
    }
}

impl Index {
    /// The module at an address, whose namespace is canonical.
    pub fn get(&self, address: &Address) -> Option<Arc<ServedModule>> {
        match self.read().by_address.get(address)?.as_slice() {
            [(_, module)] => Some(Arc::clone(module)),
            _ => None,
        }
    }

    /// What `find` finds at an address, now or after an update within two seconds.
    pub async fn find<T>(
        &self,
        address: &Address,
        find: impl Fn(&Arc<ServedModule>) -> Option<T>,
    ) -> Option<T> {
        let look = || self.get(address).as_ref().and_then(&find);
        self.wait_for(look, || self.waiting.try_acquire().ok()).await
    }

    /// What `look` finds, now or after an update within two seconds, for a request without an identity. One address has a
    /// part of the waits.
    pub async fn find_unidentified<T>(&self, peer: Peer, look: impl Fn() -> Option<T>) -> Option<T> {
        self.wait_for(look, || self.unidentified.try_acquire(hash_of(peer))).await
    }

    /// `begin` permits the wait, and its permit is held until the wait ends.
    async fn wait_for<T, W>(
        &self,
        look: impl Fn() -> Option<T>,
        begin: impl FnOnce() -> Option<W>,
    ) -> Option<T> {
        let mut updated = self.updated.subscribe();
        if let Some(found) = look() {
            return Some(found);
        }
        let _waiting = begin()?;
        let wait = async {
            loop {
                // An error means that the process ends.
                updated.changed().await.ok()?;
                if let Some(found) = look() {
                    return Some(found);
                }
            }
        };
        tokio::time::timeout(INDEX_WAIT, wait).await.ok().flatten()
    }

    /// Every Module, sorted by namespace and name.
    pub fn entries(&self) -> Vec<Arc<Entry>> {
        self.read().entries.values().map(Arc::clone).collect()
    }

    /// The Module that claims an address, served or not: the one that is served there, if there is one.
    pub fn claimant(&self, address: &Address) -> Option<Arc<Entry>> {
        let modules = self.read();
        let first = (Box::from(address.namespace.as_str()), Box::from(""));
        let of_namespace = modules.entries.range(first..);
        let of_namespace = of_namespace.take_while(|((namespace, _), _)| **namespace == *address.namespace);
        let claims = of_namespace.filter(|(_, entry)| entry.claim.as_ref() == Ok(address));
        claims.map(|(_, entry)| entry).max_by_key(|entry| entry.served.is_some()).map(Arc::clone)
    }

    /// A namespace, if Modules of another one are known.
    pub fn beside_others<'a>(&self, namespace: &'a str) -> Option<&'a str> {
        let modules = self.read();
        let ends = [modules.entries.first_key_value(), modules.entries.last_key_value()];
        let is_alone = ends.into_iter().flatten().all(|((of, _), _)| **of == *namespace);
        (!is_alone).then_some(namespace)
    }

    /// What the metrics show of all Modules.
    pub fn states(&self) -> States {
        self.read().states.clone()
    }

    fn read(&self) -> RwLockReadGuard<'_, Modules> {
        self.modules.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies updates. Readers see either all of them or none.
    pub fn apply(&self, updates: Vec<Update>, states: States) {
        {
            let mut modules = self.modules.write().unwrap_or_else(PoisonError::into_inner);
            modules.states = states;
            for update in updates {
                modules.replace(update);
            }
        }
        self.updated.send_modify(|count| *count += 1);
    }
}

impl Modules {
    fn replace(&mut self, Update { uid, entry, .. }: Update) {
        if let Some(old) = self.by_uid.remove(&uid) {
            self.forget(&uid, &old);
        }
        let Some(entry) = entry else { return };
        if let Some(served) = &entry.served {
            self.by_address
                .entry(served.address.clone())
                .or_default()
                .push((uid.clone(), Arc::clone(served)));
        }
        self.entries.insert(key(&entry), Arc::clone(&entry));
        self.by_uid.insert(uid, entry);
    }

    fn forget(&mut self, uid: &str, old: &Arc<Entry>) {
        // A new Module may have the same name.
        if self.entries.get(&key(old)).is_some_and(|entry| Arc::ptr_eq(entry, old)) {
            self.entries.remove(&key(old));
        }
        let Some(served) = &old.served else { return };
        if let Some(held) = self.by_address.get_mut(&served.address) {
            held.retain(|(holder, _)| **holder != *uid);
            if held.is_empty() {
                self.by_address.remove(&served.address);
            }
        }
    }
}

fn key(entry: &Entry) -> (Box<str>, Box<str>) {
    (entry.namespace.clone(), entry.object.clone())
}
