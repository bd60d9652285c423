//! The registry address that a Module claims. Pure.
//!
//! A claim alone gives no address: the Module controller writes `status.address` for at most one live Module of each address,
//! and the registry serves a Module only if `status.address` equals its claim.

use thiserror::Error;

use crate::domain::Address;
use crate::domain::address::{is_module_name, is_target_system};
use crate::domain::text::{LONGEST_EXCERPT, cut};

/// The fields of a Module that decide its address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClaimFields<'a> {
    /// `metadata.namespace`.
    pub namespace: &'a str,
    /// `metadata.name`.
    pub object: &'a str,
    /// `spec.moduleConfig.name`.
    pub name: Option<&'a str>,
    /// `spec.moduleConfig.provider`.
    pub provider: Option<&'a str>,
    /// The annotation `opendepot.defdev.io/registry-name`.
    pub registry_name: Option<&'a str>,
}

/// Why clients cannot install a Module by address.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NotAddressable {
    #[error(
        "Terraform and OpenTofu do not accept the module name {0:?}: set the annotation opendepot.defdev.io/registry-name to 1 to 64 \
         letters, digits, - and _ that begin and end with a letter or digit. No stored object moves"
    )]
    Name(String),
    #[error(
        "the annotation opendepot.defdev.io/registry-name is {0:?}: write 1 to 64 letters, digits, - and _ that begin and end \
         with a letter or digit"
    )]
    RegistryName(String),
    #[error("spec.moduleConfig.provider is missing, the last part of the address: write one such as aws")]
    ProviderMissing,
    #[error(
        "Terraform and OpenTofu do not accept the provider {0:?} in an address: write 1 to 64 lower-case letters and digits, \
         such as googlebeta"
    )]
    Provider(String),
}

impl ClaimFields<'_> {
    /// The address that these fields claim.
    ///
    /// # Errors
    /// [`NotAddressable`], whose message contains what to write.
    pub(crate) fn address(self) -> Result<Address, NotAddressable> {
        let name = self.registry_name.or(self.name).unwrap_or(self.object);
        if !is_module_name(name) {
            let is_annotated = self.registry_name.is_some();
            let wrong = if is_annotated { NotAddressable::RegistryName } else { NotAddressable::Name };
            return Err(wrong(cut(name, LONGEST_EXCERPT)));
        }
        let system = self.provider.filter(|text| !text.is_empty()).ok_or(NotAddressable::ProviderMissing)?;
        if !is_target_system(system) {
            return Err(NotAddressable::Provider(cut(system, LONGEST_EXCERPT)));
        }
        Ok(Address { namespace: self.namespace.into(), name: name.into(), system: system.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_annotation_wins_and_what_no_client_accepts_is_named() {
        let fields = ClaimFields {
            namespace: "platform",
            object: "eks",
            name: Some("terraform-aws-eks"),
            provider: Some("aws"),
            registry_name: None,
        };
        let address = |fields: ClaimFields<'_>| fields.address().map(|address| address.to_string());
        let long = "a".repeat(65);
        assert_eq!(address(fields), Ok("platform/terraform-aws-eks/aws".into()));
        assert_eq!(address(ClaimFields { name: None, ..fields }), Ok("platform/eks/aws".into()));
        let renamed = ClaimFields { registry_name: Some("k8s"), name: Some("a.b"), ..fields };
        assert_eq!(address(renamed), Ok("platform/k8s/aws".into()));
        for (fields, expected) in [
            (ClaimFields { name: Some("a.b"), ..fields }, NotAddressable::Name("a.b".into())),
            (ClaimFields { name: Some(&long), ..fields }, NotAddressable::Name(long.clone())),
            (ClaimFields { name: None, object: "a.b", ..fields }, NotAddressable::Name("a.b".into())),
            (ClaimFields { registry_name: Some(""), ..fields }, NotAddressable::RegistryName(String::new())),
            (
                ClaimFields { registry_name: Some("a/b"), ..fields },
                NotAddressable::RegistryName("a/b".into()),
            ),
            (ClaimFields { provider: None, ..fields }, NotAddressable::ProviderMissing),
            (ClaimFields { provider: Some(""), ..fields }, NotAddressable::ProviderMissing),
            (
                ClaimFields { provider: Some("google-beta"), ..fields },
                NotAddressable::Provider("google-beta".into()),
            ),
        ] {
            assert_eq!(fields.address(), Err(expected));
        }
    }
}
