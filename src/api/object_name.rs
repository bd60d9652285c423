//! Names of Version objects, and label values.
//!
//! Pure. Two pairs of Module and version never share a name, every name is a DNS-1123 subdomain, and it is the plain
//! `<module>-<version>` if that has both properties.

use aws_lc_rs::digest::{SHA256, digest};

use crate::domain::Release;
use crate::domain::names::is_dns_subdomain;
use crate::domain::text::hex;

/// The longest name. Kubernetes allows 253; Events append about 18 characters to the name of their object.
const MAX_NAME: usize = 230;
/// Characters of the hash: 40 bits.
const HASH: usize = 10;

/// The name of the Version object for `release` of the Module called `module`.
pub fn version_object(module: &str, release: &Release) -> String {
    let plain = format!("{module}-{release}");
    if is_dns_subdomain(&plain, MAX_NAME)
        && !looks_hashed(&plain)
        && first_split(&plain) == Some(module.len())
    {
        return plain;
    }
    let safe: String = plain
        .chars()
        .map(|c| c.to_ascii_lowercase())
        .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' })
        .take(MAX_NAME - HASH - 1)
        .collect();
    // Each label must begin and end with a letter or digit, which the hash ensures for the end of the last one.
    let labels: Vec<&str> =
        safe.split('.').map(|label| label.trim_matches('-')).filter(|l| !l.is_empty()).collect();
    format!("{}-{}", labels.join("."), short_hash(&format!("{module}\n{release}")))
}

/// `text` as a label value: itself, or cut and hashed if it is longer than the 63 characters of a label value.
pub fn label_value(text: &str) -> String {
    if text.len() <= 63 {
        return text.to_owned();
    }
    let head: String = text.chars().take(63 - HASH - 1).collect();
    format!("{}-{}", head.trim_end_matches(['-', '.', '_']), short_hash(text))
}

/// The position of the first `-` that splits the name into `<module>-<version>`. If there are two, only the first counts, so
/// that module `a` with version `1.0.0-2.0.0` and module `a-1.0.0` with version `2.0.0` get different names.
fn first_split(name: &str) -> Option<usize> {
    name.match_indices('-').map(|(at, _)| at).find(|&at| at > 0 && Release::parse(&name[at + 1..]).is_ok())
}

/// Whether a plain name could be mistaken for one that was made with a hash.
fn looks_hashed(name: &str) -> bool {
    name.rsplit_once('-')
        .is_some_and(|(_, end)| end.len() == HASH && end.chars().all(|c| c.is_ascii_hexdigit()))
}

fn short_hash(text: &str) -> String {
    hex(&digest(&SHA256, text.as_bytes()).as_ref()[..HASH / 2])
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn name(module: &str, version: &str) -> String {
        version_object(module, &Release::parse(version).unwrap())
    }

    /// As Kubernetes says it (RFC 1123, subdomain), apart from the code under test.
    fn is_subdomain(name: &str) -> bool {
        let inner = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '-');
        let outer = |c: char| inner(c) && c != '-';
        name.len() <= 253
            && name.split('.').all(|l| l.chars().all(inner) && l.starts_with(outer) && l.ends_with(outer))
    }

    #[test]
    fn plain_names_keep_their_dots() {
        assert_eq!(name("terraform-aws-eks", "v21.18.0"), "terraform-aws-eks-21.18.0");
        assert_eq!(name("m", "1.0.0-rc.1"), "m-1.0.0-rc.1");
    }

    #[test]
    fn what_is_illegal_or_ambiguous_is_hashed() {
        for (module, version) in [
            ("m", "1.0.0-RC.1"),
            ("m", "1.0.0+build.5"),
            ("m", "1.0.0-a-.b"),
            ("m", "1.0.0--"),
            ("m-1.0.0", "2.0.0"),
            ("m", "1.0.0-a123456789"),
            (&"m".repeat(253), "1.0.0"),
        ] {
            let made = name(module, version);
            assert!(is_dns_subdomain(&made, MAX_NAME) && looks_hashed(&made), "{module} {version}: {made}");
        }
        assert_ne!(name("m-1.0.0", "2.0.0"), name("m", "1.0.0-2.0.0"));
        assert_ne!(name("m", "1.0.0-RC.1"), name("m", "1.0.0-rc.1"));
        assert_ne!(name("m", "1.0.0+a"), name("m", "1.0.0-a"));
    }

    #[test]
    fn labels_fit() {
        assert_eq!(label_value("m"), "m");
        assert!(label_value(&"m.".repeat(100)).len() <= 63);
        assert_ne!(label_value(&"a".repeat(70)), label_value(&"a".repeat(71)));
    }

    /// Out of few characters, so that clashes are frequent; and the longest that Kubernetes allows.
    fn module_name() -> impl Strategy<Value = String> {
        // The second reads like a name that already has a version in it.
        prop_oneof![
            8 => "[a-c]([-.]?[a-c0-1]){0,3}",
            2 => "[ab](-[01]\\.0\\.0){1,2}",
            1 => "[a-b]([-.]?[a-c0-1]){108,126}",
        ]
    }

    fn version() -> impl Strategy<Value = String> {
        let short = "[01]\\.[01]\\.0(-[a-bA-B0-1-]{1,3}(\\.[a-b1]{1,2})?)?(\\+[a-b]{1,2})?";
        prop_oneof![8 => short, 2 => "[01]\\.0\\.0(-[01]\\.0\\.0){0,2}", 1 => "1\\.0\\.0-[a-bA-]{100,122}"]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn label_values_are_legal_and_injective(names in proptest::collection::vec(module_name(), 1..40)) {
            let mut seen: HashMap<String, String> = HashMap::new();
            for name in names {
                let made = label_value(&name);
                let ends = made.starts_with(|c: char| c.is_ascii_alphanumeric()) && made.ends_with(|c: char| c.is_ascii_alphanumeric());
                let legal = made.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
                prop_assert!(made.len() <= 63 && ends && legal, "{made}");
                let first = seen.entry(made).or_insert_with(|| name.clone());
                prop_assert_eq!(&*first, &name);
            }
        }

        #[test]
        fn names_are_legal_and_injective(
            pairs in proptest::collection::vec(
                (module_name(), version()),
                1..40,
            )
        ) {
            let mut seen: HashMap<String, (String, String)> = HashMap::new();
            for (module, version) in pairs {
                let Ok(release) = Release::parse(&version) else { continue };
                let made = version_object(&module, &release);
                prop_assert!(is_dns_subdomain(&made, MAX_NAME) && is_subdomain(&made), "{made}");
                prop_assert_eq!(&version_object(&module, &release), &made);
                let pair = (module, release.to_string());
                let first = seen.entry(made).or_insert_with(|| pair.clone());
                prop_assert_eq!(first, &pair);
            }
        }
    }
}
