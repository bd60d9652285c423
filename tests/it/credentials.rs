//! Credentials: every kind and spelling that works, every way to get them wrong, and that the mended ones are taken up.
//! No secret reaches a status, an Event or the log.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use opendepot_testbed::control_plane::{AuditEntry, AuditMark};
use opendepot_testbed::eventually;
use opendepot_testbed::github::{Credential, Failure, Fault, GitHub, Hop, Quota, Repository};
use serde_json::json;

use crate::support::failing::Then::{Retried, Stalled};
use crate::support::{OPERATOR, SOON, World, root, soon};

/// The Secret that is used where none is named.
const DEFAULT: &str = "opendepot-github-application-secret";

/// A private repository of 1.0.0.
fn private(world: &World, name: &str) -> Repository {
    world.released(name).private(true)
}

fn app_keys<'a>(id: &'a str, installation: &'a str, key: &'a str) -> [(&'static str, &'a str); 3] {
    [("githubAppID", id), ("githubInstallID", installation), ("githubPrivateKey", key)]
}

fn requests(github: &GitHub, repository: &Repository) -> usize {
    github.requests(&repository.name()).unwrap().len()
}

#[tokio::test]
async fn every_kind_and_spelling_of_a_credential_opens_a_private_repository() {
    let world = World::new("kinds").await;
    let github = &world.bed.github;
    let names = ["pkcs1", "pkcs8", "base64", "token"];
    let repositories = names.map(|name| private(&world, name));
    let all = repositories.each_ref().map(Repository::name);
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let app = github.app(&all).unwrap();
    let token = github.personal_token(&all).unwrap();
    let (id, installation) = (app.id.to_string(), app.installation.to_string());
    let base64 = BASE64_STANDARD.encode(&app.pkcs1_pem);
    world.secret("pkcs1", &app_keys(&id, &installation, &app.pkcs1_pem));
    world.secret("pkcs8", &app_keys(&id, &installation, &app.pkcs8_pem));
    world.secret("base64", &app_keys(&id, &installation, &base64));
    world.secret("token", &[("githubToken", &token)]);
    let operator = world.operator().await;
    for name in names {
        world.apply(&world.authenticated(name, name));
    }
    for (name, repository) in names.iter().zip(&repositories) {
        let version = world.version_ready(name).await;
        assert_eq!(version["status"]["source"]["commit"], repository.commit_of("v1.0.0").unwrap());
        for request in github.requests(&repository.name()).unwrap() {
            let expected = match (request.hop, *name) {
                (Hop::Api, "token") => Credential::Personal,
                (Hop::Api, _) => Credential::Installation,
                _ => Credential::Nothing,
            };
            assert_eq!(request.credential, expected, "{request:?}");
        }
    }
    assert_eq!(github.token_requests(app.installation).len(), 1, "one key in three spellings is one key");
    let lines =
        [app.pkcs1_pem.lines().nth(2).unwrap(), app.pkcs8_pem.lines().nth(2).unwrap(), &base64[80..140]];
    world.nothing_told(&operator, &[&lines[..], &[&*token]].concat());
}

/// A Secret's name, its data, and a word of the message.
type Wrong<'a> = (&'a str, Vec<(&'a str, &'a str)>, &'a str);

#[tokio::test]
async fn what_is_wrong_with_a_secret_is_named_and_its_value_is_not() {
    let world = World::new("wrong").await;
    let github = &world.bed.github;
    let good = github.app(&[]).unwrap();
    let (id, installation) = (good.id.to_string(), good.installation.to_string());
    let key = &good.pkcs1_pem;
    let damaged = key.replacen(&key[200..210], "AAAAAAAAAA", 1);
    let cases: Vec<Wrong> = vec![
        (
            "empty",
            vec![("unrelated", "value-5f1c")],
            "set githubAppID, githubInstallID and githubPrivateKey, or githubToken",
        ),
        (
            "no-id",
            vec![("githubInstallID", &installation), ("githubPrivateKey", key)],
            "githubAppID is missing",
        ),
        ("bad-id", app_keys("value-5f1c", &installation, key).into(), "githubAppID is not a number"),
        ("bad-installation", app_keys(&id, "value-5f1c", key).into(), "githubInstallID is not a number"),
        ("no-pem", app_keys(&id, &installation, "value-5f1c").into(), "githubPrivateKey is not PEM"),
        (
            "damaged",
            app_keys(&id, &installation, &damaged).into(),
            "githubPrivateKey contains no usable RSA private key",
        ),
        ("bad-token", vec![("githubToken", "value-5f1c and more")], "githubToken contains characters"),
    ];
    let operator = world.operator().await;
    for (name, pairs, _) in &cases {
        private(&world, name);
        world.secret(name, pairs);
        world.apply(&world.authenticated(name, name));
    }
    for (name, _, word) in &cases {
        let secret = format!("Secret {name} in namespace {}", world.name);
        world.failed(name, "SecretInvalid", Stalled, &[&secret, word]).await;
        world.warned_once(name, "SecretInvalid").await;
        assert_eq!(github.requests(&world.repository(name)).unwrap(), [], "{name}: nothing is sent");
    }
    assert_eq!(github.token_requests(good.installation), []);
    world.nothing_stored_nor_told(&operator, &["value-5f1c", key.lines().nth(5).unwrap()]).await;
}

