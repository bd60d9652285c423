//! GitHub, played locally: never more kindly than the real one.
//!
//! `github.com`, `api.github.com`, `codeload.github.com`, Enterprise Servers of any name, and `SUBDOMAIN.ghe.com`, over
//! HTTP/2 or HTTP/1.1 and TLS with a throw-away CA ([`GitHub::ca_file`]), behind a CONNECT proxy
//! ([`GitHub::proxy_url`]), so that the product speaks to the real names. A request with two of a header that may be
//! there once is answered 400. Archives come from real git repositories. Everything that a test sets is about one repository or
//! one credential, so that many tests can share one GitHub.

mod access;
mod answer;
mod call;
mod faults;
mod git;
mod jwt;
mod limits;
mod repos;
mod repository;
mod rest;
mod server;
mod site;
mod state;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

pub use self::access::App;
pub use self::faults::{Failure, Fault, Hop};
pub use self::git::{File, Format};
pub use self::limits::Quota;
pub use self::repos::real_repositories;
use self::repos::{Repos, key, parse};
pub use self::repository::Repository;
pub use self::state::{Credential, GitHubRequest};
use self::state::{Portal, State};
use crate::authority::Authority;
use crate::background::{Task, lock, on_runtime};
use crate::process::Folder;

/// A running GitHub. It ends when this is dropped.
pub struct GitHub {
    folder: Folder,
    address: SocketAddr,
    state: Arc<State>,
    _task: Task,
}

impl GitHub {
    /// Starts one that has only the real repositories (see [`real_repositories`]).
    pub async fn start() -> Result<Self> {
        let folder = Folder::new("github")?;
        let authority = Authority::new("testbed-github")?;
        std::fs::write(folder.path().join("ca.pem"), authority.pem())
            .context("cannot write the CA's file")?;
        let state = Arc::new(State::new(Repos::new(folder.sub("repos")?, real_repositories())));
        let (address, task) = on_runtime(server::start(state.clone(), authority)).await?;
        Ok(Self { folder, address, state, _task: task })
    }

    /// The proxy that leads here, for `HTTPS_PROXY`.
    pub fn proxy_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The CA of all hosts here, as PEM, for `--ca-file`.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Plays a GitHub Enterprise Server of this name too; or, where that ends in `.ghe.com`, GitHub Enterprise Cloud with
    /// data residency, whose API is at `api.HOST` and whose archives are at `codeload.HOST`.
    pub fn serve_host(&self, host: &str) {
        self.state.serve_host(host, false);
    }

    /// Plays a GitHub Enterprise Server with subdomain isolation: archives come from `codeload.HOST`.
    pub fn serve_isolated_host(&self, host: &str) {
        self.state.serve_host(host, true);
    }

    /// Lets a host show nothing to those who have not signed in: its site sends them to its login page, its API answers 401.
    pub fn set_private_mode(&self, host: &str) {
        self.state.set_private_mode(host);
    }

    /// Serves a host that redirects each request to itself so many times, and then shows a login page.
    pub fn serve_portal(&self, host: &str, status: u16, hops: u32) {
        self.state.serve_portal(host, Portal { status, hops });
    }

    /// Puts the clock of a host forward (or back) against everybody else's: dates, resets, and what it takes for now.
    pub fn set_clock(&self, host: &str, seconds_ahead: i64) {
        self.state.set_clock(host, seconds_ahead);
    }

    /// Makes an empty, public repository: `OWNER/NAME`, or `HOST/OWNER/NAME` on an Enterprise Server.
    pub fn repository(&self, name: &str) -> Result<Repository> {
        let (instance, owner, name) = parse(name)?;
        let repo = self.state.repos.create(&instance, &owner, &name)?;
        Ok(Repository { repos: self.state.repos.clone(), repo })
    }

    /// Serves a real repository (`OWNER/NAME` below [`real_repositories`]) under a name that one test has for itself.
    pub fn alias(&self, name: &str, real: &str) -> Result<Repository> {
        let (instance, owner, name) = parse(name)?;
        let repo = self.state.repos.alias(&instance, &owner, &name, real)?;
        Ok(Repository { repos: self.state.repos.clone(), repo })
    }

    /// Makes an App, with one installation that has access to `repositories`, all on the same GitHub.
    pub fn app(&self, repositories: &[&str]) -> Result<App> {
        self.state.access.create_app(&instance_of(repositories)?, keys(repositories)?)
    }

    /// Gives an installation access to these repositories, and to no others.
    pub fn set_repositories(&self, app: &App, repositories: &[&str]) -> Result<()> {
        self.state.access.set_repositories(app.installation, keys(repositories)?);
        Ok(())
    }

