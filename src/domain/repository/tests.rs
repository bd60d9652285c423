use super::*;

#[test]
fn legal_addresses_are_read() {
    for (text, shown) in [
        ("https://github.com/acme/terraform-aws-net", "https://github.com/acme/terraform-aws-net"),
        ("https://github.com/acme/terraform-aws-net.git", "https://github.com/acme/terraform-aws-net"),
        ("https://github.com/acme/net/", "https://github.com/acme/net"),
        ("https://GitHub.com/Acme/Net", "https://github.com/Acme/Net"),
        ("https://github.com:443/acme/net", "https://github.com/acme/net"),
        ("https://www.github.com/acme/net", "https://github.com/acme/net"),
        ("https://WWW.GitHub.com:443/acme/net.git", "https://github.com/acme/net"),
        ("https://www.github.com:8443/acme/net", "https://www.github.com:8443/acme/net"),
        ("https://www.ghes.example/acme/net", "https://www.ghes.example/acme/net"),
        ("https://ghes.example:8443/acme/a.b_c", "https://ghes.example:8443/acme/a.b_c"),
        ("https://github.com/acme_short/.github", "https://github.com/acme_short/.github"),
    ] {
        assert_eq!(Repository::parse(text).map(|r| r.to_string()).as_deref(), Ok(shown), "{text}");
    }
}

#[test]
fn anything_else_is_refused() {
    for text in [
        "",
        "github.com/acme/net",
        "http://github.com/acme/net",
        "git@github.com:acme/net.git",
        "https://github.com/acme",
        "https://github.com/acme/",
        "https://github.com/acme/net/tree/main",
        "https://github.com/acme/net//",
        "https://github.com//net",
        "https://user:secret@github.com/acme/net",
        "https://github.com/acme/net?ref=1",
        "https://github.com/acme/net#readme",
        "https://github.com/acme/..",
        "https://github.com/acme/.git",
        "https://github.com/ac%6De/net",
        "https://github.com/ac me/net",
        "https://github.com./acme/net",
        "https://github.com:port/acme/net",
        "https://github.com:99999/acme/net",
        "https://999.999.999.999/acme/net",
        "https://0x7f.1/acme/net",
        "https:///acme/net",
    ] {
        let error = Repository::parse(text).expect_err(text);
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    assert!(Repository::from_parts("acme", "a/b").is_err());
}

#[test]
fn owners_do_not_differ_by_case() {
    let repository = Repository::from_parts("Acme", "net").unwrap();
    assert!(repository.is_owned_by("aCME"));
    assert!(!repository.is_owned_by("acme-labs"));
}

#[test]
fn each_kind_of_host_has_its_api_at_its_own_address() {
    for (host, api) in [
        ("github.com", "https://api.github.com/"),
        ("www.github.com", "https://api.github.com/"),
        ("octo.ghe.com", "https://api.octo.ghe.com/"),
        ("Octo.GHE.com:443", "https://api.octo.ghe.com/"),
        ("octo.ghe.com:8443", "https://api.octo.ghe.com:8443/"),
        ("ghe.com", "https://ghe.com/api/v3"),
        ("octoghe.com", "https://octoghe.com/api/v3"),
        ("octo.ghe.com.example", "https://octo.ghe.com.example/api/v3"),
        ("ghes.example:8443", "https://ghes.example:8443/api/v3"),
    ] {
        let repository = Repository::parse(&format!("https://{host}/acme/net")).unwrap();
        assert_eq!(repository.api().as_str(), api, "{host}");
    }
}

#[test]
fn addresses_encode_the_tag_and_follow_the_host() {
    let public = Repository::from_parts("acme", "net").unwrap();
    assert_eq!(
        public.site_archive(Reference::Tag("v1.0.0+a"), ArchiveFormat::Zip).as_str(),
        "https://github.com/acme/net/archive/refs/tags/v1.0.0%2Ba.zip"
    );
    assert_eq!(
        public.api_archive(Reference::Tag("1.0.0-rc.1"), ArchiveFormat::Tar).as_str(),
        "https://api.github.com/repos/acme/net/tarball/refs/tags/1.0.0-rc.1"
    );
    let commit = "c64684349319e64a72a4e1d382db3a36912c054e";
    for (text, path) in [
        ("refs/heads/a b/c", "refs/heads/a%20b/c"),
        ("refs/pull/7/merge", "refs/pull/7/merge"),
        ("refs/heads/../../x", "refs/tags/refs%2Fheads%2F..%2F..%2Fx"),
        ("v1.0.0", "refs/tags/v1.0.0"),
        (commit, commit),
    ] {
        let url = public.site_archive(Reference::of(text), ArchiveFormat::Zip);
        assert_eq!(url.as_str(), format!("https://github.com/acme/net/archive/{path}.zip"));
    }
    let tag = public.site_archive(Reference::Tag("refs/heads/main"), ArchiveFormat::Zip);
    assert!(tag.path().ends_with("/archive/refs/tags/refs%2Fheads%2Fmain.zip"), "{tag}");
    let server = Repository::parse("https://ghes.example:8443/acme/net").unwrap();
    assert_eq!(
        server.api_archive(Reference::Tag("a/b"), ArchiveFormat::Zip).as_str(),
        "https://ghes.example:8443/api/v3/repos/acme/net/zipball/refs/tags/a%2Fb"
    );
    assert_eq!(server.api_repository().as_str(), "https://ghes.example:8443/api/v3/repos/acme/net");
}
