//! What the identity provider sends, and what it is sent.

use std::net::TcpListener;
use std::task::Poll;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};
use url::Url;

use crate::registry::auth::tests::doubles::{Server, jwt, with_issuer};
use crate::registry::auth::token::Unverified;
use crate::registry::auth::{Access, Denied, Endpoints};
use crate::registry::http::Peer;
use crate::registry::session::attempt::Attempt;
use crate::registry::session::callback::{CallbackQuery, choose, is_answer, tokens};
use crate::registry::session::provider::{Provider, ProviderMetadata};
use crate::registry::session::sessions::{check_id_token, counted};
use crate::registry::session::{Login, LoginError, LoginSettings, SignInError};

const ISSUER: &str = "https://login.acme.io";
const CLIENT: &str = "opendepot";

/// Access control with one identity provider.
fn access() -> Access {
    let (_folder, settings) = with_issuer(ISSUER, "api");
    Server::default().access(settings)
}

fn settings(issuer: &str, scopes: &[&str]) -> LoginSettings {
    let scopes = scopes.iter().map(ToString::to_string).collect();
    LoginSettings { issuer: issuer.into(), client: CLIENT.into(), scopes }
}

fn url(text: &str) -> Url {
    text.parse().unwrap()
}

fn login(access: &Access) -> Login {
    let registry = url("https://registry.acme.io");
    Login::new(settings(ISSUER, &["openid", "groups"]), access, Some(&registry)).ok().unwrap()
}

fn endpoints() -> Endpoints {
    Endpoints {
        authorization: url("https://login.acme.io/auth?tenant=a"),
        token: url("https://login.acme.io/token"),
    }
}

fn pairs(query: &str) -> Vec<(String, String)> {
    url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_at_start() {
    let access = access();
    let registry = url("https://registry.acme.io");
    let plain = url("http://registry.acme.io");
    let error = |settings, url| Login::new(settings, &access, url).err();
    let other = "https://login.acme.io/";
    assert_eq!(error(settings(other, &["openid"]), Some(&registry)), Some(LoginError::Issuer(other.into())));
    assert_eq!(error(settings(ISSUER, &["openid"]), Some(&plain)), Some(LoginError::Url));
    assert_eq!(error(settings(ISSUER, &["openid"]), None), Some(LoginError::Url));
    assert_eq!(error(settings(ISSUER, &["groups"]), Some(&registry)), Some(LoginError::Scopes));
    assert_eq!(error(settings(ISSUER, &["groups", "openid"]), Some(&registry)), None);
}

#[tokio::test]
async fn a_browser_is_sent_to_the_provider_with_what_binds_the_answer_to_it() {
    let access = access();
    let login = login(&access);
    let attempt = Attempt::new("/", 1_800_000_000);
    let asked = url(&login.authorization(&endpoints(), &attempt));
    assert!(asked.as_str().starts_with("https://login.acme.io/auth?tenant=a&"));
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let verifier = text(&attempt.verifier);
    let challenge = text(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier.as_bytes()).as_ref());
    let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let redirect = "https://registry.acme.io/login/callback";
    assert_eq!(
        pairs(asked.query().unwrap()),
        [
            own("tenant", "a"),
            own("response_type", "code"),
            own("client_id", CLIENT),
            own("redirect_uri", redirect),
            own("scope", "openid groups"),
            own("state", &text(&attempt.state)),
            own("nonce", &text(&attempt.nonce)),
            own("code_challenge", &challenge),
            own("code_challenge_method", "S256"),
        ]
    );
    assert_eq!(
        pairs(&login.exchange("a&b", &attempt)),
        [
            own("grant_type", "authorization_code"),
            own("client_id", CLIENT),
            own("redirect_uri", redirect),
            own("code", "a&b"),
            own("code_verifier", &verifier),
        ]
    );
}

#[tokio::test]
async fn discovery_hands_over_the_providers_own_endpoints() {
    let access = access();
    let document: Value = serde_json::from_str(&login(&access).discovery(&endpoints())).unwrap();
    assert_eq!(
        document,
        json!({
            "modules.v1": "/v1/modules/",
            "login.v1": {
                "client": CLIENT,
                "grant_types": ["authz_code"],
                "authz": "https://login.acme.io/auth?tenant=a",
                "token": "https://login.acme.io/token",
                "ports": [10000, 10020],
                "scopes": ["openid", "groups"],
            },
        })
    );
}

