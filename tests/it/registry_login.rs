//! Signing in: to the page with a token or at an identity provider, and with `terraform login`; with a real OpenID provider and
//! both clients.

use std::path::Path;

use anyhow::ensure;
use opendepot_testbed::openid::{ANN, AccessTokens, BOB, CLIENT, OpenId};
use opendepot_testbed::terraform::Terraform;
use serde_json::{Value, json};

use crate::support::browser::{Browser, Page, access_token};
use crate::support::registry::{Depot, archive};
use crate::support::registry_files::LINK_KEY;
use crate::support::token_registry::{Registry, RegistryBuilder, shows_none_of};
use crate::support::{World, soon};

const SESSION: &str = "__Host-opendepot-session";
const SIGN_IN: &str = "__Host-opendepot-sign-in";
const MAIN: &str = "output \"greeting\" {\n  value = \"hello\"\n}\n";

/// `--auth-config` that accepts the provider's tokens for its client.
fn auth_config(provider: &OpenId) -> String {
    let authority = std::fs::read_to_string(provider.ca_file()).unwrap();
    json!({
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AuthenticationConfiguration",
        "jwt": [{
            "issuer": {"url": provider.issuer(), "audiences": [CLIENT], "certificateAuthority": authority},
            "claimMappings": {
                "username": {"claim": "sub", "prefix": "corp:"},
                "groups": {"claim": "groups", "prefix": "corp:"},
            },
        }],
    })
    .to_string()
}

/// A registry whose modules the group `platform` of the provider may download, and the provider.
async fn start(world: &World, tokens: AccessTokens) -> (Registry, OpenId) {
    let role = ["--clusterrole=opendepot-consumer", "--group=corp:platform"];
    world.kubectl(&[["create", "rolebinding", "platform"].as_slice(), &role].concat());
    let builder = RegistryBuilder::new(world);
    let callback = format!("https://{}/login/callback", builder.host);
    let provider = OpenId::start(&[callback], tokens).await.unwrap();
    let registry = builder
        .flag_file("--auth-config", &auth_config(&provider))
        .args(&["--login-issuer", &provider.issuer(), "--login-client", CLIENT])
        .args(&["--login-scopes", "openid,groups"])
        .start()
        .await;
    (registry, provider)
}

/// The document of service discovery, once the provider has answered.
async fn login_service(registry: &Registry) -> Value {
    soon(|| async {
        let answer = registry.get("/.well-known/terraform.json", None).await;
        ensure!(answer.status() == 200, "{}", answer.status());
        let document: Value = serde_json::from_str(&answer.text().await?)?;
        ensure!(document["modules.v1"] == "/v1/modules/", "{document}");
        ensure!(document["login.v1"].is_object(), "{document}");
        Ok(document["login.v1"].clone())
    })
    .await
}

fn browser(registry: &Registry, provider: &OpenId) -> Browser {
    Browser::new(&[&registry.ca_file, &provider.ca_file()])
}

