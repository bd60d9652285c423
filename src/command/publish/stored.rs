//! The result of `opendepot publish`, and its forms: text, JSON, `NAME=VALUE` lines for CI systems. Pure.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

/// A version that is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stored {
    pub module: String,
    pub namespace: String,
    pub version: String,
    /// Name of the Version object.
    pub version_object: String,
    pub bucket: String,
    pub key: String,
    /// SHA-256 in base64.
    pub checksum: String,
    pub content_digest: String,
    pub commit: String,
}

impl Stored {
    /// Reads the status of a Version.
    pub fn of(version: &Value, module: &str, namespace: &str) -> Self {
        let text =
            |pointer: &str| version.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        Self {
            module: module.to_owned(),
            namespace: namespace.to_owned(),
            version: text("/spec/version"),
            version_object: text("/metadata/name"),
            bucket: text("/status/storage/bucket"),
            key: text("/status/storage/key"),
            checksum: text("/status/checksum"),
            content_digest: text("/status/contentDigest"),
            commit: text("/status/source/commit"),
        }
    }

    /// Lines that GitHub's `GITHUB_OUTPUT` and GitLab's dotenv reports have in common.
    pub fn lines(&self) -> String {
        let Self { bucket, key, checksum, content_digest, .. } = self;
        format!("bucket={bucket}\nkey={key}\nchecksum={checksum}\ncontentDigest={content_digest}\n")
    }
}

impl fmt::Display for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.lines();
        let lines: Vec<String> = lines.lines().map(|line| line.replacen('=', ": ", 1)).collect();
        f.write_str(&lines.join("\n"))
    }
}

/// Untrusted text in one line, which no CI system takes for a command: GitHub's runner executes lines that begin with `::`, and
/// `##[` anywhere.
pub fn harmless(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.replace("##[", "## [")
}

/// The failure as an annotation on the page of a run of GitHub Actions.
pub fn annotation(error: &str) -> String {
    let text = error.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    format!("::error title=Not published::{text}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn outputs_are_those_of_the_action() {
        let version = json!({"status": {"storage": {"bucket": "b", "key": "k.zip"}, "checksum": "c2E=", "contentDigest": "h1:eA=="}});
        let stored = Stored::of(&version, "net", "team");
        assert_eq!(stored.lines(), "bucket=b\nkey=k.zip\nchecksum=c2E=\ncontentDigest=h1:eA==\n");
        assert_eq!(stored.to_string(), "bucket: b\nkey: k.zip\nchecksum: c2E=\ncontentDigest: h1:eA==");
    }

    #[test]
    fn text_of_others_is_no_command() {
        assert_eq!(harmless("a\n::set-env name=x::y ##[error]"), "a ::set-env name=x::y ## [error]");
        assert_eq!(annotation("50%\n::x"), "::error title=Not published::50%25%0A::x");
    }
}
