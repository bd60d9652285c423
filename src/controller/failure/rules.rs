//! What follows from a reason: rules that read the columns of the table.

use std::str::FromStr;

use super::columns::{About, Kind, Recheck};
use super::reasons::Reason;
use crate::api::claim::NotAddressable;

impl Reason {
    /// Whether a condition with this reason reports progress or rest instead of a failure. A condition without a reason
    /// does; an unknown reason of another release does not.
    pub fn is_progress(word: &str) -> bool {
        let progress = |reason: Self| matches!(reason.kind(), Kind::Done | Kind::Progress | Kind::Paused);
        word.is_empty() || word.parse().is_ok_and(progress)
    }

    /// Whether a check for this failure sends a request to GitHub or S3. Other failures are checked right after a restart,
    /// which may have changed a flag.
    pub fn costs_requests(word: &str) -> bool {
        !word
            .parse()
            .is_ok_and(|reason: Self| matches!(reason.recheck(), Recheck::Spec | Recheck::FetchStart))
    }

    /// Whether only a fetch can show that this failure no longer exists.
    pub fn needs_fetch(word: &str) -> bool {
        let fetch = |reason: Self| matches!(reason.recheck(), Recheck::FetchStart | Recheck::Fetch);
        !word.is_empty() && word.parse().map_or(true, fetch)
    }

    /// Whether the failure is about the repository, its content, or the credentials for it, and not about the object in S3.
    pub fn is_about_source(self) -> bool {
        matches!(self.about(), About::Secret | About::Access | About::GitHub | About::Content)
    }

    /// Whether it is a warning about an object that was stored.
    pub fn is_note(self) -> bool {
        self.kind() == Kind::Note
    }

    /// Whether only other content or another limit resolves the failure.
    pub fn is_about_content(self) -> bool {
        self.about() == About::Content
    }

    /// Whether a change of the Secret may resolve the failure.
    pub fn is_about_secret(self) -> bool {
        self.about() == About::Secret
    }

    /// Whether other credentials may resolve the failure.
    pub fn may_be_about_secret(self) -> bool {
        matches!(self.about(), About::Secret | About::Access)
    }

    /// The controllers and reasons of the failure counter.
    pub fn counted() -> impl Iterator<Item = (&'static str, &'static str)> {
        let failures = Self::ALL.iter().filter(|reason| {
            !Self::is_progress(reason.as_str()) && !reason.is_note() && reason.about() != About::Address
        });
        let of_modules = [Self::VersionRefused, Self::ApiUnavailable];
        let versions = failures.map(|reason| ("version", reason.as_str()));
        versions.chain(of_modules.map(|reason| ("module", reason.as_str())))
    }
}

impl FromStr for Reason {
    /// The word is not a reason of this release.
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        Self::ALL.iter().copied().find(|reason| reason.as_str() == word).ok_or(())
    }
}

impl From<&NotAddressable> for Reason {
    fn from(why: &NotAddressable) -> Self {
        match why {
            NotAddressable::Name(_) => Self::NameNotAddressable,
            NotAddressable::RegistryName(_) => Self::RegistryNameInvalid,
            NotAddressable::ProviderMissing => Self::ProviderMissing,
            NotAddressable::Provider(_) => Self::ProviderNotAddressable,
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_camel_case_and_read_back() {
        for reason in Reason::ALL {
            assert!(reason.as_str().chars().all(|c| c.is_ascii_alphanumeric()));
            assert!(reason.as_str().starts_with(|c: char| c.is_ascii_uppercase()));
            assert_eq!(reason.as_str().parse(), Ok(*reason));
        }
    }

    #[test]
    fn words_of_other_releases_count_as_failures_that_need_a_fetch() {
        // (word, progress, costs requests, needs a fetch)
        for (word, expected) in [
            ("", (true, true, false)),
            ("Publishing", (true, true, false)),
            ("OfAnotherRelease", (false, true, true)),
            ("TagNotFound", (false, true, true)),
            ("InvalidSpec", (false, false, false)),
            ("StorageNotAllowed", (false, false, false)),
            ("HostNotAllowed", (false, false, true)),
            ("SecretNotFound", (false, false, true)),
            ("StorageRefused", (false, true, false)),
            ("OldObjectKept", (false, true, false)),
            ("ObjectNotOurs", (false, true, true)),
        ] {
            let found = (Reason::is_progress(word), Reason::costs_requests(word), Reason::needs_fetch(word));
            assert_eq!(found, expected, "{word}");
        }
    }
}
