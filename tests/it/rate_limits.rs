//! GitHub's limits are obeyed by all Versions that share the limited credential, by no others, and until the time that
//! GitHub names. One installation token serves all who hold its key. Redirects are followed; credentials stay where they
//! belong.

use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use jiff::Timestamp;
use opendepot_testbed::control_plane::AuditEntry;
use opendepot_testbed::eventually;
use opendepot_testbed::github::{App, Credential, Failure, Fault, File, GitHubRequest, Hop, Quota};
use serde_json::{Value, json};

use crate::support::failing::Then::{Retried, Stalled};
use crate::support::{OPERATOR, SOON, World, condition, ready, soon};

const HOUR: Duration = Duration::from_hours(1);

/// Until when an object says that it waits for GitHub.
fn until(object: &Value) -> SystemTime {
    let message = condition(object, "Ready")["message"].as_str().unwrap();
    let (_, time) =
        message.split_once(" asks to wait until ").unwrap_or_else(|| panic!("no time in: {message}"));
    let time: Timestamp =
        time.split(' ').next().unwrap().parse().unwrap_or_else(|e| panic!("{message}: {e}"));
    assert_eq!(time.subsec_nanosecond(), 0, "messages have whole seconds: {message}");
    time.into()
}

fn in_its_name(request: &GitHubRequest) -> bool {
    request.hop != Hop::Codeload
}

/// A world with two repositories for each kind of credential: two Apps, a personal token, and none.
struct Kinds {
    world: World,
    app: App,
}

impl Kinds {
    const ALL: [&str; 4] = ["app", "other-app", "token", "anonymous"];

    async fn new(name: &str) -> Self {
        let world = World::new(name).await;
        let github = &world.bed.github;
        let both = |kind: &str| {
            [kind, &format!("{kind}-too")]
                .map(|name| world.released(name).private(kind != "anonymous").name())
        };
        let (app, other) = (both("app"), both("other-app"));
        let app = github.app(&app.each_ref().map(String::as_str)).unwrap();
        world.app_secret("app", &app);
        world.app_secret("other-app", &github.app(&other.each_ref().map(String::as_str)).unwrap());
        let token = github.personal_token(&both("token").each_ref().map(String::as_str)).unwrap();
        world.secret("token", &[("githubToken", &token)]);
        both("anonymous");
        Self { world, app }
    }

    fn version(&self, kind: &str, name: &str) -> Value {
        if kind == "anonymous" { self.world.inline(name) } else { self.world.authenticated(name, kind) }
    }

    /// Limits `kind` for an hour, and shows that just its Versions wait.
    async fn only_its_own_wait(&self, kind: &str, limit: impl FnOnce(&Self)) {
        let (world, github) = (&self.world, &self.world.bed.github);
        let repositories = [kind, &format!("{kind}-too")].map(|name| world.repository(name));
        limit(self);
        let operator = world.operator().await;
        world.apply(&self.version(kind, kind));
        let limited = world.failed(kind, "RateLimited", Retried, &["asks to wait until"]).await;
        world.warned_once(kind, "RateLimited").await;
        let wait = until(&limited).duration_since(SystemTime::now()).unwrap();
        assert!(wait > Duration::from_mins(55) && wait <= HOUR + Duration::from_secs(2), "{wait:?}");

        // From now on GitHub would answer. No request is sent: neither this Version, nor another, nor a Module's.
        github.set_quota(Quota::Installation(self.app.installation), 5_000, HOUR);
        github.clear_installation_faults(self.app.installation);
        github.clear_faults(&repositories[0]).unwrap();
        github.forget_requests(&repositories[0]).unwrap();
        let tokens = github.token_requests(self.app.installation).len();
        let another = format!("{kind}-too");
        world.apply(&self.version(kind, &another));
        let mut module = world.module("module").versions(&["1.0.0"]);
        module.0["spec"]["moduleConfig"] = self.version(kind, &another)["spec"]["moduleConfigRef"].clone();
        world.apply(&module);
        world.request(&format!("version/{kind}"), "again");
        let said = world.failed(&another, "RateLimited", Retried, &[]).await;
        assert_eq!(until(&said), until(&limited), "one limit for all");
        let module = world.module_when("module", |m| condition(m, "Ready")["reason"] == "RateLimited").await;
        assert_eq!(until(&module), until(&limited));
        assert_eq!(condition(&module, "Reconciling")["status"], "True", "no person has to act");
        world.version_when(kind, |v| v["status"]["lastHandledRequest"] == "again").await;

        // All others are published meanwhile.
        for other in Self::ALL.into_iter().filter(|other| *other != kind) {
            world.apply(&self.version(other, other));
        }
        for other in Self::ALL.into_iter().filter(|other| *other != kind) {
            world.version_ready(other).await;
        }
        for repository in &repositories {
            assert_eq!(github.requests(repository).unwrap(), [], "nothing is sent before the reset");
        }
        if kind == "app" {
            assert_eq!(github.token_requests(self.app.installation).len(), tokens);
        }
        world.warned_once(kind, "RateLimited").await;
        world.nothing_told(&operator, &[]);
    }
}

