//! The GitHub that is played here answers as the real one does. Asked with curl, which knows nothing of the testbed.

use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use opendepot_testbed::github::{App, Credential, Failure, Fault, File, Format, GitHub, Hop, Quota};
use serde_json::{Value, json};

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
    complete: bool,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    fn json(&self) -> Result<Value> {
        Ok(serde_json::from_slice(&self.body)?)
    }
}

/// Asks, without following redirects unless `args` says so.
fn curl(github: &GitHub, args: &[&str], url: &str) -> Result<Answer> {
    let folder = tempfile::tempdir()?;
    let (head, body) = (folder.path().join("head"), folder.path().join("body"));
    let status = Command::new("curl")
        .args([
            "--silent",
            "--max-time",
            "5",
            "--user-agent",
            "test",
            "--suppress-connect-headers",
            "--proxy",
        ])
        .arg(github.proxy_url())
        .arg("--cacert")
        .arg(github.ca_file())
        .arg("--dump-header")
        .arg(&head)
        .arg("--output")
        .arg(&body)
        .args(args)
        .arg(url)
        .status()
        .context("this test needs curl")?;
    let heads = std::fs::read_to_string(&head).unwrap_or_default();
    let head = heads.trim_end().rsplit("\r\n\r\n").next().unwrap_or_default().to_owned();
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    Ok(Answer {
        status: code,
        head,
        body: std::fs::read(&body).unwrap_or_default(),
        complete: status.success(),
    })
}

fn jwt(app: &App, issued: i64, expires: i64) -> Result<String> {
    let pem: String = app.pkcs8_pem.lines().filter(|line| !line.starts_with('-')).collect();
    let key = KeyPair::from_pkcs8(&STANDARD.decode(pem)?)?;
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
    let claims = json!({ "iss": app.id.to_string(), "iat": now + issued, "exp": now + expires });
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(&json!({ "alg": "RS256", "typ": "JWT" })), encode(&claims));
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

fn mint(github: &GitHub, app: &App, jwt: &str) -> Result<Answer> {
    let url = format!("https://api.github.com/app/installations/{}/access_tokens", app.installation);
    curl(github, &["--request", "POST", "--header", &format!("Authorization: Bearer {jwt}")], &url)
}

#[tokio::test]
async fn the_site_sends_on_to_codeload() -> Result<()> {
    let github = GitHub::start().await?;
    let repository = github.repository("Acme/terraform-net")?;
    let files = [
        File::new("main.tf", "# a\n"),
        File::executable("bin/x y.sh", "#!/bin/sh\n"),
        File::link("link", "main.tf"),
    ];
    let commit = repository.release("v1.0.0", &files)?;
    repository.branch("v1.0.0", &[File::new("other.tf", "")])?;

    let url = "https://github.com/acme/terraform-net/archive/refs/tags/v1.0.0.zip";
    let redirect = curl(&github, &[], url)?;
    assert_eq!(redirect.status, 302);
    let there = "https://codeload.github.com/Acme/terraform-net/zip/refs/tags/v1.0.0";
    assert_eq!(redirect.header("location"), Some(there));

    let zip = curl(&github, &["--location"], url)?;
    assert_eq!((zip.status, zip.header("content-length")), (200, None));
    ensure!(zip.body.ends_with(commit.as_bytes()), "the zip's comment is not the commit");
    let text = String::from_utf8_lossy(&zip.body);
    ensure!(text.contains("terraform-net-1.0.0/bin/x y.sh"), "an entry is not where GitHub has it");

    let missing =
        curl(&github, &["--location"], "https://github.com/acme/terraform-net/archive/refs/tags/v9.zip")?;
    assert_eq!((missing.status, &missing.body[..]), (404, &b"404: Not Found"[..]));
    let both = curl(&github, &["--location"], "https://github.com/acme/terraform-net/archive/v1.0.0.zip")?;
    assert_eq!(both.status, 300);

    repository.rename("acme", "net");
    assert_eq!(curl(&github, &["--location"], url)?.status, 200);
    let elsewhere = curl(&github, &[], "https://example.com/")?;
    ensure!(!elsewhere.complete);
    assert_eq!(github.refused(), ["example.com:443"]);
    assert_eq!(github.requests("acme/terraform-net")?.len(), 8);
    Ok(())
}

