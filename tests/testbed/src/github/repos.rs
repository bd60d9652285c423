//! The repositories of one GitHub: their names, who may see them, what their refs are, and their archives.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use tokio::sync::OnceCell;

use super::git::{self, File, Format, Place, Refs};
use crate::background::lock;

/// `INSTANCE/OWNER/NAME` in lower case: GitHub's names have no case.
pub(super) fn key(instance: &str, owner: &str, name: &str) -> String {
    format!("{instance}/{owner}/{name}").to_lowercase()
}

/// Splits `OWNER/NAME` (on github.com) or `HOST/OWNER/NAME`.
pub(super) fn parse(name: &str) -> Result<(String, String, String)> {
    let parts: Vec<_> = name.split('/').collect();
    let (instance, owner, name) = match parts[..] {
        [owner, name] => ("github.com", owner, name),
        [instance, owner, name] => (instance, owner, name),
        _ => anyhow::bail!("{name:?} is neither OWNER/NAME nor HOST/OWNER/NAME"),
    };
    Ok((instance.to_owned(), owner.to_owned(), name.to_owned()))
}

#[derive(Debug)]
struct State {
    owner: String,
    name: String,
    private: bool,
    missing_tag_redirects: bool,
    refs: Refs,
    replaced: HashMap<(String, Format), Bytes>,
    archives: HashMap<(String, Format, String), Arc<OnceCell<Bytes>>>,
}

/// One repository, under whatever name.
#[derive(Debug)]
pub(super) struct Repo {
    pub(super) id: u64,
    pub(super) instance: String,
    dir: PathBuf,
    state: Mutex<State>,
}

/// What a name of a ref stands for.
pub(super) enum Resolved {
    /// The full name of the ref, or the commit itself, and the commit.
    One(String, String),
    /// Both a tag and a branch.
    Many,
    /// Nothing.
    None,
}

impl Repo {
    pub(super) fn names(&self) -> (String, String) {
        let state = lock(&self.state);
        (state.owner.clone(), state.name.clone())
    }

    pub(super) fn key(&self) -> String {
        let (owner, name) = self.names();
        key(&self.instance, &owner, &name)
    }

    pub(super) fn is_private(&self) -> bool {
        lock(&self.state).private
    }

    pub(super) fn missing_tag_redirects(&self) -> bool {
        lock(&self.state).missing_tag_redirects
    }

    pub(super) fn resolve(&self, wanted: &str) -> Resolved {
        let refs = &lock(&self.state).refs;
        let found = |name: &str| refs.get(name).map(|commit| (name.to_owned(), commit.clone()));
        let full = if wanted.starts_with("refs/") { found(wanted) } else { None };
        let (tag, branch) = (found(&format!("refs/tags/{wanted}")), found(&format!("refs/heads/{wanted}")));
        let commit =
            refs.values().find(|commit| *commit == wanted).map(|commit| (commit.clone(), commit.clone()));
        match (full, tag, branch) {
            (None, Some(_), Some(_)) => Resolved::Many,
            (full, tag, branch) => match full.or(tag).or(branch).or(commit) {
                Some((name, commit)) => Resolved::One(name, commit),
                None => Resolved::None,
            },
        }
    }

    /// The archive of a ref, made once.
    pub(super) async fn archive(
        &self,
        name: &str,
        commit: &str,
        format: Format,
        prefix: String,
    ) -> Result<Bytes> {
        let cell = {
            let mut state = lock(&self.state);
            if let Some(replaced) = state.replaced.get(&(name.to_owned(), format)) {
                return Ok(replaced.clone());
            }
            state.archives.entry((commit.to_owned(), format, prefix.clone())).or_default().clone()
        };
        let (dir, commit) = (self.dir.clone(), commit.to_owned());
        let made = cell.get_or_try_init(|| async move {
            let made =
                tokio::task::spawn_blocking(move || git::archive(&dir, &commit, format, &prefix)).await?;
            made.map(Bytes::from)
        });
        made.await.cloned()
    }

    fn reload(&self) -> Result<()> {
        let refs = git::refs(&self.dir)?;
        let mut state = lock(&self.state);
        state.refs = refs;
        // A commit's archive may name its refs (export-subst), so that a new ref can change an old archive.
        state.archives.clear();
        Ok(())
    }
}

/// What a name leads to.
pub(super) enum Found {
    /// The repository.
    Here(Arc<Repo>),
    /// The repository, which has another name now.
    Moved(Arc<Repo>),
    /// Nothing.
    Nowhere,
}

#[derive(Debug, Default)]
struct Names {
    repos: HashMap<String, Arc<Repo>>,
    moved: HashMap<String, u64>,
    count: u64,
}

