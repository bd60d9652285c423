//! How dates, sizes and reasons are shown.

use jiff::Timestamp;
use maud::{Markup, html};

use crate::controller::failure::Reason;

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

/// What a reason means, for a client that cannot see the message of the Version.
pub(super) fn meaning(word: &str) -> String {
    // The table is Markdown.
    let known = word.parse().map(|reason: Reason| reason.meaning().replace('`', ""));
    known.unwrap_or_else(|()| "The Version object has the details.".to_owned())
}
