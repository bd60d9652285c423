//! JWTs of identity providers: a real one, and others that do what no good one does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::future::join_all;
use opendepot_testbed::authority::Authority;
use opendepot_testbed::https::{Asked, Https, Reply};
use opendepot_testbed::openid::OpenId;
use opendepot_testbed::signing::{SigningKey, message};
use serde_json::{Value, json};

use crate::support::registry::archive;
use crate::support::token_registry::{Registry, RegistryBuilder};
use crate::support::{World, soon};

const AUDIENCE: &str = "registry.test";

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Good claims, with changes; null removes one.
fn claims(issuer: &str, changes: &Value) -> Value {
    let mut all =
        json!({"iss": issuer, "aud": AUDIENCE, "exp": now() + 300, "sub": "ann", "groups": ["platform"]});
    for (name, value) in changes.as_object().unwrap() {
        all[name] = value.clone();
    }
    all.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    all
}

/// The entry of an issuer in the configuration.
fn issuer(url: &str, ca: Option<&str>, more: &str, mappings: &str) -> String {
    let indented = |pem: &str| pem.lines().map(|line| format!("      {line}\n")).collect::<String>();
    let ca = ca.map(|pem| format!("    certificateAuthority: |\n{}", indented(pem))).unwrap_or_default();
    format!("- issuer:\n    url: {url}\n    audiences: [{AUDIENCE}]\n{ca}{more}  claimMappings: {mappings}\n")
}

fn document(issuers: &str) -> String {
    format!("apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt:\n{issuers}")
}

/// Binds a group or user to `opendepot-consumer`.
fn bind(world: &World, name: &str, subject: &str) {
    world.kubectl(&["create", "rolebinding", name, "--clusterrole=opendepot-consumer", subject]);
}

/// Asks for a module as peers that were not seen before, so that no limit of a peer counts.
struct Client<'a> {
    registry: &'a Registry,
    path: String,
    peers: Mutex<u16>,
}

impl Client<'_> {
    async fn get(&self, token: &str) -> (u16, String) {
        let peer = {
            let mut peers = self.peers.lock().unwrap();
            *peers += 1;
            format!("198.51.{}.{}", *peers / 256, *peers % 256)
        };
        let (status, text) = self.registry.get_from(&peer, &self.path, Some(token)).await;
        (status, text.trim().to_owned())
    }
}