#[tokio::test]
async fn a_spent_quota_of_an_app_holds_back_its_versions_and_no_others() {
    let kinds = Kinds::new("limit-app").await;
    let spend = |kinds: &Kinds| {
        kinds.world.bed.github.set_quota(Quota::Installation(kinds.app.installation), 0, HOUR);
    };
    kinds.only_its_own_wait("app", spend).await;
}

#[tokio::test]
async fn a_limit_on_tokens_holds_back_the_versions_of_that_app_alone() {
    let kinds = Kinds::new("limit-mint").await;
    let busy = |kinds: &Kinds| {
        let failure = Failure::SecondaryLimit(429, Some(HOUR));
        kinds.world.bed.github.inject(Fault::on_installation(kinds.app.installation, failure));
    };
    kinds.only_its_own_wait("app", busy).await;
}

#[tokio::test]
async fn a_secondary_limit_of_a_personal_token_holds_back_its_versions_and_no_others() {
    let kinds = Kinds::new("limit-token").await;
    let busy = |kinds: &Kinds| {
        let (world, failure) = (&kinds.world, Failure::SecondaryLimit(403, Some(HOUR)));
        world.bed.github.inject(Fault::on(&world.repository("token"), failure).at(Hop::Api));
    };
    kinds.only_its_own_wait("token", busy).await;
}

#[tokio::test]
async fn a_limit_of_anonymous_requests_holds_back_those_and_no_credential() {
    let kinds = Kinds::new("limit-anonymous").await;
    let busy = |kinds: &Kinds| {
        let (world, failure) = (&kinds.world, Failure::SecondaryLimit(429, Some(HOUR)));
        world.bed.github.inject(Fault::on(&world.repository("anonymous"), failure).at(Hop::Site));
    };
    kinds.only_its_own_wait("anonymous", busy).await;
}

#[tokio::test]
async fn many_missing_tags_of_one_repository_leave_the_quota_to_others() {
    const MISSING: usize = 60;
    let world = World::new("missing-tags").await;
    let github = &world.bed.github;
    let [bulk, late] = ["bulk", "late"].map(|name| world.released(name).private(true));
    let app = github.app(&[&bulk.name(), &late.name()]).unwrap();
    world.app_secret("app", &app);
    let credentials = json!({"useAuthenticatedClient": true, "secretName": "app"});
    let module = |name: &str| world.module(name).config("githubClientConfig", credentials.clone());
    let versions: Vec<String> = (0..MISSING).map(|patch| format!("2.0.{patch}")).collect();
    let operator = world.operator().await;
    world.apply(&module("bulk").versions(&versions.iter().map(String::as_str).collect::<Vec<_>>()));
    world.module_when("bulk", |m| m["status"]["versions"]["failed"] == MISSING).await;
    github.forget_requests(&bulk.name()).unwrap();
    let since = Instant::now();

    // Meanwhile another Module is applied before its tag is pushed.
    world.apply(&module("late").versions(&["2.0.0"]));
    world.version_fails("late-2.0.0", "TagNotFound").await;
    late.release("v2.0.0", &[File::new("main.tf", "")]).unwrap();
    world.version_ready("late-2.0.0").await;
    // Alone, each of the others would have been tried twice by then. The first ones are tried once more.
    tokio::time::sleep(Duration::from_secs(20).saturating_sub(since.elapsed())).await;
    // The spelling that is tried last.
    let is_last = |r: &GitHubRequest| r.hop == Hop::Api && r.path.contains("/v2.0.");
    let attempts = github.requests(&bulk.name()).unwrap().into_iter().filter(is_last).count();
    assert!(attempts < MISSING, "{attempts} attempts");
    // A request is tried at once, also for one of many.
    bulk.release("v2.0.59", &[File::new("main.tf", "")]).unwrap();
    world.request("version/bulk-2.0.59", "pushed");
    world.version_ready("bulk-2.0.59").await;
    world.nothing_told(&operator, &[]);
}

