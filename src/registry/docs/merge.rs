//! Puts the files of a folder together, as Terraform does: override files change what the others declare.

use std::collections::{BTreeMap, BTreeSet};

use super::model::{Folder, Input, ModuleCall, Output, Provider};

/// Applies an override file to a folder: a value that it sets replaces the one before. It adds no declarations.
/// (<https://developer.hashicorp.com/terraform/language/files/override>)
pub(super) fn override_with(folder: &mut Folder, file: Folder) {
    if !file.required_version.is_empty() {
        folder.required_version = file.required_version;
    }
    let mut inputs = by_name(&mut folder.inputs, |input| input.name.clone());
    for over in file.inputs {
        if let Some(base) = inputs.get_mut(&over.name) {
            set(&mut base.type_, over.type_);
            set(&mut base.default, over.default);
            set(&mut base.description, over.description);
            set(&mut base.sensitive, over.sensitive);
            set(&mut base.nullable, over.nullable);
            set(&mut base.ephemeral, over.ephemeral);
            set(&mut base.deprecated, over.deprecated);
        }
    }
    let mut outputs = by_name(&mut folder.outputs, |output| output.name.clone());
    for over in file.outputs {
        if let Some(base) = outputs.get_mut(&over.name) {
            set(&mut base.description, over.description);
            set(&mut base.sensitive, over.sensitive);
            set(&mut base.ephemeral, over.ephemeral);
            set(&mut base.deprecated, over.deprecated);
        }
    }
    let mut calls = by_name(&mut folder.calls, |call| call.name.clone());
    for over in file.calls {
        if let Some(base) = calls.get_mut(&over.name) {
            set(&mut base.source, over.source);
            set(&mut base.version, over.version);
        }
    }
    // A `provider` block replaces no entry of `required_providers`, nor the other way round.
    let required: Vec<Provider> = file.providers.into_iter().filter(Provider::is_requirement).collect();
    let replaced: BTreeSet<_> = required.iter().map(|over| (&over.name, over.is_block)).collect();
    folder.providers.retain(|base| !replaced.contains(&(&base.name, base.is_block)));
    folder.providers.extend(required);
}

fn by_name<T>(items: &mut [T], name: impl Fn(&T) -> String) -> BTreeMap<String, &mut T> {
    items.iter_mut().map(|item| (name(item), item)).collect()
}

fn set<T>(slot: &mut Option<T>, value: Option<T>) {
    if value.is_some() {
        *slot = value;
    }
}

impl Provider {
    /// A provider without requirements.
    pub(super) fn named(name: &str) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    fn is_requirement(&self) -> bool {
        self.source.is_some() || self.version.is_some() || !self.aliases.is_empty()
    }
}

/// The most items of a list that are kept.
const ITEMS: usize = 2000;

/// Sorts all lists, and keeps the first declaration of each name, since Terraform refuses a second one. Returns whether items
/// were left out, because there are too many.
pub(super) fn finish(folder: &mut Folder) -> bool {
    folder.resources.sort();
    folder.resources.dedup();
    folder.providers = merged(std::mem::take(&mut folder.providers));
    let mut is_cut = [
        sort(&mut folder.inputs, |input: &Input| &input.name),
        sort(&mut folder.outputs, |output: &Output| &output.name),
        sort(&mut folder.calls, |call: &ModuleCall| &call.name),
        cut(&mut folder.resources),
        cut(&mut folder.providers),
        cut(&mut folder.required_version),
    ]
    .contains(&true);
    for provider in &mut folder.providers {
        is_cut |= cut(&mut provider.aliases);
    }
    is_cut
}

/// One entry for each provider, with all its requirements, sorted by name.
fn merged(all: Vec<Provider>) -> Vec<Provider> {
    let mut providers: BTreeMap<String, Provider> = BTreeMap::new();
    for provider in all {
        // `terraform` is built in.
        if provider.name == "terraform" && provider.source.is_none() {
            continue;
        }
        let known = providers.entry(provider.name.clone()).or_insert_with(|| Provider::named(&provider.name));
        known.source = known.source.take().or(provider.source);
        // Several blocks may each have a constraint: all count.
        match (&mut known.version, provider.version) {
            (Some(known), Some(other)) if !format!(", {known}, ").contains(&format!(", {other}, ")) => {
                *known = format!("{known}, {other}");
            }
            (slot @ None, version) => *slot = version,
            _ => {}
        }
        known.aliases.extend(provider.aliases);
    }
    for provider in providers.values_mut() {
        provider.aliases.sort();
        provider.aliases.dedup();
    }
    providers.into_values().collect()
}

fn cut<T>(items: &mut Vec<T>) -> bool {
    let is_cut = items.len() > ITEMS;
    items.truncate(ITEMS);
    is_cut
}

fn sort<T>(items: &mut Vec<T>, name: impl Fn(&T) -> &String) -> bool {
    items.sort_by(|a, b| name(a).cmp(name(b)));
    items.dedup_by(|later, first| name(later) == name(first));
    cut(items)
}
