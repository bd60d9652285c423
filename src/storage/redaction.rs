//! Removes secrets from texts of S3 and of the network, so that they can be shown in statuses and logs.
//!
//! Names of headers are kept: a store that rejects `x-amz-checksum-sha256` is reported with that name.

use crate::domain::text::is_bidi_control;

/// Longer texts lose their middle, in characters: S3's denials end with the reason, after long names.
const BEGINNING: usize = 230;
const END: usize = 70;

/// Names whose value is a secret, or proves the knowledge of one.
const SECRET: [&str; 5] = [
    "x-amz-security-token",
    "customer-key",
    "authorization",
    "secret-access-key",
    "x-aws-ec2-metadata-token",
];

/// A text for statuses and logs: one line, bounded, without secrets.
pub(super) fn presentable(text: &str) -> String {
    let line = redacted(text);
    let length = line.chars().count();
    if length <= BEGINNING + END {
        return line;
    }
    let part = |from, count| line.chars().skip(from).take(count).collect::<String>();
    format!("{}…{}", part(0, BEGINNING), part(length - END, END))
}

/// One line without secrets. URLs are reduced to scheme, host and path.
fn redacted(text: &str) -> String {
    let text: String = text.chars().filter(|c| !is_bidi_control(*c)).collect();
    let mut hide_next = false;
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let words = words.map(|word| {
        let hidden = std::mem::take(&mut hide_next);
        match value(&word.to_ascii_lowercase()) {
            Value::Here => "[redacted]".to_owned(),
            _ if hidden => "[redacted]".to_owned(),
            Value::Next => {
                hide_next = true;
                word.to_owned()
            }
            Value::No => without_query(word),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Whether a word contains a secret, or the next word does.
enum Value {
    No,
    Here,
    Next,
}

fn value(word: &str) -> Value {
    // The first two are parts of a signed URL, not headers.
    let assigns = ["x-amz-signature", "x-amz-credential", "signature=", "credential=", "token="]
        .iter()
        .any(|mark| word.contains(mark));
    let of_query = word.split_once("x-amz-").is_some_and(|(_, rest)| rest.contains(['=', '%']));
    if assigns || of_query {
        return Value::Here;
    }
    let Some((_, after)) = SECRET.iter().find_map(|name| word.split_once(name)) else { return Value::No };
    // `AuthorizationHeaderMalformed:` is a code.
    if !after.contains([':', '=']) || after.starts_with(|c: char| c.is_ascii_alphabetic()) {
        Value::No
    } else if after.chars().all(|c| c.is_ascii_punctuation()) {
        Value::Next
    } else {
        Value::Here
    }
}

/// A URL without user name, password, query and fragment. Everything up to the last `@` is dropped, since a password may
/// contain `/`, `?`, `#` and `@` as they are.
fn without_query(word: &str) -> String {
    let Some((scheme, rest)) = word.split_once("://") else { return word.to_owned() };
    let shown = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let shown = shown.split(['?', '#']).next().unwrap_or_default();
    format!("{scheme}://{shown}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden() {
        for (text, shown) in [
            ("GET https://u:hunter2@host:9000/b/k?X-Amz-Signature=1f failed", "GET [redacted] failed"),
            ("GET https://host/b?X-Amz-Date=1&X-Amz-Security-Token%3Dhunter2", "GET [redacted]"),
            ("via http://u:hunter2@proxy:3128: refused", "via http://proxy:3128: refused"),
            ("via http://u:hunter?2@proxy:3128: refused", "via http://proxy:3128: refused"),
            ("via http://u:hun/ter#2@proxy:3128/: refused", "via http://proxy:3128/: refused"),
            ("via http://u:hunter@2@proxy:3128/path?x=1", "via http://proxy:3128/path"),
            ("to https://host/path?key=hunter2 failed", "to https://host/path failed"),
            ("Credential=AKIA/x, Signature=hunter2", "[redacted] [redacted]"),
            ("x-amz-security-token:hunter2", "[redacted]"),
            ("x-amz-security-token: hunter2 host: h", "x-amz-security-token: [redacted] host: h"),
            (r#"{"X-Amz-Security-Token": "hunter2"}"#, r#"{"X-Amz-Security-Token": [redacted]"#),
            (r#""x-amz-security-token":"hunter2""#, "[redacted]"),
            (
                "x-amz-server-side-encryption-customer-key: aHVudGVy",
                "x-amz-server-side-encryption-customer-key: [redacted]",
            ),
            ("authorization: hunter2", "authorization: [redacted]"),
            ("two\nlines\u{7}", "two lines"),
            ("\u{202e}see \u{2067}https://host/a?x=1\u{2069}", "see https://host/a"),
            ("x-amz-security-token:hun\u{202e}ter2", "[redacted]"),
        ] {
            assert_eq!(redacted(text), shown);
        }
    }

    #[test]
    fn names_of_headers_are_shown() {
        for text in [
            "InvalidArgument: Unsupported header 'x-amz-checksum-sha256' received for this API call.",
            "Header 'x-amz-checksum-algorithm' with value 'SHA256' not implemented",
            "x-amz-checksum-mode: ENABLED is not supported",
            "AuthorizationHeaderMalformed: the region 'a' is wrong",
            "SignedHeaders must include x-amz-security-token.",
            "missing x-amz-content-sha256, if-none-match",
        ] {
            assert_eq!(redacted(text), text);
        }
    }

    #[test]
    fn a_text_is_one_line_and_bounded() {
        assert_eq!(presentable("two\nlines\u{7}"), "two lines");
        assert_eq!(presentable(&"é".repeat(400)).chars().count(), BEGINNING + END + 1);
        let denied = format!(
            "AccessDenied: User: arn:aws:sts::123456789012:assumed-role/opendepot/1 is not authorized to perform: \
             s3:PutObject on resource: \"arn:aws:s3:::modules/{}.zip\" with an explicit deny in an identity-based policy",
            "a".repeat(300)
        );
        let shown = presentable(&denied);
        assert!(shown.starts_with("AccessDenied: User: arn:aws:sts::123456789012:assumed-role/opendepot/1"));
        assert!(shown.ends_with("with an explicit deny in an identity-based policy"), "{shown}");
    }
}