#[tokio::test]
async fn the_api_knows_apps_tokens_and_quotas() -> Result<()> {
    let github = GitHub::start().await?;
    let repository = github.repository("acme/secret")?.private(true);
    repository.release("1.0.0", &[File::new("main.tf", "")])?;
    let app = github.app(&["acme/secret"])?;
    let url = "https://api.github.com/repos/acme/secret/tarball/refs/tags/1.0.0";

    assert_eq!(curl(&github, &["--user-agent", ""], url)?.status, 403);
    let anonymous = curl(&github, &[], url)?;
    assert_eq!((anonymous.status, anonymous.header("x-ratelimit-remaining")), (404, Some("59")));
    assert_eq!(anonymous.json()?["message"], "Not Found");
    assert_eq!(curl(&github, &["--header", "Authorization: Bearer ghs_no"], url)?.status, 401);

    assert_eq!(mint(&github, &app, &jwt(&app, 60, 600)?)?.status, 401, "iat in the future");
    assert_eq!(mint(&github, &app, &jwt(&app, -60, 660)?)?.status, 401, "exp too late");
    let forged = App { id: app.id, ..github.app(&[])? };
    assert_eq!(mint(&github, &app, &jwt(&forged, -60, 500)?)?.status, 401, "another App's key");
    let minted = mint(&github, &app, &jwt(&app, -60, 500)?)?;
    assert_eq!(minted.status, 201);
    let token = minted.json()?["token"].as_str().context("no token")?.to_owned();

    let bearer = format!("Authorization: Bearer {token}");
    let redirect = curl(&github, &["--header", &bearer], url)?;
    let link = redirect.header("location").context("no link")?.to_owned();
    assert_eq!((redirect.status, redirect.header("x-ratelimit-remaining")), (302, Some("4999")));
    assert_eq!(curl(&github, &[], &link)?.status, 200);
    github.expire_links("acme/secret")?;
    assert_eq!(curl(&github, &[], &link)?.status, 404);

    github.set_quota(Quota::Installation(app.installation), 0, Duration::from_mins(1));
    let spent = curl(&github, &["--header", &bearer], url)?;
    assert_eq!((spent.status, spent.header("x-ratelimit-remaining")), (403, Some("0")));
    github.revoke_tokens(&Quota::Installation(app.installation));
    assert_eq!(curl(&github, &["--header", &bearer], url)?.status, 401);

    let codeload = github.requests_where(|request| request.hop == Hop::Codeload);
    ensure!(
        codeload
            .iter()
            .all(|request| !request.had_authorization && request.credential == Credential::Nothing)
    );
    assert_eq!(github.token_requests(app.installation).len(), 4);
    ensure!(app.pkcs1_pem.starts_with("-----BEGIN RSA PRIVATE KEY-----"));
    Ok(())
}

#[tokio::test]
async fn an_enterprise_server_has_the_same_under_its_own_name() -> Result<()> {
    let github = GitHub::start().await?;
    github.serve_host("git.corp.test");
    let name = "git.corp.test/acme/secret";
    let repository = github.repository(name)?.private(true).missing_tag_redirects(true);
    repository.release("v1.0.0+build", &[File::new("main.tf", "")])?;
    let bearer = format!("Authorization: token {}", github.personal_token(&[name])?);

    let base = "https://git.corp.test/api/v3/repos/acme/secret/zipball/refs/tags";
    let found = curl(&github, &["--location", "--header", &bearer], &format!("{base}/v1.0.0%2Bbuild"))?;
    assert_eq!(found.status, 200);
    ensure!(String::from_utf8_lossy(&found.body).contains("acme-secret-"), "not the API's top folder");
    assert_eq!(curl(&github, &["--header", &bearer], &format!("{base}/v2.0.0"))?.status, 302);
    let public = "https://api.github.com/repos/acme/secret";
    assert_eq!(curl(&github, &["--header", &bearer], public)?.status, 401);
    Ok(())
}