/// A token that the provider issues to one of its clients.
async fn issued(provider: &OpenId, client: &str) -> String {
    let ca = reqwest::Certificate::from_pem(&std::fs::read(provider.ca_file()).unwrap()).unwrap();
    let http = reqwest::Client::builder().tls_certs_only([ca]).no_proxy().build().unwrap();
    let form = "grant_type=client_credentials&scope=openid";
    let request = http.post(format!("{}/oauth/token", provider.issuer())).basic_auth(client, Some("secret"));
    let request = request.header("content-type", "application/x-www-form-urlencoded").body(form);
    let answer: Value = serde_json::from_str(&request.send().await.unwrap().text().await.unwrap()).unwrap();
    answer["access_token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

/// How often the provider was asked for its keys.
fn key_requests(provider: &OpenId) -> usize {
    provider.log().lines().filter(|line| line.contains("path=/keys ")).count()
}

/// What is sent, its token, and the answer.
type Case = (&'static str, String, (u16, &'static str));

/// Tokens that no provider issues, signed with its own key or by a stranger with a key of the same name.
fn forgeries(provider: &OpenId, stranger: &SigningKey, trap: &Https) -> Vec<Case> {
    let (key, url) = (provider.key().unwrap(), provider.issuer());
    let sign = |header: Value, changes: Value| key.sign(&header, &claims(&url, &changes)).unwrap();
    let plain = |changes: Value| sign(json!({}), changes);
    let at = now();
    let forged = |header: Value| stranger.sign(&header, &claims(&url, &json!({}))).unwrap();
    let jwk = json!({"jwk": stranger.jwk(), "jku": format!("{}/keys", trap.url), "x5u": format!("{}/x5u", trap.url)});
    let unsigned = |alg: &str| message(&json!({"alg": alg, "kid": key.kid}), &claims(&url, &json!({})));
    let public = key.jwk();
    let hs256 = |secret: &[u8]| {
        let (message, key) = (unsigned("HS256"), hmac::Key::new(hmac::HMAC_SHA256, secret));
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(hmac::sign(&key, message.as_bytes())))
    };
    let wrong_signature = "token signature is wrong";
    let bad_algorithm = "token is signed with an algorithm that is not accepted";
    vec![
        ("good", plain(json!({})), (200, "")),
        ("two audiences", plain(json!({"aud": ["x", AUDIENCE]})), (200, "")),
        ("expired", plain(json!({"exp": at - 15})), (401, "token expired: get a new one")),
        ("not yet", plain(json!({"nbf": at + 60})), (401, "token is not valid yet: compare the clocks")),
        ("no exp", plain(json!({"exp": null})), (401, "token has no expiry")),
        ("no aud", plain(json!({"aud": null})), (401, "token is for another audience")),
        (
            "aud begins alike",
            plain(json!({"aud": "registry.test.evil"})),
            (401, "token is for another audience"),
        ),
        ("no sub", plain(json!({"sub": null})), (401, "token lacks a required claim")),
        ("line break", plain(json!({"sub": "a\nb"})), (401, "token has a claim that cannot be used")),
        ("no iss", plain(json!({"iss": null})), (401, "token is for another audience")),
        ("iss with slash", plain(json!({"iss": format!("{url}/")})), (401, "token is for another audience")),
        ("crit", sign(json!({"crit": ["exp"]}), json!({})), (401, "token has critical header fields")),
        ("none", format!("{}.", unsigned("none")), (401, bad_algorithm)),
        ("none, signed", sign(json!({"alg": "none"}), json!({})), (401, bad_algorithm)),
        ("HS256, modulus", hs256(public["n"].as_str().unwrap().as_bytes()), (401, bad_algorithm)),
        ("HS256, key set", hs256(public.to_string().as_bytes()), (401, bad_algorithm)),
        (
            "other algorithm",
            sign(json!({"alg": "RS512"}), json!({})),
            (401, "token is signed with an unknown key"),
        ),
        ("another key", forged(json!({})), (401, wrong_signature)),
        ("key in the header", forged(jwk.clone()), (401, wrong_signature)),
        ("ignored header", sign(jwk, json!({})), (200, "")),
        ("no signature", format!("{}.", unsigned("RS256")), (401, wrong_signature)),
        // Kubernetes' own names begin with the issuer's prefix here.
        ("system user", plain(json!({"sub": "system:admin", "groups": []})), (403, "")),
        ("system group", plain(json!({"groups": ["system:masters", "system:serviceaccounts"]})), (403, "")),
        ("no groups", plain(json!({"groups": null})), (403, "")),
        ("prefixed group", plain(json!({"groups": ["real:platform"]})), (403, "")),
    ]
}

