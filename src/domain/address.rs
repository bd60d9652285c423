//! Addresses of modules in a registry: `NAMESPACE/NAME/SYSTEM`.
//!
//! The clients reject other names before they send a request (terraform-registry-address, `ParseModuleSource`), so a module
//! whose names break these rules cannot be installed by address.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The longest namespace, name or system.
const LONGEST_PART: usize = 64;

/// An address that Terraform and OpenTofu accept. Letters keep their case: the clients compare it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// The Kubernetes namespace, or an alias of one.
    pub namespace: String,
    /// The name of the module.
    pub name: String,
    /// The target system, such as `aws`.
    pub system: String,
}

/// The text is not an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("write NAMESPACE/NAME/SYSTEM, such as platform/eks/aws")]
pub struct InvalidAddress;

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let [namespace, name, system] = text.splitn(4, '/').collect::<Vec<_>>()[..] else {
            return Err(InvalidAddress);
        };
        if !(is_module_name(namespace) && is_module_name(name) && is_target_system(system)) {
            return Err(InvalidAddress);
        }
        Ok(Self { namespace: namespace.into(), name: name.into(), system: system.into() })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.namespace, self.name, self.system)
    }
}

/// Whether this can be the namespace or the name in an address: `moduleRegistryNamePattern` of terraform-registry-address.
pub(crate) fn is_module_name(text: &str) -> bool {
    let edge = |c: char| c.is_ascii_alphanumeric();
    text.len() <= LONGEST_PART
        && text.starts_with(edge)
        && text.ends_with(edge)
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// Whether this can be the system in an address: `moduleRegistryTargetSystemPattern`.
pub(crate) fn is_target_system(text: &str) -> bool {
    (1..=LONGEST_PART).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_what_the_clients_accept() {
        let (longest, too_long) = ("a".repeat(64), "a".repeat(65));
        for (text, valid) in [
            ("platform/eks/aws", true),
            ("Team_1/vpc-2/4", true),
            ("a/b/c", true),
            (&format!("{longest}/{longest}/{longest}"), true),
            (&format!("{too_long}/eks/aws"), false),
            (&format!("platform/{too_long}/aws"), false),
            (&format!("platform/eks/{too_long}"), false),
            ("platform/eks/google-beta", false),
            ("platform/eks/AWS", false),
            ("platform/terraform.eks/aws", false),
            ("platform/-eks/aws", false),
            ("platform/eks-/aws", false),
            ("platform/_eks/aws", false),
            ("platform/é/aws", false),
            ("platform//aws", false),
            ("platform/eks", false),
            ("platform/eks/aws/1", false),
            ("/platform/eks/aws", false),
            ("", false),
        ] {
            let parsed: Result<Address, _> = text.parse();
            assert_eq!(parsed.is_ok(), valid, "{text}");
            if let Ok(address) = parsed {
                assert_eq!(address.to_string(), text);
            }
        }
    }
}
