//! What a Module and its status say about its registry address.

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
    /// Reads annotations, `spec.moduleConfig` and status of the Module `namespace`/`object`.
    pub fn of(
        (namespace, object): (&str, &str),
        annotations: Option<&BTreeMap<String, String>>,
        config: &Value,
        status: &Value,
    ) -> Self {
        let annotation = |key| annotations?.get(key).map(String::as_str);
        let fields = ClaimFields {
            namespace,
            object,
            name: text(config, "name"),
            provider: text(config, "provider"),
            registry_name: annotation(REGISTRY_NAME),
        };
        let recorded = |key| text(status, key)?.parse().ok();
        Self {
            claim: fields.address(),
            annotation: annotation(CLAIM_ADDRESS).and_then(|text| text.parse().ok()),
            held: recorded("address"),
            refused: recorded("refusedAddress"),
            claim_void: flag(status, "claimVoid"),
        }
    }
}

impl Default for AddressState {
    fn default() -> Self {
        let claim = Err(NotAddressable::ProviderMissing);
        Self { claim, annotation: None, held: None, refused: None, claim_void: false }
    }
}
