//! Values of arguments that the commands share. The message of an invalid value contains an example of a valid one.

use bytesize::ByteSize;
use clap::Args;

use crate::archive::Limits;
use crate::domain::names::{is_dns_label, is_dns_subdomain};
use crate::domain::{Release, Repository};

// No doc comment: clap would describe the command with it.
#[derive(Clone, Debug, Args)]
#[expect(clippy::struct_field_names, reason = "the fields have the names of the flags")]
pub struct ArchiveLimits {
    /// Maximum size of an archive, compressed.
    #[arg(long, env = "OPENDEPOT_MAX_ARCHIVE_SIZE", default_value = "512MiB", value_parser = size)]
    pub max_archive_size: u64,

    /// Maximum size of the contents of an archive, unpacked.
    #[arg(long, env = "OPENDEPOT_MAX_UNPACKED_SIZE", default_value = "2GiB", value_parser = size)]
    pub max_unpacked_size: u64,

    /// Maximum number of files and folders in an archive.
    #[arg(long, env = "OPENDEPOT_MAX_ENTRIES", default_value_t = 100_000, value_parser = entries)]
    pub max_entries: u64,
}

impl ArchiveLimits {
    pub fn limits(&self) -> Limits {
        Limits {
            archive_bytes: self.max_archive_size,
            unpacked_bytes: self.max_unpacked_size,
            entries: self.max_entries,
            ..Limits::default()
        }
    }
}

pub(crate) fn module(text: &str) -> Result<String, String> {
    valid(text, is_dns_subdomain(text, 253), "write the name of a Module, such as terraform-aws-eks")
}

pub(crate) fn object(text: &str) -> Result<String, String> {
    let advice = "write the name of an object, such as opendepot or opendepot-staging";
    valid(text, is_dns_subdomain(text, 253), advice)
}

pub(crate) fn namespace(text: &str) -> Result<String, String> {
    let name = text.trim();
    valid(name, is_dns_label(name), "write the name of one namespace, such as team-a")
}

/// The host of GitHub, as [`Repository::host`] spells it.
pub(crate) fn github_host(text: &str) -> Result<String, String> {
    let repository = Repository::parse(&format!("https://{}/owner/name", text.trim()));
    let advice = "write a host, such as ghes.example.com or ghes.example.com:8443, without https://";
    repository.map(|repository| repository.host()).map_err(|_| advice.to_owned())
}

pub(crate) fn size(text: &str) -> Result<u64, String> {
    let size = text.parse::<ByteSize>().ok().map(|size| size.as_u64()).filter(|size| *size > 0);
    size.ok_or_else(|| "write a size above 0 with its unit, such as 512MiB or 2GiB".into())
}

/// The number of entries of an archive.
pub(crate) fn entries(text: &str) -> Result<u64, String> {
    let number = text.parse::<u64>().ok().filter(|number| *number > 0);
    number.ok_or_else(|| "write a number from 1 up, such as 100000".into())
}

/// A version as it is spelled.
pub(crate) fn version(text: &str) -> Result<String, String> {
    Release::parse(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// The text if it is valid, else the advice.
pub(crate) fn valid(text: &str, is_valid: bool, advice: &str) -> Result<String, String> {
    if is_valid { Ok(text.to_owned()) } else { Err(advice.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_spelled_as_that_of_a_repository() {
        for (text, expected) in [
            (" GHES.Example.com:443 ", Some("ghes.example.com")),
            ("ghes.example.com:8443", Some("ghes.example.com:8443")),
            ("www.github.com", Some("github.com")),
            ("https://ghes.example.com", None),
            ("ghes.example.com/", None),
            ("ghes.example.com/acme", None),
            ("", None),
        ] {
            assert_eq!(github_host(text).ok().as_deref(), expected, "{text:?}");
        }
    }
}
