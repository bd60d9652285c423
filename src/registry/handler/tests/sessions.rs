//! Sessions of people at the handler.

use super::*;

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
    let peer = Peer { address: [192, 0, 2, 1].into() };
    let answer = Answer::of(registry.service.handle(request, peer).await).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text());
    let cookie = answer.header("set-cookie").split(';').next().unwrap().to_owned();
    let headers = HeaderMap::from_iter([(HeaderName::from_static("cookie"), cookie.parse().unwrap())]);
    assert!(registry.service.sessions.token(&headers).is_some());
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
