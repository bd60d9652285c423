//! Sessions of people at the handler.

use super::pages::{PAGE, has_all, registry as documented};
use super::*;
use crate::domain::text::hex;
use crate::registry::auth::Access;

#[tokio::test]
async fn a_session_counts_for_pages_and_never_for_the_api() {
    let registry = Registry::new();
    let mut request = Request::new(Bytes::from_static(b"token=user-ann"));
    (*request.method_mut(), *request.uri_mut()) = (Method::POST, "/login".parse().unwrap());
    let form = "application/x-www-form-urlencoded";
    for (name, value) in [("origin", "https://registry.acme.io"), ("content-type", form)] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let (head, _) = request.clone().into_parts();
    assert_eq!(registry.service.largest_body(&head), 16 << 10);
    let answer = Answer::of(registry.service.handle(request, PEER).await).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text());
    let cookie = answer.header("set-cookie").split(';').next().unwrap().to_owned();
    let headers = HeaderMap::from_iter([(HeaderName::from_static("cookie"), cookie.parse().unwrap())]);
    assert!(registry.service.pages.sessions.token(&headers).is_some());
    for path in [format!("{ADDRESS}/versions"), format!("{ADDRESS}/1.0.0/download"), ADDRESS.to_owned()] {
        let answer = registry.get(&path, &[("cookie", &cookie)]).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
    }
}

#[tokio::test]
async fn bodies_are_read_for_two_paths_only() {
    let registry = Registry::new();
    let most = |method: Method, path: &str| {
        let request = Request::builder().method(method).uri(path).body(()).unwrap();
        registry.service.largest_body(&request.into_parts().0)
    };
    assert_eq!((most(Method::POST, "/login"), most(Method::POST, "/logout")), (16 << 10, 16 << 10));
    for (method, path) in [
        (Method::GET, "/login"),
        (Method::PUT, "/login"),
        (Method::POST, "/"),
        (Method::POST, "/login/callback"),
        (Method::POST, "/v1/modules/a/b/c/versions"),
    ] {
        assert_eq!(most(method.clone(), path), 0, "{method} {path}");
    }
}

