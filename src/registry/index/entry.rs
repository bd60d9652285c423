//! What the pages show of a Module, served or not.

use std::sync::Arc;

use crate::api::claim::NotAddressable;
use crate::api::state::{ModuleListing, VersionState};
use crate::domain::{Address, Release};

use super::problem::Problem;
use super::served::ServedModule;

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
    /// `Ready`, if that is not True.
    pub problem: Option<Problem>,
    /// Its served form.
    pub served: Option<Arc<ServedModule>>,
    /// Versions that it lists and that are not stored, in descending order of precedence.
    pub missing: Box<[Missing]>,
}

/// Why a Module is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotServed {
    /// No client could install it by the address that it claims.
    NotAddressable,
    /// Another Module holds its address.
    AddressTaken,
    /// An alias has the name of its namespace.
    Shadowed,
    /// The Module controller has not given it an address yet.
    Waiting,
}

/// A version that is not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The version.
    pub release: Release,
    /// Why it is not stored; `None` before its first reconcile ended.
    pub problem: Option<Problem>,
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
    pub problem: Option<Problem>,
}

impl Unstored {
    /// What is kept of such a Version.
    pub fn of(version: &VersionState) -> Option<Self> {
        let owner = version.module()?.uid.as_str().into();
        let release = Release::parse(&version.version).ok()?;
        Some(Self { owner, release, problem: Problem::of(version) })
    }
}

/// The entry of a Module.
pub fn entry<'a>(
    module: &ModuleListing,
    is_shadowed: bool,
    served: Option<Arc<ServedModule>>,
    unstored: impl Iterator<Item = &'a Unstored>,
) -> Entry {
    let not_served = match &module.claim {
        _ if served.is_some() => None,
        _ if is_shadowed => Some(NotServed::Shadowed),
        Err(_) => Some(NotServed::NotAddressable),
        Ok(_) if module.is_refused => Some(NotServed::AddressTaken),
        Ok(_) => Some(NotServed::Waiting),
    };
    let known: Vec<&Unstored> = unstored.collect();
    let missing = module
        .versions
        .iter()
        .rev()
        .filter(|listed| served.as_ref().is_none_or(|served| served.stored(&listed.release).is_none()));
    let missing = missing.map(|listed| Missing {
        release: listed.release.clone(),
        problem: known.iter().find(|one| one.release == listed.release).and_then(|one| one.problem.clone()),
        withdrawn: listed.withdrawn.clone(),
    });
    let (reason, message) = (Arc::clone(&module.reason), module.message.clone());
    Entry {
        namespace: module.namespace().into(),
        object: module.name().into(),
        claim: module.claim.clone(),
        description: module.description.clone(),
        not_served,
        problem: (!module.is_ready && !reason.is_empty()).then_some(Problem { reason, message }),
        missing: missing.collect(),
        served,
    }
}