#[test]
fn an_answer_is_of_the_provider_and_its_errors_become_our_words() {
    for (query, expected) in [
        ("code=c&state=s", Ok("c")),
        ("code=c&state=s&iss=https%3A%2F%2Flogin.acme.io", Ok("c")),
        ("code=c&state=s&iss=https%3A%2F%2Fevil.io", Err(StatusCode::BAD_REQUEST)),
        ("code=c&code=d&state=s", Err(StatusCode::BAD_GATEWAY)),
        ("code=&state=s", Err(StatusCode::BAD_GATEWAY)),
        ("", Err(StatusCode::BAD_GATEWAY)),
        ("error=access_denied&error_description=<b>no</b>", Err(StatusCode::FORBIDDEN)),
        ("error=access_denied&code=c", Err(StatusCode::FORBIDDEN)),
        ("error=server_error", Err(StatusCode::SERVICE_UNAVAILABLE)),
        ("error=invalid_scope", Err(StatusCode::BAD_GATEWAY)),
        ("error=unauthorized_client", Err(StatusCode::BAD_GATEWAY)),
        ("error=%3Cb%3Eevil", Err(StatusCode::BAD_GATEWAY)),
    ] {
        let answer = CallbackQuery::parse(query);
        let code = answer.code(ISSUER);
        assert_eq!(code.as_ref().copied().map_err(|refused| refused.status), expected, "{query}");
        if let Err(refused) = code {
            assert!(!refused.sentence.contains("<b>") && refused.sentence.ends_with('.'), "{query}");
        }
    }
    assert_eq!(CallbackQuery::parse("state=a&state=b").state, "");
}