#[tokio::test]
async fn credentials_that_github_refuses_stall_and_a_corrected_secret_ends_that() {
    let world = World::new("refused").await;
    let github = &world.bed.github;
    let names = ["no-installation", "other-key", "revoked", "no-access"];
    let repositories = names.map(|name| private(&world, name));
    let all = repositories.each_ref().map(Repository::name);
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let (app, other) = (github.app(&all).unwrap(), github.app(&[]).unwrap());
    let (id, installation) = (app.id.to_string(), app.installation.to_string());
    let revoked = github.personal_token(&all).unwrap();
    github.revoke_tokens(&Quota::Personal(revoked.clone()));
    world.secret("no-installation", &app_keys(&id, "999999", &app.pkcs1_pem));
    world.secret("other-key", &app_keys(&id, &installation, &other.pkcs1_pem));
    world.secret("revoked", &[("githubToken", &revoked)]);
    // Not an App's: its token would be new, and a refusal of it not yet believed.
    let elsewhere = private(&world, "elsewhere").name();
    world.secret("no-access", &[("githubToken", &github.personal_token(&[&elsewhere]).unwrap())]);
    let operator = world.operator().await;
    for name in names {
        world.apply(&world.authenticated(name, name));
    }
    let [.., unseen] = &repositories;
    let config = json!({"useAuthenticatedClient": true, "secretName": "no-access"});
    let another = world.module("no-access").config("githubClientConfig", config);
    world.apply(&world.inline_of("no-access-2", &another));
    let no_token =
        |installation: &str| format!("does not create a token for installation {installation} of App {id}");
    for (name, reason, words) in [
        ("no-installation", "CredentialsRefused", [&*no_token("999999"), "HTTP 404", "check the Secret"]),
        ("other-key", "CredentialsRefused", [&*no_token(&installation), "HTTP 401", "check the Secret"]),
        ("revoked", "CredentialsRefused", ["githubToken", "Bad credentials", "check the Secret"]),
        (
            "no-access",
            "RepositoryNotFound",
            ["the credential has no access", "the App's installation or the token", "no-access"],
        ),
    ] {
        world.failed(name, reason, Stalled, &words).await;
        world.warned_once(name, reason).await;
    }
    world.failed("no-access-2", "RepositoryNotFound", Stalled, &["the credential has no access"]).await;
    // Both spellings of the tag, and the repository, for one of the two Versions.
    assert_eq!(requests(github, unseen), 3);
    world.nothing_stored_nor_told(&operator, &[&revoked]).await;

    for name in names {
        world.secret(name, &app_keys(&id, &installation, &app.pkcs8_pem));
        world.request(&format!("version/{name}"), "corrected");
    }
    for name in names {
        world.version_ready(name).await;
    }
}