#[tokio::test]
async fn archives_can_be_spoiled() -> Result<()> {
    let github = GitHub::start().await?;
    let repository = github.repository("acme/net")?;
    repository.release("v1.0.0", &[File::new("main.tf", "")])?;
    repository.replace_archive("v1.0.0", Format::Zip, vec![7; 300_000])?;
    let url = "https://codeload.github.com/acme/net/zip/refs/tags/v1.0.0";
    let spoiled = |failure: Failure| -> Result<Answer> {
        github.clear_faults("acme/net")?;
        github.inject(Fault::on("acme/net", failure).times(1));
        curl(&github, &["--max-time", "1"], url)
    };

    let cut = spoiled(Failure::TruncatedBody)?;
    assert_eq!((cut.status, cut.body.len(), cut.complete), (200, 150_000, false));
    ensure!(!spoiled(Failure::StalledBody)?.complete);
    ensure!(spoiled(Failure::EndlessBody)?.body.len() > 300_000);
    ensure!(spoiled(Failure::Html)?.body.starts_with(b"<!DOCTYPE html>"));
    let limited = spoiled(Failure::SecondaryLimit(429, Some(Duration::from_secs(7))))?;
    assert_eq!((limited.status, limited.header("retry-after")), (429, Some("7")));
    let whole = curl(&github, &[], url)?;
    assert_eq!((whole.body, whole.complete), (vec![7; 300_000], true));
    Ok(())
}

#[tokio::test]
async fn what_may_be_there_once_is_refused_twice_over_both_versions_of_http() -> Result<()> {
    let github = GitHub::start().await?;
    github.repository("acme/net")?.release("v1.0.0", &[File::new("main.tf", "")])?;
    let url = "https://github.com/acme/net/archive/refs/tags/v1.0.0.zip";
    for (flag, version) in [("--http2", "HTTP/2"), ("--http1.1", "HTTP/1.1")] {
        let once = curl(&github, &[flag], url)?;
        assert_eq!((once.status, once.head.split(' ').next()), (302, Some(version)));
        for header in ["X-GitHub-Api-Version: 2022-11-28", "Referer: https://example.com/"] {
            let twice = curl(&github, &[flag, "--header", header, "--header", header], url)?;
            assert_eq!(twice.status, 400, "{header} over {version}");
        }
    }
    let by_default = github.requests("acme/net")?;
    ensure!(by_default.iter().any(|request| request.version == http::Version::HTTP_2));
    Ok(())
}

#[tokio::test]
async fn tags_of_tags_lead_to_the_commit() -> Result<()> {
    let github = GitHub::start().await?;
    let repository = github.repository("acme/net")?;
    let commit = repository.branch("main", &[File::new("main.tf", "# a\n")])?;
    repository.annotated_tag("v1.0.0", &commit)?;
    repository.annotated_tag("v1.0.1", "refs/tags/v1.0.0")?;
    repository.annotated_tag("v1.0.2", "refs/tags/v1.0.1")?;
    for tag in ["v1.0.0", "v1.0.1", "v1.0.2"] {
        assert_eq!(repository.commit_of(tag)?, commit, "{tag}");
        let zip = curl(
            &github,
            &["--location"],
            &format!("https://github.com/acme/net/archive/refs/tags/{tag}.zip"),
        )?;
        ensure!(zip.status == 200 && zip.body.ends_with(commit.as_bytes()), "{tag}: not the commit");
    }
    Ok(())
}

