//! A version as people spell it, and the semantic version that it is (semver.org, 2.0.0).
//!
//! In: the text of `spec.versions[].version`. Out: one value for both spellings, the two spellings of its tag, and the
//! order of precedence. Pure.

use std::cmp::Ordering;

/// A parsed version. Two spellings of one version (`v1.2.3`, `1.2.3`) are equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Release(semver::Version);

/// The text is no semantic version.
#[derive(Debug, thiserror::Error)]
#[error(
    "{text:?} is not a semantic version ({why}): write MAJOR.MINOR.PATCH[-pre][+build], such as \"1.10.0\" or \"v1.10.0\""
)]
pub struct InvalidRelease {
    text: String,
    why: semver::Error,
}

impl Release {
    /// Parses a version with or without a leading `v`.
    pub fn parse(text: &str) -> Result<Self, InvalidRelease> {
        let bare = text.strip_prefix('v').unwrap_or(text);
        semver::Version::parse(bare).map(Self).map_err(|why| InvalidRelease { text: text.to_owned(), why })
    }

    /// Whether this is a pre-release, such as `1.0.0-rc.1`.
    pub fn is_prerelease(&self) -> bool {
        !self.0.pre.is_empty()
    }

    /// The order of precedence of semver.org section 11; versions that differ by build metadata only, which have none,
    /// are put in the order of that metadata so that sorting is total and stable across runs.
    pub fn precedence(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }

    /// The tags that may hold this version: as `spelled` first, then the other spelling.
    pub fn tags(spelled: &str) -> [String; 2] {
        match spelled.strip_prefix('v') {
            Some(bare) => [spelled.to_owned(), bare.to_owned()],
            None => [spelled.to_owned(), format!("v{spelled}")],
        }
    }
}

/// The version without a leading `v`.
impl std::fmt::Display for Release {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn release(text: &str) -> Release {
        Release::parse(text).unwrap()
    }

    #[test]
    fn precedence_is_that_of_semver_org() {
        let ascending = [
            "0.9.0",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "1.0.0",
            "1.9.0",
            "1.10.0",
            "2.0.0",
        ];
        for pair in ascending.windows(2) {
            assert_eq!(release(pair[0]).precedence(&release(pair[1])), Ordering::Less, "{pair:?}");
        }
    }

    #[test]
    fn both_spellings_are_one_version_and_name_both_tags() {
        assert_eq!(release("v1.2.3"), release("1.2.3"));
        assert_eq!(release("v1.2.3-rc.1+b5").to_string(), "1.2.3-rc.1+b5");
        assert_eq!(Release::tags("1.2.3"), ["1.2.3", "v1.2.3"]);
        assert_eq!(Release::tags("v1.2.3"), ["v1.2.3", "1.2.3"]);
    }

    #[test]
    fn what_is_no_version_says_what_to_write() {
        for text in [
            "", "1", "1.10", "v1.2", "vv1.2.3", "latest", "1.2.3 ", "01.2.3", "1.2.3-01", "1.2.3-",
            "../1.2.3",
        ] {
            let message = Release::parse(text).unwrap_err().to_string();
            assert!(message.contains("write MAJOR.MINOR.PATCH"), "{text}: {message}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in ".*") {
            let _ = Release::parse(&text);
        }
    }
}
