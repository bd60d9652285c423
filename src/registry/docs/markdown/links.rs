//! Where the links of a README lead to.

use crate::registry::index::ServedVersion;

/// In front of all ids of a README, so that none is an id of the page itself.
pub(super) const PREFIX: &str = "user-";

/// Where relative links of a README lead to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// The repository's files at the commit, such as `https://github.com/acme/eks/blob/COMMIT`; empty if that is not known.
    pub(crate) base: String,
}

impl Links {
    /// The files that a version was made of.
    pub fn of(version: &ServedVersion) -> Self {
        let source = version.source.as_deref().filter(|source| source.starts_with("https://"));
        let base = source.zip(version.commit.as_deref().or(version.tag.as_deref()));
        Self { base: base.map(|(source, at)| format!("{source}/blob/{at}")).unwrap_or_default() }
    }

    /// Where a link leads to; `None` if it is to be dropped. `folder`: the folder of the README.
    pub(super) fn resolve(&self, link: &str, folder: &str) -> Option<String> {
        let link = link.trim();
        if let Some(fragment) = link.strip_prefix('#') {
            return Some(format!("#{PREFIX}{fragment}"));
        }
        let scheme = link.split(['/', '?', '#']).next().filter(|first| first.contains(':'));
        if scheme.is_some() || link.starts_with("//") {
            let lower = link.to_ascii_lowercase();
            let allowed = ["https://", "http://", "mailto:"].iter().any(|scheme| lower.starts_with(scheme));
            return allowed.then(|| link.to_owned());
        }
        if self.base.is_empty() || link.is_empty() {
            return None;
        }
        let (path, rest) = link.find(['?', '#']).map_or((link, ""), |at| link.split_at(at));
        let whole = if path.starts_with('/') { path.to_owned() } else { format!("{folder}/{path}") };
        // `https:`, an empty part, host, owner, name, `blob`, commit. As on GitHub, a link can lead out of the files of the
        // commit, such as `../../releases`.
        let mut parts: Vec<&str> = self.base.splitn(7, '/').collect();
        for part in whole.split('/') {
            match part {
                ".." if parts.len() > 3 => drop(parts.pop()),
                "" | "." | ".." => {}
                part => parts.push(part),
            }
        }
        Some(format!("{}{rest}", parts.join("/")))
    }
}
