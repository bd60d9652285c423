//! Repositories on GitHub, parsed from a `repoUrl` or from an owner and a name.
//!
//! Host, owner and name of a [`Repository`] are legal, and its URLs are built from nothing else. The caller
//! decides which hosts are allowed. Pure.

use std::fmt;

use url::Url;

use super::format::ArchiveFormat;
use super::text::{cut, path_segment};

const PUBLIC_SITE: &str = "github.com";
const PUBLIC_API: &str = "https://api.github.com";
/// Redirects browsers to [`PUBLIC_SITE`]; it serves neither the API nor archives.
const PUBLIC_ALIAS: &str = "www.github.com";
/// GitHub Enterprise Cloud with data residency: each customer has a subdomain, and `api.` below that.
const DATA_RESIDENCY: &str = ".ghe.com";
/// GitHub's own limits are 39 for an owner and 100 for a repository; an Enterprise Server may allow longer owners.
const LONGEST_NAME: usize = 100;

/// A repository on github.com, on GitHub Enterprise Cloud with data residency, or on a GitHub Enterprise Server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    site: Url,
    api: Url,
    owner: String,
    name: String,
}

/// Why a text does not name a repository.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RepositoryError {
    /// Not `https://HOST/OWNER/REPO`.
    #[error(
        "{url:?} is not the URL of a repository: write https://HOST/OWNER/REPO, without anything after it"
    )]
    Form { url: String },
    /// The host is no host name, or its port is no port.
    #[error("{host:?} is not a host name: write a name such as github.com, or name:port")]
    Host { host: String },
    /// The owner has characters that no GitHub owner has.
    #[error("{owner:?} is not a valid owner on GitHub: letters, digits, '-' and '_' are allowed")]
    Owner { owner: String },
    /// The name has characters that no GitHub repository has.
    #[error(
        "{name:?} is not a valid repository name on GitHub: letters, digits, '-', '_' and '.' are allowed, and no .git at its end"
    )]
    Name { name: String },
}

impl Repository {
    /// Reads `https://HOST[:PORT]/OWNER/REPO[.git][/]`. Anything more (user, query, fragment, further segments) is an
    /// error, so that no part of the text is silently ignored.
    pub fn parse(url: &str) -> Result<Self, RepositoryError> {
        let form = || RepositoryError::Form { url: presentable(url) };
        let rest = url.strip_prefix("https://").ok_or_else(form)?;
        if rest.contains(['@', '?', '#']) {
            return Err(form());
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let [host, owner, name] = rest.splitn(4, '/').collect::<Vec<_>>()[..] else {
            return Err(form());
        };
        Self::new(host, owner, name.strip_suffix(".git").unwrap_or(name))
    }

    /// The repository `owner/name` on github.com.
    pub fn from_parts(owner: &str, name: &str) -> Result<Self, RepositoryError> {
        Self::new(PUBLIC_SITE, owner, name)
    }

    fn new(host: &str, owner: &str, name: &str) -> Result<Self, RepositoryError> {
        let site = site(host)?;
        let legal = |text: &str, extra: &[char]| {
            (1..=LONGEST_NAME).contains(&text.len())
                && text.chars().all(|c| c.is_ascii_alphanumeric() || extra.contains(&c))
        };
        if !legal(owner, &['-', '_']) {
            return Err(RepositoryError::Owner { owner: presentable(owner) });
        }
        // No name on GitHub ends so: a second `.git` is a mistake, and would be removed when the URL is parsed again.
        if !legal(name, &['-', '_', '.'])
            || name == "."
            || name == ".."
            || name.to_ascii_lowercase().ends_with(".git")
        {
            return Err(RepositoryError::Name { name: presentable(name) });
        }
        let api = api(&site).ok_or_else(|| RepositoryError::Host { host: presentable(host) })?;
        Ok(Self { site, api, owner: owner.to_owned(), name: name.to_owned() })
    }

    /// The host in lower case, with its port if that is not 443.
    pub fn host(&self) -> String {
        authority(&self.site)
    }

    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// The name without `.git`, as written.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether `owner` names this repository's owner: GitHub's names do not differ by case.
    pub fn is_owned_by(&self, owner: &str) -> bool {
        self.owner.eq_ignore_ascii_case(owner)
    }

    /// The base of the REST API for this repository.
    pub fn api(&self) -> &Url {
        &self.api
    }

    /// The address of the repository in GitHub's REST API.
    pub fn api_repository(&self) -> Url {
        let base = self.api.path().trim_end_matches('/');
        with_path(&self.api, &format!("{base}/repos/{}/{}", self.owner, self.name))
    }

    /// The address of an archive in GitHub's REST API.
    pub fn api_archive(&self, reference: Reference<'_>, format: ArchiveFormat) -> Url {
        let repository = self.api_repository();
        let kind = match format {
            ArchiveFormat::Zip => "zipball",
            ArchiveFormat::Tar => "tarball",
        };
        with_path(&repository, &format!("{}/{kind}/{}", repository.path(), reference.path()))
    }

    /// The address of an archive on GitHub's web site, which serves public repositories without counting requests.
    pub fn site_archive(&self, reference: Reference<'_>, format: ArchiveFormat) -> Url {
        let Self { owner, name, .. } = self;
        let path = format!("/{owner}/{name}/archive/{}.{}", reference.path(), format.extension());
        with_path(&self.site, &path)
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}/{}/{}", self.host(), self.owner, self.name)
    }
}

