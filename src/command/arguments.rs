//! Values of arguments that the commands share. The message of an invalid value contains an example of a valid one.

use crate::domain::Release;
use crate::domain::names::{is_dns_label, is_dns_subdomain};

pub(crate) fn module(text: &str) -> Result<String, String> {
    if !is_dns_subdomain(text, 253) {
        return Err("write the name of a Module, such as terraform-aws-eks".into());
    }
    Ok(text.to_owned())
}

pub(crate) fn object(text: &str) -> Result<String, String> {
    if !is_dns_subdomain(text, 253) {
        return Err("write the name of an object, such as opendepot or opendepot-staging".into());
    }
    Ok(text.to_owned())
}

pub(crate) fn namespace(text: &str) -> Result<String, String> {
    let name = text.trim();
    if !is_dns_label(name) {
        return Err("write the name of a namespace, such as team-a".into());
    }
    Ok(name.to_owned())
}

/// A version as it is spelled.
pub(crate) fn version(text: &str) -> Result<String, String> {
    release(text).map(|_| text.to_owned())
}

pub(crate) fn release(text: &str) -> Result<Release, String> {
    Release::parse(text).map_err(|error| error.to_string())
}