/// The token in what the client has stored.
fn stored_token(client: &Terraform, host: &str) -> String {
    let file = client.folder().join(".terraform.d/credentials.tfrc.json");
    let stored: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    stored["credentials"][host]["token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn terraform_login_stores_a_token_with_which_init_works() {
    let depot = Depot::new("login-cli").await;
    depot.publish("net", &[("1.0.0", archive(MAIN, 0))]).await;
    let (registry, provider) = start(&depot.world, AccessTokens::Jwt).await;
    let (host, issuer) = (&registry.host, provider.issuer());
    let service = login_service(&registry).await;
    assert_eq!(
        service,
        json!({"client": CLIENT, "grant_types": ["authz_code"], "authz": format!("{issuer}/auth"),
               "token": format!("{issuer}/oauth/token"), "ports": [10000, 10020], "scopes": ["openid", "groups"]})
    );
    // A client trusts one file of certificates.
    let both = tempfile::NamedTempFile::new().unwrap();
    let authorities =
        [&registry.ca_file, &provider.ca_file()].map(|file| std::fs::read_to_string(file).unwrap());
    std::fs::write(both.path(), authorities.concat()).unwrap();
    let address = format!("{}/net/aws", depot.world.name);
    for (client, user) in Terraform::both().unwrap().into_iter().zip([ANN, ANN]) {
        let client = client.env("SSL_CERT_FILE", both.path());
        client.configure(&registry.module("it", &address, "1.0.0")).unwrap();
        let refused = client.run(&["init", "-no-color", "-input=false"]).unwrap_err().to_string();
        let refused = refused.replace('│', " ").split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(refused.contains(&format!("for {host}, or run terraform login")), "{refused}");

        let login = client.login(host).unwrap();
        let url = login.url().await.unwrap();
        assert!(url.starts_with(&format!("{issuer}/auth?")) && url.contains("localhost%3A100"), "{url}");
        let browser = browser(&registry, &provider);
        let back = browser.sign_in(&browser.open(&url).await, user).await.location();
        assert!(back.starts_with("http://localhost:100"), "{back}");
        browser.hand_over(&back).await;
        let said = login.finish().await.unwrap();
        assert!(said.contains("Success"), "{said}");

        let token = stored_token(&client, host);
        assert!(!registry.process.log().contains(&token), "the token is in the log");
        registry.lists(&address, &token, 1).await;
        client
            .run(&["init", "-no-color", "-input=false"])
            .unwrap_or_else(|error| panic!("{}: {error:#}", client.name()));
        assert_eq!(std::fs::read_to_string(client.module("it").join("main.tf")).unwrap(), MAIN);
    }
    // Another person of the same provider has no right.
    let token = access_token(&provider, BOB).await;
    assert_eq!(registry.get(&format!("/v1/modules/{address}/versions"), Some(&token)).await.status(), 403);
}

/// Opens a page of the registry that leads to the provider, signs in there, and gives the page at the end.
async fn sign_in(browser: &Browser, registry: &Registry, back: &str, user: &str) -> Page {
    let start = format!("https://{}/login/start?return={back}", registry.host);
    let form = browser.open(&start).await;
    browser.sign_in(&form, user).await
}

#[tokio::test]
async fn a_person_signs_in_at_the_identity_provider() {
    let world = World::new("login-page").await;
    let (registry, mut provider) = start(&world, AccessTokens::Opaque).await;
    login_service(&registry).await;
    let base = format!("https://{}", registry.host);
    let person = browser(&registry, &provider);
    // Opaque access tokens mean nothing to the registry: the session has the id token.
    let page = sign_in(&person, &registry, "%2Flivez%3Fa%3Db", ANN).await;
    assert_eq!(page.url.as_str(), format!("{base}/livez?a=b"), "{page:?}");
    let session = person.cookie(&base, SESSION).expect("a session");
    assert_eq!(person.cookie(&base, SIGN_IN), None, "the attempt is over");
    soon(|| async {
        let log = registry.process.log();
        ensure!(log.contains("signed in") && log.contains("corp:id-ann"), "{log}");
        Ok(())
    })
    .await;
    assert!(!registry.process.log().contains(&session), "the session is in the log");
    // It counts for no request of the API, and no other value of the cookie counts at all.
    let page = person.open(&format!("{base}/v1/modules/{}/net/aws/versions", world.name)).await;
    assert_eq!(page.status, 401);

    // A return path that leads elsewhere leads to the start instead.
    let again = sign_in(&person, &registry, "%2F%2Fevil.example%2F", ANN).await;
    assert_eq!(again.url.as_str(), format!("{base}/"), "{again:?}");
    assert_ne!(person.cookie(&base, SESSION).unwrap(), session, "a new cookie at each sign-in");
    let out = person.submit(&format!("{base}/logout"), "https://evil.example", &[]).await;
    assert_eq!(out.status, 403, "{}", out.text);
    assert!(person.cookie(&base, SESSION).is_some());
    person.submit(&format!("{base}/logout"), &base, &[]).await;
    assert_eq!(person.cookie(&base, SESSION), None);

    // An answer of the provider that another browser was given is worth nothing here.
    let (victim, attacker) = (browser(&registry, &provider), browser(&registry, &provider));
    victim.open(&format!("{base}/login/start")).await;
    let form = attacker.open(&format!("{base}/login/start")).await;
    let planted = attacker.authorise(&form, BOB).await;
    let page = victim.open(&planted).await;
    assert!(page.status == 400 && page.text.contains("another tab or browser"), "{page:?}");
    assert_eq!(victim.cookie(&base, SESSION), None);
    // In its own browser it counts once.
    assert_eq!(attacker.open(&planted).await.url.path(), "/");
    let attempt = attacker.cookie(&base, SIGN_IN);
    assert_eq!(attempt, None);
    assert_eq!(attacker.open(&planted).await.status, 400);

    // What the provider says is wrong is not repeated.
    let form = victim.open(&format!("{base}/login/start")).await;
    let asked = url::Url::parse(&victim.authorise(&form, ANN).await).unwrap();
    let state = asked.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
    let denied =
        format!("{base}/login/callback?state={state}&error=access_denied&error_description=%3Cb%3Eoh");
    let page = victim.open(&denied).await;
    assert!(
        page.status == 403 && page.text.contains("provider denied access") && !page.text.contains("oh"),
        "{page:?}"
    );
    let page = victim.open(&format!("{base}/login/callback?state={state}&code=made-up")).await;
    assert!(page.status == 502 && page.text.contains("did not confirm"), "{page:?}");
    provider.stop().await.unwrap();
    let page = victim.open(&format!("{base}/login/callback?state={state}&code=made-up")).await;
    assert!(page.status == 502 && page.text.contains("does not answer"), "{page:?}");
    login_service(&registry).await;
}

#[tokio::test]
async fn a_token_signs_in_and_slow_or_large_forms_do_not() {
    let world = World::new("login-form").await;
    world.publish("net", &["1.0.0", "1.1.0"].map(|version| (version, archive(MAIN, 0)))).await;
    let registry = world.registry().await;
    let token = world.consumer(&registry, "ci");
    let base = format!("https://{}", registry.host);
    let person = Browser::new(&[&registry.ca_file]);
    let login = async |fields: &[(&str, &str)]| {
        soon(|| async {
            let page = person.submit(&format!("{base}/login"), &base, fields).await;
            ensure!(page.status != 503 || !page.text.contains("Kubernetes API"), "{page:?}");
            Ok(page)
        })
        .await
    };
    let page = login(&[("token", "wrong")]).await;
    assert!(page.status == 401 && page.text.contains("not signed in"), "{page:?}");
    let page = login(&[("token", &"x".repeat(17 << 10))]).await;
    assert_eq!(page.status, 413);
    assert_eq!(person.cookie(&base, SESSION), None);
    assert_eq!(login(&[("token", &token), ("return", "/login/start")]).await.url.path(), "/login/start");
    let session = person.cookie(&base, SESSION).unwrap();
    assert!(!session.contains(&token));
    let answer =
        registry.client.post(format!("{base}/v1/modules/a/b/c/versions")).body("a=b").send().await.unwrap();
    assert_eq!(answer.status(), 400, "elsewhere a body is refused");

    // Whatever the user opens, nothing shows what gives access.
    let secrets = [&*token, &world.bed.s3.root().secret_key, LINK_KEY];
    let module = format!("{base}/modules/{}/net/aws", world.name);
    for (url, content) in [
        (format!("{base}/"), "/net/aws"),
        (module.clone(), "id=\"output_greeting\""),
        (format!("{module}/1.0.0"), "id=\"output_greeting\""),
        (format!("{module}/versions"), "1.1.0"),
        (format!("{module}/compare/1.0.0...1.1.0"), "1.1.0"),
        (format!("{base}/login"), "You are signed in"),
    ] {
        let page = soon(|| async {
            let page = person.open(&url).await;
            ensure!(page.status == 200 && page.text.contains(content), "{url}: {page:?}");
            Ok(page)
        })
        .await;
        shows_none_of(&url, &format!("{:?} {}", page.headers, page.text), &secrets);
    }
    registry.tells_none_of(&world, &secrets).await;
}

#[test]
fn a_login_issuer_that_is_not_configured_ends_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("auth.yaml");
    let text = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt:\n- issuer: {url: \
                'https://login.acme.io', audiences: [a]}\n  claimMappings: {username: {claim: sub, prefix: 'acme:'}}\n";
    std::fs::write(&config, text).unwrap();
    let refused = |url: &str, issuer: &str| refusal(&config, url, issuer);
    assert!(
        refused("https://registry.acme.io", "https://login.acme.io/").contains("no issuer in --auth-config")
    );
    assert!(
        refused("http://registry.acme.io", "https://login.acme.io").contains("https URL of the registry")
    );
}

/// What the registry says when it does not start.
fn refusal(config: &Path, url: &str, issuer: &str) -> String {
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}], "users": [{"name": "u", "user": {}}],
    });
    let file = config.with_file_name("kubeconfig");
    std::fs::write(&file, kubeconfig.to_string()).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_opendepot"))
        .args(["serve", "--allow-storage", "*=*", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
        .args(["--url", url, "--login-issuer", issuer, "--login-client", CLIENT])
        .args(["--auth-config".as_ref(), config.as_os_str()])
        .env_clear()
        .env("KUBECONFIG", file)
        .output()
        .unwrap();
    assert!(!output.status.success());
    [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat()
}
