//! What GitHub, and what stands before it, may answer: redirects of what carries a signature, tokens that are not known
//! everywhere yet, clocks that differ, pages for people, other names. And the editions of GitHub, each at its addresses.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use anyhow::ensure;
use http::Version;
use opendepot_testbed::github::{Credential, Failure, Fault, File, Format, GitHubRequest, Hop, Quota};
use serde_json::{Value, json};

use crate::support::failing::Then::{Retried, Stalled};
use crate::support::failing::{Entry, file, zip};
use crate::support::requests::message;
use crate::support::{World, condition, soon};

/// A Version at a repository of another host.
fn at(mut version: Value, repository: &str) -> Value {
    version["spec"]["moduleConfigRef"]["repoUrl"] = json!(format!("https://{repository}"));
    version
}

fn events(world: &World, selector: &str) -> Vec<Value> {
    let list = world.kubectl(&["get", "events", &format!("--field-selector={selector}"), "-o", "json"]);
    let list: Value = serde_json::from_str(&list).unwrap();
    list["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn the_signature_of_an_app_follows_no_redirect_of_the_token_request() {
    let world = World::new("mint-redirect").await;
    let github = &world.bed.github;
    let mut names = Vec::new();
    let mut apps = Vec::new();
    for status in [301, 302, 303, 307, 308] {
        let (name, portal) = (format!("net-{status}"), format!("sso-{status}.{}.example", world.name));
        // It redirects to itself first: the second hop has the same origin as the one before.
        github.serve_portal(&portal, status, 2);
        let app = github.app(&[&world.released(&name).private(true).name()]).unwrap();
        world.app_secret(&name, &app);
        let failure = Failure::RedirectWith(status, portal.clone());
        github.inject(Fault::on_installation(app.installation, failure));
        names.push((name, portal));
        apps.push(app);
    }
    let operator = world.operator().await;
    for (name, _) in &names {
        world.apply(&world.authenticated(name, name));
    }
    for (name, portal) in &names {
        let words = ["api.github.com redirected the request for an installation token", &**portal];
        world.failed(name, "UnexpectedAnswer", Retried, &words).await;
        let there = github.requests_where(|request| request.host == *portal);
        assert_eq!(there, [], "{portal} is not asked, with or without the signature");
        assert_eq!(github.requests(&world.repository(name)).unwrap(), []);
    }
    // Once GitHub answers by itself, they are published.
    for app in &apps {
        github.clear_installation_faults(app.installation);
    }
    for ((name, _), app) in names.iter().zip(&apps) {
        world.version_ready(name).await;
        let asked = github.token_requests(app.installation);
        assert!(asked.iter().all(|r| r.credential == Credential::Jwt && r.host == "api.github.com"));
        let last = asked.last().unwrap();
        assert_eq!((last.status, &*last.body), (Some(201), r#"{"permissions":{"contents":"read"}}"#));
        assert_eq!(last.version, Version::HTTP_11);
    }
    world.nothing_told(&operator, &[]);
}

#[tokio::test]
async fn a_new_token_that_is_refused_for_some_seconds_is_kept_until_it_works() {
    let world = World::new("new-token").await;
    let github = &world.bed.github;
    let kinds = [401_u16, 403, 404];
    let of = |status: u16| [format!("written-{status}"), format!("other-{status}")];
    let mut apps = Vec::new();
    for status in kinds {
        let [written, other] = of(status);
        let repositories = [world.tagged(&written, &["1.0.0", "v1.0.0"]), world.released(&other)];
        let names = repositories.map(|repository| repository.private(true).name());
        let app = github.app(&names.each_ref().map(String::as_str)).unwrap();
        // Longer than the test runs: it says when a token works.
        github.refuse_new_tokens(&app, status, Duration::from_hours(1));
        world.app_secret(&format!("app-{status}"), &app);
        apps.push(app);
    }
    let operator = world.operator_with(&["--max-fetches", "8"]).await;
    // All at once: a token that is a minute old is no longer new.
    let version = |name: &str, status: u16| world.authenticated(name, &format!("app-{status}"));
    let versions = |status: u16| of(status).map(|name| format!("---\n{}\n", version(&name, status))).concat();
    world.apply(&kinds.map(versions).concat());
    for status in kinds {
        let http = format!("HTTP {status}");
        for name in of(status) {
            world.failed(&name, "TokenNotReady", Retried, &[&http, "the token is new"]).await;
        }
    }
    for (status, app) in kinds.into_iter().zip(&apps) {
        github.refuse_new_tokens(app, status, Duration::ZERO);
    }
    let accepted = SystemTime::now();
    for (status, app) in kinds.into_iter().zip(&apps) {
        for name in of(status) {
            let version = world.version_ready(&name).await;
            // Both spellings are tags, and the one as written did not look absent for a moment.
            let tag = if name.starts_with("written") { "1.0.0" } else { "v1.0.0" };
            assert_eq!(version["status"]["source"]["ref"], format!("refs/tags/{tag}"));
        }
        let asked = github.token_requests(app.installation);
        assert_eq!(asked.len(), 1, "{status}: one token for both, however often it was refused");
        let refused = |r: &&GitHubRequest| r.hop == Hop::Api && r.status == Some(status);
        for name in of(status) {
            let requests = github.requests(&world.repository(&name)).unwrap();
            let held = accepted.duration_since(asked[0].at).unwrap();
            // An attempt every five seconds at most, of up to four requests. A later 404 is about a tag.
            let most = 4 * (1 + held.as_secs() / 5);
            let early = requests.iter().filter(refused).filter(|r| r.at < accepted);
            assert!((1..=most).contains(&u64::try_from(early.count()).unwrap()), "{name}: {requests:?}");
        }
    }
    // This is usual with new tokens: no warning.
    let warnings = events(&world, "type=Warning");
    assert!(warnings.is_empty(), "{warnings:#?}");
    world.nothing_told(&operator, &[]);
}

#[tokio::test]
async fn a_clock_that_is_fast_does_not_end_a_wait_early() {
    const WAIT: Duration = Duration::from_secs(15);
    let world = World::new("fast-clock").await;
    let github = &world.bed.github;
    let host = format!("ghes-{}.example", world.name);
    github.serve_host(&host);
    // Ten minutes behind ours: by our clock, its resets are always over.
    github.set_clock(&host, -600);
    let name = format!("{host}/{}", world.repository("net"));
    let repository = github.repository(&name).unwrap().private(true);
    repository.release("1.0.0", &[File::new("main.tf", "")]).unwrap();
    let token = github.personal_token(&[&name]).unwrap();
    world.secret("token", &[("githubToken", &token)]);
    let operator = world.operator_with(&["--github-host", &host]).await;
    github.set_quota(Quota::Personal(token.clone()), 0, WAIT);
    world.apply(&at(world.authenticated("net", "token"), &name));
    world.failed("net", "RateLimited", Retried, &["asks to wait until", "primary"]).await;
    world.version_ready("net").await;
    let sent: Vec<_> = github.requests(&name).unwrap().into_iter().filter(|r| r.hop == Hop::Api).collect();
    let statuses: Vec<u16> = sent.iter().filter_map(|r| r.status).collect();
    assert_eq!(statuses, [403, 302], "{sent:?}");
    let reset = sent[0].at + WAIT;
    assert!(sent[1].at >= reset, "asked {:?} before the reset", reset.duration_since(sent[1].at));
    world.nothing_told(&operator, &[&token]);
}

#[tokio::test]
async fn a_login_page_asks_for_a_credential() {
    let world = World::new("login").await;
    let github = &world.bed.github;
    let host = format!("ghes-{}.example", world.name);
    github.serve_host(&host);
    github.set_private_mode(&host);
    let here = format!("{host}/{}", world.repository("net"));
    // Public on that host, which is to say: to those who have signed in.
    github.repository(&here).unwrap().release("v1.0.0", &[File::new("main.tf", "")]).unwrap();
    let portal = format!("sso.{}.example", world.name);
    github.serve_portal(&portal, 302, 1);
    for name in ["gateway", "stopped"] {
        let fault = Fault::on(&world.released(name).name(), Failure::RedirectTo(portal.clone()));
        github.inject(if name == "gateway" { fault.at(Hop::Site) } else { fault.at(Hop::Api) });
    }
    let token = github.personal_token(&[&here]).unwrap();
    world.secret("token", &[("githubToken", &token)]);
    let site_token = github.personal_token(&[&world.repository("stopped")]).unwrap();
    world.secret("site-token", &[("githubToken", &site_token)]);
    let operator = world.operator_with(&["--github-host", &host]).await;
    world.apply(&at(world.inline("private-mode"), &here));
    world.apply(&world.inline("gateway"));
    world.apply(&world.authenticated("stopped", "site-token"));
    let words = ["does not exist or is private", "set githubClientConfig.useAuthenticatedClient"];
    world.failed("private-mode", "RepositoryNotFound", Stalled, &words).await;
    // A page of another host is not about the repository, and the gateway may soon let requests pass.
    for name in ["gateway", "stopped"] {
        world.failed(name, "UnexpectedAnswer", Retried, &["answered with a web page", &portal]).await;
    }
    world.nothing_stored_nor_told(&operator, &[&token, &site_token]).await;
    world.apply(&at(world.authenticated("private-mode", "token"), &here));
    world.version_ready("private-mode").await;
}

#[tokio::test]
async fn an_abuse_page_limits_its_repository_and_pages_of_two_repositories_all_anonymous_requests() {
    let world = World::new("abuse").await;
    let github = &world.bed.github;
    let host = format!("ghes-{}.example", world.name);
    github.serve_host(&host);
    let here = |name: &str| format!("{host}/{}", world.repository(name));
    let there = |name: &str| {
        let mut version = at(world.inline(name), &here(name));
        version["metadata"]["name"] = json!(format!("there-{name}"));
        version
    };
    world.released("blocked");
    github.inject(Fault::on(&world.repository("blocked"), Failure::AbusePage(403)).at(Hop::Site));
    world.released("open");
    let names = ["net-0", "net-1", "net-2", "net-3", "net-4"];
    for name in names {
        github.repository(&here(name)).unwrap().release("v1.0.0", &[File::new("main.tf", "")]).unwrap();
        github.inject(Fault::on(&here(name), Failure::AbusePage(403)).at(Hop::Codeload));
    }
    let private = world.released("private").private(true);
    world.secret("token", &[("githubToken", &github.personal_token(&[&private.name()]).unwrap())]);
    let operator = world.operator_with(&["--github-host", &host, "--max-fetches", "1"]).await;

    // One repository: the others on that host are published.
    world.apply(&world.inline("blocked"));
    let repository = format!("https://github.com/{}", world.repository("blocked"));
    let words = ["github.com asks to wait until", "HTTP 403 with a web page for", &*repository];
    world.failed("blocked", "RateLimited", Retried, &words).await;
    world.apply(&world.inline("open"));
    world.version_ready("open").await;
    assert_eq!(github.requests(&world.repository("blocked")).unwrap().len(), 1);

    // A second repository: no further anonymous request is sent to that host. Credentials are not affected.
    world.apply(&names.map(|name| format!("---\n{}\n", there(name))).concat());
    let mut alone = 0;
    for name in names {
        let version = world
            .failed(&format!("there-{name}"), "RateLimited", Retried, &["HTTP 403 with a web page"])
            .await;
        alone += usize::from(!message(&version).contains("for several repositories"));
    }
    assert_eq!(alone, 1, "all but the first report the limit of the host");
    world.apply(&world.authenticated("private", "token"));
    world.version_ready("private").await;
    let sent = github.requests_where(|r| r.host == host);
    let hops: Vec<Hop> = sent.iter().map(|r| r.hop).collect();
    assert_eq!(hops, [Hop::Site, Hop::Codeload, Hop::Site, Hop::Codeload], "{sent:?}");
    world.nothing_told(&operator, &[]);
}

#[tokio::test]
async fn a_rename_that_is_followed_is_told_once() {
    let world = World::new("moved").await;
    let github = &world.bed.github;
    let versions = ["1.0.0", "1.1.0", "1.2.0"];
    for name in ["public", "private"] {
        world.tagged(name, &versions).private(name == "private").rename(&world.name, &format!("{name}-new"));
    }
    world.app_secret("app", &github.app(&[&world.repository("private-new")]).unwrap());
    let operator = world.operator().await;
    world.apply(&world.module("public").versions(&versions));
    let credentials = json!({"useAuthenticatedClient": true, "secretName": "app"});
    world.apply(&world.module("private").config("githubClientConfig", credentials).versions(&versions));
    for name in ["public", "private"] {
        world.module_ready(name).await;
    }
    world.force("module/public");
    world.module_reset("public").await;
    let reported = || async {
        let mut notes: Vec<String> = events(&world, "reason=RepositoryMoved")
            .iter()
            .map(|event| event["message"].as_str().unwrap().to_owned())
            .collect();
        notes.sort();
        anyhow::ensure!(notes.len() == 2, "{notes:?}");
        Ok(notes)
    };
    let notes = soon(reported).await;
    for (name, note) in ["private", "public"].iter().zip(&notes) {
        let [old, new] =
            ["", "-new"].map(|end| format!("https://github.com/{}{end}", world.repository(name)));
        assert!(
            note.starts_with(&format!("The repository {old} has moved to {new}; change repoUrl.")),
            "{note}"
        );
    }
    world.nothing_told(&operator, &[]);
}

#[tokio::test]
async fn each_edition_of_github_is_asked_at_its_own_addresses() {
    let world = World::new("editions").await;
    let github = &world.bed.github;
    let (cloud, isolated) = (format!("{}.ghe.com", world.name), format!("isolated-{}.example", world.name));
    github.serve_host(&cloud);
    github.serve_isolated_host(&isolated);
    let mut hosts = Vec::new();
    for (host, api, codeload) in [
        (&cloud, format!("api.{cloud}"), format!("codeload.{cloud}")),
        (&isolated, isolated.clone(), format!("codeload.{isolated}")),
    ] {
        let name = format!("{host}/{}", world.repository("net"));
        let repository = github.repository(&name).unwrap().private(true);
        repository.release("v1.0.0", &[File::new("main.tf", "")]).unwrap();
        let app = github.app(&[&name]).unwrap();
        world.app_secret(&format!("app-{}", hosts.len()), &app);
        hosts.push((name, api, codeload, app));
    }
    world.released("www");
    let operator = world.operator_with(&["--github-host", &cloud, "--github-host", &isolated]).await;
    for (nth, (name, ..)) in hosts.iter().enumerate() {
        let mut version = at(world.authenticated("net", &format!("app-{nth}")), name);
        version["metadata"]["name"] = json!(format!("net-{nth}"));
        world.apply(&version);
    }
    world.apply(&at(world.inline("www"), &format!("WWW.github.com/{}.git", world.repository("www"))));
    for (nth, (name, api, codeload, app)) in hosts.iter().enumerate() {
        let version = world.version_ready(&format!("net-{nth}")).await;
        assert_eq!(version["status"]["source"]["url"], format!("https://{name}"));
        assert!(github.token_requests(app.installation).iter().all(|r| r.host == *api));
        for request in github.requests(name).unwrap() {
            let (host, credential) = match request.hop {
                Hop::Api => (api, Credential::Installation),
                _ => (codeload, Credential::Nothing),
            };
            assert_eq!((&request.host, request.credential), (host, credential), "{request:?}");
        }
    }
    let version = world.version_ready("www").await;
    let url = format!("https://github.com/{}", world.repository("www"));
    assert_eq!(version["status"]["source"]["url"], url, "www is no other host");
    world.nothing_told(&operator, &[]);
}

#[tokio::test]
async fn annotated_tags_narrowed_tokens_and_downloads_that_end_early() {
    let world = World::new("tags").await;
    let github = &world.bed.github;
    let repository = github.repository(&world.repository("tags")).unwrap();
    let commit = repository.branch("main", &[File::new("main.tf", "# tagged\n")]).unwrap();
    repository.annotated_tag("v1.0.0", "refs/heads/main").unwrap();
    repository.annotated_tag("v2.0.0", "refs/tags/v1.0.0").unwrap();
    // An App that may not read contents can still read what is public.
    let app = github.app(&[&repository.name()]).unwrap();
    github.set_reads_contents(&app, false);
    world.app_secret("app", &app);
    let reset = world.released("reset");
    let content: Vec<u8> =
        (0..200_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let large = zip(&[file("r/main.tf"), Entry::File("r/data", content)]);
    reset.replace_archive("v1.0.0", Format::Zip, large).unwrap();
    github.inject(Fault::on(&reset.name(), Failure::TruncatedBody));
    let operator = world.operator().await;
    for format in ["zip", "tar"] {
        let credentials = json!({"useAuthenticatedClient": format == "tar", "secretName": "app"});
        let module = world.module("tags").config("fileFormat", json!(format));
        let mut module = module.config("githubClientConfig", credentials).versions(&["1.0.0", "2.0.0"]);
        module.0["metadata"]["name"] = json!(format);
        world.apply(&module);
    }
    world.apply(&world.inline("reset"));
    let cut =
        world.failed("reset", "DownloadIncomplete", Retried, &["codeload.github.com", "ended early"]).await;
    assert!(message(&cut).contains("after "), "{cut:#}");
    github.clear_faults(&reset.name()).unwrap();
    for format in ["zip", "tar"] {
        world.module_ready(format).await;
        for version in world.versions().await.unwrap() {
            if version["metadata"]["name"].as_str().unwrap().starts_with(format) {
                assert_eq!(version["status"]["source"]["commit"], commit, "{version:#}");
            }
        }
    }
    let asked: Vec<_> = github.token_requests(app.installation).iter().map(|r| r.status).collect();
    assert_eq!(asked, [Some(422), Some(201)], "for reading contents first, then for what there is");
    let version = world.version_ready("reset").await;
    assert_eq!(condition(&version, "Ready")["reason"], "Synced");
    let codeload = github.requests_where(|r| r.repository.as_ref().is_some_and(|n| n.contains(&world.name)));
    assert!(codeload.iter().all(|r| r.version == Version::HTTP_11), "although HTTP/2 is offered");
    world.nothing_told(&operator, &[]);
}

#[tokio::test]
async fn a_dead_host_with_many_repositories_delays_another_host_by_two_rounds_of_permits() {
    const DEAD: usize = 24;
    let world = World::new("dead-host").await;
    let github = &world.bed.github;
    let host = format!("ghes-{}.example", world.name);
    github.serve_host(&host);
    let operator = world.operator_with(&["--github-host", &host]).await;
    let names: Vec<String> = (0..DEAD).map(|nth| format!("dead-{nth}")).collect();
    let versions = names.iter().map(|name| {
        let repository = format!("{host}/{}", world.repository(name));
        github.repository(&repository).unwrap().release("v1.0.0", &[File::new("main.tf", "")]).unwrap();
        github.inject(Fault::on(&repository, Failure::Hang));
        format!("---\n{}\n", at(world.inline(name), &repository))
    });
    let versions: String = versions.collect();
    world.apply(&versions);
    let asked = || github.requests_where(|request| request.host == host);
    soon(|| async {
        ensure!(asked().len() >= 4, "{} of 4 permits are in use", asked().len());
        Ok(())
    })
    .await;
    let good = world.released("good");
    world.apply(&world.inline("good"));
    world.version_ready("good").await;
    let fetched = github.requests(&good.name()).unwrap()[0].at;
    let before: BTreeSet<_> = asked().into_iter().filter(|r| r.at < fetched).map(|r| r.repository).collect();
    assert!(before.len() <= 12, "{} of {DEAD} repositories of the dead host were tried first", before.len());
    world.nothing_told(&operator, &[]);
}
