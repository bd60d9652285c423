//! The client of a request according to its headers, for counts and the access log.

use http::HeaderMap;
use http::header::USER_AGENT;

use crate::domain::text::is_bidi_control;

/// The longest text of a client in a log line, in characters.
const LONGEST_TEXT: usize = 128;

/// A client and its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientInfo {
    /// `terraform`, `opentofu` or `other`.
    pub name: &'static str,
    /// The version that it states; empty if it states none.
    pub version: String,
}

impl ClientInfo {
    /// Reads `User-Agent` and `X-Terraform-Version`.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let agent = text(USER_AGENT.as_str());
        let product =
            |name: &str| agent.split(' ').find_map(|part| part.strip_prefix(name)?.strip_prefix('/'));
        let stated = text("x-terraform-version");
        let (name, version) = match (product("OpenTofu"), product("Terraform")) {
            (Some(version), _) => ("opentofu", version),
            (None, Some(version)) => ("terraform", if stated.is_empty() { version } else { stated }),
            (None, None) => ("other", agent),
        };
        Self { name, version: loggable(version) }
    }
}

/// A text of a client as it may appear in a log line. All but control characters stays as it is, so that a user is found by name.
pub(crate) fn loggable(text: &str) -> String {
    loggable_within(text, LONGEST_TEXT)
}

/// The same with another limit, in characters.
pub(crate) fn loggable_within(text: &str, mut room: usize) -> String {
    let mut line = String::new();
    for c in text.chars() {
        let is_escaped = c.is_control() || is_bidi_control(c);
        let shown = if is_escaped { c.escape_default().to_string() } else { c.to_string() };
        // An escape is written as a whole or not at all.
        let Some(left) = room.checked_sub(shown.chars().count()) else { break };
        line.push_str(&shown);
        room = left;
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_recognised() {
        for (agent, stated, name, version) in [
            ("HashiCorp Terraform/1.11.4 (+https://www.terraform.io)", "", "terraform", "1.11.4"),
            ("Terraform/1.11.4", "1.11.4", "terraform", "1.11.4"),
            ("OpenTofu/1.12.6", "1.12.6", "opentofu", "1.12.6"),
            ("RenovateBot/39.0", "", "other", "RenovateBot/39.0"),
            ("", "", "other", ""),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(USER_AGENT, agent.parse().unwrap());
            headers.insert("x-terraform-version", stated.parse().unwrap());
            assert_eq!(ClientInfo::of(&headers), ClientInfo { name, version: version.into() }, "{agent}");
        }
    }

    #[test]
    fn log_lines_stay_short_and_on_one_line_and_names_as_they_are() {
        for (text, expected) in [
            ("a\nb\u{1b}[31m", "a\\nb\\u{1b}[31m"),
            ("a\u{202e}b\u{2066}", "a\\u{202e}b\\u{2066}"),
            ("oidc:o'brien@acme.io", "oidc:o'brien@acme.io"),
            (r#"ACME\bob "x""#, r#"ACME\bob "x""#),
            ("e\u{301}", "e\u{301}"),
        ] {
            assert_eq!(loggable(text), expected);
        }
        assert_eq!(loggable(&"é".repeat(129)), "é".repeat(128));
        assert_eq!(loggable_within(&"é".repeat(129), 200), "é".repeat(129));
        assert_eq!(loggable(&"\t".repeat(65)), "\\t".repeat(64), "escapes count too");
        assert_eq!(loggable(&format!("{}\u{1b}", "a".repeat(125))), "a".repeat(125));
    }
}
