//! What the pages show of a Module, served or not.

use std::collections::HashMap;
use std::sync::Arc;

use crate::api::claim::NotAddressable;
use crate::api::state::{ModuleListing, VersionState};
use crate::domain::{Address, Release};

use super::served::ServedModule;
use super::states::NotServed;

/// A Module as the pages show it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its namespace.
    pub namespace: Box<str>,
    /// `metadata.name`.
    pub object: Box<str>,
    /// The address that it claims.
    pub claim: Result<Address, NotAddressable>,
    /// The publisher's description.
    pub description: Option<Box<str>>,
    /// Why it is not served; `None` if it is.
    pub not_served: Option<NotServed>,
    /// Its served form.
    pub served: Option<Arc<ServedModule>>,
    /// Versions that it lists and that are not stored, in descending order of precedence.
    pub missing: Box<[Missing]>,
}

/// A version that is not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The version.
    pub release: Release,
    /// Why it is not stored, as the reason of `Ready`; `None` before its first reconcile ended.
    pub problem: Option<Arc<str>>,
    /// Why it is withdrawn, if it is.
    pub withdrawn: Option<Box<str>>,
}

/// A Version that its Module owns and that cannot be served.
#[derive(Clone, Debug)]
pub struct Unstored {
    /// UID of its controlling Module.
    pub owner: Box<str>,
    /// The version.
    pub release: Release,
    /// Why it is not stored.
    pub problem: Option<Arc<str>>,
}

impl Unstored {
    /// What is kept of such a Version.
    pub fn of(version: &VersionState) -> Option<Self> {
        let owner = version.module()?.uid.as_str().into();
        let release = Release::parse(&version.version).ok()?;
        Some(Self { owner, release, problem: problem(version) })
    }
}

/// The reason of a Version's `Ready` that is not True.
pub fn problem(version: &VersionState) -> Option<Arc<str>> {
    let ready = version.status.ready.as_ref().filter(|ready| !ready.is_true)?;
    Some(Arc::clone(&ready.reason))
}

/// The entry of a Module.
pub fn entry<'a>(
    module: &ModuleListing,
    not_served: Option<NotServed>,
    served: Option<Arc<ServedModule>>,
    unstored: impl Iterator<Item = &'a Unstored>,
) -> Entry {
    let mut problems: HashMap<&Release, &Option<Arc<str>>> = HashMap::new();
    for version in unstored {
        problems.entry(&version.release).or_insert(&version.problem);
    }
    let is_stored = |release| served.as_ref().is_some_and(|served| served.stored(release).is_some());
    let missing = module.versions.iter().rev().filter(|listed| !is_stored(&listed.release));
    let missing = missing.map(|listed| Missing {
        release: listed.release.clone(),
        problem: problems.get(&listed.release).and_then(|problem| (*problem).clone()),
        withdrawn: listed.withdrawn.clone(),
    });
    Entry {
        namespace: module.namespace().into(),
        object: module.name().into(),
        claim: module.claim.clone(),
        description: module.description.clone(),
        not_served,
        missing: missing.collect(),
        served,
    }
}