#[test]
fn the_answer_to_a_code_has_an_id_token_or_words_for_the_log() {
    let problem =
        |status: u16, body: &str| tokens(status, body.as_bytes()).err().map(|failed| failed.problem);
    assert_eq!(problem(200, r#"{"id_token":"a","access_token":"b","token_type":"Bearer"}"#), None);
    assert_eq!(problem(200, r#"{"id_token":"a"}"#), None);
    assert_eq!(problem(200, r#"{"access_token":"b"}"#).as_deref(), Some("the answer has no id_token"));
    assert_eq!(problem(200, "<html>").as_deref(), Some("the answer has no id_token"));
    let body = r#"{"error":"invalid_grant","error_description":"code is used"}"#;
    assert_eq!(problem(400, body).as_deref(), Some("invalid_grant: code is used"));
    assert_eq!(problem(400, r#"{"error":5}"#).as_deref(), Some(""));
    assert_eq!(problem(502, "<html>").as_deref(), Some(""));
}

#[tokio::test]
async fn only_what_the_browser_brought_counts_as_a_failed_token() {
    for (status, error, counts) in [
        (400, "invalid_grant", true),
        (403, "invalid_grant", true),
        (400, "", true),
        (400, "invalid_request", false),
        (400, "invalid_client", false),
        (400, "unauthorized_client", false),
        (400, "unsupported_grant_type", false),
        (401, "invalid_client", false),
        (429, "", false),
        (503, "invalid_grant", false),
        (200, "", false),
    ] {
        let body = json!({"error": error, "error_description": "words"}).to_string();
        let failed = tokens(status, body.as_bytes()).err().unwrap();
        assert_eq!(failed.is_code_wrong, counts, "{status} {error}");
    }
    let (access, attempt) = (access(), Attempt::new("/", 0));
    let wrong = check_id_token(&login(&access), "no JWT", &attempt).await.unwrap_err();
    for (refused, counts) in [
        (wrong, true),
        (SignInError::denied(Denied::Unauthenticated("token signature is wrong")), true),
        (SignInError::denied(Denied::identity_provider(5)), false),
        (SignInError::later("Too many people are signing in at the moment: try again."), false),
        (SignInError::provider("The identity provider does not answer: try again."), false),
    ] {
        assert_eq!(refused.is_failed_token, counts, "{}", refused.sentence);
    }
}

#[tokio::test]
async fn a_sign_in_counts_as_failed_until_it_has_another_result() {
    let (access, peer) = (access(), Peer::of([192, 0, 2, 1].into()));
    for (is_failed_token, expected) in
        [(false, StatusCode::BAD_GATEWAY), (true, StatusCode::TOO_MANY_REQUESTS)]
    {
        let result = || async move { Err::<(), _>(SignInError::provider("No.").counted(is_failed_token)) };
        for _ in 0..40 {
            let _ = counted(&access, peer, async { Ok(()) }).await;
            let _ = counted(&access, peer, result()).await;
        }
        let last = counted(&access, peer, result()).await.unwrap_err();
        assert_eq!(last.status, expected);
    }
    let leaving = Peer::of([192, 0, 2, 2].into());
    for number in 0..30 {
        let mut sign_in = Box::pin(counted(&access, leaving, std::future::pending::<Result<(), _>>()));
        assert!(futures::poll!(sign_in.as_mut()).is_pending(), "{number}");
    }
    let next = counted(&access, leaving, async { Ok(()) }).await.unwrap_err();
    assert_eq!(next.status, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn one_client_cannot_make_all_exchanges() {
    let access = access();
    let login = login(&access);
    // It accepts connections, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let token = url(&format!("https://{}/token", silent.local_addr().unwrap()));
    let known = ProviderMetadata { endpoints: Endpoints { token, ..endpoints() }, document: Bytes::new() };
    let source = login.issuer.discovery(&[]).unwrap();
    let (provider, attempt) = (Provider::new(login, source), Attempt::new("/", 0));
    let mut exchanges = Vec::new();
    for (client, count, is_refused) in [(1, 8, false), (1, 1, true), (2, 8, false), (3, 1, true)] {
        for number in 0..count {
            let peer = Peer::of([192, 0, 2, client].into());
            let mut exchange = Box::pin(provider.exchange(&known, "code", &attempt, peer));
            let polled = futures::poll!(exchange.as_mut());
            assert_eq!(matches!(polled, Poll::Ready(Err(_))), is_refused, "{client} {number}");
            exchanges.push(exchange);
        }
    }
}

#[test]
fn an_id_token_is_the_answer_to_one_attempt_of_one_client() {
    let attempt = Attempt::new("/", 1_800_000_000);
    let nonce = URL_SAFE_NO_PAD.encode(attempt.nonce);
    let good = json!({"iss": ISSUER, "aud": CLIENT, "nonce": nonce});
    let other = URL_SAFE_NO_PAD.encode(Attempt::new("/", 0).nonce);
    for (changes, expected) in [
        (json!({}), true),
        (json!({"aud": [CLIENT]}), true),
        (json!({"aud": [CLIENT, "api"], "azp": CLIENT}), true),
        (json!({"aud": [CLIENT, "api"]}), false),
        (json!({"azp": "another"}), false),
        (json!({"aud": "another"}), false),
        (json!({"aud": null}), false),
        (json!({"iss": "https://evil.io"}), false),
        (json!({"nonce": other}), false),
        (json!({"nonce": null}), false),
        (json!({"nonce": ""}), false),
    ] {
        let mut claims = good.clone();
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let token = jwt(&json!({"alg": "RS256"}), &claims, b"unchecked");
        let parsed = Unverified::parse(&token).unwrap();
        assert_eq!(is_answer(&parsed, ISSUER, CLIENT, &attempt), expected, "{changes}");
    }
}

#[tokio::test]
async fn the_access_token_is_taken_if_it_is_for_the_registry() {
    let access = access();
    let issuer = access.issuer(ISSUER).unwrap();
    let token = |aud: &str, iss: &str, filler: usize| {
        let claims = json!({"aud": aud, "iss": iss, "sub": "ann", "f": "x".repeat(filler)});
        jwt(&json!({"alg": "RS256"}), &claims, b"s")
    };
    let nameless = jwt(&json!({"alg": "RS256"}), &json!({"aud": "api", "iss": ISSUER}), b"s");
    let odd = jwt(&json!({"kid": 7}), &json!({"aud": "api", "iss": ISSUER, "sub": "ann"}), b"s");
    let (ours, another) = (token("api", ISSUER, 0), token(CLIENT, ISSUER, 0));
    let (long, foreign) = (token("api", ISSUER, 3000), token("api", "https://evil.io", 0));
    for (access_token, id_token, expected) in [
        (Some(&ours), &another, Ok(&ours)),
        (Some(&ours), &long, Ok(&ours)),
        (None, &ours, Ok(&ours)),
        (Some(&"opaque".to_owned()), &ours, Ok(&ours)),
        (Some(&foreign), &ours, Ok(&ours)),
        (Some(&long), &ours, Ok(&ours)),
        (Some(&nameless), &ours, Ok(&ours)),
        (Some(&odd), &ours, Ok(&ours)),
        (Some(&ours), &nameless, Ok(&ours)),
        (Some(&nameless), &another, Ok(&nameless)),
        (Some(&long), &nameless, Err(StatusCode::BAD_REQUEST)),
        (Some(&another), &another, Err(StatusCode::BAD_GATEWAY)),
        (Some(&foreign), &another, Err(StatusCode::BAD_GATEWAY)),
        (Some(&long), &another, Err(StatusCode::BAD_REQUEST)),
    ] {
        let body = json!({"access_token": access_token, "id_token": id_token}).to_string();
        let tokens = tokens(200, body.as_bytes()).ok().unwrap();
        let chosen = choose(&tokens, &issuer).map_err(|refused| refused.status);
        assert_eq!(chosen, expected.map(String::as_str), "{access_token:?} {id_token}");
    }
}