/// A Module of three versions with an App of its own, and how that App is limited.
struct Limited {
    name: &'static str,
    /// Statuses of its first request: the one that the limit comes with.
    first: u16,
    failure: Option<Failure>,
    left: u32,
}

#[tokio::test]
async fn nothing_is_sent_before_the_time_that_github_names_and_then_all_is_published() {
    const WAIT: Duration = Duration::from_secs(20);
    let world = World::new("limit-times").await;
    let github = &world.bed.github;
    let secondary = |status| Some(Failure::SecondaryLimit(status, Some(WAIT)));
    let cases = [
        Limited { name: "spent", first: 403, failure: None, left: 0 },
        Limited { name: "last", first: 302, failure: None, left: 1 },
        Limited { name: "forbidden", first: 403, failure: secondary(403), left: 5_000 },
        Limited { name: "too-many", first: 429, failure: secondary(429), left: 5_000 },
    ];
    let operator = world.operator().await;
    let watched = world.watched().await;
    let mut apps = Vec::new();
    for case in &cases {
        let repository = github.repository(&world.repository(case.name)).unwrap().private(true);
        let release = |version| (version, vec![File::new("main.tf", format!("# {version}\n"))]);
        repository.releases(["1.0.0", "1.1.0", "1.2.0"].map(release)).unwrap();
        let app = github.app(&[&repository.name()]).unwrap();
        world.app_secret(case.name, &app);
        apps.push(app);
    }
    let mut modules = Vec::new();
    for (case, app) in cases.iter().zip(&apps) {
        if let Some(failure) = &case.failure {
            let fault = Fault::on(&world.repository(case.name), failure.clone());
            github.inject(fault.at(Hop::Api).times(1));
        }
        let credentials = json!({"useAuthenticatedClient": true, "secretName": case.name});
        let module = world.module(case.name).config("githubClientConfig", credentials);
        modules.push(format!("---\n{}\n", module.versions(&["1.0.0", "1.1.0", "1.2.0"])));
        github.set_quota(Quota::Installation(app.installation), case.left, WAIT);
    }
    world.apply(&modules.concat());
    for case in &cases {
        let published = || async {
            let module = world.get_module(case.name).await?;
            anyhow::ensure!(ready(&module), "{:#}", module["status"]);
            Ok(())
        };
        eventually(SOON, published).await.unwrap_or_else(|error| panic!("{}: {error:#}", case.name));
        // From the watch, since the state is over when this test looks late.
        let states = watched.states(&world, &format!("Module/{}", case.name)).await;
        let limited = states.iter().find(|m| condition(m, "Ready")["reason"] == "RateLimited");
        let named = until(limited.unwrap_or_else(|| panic!("{} was never limited", case.name)));
        let sent = github.requests(&world.repository(case.name)).unwrap();
        let [first, later @ ..] = &sent.into_iter().filter(in_its_name).collect::<Vec<_>>()[..] else {
            panic!("{}: nothing was sent", case.name)
        };
        let reset = first.at + WAIT;
        assert!(named + Duration::from_secs(1) > reset, "{}: says {named:?}, meant {reset:?}", case.name);
        assert_eq!(first.status, Some(case.first), "{}", case.name);
        assert!(
            later.iter().all(|r| r.at >= named && r.at >= reset && r.status == Some(302)),
            "{}: {later:?}",
            case.name
        );
        assert_eq!(later.len(), if case.first == 302 { 2 } else { 3 }, "{}: each asked once more", case.name);
    }
    world.nothing_told(&operator, &[]);
}