#[tokio::test]
async fn a_secret_that_is_made_later_is_found_by_itself_and_github_not_asked_before() {
    let world = World::new("later").await;
    let github = &world.bed.github;
    let (missing, refused) = (private(&world, "missing"), private(&world, "refused"));
    let unseen = private(&world, "unseen");
    let token = github.personal_token(&[&missing.name(), &refused.name(), &unseen.name()]).unwrap();
    world.secret("refused", &[("githubToken", "no-such-token")]);
    // To one that may not see a repository GitHub says that there is none.
    world.secret("unseen", &[("githubToken", &github.personal_token(&[&missing.name()]).unwrap())]);
    let operator = world.operator().await;
    world.apply(&world.authenticated("unseen", "unseen"));
    world.failed("unseen", "RepositoryNotFound", Stalled, &["the token"]).await;
    world.secret("unseen", &[("githubToken", &token)]);
    world.apply(&world.authenticated("missing", DEFAULT));
    world.apply(&world.authenticated("refused", "refused"));
    let words = [&*format!("Secret {DEFAULT} does not exist in namespace {}", world.name), "create it with"];
    world.failed("missing", "SecretNotFound", Stalled, &words).await;
    world.failed("refused", "CredentialsRefused", Stalled, &["githubToken"]).await;
    assert_eq!(requests(github, &missing), 0);
    github.forget_requests(&refused.name()).unwrap();

    // Each minute there is a look at the Secret; GitHub is left alone as long as that finds nothing new.
    world.secret(DEFAULT, &[("githubToken", &token)]);
    let stored = || async {
        let version = world.get_version("missing").await?.unwrap();
        anyhow::ensure!(version["status"]["synced"] == true, "{}", version["status"]);
        Ok(())
    };
    eventually(SOON, stored).await.unwrap_or_else(|error| panic!("{error:#}"));
    world.version_ready("unseen").await;
    let looked_again = || async {
        let looks = |e: &AuditEntry| {
            e.user == OPERATOR && e.namespace == world.name && e.resource == "secrets" && e.name == "refused"
        };
        let looks = world.bed.kubernetes.audit().matching(AuditMark::default(), looks)?.len();
        anyhow::ensure!(looks >= 2, "{looks} looks");
        Ok(())
    };
    eventually(SOON, looked_again).await.unwrap_or_else(|error| panic!("{error:#}"));
    world.quiet().await;
    assert_eq!(requests(github, &refused), 0, "the Secret is as it was");
    world.secret("refused", &[("githubToken", &token)]);
    world.request("version/refused", "corrected");
    world.version_ready("refused").await;
    world.nothing_told(&operator, &[&token, "no-such-token"]);
}

#[tokio::test]
async fn a_secret_that_is_made_later_is_found_although_a_verification_is_always_due() {
    let world = World::new("later-verified").await;
    let token = world.bed.github.personal_token(&[&private(&world, "net").name()]).unwrap();
    world.secret("app", &[("githubToken", &token)]);
    let _operator = world.operator_with(&["--verify-interval", "1s"]).await;
    world.apply(&world.authenticated("net", "app"));
    world.version_ready("net").await;
    world.kubectl(&["delete", "secret", "app"]);
    world.force("version/net");
    world.version_fails("net", "SecretNotFound").await;
    world.secret("app", &[("githubToken", &token)]);
    world.version_ready("net").await;
}

#[tokio::test]
async fn what_stalls_asks_once_however_often_it_is_touched() {
    let world = World::new("touched").await;
    let audit = world.bed.kubernetes.audit();
    let from = audit.position().unwrap();
    let waiting: Vec<String> = (0..6).map(|n| format!("waiting-{n}")).collect();
    world.released("mod");
    let _operator = world.operator().await;
    let url = format!("https://github.com/{}", world.repository("mod"));
    // One look serves all that wait for half a minute.
    let shared = |since: Instant| 1 + usize::try_from(since.elapsed().as_secs()).unwrap() / 30;
    let begun = Instant::now();
    for name in &waiting {
        let secret = json!({"useAuthenticatedClient": true, "secretName": "later"});
        let module = world.module(name).config("githubClientConfig", secret);
        world.apply(&world.inline_of(name, &module.config("repoUrl", json!(url))));
    }
    let unseen = format!("https://github.com/{}-no-such-repository", world.repository("mod"));
    world.apply(&world.inline_of("unseen", &world.module("unseen").config("repoUrl", json!(unseen))));
    for name in &waiting {
        world.version_fails(name, "SecretNotFound").await;
    }
    world.version_fails("unseen", "RepositoryNotFound").await;
    let looks = || {
        let of_secret = |e: &AuditEntry| {
            e.user == OPERATOR && e.namespace == world.name && e.resource == "secrets" && e.name == "later"
        };
        audit.matching(from, of_secret).unwrap().len()
    };
    let github = || world.bed.github.requests(&format!("{}-no-such-repository", world.repository("mod")));
    let asked = (world.bed.s3.requests(&world.name).len(), github().map_or(0, |r| r.len()));
    let first = looks();
    // One by each attempt, and those that all of them share while they wait.
    let most = waiting.len() + shared(begun);
    assert!(first <= most, "{first} looks at one Secret for {} attempts", waiting.len());
    let later = Instant::now();
    for round in 0..4 {
        let label = format!("round={round}");
        world.kubectl(&["label", "versions", "--all", "--overwrite", &label]);
    }
    let writes = world.writes_during(async {}).await;
    assert!(writes.is_empty(), "{writes:?}");
    assert!(looks() <= first + shared(later), "{} looks after {first}", looks());
    let again = (world.bed.s3.requests(&world.name).len(), github().map_or(0, |r| r.len()));
    assert_eq!(again, asked);
    assert_eq!(world.served("mod"), 0);
}

