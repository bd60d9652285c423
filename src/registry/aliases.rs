//! Second names of namespaces in addresses: `--namespace-alias ALIAS=NAMESPACE`.

use std::collections::BTreeMap;
use std::str::FromStr;

use thiserror::Error;

use crate::domain::Address;
use crate::domain::address::is_module_name;
use crate::domain::names::is_dns_label;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    alias: String,
    namespace: String,
}

#[derive(Clone, Debug, Default)]
pub struct Aliases(BTreeMap<String, String>);

/// What is wrong with the aliases.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidAlias {
    #[error("write ALIAS=NAMESPACE, such as acme=opendepot-system")]
    Form,
    #[error("--namespace-alias {0} is given twice, for {1} and {2}: remove one")]
    Twice(String, String, String),
    #[error("--namespace-alias {0}={1}: {1} is an alias itself: write the namespace that it stands for")]
    Chain(String, String),
    #[error("--namespace-alias {0}={1}: {1} is not watched: add --namespace {1}")]
    NotWatched(String, String),
    #[error(
        "--namespace-alias {0}: a namespace of this name has Modules, which could not be installed: choose another alias, or \
         move the Modules"
    )]
    Shadows(String),
}

impl FromStr for Alias {
    type Err = InvalidAlias;

    fn from_str(text: &str) -> Result<Self, InvalidAlias> {
        let (alias, namespace) = text.split_once('=').ok_or(InvalidAlias::Form)?;
        if !is_module_name(alias) || !is_dns_label(namespace) || alias == namespace {
            return Err(InvalidAlias::Form);
        }
        Ok(Self { alias: alias.into(), namespace: namespace.into() })
    }
}

impl Aliases {
    /// Checks the aliases with each other and with the watched namespaces (none: all).
    pub fn new(aliases: &[Alias], watched: &[String]) -> Result<Self, InvalidAlias> {
        let mut all: BTreeMap<String, String> = BTreeMap::new();
        for Alias { alias, namespace } in aliases {
            if let Some(other) = all.insert(alias.clone(), namespace.clone())
                && other != *namespace
            {
                return Err(InvalidAlias::Twice(alias.clone(), other, namespace.clone()));
            }
        }
        for (alias, namespace) in &all {
            if all.contains_key(namespace) {
                return Err(InvalidAlias::Chain(alias.clone(), namespace.clone()));
            }
            if !watched.is_empty() && !watched.contains(namespace) {
                return Err(InvalidAlias::NotWatched(alias.clone(), namespace.clone()));
            }
        }
        Ok(Self(all))
    }

    /// A namespace's own name.
    pub fn canonical_namespace<'a>(&'a self, namespace: &'a str) -> &'a str {
        self.0.get(namespace).map_or(namespace, String::as_str)
    }

    /// The address with the namespace's own name.
    pub fn canonical(&self, address: Address) -> Address {
        Address { namespace: self.canonical_namespace(&address.namespace).to_owned(), ..address }
    }

    /// The second names of a namespace.
    pub fn of(&self, namespace: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(_, own)| *own == namespace).map(|(alias, _)| alias.as_str())
    }

    /// Whether a namespace cannot be reached, because an alias has its name.
    pub fn shadows(&self, namespace: &str) -> bool {
        self.0.contains_key(namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aliases(texts: &[&str], watched: &[&str]) -> Result<Aliases, InvalidAlias> {
        let aliases: Vec<Alias> = texts.iter().map(|text| text.parse().unwrap()).collect();
        Aliases::new(&aliases, &watched.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn an_alias_stands_for_one_namespace() {
        let all = aliases(&["acme=opendepot-system", "Acme_2=opendepot-system"], &[]).unwrap();
        let canonical = |text: &str| all.canonical(text.parse().unwrap()).to_string();
        assert_eq!(canonical("acme/eks/aws"), "opendepot-system/eks/aws");
        assert_eq!(canonical("Acme_2/eks/aws"), "opendepot-system/eks/aws");
        assert_eq!(canonical("opendepot-system/eks/aws"), "opendepot-system/eks/aws");
        assert!(all.of("opendepot-system").eq(["Acme_2", "acme"]) && all.of("acme").next().is_none());
        assert!(all.shadows("acme") && !all.shadows("opendepot-system"));
    }

    #[test]
    fn chains_doubles_and_what_is_no_alias_are_refused() {
        for text in ["acme", "acme=", "=x", "a b=x", "acme=Team", "acme=acme", "acme=x=y", "a/b=x"] {
            assert_eq!(text.parse::<Alias>(), Err(InvalidAlias::Form), "{text}");
        }
        assert!(matches!(aliases(&["a=b", "a=c"], &[]), Err(InvalidAlias::Twice(..))));
        assert!(aliases(&["a=b", "a=b"], &[]).is_ok());
        assert!(matches!(aliases(&["a=b", "b=c"], &[]), Err(InvalidAlias::Chain(..))));
        assert!(matches!(aliases(&["a=b"], &["c"]), Err(InvalidAlias::NotWatched(..))));
        assert!(aliases(&["a=b"], &["b"]).is_ok());
    }
}