#[tokio::test]
async fn a_real_identity_provider_and_those_who_forge_its_tokens() {
    let machine = |audience: &str, groups: &[&str]| json!({"secret": "secret", "audience": [audience], "claims": {"groups": groups}});
    let machines = json!({"ci": machine(AUDIENCE, &["platform"]), "other": machine(AUDIENCE, &["sales"]),
        "elsewhere": machine("elsewhere", &["platform"])});
    let mut provider = OpenId::for_machines(&machines).await.unwrap();
    let world = World::new("tokens-real").await;
    world.publish("net", &[("1.0.0", archive("# net\n", 0))]).await;
    bind(&world, "platform", "--group=real:platform");
    let builder = RegistryBuilder::new(&world);
    let config = builder.file("auth.yaml");
    let ca = std::fs::read_to_string(provider.ca_file()).unwrap();
    let mappings = "{username: {claim: sub, prefix: 'real:'}, groups: {claim: groups, prefix: 'real:'}}";
    let text = document(&issuer(&provider.issuer(), Some(&ca), "", mappings));
    std::fs::write(&config, text).unwrap();
    let args = ["--auth-config", config.to_str().unwrap(), "--trusted-proxy", "127.0.0.0/8"];
    let registry = builder.args(&args).start().await;
    let path = format!("/v1/modules/{}/net/aws/versions", world.name);
    let client = Client { registry: &registry, path, peers: Mutex::new(0) };

    // What it issues counts, for the right audience and with the right group.
    let token = issued(&provider, "ci").await;
    let (status, text) = client.get(&token).await;
    assert_eq!(status, 200, "{text}\n{}", registry.process.log());
    assert_eq!(client.get(&issued(&provider, "other").await).await.0, 403);
    let elsewhere = issued(&provider, "elsewhere").await;
    assert_eq!(client.get(&elsewhere).await, (401, "token is for another audience".into()));
    let download = format!("/v1/modules/{}/net/aws/1.0.0/download", world.name);
    assert_eq!(registry.get(&download, Some(&token)).await.status(), 204);
    assert!(registry.process.log().contains("real:ci"), "the access log names the user");

    // A new key is noticed at once, and the old one counts as long as it is published.
    let url = provider.issuer();
    let (before, started) = (key_requests(&provider), Instant::now());
    let old = provider.key().unwrap().sign(&json!({}), &claims(&url, &json!({"jti": "old"}))).unwrap();
    provider.rotate("2").unwrap();
    assert_eq!(client.get(&issued(&provider, "ci").await).await.0, 200);
    assert_eq!(client.get(&old).await.0, 200);

    // What no provider issues.
    let stranger = SigningKey::new(&provider.key().unwrap().kid).unwrap();
    let trap = Https::start(&Authority::new("trap").unwrap(), |_| Reply::json(&"{}")).unwrap();
    for (what, token, expected) in forgeries(&provider, &stranger, &trap) {
        let (status, text) = client.get(&token).await;
        assert_eq!(status, expected.0, "{what}: {text}");
        assert!(expected.1.is_empty() || text == expected.1, "{what}: {text}");
    }
    assert!(trap.asked().is_empty(), "an address in a token's header was used");
    // Clocks may differ by ten seconds. Signed anew each time, since a request may take longer.
    soon(|| async {
        let changes = json!({"exp": now() - 1});
        let answer = client.get(&provider.key()?.sign(&json!({}), &claims(&url, &changes))?).await;
        anyhow::ensure!(answer.0 == 200, "just expired: {answer:?}");
        Ok(())
    })
    .await;
    assert_eq!(registry.reviews(&world).await.0, 0, "a JWT of an issuer was sent to the API server");

    // A storm of unknown keys causes no fetch, since there was one a moment ago.
    let unknown = |number: i32| {
        stranger.sign(&json!({"kid": format!("k{number}")}), &claims(&url, &json!({}))).unwrap()
    };
    let storm: Vec<String> = (0..60).map(unknown).collect();
    for (status, text) in join_all(storm.iter().map(|token| client.get(token))).await {
        assert_eq!((status, &*text), (401, "token is signed with an unknown key"));
    }
    let fetches = key_requests(&provider) - before;
    let minutes = usize::try_from(started.elapsed().as_secs() / 60).unwrap();
    assert!((1..=1 + minutes).contains(&fetches), "{fetches} fetches");

    // Without the provider its last keys count, for new tokens too.
    provider.stop().await.unwrap();
    let fresh = provider.key().unwrap().sign(&json!({}), &claims(&url, &json!({"jti": "fresh"}))).unwrap();
    assert_eq!(client.get(&fresh).await.0, 200);
    assert_eq!(client.get(&token).await.0, 200);
    registry.tells_none_of(&world, &[&token, &elsewhere, &old, &fresh, &storm[0]]).await;
}