#[tokio::test]
async fn tokens_settle_clocks_differ_and_permissions_are_granted() -> Result<()> {
    let github = GitHub::start().await?;
    github.serve_host("git.corp.test");
    let name = "git.corp.test/acme/secret";
    github.repository(name)?.private(true).release("1.0.0", &[File::new("main.tf", "")])?;
    let app = github.app(&[name])?;
    let ask = |body: &str, ago: i64| -> Result<Answer> {
        let bearer = format!("Authorization: Bearer {}", jwt(&app, ago - 60, ago + 500)?);
        let url = "https://git.corp.test/api/v3/app/installations";
        let url = format!("{url}/{}/access_tokens", app.installation);
        curl(&github, &["--request", "POST", "--header", &bearer, "--data", body], &url)
    };
    let fetch = |minted: &Answer| -> Result<Answer> {
        let bearer =
            format!("Authorization: Bearer {}", minted.json()?["token"].as_str().context("no token")?);
        let url = "https://git.corp.test/api/v3/repos/acme/secret/zipball/refs/tags/1.0.0";
        curl(&github, &["--header", &bearer], url)
    };
    let narrowed = ask(r#"{"permissions":{"contents":"read"}}"#, 0)?;
    assert_eq!(narrowed.json()?["permissions"], json!({ "contents": "read", "metadata": "read" }));
    assert_eq!(fetch(&narrowed)?.status, 302);
    assert_eq!(ask(r#"{"permissions":{"contents":"write"}}"#, 0)?.status, 422);
    assert_eq!(fetch(&ask(r#"{"permissions":{"metadata":"read"}}"#, 0)?)?.status, 403);
    github.set_reads_contents(&app, false);
    assert_eq!(ask(r#"{"permissions":{"contents":"read"}}"#, 0)?.status, 422);
    assert_eq!(fetch(&ask("{}", 0)?)?.status, 403);
    github.set_reads_contents(&app, true);

    for status in [401, 403, 404] {
        github.refuse_new_tokens(&app, status, Duration::from_mins(1));
        let minted = ask("{}", 0)?;
        assert_eq!(fetch(&minted)?.status, status);
        github.refuse_new_tokens(&app, status, Duration::ZERO);
        assert_eq!(fetch(&minted)?.status, 302);
    }
    github.set_clock("git.corp.test", -600);
    assert_eq!(ask("{}", 0)?.status, 401, "the JWT is from the future there");
    let minted = ask("{}", -600)?;
    assert_eq!(minted.status, 201);
    github.set_quota(Quota::Installation(app.installation), 0, Duration::from_mins(1));
    let spent = fetch(&minted)?;
    let reset: u64 = spent.header("x-ratelimit-reset").context("no reset")?.parse()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    ensure!(spent.status == 403 && (reset + 500..reset + 600).contains(&now), "{reset} at {now}");
    Ok(())
}

#[tokio::test]
async fn editions_logins_and_redirects_are_where_they_are() -> Result<()> {
    let github = GitHub::start().await?;
    for host in ["octo.ghe.com", "private.test"] {
        github.serve_host(host);
        github.repository(&format!("{host}/acme/net"))?.release("v1", &[File::new("main.tf", "")])?;
    }
    github.serve_isolated_host("isolated.test");
    github.repository("isolated.test/acme/net")?.release("v1", &[File::new("main.tf", "")])?;
    for (url, location) in [
        (
            "api.octo.ghe.com/repos/acme/net/zipball/refs/tags/v1",
            "codeload.octo.ghe.com/acme/net/legacy.zip/",
        ),
        ("octo.ghe.com/acme/net/archive/refs/tags/v1.zip", "codeload.octo.ghe.com/acme/net/zip/"),
        (
            "isolated.test/api/v3/repos/acme/net/zipball/refs/tags/v1",
            "codeload.isolated.test/acme/net/legacy.zip/",
        ),
        (
            "private.test/api/v3/repos/acme/net/zipball/refs/tags/v1",
            "private.test/_codeload/acme/net/legacy.zip/",
        ),
    ] {
        let expected = format!("https://{location}refs/tags/v1");
        assert_eq!(
            curl(&github, &[], &format!("https://{url}"))?.header("location"),
            Some(&*expected),
            "{url}"
        );
    }
    assert_eq!(curl(&github, &[], "https://octo.ghe.com/api/v3/repos/acme/net")?.status, 404);
    ensure!(!curl(&github, &[], "https://api.private.test/")?.complete);

    github.set_private_mode("private.test");
    let login = curl(&github, &["--location"], "https://private.test/acme/net/archive/refs/tags/v1.zip")?;
    assert_eq!((login.status, login.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert_eq!(curl(&github, &[], "https://private.test/api/v3/repos/acme/net")?.status, 401);

    github.serve_portal("sso.test", 307, 2);
    let app = github.app(&["octo.ghe.com/acme/net"])?;
    github.inject(Fault::on_installation(app.installation, Failure::RedirectWith(307, "sso.test".into())));
    let url = format!("https://api.octo.ghe.com/app/installations/{}/access_tokens", app.installation);
    let asked = curl(&github, &["--location", "--request", "POST"], &url)?;
    assert_eq!(asked.status, 200);
    assert_eq!(github.requests_where(|request| request.host == "sso.test").len(), 3);
    Ok(())
}
