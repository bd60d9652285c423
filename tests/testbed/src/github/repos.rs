//! The repositories of one GitHub: their names, who may see them, what their refs are, and their archives.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::{Result, ensure};
use bytes::Bytes;
use tokio::sync::OnceCell;

use super::git::{self, Format, Refs};
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
pub(super) struct RepoState {
    owner: String,
    name: String,
    pub(super) private: bool,
    pub(super) missing_tag_redirects: bool,
    pub(super) refs: Refs,
    pub(super) replaced: HashMap<(String, Format), Bytes>,
    archives: HashMap<(String, Format, String), Arc<OnceCell<Bytes>>>,
}

/// One repository, under whatever name.
#[derive(Debug)]
pub(super) struct Repo {
    pub(super) id: u64,
    pub(super) instance: String,
    pub(super) dir: PathBuf,
    pub(super) state: Mutex<RepoState>,
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
            state.archives.entry((format!("{name} {commit}"), format, prefix.clone())).or_default().clone()
        };
        let (dir, name) = (self.dir.clone(), name.to_owned());
        let made = cell.get_or_try_init(|| async move {
            let made =
                tokio::task::spawn_blocking(move || git::archive(&dir, &name, format, &prefix)).await?;
            made.map(Bytes::from)
        });
        made.await.cloned()
    }

    pub(super) fn reload(&self) -> Result<()> {
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
    pub(super) folder: PathBuf,
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
        // Registering takes the lock again.
        let named = found(&lock(&self.names));
        match named {
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
        let state = RepoState {
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

    pub(super) fn rename(&self, repo: &Arc<Repo>, owner: &str, name: &str) {
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

    pub(super) fn delete(&self, repo: &Repo) {
        let key = repo.key();
        lock(&self.names).repos.remove(&key);
    }
}

/// Where the real repositories are: `$OPENDEPOT_TEST_REPOS`, or `shared/github` beside the project.
pub fn real_repositories() -> PathBuf {
    std::env::var_os("OPENDEPOT_TEST_REPOS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/github"), PathBuf::from)
}
