//! The REST API: repositories, links to their archives, installation tokens; with the primary rate limit.

use std::sync::Arc;

use anyhow::Result;
use http::{HeaderValue, Method, header};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::access::Caller;
use super::answer::{Answer, api_error, document, redirect, text};
use super::call::Call;
use super::faults::Failure;
use super::limits::{Quota, Standing};
use super::repos::{Found, Repo, Resolved, key};
use super::state::State;

/// Answers a call, with the rate limit's headers.
pub(super) fn respond(state: &State, call: &Call, failure: Option<&Failure>) -> Result<Answer> {
    if !call.headers.contains_key(header::USER_AGENT) {
        return text(
            403,
            "Request forbidden by administrative rules. Please make sure your request has a User-Agent header (https://docs.github.com/en/rest/overview/resources-in-the-rest-api#user-agent-required).",
        );
    }
    let (quota, answer) = match (call.installation(), state.access.unsettled(call.authorization())) {
        (Some(installation), _) => token(state, call, installation)?,
        (None, Some((installation, status))) => (Quota::Installation(installation), unsettled(status)?),
        (None, None) if state.is_in_private_mode(&call.instance) && call.authorization().is_none() => {
            (Quota::Anonymous, api_error(401, "Must authenticate to access this API.")?)
        }
        (None, None) => match state.access.caller(&call.instance, call.authorization()) {
            Ok(caller) => (caller.quota.clone(), route(state, call, &caller)?),
            Err(quota) => (quota, api_error(401, "Bad credentials")?),
        },
    };
    limit(state, call, &quota, answer, failure)
}

/// As the part of GitHub answers that does not know a token yet.
fn unsettled(status: u16) -> Result<Answer> {
    let message = match status {
        401 => "Bad credentials",
        403 => "Resource not accessible by integration",
        _ => "Not Found",
    };
    api_error(status, message)
}

/// Counts the call; an Enterprise Server has no limits unless its administrator asks for them.
fn limit(
    state: &State,
    call: &Call,
    quota: &Quota,
    answer: Answer,
    failure: Option<&Failure>,
) -> Result<Answer> {
    let counted = call.path() != ["rate_limit"];
    let standing = if counted { state.limits.spend(quota) } else { state.limits.look(quota) };
    let standing = standing.by_clock(state.ahead(&call.instance));
    let mut answer = match failure {
        Some(Failure::PrimaryLimit(reset)) => return exceeded(standing.spent(*reset)),
        _ if standing.asked_for => answer,
        _ if call.instance != "github.com" => return Ok(answer),
        _ => answer,
    };
    if standing.exceeded && counted {
        return exceeded(standing);
    }
    standing.write(answer.headers_mut());
    answer.headers_mut().insert("x-github-media-type", HeaderValue::from_static("github.v3; format=json"));
    Ok(answer)
}

fn exceeded(standing: Standing) -> Result<Answer> {
    let mut answer = api_error(
        403,
        "API rate limit exceeded. (But here's the good news: Authenticated requests get a higher rate limit. Check out the documentation for more details.)",
    )?;
    standing.write(answer.headers_mut());
    Ok(answer)
}

/// A secondary limit's answer, at whatever kind of server.
pub(super) fn secondary_limit(status: u16, after: Option<std::time::Duration>) -> Result<Answer> {
    let mut answer = api_error(
        status,
        "You have exceeded a secondary rate limit. Please wait a few minutes before you try again. If you reach out to GitHub Support for help, please include the request ID.",
    )?;
    if let Some(after) = after {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    }
    Ok(answer)
}

fn route(state: &State, call: &Call, caller: &Caller) -> Result<Answer> {
    if call.method != Method::GET && call.method != Method::HEAD {
        return api_error(404, "Not Found");
    }
    let found = match call.path()[..] {
        ["rate_limit"] => return document(200, &json!({ "resources": {} })),
        ["repos", owner, name, ..] => state.repos.find(&call.instance, owner, name)?,
        ["repositories", id, ..] => {
            let found = id.parse().ok().and_then(|id| state.repos.by_id(id));
            found.filter(|repo| repo.instance == call.instance).map_or(Found::Nowhere, Found::Here)
        }
        _ => Found::Nowhere,
    };
    let visible = |repo: &Arc<Repo>| !repo.is_private() || caller.sees(&repo.key());
    match found {
        Found::Here(repo) if visible(&repo) => about(state, call, caller, &repo),
        Found::Moved(repo) if visible(&repo) => moved(call, &repo),
        _ => api_error(404, "Not Found"),
    }
}

