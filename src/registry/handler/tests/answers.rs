//! Lists, details, errors and permissions.

use std::io::Read as _;

use futures::FutureExt as _;

use super::*;

#[tokio::test]
async fn discovery_never_looks_at_the_token() {
    let registry = Registry::new();
    let plain = registry.get("/.well-known/terraform.json", &[]).await;
    assert_eq!((plain.status, plain.text().as_str()), (StatusCode::OK, r#"{"modules.v1":"/v1/modules/"}"#));
    assert_eq!(
        (plain.header("content-type"), plain.header("cache-control")),
        ("application/json", "max-age=60")
    );
    let foreign = [
        ("authorization", "Basic x"),
        ("host", "evil"),
        ("x-forwarded-host", "evil"),
        ("x-forwarded-proto", "ftp"),
    ];
    let odd = registry.get("/.well-known/terraform.json?a=b", &foreign).await;
    assert_eq!((odd.status, odd.body, odd.headers), (plain.status, plain.body, plain.headers));
    assert_eq!(registry.server.counts(), (0, 0));
}

#[tokio::test]
async fn lists_are_private_and_each_encoding_has_its_own_tag() {
    let registry = Registry::new();
    let path = format!("{ADDRESS}/versions");
    let plain = registry.get(&path, &[ANN]).await;
    let listed = r#"{"modules":[{"versions":[{"version":"2.0.0-rc.1"},{"version":"1.2.0+b1"},{"version":"1.1.0","deprecation":{"reason":"use 1.2"}},{"version":"1.0.0"}]}]}"#;
    assert_eq!(
        (plain.status, plain.text().as_str(), plain.header("content-encoding")),
        (StatusCode::OK, listed, "")
    );
    let gzip = registry.get(&path, &[ANN, ("accept-encoding", "gzip")]).await;
    assert_eq!(gzip.header("content-encoding"), "gzip");
    let mut text = String::new();
    flate2::read::GzDecoder::new(&*gzip.body).read_to_string(&mut text).unwrap();
    assert_eq!(text, listed);
    let tags = [plain.header("etag"), gzip.header("etag")];
    assert!(tags[0] != tags[1] && tags.iter().all(|tag| tag.starts_with('"')), "{tags:?}");
    for (encoding, tag, status) in [
        ("identity", tags[0], 304),
        ("identity", tags[1], 200),
        ("gzip", tags[1], 304),
        ("gzip", tags[0], 200),
        ("gzip", "*", 304),
    ] {
        let headers = [ANN, ("accept-encoding", encoding), ("if-none-match", tag)];
        let answer = registry.get(&path, &headers).await;
        assert_eq!(answer.status, status, "{encoding} {tag}");
        assert_eq!(answer.body.is_empty(), status == 304);
        assert_eq!(answer.header("etag"), tags[usize::from(encoding == "gzip")]);
        assert_eq!(answer.header("cache-control"), "private, no-cache");
        assert_eq!(answer.header("vary"), "Authorization, Accept-Encoding");
    }
    // Another identity learns nothing from a tag.
    let other = registry.get(&path, &[BOB, ("if-none-match", tags[0])]).await;
    assert!(other.status == StatusCode::FORBIDDEN && other.is_uncached_text());
}

#[tokio::test]
async fn the_json_of_a_module_and_of_a_version() {
    let registry = Registry::new();
    let module = registry.get(ADDRESS, &[ANN]).await;
    assert_eq!(
        (module.header("cache-control"), module.header("content-type")),
        ("private, no-cache", "application/json")
    );
    let json = module.json();
    assert_eq!(json["versions"], json!(["2.0.0-rc.1", "1.2.0+b1", "1.1.0", "1.0.0"]));
    assert_eq!(json["version"], "1.2.0+b1", "the highest release that is not withdrawn");
    assert_eq!(
        (&json["published_at"], &json["id"]),
        (&json!("2026-11-27T05:00:00Z"), &json!("platform/eks/aws/1.2.0+b1"))
    );
    assert_eq!(json["withdrawn"], json!([{"version": "1.3.0", "reason": "CVE-2026-1"}]));
    // Clients may fail where this is missing.
    assert_eq!(json.get("source"), Some(&Value::Null));
    for (version, found) in
        [("1.0.0", "1.0.0"), ("v1.0.0", "1.0.0"), ("1.2.0+b1", "1.2.0+b1"), ("1.2.0%2Bb1", "1.2.0+b1")]
    {
        let json = registry.get(&format!("{ADDRESS}/{version}"), &[ANN]).await.json();
        assert_eq!(json["version"], found, "{version}");
    }
    let withdrawn = registry.get(&format!("{ADDRESS}/1.3.0"), &[ANN]).await.json();
    assert_eq!(withdrawn["withdrawal"], json!({"reason": "CVE-2026-1"}));
    let deprecated = registry.get(&format!("{ADDRESS}/1.1.0"), &[ANN]).await.json();
    assert_eq!(deprecated["deprecation"], json!({"reason": "use 1.2"}));
    let listed = json!([{"version": "1.0.0"}, {"version": "1.3.0", "withdrawn": "no such tag"}]);
    let (object, stored) = super::module("eks", "eks", &listed);
    registry.serve((object, stored.into_iter().take(1).collect()));
    let gone = registry.get(&format!("{ADDRESS}/1.3.0"), &[ANN]).await;
    assert!(gone.status == StatusCode::GONE && gone.text().contains("no such tag"), "{}", gone.text());
}

#[tokio::test]
async fn a_client_that_takes_no_answers_gets_no_other_large_ones_but_lists() {
    let registry = Registry::new();
    let mut entries = vec![json!({"version": "2.0.0"})];
    entries.extend((0..300).map(|n| json!({"version": format!("1.0.{n}"), "withdrawn": "x".repeat(100)})));
    registry.serve(module("eks", "eks", &json!(entries)));
    let large = Response::new(Body::from(vec![b'a'; 8 << 20]));
    let held = registry.service.pages.send_budget.count(large, PEER).await.unwrap();
    let busy = registry.get(ADDRESS, &[ANN]).await;
    assert_eq!((busy.status, busy.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "2"));
    let compressed = registry.get(ADDRESS, &[ANN, ("accept-encoding", "gzip")]).await;
    let list = registry.get(&format!("{ADDRESS}/versions"), &[ANN]).await;
    assert_eq!([compressed.status, list.status], [StatusCode::OK; 2]);
    drop(held);
    assert_eq!(registry.get(ADDRESS, &[ANN]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_module_whose_versions_are_all_withdrawn_says_so() {
    let registry = Registry::new();
    registry.serve(module("eks", "eks", &json!([{"version": "1.0.0", "withdrawn": "leaks keys"}])));
    let versions = format!("{ADDRESS}/versions");
    for path in [ADDRESS, &*versions] {
        // The review of the first one is known afterwards.
        registry.get(path, &[ANN]).await;
        let gone = registry.get(path, &[ANN]).now_or_never().expect("it does not wait for another version");
        assert_eq!((gone.status, &*gone.phrase), (StatusCode::GONE, "Gone: version withdrawn"), "{path}");
        assert!(gone.is_uncached_text() && gone.text().contains("leaks keys"), "{}", gone.text());
        assert_eq!(registry.get(path, &[BOB]).await.status, StatusCode::FORBIDDEN);
    }
    // A version that is not withdrawn may have been stored, and the watch has not reported it yet.
    let both = json!([{"version": "1.0.0", "withdrawn": "leaks keys"}, {"version": "1.1.0"}]);
    let (object, stored) = module("eks", "eks", &both);
    registry.serve((object, stored.into_iter().take(1).collect()));
    let mut waiting = Box::pin(registry.get(&versions, &[ANN]));
    assert!(futures::poll!(&mut waiting).is_pending());
    registry.serve(module("eks", "eks", &both));
    assert_eq!(waiting.await.status, StatusCode::OK);
    // Without it, the module is not found, rather than withdrawn.
    let (object, stored) = module("eks", "eks", &both);
    registry.serve((object, stored.into_iter().take(1).collect()));
    assert_eq!(registry.get(&versions, &[ANN]).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn other_methods_are_405() {
    let registry = Registry::new();
    let archive = registry.link("1.0.0").await;
    let before = registry.server.counts();
    for (path, allow) in [
        ("/.well-known/terraform.json", "GET"),
        (&*format!("{ADDRESS}/versions"), "GET"),
        (ADDRESS, "GET"),
        (&*format!("{ADDRESS}/1.0.0/download"), "GET"),
        (&*archive, "GET, HEAD"),
    ] {
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "HEAD", "QUERY"] {
            let answer = registry.ask(method, path, &[ANN]).await;
            if method == "HEAD" && path == archive {
                assert_eq!((answer.status, answer.header("content-length")), (StatusCode::OK, "1234"));
                continue;
            }
            assert_eq!(
                (answer.status, answer.header("allow")),
                (StatusCode::METHOD_NOT_ALLOWED, allow),
                "{method} {path}"
            );
            assert!(answer.is_uncached_text());
        }
    }
    assert_eq!(registry.server.counts(), before, "nothing is asked for that");
}

#[tokio::test]
async fn errors_are_fixed_words_and_tell_nothing_of_what_exists() {
    let registry = Registry::new();
    let unknown = "/v1/modules/platform/secret/aws";
    for (path, token, status, phrase) in [
        (format!("{ADDRESS}/versions"), None, 401, "token required"),
        (format!("{ADDRESS}/versions"), Some("Bearer wrong"), 401, "token is not accepted"),
        (format!("{ADDRESS}/versions"), Some(BOB.1), 403, "Forbidden: no permission to download this module"),
        (format!("{ADDRESS}/9.9.9/download"), Some(ANN.1), 404, "Not Found"),
        (format!("{ADDRESS}/1.3.0/download"), Some(ANN.1), 410, "Gone: version withdrawn"),
        ("/v1/modules/platform/eks/google-beta/versions".into(), None, 404, "Not Found"),
        ("/v1/modules/platform/e%6Bs/aws/versions".into(), Some(ANN.1), 404, "Not Found"),
        ("/favicon.ico".into(), None, 404, "Not Found"),
    ] {
        let headers: Vec<_> = token.map(|token| ("authorization", token)).into_iter().collect();
        let answer = registry.get(&path, &headers).await;
        assert_eq!(answer.status, status, "{path} {token:?}");
        assert!(answer.phrase.starts_with(phrase), "{path}: {}", answer.phrase);
        assert!(answer.is_uncached_text(), "{path}: {:?}", answer.headers);
        assert_eq!(answer.header("www-authenticate"), if status == 401 { "Bearer" } else { "" });
        let text = answer.text();
        assert!(text.ends_with('\n') && text.lines().count() == 1 && !text.contains("eks"), "{path}: {text}");
    }
    for path in ["versions", "1.0.0/download", "9.9.9/download", "1.0.0"] {
        let known = registry.get(&format!("{ADDRESS}/{path}"), &[BOB]).await;
        let other = registry.get(&format!("{unknown}/{path}"), &[BOB]).await;
        assert_eq!(
            (known.status, &known.phrase, &known.headers),
            (other.status, &other.phrase, &other.headers)
        );
        assert_eq!((known.status, known.body), (StatusCode::FORBIDDEN, other.body), "{path}");
    }
    registry.server.set_away(true);
    let away = registry.get(&format!("{ADDRESS}/versions"), &[("authorization", "Bearer user-new")]).await;
    assert_eq!((away.status, away.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "6"));
    assert!(away.phrase.starts_with("the Kubernetes API does not answer") && away.is_uncached_text());
}

#[tokio::test]
async fn a_holder_that_appears_while_a_request_waits_is_reviewed_by_its_own_name() {
    let withdrawn = json!([{"version": "1.0.0", "withdrawn": "leaks keys"}]);
    for (versions, expected) in
        [(json!([{"version": "1.0.0"}]), StatusCode::OK), (withdrawn, StatusCode::GONE)]
    {
        let registry = Arc::new(Registry::of("", AccessSettings::default()));
        registry.server.permit("ann", "platform", "eks");
        let waiting = ["", "/versions", "/1.0.0", "/1.0.0/download"].map(|path| {
            let registry = Arc::clone(&registry);
            tokio::spawn(async move { registry.get(&format!("{ADDRESS}{path}"), &[ANN]).await.status })
        });
        while registry.server.counts() != (1, 1) {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        registry.serve(module("secret", "eks", &versions));
        for waiting in waiting {
            assert_eq!(waiting.await.unwrap(), StatusCode::FORBIDDEN);
        }
        assert_eq!(registry.server.0.lock().unwrap().accesses, ["ann platform/eks", "ann platform/secret"]);
        registry.server.permit("bob", "platform", "secret");
        assert_eq!(registry.get(&format!("{ADDRESS}/versions"), &[BOB]).await.status, expected);
    }
}
