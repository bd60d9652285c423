//! GitHub's explanations without secrets, for conditions, Events and logs.
//!
//! A gateway between the operator and GitHub may repeat the request that it rejects.

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::domain::text::is_bidi_control;

/// An explanation is cut to this number of characters.
const LONGEST_MESSAGE: usize = 200;
const HIDDEN: &str = "[redacted]";
/// GitHub's prefixes of tokens, in lower case.
const TOKENS: [&str; 6] = ["ghp_", "gho_", "ghs_", "ghu_", "ghr_", "github_pat_"];
/// Start of a JWT: `{"` in base64.
const JWT: &str = "eyJ";
/// From this length on, text after a prefix is a token even in the middle of a word.
const SECRET_LENGTH: usize = 16;

/// GitHub's explanation in an error body. `sent` is the request's token.
pub(super) fn explanation(body: &[u8], sent: Option<&SecretString>) -> Option<String> {
    #[derive(Deserialize)]
    struct Body {
        message: String,
    }
    let Body { message } = serde_json::from_slice(body).ok()?;
    shown(&message, sent)
}

/// The text of an error body that is not JSON.
pub(super) fn plain_text(body: &[u8], sent: Option<&SecretString>) -> Option<String> {
    shown(str::from_utf8(body).ok()?, sent)
}

/// The start of a text, without secrets and characters that change how a text is read.
fn shown(text: &str, sent: Option<&SecretString>) -> Option<String> {
    let text: String = text.chars().filter(|c| !c.is_control() && !is_bidi_control(*c)).collect();
    let short: String = redacted(&text, sent).chars().take(LONGEST_MESSAGE).collect();
    Some(short.trim().to_owned()).filter(|text| !text.is_empty())
}

/// Hides the token that was `sent`, everything that looks like a token of GitHub or a JWT, and users and queries of URLs.
fn redacted(text: &str, sent: Option<&SecretString>) -> String {
    let sent = sent.map(ExposeSecret::expose_secret).filter(|token| !token.is_empty());
    let text = sent.map_or_else(|| text.to_owned(), |token| text.replace(token, HIDDEN));
    text.split_inclusive(char::is_whitespace).map(|word| without_tokens(&without_query(word))).collect()
}

/// A URL's user and query may be secrets; so may a query without a host.
fn without_query(word: &str) -> String {
    let end = word.trim_end().len();
    let (word, space) = word.split_at(end);
    let (scheme, rest) = word.split_once("://").unwrap_or(("", word));
    let is_url = rest.len() < word.len();
    let shown = match rest.split_once(['?', '#']) {
        Some((shown, query)) if is_url || query.contains('=') => shown,
        _ => rest,
    };
    if !is_url {
        return format!("{shown}{space}");
    }
    let host = rest.rfind('@').map_or(shown, |at| shown.get(at + 1..).unwrap_or(""));
    format!("{scheme}://{host}{space}")
}

fn without_tokens(word: &str) -> String {
    let in_token = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let mut shown = String::new();
    let mut rest = word;
    while let Some(start) = rest.find(in_token) {
        let length = rest[start..].find(|c| !in_token(c)).unwrap_or(rest.len() - start);
        let (run, after) = rest[start..].split_at(length);
        shown.push_str(&rest[..start]);
        match token_at(run) {
            Some(at) => {
                shown.push_str(&run[..at]);
                shown.push_str(HIDDEN);
                shown.push_str(&run[run.trim_end_matches('.').len()..]);
            }
            None => shown.push_str(run),
        }
        rest = after;
    }
    shown + rest
}

/// Where a token begins in a run of characters that tokens consist of.
fn token_at(run: &str) -> Option<usize> {
    let lower = run.to_ascii_lowercase();
    let prefixed = |prefix: &str| {
        lower.match_indices(prefix).map(|(at, _)| at).find(|&at| {
            let secret = run.len() - at - prefix.len();
            let begins = !run[..at].ends_with(|c: char| c.is_ascii_alphanumeric());
            secret >= SECRET_LENGTH || (begins && secret > 0)
        })
    };
    let jwt = run.match_indices(JWT).map(|(at, _)| at).find(|at| run.len() - at >= SECRET_LENGTH);
    TOKENS.into_iter().filter_map(prefixed).chain(jwt).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn explanations_are_short_and_clean() {
        assert_eq!(
            explanation(br#"{"message":"Bad\u0000 cred\nentials"}"#, None).as_deref(),
            Some("Bad credentials")
        );
        assert_eq!(
            explanation("{\"message\":\"Bad \u{202e}creden\u{2066}tials\u{200f}\"}".as_bytes(), None)
                .as_deref(),
            Some("Bad credentials")
        );
        assert_eq!(explanation(b"404: Not Found", None), None);
        assert_eq!(plain_text(b"404: Not Found\n", None).as_deref(), Some("404: Not Found"));
        assert_eq!(plain_text(b"\xff", None), None);
        assert_eq!(explanation(br#"{"message":" "}"#, None), None);
        let long = format!(r#"{{"message":"{}"}}"#, "x".repeat(900));
        assert_eq!(explanation(long.as_bytes(), None).map(|text| text.len()), Some(LONGEST_MESSAGE));
        // A token is hidden before the text is cut, also where control characters divide it.
        let late = format!(r#"{{"message":"{} ghp_\u0001{}"}}"#, "x".repeat(190), "y".repeat(36));
        let shown = explanation(late.as_bytes(), None).unwrap();
        assert!(!shown.contains("gh") && !shown.contains('y'), "{shown}");
    }

    #[test]
    fn secrets_are_hidden() {
        let sent = SecretString::from("0123456789abcdef0123456789abcdef01234567");
        for (text, shown) in [
            ("Bad credentials", "Bad credentials"),
            ("token 0123456789abcdef0123456789abcdef01234567 is bad", "token [redacted] is bad"),
            ("x0123456789abcdef0123456789abcdef01234567y", "x[redacted]y"),
            ("'ghp_abcDEF123' expired", "'[redacted]' expired"),
            ("token=gho_abc.", "token=[redacted]."),
            ("ghs_1_eyJhbGci.eyJpc3Mi.c2ln: no", "[redacted]: no"),
            ("(ghu_abc), ghr_abc; GHP_ABC", "([redacted]), [redacted]; [redacted]"),
            ("github_pat_11ABC_def", "[redacted]"),
            ("x%3Dghp_abcdefghij0123456789", "x%3D[redacted]"),
            ("Bearer eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiI3In0.c2ln-_ refused", "Bearer [redacted] refused"),
            ("see https://h.example/a?token=x, please", "see https://h.example/a please"),
            ("https://h.example/a#access_token=x", "https://h.example/a"),
            ("https://user:p/a?ss@h.example/a", "https://"),
            ("https://user:pass@h.example/a?b=c", "https://h.example/a"),
            ("GET /repos/a/b?access_token=x failed", "GET /repos/a/b failed"),
            ("\"authorization\":\"token ghp_x\"", "\"authorization\":\"token [redacted]\""),
        ] {
            assert_eq!(redacted(text, Some(&sent)), shown);
        }
    }

    #[test]
    fn other_words_are_shown() {
        for text in [
            "Resource protected by organization SAML enforcement. You must grant your token access.",
            "Is the app suspended? Ask its owner.",
            "highs_and_lows, ghp_ and eyJ",
            "'Expiration time' claim ('exp') is too far in the future",
            "see https://docs.github.com/rest/overview",
            "a  b\tc",
            "",
        ] {
            assert_eq!(redacted(text, None), text);
            assert_eq!(redacted(text, Some(&String::new().into())), text);
        }
    }
}