#[tokio::test]
async fn a_token_never_follows_a_redirect_to_another_host() {
    let world = World::new("redirect").await;
    let github = &world.bed.github;
    let elsewhere = format!("elsewhere-{}.example", world.name);
    github.serve_host(&elsewhere);
    let repository = private(&world, "net");
    let token = github.personal_token(&[&repository.name()]).unwrap();
    world.secret(DEFAULT, &[("githubToken", &token)]);
    github.inject(Fault::on(&repository.name(), Failure::RedirectTo(elsewhere.clone())).at(Hop::Api));
    let operator = world.operator().await;
    world.apply(&world.authenticated("net", DEFAULT));
    let there = || async {
        let requests = github.requests_where(|r| r.host == elsewhere);
        anyhow::ensure!(!requests.is_empty(), "the redirect was not followed");
        Ok(requests)
    };
    let requests = soon(there).await;
    assert!(requests.iter().all(|r| !r.had_authorization), "{requests:?}");
    world.version_when("net", |v| v["status"]["synced"] == false).await;
    world.nothing_stored_nor_told(&operator, &[&token]).await;
}

#[tokio::test]
async fn after_a_restart_one_version_tries_a_refused_secret_for_all() {
    let world = World::new("refused-by-all").await;
    let repository = private(&world, "net");
    world.secret("app", &[("githubToken", "ghp_revoked")]);
    let config = json!({"useAuthenticatedClient": true, "secretName": "app"});
    let module = world.module("net").config("githubClientConfig", config);
    let operator = world.operator().await;
    let names = ["one", "two", "three", "four", "five", "six"];
    for name in names {
        world.apply(&world.inline_of(name, &module));
    }
    for name in names {
        world.failed(name, "CredentialsRefused", Stalled, &[]).await;
    }
    operator.kill().await.unwrap();
    world.bed.github.forget_requests(&repository.name()).unwrap();
    operator.restart().await.unwrap();
    world.until("one tries", || requests(&world.bed.github, &repository) > 0).await;
    world.quiet().await;
    assert_eq!(requests(&world.bed.github, &repository), 1);
}

#[tokio::test]
async fn a_wrong_credential_costs_one_request_however_many_versions_use_it() {
    let world = World::new("wrong-for-all").await;
    let github = &world.bed.github;
    let versions: Vec<String> = (0..20).map(|n| format!("1.{n}.0")).collect();
    let versions: Vec<&str> = versions.iter().map(String::as_str).collect();
    let [token, key] = ["token", "key"].map(|name| world.tagged(name, &versions).private(true));
    let (app, other) = (github.app(&[&key.name()]).unwrap(), github.app(&[]).unwrap());
    world.secret("token", &[("githubToken", "ghp_wrong")]);
    world.secret("key", &app_keys(&app.id.to_string(), &app.installation.to_string(), &other.pkcs1_pem));
    let _operator = world.operator().await;
    for name in ["token", "key"] {
        let credentials = json!({"useAuthenticatedClient": true, "secretName": name});
        world.apply(&world.module(name).config("githubClientConfig", credentials).versions(&versions));
    }
    for name in ["token", "key"] {
        world.module_when(name, |m| m["status"]["versions"]["failed"] == 20).await;
    }
    // One more if that took a minute.
    let sent = || [requests(github, &token), github.token_requests(app.installation).len()];
    assert!(sent().iter().all(|count| (1..=2).contains(count)), "{:?}", sent());
    let before = requests(github, &token);
    world.request("module/token", "again");
    world.module_when("token", |m| m["status"]["lastHandledRequest"] == "again").await;
    world.until("it is sent again", || requests(github, &token) > before).await;
    world.quiet().await;
    assert!(requests(github, &token) <= before + 2, "{:?}", sent());
}