#[tokio::test]
async fn waits_grow_where_only_the_host_of_archives_is_limited() {
    let world = World::new("limit-codeload").await;
    let github = &world.bed.github;
    let repository = world.released("net").name();
    let busy = Failure::SecondaryLimit(429, Some(Duration::from_secs(1)));
    github.inject(Fault::on(&repository, busy).at(Hop::Codeload).times(4));
    let operator = world.operator().await;
    world.apply(&world.inline("net"));
    world.version_ready("net").await;
    let sent = github.requests(&repository).unwrap().into_iter().filter(|r| r.hop == Hop::Codeload);
    let sent: Vec<SystemTime> = sent.map(|r| r.at).collect();
    let waits: Vec<_> = sent.windows(2).map(|pair| pair[1].duration_since(pair[0]).unwrap()).collect();
    // The third limit in a row, and the fourth.
    assert!(waits[2] >= Duration::from_secs(5) && waits[3] >= Duration::from_secs(10), "{waits:?}");
    world.nothing_told(&operator, &[]);
}

#[tokio::test]
async fn a_restart_ends_no_wait_neither_for_new_versions_nor_for_a_request() {
    let kinds = Kinds::new("limit-restart").await;
    let (world, github) = (&kinds.world, &kinds.world.bed.github);
    github.set_quota(Quota::Installation(kinds.app.installation), 0, HOUR);
    world.kubectl(&["delete", "secret", "app"]);
    let operator = world.operator().await;
    world.apply(&kinds.version("app", "app"));
    // The Secret is younger than the first failure, and older than the limit.
    world.failed("app", "SecretNotFound", Stalled, &[]).await;
    world.next_second().await;
    world.app_secret("app", &kinds.app);
    let limited = world.failed("app", "RateLimited", Retried, &[]).await;
    operator.kill().await.unwrap();
    // From now on GitHub would answer.
    github.set_quota(Quota::Installation(kinds.app.installation), 5_000, HOUR);
    let tokens = github.token_requests(kinds.app.installation).len();
    let names = ["app", "app-too"];
    for name in names {
        github.forget_requests(&world.repository(name)).unwrap();
    }
    world.app_secret("copy", &kinds.app);
    operator.restart().await.unwrap();
    world.quiet().await;
    // With the same Secret, the same App in another one, and one that nothing limits.
    world.apply(&kinds.version("app", "app-too"));
    let mut copy = world.authenticated("copy", "copy");
    copy["spec"]["moduleConfigRef"]["repoUrl"] =
        json!(format!("https://github.com/{}", world.repository("app-too")));
    world.apply(&copy);
    world.apply(&kinds.version("token", "token"));
    for new in ["app-too", "copy"] {
        let new = world.failed(new, "RateLimited", Retried, &[]).await;
        assert_eq!(until(&new), until(&limited), "one limit for all");
    }
    world.request("version/app", "now");
    let asked = world.version_when("app", |v| v["status"]["lastHandledRequest"] == "now").await;
    assert_eq!(until(&asked), until(&limited));
    world.version_ready("token").await;
    for name in names {
        assert_eq!(github.requests(&world.repository(name)).unwrap(), [], "{name} waits for the reset");
    }
    assert_eq!(github.token_requests(kinds.app.installation).len(), tokens);
}

/// Two Apps with access to private repositories of these names, the first one of them in the Secret `app`.
fn two_apps(world: &World, names: &[&str]) -> [App; 2] {
    let repositories: Vec<String> =
        names.iter().map(|name| world.released(name).private(true).name()).collect();
    let repositories: Vec<&str> = repositories.iter().map(String::as_str).collect();
    let apps = [(); 2].map(|()| world.bed.github.app(&repositories).unwrap());
    world.app_secret("app", &apps[0]);
    apps
}