fn moved(call: &Call, repo: &Repo) -> Result<Answer> {
    let rest = call.raw_after(3);
    let url = format!("{}/repositories/{}{rest}", call.api_url(), repo.id);
    let mut answer = document(301, &json!({ "message": "Moved Permanently", "url": url }))?;
    answer.headers_mut().insert(header::LOCATION, HeaderValue::from_str(&url)?);
    Ok(answer)
}

fn about(state: &State, call: &Call, caller: &Caller, repo: &Repo) -> Result<Answer> {
    let path = call.path();
    let skip = if path.first() == Some(&"repositories") { 2 } else { 3 };
    let (owner, name) = repo.names();
    match path[skip..] {
        [] => document(200, &description(repo, &owner, &name)),
        ["zipball" | "tarball", ..] if repo.is_private() && !caller.reads_contents => {
            api_error(403, "Resource not accessible by integration")
        }
        [kind @ ("zipball" | "tarball"), ..] => {
            let wanted = path[skip + 1..].join("/");
            let wanted = if wanted.is_empty() { "refs/heads/main".to_owned() } else { wanted };
            if matches!(repo.resolve(&wanted), Resolved::None) && !repo.missing_tag_redirects() {
                return api_error(404, "Not Found");
            }
            let format = if kind == "zipball" { "legacy.zip" } else { "legacy.tar.gz" };
            let raw = call.raw_after(skip + 1);
            let raw = if raw.is_empty() { format!("/{wanted}") } else { raw };
            let mut location = format!("{}/{owner}/{name}/{format}{raw}", call.codeload_url());
            if repo.is_private() || state.is_in_private_mode(&call.instance) {
                location = format!("{location}?token={}", state.links.create(&repo.key()));
            }
            redirect(302, &location)
        }
        _ => api_error(404, "Not Found"),
    }
}

fn description(repo: &Repo, owner: &str, name: &str) -> Value {
    json!({
        "id": repo.id,
        "name": name,
        "full_name": format!("{owner}/{name}"),
        "private": repo.is_private(),
        "owner": { "login": owner },
        "html_url": format!("https://{}/{owner}/{name}", repo.instance),
        "default_branch": "main",
    })
}

/// `POST /app/installations/ID/access_tokens`.
fn token(state: &State, call: &Call, installation: u64) -> Result<(Quota, Answer)> {
    let refuse = |(status, message): (u16, String)| api_error(status, &message);
    let ahead = state.ahead(&call.instance);
    let app = match state.access.app(&call.instance, call.authorization(), ahead) {
        Ok(app) => app,
        // Not the quota that all anonymous callers share here.
        Err(refusal) => return Ok((Quota::Rejected(format!("JWT for {installation}")), refuse(refusal)?)),
    };
    let asked: Value = serde_json::from_slice(&call.body).unwrap_or_default();
    let narrowed = asked["repositories"].as_array();
    let narrowed = narrowed.map(|names| names.iter().filter_map(Value::as_str).map(str::to_owned).collect());
    let permissions = asked["permissions"].as_object();
    let answer = match state.access.mint(app, installation, narrowed, permissions) {
        Err(refusal) => refuse(refusal)?,
        Ok(minted) => {
            let expires = Timestamp::try_from(minted.expires)? + SignedDuration::from_secs(ahead);
            let expires = expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            document(
                201,
                &json!({
                    "token": minted.token,
                    "expires_at": expires,
                    "permissions": minted.permissions,
                    "repository_selection": "selected",
                }),
            )?
        }
    };
    Ok((Quota::App(app), answer))
}

/// What the repository of a path is called in logs and faults.
pub(super) fn subject(state: &State, instance: &str, path: &[&str]) -> Option<String> {
    match path {
        ["repos", owner, name, ..] => Some(key(instance, owner, name)),
        ["repositories", id, ..] => {
            id.parse().ok().and_then(|id| state.repos.by_id(id)).map(|repo| repo.key())
        }
        _ => None,
    }
}
