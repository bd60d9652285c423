//! The paths of the registry's API. They are compared without decoding, except that `%2B` is `+`.

use crate::domain::{Address, Release};

/// What a path of the API requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route<'a> {
    Discovery,
    Versions(Address),
    /// The JSON of a module, or of one version.
    Module(Address, Option<Release>),
    /// The location of a version's archive.
    Download(Address, Release),
    /// An archive, by a link.
    Archive(ArchivePath<'a>),
}

/// The parts of an archive's path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivePath<'a> {
    /// The address, with the namespace's own name.
    pub address: Address,
    pub release: Release,
    /// The link, not checked yet.
    pub link: &'a str,
    /// The file name, with `+` for `%2B`, not checked yet.
    pub file: String,
}

/// Service discovery of Terraform and OpenTofu.
pub const DISCOVERY: &str = "/.well-known/terraform.json";
/// The base of the module registry protocol, as service discovery names it.
pub const MODULES: &str = "/v1/modules/";

/// The longest version that the schema accepts, in bytes.
const LONGEST_VERSION: usize = 128;

/// What a path requests; `None` for a path that is none of the API's. A malformed address or version is no path of the API.
pub fn route(path: &str) -> Option<Route<'_>> {
    if path == DISCOVERY {
        return Some(Route::Discovery);
    }
    let parts: Vec<&str> = path.strip_prefix(MODULES)?.split('/').collect();
    let (&[namespace, name, system], rest) = parts.split_first_chunk::<3>()?;
    let address: Address = format!("{namespace}/{name}/{system}").parse().ok()?;
    match *rest {
        [] => Some(Route::Module(address, None)),
        ["versions"] => Some(Route::Versions(address)),
        [version] => Some(Route::Module(address, Some(release(version)?))),
        [version, "download"] => Some(Route::Download(address, release(version)?)),
        [version, "archive", link, file] => {
            Some(Route::Archive(ArchivePath { address, release: release(version)?, link, file: plus(file) }))
        }
        _ => None,
    }
}

/// A version in a path.
pub fn release(text: &str) -> Option<Release> {
    let text = plus(text);
    Release::parse(&text).ok().filter(|_| text.len() <= LONGEST_VERSION)
}

/// The text with `+` for `%2B`.
fn plus(text: &str) -> String {
    text.replace("%2B", "+").replace("%2b", "+")
}

/// A version or file name in a path or header.
pub fn encoded(text: &str) -> String {
    text.replace('+', "%2B")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn describe(path: &str) -> String {
        match route(path) {
            None => "-".into(),
            Some(Route::Discovery) => "discovery".into(),
            Some(Route::Versions(address)) => format!("versions {address}"),
            Some(Route::Module(address, None)) => format!("module {address}"),
            Some(Route::Module(address, Some(release))) => format!("module {address} {release}"),
            Some(Route::Download(address, release)) => format!("download {address} {release}"),
            Some(Route::Archive(path)) => {
                format!("archive {} {} {} {}", path.address, path.release, path.link, path.file)
            }
        }
    }

    #[test]
    fn paths_are_compared_as_they_come() {
        for (path, expected) in [
            ("/.well-known/terraform.json", "discovery"),
            ("/v1/modules/a/b/aws/versions", "versions a/b/aws"),
            ("/v1/modules/a/b/aws", "module a/b/aws"),
            ("/v1/modules/a/b/aws/1.0.0", "module a/b/aws 1.0.0"),
            ("/v1/modules/a/b/aws/v1.0.0", "module a/b/aws 1.0.0"),
            ("/v1/modules/a/b/aws/1.0.0/download", "download a/b/aws 1.0.0"),
            ("/v1/modules/a/b/aws/1.0.0+b1/download", "download a/b/aws 1.0.0+b1"),
            ("/v1/modules/a/b/aws/1.0.0%2Bb1/download", "download a/b/aws 1.0.0+b1"),
            ("/v1/modules/a/b/aws/1.0.0%2bb1/download", "download a/b/aws 1.0.0+b1"),
            ("/v1/modules/a/b/aws/1.0.0/archive/AAAA/b-1.0.0.zip", "archive a/b/aws 1.0.0 AAAA b-1.0.0.zip"),
            (
                "/v1/modules/a/b/aws/1.0.0/archive/AAAA/b-1.0.0%2Bx.zip",
                "archive a/b/aws 1.0.0 AAAA b-1.0.0+x.zip",
            ),
            // Whether these are valid links is for the handler to say.
            ("/v1/modules/a/b/aws/1.0.0/archive/%2e%2e/%2f", "archive a/b/aws 1.0.0 %2e%2e %2f"),
            ("/v1/modules/a/b/aws/1.0.0/archive//", "archive a/b/aws 1.0.0  "),
            ("/v1/modules/a/b/aws/1.0.0/archive/../b-1.0.0.zip", "archive a/b/aws 1.0.0 .. b-1.0.0.zip"),
            ("/v1/modules/a/b/aws/1.0.0/archive/AAAA/x/b-1.0.0.zip", "-"),
            ("/v1/modules/a/b/aws/%31.0.0/download", "-"),
            ("/v1/modules/a/b/aws/1.0.0%252Bx/download", "-"),
            ("/v1/modules/a/b/aws/versions/", "-"),
            ("/v1/modules/a/b/aws/", "-"),
            ("/v1/modules//b/aws/versions", "-"),
            ("/v1/modules/a/b/aws//versions", "-"),
            ("//v1/modules/a/b/aws/versions", "-"),
            ("/v1/modules/a/../aws/versions", "-"),
            ("/v1/modules/a/%62/aws/versions", "-"),
            ("/v1/modules/a%2Fb/c/aws/versions", "-"),
            ("/v1/modules/a/b/AWS/versions", "-"),
            ("/v1/modules/a/b/google-beta/versions", "-"),
            ("/v1/modules/a/b/aws/latest/download", "-"),
            ("/v1/modules/a/b/aws/1.0/download", "-"),
            ("/v1/modules/a/b/aws/1.0.0/download/x", "-"),
            ("/v1/modules/a/b", "-"),
            ("/v1/modules/", "-"),
            ("/", "-"),
            ("", "-"),
        ] {
            assert_eq!(describe(path), expected, "{path}");
        }
    }

    #[test]
    fn versions_are_as_long_as_the_schema_accepts() {
        let path = |bytes: usize| format!("/v1/modules/a/b/aws/1.0.0-{}/download", "x".repeat(bytes - 6));
        assert!(matches!(route(&path(128)), Some(Route::Download(..))));
        assert_eq!(route(&path(129)), None);
    }

    proptest! {
        #[test]
        fn no_path_panics_and_each_has_one_address(path in "(/v1/modules)?(/[a-c.%2BF/+-]{0,6}){0,7}") {
            if let Some(Route::Versions(address)) = route(&path) {
                prop_assert_eq!(path, format!("/v1/modules/{address}/versions"));
            }
        }
    }
}