/// Issuers that share one server: the first part of the path is the issuer. `next`: the only key of `rotating`, once it has
/// replaced `key`.
fn played(
    [key, next]: &[Arc<SigningKey>; 2],
    repaired: &Arc<AtomicBool>,
) -> impl Fn(&Asked) -> Reply + use<> {
    let (key, next, repaired) = (Arc::clone(key), Arc::clone(next), Arc::clone(repaired));
    move |asked: &Asked| {
        let host = asked.headers["host"].to_str().unwrap();
        let issuer = asked.path.split('/').nth(1).unwrap_or_default();
        let metadata = asked.path.ends_with("openid-configuration");
        let url = format!("https://{host}/{issuer}");
        let document = |issuer: &str, keys: &str| Reply::json(&json!({"issuer": issuer, "jwks_uri": keys}));
        let keys =
            |padding: usize| Reply::json(&json!({"keys": [key.jwk()], "padding": "p".repeat(padding)}));
        let moved = |to: String| Reply { headers: vec![("location", to)], ..Reply::status(302, "") };
        match (issuer, metadata) {
            ("rotating", false) if repaired.load(Ordering::SeqCst) => {
                Reply::json(&json!({"keys": [next.jwk()]}))
            }
            _ if repaired.load(Ordering::SeqCst) && !metadata => keys(0),
            ("foreign", true) => document(&format!("https://{host}/good"), &format!("{url}/keys")),
            ("slash", true) => document(&format!("{url}/"), &format!("{url}/keys")),
            ("plain", true) => document(&url, &format!("http://{host}/good/keys")),
            ("moved", true) => moved(format!("https://{host}/good/.well-known/openid-configuration")),
            ("page", true) => Reply::status(200, "<html>"),
            (_, true) => document(&url, &format!("{url}/keys")),
            ("moved-keys", false) => moved(format!("https://{host}/good/keys")),
            ("large", false) => keys(256 * 1024),
            ("full", false) => keys(255 * 1024 - 1024),
            ("slow", false) => Reply { delay: Duration::from_secs(30), ..keys(0) },
            ("broken", false) => Reply::status(503, "later"),
            _ => keys(0),
        }
    }
}

