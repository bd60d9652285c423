//! Which Module holds a registry address. Pure.
//!
//! The Module that has an address in its status keeps it until it claims another or is deleted. A Module that was refused an
//! address never inherits it: after the holder is deleted, the Module needs the annotation `claim-address`.

use jiff::Timestamp;

use crate::api::claim::NotAddressable;
use crate::api::state::AddressState;
use crate::domain::Address;

/// The part of a Module that decisions on addresses depend on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Claimant {
    pub name: String,
    pub created: Option<Timestamp>,
    pub is_terminating: bool,
    pub address: AddressState,
    /// An address that is being written to its status, besides the one in the status as the watch has shown it.
    pub granted: Option<Address>,
}

/// The decision on a Module's address: what its status records, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addressing {
    /// `status.address`.
    pub held: Option<Address>,
    /// `status.refusedAddress`.
    pub refused: Option<Address>,
    /// `status.claimVoid`.
    pub claim_void: bool,
    pub outcome: ClaimOutcome,
}

/// Whether a Module has the address that it claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimOutcome {
    Held(Address),
    /// It claims none. An address that it holds stays.
    NotAddressable(NotAddressable),
    /// The Module `holder` holds it.
    Taken {
        address: Address,
        holder: String,
    },
    /// It was refused, and its holder no longer exists.
    Refused(Address),
    /// The Module `holder` still holds it and claims another: the address is free as soon as its status is written.
    Leaving {
        address: Address,
        holder: String,
    },
    /// The Module `first` claims it too, and comes first.
    Contended {
        address: Address,
        first: String,
    },
}

impl Claimant {
    /// Whether it has this address in its status, or is about to.
    pub(super) fn has(&self, address: &Address) -> bool {
        self.address.held.as_ref() == Some(address) || self.granted.as_ref() == Some(address)
    }

    /// Whether it has this address and does not claim another.
    pub(super) fn keeps(&self, address: &Address) -> bool {
        self.has(address) && self.address.claim.as_ref().map_or(true, |claim| claim == address)
    }

    pub(super) fn claims(&self, address: &Address) -> bool {
        self.address.claim.as_ref() == Ok(address)
    }

    /// Whether the decision on this Module depends on the other one, which has or claims the address that it claims.
    pub(super) fn rivals(&self, other: &Self) -> bool {
        self.address.claim.as_ref().is_ok_and(|claim| other.has(claim) || other.claims(claim))
    }

    /// Whether its annotation names the address that it claims.
    pub(super) fn is_annotated(&self) -> bool {
        self.address.annotation.as_ref().is_some_and(|annotation| self.claims(annotation))
    }

    fn was_refused(&self, address: &Address) -> bool {
        self.address.refused.as_ref() == Some(address)
    }

    /// Whether it may be given an address that no Module has.
    fn may_have(&self, address: &Address) -> bool {
        let is_requested = self.is_annotated() && !self.address.claim_void;
        self.claims(address) && !self.is_terminating && (!self.was_refused(address) || is_requested)
    }

    /// The order of the Modules that claim an address that no Module has: those that were never refused come first; then
    /// by age, then by name.
    fn order(&self, address: &Address) -> (bool, Option<Timestamp>, &str) {
        (self.was_refused(address), self.created, &self.name)
    }
}

/// The decision on `module`, given the other Modules of its namespace.
pub(super) fn decide<'a>(
    module: &Claimant,
    others: impl Iterator<Item = &'a Claimant> + Clone,
) -> Addressing {
    let AddressState { claim, held, refused, .. } = &module.address;
    let claim_void = module.address.claim_void;
    let claim = match claim {
        Ok(claim) => claim,
        Err(why) => {
            let outcome = ClaimOutcome::NotAddressable(why.clone());
            return Addressing { held: held.clone(), refused: refused.clone(), claim_void, outcome };
        }
    };
    let address = claim.clone();
    let refuse = |outcome| Addressing { held: None, refused: Some(claim.clone()), claim_void, outcome };
    // An address that may be granted later is not recorded as refused.
    let wait = |outcome| Addressing { refused: refused.clone().filter(|r| r == claim), ..refuse(outcome) };
    let grant = Addressing {
        held: Some(claim.clone()),
        refused: None,
        claim_void: claim_void && !module.is_annotated(),
        outcome: ClaimOutcome::Held(claim.clone()),
    };
    let mut holders = others.clone().filter(|other| other.has(claim));
    if held.as_ref() == Some(claim) {
        // Two holders are possible only if another client writes statuses.
        let first = holders.find(|other| other.keeps(claim) && other.order(claim) < module.order(claim));
        return first
            .map_or(grant, |first| refuse(ClaimOutcome::Taken { address, holder: first.name.clone() }));
    }
    if let Some(other) = holders.clone().find(|other| other.keeps(claim)) {
        let decision = refuse(ClaimOutcome::Taken { address, holder: other.name.clone() });
        return Addressing { claim_void: claim_void || module.is_annotated(), ..decision };
    }
    if let Some(other) = holders.next() {
        return wait(ClaimOutcome::Leaving { address, holder: other.name.clone() });
    }
    if !module.may_have(claim) {
        return refuse(ClaimOutcome::Refused(address));
    }
    let rivals = others.filter(|other| other.may_have(claim));
    match rivals.min_by_key(|other| other.order(claim)) {
        Some(first) if first.order(claim) < module.order(claim) => {
            wait(ClaimOutcome::Contended { address, first: first.name.clone() })
        }
        _ => grant,
    }
}
