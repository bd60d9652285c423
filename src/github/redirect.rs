//! Redirects of GitHub: which may be followed, web pages instead of answers, and new addresses of repositories.

use http::{
    HeaderMap,
    header::{CONTENT_TYPE, LOCATION},
};
use url::Url;

use super::error::{FetchError, without_query};
use crate::domain::Repository;
use crate::domain::repository::authority;

/// The target of a redirect, if it may be followed.
pub(super) fn target(from: &Url, headers: &HeaderMap) -> Result<Url, FetchError> {
    let bad = |why: &str| FetchError::BadRedirect { host: authority(from), why: why.to_owned() };
    let location = headers.get(LOCATION).ok_or(bad("without a Location"))?;
    let location = location.to_str().map_err(|_| bad("to an invalid URL"))?;
    let url = from.join(location).map_err(|_| bad("to an invalid URL"))?;
    if url.scheme() != "https" {
        return Err(bad("to a URL without TLS"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad("to a URL with a user name"));
    }
    Ok(url)
}

/// The host in a redirect's target, for a message about one that is not followed.
pub(super) fn host_named(from: &Url, headers: &HeaderMap) -> String {
    let location = headers.get(LOCATION).and_then(|location| location.to_str().ok());
    let url = location.and_then(|location| from.join(location).ok()).filter(Url::has_host);
    url.map_or_else(|| "an unknown host".to_owned(), |url| authority(&url))
}

/// Whether the answer is a web page.
pub(super) fn is_page(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "text/html" || kind == "application/xhtml+xml"
}

/// Whether archives are served from here: a separate host, or a folder of an Enterprise Server without subdomains.
pub(super) fn serves_archives(url: &Url) -> bool {
    url.host_str().is_some_and(|host| host.starts_with("codeload.")) || url.path().starts_with("/_codeload/")
}

/// Whether a URL belongs neither to the repository's GitHub nor to its archives, but to a gateway, for instance.
pub(super) fn is_foreign(repository: &Repository, url: &Url) -> bool {
    let (host, site) = (authority(url), repository.host());
    host != site && host != authority(repository.api()) && host != format!("codeload.{site}")
}

/// A repository's new address; `None` if it has not moved. The owner and name are those of the URL that served the archive,
/// since redirects of the API contain a number, and a renamed repository may be redirected with any status. `moved` is the
/// target of the last permanent redirect.
pub(super) fn new_address(repository: &Repository, moved: Option<&Url>, served_by: &Url) -> Option<String> {
    let name = |url: &Url, kinds: &[&str]| {
        let mut segments = url.path_segments()?.skip_while(|segment| *segment == "_codeload");
        let (owner, name, kind) = (segments.next()?, segments.next()?, segments.next()?);
        kinds.contains(&kind).then(|| format!("{owner}/{name}"))
    };
    let site = moved.and_then(|url| Some((authority(url), name(url, &["archive"])?)));
    let archives = ["zip", "tar.gz", "legacy.zip", "legacy.tar.gz"];
    let served = serves_archives(served_by).then(|| name(served_by, &archives)).flatten();
    let address = match (site, served) {
        (Some((host, _)), Some(name)) | (Some((host, name)), None) => format!("https://{host}/{name}"),
        (None, Some(name)) => format!("https://{}/{name}", repository.host()),
        (None, None) => without_query(moved?),
    };
    (!address.eq_ignore_ascii_case(&repository.to_string())).then_some(address)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn pages_and_hosts_of_archives_are_recognised() {
        for (kind, page) in [
            ("text/html; charset=utf-8", true),
            ("Text/HTML", true),
            ("application/xhtml+xml", true),
            ("application/zip", false),
            ("application/x-gzip", false),
            ("text/plain; charset=utf-8", false),
            ("application/octet-stream", false),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]);
            assert_eq!(is_page(&headers), page, "{kind}");
        }
        assert!(!is_page(&HeaderMap::new()));
        for (address, serves) in [
            ("https://codeload.github.com/acme/net/zip/refs/tags/v1", true),
            ("https://codeload.octo.ghe.com/acme/net/zip/refs/tags/v1", true),
            ("https://ghes.example/_codeload/acme/net/zip/refs/tags/v1", true),
            ("https://ghes.example/login?return_to=/_codeload/", false),
            ("https://sso.example/codeload.github.com/", false),
        ] {
            assert_eq!(serves_archives(&url(address)), serves, "{address}");
        }
    }

    #[test]
    fn a_host_that_is_named_like_that_of_archives_is_not_github() {
        for (site, address, foreign) in [
            ("github.com", "https://github.com/a/b", false),
            ("github.com", "https://api.github.com/repos/a/b", false),
            ("github.com", "https://codeload.github.com/a/b/zip/v1", false),
            ("github.com", "https://codeload.portal.example/a/b/zip/v1", true),
            ("github.com", "https://portal.example/_codeload/a/b/zip/v1", true),
            ("octo.ghe.com", "https://codeload.octo.ghe.com/a/b/zip/v1", false),
            ("ghes.example:8443", "https://ghes.example:8443/_codeload/a/b/zip/v1", false),
            ("ghes.example:8443", "https://codeload.ghes.example:8443/a/b/zip/v1", false),
            ("ghes.example", "https://codeload.github.com/a/b/zip/v1", true),
        ] {
            let repository = Repository::parse(&format!("https://{site}/a/b")).unwrap();
            assert_eq!(is_foreign(&repository, &url(address)), foreign, "{site} {address}");
        }
    }

    #[test]
    fn a_moved_repository_is_called_by_its_new_name() {
        let load = "https://codeload.github.com/new/net2/legacy.zip/refs/tags/v1?token=HIDDEN";
        let number = "https://api.github.com/repositories/9/zipball/refs/tags/v1?x=HIDDEN";
        for (what, moved, served_by, expected) in [
            (
                "site",
                "https://github.com/new/net2/archive/refs/tags/v1.zip",
                load,
                Some("https://github.com/new/net2"),
            ),
            ("api", number, load, Some("https://github.com/new/net2")),
            (
                "server",
                "https://ghes.example/api/v3/repositories/9/zipball",
                "https://ghes.example/_codeload/new/net2/legacy.tar.gz/refs/tags/v1?token=HIDDEN",
                Some("https://github.com/new/net2"),
            ),
            (
                "another host",
                "https://git.example/acme/net/archive/refs/tags/v1.zip",
                "https://git.example/_codeload/acme/net/zip/refs/tags/v1",
                Some("https://git.example/acme/net"),
            ),
            (
                "unreadable",
                number,
                "https://files.example/a/b/zip/x?token=HIDDEN",
                Some("https://api.github.com/repositories/9/zipball/refs/tags/v1"),
            ),
            ("a temporary redirect", "", load, Some("https://github.com/new/net2")),
            ("no move", "", "https://codeload.github.com/Acme/net/zip/refs/tags/v1", None),
            ("no move, and another layout", "", "https://codeload.github.com/x/y/z", None),
            ("no move, and another host", "", "https://files.example/a/b/zip/x", None),
            (
                "renamed again",
                "https://github.com/old/net1/archive/refs/tags/v1.zip",
                load,
                Some("https://github.com/new/net2"),
            ),
            (
                "the same in another case",
                "https://github.com/Acme/Net/archive/refs/tags/v1.zip",
                "https://codeload.github.com/Acme/Net/zip/refs/tags/v1",
                None,
            ),
        ] {
            let repository = Repository::from_parts("acme", "net").unwrap();
            let moved = (!moved.is_empty()).then(|| url(moved));
            let address = new_address(&repository, moved.as_ref(), &url(served_by));
            assert_eq!(address.as_deref(), expected, "{what}");
        }
    }

    #[test]
    fn only_the_host_of_a_refused_redirect_is_told() {
        let from = url("https://api.github.com/app/installations/1/access_tokens");
        for (location, host) in [
            (Some("https://sso.example/login?jwt=HIDDEN"), "sso.example"),
            (Some("https://user:HIDDEN@sso.example:8443/"), "sso.example:8443"),
            (Some("http://sso.example/"), "sso.example"),
            (Some("/login"), "api.github.com"),
            (Some("https://"), "an unknown host"),
            (None, "an unknown host"),
        ] {
            let value = location.map(|location| (LOCATION, HeaderValue::from_static(location)));
            assert_eq!(host_named(&from, &HeaderMap::from_iter(value)), host, "{location:?}");
        }
    }
}
