//! How many Modules are served, and why the others are not. Pure.

use std::collections::BTreeMap;

use crate::api::state::ModuleListing;

/// What the metrics show of all Modules, served or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct States {
    /// The number of Modules in each state.
    pub counts: BTreeMap<&'static str, i64>,
    /// A namespace with Modules whose name is an alias.
    pub shadowed: Option<String>,
}

impl Default for States {
    fn default() -> Self {
        let names = [SHADOWED, "served", "not_addressable", "address_taken", "waiting"];
        Self { counts: names.map(|name| (name, 0)).into(), shadowed: None }
    }
}

impl States {
    /// Adds a number of Modules in a state.
    pub fn add(&mut self, state: &'static str, count: i64) {
        *self.counts.entry(state).or_default() += count;
    }

    /// Whether there are Modules that no address leads to, because an alias has the name of their namespace.
    pub fn has_shadowed(&self) -> bool {
        self.counts.get(SHADOWED).is_some_and(|count| *count > 0)
    }
}

/// The state of a Module whose namespace has the name of an alias.
pub const SHADOWED: &str = "shadowed";

/// The state of another Module.
pub fn state(module: &ModuleListing) -> &'static str {
    match &module.claim {
        Err(_) => "not_addressable",
        Ok(_) if module.address().is_some() => "served",
        Ok(_) if module.is_refused => "address_taken",
        Ok(_) => "waiting",
    }
}
