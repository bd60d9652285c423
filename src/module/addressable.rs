//! The condition `Addressable`: whether clients can install a Module by its registry address. Pure.
//!
//! Ready does not depend on it: without a registry, addresses have no effect.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::address::{Addressing, Outcome};
use super::select::Selection;
use super::view::ModuleView;
use crate::api::{CLAIM_ADDRESS, REGISTRY_NAME, condition};
use crate::controller::failure::Reason;
use crate::domain::Address;

pub(super) const ADDRESSABLE: &str = "Addressable";

/// The largest number of versions in the message.
const MAX_VERSIONS: usize = 5;

/// The condition after a decision.
pub(super) fn condition(
    module: &ModuleView,
    addressing: &Addressing,
    selection: &Selection,
    now: Timestamp,
) -> Condition {
    let (reason, message) = explain(module, addressing, selection);
    let status = if reason == Reason::Addressable { "True" } else { "False" };
    let (before, generation) = (&module.status.conditions, module.metadata.generation);
    condition::condition(before, (ADDRESSABLE, status), reason.as_str(), &message, generation, now)
}

fn explain(module: &ModuleView, addressing: &Addressing, selection: &Selection) -> (Reason, String) {
    let is_void =
        |address: &Address| addressing.claim_void && module.address.annotation.as_ref() == Some(address);
    let claim = |address: &Address| module.annotate(&format!("{CLAIM_ADDRESS}={address}"));
    let message = match &addressing.outcome {
        Outcome::Held(address) => {
            return (Reason::Addressable, format!("{address}{}", unreadable(selection)));
        }
        Outcome::NotAddressable(why) => {
            let kept = addressing.held.as_ref().map_or_else(String::new, |held| {
                format!(". {held} stays reserved until this Module claims another address")
            });
            return (Reason::from(why), format!("{why}{kept}."));
        }
        Outcome::Taken { address, holder } => {
            let earlier = if is_void(address) { void_claim(holder) } else { String::new() };
            format!(
                "Module {holder} has the address {address}. Choose another name with the annotation {REGISTRY_NAME}. Or, after \
                 {holder} is deleted or has another address: {}.{earlier}",
                claim(address)
            )
        }
        Outcome::Refused(address) => {
            let earlier = if is_void(address) {
                format!(
                    "The annotation {CLAIM_ADDRESS} was set before that and is void. Remove it, and then: "
                )
            } else {
                "To take it over: ".to_owned()
            };
            format!(
                "The address {address} was refused while another Module had it. No Module has it now, and it is not reassigned \
                 automatically. {earlier}{}",
                claim(address)
            )
        }
        Outcome::Leaving { address, holder } => {
            format!(
                "Module {holder} still has the address {address}, and is about to get the one that it claims now."
            )
        }
        Outcome::Contended { address, first } => {
            format!("Module {first} also claims the address {address}, and has precedence.")
        }
    };
    (Reason::AddressTaken, message)
}

fn void_claim(holder: &str) -> String {
    format!(
        " The present annotation is void, because {holder} already had the address when it was set: remove it first."
    )
}

/// Names the versions that no client can parse.
fn unreadable(selection: &Selection) -> String {
    let unreadable = selection.wanted.iter().filter(|wanted| !wanted.release.fits_clients());
    let versions: Vec<String> = unreadable.map(|wanted| wanted.release.to_string()).collect();
    let shown = versions[..versions.len().min(MAX_VERSIONS)].join(", ");
    match versions.len() {
        0 => String::new(),
        n if n <= MAX_VERSIONS => {
            format!(". No client can parse these versions, which are not listed: {shown}")
        }
        n => format!(". No client can parse {n} versions, which are not listed, such as {shown}"),
    }
}
