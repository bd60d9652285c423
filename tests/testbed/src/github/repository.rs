//! A repository in a test's hands: what it holds, who may see it, and what becomes of it.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use bytes::Bytes;

use super::git::{self, File, Format, Place};
use super::repos::{Repo, Repos, Resolved};
use crate::background::lock;

/// A repository of one GitHub.
#[derive(Debug, Clone)]
pub struct Repository {
    pub(super) repos: Arc<Repos>,
    pub(super) repo: Arc<Repo>,
}

impl Repository {
    /// `OWNER/NAME`, or `HOST/OWNER/NAME` when it is not on github.com.
    pub fn name(&self) -> String {
        let (owner, name) = self.repo.names();
        match self.repo.instance.as_str() {
            "github.com" => format!("{owner}/{name}"),
            instance => format!("{instance}/{owner}/{name}"),
        }
    }

    /// `https://HOST/OWNER/NAME`, for `repoUrl`.
    pub fn url(&self) -> String {
        let (owner, name) = self.repo.names();
        format!("https://{}/{owner}/{name}", self.repo.instance)
    }

    /// The bare repository on disk, to read.
    pub fn folder(&self) -> &Path {
        &self.repo.dir
    }

    /// Whether only credentials that were given access see it.
    #[must_use]
    pub fn private(self, private: bool) -> Self {
        lock(&self.repo.state).private = private;
        self
    }

    /// How the REST API answers for a tag that is not there: a redirect to a 404, or 404 at once (the default).
    #[must_use]
    pub fn missing_tag_redirects(self, redirects: bool) -> Self {
        lock(&self.repo.state).missing_tag_redirects = redirects;
        self
    }

    /// Commits exactly these files to `main` and points `tag` there, also when it was elsewhere. Returns the commit.
    pub fn release(&self, tag: &str, files: &[File]) -> Result<String> {
        self.releases([(tag, files.to_vec())])?;
        self.commit_of(&format!("refs/tags/{tag}"))
    }

    /// Many releases at once: far faster than one after the other.
    pub fn releases<T: AsRef<str>>(&self, releases: impl IntoIterator<Item = (T, Vec<File>)>) -> Result<()> {
        let releases: Vec<_> = releases.into_iter().collect();
        let commits: Vec<_> =
            releases.iter().map(|(tag, files)| (Place::Tag(tag.as_ref()), files.clone())).collect();
        self.commit(&commits)
    }

    /// Commits exactly these files to a branch. Returns the commit.
    pub fn branch(&self, name: &str, files: &[File]) -> Result<String> {
        self.commit(&[(Place::Branch(name), files.to_vec())])?;
        self.commit_of(&format!("refs/heads/{name}"))
    }

    fn commit(&self, commits: &[(Place<'_>, Vec<File>)]) -> Result<()> {
        self.check_ours()?;
        let refs = lock(&self.repo.state).refs.clone();
        git::commit(&self.repo.dir, &refs, commits)?;
        self.repo.reload()
    }

    /// Makes an annotated tag, new or not, of a commit or of another tag (`refs/tags/…`), which may be annotated as well.
    pub fn annotated_tag(&self, tag: &str, of: &str) -> Result<()> {
        self.check_ours()?;
        git::annotate(&self.repo.dir, tag, of)?;
        self.repo.reload()
    }

    /// Points a tag, new or not, to a commit.
    pub fn tag(&self, tag: &str, commit: &str) -> Result<()> {
        self.check_ours()?;
        git::update_ref(&self.repo.dir, &format!("refs/tags/{tag}"), Some(commit))?;
        self.repo.reload()
    }

    /// Removes a tag.
    pub fn delete_tag(&self, tag: &str) -> Result<()> {
        self.check_ours()?;
        git::update_ref(&self.repo.dir, &format!("refs/tags/{tag}"), None)?;
        self.repo.reload()
    }

    fn check_ours(&self) -> Result<()> {
        ensure!(
            self.repo.dir.starts_with(&self.repos.folder),
            "{} is real: it is not written to",
            self.name()
        );
        Ok(())
    }

    /// The commit of a tag or branch: `v1.0.0`, `refs/tags/v1.0.0`.
    pub fn commit_of(&self, name: &str) -> Result<String> {
        match self.repo.resolve(name) {
            Resolved::One(_, commit) => Ok(commit),
            Resolved::Many => bail!("{name} is a tag and a branch of {}", self.name()),
            Resolved::None => Err(anyhow!("{} has no {name}", self.name())),
        }
    }

    /// Serves these bytes as the archive of a tag that is there, whatever the repository holds.
    pub fn replace_archive(&self, tag: &str, format: Format, bytes: impl Into<Bytes>) -> Result<()> {
        let name = format!("refs/tags/{tag}");
        self.commit_of(&name).context("an archive is replaced for a tag that is there")?;
        lock(&self.repo.state).replaced.insert((name, format), bytes.into());
        Ok(())
    }

    /// Serves what the repository holds again.
    pub fn restore_archives(&self) {
        lock(&self.repo.state).replaced.clear();
    }

    /// Renames it; the old name redirects, until another repository takes it.
    pub fn rename(&self, owner: &str, name: &str) {
        self.repos.rename(&self.repo, owner, name);
    }

    /// Deletes it.
    pub fn delete(&self) {
        self.repos.delete(&self.repo);
    }
}
