//! The site, which only sends archives' visitors on, and codeload, which has the archives.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::Result;
use http::Method;

use super::access::random;
use super::answer::{Answer, archive, login, page, redirect, text};
use super::call::Call;
use super::git::Format;
use super::repos::{Found, Repo, Resolved};
use super::state::State;
use crate::background::lock;

/// How long a link to a private archive is good for.
const LINK_LIFETIME: Duration = Duration::from_mins(5);

/// The tokens in links to archives of private repositories.
#[derive(Debug, Default)]
pub(super) struct Links(Mutex<HashMap<String, (String, Instant)>>);

impl Links {
    pub(super) fn create(&self, key: &str) -> String {
        let token = random().to_uppercase();
        lock(&self.0).insert(token.clone(), (key.to_owned(), Instant::now()));
        token
    }

    pub(super) fn expire(&self, key: &str) {
        lock(&self.0).retain(|_, (linked, _)| linked != key);
    }

    fn open(&self, token: &str, key: &str) -> bool {
        let links = lock(&self.0);
        links.get(token).is_some_and(|(linked, made)| linked == key && made.elapsed() < LINK_LIFETIME)
    }
}

/// `/OWNER/NAME/archive/[refs/tags/]TAG.zip|.tar.gz`, without any credential.
pub(super) fn site(state: &State, call: &Call) -> Result<Answer> {
    let path = call.path();
    if path[..] == ["login"] {
        return login();
    }
    if state.is_in_private_mode(&call.instance) {
        return redirect(302, &call.login_url());
    }
    let [owner, name, "archive", .., _] = path[..] else { return page(404) };
    if call.method != Method::GET && call.method != Method::HEAD {
        return page(404);
    }
    let rest = call.raw_after(3);
    let (format, wanted) = match (rest.strip_suffix(".zip"), rest.strip_suffix(".tar.gz")) {
        (Some(wanted), _) => (Format::Zip, wanted),
        (None, Some(wanted)) => (Format::TarGz, wanted),
        (None, None) => return page(404),
    };
    match state.repos.find(&call.instance, owner, name)? {
        Found::Here(repo) if !repo.is_private() => {
            let (owner, name) = repo.names();
            // Whether the tag is there is codeload's business.
            redirect(302, &format!("{}/{owner}/{name}/{}{wanted}", call.codeload_url(), format.name()))
        }
        Found::Moved(repo) if !repo.is_private() => {
            let (owner, name) = repo.names();
            redirect(301, &format!("https://{}/{owner}/{name}/archive{rest}", call.instance))
        }
        _ => page(404),
    }
}

/// `/OWNER/NAME/[legacy.]zip|tar.gz/REF[?token=…]`. Credentials count for nothing here.
pub(super) async fn codeload(state: &State, call: &Call) -> Result<Answer> {
    let missing = || text(404, "404: Not Found");
    if state.is_in_private_mode(&call.instance) && call.link().is_none() {
        return redirect(302, &call.login_url());
    }
    let path = call.path();
    let [owner, name, kind, ..] = path[..] else { return missing() };
    let (legacy, format) = match kind {
        "zip" => (false, Format::Zip),
        "tar.gz" => (false, Format::TarGz),
        "legacy.zip" => (true, Format::Zip),
        "legacy.tar.gz" => (true, Format::TarGz),
        _ => return missing(),
    };
    let Found::Here(repo) = state.repos.find(&call.instance, owner, name)? else { return missing() };
    if repo.is_private() && !call.link().is_some_and(|token| state.links.open(&token, &repo.key())) {
        return missing();
    }
    let wanted = path[3..].join("/");
    match repo.resolve(&wanted) {
        Resolved::None => missing(),
        Resolved::Many => text(300, "the given path has multiple possibilities"),
        Resolved::One(reference, commit) => send(&repo, &reference, &commit, format, legacy).await,
    }
}

async fn send(repo: &Repo, reference: &str, commit: &str, format: Format, legacy: bool) -> Result<Answer> {
    let (owner, name) = repo.names();
    let short = reference.strip_prefix("refs/tags/").or_else(|| reference.strip_prefix("refs/heads/"));
    let short = short.unwrap_or(reference).replace('/', "-");
    let folder = if legacy {
        format!("{owner}-{name}-{}", &commit[..7])
    } else {
        // Only the v of a version is removed.
        let version =
            short.strip_prefix('v').filter(|rest| rest.starts_with(|first: char| first.is_ascii_digit()));
        format!("{name}-{}", version.unwrap_or(&short))
    };
    let bytes = repo.archive(reference, commit, format, format!("{folder}/")).await?;
    archive(&bytes, format.content_type(), &format!("{folder}.{}", format.name()))
}