#[tokio::test]
async fn keys_come_only_from_where_they_may_and_claims_decide() {
    let world = World::new("tokens-played").await;
    world.publish("net", &[("1.0.0", archive("# net\n", 0))]).await;
    let keys = ["k", "next"].map(|kid| Arc::new(SigningKey::new(kid).unwrap()));
    let repaired = Arc::new(AtomicBool::new(false));
    let [key, next] = &keys;
    let (authority, unknown) = (Authority::new("played").unwrap(), Authority::new("unknown").unwrap());
    let server = Https::start(&authority, played(&keys, &repaired)).unwrap();
    let hidden = Https::start(&unknown, played(&keys, &repaired)).unwrap();
    let refused = ["foreign", "slash", "plain", "moved", "page", "moved-keys", "large", "slow", "broken"];
    let ca = authority.pem();
    let simple = |name: &str| {
        format!(
            "{{username: {{claim: sub, prefix: '{name}:'}}, groups: {{claim: groups, prefix: '{name}:'}}}}"
        )
    };
    let mut issuers: String = refused
        .iter()
        .chain(&["full", "rotating"])
        .map(|name| issuer(&format!("{}/{name}", server.url), Some(&ca), "", &simple(name)))
        .collect();
    // No certificate of its own: the system's and those of --ca-file.
    issuers += &issuer(&format!("{}/ca-file", server.url), None, "", &simple("ca-file"));
    issuers += &issuer(&format!("{}/untrusted", hidden.url), None, "", &simple("untrusted"));
    issuers += &issuer(&format!("{}/other-ca", hidden.url), Some(&ca), "", &simple("other-ca"));
    let required = "  claimValidationRules: [{claim: repository_owner_id, requiredValue: '9919'}]\n";
    let actions = "{username: {claim: sub, prefix: 'gh:'}, groups: {claims: [repository, repository_owner], prefix: 'gh:'}}";
    issuers += &issuer(&format!("{}/actions", server.url), Some(&ca), required, actions);
    let mail = "{username: {claim: email, prefix: 'mail:'}}";
    issuers += &issuer(&format!("{}/mail", server.url), Some(&ca), "", mail);
    for name in refused.iter().chain(&["full", "rotating", "ca-file", "untrusted", "other-ca"]) {
        bind(&world, name, &format!("--group={name}:platform"));
    }
    bind(&world, "actions", "--group=gh:repository:acme/infra");
    bind(&world, "mail", "--user=mail:ann@acme.io");

    let builder = RegistryBuilder::new(&world);
    let (config, ca_file) = (builder.file("auth.yaml"), builder.file("providers.pem"));
    std::fs::write(&config, document(&issuers)).unwrap();
    std::fs::write(&ca_file, &ca).unwrap();
    let args = ["--auth-config", config.to_str().unwrap(), "--ca-file", ca_file.to_str().unwrap()];
    let registry = builder.args(&args).args(&["--trusted-proxy", "127.0.0.0/8"]).start().await;
    let path = format!("/v1/modules/{}/net/aws/versions", world.name);
    let client = Client { registry: &registry, path, peers: Mutex::new(0) };
    let token = |name: &str, changes: Value| {
        let base = if ["untrusted", "other-ca"].contains(&name) { &hidden.url } else { &server.url };
        key.sign(&json!({}), &claims(&format!("{base}/{name}"), &changes)).unwrap()
    };

    let repository = |changes: Value| {
        let mut all = json!({"repository": "acme/infra", "repository_owner": "acme", "repository_owner_id": "9919",
            "sub": "repo:acme/infra:ref:refs/heads/main"});
        all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        token("actions", all)
    };
    let email =
        |address: &str, verified: Value| token("mail", json!({"email": address, "email_verified": verified}));
    // All keys are fetched at the start at once, with a time limit: a good provider that was slow is asked again after seconds.
    for (name, token) in [
        ("full", token("full", json!({}))),
        ("rotating", token("rotating", json!({}))),
        ("ca-file", token("ca-file", json!({}))),
        ("actions", repository(json!({}))),
        ("mail", email("ann@acme.io", json!(true))),
    ] {
        soon(|| async {
            let answer = client.get(&token).await;
            anyhow::ensure!(answer.0 == 200, "{name}: {answer:?}\n{}", registry.process.log());
            Ok(())
        })
        .await;
    }
    // The rest is unavailable, not refused: the tokens may be good.
    let all: Vec<&str> = refused.into_iter().chain(["untrusted", "other-ca"]).collect();
    let tokens: Vec<String> = all.iter().map(|name| token(name, json!({}))).collect();
    let away = (503, "the identity provider does not answer: try again".to_owned());
    let answers = join_all(tokens.iter().map(|token| client.get(token))).await;
    for (name, answer) in all.iter().zip(answers) {
        assert_eq!(answer, away, "{name}");
    }
    let answer = registry.get(&client.path, Some(&tokens[0])).await;
    assert_eq!((answer.status().as_u16(), answer.headers().contains_key("retry-after")), (503, true));
    assert_eq!(server.count("/good/keys") + server.count("/good/.well-known/openid-configuration"), 0);
    assert!(hidden.asked().is_empty(), "it spoke to a server without a certificate that it trusts");

    // Who may, by claims.
    let (missing, unverified) =
        ("token lacks a required claim", "token has an email address that is not verified");
    for (what, token, expected) in [
        ("repository", repository(json!({})), (200, "")),
        ("other repository", repository(json!({"repository": "acme/web"})), (403, "")),
        (
            "owner alike",
            repository(json!({"repository": "x", "repository_owner": "repository:acme/infra"})),
            (403, ""),
        ),
        ("other owner", repository(json!({"repository_owner_id": "66"})), (401, missing)),
        ("number for text", repository(json!({"repository_owner_id": 9919})), (401, missing)),
        ("no owner", repository(json!({"repository_owner_id": null})), (401, missing)),
        ("verified", email("ann@acme.io", json!(true)), (200, "")),
        ("not verified", email("ann@acme.io", json!(false)), (401, unverified)),
        ("verified as text", email("ann@acme.io", json!("true")), (401, unverified)),
        ("no word of it", email("ann@acme.io", Value::Null), (401, unverified)),
        ("another user", email("bob@acme.io", json!(true)), (403, "")),
    ] {
        let (status, text) = client.get(&token).await;
        assert_eq!(status, expected.0, "{what}: {text}");
        assert!(expected.1.is_empty() || text == expected.1, "{what}: {text}");
    }
    // A provider that is repaired is asked again after seconds, not minutes. A new key is fetched with its first token.
    repaired.store(true, Ordering::SeqCst);
    let rotated = claims(&format!("{}/rotating", server.url), &json!({}));
    for (name, token) in [
        ("large", token("large", json!({"jti": "later"}))),
        ("broken", token("broken", json!({"jti": "later"}))),
        ("rotating", next.sign(&json!({}), &rotated).unwrap()),
    ] {
        soon(|| async {
            let answer = client.get(&token).await;
            anyhow::ensure!(answer.0 == 200, "{name}: {answer:?}");
            Ok(())
        })
        .await;
    }
    let removed = (401, "token is signed with an unknown key".to_owned());
    assert_eq!(client.get(&token("rotating", json!({"jti": "later"}))).await, removed);
    assert_eq!(registry.reviews(&world).await.0, 0, "a JWT of an issuer was sent to the API server");
}