/// Applies Versions that use the Secret `app`, and waits until all meet the limit.
async fn are_limited(world: &World, names: &[&str]) {
    for name in names {
        world.apply(&world.authenticated(name, "app"));
    }
    for name in names {
        world.failed(name, "RateLimited", Retried, &[]).await;
    }
}

/// Waits until they are Ready: a Secret is looked at once a minute.
async fn are_published(world: &World, names: &[&str]) {
    for name in names {
        let published = || async { world.get_version(name).await?.filter(ready).context("not ready") };
        eventually(Duration::from_mins(3), published).await.unwrap();
    }
}

#[tokio::test]
async fn a_secret_that_is_replaced_during_a_limit_is_used_within_a_minute() {
    let world = World::new("limit-replaced").await;
    let github = &world.bed.github;
    let names = ["net", "dns"];
    let [one, two] = two_apps(&world, &names);
    github.set_quota(Quota::Installation(one.installation), 0, HOUR);
    let operator = world.operator().await;
    are_limited(&world, &names).await;
    world.app_secret("app", &two);
    are_published(&world, &names).await;
    assert_eq!(github.token_requests(one.installation).len(), 1, "its limit is obeyed");
    world.nothing_told(&operator, &[]);
}

#[tokio::test]
async fn a_secret_that_is_replaced_during_the_next_limit_is_used_within_a_minute_by_all() {
    let world = World::new("limit-next").await;
    let github = &world.bed.github;
    let names = ["net", "dns", "vpc"];
    let [one, two] = two_apps(&world, &names);
    github.set_quota(Quota::Installation(one.installation), 0, Duration::from_secs(20));
    // One attempt at a time: attempts that run side by side meet the limit together.
    let operator = world.operator_with(&["--max-fetches", "1"]).await;
    are_limited(&world, &names).await;
    github.set_quota(Quota::Installation(one.installation), 0, HOUR);
    let far = SystemTime::now() + Duration::from_mins(30);
    let next_limit = || async {
        let is_next = |v: &Value| condition(v, "Ready")["reason"] == "RateLimited" && until(v) > far;
        anyhow::ensure!(world.versions().await?.iter().any(is_next), "none has met the next limit");
        Ok(())
    };
    soon(next_limit).await;
    world.app_secret("app", &two);
    are_published(&world, &names).await;
    world.nothing_told(&operator, &[]);
}

#[tokio::test]
async fn the_limit_of_a_replaced_app_does_not_count_for_the_next_one_which_has_a_shorter_limit() {
    let world = World::new("limit-shorter").await;
    let github = &world.bed.github;
    let names = ["net", "dns"];
    let [one, two] = two_apps(&world, &names);
    github.set_quota(Quota::Installation(one.installation), 0, HOUR);
    let operator = world.operator().await;
    are_limited(&world, &names).await;
    let busy = Failure::SecondaryLimit(429, Some(Duration::from_secs(5)));
    github.inject(Fault::on_installation(two.installation, busy).times(1));
    world.app_secret("app", &two);
    are_published(&world, &names).await;
    assert_eq!(github.token_requests(two.installation).len(), 2, "its own limit is obeyed");
    world.nothing_told(&operator, &[]);
}