    /// How long new tokens of an installation are good for. An hour, if nothing is said.
    pub fn set_token_lifetime(&self, app: &App, lifetime: Duration) {
        self.state.access.set_lifetime(app.installation, lifetime);
    }

    /// Refuses new tokens of an installation with this status (401, 403 or 404) for so long after they were given, as parts
    /// of GitHub do that do not know them yet.
    pub fn refuse_new_tokens(&self, app: &App, status: u16, after: Duration) {
        self.state.access.set_settling(app.installation, Some((status, after)));
    }

    /// Whether an App was granted to read contents, as it is if nothing is said. Tokens keep what they were given.
    pub fn set_reads_contents(&self, app: &App, reads: bool) {
        self.state.access.set_reads_contents(app.installation, reads);
    }

    /// Makes a personal access token for `repositories`, all on the same GitHub.
    pub fn personal_token(&self, repositories: &[&str]) -> Result<String> {
        Ok(self.state.access.create_personal(&instance_of(repositories)?, keys(repositories)?))
    }

    /// Ends all tokens of an installation, or a personal one: `Bad credentials` from now on.
    pub fn revoke_tokens(&self, of: &Quota) {
        self.state.access.revoke(of);
    }

    /// Ends the links to archives of a private repository that were given out so far.
    pub fn expire_links(&self, repository: &str) -> Result<()> {
        let (instance, owner, name) = parse(repository)?;
        self.state.links.expire(&key(&instance, &owner, &name));
        Ok(())
    }

    /// How many REST requests are left, and for how long no more than that, counted from the next of them.
    pub fn set_quota(&self, quota: Quota, remaining: u32, reset_in: Duration) {
        self.state.limits.set(quota, remaining, reset_in);
    }

    /// How many REST requests are left.
    pub fn remaining(&self, quota: &Quota) -> u32 {
        self.state.limits.remaining(quota)
    }

    /// Answers each request only after this time.
    pub fn set_latency(&self, latency: Duration) {
        self.state.set_latency(latency);
    }

    /// Lets requests fail from now on.
    pub fn inject(&self, fault: Fault) {
        self.state.faults.add(fault);
    }

    /// Ends all faults of a repository. A request that hangs stays so until its client gives up.
    pub fn clear_faults(&self, repository: &str) -> Result<()> {
        let (instance, owner, name) = parse(repository)?;
        self.state.faults.clear(&key(&instance, &owner, &name));
        Ok(())
    }

    /// Ends the holds of a repository, and leaves its other faults.
    pub fn release_held(&self, repository: &str) -> Result<()> {
        let (instance, owner, name) = parse(repository)?;
        self.state.faults.release(&key(&instance, &owner, &name));
        Ok(())
    }

    /// Ends all faults of an installation.
    pub fn clear_installation_faults(&self, installation: u64) {
        self.state.faults.clear_installation(installation);
    }

    /// Ends the faults of every request.
    pub fn clear_faults_everywhere(&self) {
        self.state.faults.clear_everywhere();
    }

    /// The requests about a repository so far, by the name that they used.
    pub fn requests(&self, repository: &str) -> Result<Vec<GitHubRequest>> {
        let (instance, owner, name) = parse(repository)?;
        let key = key(&instance, &owner, &name);
        Ok(self.state.requests.select(|request| request.repository.as_ref() == Some(&key)))
    }

    /// The requests for tokens of an installation.
    pub fn token_requests(&self, installation: u64) -> Vec<GitHubRequest> {
        self.state.requests.select(|request| request.installation == Some(installation))
    }

    /// All requests that `wanted` picks.
    pub fn requests_where(&self, wanted: impl Fn(&GitHubRequest) -> bool) -> Vec<GitHubRequest> {
        self.state.requests.select(wanted)
    }

    /// Forgets the requests about a repository.
    pub fn forget_requests(&self, repository: &str) -> Result<()> {
        let (instance, owner, name) = parse(repository)?;
        let key = key(&instance, &owner, &name);
        self.state.requests.forget(|request| request.repository.as_ref() == Some(&key));
        Ok(())
    }

    /// Where clients of the proxy wanted to go instead: `HOST:PORT`, refused with 403.
    pub fn refused(&self) -> Vec<String> {
        lock(&self.state.refused).clone()
    }
}

fn keys(repositories: &[&str]) -> Result<HashSet<String>> {
    let parsed = repositories.iter().map(|name| parse(name));
    parsed.map(|parsed| parsed.map(|(instance, owner, name)| key(&instance, &owner, &name))).collect()
}

fn instance_of(repositories: &[&str]) -> Result<String> {
    match repositories.first() {
        Some(first) => parse(first).map(|(instance, ..)| instance),
        None => Ok("github.com".to_owned()),
    }
}
