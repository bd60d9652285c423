//! Semantic versions (semver.org, 2.0.0), parsed from `spec.versions[].version`.
//!
//! `v1.2.3` and `1.2.3` are one [`Release`], with two spellings of its tag. Pure.

use std::cmp::Ordering;

/// The versions that [`Release::parse`] accepts, as a regular expression in a string of CEL: a literal, since the rules of a
/// schema are made of literals. The API server estimates the cost of a rule from the expression's length, and with 5,000 entries
/// this one is near the limit. So the expression of a number is written once, after the beginning of the text or after a dot;
/// `\b` excludes a dot at the beginning.
macro_rules! semver_pattern {
    () => {
        concat!(
            "^((^v?|\\\\b\\\\.)(0|[1-9]\\\\d{0,18})){3}",
            "(-(0|[1-9]\\\\d*|\\\\d*[A-Za-z-][\\\\dA-Za-z-]*)(\\\\.(0|[1-9]\\\\d*|\\\\d*[A-Za-z-][\\\\dA-Za-z-]*))*)?",
            "(\\\\+[\\\\dA-Za-z-]+(\\\\.[\\\\dA-Za-z-]+)*)?$"
        )
    };
}
pub(crate) use semver_pattern;

/// A parsed version. Two spellings of one version (`v1.2.3`, `1.2.3`) are equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Release(semver::Version);

