//! Forms, and where they lead.

use std::net::{IpAddr, Ipv4Addr};

use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use proptest::prelude::*;
use secrecy::ExposeSecret as _;

use crate::registry::auth::{Access, AccessSettings, Denied, tests::doubles::Server};
use crate::registry::http::{Body, Peer};
use crate::registry::key_file::CurrentKeys;
use crate::registry::session::request::{back, local};
use crate::registry::session::{SessionAction, Sessions, SignInError, action};

const URL: &str = "https://registry.acme.io:8443";
const PEER: Peer = Peer::of(IpAddr::V4(Ipv4Addr::LOCALHOST));

fn form(origin: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, "application/x-www-form-urlencoded; charset=utf-8".parse().unwrap());
    if let Some(origin) = origin {
        headers.insert(header::ORIGIN, origin.parse().unwrap());
    }
    headers
}

fn sessions() -> (Sessions, Access, Server) {
    let server = Server::default();
    let access = server.access(AccessSettings::default());
    (Sessions::new(CurrentKeys::new(None).unwrap(), URL.parse().ok()), access, server)
}

fn location(answer: &Response<Body>) -> &str {
    answer.headers()[header::LOCATION].to_str().unwrap()
}

/// The cookies that a browser sends after this answer.
fn cookies(answer: &Response<Body>) -> HeaderMap {
    let set = answer.headers().get_all(header::SET_COOKIE).iter().map(|cookie| cookie.to_str().unwrap());
    let kept = set.filter(|cookie| !cookie.contains("Max-Age=0;"));
    let pairs: Vec<&str> = kept.map(|cookie| cookie.split(';').next().unwrap()).collect();
    HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_str(&pairs.join("; ")).unwrap())])
}

#[tokio::test]
async fn a_token_makes_a_session_which_ends_when_its_token_is_refused() {
    let (sessions, access, server) = sessions();
    let body = b"token=+user-ann%0A&return=%2Fmodules%2Fa%2Fb%2Fc%3Fq%3D1";
    let answer = sessions.login(&access, &form(Some(URL)), body, PEER).await.unwrap();
    assert_eq!((answer.status(), location(&answer)), (StatusCode::SEE_OTHER, "/modules/a/b/c?q=1"));
    assert_eq!(answer.headers()[header::CACHE_CONTROL], "no-store");
    let session = cookies(&answer);
    assert_eq!(sessions.token(&session).unwrap().expose_secret(), "user-ann");
    assert_eq!(sessions.identify(&access, &session, PEER).await.unwrap().user, "ann");
    assert_eq!(server.counts().0, 1, "reviewed when the session began");
    let again = sessions.login(&access, &form(Some(URL)), body, PEER).await.unwrap();
    assert_ne!(cookies(&again), session, "a new cookie at each sign-in");

    let mut both = session.clone();
    both.insert(header::AUTHORIZATION, "Bearer user-bob".parse().unwrap());
    assert_eq!(sessions.identify(&access, &both, PEER).await.unwrap().user, "bob");
    let anonymous = sessions.identify(&access, &HeaderMap::new(), PEER).await;
    assert!(matches!(anonymous, Err(Denied::Unauthenticated(_))), "{anonymous:?}");

    let ended = sessions.logout(&form(Some(URL)), b"return=/").unwrap();
    assert_eq!((ended.status(), location(&ended)), (StatusCode::SEE_OTHER, "/"));
    assert_eq!(sessions.token(&cookies(&ended)).map(drop), None);
    assert_eq!(ended.headers().get_all(header::SET_COOKIE).iter().count(), 2);
}

#[tokio::test]
async fn only_a_form_of_this_registry_signs_in_or_out() {
    let (sessions, access, server) = sessions();
    for origin in [
        None,
        Some("null"),
        Some("https://registry.acme.io"),
        Some("http://registry.acme.io:8443"),
        Some("https://evil.io"),
        Some(" "),
    ] {
        let headers = form(origin);
        let refused = sessions.login(&access, &headers, b"token=user-ann", PEER).await.unwrap_err();
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{origin:?}");
        assert_eq!(sessions.logout(&headers, b"").unwrap_err().status, StatusCode::FORBIDDEN, "{origin:?}");
    }
    let mut two = form(Some(URL));
    two.append(header::ORIGIN, URL.parse().unwrap());
    assert_eq!(sessions.logout(&two, b"").unwrap_err().status, StatusCode::FORBIDDEN);
    let without_url = Sessions::new(CurrentKeys::new(None).unwrap(), None);
    assert!(without_url.logout(&form(Some(URL)), b"").unwrap_err().sentence.contains("--url"));
    assert!(!without_url.has_forms());
    for (url, has_forms) in [
        ("https://registry.acme.io", true),
        ("http://registry.acme.io", false),
        ("http://192.0.2.1:8080", false),
        ("http://localhost:8080", true),
        ("http://127.0.0.1:8080", true),
        ("http://[::1]:8080", true),
    ] {
        let sessions = Sessions::new(CurrentKeys::new(None).unwrap(), url.parse().ok());
        assert_eq!(sessions.has_forms(), has_forms, "{url}");
        let left = sessions.logout(&form(Some(url)), b"");
        assert_eq!(left.is_ok(), has_forms, "a browser would drop the cookie: {url}");
    }
    assert_eq!(server.counts().0, 0, "no token was looked at");
}