/// Claims of empty objects take a hundred times their size as a tree, and need no valid signature.
#[tokio::test]
async fn tokens_that_wait_for_keys_take_little_memory() {
    let world = World::new("tokens-waiting").await;
    let (key, authority) = (SigningKey::new("k").unwrap(), Authority::new("waiting").unwrap());
    let keys = Reply { delay: Duration::from_secs(3), ..Reply::json(&json!({"keys": [key.jwk()]})) };
    let server = Https::start(&authority, move |asked| {
        let url = format!("https://{}", asked.headers["host"].to_str().unwrap());
        let metadata = json!({"issuer": url, "jwks_uri": format!("{url}/keys")});
        if asked.path == "/keys" { keys.clone() } else { Reply::json(&metadata) }
    })
    .unwrap();
    let mappings = "{username: {claim: sub, prefix: 'slow:'}}";
    let config = document(&issuer(&server.url, Some(&authority.pem()), "", mappings));
    let builder = RegistryBuilder::new(&world).flag_file("--auth-config", &config);
    let registry = builder.args(&["--trusted-proxy", "127.0.0.0/8"]).start().await;
    let path = format!("/v1/modules/{}/net/aws/versions", world.name);
    let client = Client { registry: &registry, path, peers: Mutex::new(0) };
    let token = |number: u32| {
        let nested = json!({"jti": number, "nested": vec![json!({"": 0}); 1600]});
        key.sign(&json!({"kid": "unknown"}), &claims(&server.url, &nested)).unwrap()
    };
    let tokens: Vec<String> = (0..128).map(token).collect();
    // The keys of the start are there. An unknown one has them requested again.
    let good = key.sign(&json!({}), &claims(&server.url, &json!({}))).unwrap();
    assert_eq!(client.get(&good).await.0, 403);
    for answer in join_all(tokens.iter().map(|token| client.get(token))).await {
        assert_eq!(answer, (401, "token is signed with an unknown key".to_owned()));
    }
    let memory = registry.process.memory().unwrap();
    println!("{memory:?}, after {} requests for keys", server.count("/keys"));
    assert!(memory.peak_of_release() <= 128 << 20, "{memory:?}");
}