/// The text is not a semantic version.
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

    /// Whether Terraform and OpenTofu can parse it: their numbers have 63 bits. Another version in a registry's answer causes
    /// a warning in each consumer's output.
    pub fn fits_clients(&self) -> bool {
        let Self(version) = self;
        [version.major, version.minor, version.patch].iter().all(|number| i64::try_from(*number).is_ok())
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

    /// Whether both have the same precedence: they differ by build metadata at most, which the clients do not compare.
    pub fn has_precedence_of(&self, other: &Self) -> bool {
        self.0.cmp_precedence(&other.0).is_eq()
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
    fn build_metadata_has_no_precedence() {
        for (text, is_same) in [
            ("1.0.0", true),
            ("1.0.0+c", true),
            ("v1.0.0+b", true),
            ("1.0.0-rc.1+b", false),
            ("1.0.1+b", false),
        ] {
            assert_eq!(release(text).has_precedence_of(&release("1.0.0+b")), is_same, "{text}");
        }
    }

    #[test]
    fn clients_parse_numbers_of_63_bits() {
        for (text, fits) in [
            ("9223372036854775807.0.0", true),
            ("1.0.9223372036854775808", false),
            ("1.9223372036854775808.0", false),
            ("18446744073709551615.0.0", false),
            ("1.0.0-rc.99999999999999999999", true),
        ] {
            assert_eq!(release(text).fits_clients(), fits, "{text}");
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

    /// One dot-separated part of a pre-release, as semver.org's section 9 has it.
    fn identifier() -> impl Strategy<Value = String> {
        prop_oneof![3 => "0|[1-9][0-9]{0,2}", 1 => "[1-9][0-9]{18,24}", 3 => "[0-9]{0,2}[a-bA-B-][a-b0-9-]{0,2}"]
    }

    fn valid() -> impl Strategy<Value = String> {
        let number = || prop_oneof![8 => 0..3_u64, 1 => 9..12_u64, 1 => Just(u64::MAX)];
        let pre = prop::collection::vec(identifier(), 0..4);
        let build = prop::collection::vec("[0-9a-bA-]{1,3}", 0..3);
        (number(), number(), number(), pre, build).prop_map(|(major, minor, patch, pre, build)| {
            let pre = if pre.is_empty() { String::new() } else { format!("-{}", pre.join(".")) };
            let build = if build.is_empty() { String::new() } else { format!("+{}", build.join(".")) };
            format!("{major}.{minor}.{patch}{pre}{build}")
        })
    }

    /// Section 11 of semver.org, word by word.
    fn by_the_book(a: &str, b: &str) -> Ordering {
        let split = |text: &str| {
            let (text, _build) = text.split_once('+').unwrap_or((text, ""));
            let (core, pre) = text.split_once('-').map_or((text, None), |(core, pre)| (core, Some(pre)));
            let core: Vec<u64> = core.split('.').map(|n| n.parse().unwrap()).collect();
            (core, pre.map(|pre| pre.split('.').map(str::to_owned).collect::<Vec<_>>()))
        };
        let ((core_a, pre_a), (core_b, pre_b)) = (split(a), split(b));
        core_a.cmp(&core_b).then_with(|| match (pre_a, pre_b) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (Some(a), Some(b)) => a
                .iter()
                .zip(&b)
                .map(|(a, b)| part_by_the_book(a, b))
                .find(|order| order.is_ne())
                .unwrap_or_else(|| a.len().cmp(&b.len())),
        })
    }

    fn part_by_the_book(a: &str, b: &str) -> Ordering {
        let numeric = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        match (numeric(a), numeric(b)) {
            // Without leading zeros, the longer number is the larger one.
            (true, true) => a.len().cmp(&b.len()).then_with(|| a.cmp(b)),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            (false, false) => a.cmp(b),
        }
    }

    /// The grammar of semver.org, for numbers that fit into 64 bits.
    fn is_grammatical(text: &str) -> bool {
        let number = |n: &str| n.parse::<u64>().is_ok_and(|value| value.to_string() == n);
        let legal = |part: &str| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        let padded =
            |part: &str| part.len() > 1 && part.starts_with('0') && part.bytes().all(|b| b.is_ascii_digit());
        let text = text.strip_prefix('v').unwrap_or(text);
        let (text, build) = text.split_once('+').map_or((text, None), |(text, build)| (text, Some(build)));
        let (core, pre) = text.split_once('-').map_or((text, None), |(core, pre)| (core, Some(pre)));
        core.split('.').count() == 3
            && core.split('.').all(number)
            && pre.is_none_or(|pre| pre.split('.').all(|part| legal(part) && !padded(part)))
            && build.is_none_or(|build| build.split('.').all(legal))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn both_spellings_of_a_valid_version_are_read_and_written_back(text in valid()) {
            let spelled = format!("v{text}");
            prop_assert_eq!(release(&spelled).to_string(), text.clone());
            prop_assert_eq!(release(&spelled), release(&text));
            prop_assert_eq!(release(&spelled).precedence(&release(&text)), Ordering::Equal);
        }

        #[test]
        fn precedence_is_section_11_and_build_metadata_only_breaks_ties(a in valid(), b in valid()) {
            let order = release(&a).precedence(&release(&b));
            let book = by_the_book(&a, &b);
            prop_assert!(book == order || book.is_eq(), "{} {:?} {}", a, order, b);
            prop_assert_eq!(order.is_eq(), a == b);
            prop_assert_eq!(release(&b).precedence(&release(&a)), order.reverse());
        }

        #[test]
        fn any_list_has_one_order(texts in prop::collection::vec(valid(), 2..12), other in any::<prop::sample::Index>()) {
            let sorted = |texts: &[String]| {
                let mut releases: Vec<Release> = texts.iter().map(|text| release(text)).collect();
                releases.sort_by(Release::precedence);
                releases
            };
            let mut rotated = texts.clone();
            rotated.rotate_left(other.index(texts.len()));
            rotated.reverse();
            let releases = sorted(&texts);
            prop_assert_eq!(&releases, &sorted(&rotated));
            for (at, low) in releases.iter().enumerate() {
                prop_assert!(releases[at..].iter().all(|high| low.precedence(high).is_le()));
            }
        }

        #[test]
        fn only_the_grammar_is_read(
            text in prop_oneof!["v{0,2}[0-2]{1,2}(\\.[0-2a+-]{0,2}){1,4}", "[v0-2a.+-]{0,12}", "1\\.0\\.0[0-1a.+-]{0,8}", ".*"],
        ) {
            prop_assert_eq!(Release::parse(&text).is_ok(), is_grammatical(&text), "{:?}", text);
        }

        #[test]
        fn the_schema_accepts_what_is_read(
            text in prop_oneof!["v{0,2}[0-2]{1,2}(\\.[0-2a+-]{0,2}){1,4}", "[v0-2a.+-]{0,12}", "1\\.0\\.0[0-1a.+-]{0,8}"],
        ) {
            // The pattern is written as in CEL.
            let pattern = semver_pattern!().replace("\\\\", "\\");
            let is_accepted = regex_lite::Regex::new(&pattern).unwrap().is_match(&text);
            prop_assert_eq!(is_accepted, Release::parse(&text).is_ok(), "{:?}", text);
        }
    }
}