/// The base of the REST API that belongs to a site.
fn api(site: &Url) -> Option<Url> {
    let host = authority(site);
    if host == PUBLIC_SITE {
        return Url::parse(PUBLIC_API).ok();
    }
    if site.host_str().is_some_and(|name| name.ends_with(DATA_RESIDENCY)) {
        return Url::parse(&format!("https://api.{host}")).ok();
    }
    Some(with_path(site, "/api/v3"))
}

/// `host` or `host:port` as the root of a site; `www.github.com` is github.com.
pub(crate) fn site(host: &str) -> Result<Url, RepositoryError> {
    let wrong = || RepositoryError::Host { host: presentable(host) };
    let (name, port) = host.split_once(':').unwrap_or((host, "443"));
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    if !name.chars().all(legal) || name.ends_with('.') || !port.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    let url = Url::parse(&format!("https://{name}:{port}/")).map_err(|_| wrong())?;
    // An IP address in another notation (0x7f.1) would be another host than the text shows.
    if url.host_str() != Some(&*name.to_ascii_lowercase()) {
        return Err(wrong());
    }
    if authority(&url) == PUBLIC_ALIAS {
        return Url::parse(&format!("https://{PUBLIC_SITE}/")).map_err(|_| wrong());
    }
    Ok(url)
}

/// Host, and port if it is not the scheme's default.
pub(crate) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn with_path(url: &Url, path: &str) -> Url {
    let mut url = url.clone();
    url.set_path(path);
    url
}

/// The ref or commit of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reference<'a> {
    Tag(&'a str),
    /// A full ref, such as `refs/heads/main`, or the full hash of a commit.
    Other(&'a str),
}

impl<'a> Reference<'a> {
    /// A full ref or commit as it is, and all else as a tag.
    pub fn of(text: &'a str) -> Self {
        let is_commit =
            text.len() == 40 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let is_plain = |part: &str| !matches!(part, "" | "." | "..");
        let is_ref = text.starts_with("refs/") && text.split('/').all(is_plain);
        if is_commit || is_ref { Self::Other(text) } else { Self::Tag(text) }
    }

    fn path(self) -> String {
        match self {
            Self::Tag(tag) => format!("refs/tags/{}", path_segment(tag)),
            Self::Other(text) => text.split('/').map(path_segment).collect::<Vec<_>>().join("/"),
        }
    }
}

/// Short enough for a message, and without a possible password before an `@` or token in a query.
fn presentable(text: &str) -> String {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    let text = match text.rsplit_once('@') {
        Some((_, after)) => format!("…@{after}"),
        None => text.to_owned(),
    };
    cut(&text, 200)
}

#[cfg(test)]
mod tests;