/// All repositories of one GitHub.
#[derive(Debug)]
pub(super) struct Repos {
    folder: PathBuf,
    real: PathBuf,
    names: Mutex<Names>,
}

impl Repos {
    /// New repositories come to lie in `folder`; those in `real` (`OWNER/NAME.git`) are there without being asked for.
    pub(super) fn new(folder: PathBuf, real: PathBuf) -> Self {
        Self { folder, real, names: Mutex::default() }
    }

    pub(super) fn find(&self, instance: &str, owner: &str, name: &str) -> Result<Found> {
        let key = key(instance, owner, name);
        let found = |names: &Names| {
            let id = names.moved.get(&key);
            let moved = id.and_then(|id| names.repos.values().find(|repo| repo.id == *id));
            match (names.repos.get(&key), moved) {
                (Some(repo), _) => Found::Here(repo.clone()),
                (None, Some(repo)) => Found::Moved(repo.clone()),
                (None, None) => Found::Nowhere,
            }
        };
        let real = self.real.join(owner).join(format!("{name}.git"));
        match found(&lock(&self.names)) {
            Found::Nowhere if instance == "github.com" && !owner.contains("..") && real.is_dir() => {
                Ok(Found::Here(self.register(instance, owner, name, real)?))
            }
            found => Ok(found),
        }
    }

    pub(super) fn by_id(&self, id: u64) -> Option<Arc<Repo>> {
        lock(&self.names).repos.values().find(|repo| repo.id == id).cloned()
    }

    /// Makes an empty repository.
    pub(super) fn create(&self, instance: &str, owner: &str, name: &str) -> Result<Arc<Repo>> {
        let key = key(instance, owner, name);
        ensure!(!lock(&self.names).repos.contains_key(&key), "repository {owner}/{name} is there already");
        let dir = self.folder.join(uuid::Uuid::new_v4().simple().to_string());
        git::init(&dir)?;
        self.register(instance, owner, name, dir)
    }

    /// Gives one of the real repositories a name of its own.
    pub(super) fn alias(&self, instance: &str, owner: &str, name: &str, real: &str) -> Result<Arc<Repo>> {
        let dir = self.real.join(format!("{real}.git"));
        ensure!(dir.is_dir(), "{} is missing: set OPENDEPOT_TEST_REPOS", dir.display());
        self.register(instance, owner, name, dir)
    }

    fn register(&self, instance: &str, owner: &str, name: &str, dir: PathBuf) -> Result<Arc<Repo>> {
        let state = State {
            owner: owner.to_owned(),
            name: name.to_owned(),
            private: false,
            missing_tag_redirects: false,
            refs: git::refs(&dir)?,
            replaced: HashMap::new(),
            archives: HashMap::new(),
        };
        let mut names = lock(&self.names);
        names.count += 1;
        let id = 10_000 + names.count;
        let repo = Arc::new(Repo { id, instance: instance.to_owned(), dir, state: Mutex::new(state) });
        // Two requests may have come to a real repository at once: one of them wins.
        Ok(names.repos.entry(key(instance, owner, name)).or_insert(repo).clone())
    }

    fn rename(&self, repo: &Arc<Repo>, owner: &str, name: &str) {
        let (old, new) = (repo.key(), key(&repo.instance, owner, name));
        let mut names = lock(&self.names);
        names.repos.remove(&old);
        names.moved.remove(&new);
        names.moved.insert(old, repo.id);
        names.repos.insert(new, repo.clone());
        let mut state = lock(&repo.state);
        owner.clone_into(&mut state.owner);
        name.clone_into(&mut state.name);
    }

    fn delete(&self, repo: &Repo) {
        let key = repo.key();
        lock(&self.names).repos.remove(&key);
    }
}

/// Where the real repositories are: `$OPENDEPOT_TEST_REPOS`, or `shared/github` beside the project.
pub fn real_repositories() -> PathBuf {
    std::env::var_os("OPENDEPOT_TEST_REPOS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/github"), PathBuf::from)
}

/// A repository in a test's hands.
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
            Resolved::Many => anyhow::bail!("{name} is a tag and a branch of {}", self.name()),
            Resolved::None => Err(anyhow::anyhow!("{} has no {name}", self.name())),
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

    /// Renames it; the old name redirects, as long as nobody takes it.
    pub fn rename(&self, owner: &str, name: &str) {
        self.repos.rename(&self.repo, owner, name);
    }

    /// Deletes it.
    pub fn delete(&self) {
        self.repos.delete(&self.repo);
    }
}
