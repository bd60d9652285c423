use proptest::{option, prelude::*};

use super::*;

fn published() -> Ownership {
    Ownership {
        namespace: "opendepot-system".into(),
        version_name: "terraform-aws-eks-21.18.0".into(),
        module: "terraform-aws-eks".into(),
        version: "v21.18.0+build.1".into(),
        source: "https://github.com/terraform-aws-modules/terraform-aws-eks".into(),
        git_ref: "refs/tags/v21.18.0".into(),
        commit: "0123456789abcdef0123456789abcdef01234567".into(),
        digest: "h1:YWJj/+=".into(),
        revision: 1,
        archive: String::new(),
        request: Some("2026-11-23T10:00:00Z by ü % =?utf-8?q?".into()),
        module_request: None,
    }
}

#[test]
fn the_stored_format_does_not_change() {
    let mut written: Vec<_> = published().to_metadata().into_iter().collect();
    written.sort();
    let expected = [
        ("opendepot-commit", "0123456789abcdef0123456789abcdef01234567"),
        ("opendepot-digest", "h1:YWJj/+="),
        ("opendepot-module", "terraform-aws-eks"),
        ("opendepot-namespace", "opendepot-system"),
        ("opendepot-ref", "refs/tags/v21.18.0"),
        ("opendepot-request", "2026-11-23T10:00:00Z%20by%20%C3%BC%20%25%20=?utf-8?q?"),
        ("opendepot-source", "https://github.com/terraform-aws-modules/terraform-aws-eks"),
        ("opendepot-version", "v21.18.0+build.1"),
        ("opendepot-version-name", "terraform-aws-eks-21.18.0"),
    ];
    assert_eq!(written, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
}

#[test]
fn the_first_revision_is_not_written_and_an_unreadable_one_is_none_that_is_known() {
    let read =
        |metadata: &HashMap<String, String>| Ownership::from_metadata(metadata).expect("ours").revision;
    let later = Ownership { revision: 2, ..published() }.to_metadata();
    assert_eq!(later.get("opendepot-format").map(String::as_str), Some("2"));
    assert_eq!((read(&published().to_metadata()), read(&later)), (1, 2));
    let odd = later.into_iter().map(|(key, value)| (key, value.replace('2', "two"))).collect();
    assert_eq!(read(&odd), 0);
}

#[test]
fn an_object_without_a_publisher_is_nobodys() {
    let mut metadata = published().to_metadata();
    metadata.remove("opendepot-version-name");
    assert_eq!(Ownership::from_metadata(&metadata), None);
    assert_eq!(Ownership::from_metadata(&HashMap::new()), None);
}

#[test]
fn a_publisher_is_known_by_both_names() {
    let ownership = published();
    assert!(ownership.names("opendepot-system", "terraform-aws-eks-21.18.0"));
    assert!(!ownership.names("opendepot-system", "terraform-aws-eks-21.18.1"));
    assert!(!ownership.names("team-a", "terraform-aws-eks-21.18.0"));
    // Nor by a part of them, or by what begins so.
    for (namespace, name) in [
        ("opendepot", "terraform-aws-eks-21.18.0"),
        ("opendepot-system-2", "terraform-aws-eks-21.18.0"),
        ("opendepot-system", "terraform-aws-eks-21.18"),
        ("opendepot-system", "terraform-aws-eks-21.18.0-rc1"),
        ("OpenDepot-System", "terraform-aws-eks-21.18.0"),
        ("", ""),
    ] {
        assert!(!ownership.names(namespace, name), "{namespace} {name}");
    }
}

#[test]
fn a_long_token_is_still_recognised() {
    let token = "x".repeat(100_000);
    let before = Ownership { request: Some(token.clone()), ..published() };
    let after = Ownership::from_metadata(&before.to_metadata()).expect("ours");
    for ownership in [before, after] {
        assert!(ownership.has_request(&token));
        assert!(!ownership.has_request(&token[1..]));
        assert!(!ownership.has_module_request(&token));
    }
}

#[test]
fn a_long_address_is_still_recognised() {
    let long = format!("https://{}.ghe.com/{}/{}", "h".repeat(60), "o".repeat(100), "r".repeat(100));
    for address in ["https://github.com/acme/network", &long] {
        let before = Ownership { source: address.to_owned(), ..published() };
        let after = Ownership::from_metadata(&before.to_metadata()).expect("ours");
        for ownership in [before, after] {
            assert!(ownership.is_from(address));
            assert!(!ownership.is_from(&address[..address.len() - 1]));
        }
    }
    assert!(published().is_from("https://github.com/Terraform-AWS-Modules/terraform-aws-eks"));
}

#[test]
fn foreign_escapes_are_read_as_text() {
    assert_eq!(decode("100%"), "100%");
    assert_eq!(decode("%zz%4"), "%zz%4");
    assert_eq!(decode("%+1"), "%+1");
    assert_eq!(decode("%ff"), "\u{fffd}");
}

prop_compose! {
    /// Short enough to be carried in full, even if each character takes twelve bytes.
    fn any_ownership()(
        names in ("(?s).{1,5}", "(?s).{1,21}"),
        texts in ("(?s).{0,13}", "(?s).{0,13}", "(?s).{0,21}", "(?s).{0,13}", "(?s).{0,5}", "(?s).{0,10}"),
        tokens in (option::of("(?s).{1,21}"), option::of("(?s).{1,10}")),
        revision in 1..100_u32,
        archive in "(zip|tar[.]gz)?",
    ) -> Ownership {
        Ownership {
            namespace: names.0, version_name: names.1,
            module: texts.0, version: texts.1, source: texts.2, git_ref: texts.3,
            commit: texts.4, digest: texts.5, revision, archive,
            request: tokens.0, module_request: tokens.1,
        }
    }
}

proptest! {
    #[test]
    fn metadata_brings_back_what_was_written(ownership in any_ownership()) {
        let metadata = ownership.to_metadata();
        prop_assert!(metadata.values().all(|value| value.bytes().all(|byte| byte.is_ascii_graphic())));
        prop_assert_eq!(Ownership::from_metadata(&metadata), Some(ownership));
    }

    #[test]
    fn metadata_fits_into_two_kilobytes(text in ".{0,3000}") {
        let ownership = Ownership {
            namespace: text.clone(), version_name: text.clone(), module: text.clone(), version: text.clone(),
            source: text.clone(), git_ref: text.clone(),
            commit: text.clone(), digest: text.clone(), revision: u32::MAX, archive: text.clone(),
            request: Some(text.clone()), module_request: Some(text),
        };
        let size: usize = ownership.to_metadata().iter().map(|(key, value)| key.len() + value.len()).sum();
        prop_assert!(size < 2048, "{} bytes", size);
    }
}
