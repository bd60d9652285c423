//! What the pages show of a Module, served or not.

use std::collections::HashMap;
use std::sync::Arc;

use crate::api::claim::NotAddressable;
use crate::api::state::{ModuleListing, StoredLocation, VersionState};
use crate::domain::{Address, Release};
use crate::storage::StorageRules;

use super::served::ServedModule;
use super::states::NotServed;

/// A Module as the pages show it.
#[derive(Clone, Debug)]
pub struct Entry {
    pub namespace: Box<str>,
    /// `metadata.name`.
    pub object: Box<str>,
    /// The address that it claims.
    pub claim: Result<Address, NotAddressable>,
    /// The publisher's description.
    pub description: Option<Box<str>>,
    /// Why it is not served; `None` if it is.
    pub not_served: Option<NotServed>,
    /// Why it is not served, in the words of its condition: for those who may read the Module.
    pub message: Option<Box<str>>,
    pub served: Option<Arc<ServedModule>>,
    /// Versions that it lists and that are not stored, in descending order of precedence.
    pub missing: Box<[Missing]>,
}

/// A version that is listed and not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    pub release: Release,
    pub why: WhyMissing,
    /// Why it is withdrawn, if it is.
    pub withdrawn: Option<Box<str>>,
}

/// Why a version is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WhyMissing {
    /// It has no Version.
    NoVersion,
    /// The first reconcile of its Version has not ended.
    Publishing,
    /// Its Version is not Ready.
    NotReady {
        /// The reason of the condition.
        reason: Arc<str>,
        /// The beginning of its message, for those who may read the Module, which repeats it.
        message: Arc<str>,
    },
    /// It is stored, but this registry's `--allow-storage` or `--s3-endpoint` does not allow its location.
    NotAllowed,
    /// It is stored, but its Module is not served, or it is not of a form or at a location that a registry serves.
    NotServed,
}

impl WhyMissing {
    /// Whether it is stored nevertheless.
    pub fn is_stored(&self) -> bool {
        matches!(self, Self::NotAllowed | Self::NotServed)
    }

    pub(super) fn of(version: &VersionState, rules: &StorageRules) -> Self {
        let status = &version.status;
        let stored = status.storage.as_ref().filter(|_| status.synced).map(StoredLocation::location);
        if stored.is_some_and(|location| rules.check(version.namespace(), &location).is_err()) {
            return Self::NotAllowed;
        }
        match &status.ready {
            None => Self::Publishing,
            Some(ready) if ready.is_true => Self::NotServed,
            Some(ready) => {
                Self::NotReady { reason: Arc::clone(&ready.reason), message: Arc::from(&*status.message) }
            }
        }
    }
}

impl Entry {
    /// Whether it is served without a version that is stored, since this registry may not read it.
    pub(super) fn is_limited(&self) -> bool {
        self.not_served.is_none() && self.missing.iter().any(|missing| missing.why == WhyMissing::NotAllowed)
    }

    /// Whether there are messages of conditions, which are for those who may read the Module.
    pub fn has_messages(&self) -> bool {
        let has_message = |missing: &Missing| matches!(missing.why, WhyMissing::NotReady { .. });
        self.message.is_some() || self.missing.iter().any(has_message)
    }
}

/// The entry of a Module.
pub fn entry<'a>(
    module: &ModuleListing,
    not_served: Option<NotServed>,
    served: Option<Arc<ServedModule>>,
    missing: impl Iterator<Item = (&'a Release, &'a WhyMissing)>,
) -> Entry {
    let mut reasons: HashMap<&Release, &WhyMissing> = HashMap::new();
    for (release, why) in missing {
        reasons.entry(release).or_insert(why);
    }
    let is_stored = |release| served.as_ref().is_some_and(|served| served.stored(release).is_some());
    let missing = module.versions.iter().rev().filter(|listed| !is_stored(&listed.release));
    let missing = missing.map(|listed| Missing {
        release: listed.release.clone(),
        why: reasons.get(&listed.release).map_or(WhyMissing::NoVersion, |why| (*why).clone()),
        withdrawn: listed.withdrawn.clone(),
    });
    let claim = || module.claim.as_ref().err().map(|why| why.to_string().into());
    let explained = not_served.filter(|why| *why != NotServed::Deleting);
    let message = explained.and_then(|_| module.refusal.clone().or_else(claim));
    Entry {
        message,
        namespace: module.namespace().into(),
        object: module.name().into(),
        claim: module.claim.clone(),
        description: module.description.clone(),
        not_served,
        missing: missing.collect(),
        served,
    }
}
