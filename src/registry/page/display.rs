//! How dates, sizes and reasons are shown.

use jiff::Timestamp;
use maud::{Markup, html};

use crate::controller::failure::{About, Reason};

/// A date, with the time for those who point at it.
pub(super) fn date(time: Timestamp) -> Markup {
    let text = time.to_string();
    html! { time datetime=(text) title=(text) { (text.get(..10).unwrap_or(&text)) } }
}

/// The beginning of a commit or checksum.
pub(super) fn short(hex: &str) -> &str {
    hex.get(..12).unwrap_or(hex)
}

/// A size as people read it.
pub(super) fn size(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec().to_string()
}

/// What a reason means, for a reader who cannot see the message of the Version.
pub(super) fn meaning(word: &str) -> String {
    let Ok(reason) = word.parse::<Reason>() else { return "The Version object has the details.".to_owned() };
    // The table is Markdown.
    let meaning = reason.meaning().replace('`', "");
    let (meaning, of_message) = meaning.split_once("; the message ").unwrap_or((meaning.as_str(), ""));
    let rest = of_message.split_once(". ").map(|(_, rest)| format!(". {rest}")).unwrap_or_default();
    format!("{meaning}{rest}.")
}

/// What the reason of a stored version that is not Ready means for its clients.
pub(super) fn for_clients(word: &str) -> &'static str {
    let is_in_doubt = match word.parse::<Reason>() {
        Ok(Reason::OldObjectKept | Reason::KeyRetained) => false,
        Ok(Reason::Restoring) | Err(()) => true,
        Ok(reason) => reason.about() == About::Storage,
    };
    if is_in_doubt { "Downloads may fail." } else { "Clients still install the stored archive." }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_reason_means_refers_to_no_message() {
        for reason in Reason::ALL.iter().filter(|reason| reason.about() != About::Address) {
            let meaning = meaning(reason.as_str());
            assert!(!meaning.contains("message") && meaning.ends_with('.'), "{reason}: {meaning}");
        }
        assert_eq!(meaning("StorageUnavailable"), "S3 failed, or could not be reached.");
        let invalid = "a field has an unusable value. While a Module has this reason, nothing is removed.";
        assert_eq!(meaning("InvalidSpec"), invalid);
        assert_eq!(meaning("Newer"), "The Version object has the details.");
    }

    #[test]
    fn clients_may_fail_if_the_store_does() {
        for (reason, may_fail) in [
            ("ImmutableContentChanged", false),
            ("Suspended", false),
            ("TagNotFound", false),
            ("OldObjectKept", false),
            ("StorageUnavailable", true),
            ("BucketNotFound", true),
            ("Restoring", true),
            ("Newer", true),
        ] {
            assert_eq!(for_clients(reason) == "Downloads may fail.", may_fail, "{reason}");
        }
    }
}