#[tokio::test]
async fn an_app_that_gets_its_permission_later_is_believed_at_the_next_request() {
    let world = World::new("permitted").await;
    let github = &world.bed.github;
    let app = github.app(&[&private(&world, "net").name()]).unwrap();
    github.set_reads_contents(&app, false);
    world.app_secret("app", &app);
    let _operator = world.operator().await;
    world.apply(&world.authenticated("net", "app"));
    // The rejection counts once the token is a minute old.
    world.failed("net", "AccessForbidden", Stalled, &["Resource not accessible by integration"]).await;
    github.set_reads_contents(&app, true);
    world.request("version/net", "permitted");
    world.version_ready("net").await;
}

#[test]
fn the_page_on_the_app_quotes_what_the_code_says() {
    let page = std::fs::read_to_string(root().join("docs/github-app.md")).unwrap();
    let (_, table) = page.split_once("| mistake | reason | message contains |").unwrap();
    let sources = [
        "src/github/error.rs",
        "src/github/credential.rs",
        "src/github/session.rs",
        "src/controller/failure/reasons.rs",
    ];
    let sources = sources.map(|path| std::fs::read_to_string(root().join(path)).unwrap()).concat();
    // Without the line breaks in strings.
    let sources: String = sources.split("\\\n").map(str::trim_start).collect();
    let mut found = 0;
    for row in table.lines().filter(|line| line.starts_with("| ") && !line.starts_with("|--")) {
        let cells: Vec<&str> = row.split(" | ").collect();
        let (reason, phrase) = (cells[1].trim_matches('`'), cells[2].trim_end_matches(" |"));
        assert!(sources.contains(&format!("    {reason}: ")), "{reason}");
        if let Some(phrase) = phrase.strip_prefix('`').and_then(|phrase| phrase.strip_suffix('`')) {
            assert!(sources.contains(phrase), "{phrase}");
            found += 1;
        }
    }
    assert!(found >= 8, "{found}");
}

#[tokio::test]
async fn after_a_restart_a_secret_that_is_replaced_is_noticed_too() {
    let world = World::new("replaced-secret").await;
    let github = &world.bed.github;
    let (seen, unseen) = (private(&world, "seen"), private(&world, "unseen"));
    // It may read another repository.
    let token = github.personal_token(&[&seen.name()]).unwrap();
    world.secret("later", &[("githubToken", &token)]);
    let operator = world.operator().await;
    world.apply(&world.authenticated("unseen", "later"));
    world.version_fails("unseen", "RepositoryNotFound").await;
    operator.kill().await.unwrap();
    github.forget_requests(&unseen.name()).unwrap();
    let audit = world.bed.kubernetes.audit();
    let mark = audit.mark(&world.client).await.unwrap();
    operator.restart().await.unwrap();
    let looks = |e: &AuditEntry| {
        e.user == OPERATOR && e.namespace == world.name && e.resource == "secrets" && e.name == "later"
    };
    soon(|| async {
        anyhow::ensure!(!audit.matching(mark, looks)?.is_empty(), "it has not looked");
        Ok(())
    })
    .await;
    assert_eq!(requests(github, &unseen), 0, "the Secret is as it was");
    world.secret("later", &[("githubToken", &github.personal_token(&[&unseen.name()]).unwrap())]);
    world.version_ready("unseen").await;
}

#[tokio::test]
async fn a_secret_that_is_replaced_while_no_operator_runs_is_tried_at_the_next_start() {
    let world = World::new("replaced-meanwhile").await;
    let github = &world.bed.github;
    let [seen, unseen, limited] = ["seen", "unseen", "limited"].map(|name| private(&world, name).name());
    world.secret("access", &[("githubToken", &github.personal_token(&[&seen]).unwrap())]);
    let spent = github.personal_token(&[&limited]).unwrap();
    github.set_quota(Quota::Personal(spent.clone()), 0, Duration::from_hours(1));
    world.secret("quota", &[("githubToken", &spent)]);
    let operator = world.operator().await;
    world.apply(&world.authenticated("unseen", "access"));
    world.apply(&world.authenticated("limited", "quota"));
    world.failed("unseen", "RepositoryNotFound", Stalled, &[]).await;
    world.failed("limited", "RateLimited", Retried, &[]).await;
    operator.kill().await.unwrap();
    for (secret, repository) in [("access", &unseen), ("quota", &limited)] {
        world.secret(secret, &[("githubToken", &github.personal_token(&[repository]).unwrap())]);
    }
    operator.restart().await.unwrap();
    for name in ["unseen", "limited"] {
        world.version_ready(name).await;
    }
}
