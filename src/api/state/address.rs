//! The registry address of a Module, as its spec and status record it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{flag, text};
use crate::api::claim::{ClaimFields, NotAddressable};
use crate::api::{CLAIM_ADDRESS, REGISTRY_NAME};
use crate::domain::Address;

/// The fields of a Module that decide its address. Each is read on its own: a spec that is unusable in another field does not
/// lose its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressState {
    /// The address that its spec claims.
    pub claim: Result<Address, NotAddressable>,
    /// The annotation `claim-address`, if it is an address.
    pub annotation: Option<Address>,
    /// `status.address`.
    pub held: Option<Address>,
    /// `status.refusedAddress`.
    pub refused: Option<Address>,
    /// `status.claimVoid`.
    pub claim_void: bool,
}

impl AddressState {
    /// Reads annotations, `spec.moduleConfig` and status of the Module with this namespace and name.
    pub fn of(
        names: (&str, &str),
        annotations: Option<&BTreeMap<String, String>>,
        config: &Value,
        status: &Value,
    ) -> Self {
        let recorded = |key| text(status, key)?.parse().ok();
        Self {
            claim: claim(names, annotations, config),
            annotation: annotations.and_then(|all| all.get(CLAIM_ADDRESS)?.parse().ok()),
            held: recorded("address"),
            refused: recorded("refusedAddress"),
            claim_void: flag(status, "claimVoid"),
        }
    }
}

/// The address that the Module with this namespace and name claims.
pub(super) fn claim(
    (namespace, object): (&str, &str),
    annotations: Option<&BTreeMap<String, String>>,
    config: &Value,
) -> Result<Address, NotAddressable> {
    let registry_name = annotations.and_then(|all| all.get(REGISTRY_NAME)).map(String::as_str);
    let (name, provider) = (text(config, "name"), text(config, "provider"));
    ClaimFields { namespace, object, name, provider, registry_name }.address()
}

impl Default for AddressState {
    fn default() -> Self {
        let claim = Err(NotAddressable::ProviderMissing);
        Self { claim, annotation: None, held: None, refused: None, claim_void: false }
    }
}