#[tokio::test]
async fn twenty_versions_at_once_in_two_namespaces_ask_for_one_token() {
    let worlds = [World::new("token-one").await, World::new("token-two").await];
    let github = &worlds[0].bed.github;
    let names: Vec<String> = (0..10).map(|at| format!("net-{at}")).collect();
    let mut repositories = Vec::new();
    for world in &worlds {
        repositories.extend(names.iter().map(|name| world.released(name).private(true).name()));
    }
    let app = github.app(&repositories.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
    // Slow enough that all of them want a token before there is one.
    github.inject(Fault::on_installation(app.installation, Failure::Delay(Duration::from_secs(2))));
    let both = ["--namespace", &worlds[1].name, "--max-fetches", "20"];
    for world in &worlds {
        world.app_secret("app", &app);
        let all: String =
            names.iter().map(|name| format!("---\n{}\n", world.authenticated(name, "app"))).collect();
        world.apply(&all);
    }
    let operator = worlds[0].operator_with(&both).await;
    for world in &worlds {
        for name in &names {
            world.version_ready(name).await;
        }
    }
    assert_eq!(github.token_requests(app.installation).len(), 1, "one token for twenty Versions");
    let sent = github.requests_where(|r| {
        r.repository.as_ref().is_some_and(|name| {
            repositories.iter().any(|repository| name.ends_with(&repository.to_lowercase()))
        })
    });
    assert!(sent.iter().filter(|r| r.hop == Hop::Api).all(|r| r.credential == Credential::Installation));
    worlds[1].nothing_told(&operator, &[]);
}

#[tokio::test]
async fn a_token_is_renewed_shortly_before_it_expires_and_none_is_sent_after() {
    const LIFETIME: Duration = Duration::from_secs(40);
    let world = World::new("token-life").await;
    let github = &world.bed.github;
    let repository = world.released("net").private(true);
    let app = github.app(&[&repository.name()]).unwrap();
    github.set_token_lifetime(&app, LIFETIME);
    world.app_secret("app", &app);
    let _operator = world.operator().await;
    let mut version = world.authenticated("net", "app");
    let minted = || github.token_requests(app.installation);
    // GitHub names whole seconds; a token that lives for so short a time is used for three quarters of it.
    let (early, second) = (LIFETIME * 3 / 4, Duration::from_secs(1));
    // One Version after another, until a second token was needed.
    for at in 0.. {
        let name = format!("net-{at}");
        version["metadata"]["name"] = json!(name);
        let applied = minted().first().map(|token| token.at.elapsed().unwrap());
        world.apply(&version);
        world.version_ready(&name).await;
        if minted().len() > 1 {
            break;
        }
        assert!(applied.is_none_or(|age| age < early + second), "used at {applied:?} of {LIFETIME:?}");
    }
    let age = minted()[1].at.duration_since(minted()[0].at).unwrap();
    assert!(age + second >= early, "renewed after {age:?} of {LIFETIME:?}");
    let refused =
        github.requests(&repository.name()).unwrap().into_iter().filter(|r| r.status == Some(401)).count();
    assert_eq!(refused, 0, "no token was sent after its end");
}

#[tokio::test]
async fn a_revoked_token_is_replaced_once_for_all_and_a_new_one_is_kept() {
    let world = World::new("token-revoked").await;
    let github = &world.bed.github;
    let names: Vec<String> = (0..20).map(|at| format!("net-{at}")).collect();
    let repositories: Vec<String> =
        names.iter().map(|name| world.released(name).private(true).name()).collect();
    let app = github.app(&repositories.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
    world.app_secret("app", &app);
    let operator = world.operator_with(&["--max-fetches", "20"]).await;
    let minted = || github.token_requests(app.installation).len();
    world.apply(&world.authenticated(&names[0], "app"));
    world.version_ready(&names[0]).await;
    assert_eq!(minted(), 1);

    github.revoke_tokens(&Quota::Installation(app.installation));
    let rest: String =
        names[1..].iter().map(|n| format!("---\n{}\n", world.authenticated(n, "app"))).collect();
    world.apply(&rest);
    for name in &names[1..] {
        world.version_ready(name).await;
    }
    let warnings = world.kubectl(&["get", "events", "--field-selector=type=Warning", "-o", "json"]);
    let mut warnings: Value = serde_json::from_str(&warnings).unwrap();
    let warnings = warnings["items"].as_array_mut().unwrap();
    warnings.retain(|event| names[1..].iter().any(|name| event["involvedObject"]["name"] == name.as_str()));
    assert!(warnings.is_empty(), "a revoked token requires no action: {warnings:#?}");
    assert_eq!(minted(), 2, "one new token for all");

    // One that GitHub does not accept although it has just given it may not be known everywhere yet.
    let last = world.released("last").private(true).name();
    let young = github.app(&[&last]).unwrap();
    world.app_secret("young", &young);
    github.inject(Fault::on(&last, Failure::Status(401)).at(Hop::Api));
    world.apply(&world.authenticated("last", "young"));
    world.failed("last", "TokenNotReady", Retried, &["HTTP 401", "the token is new"]).await;
    assert_eq!(github.token_requests(young.installation).len(), 1);
    github.clear_faults(&last).unwrap();
    world.version_ready("last").await;
    assert_eq!(github.token_requests(young.installation).len(), 1, "the new one is kept");
    world.nothing_told(&operator, &[]);
}

#[tokio::test]
async fn an_enterprise_server_is_asked_as_its_own_app_and_its_limits_are_its_own() {
    let world = World::new("ghes").await;
    let github = &world.bed.github;
    let host = format!("ghes-{}.example", world.name);
    github.serve_host(&host);
    let here = |name: &str| format!("{host}/{}", world.repository(name));
    for name in ["app", "public"] {
        let repository = github.repository(&here(name)).unwrap().private(name == "app");
        repository.release("v1.0.0", &[File::new("main.tf", "")]).unwrap();
    }
    world.released("elsewhere");
    let app = github.app(&[&here("app")]).unwrap();
    world.app_secret("app", &app);
    github.inject(Fault::on(&here("public"), Failure::SecondaryLimit(429, Some(HOUR))).at(Hop::Site));
    let operator = world.operator_with(&["--github-host", &host]).await;
    let at_host = |mut version: Value, name: &str| {
        version["spec"]["moduleConfigRef"]["repoUrl"] = json!(format!("https://{}", here(name)));
        version
    };
    world.apply(&at_host(world.inline("public"), "public"));
    world.failed("public", "RateLimited", Retried, &[&host]).await;
    // Neither the App there, nor anonymous requests to another host, wait for that.
    world.apply(&at_host(world.authenticated("app", "app"), "app"));
    world.apply(&world.inline("elsewhere"));
    let version = world.version_ready("app").await;
    assert_eq!(version["status"]["source"]["url"], format!("https://{}", here("app")));
    world.version_ready("elsewhere").await;
    let minted = github.token_requests(app.installation);
    assert!(minted.len() == 1 && minted[0].host == host, "{minted:?}");
    let requests = github.requests(&here("app")).unwrap();
    assert!(requests.iter().all(|r| r.host == host), "{requests:?}");
    world.nothing_told(&operator, &[]);
}

#[tokio::test]
async fn a_renamed_repository_is_followed_with_the_credential_at_the_api_alone() {
    let world = World::new("renamed").await;
    let github = &world.bed.github;
    let [app, token, _] = ["app", "token", "anonymous"].map(|kind| {
        let repository = world.released(kind).private(kind != "anonymous");
        repository.rename(&world.name, &format!("{kind}-new"));
        repository.name()
    });
    world.app_secret("app", &github.app(&[&app]).unwrap());
    world.secret("token", &[("githubToken", &github.personal_token(&[&token]).unwrap())]);
    let operator = world.operator().await;
    let versions = [
        ("app", world.authenticated("app", "app"), Credential::Installation),
        ("token", world.authenticated("token", "token"), Credential::Personal),
        ("anonymous", world.inline("anonymous"), Credential::Nothing),
    ];
    for (kind, mut version, credential) in versions {
        version["spec"]["version"] = json!("v1.0.0");
        world.apply(&version);
        followed(&world, kind, credential).await;
    }
    world.nothing_told(&operator, &[]);
}

/// The Version is published although its repository has moved; only the API saw the credential, at both addresses.
async fn followed(world: &World, kind: &str, credential: Credential) {
    let version = world.version_ready(kind).await;
    let url = format!("https://github.com/{}", world.repository(kind));
    assert_eq!(version["status"]["source"]["url"], url, "the repository is called what the spec calls it");
    let old = world.bed.github.requests(&world.repository(kind)).unwrap();
    let new = world.bed.github.requests(&world.repository(&format!("{kind}-new"))).unwrap();
    let statuses: Vec<u16> = old.iter().chain(&new).filter_map(|r| r.status).collect();
    assert_eq!(statuses, [301, 302, 200], "{kind}");
    for request in old.iter().chain(&new) {
        let expected = if request.hop == Hop::Api { credential } else { Credential::Nothing };
        assert_eq!(request.credential, expected, "{request:?}");
    }
}

#[tokio::test]
async fn a_credential_of_one_host_is_not_sent_to_another() {
    let world = World::new("two-hosts").await;
    let github = &world.bed.github;
    let host = format!("ghes-{}.example", world.name);
    github.serve_host(&host);
    let there = format!("{host}/{}", world.repository("server"));
    let repository = github.repository(&there).unwrap().private(true);
    repository.release("v1.0.0", &[File::new("main.tf", "")]).unwrap();
    let (at_server, at_site) = (github.app(&[&there]).unwrap(), world.released("site").private(true));
    let site_token = github.personal_token(&[&at_site.name()]).unwrap();
    world.app_secret("app", &at_server);
    world.secret("token", &[("githubToken", &site_token)]);
    // Each sends its visitors to the other.
    github.inject(Fault::on(&there, Failure::RedirectTo("api.github.com".into())).at(Hop::Api));
    github.inject(Fault::on(&at_site.name(), Failure::RedirectTo(host.clone())).at(Hop::Api));
    let operator = world.operator_with(&["--github-host", &host]).await;
    let mut version = world.authenticated("at-server", "app");
    version["spec"]["moduleConfigRef"]["repoUrl"] = json!(format!("https://{there}"));
    world.apply(&version);
    let mut version = world.authenticated("at-site", "token");
    version["spec"]["moduleConfigRef"]["repoUrl"] = json!(at_site.url());
    world.apply(&version);
    let strayed = || async {
        let strayed = [
            github.requests(&world.repository("server")).unwrap(),
            github.requests_where(|r| r.host == host && r.path.contains("/site/")),
        ];
        anyhow::ensure!(strayed.iter().all(|requests| !requests.is_empty()), "{strayed:?}");
        Ok(strayed.concat())
    };
    let strayed = soon(strayed).await;
    assert!(strayed.iter().all(|r| !r.had_authorization), "{strayed:?}");
    for name in ["at-server", "at-site"] {
        world
            .version_when(name, |v| {
                condition(v, "Ready")["reason"] != "Publishing" && v["status"]["synced"] == false
            })
            .await;
    }
    world.nothing_stored_nor_told(&operator, &[&site_token]).await;
}

#[tokio::test]
async fn versions_that_wait_for_a_limit_cost_nothing_while_it_is_renewed() {
    let world = World::new("limit-renewed").await;
    let names = ["one", "two", "three", "four", "five", "six"];
    for name in names {
        world.released(name);
        let failure = Failure::SecondaryLimit(429, Some(Duration::from_secs(5)));
        world.bed.github.inject(Fault::on(&world.repository(name), failure).at(Hop::Site));
    }
    // One attempt at a time: attempts that run side by side meet the limit together.
    let _operator = world.operator_with(&["--max-fetches", "1"]).await;
    for name in names {
        world.apply(&world.inline(name));
    }
    for name in names {
        world.failed(name, "RateLimited", Retried, &[]).await;
        world.bed.github.forget_requests(&world.repository(name)).unwrap();
    }
    world.bed.s3.forget_requests(&world.name);
    let audit = world.bed.kubernetes.audit();
    let mark = audit.mark(&world.client).await.unwrap();
    let asked = || {
        let of = |name: &&str| world.bed.github.requests(&world.repository(name)).unwrap().len();
        names.iter().map(of).sum::<usize>()
    };
    // Each of them meets a limit that has not been met yet: so many times the time was up.
    world.until("two more limits", || asked() >= 2).await;
    let calls = audit.since(mark, &world.client).await.unwrap();
    let ours = |c: &&AuditEntry| c.namespace == world.name && c.user == OPERATOR && c.resource == "versions";
    let writes = calls.iter().filter(ours).filter(|c| c.is_write()).count();
    // A watch is renewed from time to time, whatever waits.
    let reads = calls.iter().filter(ours).filter(|c| c.verb == "get").count();
    let (asked, looks) = (asked(), world.bed.s3.requests(&world.name).len());
    // The answers to requests before the mark may be written after it.
    assert!(writes <= asked + 2, "{writes} writes for {asked} requests");
    assert!(reads <= asked + 1 && looks <= asked + 1, "{reads} reads, {looks} looks");
}
