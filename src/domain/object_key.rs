//! Object keys, made of a prefix, a module's name and a file's name. Users write all three, so a key that would leave its
//! prefix is an error that names the wrong part. Pure.

use thiserror::Error;
use uuid::Uuid;

use super::format::ArchiveFormat;
use super::release::Release;
use super::text::{LONGEST_EXCERPT, cut};

/// S3's own limit, in bytes of UTF-8.
const MAX_KEY_BYTES: usize = 1024;

/// Why no key can be made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// A part is not made of plain path segments.
    #[error("the {part} {value:?} {problem}")]
    Part {
        /// Which part: `key prefix`, `module name` or `file name`.
        part: &'static str,
        /// The part as it was written.
        value: String,
        /// What is wrong, and what to write instead.
        problem: &'static str,
    },
    /// The parts are right but the whole exceeds S3's limit.
    #[error(
        "the object key would have {0} bytes, and S3 allows at most {MAX_KEY_BYTES}: shorten the key prefix or the module name"
    )]
    TooLong(usize),
}

/// Makes the key `[prefix/]module_name/file_name`. An empty prefix counts as none, and one slash at its end is tolerated.
/// Under one prefix, two different pairs of names never share a key.
///
/// # Errors
/// [`KeyError`], when a part is not plain path segments or the whole is over 1,024 bytes.
pub fn object_key(prefix: Option<&str>, module_name: &str, file_name: &str) -> Result<String, KeyError> {
    let mut parts = Vec::with_capacity(3);
    if let Some(prefix) = prefix.filter(|prefix| !prefix.is_empty()) {
        parts.push(checked_path("key prefix", prefix.strip_suffix('/').unwrap_or(prefix))?);
    }
    parts.push(checked_path("module name", module_name)?);
    if file_name.contains('/') {
        return Err(wrong("file name", file_name, "contains `/`: give the name alone, without folders"));
    }
    parts.push(checked_path("file name", file_name)?);
    let key = parts.join("/");
    if key.len() > MAX_KEY_BYTES { Err(KeyError::TooLong(key.len())) } else { Ok(key) }
}

/// The media type of an archive, derived from its file name.
pub fn content_type(file_name: &str) -> &'static str {
    match ArchiveFormat::of_file_name(file_name) {
        Some(ArchiveFormat::Zip) => "application/zip",
        Some(ArchiveFormat::Tar) => "application/gzip",
        None => "application/octet-stream",
    }
}

/// Passes a part whose segments are all plain: not empty, not `.` or `..`, without control characters.
pub fn checked_path<'a>(part: &'static str, value: &'a str) -> Result<&'a str, KeyError> {
    let problem = if value.is_empty() {
        "is empty"
    } else if value.starts_with('/') {
        "starts with `/`: leave the slash out"
    } else if value.chars().any(char::is_control) {
        "contains a control character"
    } else {
        match value.split('/').find(|segment| matches!(*segment, "" | "." | "..")) {
            None => return Ok(value),
            Some("") => "has an empty segment: write single slashes, and none at the end",
            Some(_) => "has a `.` or `..` segment: write the path without it",
        }
    };
    Err(wrong(part, value, problem))
}

fn wrong(part: &'static str, value: &str, problem: &'static str) -> KeyError {
    KeyError::Part { part, value: cut(value, LONGEST_EXCERPT), problem }
}

/// The last part of the key of a Version without `spec.fileName`: the same for the same namespace, name and version, so
/// that the object is found again without a record.
pub fn derived_file_name(namespace: &str, name: &str, release: &Release, format: ArchiveFormat) -> String {
    let text = format!("{namespace}/{name}/{release}");
    let root = Uuid::new_v5(&Uuid::NAMESPACE_URL, b"https://opendepot.defdev.io/version");
    format!("{}.{}", Uuid::new_v5(&root, text.as_bytes()), format.extension())
}

