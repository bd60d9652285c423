//! How many Modules are served, and why the others are not. Pure.

use std::collections::BTreeMap;

use crate::api::state::ModuleListing;

/// What the metrics show of all Modules, served or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct States {
    /// The number of Modules in each state.
    pub counts: BTreeMap<&'static str, i64>,
    /// A namespace with Modules whose name is an alias: no address leads to them.
    pub shadowed: Option<String>,
}

impl Default for States {
    fn default() -> Self {
        let names = [SHADOWED, SERVED, LIMITED, "not_addressable", "address_taken", "waiting", "deleting"];
        Self { counts: names.map(|name| (name, 0)).into(), shadowed: None }
    }
}

impl States {
    /// Adds a number of Modules in a state.
    pub fn add(&mut self, state: &'static str, count: i64) {
        *self.counts.entry(state).or_default() += count;
    }

    /// Counts a number of the served Modules as served without some of their stored versions.
    pub(super) fn limit(&mut self, modules: usize) {
        let modules = i64::try_from(modules).unwrap_or(i64::MAX);
        self.add(SERVED, -modules);
        self.add(LIMITED, modules);
    }

    /// Whether there are Modules that no address leads to, because an alias has the name of their namespace.
    pub fn has_shadowed(&self) -> bool {
        self.counts.get(SHADOWED).is_some_and(|count| *count > 0)
    }
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
    /// It is being deleted.
    Deleting,
}

impl NotServed {
    /// Why a Module is not served; `None` if it is.
    pub fn of(module: &ModuleListing, is_shadowed: bool) -> Option<Self> {
        match &module.claim {
            _ if is_shadowed => Some(Self::Shadowed),
            _ if module.metadata.deletion_timestamp.is_some() => Some(Self::Deleting),
            Err(_) => Some(Self::NotAddressable),
            Ok(_) if module.address().is_some() => None,
            Ok(_) if module.is_refused => Some(Self::AddressTaken),
            Ok(_) => Some(Self::Waiting),
        }
    }
}

/// The state of a Module in the metrics.
pub(super) fn state(not_served: Option<NotServed>) -> &'static str {
    match not_served {
        None => SERVED,
        Some(NotServed::NotAddressable) => "not_addressable",
        Some(NotServed::AddressTaken) => "address_taken",
        Some(NotServed::Shadowed) => SHADOWED,
        Some(NotServed::Waiting) => "waiting",
        Some(NotServed::Deleting) => "deleting",
    }
}

const SERVED: &str = "served";
/// The state of a served Module of which the registry may not read a stored version.
const LIMITED: &str = "location_not_allowed";
/// The state of a Module whose namespace has the name of an alias.
const SHADOWED: &str = "shadowed";
