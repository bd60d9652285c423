//! The module that a request is for, and the keys under which the decisions about it are kept.

use super::identity::{Fields, Identity};
use super::review::Right;
use super::review_cache::ReviewKeys;
use crate::domain::Address;

/// The module that a request is for.
#[derive(Clone, Copy, Debug)]
pub struct ModuleRef<'a> {
    /// The Kubernetes namespace: an alias is resolved already.
    pub namespace: &'a str,
    pub name: &'a str,
    pub system: &'a str,
    /// `metadata.name` of the Module that holds the address, if there is one.
    pub holder: Option<&'a str>,
}

impl<'a> ModuleRef<'a> {
    /// The module at an address, whose namespace is canonical and which the Module `holder` has.
    pub fn at(address: &'a Address, holder: Option<&'a str>) -> Self {
        let Address { namespace, name, system } = address;
        Self { namespace, name, system, holder }
    }

    /// The name in the access review: that of the holder, else the one in the address.
    pub fn object(&self) -> &'a str {
        self.holder.unwrap_or(self.name)
    }
}

/// Two keys, so that timing does not show which of two addresses has a holder: a yes is kept by the object that is downloaded, a no
/// by the requested address. If a no were kept by the object, it would be known when another address of that name is requested.
pub(super) fn keys(identity: &Identity, right: Right, module: ModuleRef<'_>) -> ReviewKeys {
    let key = |kind: &str, parts: &[&str]| {
        let fields = Fields::new().bytes(&identity.rights_key).text(kind);
        parts.iter().fold(fields, |fields, part| fields.text(part)).digest()
    };
    let object = [module.namespace, module.object()];
    match right {
        Right::Download => ReviewKeys {
            yes: key("object", &object),
            no: key("address", &[module.namespace, module.name, module.system]),
        },
        // Reviewed only for Modules that are shown already.
        Right::Read => ReviewKeys { yes: key("read", &object), no: key("read", &object) },
    }
}