/// The last part of a key that no object has had yet.
pub fn fresh_file_name(format: ArchiveFormat) -> String {
    format!("{}.{}", Uuid::now_v7(), format.extension())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::{option, prelude::*};

    use super::*;

    #[test]
    fn keys_are_the_parts_joined() {
        let table = [
            (None, "terraform-aws-eks", "018f.zip", "terraform-aws-eks/018f.zip"),
            (Some(""), "vpc", "a.tar.gz", "vpc/a.tar.gz"),
            (Some("team/prod"), "vpc", "a.zip", "team/prod/vpc/a.zip"),
            (Some("team/"), "vpc", "a.zip", "team/vpc/a.zip"),
            (None, "vpc", "..a..zip", "vpc/..a..zip"),
            (None, "módulo", "a.zip", "módulo/a.zip"),
        ];
        for (prefix, name, file, key) in table {
            assert_eq!(object_key(prefix, name, file).as_deref(), Ok(key));
        }
    }

    #[test]
    fn a_wrong_part_is_named() {
        let table = [
            (Some("/"), "vpc", "a.zip", "key prefix"),
            (Some("/team"), "vpc", "a.zip", "key prefix"),
            (Some("team//"), "vpc", "a.zip", "key prefix"),
            (Some("a//b"), "vpc", "a.zip", "key prefix"),
            (Some("../team"), "vpc", "a.zip", "key prefix"),
            (Some("team/.."), "vpc", "a.zip", "key prefix"),
            (Some("./team"), "vpc", "a.zip", "key prefix"),
            (None, "", "a.zip", "module name"),
            (None, "..", "a.zip", "module name"),
            (None, "vpc/", "a.zip", "module name"),
            (None, "/vpc", "a.zip", "module name"),
            (None, "v\npc", "a.zip", "module name"),
            (None, "vpc", "", "file name"),
            (None, "vpc", "..", "file name"),
            (None, "vpc", "x/a.zip", "file name"),
            (None, "vpc", "a\u{7f}.zip", "file name"),
        ];
        for (prefix, name, file, part) in table {
            let error = object_key(prefix, name, file).expect_err("refused");
            assert!(
                error.to_string().starts_with(&format!("the {part} ")),
                "{prefix:?} {name:?} {file:?}: {error}"
            );
        }
    }

    #[test]
    fn the_limit_counts_bytes() {
        let name = "é".repeat(510);
        assert_eq!(object_key(None, &name, "a.z").map(|key| key.len()), Ok(1024));
        assert_eq!(object_key(None, &name, "a.zi"), Err(KeyError::TooLong(1025)));
    }

    #[test]
    fn content_types_follow_the_format() {
        assert_eq!(content_type("a.zip"), "application/zip");
        assert_eq!(content_type("A.ZIP"), "application/zip");
        assert_eq!(content_type("a.tar.gz"), "application/gzip");
        assert_eq!(content_type("a.tgz"), "application/gzip");
        assert_eq!(content_type("a"), "application/octet-stream");
    }

    /// Names out of few characters, so that slashes, dots and clashes are frequent.
    fn name() -> impl Strategy<Value = String> {
        "[ab./]{0,5}"
    }

    proptest! {
        #[test]
        fn a_key_stays_below_its_prefix(prefix in name(), module in name(), file in name()) {
            if let Ok(key) = object_key(Some(&prefix), &module, &file) {
                let below = prefix.strip_suffix('/').unwrap_or(&prefix).to_owned() + "/";
                prop_assert!(prefix.is_empty() || key.starts_with(&below));
                prop_assert!(key.split('/').all(|segment| !matches!(segment, "" | "." | "..")));
            }
        }

        #[test]
        fn a_key_is_legal_for_s3_and_ends_with_both_names(
            prefix in option::of("(?s).{0,40}"), module in prop_oneof!["(?s).{0,20}", "[a-z]{1000,1030}"], file in "(?s).{0,20}",
        ) {
            if let Ok(key) = object_key(prefix.as_deref(), &module, &file) {
                prop_assert!((1..=MAX_KEY_BYTES).contains(&key.len()));
                prop_assert!(!key.starts_with('/') && !key.chars().any(char::is_control));
                let names = format!("{module}/{file}");
                prop_assert!(key.strip_suffix(&names).is_some_and(|start| start.is_empty() || start.ends_with('/')));
            }
        }

        #[test]
        fn different_names_have_different_keys(names in proptest::collection::vec((name(), name()), 2..60)) {
            let mut seen = HashMap::new();
            for (module, file) in names {
                if let Ok(key) = object_key(Some("p"), &module, &file) {
                    let first = seen.entry(key).or_insert_with(|| (module.clone(), file.clone()));
                    prop_assert_eq!(&*first, &(module, file));
                }
            }
        }
    }
}
