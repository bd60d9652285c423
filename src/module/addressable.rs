//! The condition `Addressable`: whether clients can install a Module by its registry address. Pure.
//!
//! Ready does not depend on it: without a registry, addresses have no effect.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::address::{Addressing, ClaimOutcome};
use super::select::Selection;
use super::view::ModuleView;
use crate::api::{CLAIM_ADDRESS, REGISTRY_NAME, condition};
use crate::controller::failure::Reason;
use crate::domain::Address;
use crate::domain::text::cut;

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
    let message = match &addressing.outcome {
        ClaimOutcome::Held(address) => {
            return (Reason::Addressable, format!("{address}{}", unreadable(selection)));
        }
        ClaimOutcome::NotAddressable(why) => {
            let kept = addressing.held.as_ref().map_or_else(String::new, |held| {
                format!(". {held} stays reserved until this Module claims another address")
            });
            return (Reason::from(why), format!("{why}{kept}."));
        }
        ClaimOutcome::Taken { address, holder } => {
            let void = void_claim(module, addressing, address);
            let problem = format!(
                "Module {holder} has the address {address}.{void} Choose another name with the annotation {REGISTRY_NAME}. Or wait \
                 until that Module is deleted or has another address."
            );
            with_command(&problem, "After that, and not before, claim it", module, address)
        }
        ClaimOutcome::Refused(address) => {
            let void = void_claim(module, addressing, address);
            let problem = format!(
                "The address {address} was refused while another Module had it. No Module has it now, and it is not reassigned \
                 automatically.{void}"
            );
            with_command(&problem, "To claim it", module, address)
        }
        ClaimOutcome::Leaving { address, holder } => {
            format!(
                "Module {holder} still has the address {address} and is about to give it up for another one; this Module \
                 can then have it."
            )
        }
        ClaimOutcome::Contended { address, first } => {
            format!(
                "Module {first} also claims the address {address}, and has precedence. Choose another name with the annotation \
                 {REGISTRY_NAME}."
            )
        }
    };
    (Reason::AddressTaken, message)
}

/// The end of the message is the command that claims the address, so that it can be copied. It is never cut.
fn with_command(problem: &str, then: &str, module: &ModuleView, address: &Address) -> String {
    let command = module.annotate(&format!("{CLAIM_ADDRESS}={address}"));
    let rest = format!(" {then}: {command}");
    format!("{}{rest}", cut(problem, condition::MAX_MESSAGE.saturating_sub(rest.len())))
}

fn void_claim(module: &ModuleView, addressing: &Addressing, address: &Address) -> String {
    if !addressing.claim_void || module.address.annotation.as_ref() != Some(address) {
        return String::new();
    }
    format!(
        " The annotation {CLAIM_ADDRESS} is void, because another Module had the address when it was set: remove it \
         before you claim the address."
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
            format!(". The registry does not list these versions, because no client can parse them: {shown}")
        }
        n => format!(
            ". The registry does not list {n} versions, because no client can parse them, such as {shown}"
        ),
    }
}