#[tokio::test]
async fn people_sign_in_on_a_page_and_pages_count_their_session() {
    let registry = documented();
    let page = registry.get("/login?return=/modules/platform/eks/aws", &[]).await;
    assert_eq!((page.status, page.header("referrer-policy")), (StatusCode::OK, "same-origin"));
    has_all(&page.text(), &["type=\"password\"", "name=\"return\" value=\"/modules/platform/eks/aws\""]);
    let form = |token: &str| {
        let mut request = Request::new(Bytes::from(format!("token={token}&return={PAGE}")));
        (*request.method_mut(), *request.uri_mut()) = (Method::POST, "/login".parse().unwrap());
        for (name, value) in [
            ("origin", "https://registry.acme.io"),
            ("content-type", "application/x-www-form-urlencoded"),
            ("accept", "text/html,*/*"),
        ] {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        request
    };
    let refused = Answer::of(registry.service.handle(form("wrong"), PEER).await).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    let back = format!("name=\"return\" value=\"{PAGE}\"");
    has_all(&refused.text(), &["role=\"alert\"", "token is not accepted", "type=\"password\"", &back]);
    assert!(!refused.text().contains("wrong"));
    let answer = Answer::of(registry.service.handle(form("user-ann"), PEER).await).await;
    assert_eq!((answer.status, answer.header("location")), (StatusCode::SEE_OTHER, PAGE));
    let cookie = answer.header("set-cookie").split(';').next().unwrap().to_owned();
    let session = ("cookie", cookie.as_str());
    assert_eq!(registry.get(PAGE, &[session]).await.status, StatusCode::OK);
    has_all(&registry.get("/login", &[session]).await.text(), &["You are signed in", "ann", "Sign out"]);
    assert_eq!(registry.get("/v1/modules", &[session]).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn signing_in_leads_back_to_the_page_that_was_asked_for() {
    let registry = documented();
    let link = |page: &Answer| {
        let text = page.text();
        let links: Vec<&str> =
            text.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        let login: Vec<&str> = links.into_iter().filter(|link| link.starts_with("/login")).collect();
        assert!(login.iter().all(|link| *link == login[0]), "{login:?}");
        (login.len(), login[0].replace("&amp;", "&"))
    };
    for (path, expected) in [
        ("/", "/login"),
        (PAGE, "/login?return=%2Fmodules%2Fplatform%2Feks%2Faws"),
        ("/?q=a+b&offset=50", "/login?return=%2F%3Fq%3Da%2Bb%26offset%3D50"),
        ("/modules/no/such/aws/1.0.0%2Bx", "/login?return=%2Fmodules%2Fno%2Fsuch%2Faws%2F1.0.0%252Bx"),
        ("/login?return=%2Fmodules%2Fa%2Fb%2Fc", "/login?return=%2Fmodules%2Fa%2Fb%2Fc"),
        ("/login?return=%2F%2Fevil.io", "/login"),
        ("/login?return=/%5Cevil.io", "/login"),
        ("/login?return=https://evil.io", "/login"),
    ] {
        let page = registry.get(path, &[]).await;
        let (count, target) = link(&page);
        assert_eq!(target, expected, "{path}");
        // The page of a 401 has a button besides the link that every page has.
        assert_eq!(count, if page.status == StatusCode::UNAUTHORIZED { 2 } else { 1 }, "{path}");
        // The form there leads to the same page.
        let form = registry.get(&target, &[]).await.text();
        let back = path.split_once("return=").map_or(path, |(_, _)| "");
        if !back.is_empty() {
            let back = back.replace('&', "&amp;");
            has_all(&form, &[&format!("name=\"return\" value=\"{back}\"")]);
        }
    }
    // A path too long for a cookie leads to the start.
    let long = registry.get(&format!("/?q={}", "%C3%A9".repeat(256)), &[]).await;
    assert_eq!(link(&long).1, "/login");
    // How clients get a token is no help in a browser.
    let page = registry.get(PAGE, &[]).await;
    assert!(!page.text().contains("TF_TOKEN"), "{}", page.text());
    let expired = registry.get(PAGE, &[("authorization", "Bearer wrong")]).await;
    has_all(&expired.text(), &["Sign in again to see this page", "token is not accepted"]);
}

/// A request with a form.
fn form(path: &str, origin: &str, body: String) -> Request<Bytes> {
    let mut request = Request::new(Bytes::from(body));
    (*request.method_mut(), *request.uri_mut()) = (Method::POST, path.parse().unwrap());
    for (name, value) in
        [("origin", origin), ("content-type", "application/x-www-form-urlencoded"), ("accept", "text/html")]
    {
        request.headers_mut().insert(HeaderName::from_static(name), value.parse().unwrap());
    }
    request
}

/// The cookie of a session that began while `access` accepted the token.
async fn session(registry: &Registry, access: &Access, token: &str) -> String {
    let (head, body) = form("/login", "https://registry.acme.io", format!("token={token}")).into_parts();
    let answer = registry.service.pages.sessions.login(access, &head.headers, &body, PEER).await.unwrap();
    Answer::of(answer).await.header("set-cookie").split(';').next().unwrap().to_owned()
}

/// Without its end, the browser would see no public page either.
#[tokio::test]
async fn a_session_that_is_no_longer_accepted_can_be_ended() {
    let registry = documented();
    let token = format!("odt_{}", "a".repeat(43));
    let folder = tempfile::tempdir().unwrap();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
    std::fs::write(folder.path().join("ci"), format!("sha256:{}", hex(digest.as_ref()))).unwrap();
    let tokens_dir = Some(folder.path().to_owned());
    let before = registry.server.access(AccessSettings { tokens_dir, ..AccessSettings::default() });
    let cookie = session(&registry, &before, &token).await;
    let ended = [("cookie", cookie.as_str())];
    assert_eq!(registry.get(PAGE, &ended).await.status, StatusCode::UNAUTHORIZED);
    let page = registry.get(&format!("/login?return={PAGE}"), &ended).await.text();
    has_all(&page, &["Your session is no longer accepted.", "action=\"/logout\"", "type=\"password\""]);
    assert_eq!(page.matches(&format!("name=\"return\" value=\"{PAGE}\"")).count(), 2, "{page}");

    // The same on the page of an attempt that failed.
    let mut request = form("/login", "https://evil.example", "token=a".to_owned());
    request.headers_mut().insert(HeaderName::from_static("cookie"), cookie.parse().unwrap());
    let failed = Answer::of(registry.service.handle(request, PEER).await).await;
    assert_eq!(failed.status, StatusCode::FORBIDDEN);
    has_all(&failed.text(), &["a session of an earlier sign-in", "action=\"/logout\""]);

    // What is not known is not said.
    let cookie = session(&registry, &before, "user-bob").await;
    registry.server.set_away(true);
    let page = registry.get("/login", &[("cookie", &cookie)]).await.text();
    has_all(&page, &["cannot check your session at the moment", "action=\"/logout\""]);
    let without = registry.get("/login", &[]).await.text();
    assert!(!without.contains("/logout") && !without.contains("session of"), "{without}");
}

#[tokio::test]
async fn without_https_no_form_signs_in() {
    let registry = Registry::of("http://registry.acme.io", AccessSettings::default());
    let page = registry.get("/login", &[]).await.text();
    has_all(&page, &["Signing in is not possible here", "an https URL in <code>--url</code>"]);
    assert!(!page.contains("type=\"password\""), "{page}");
    let request = form("/login", "http://registry.acme.io", "token=user-ann".to_owned());
    let refused = Answer::of(registry.service.handle(request, PEER).await).await;
    assert_eq!((refused.status, refused.header("set-cookie")), (StatusCode::FORBIDDEN, ""));
}