#[tokio::test]
async fn what_cannot_be_a_session_is_refused_with_a_sentence() {
    let (sessions, access, server) = sessions();
    let login = async |body: &str| sessions.login(&access, &form(Some(URL)), body.as_bytes(), PEER).await;
    for (body, status, words) in [
        ("return=/".to_owned(), StatusCode::BAD_REQUEST, "Paste a token."),
        ("token=a%20b".to_owned(), StatusCode::UNAUTHORIZED, "token is malformed"),
        ("token=wrong".to_owned(), StatusCode::UNAUTHORIZED, "token is not accepted"),
        (format!("token={}", "x".repeat(2970)), StatusCode::BAD_REQUEST, "too long for a cookie"),
    ] {
        let refused = login(&body).await.unwrap_err();
        assert_eq!(refused.status, status, "{body}");
        assert!(refused.sentence.contains(words), "{body}: {}", refused.sentence);
    }
    let mut json = form(Some(URL));
    json.insert(header::CONTENT_TYPE, "application/json".parse().unwrap());
    let refused = sessions.login(&access, &json, b"token=user-ann", PEER).await.unwrap_err();
    assert_eq!(refused.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    server.set_away(true);
    let refused = login("token=user-new").await.unwrap_err();
    assert_eq!((refused.status, refused.retry_after), (StatusCode::SERVICE_UNAVAILABLE, Some(6)));
}

#[tokio::test]
async fn a_peer_with_many_failed_tokens_has_to_wait() {
    let (sessions, access, _server) = sessions();
    let mut last = None;
    for number in 0..31 {
        let body = format!("token=wrong{number}");
        let refused = sessions.login(&access, &form(Some(URL)), body.as_bytes(), PEER).await.unwrap_err();
        last = Some(refused);
    }
    let last = last.unwrap();
    assert_eq!(last.status, StatusCode::TOO_MANY_REQUESTS, "{}", last.sentence);
    assert!(last.retry_after.is_some());
    assert_eq!(last.plain().headers()[header::RETRY_AFTER], last.retry_after.unwrap().to_string().as_str());
}

#[tokio::test]
async fn without_an_identity_provider_there_is_no_link_to_one() {
    let (sessions, access, _server) = sessions();
    assert!(!sessions.is_sso() && sessions.has_forms());
    assert_eq!(sessions.discovery(), None);
    let refused: [SignInError; 2] = [
        sessions.start("return=/").unwrap_err(),
        sessions.callback(&access, &HeaderMap::new(), "code=a&state=b", PEER).await.unwrap_err(),
    ];
    for refused in refused {
        assert_eq!(refused.status, StatusCode::NOT_FOUND);
        let body = refused.plain().into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, format!("{}\n", refused.sentence));
    }
}

#[test]
fn four_requests_belong_to_signing_in() {
    for (method, path, expected) in [
        (Method::POST, "/login", Some(SessionAction::Login)),
        (Method::POST, "/logout", Some(SessionAction::Logout)),
        (Method::GET, "/login/start", Some(SessionAction::Start)),
        (Method::GET, "/login/callback", Some(SessionAction::Callback)),
        (Method::GET, "/login", None),
        (Method::GET, "/logout", None),
        (Method::POST, "/login/", None),
        (Method::POST, "/login/start", None),
        (Method::POST, "/v1/modules/a/b/c/versions", None),
    ] {
        assert_eq!(action(&method, path), expected, "{method} {path}");
    }
}

#[test]
fn a_return_path_is_one_path_of_this_registry() {
    for good in ["/", "/modules/a/b/c?q=x#y", "/a//b", "/%2F", "/@evil.io"] {
        assert_eq!(local(good), good);
    }
    let long = format!("/{}", "a".repeat(1024));
    for bad in [
        "",
        "a",
        "//evil.io",
        "/\\evil.io",
        "\\/evil.io",
        "/a\\b",
        "https://evil.io",
        "javascript:alert(1)",
        "/a b",
        "/a\tb",
        "/\r\nSet-Cookie: a=b",
        "/é",
        " /",
        &long,
    ] {
        assert_eq!(local(bad), "/", "{bad}");
    }
    assert_eq!(back(b"a=b&return=%2Fmodules%2Fa"), "/modules/a");
    assert_eq!(back(b"return=%2F%2Fevil.io"), "/");
    assert_eq!(back(b"return=%252F%252Fevil.io"), "/", "decoded once");
    assert_eq!(back(b"return=%2F%0A%2Fevil.io"), "/");
    assert_eq!(back(b"a=b"), "/");
}

proptest! {
    /// As a browser resolves it.
    #[test]
    fn no_return_path_leads_elsewhere(path in "[/\\\\:@a-z.%0-9\t\r\n?#é-]{0,20}") {
        let registry = url::Url::parse(URL).unwrap();
        let target = registry.join(local(&path)).unwrap();
        prop_assert_eq!(target.origin(), registry.origin());
        prop_assert!(HeaderValue::from_str(local(&path)).is_ok());
    }
}
