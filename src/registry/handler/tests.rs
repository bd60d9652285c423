//! Answers as clients get them, with a stand-in for the API server's reviews.

use std::io::Read as _;
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName, Request, Response, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::ext::ReasonPhrase;
use serde_json::{Value, json};

use super::*;
use crate::api::FINALIZER;
use crate::api::object_name::version_object;
use crate::registry::archive::Mode;
use crate::registry::auth::AccessSettings;
use crate::registry::auth::tests::doubles::Server;
use crate::registry::index::{Change, Fold, States};
use crate::storage::{Storage, StorageRules};

const ADDRESS: &str = "/v1/modules/platform/eks/aws";
const ANN: (&str, &str) = ("authorization", "Bearer user-ann");
const BOB: (&str, &str) = ("authorization", "Bearer user-bob");

/// A Module `object` whose address has this name, and its Versions, all stored.
fn module(object: &str, name: &str, versions: &Value) -> (Value, Vec<Value>) {
    let owner = json!({
        "apiVersion": "opendepot.defdev.io/v1alpha1", "kind": "Module", "name": object, "uid": object, "controller": true,
    });
    let stored = |entry: &Value| {
        let text = entry["version"].as_str().unwrap();
        json!({
            "metadata": {
                "namespace": "platform", "name": version_object(object, &Release::parse(text).unwrap()), "uid": text,
                "creationTimestamp": "2026-11-27T05:00:00Z", "finalizers": [FINALIZER], "ownerReferences": [owner],
            },
            "spec": {"type": "Module", "version": text, "moduleConfigRef": {"fileFormat": "zip"}},
            "status": {
                "synced": true, "checksum": STANDARD.encode([7; 32]), "archiveSizeBytes": 1234,
                "storage": {"bucket": "modules", "key": format!("eks/{text}.zip"), "region": "eu-west-1"},
            },
        })
    };
    let all = versions.as_array().unwrap().iter().map(stored).collect();
    let module = json!({
        "metadata": {"namespace": "platform", "name": object, "uid": object},
        "spec": {"moduleConfig": {"name": name, "provider": "aws"}, "versions": versions},
        "status": {"address": format!("platform/{name}/aws")},
    });
    (module, all)
}

struct Registry {
    service: Service,
    server: Server,
}

struct Answer {
    status: StatusCode,
    phrase: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    async fn of(answer: Response<Body>) -> Self {
        let phrase = answer.extensions().get::<ReasonPhrase>();
        let phrase = phrase.map(|phrase| String::from_utf8_lossy(phrase.as_bytes()).into_owned());
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = answer.into_body().collect().await.unwrap().to_bytes().to_vec();
        Self { status, phrase: phrase.unwrap_or_default(), headers, body }
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn is_uncached_text(&self) -> bool {
        self.header("content-type") == "text/plain; charset=utf-8"
            && self.header("cache-control") == "no-store"
            && self.header("x-content-type-options") == "nosniff"
            && self.headers.get("etag").is_none()
    }
}

impl Registry {
    /// It serves `platform/eks/aws`, which `ann` may download.
    fn new() -> Self {
        let versions = json!([
            {"version": "1.0.0"}, {"version": "v1.1.0", "deprecated": "use 1.2"}, {"version": "1.2.0+b1"},
            {"version": "1.3.0", "withdrawn": "CVE-2026-1"}, {"version": "2.0.0-rc.1"},
        ]);
        let registry = Self::of("https://registry.acme.io", AccessSettings::default());
        registry.serve(module("eks", "eks", &versions));
        registry.server.permit("ann", "platform", "eks");
        registry
    }

    fn of(url: &str, settings: AccessSettings) -> Self {
        let server = Server::default();
        let metrics = RegistryMetrics::default();
        let storage = Arc::new(Storage::with_test_keys());
        let service = Service {
            index: Arc::default(),
            access: server.access(settings),
            aliases: Aliases::new(&["acme=platform".parse().unwrap()], &[]).unwrap(),
            keys: CurrentKeys::new(None).unwrap(),
            downloads: Downloads::new(storage, Mode::Redirect, Vec::new(), 4, metrics.clone()),
            url: url.to_owned(),
            metrics,
            module_metrics: true,
        };
        Self { service, server }
    }

    fn serve(&self, (module, versions): (Value, Vec<Value>)) {
        let mut fold = Fold::new(StorageRules::default(), Aliases::default());
        fold.module(Change::Applied(serde_json::from_value(module).unwrap()));
        for version in versions {
            fold.version(Change::Applied(serde_json::from_value(version).unwrap()));
        }
        self.service.index.apply(fold.updates(), States::default());
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&'static str, &str)]) -> Answer {
        let mut request = Request::new(Bytes::new());
        *request.method_mut() = method.parse().unwrap();
        *request.uri_mut() = path.parse().unwrap();
        for (name, value) in headers {
            request.headers_mut().append(HeaderName::from_static(name), value.parse().unwrap());
        }
        let peer = Peer { address: [192, 0, 2, 1].into() };
        Answer::of(self.service.handle(request, peer).await).await
    }

    async fn get(&self, path: &str, headers: &[(&'static str, &str)]) -> Answer {
        self.ask("GET", path, headers).await
    }

    /// The value of `X-Terraform-Get`.
    async fn location(&self, version: &str) -> String {
        let answer = self.get(&format!("{ADDRESS}/{version}/download"), &[ANN]).await;
        assert_eq!((answer.status, answer.body.len()), (StatusCode::NO_CONTENT, 0), "{}", answer.text());
        answer.header("x-terraform-get").to_owned()
    }

    /// The path of an archive, with its link.
    async fn link(&self, version: &str) -> String {
        let location = self.location(version).await;
        let path = location.strip_prefix("https://registry.acme.io").unwrap();
        path.split('?').next().unwrap().to_owned()
    }
}

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
    // Somebody else learns nothing from a tag.
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
    // Dependabot fails where this is missing.
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
}

#[tokio::test]
async fn a_location_has_the_checksum_and_is_made_of_no_header() {
    let registry = Registry::new();
    let location = registry.location("1.2.0+b1").await;
    let hex = "07".repeat(32);
    let (start, rest) = location.split_once("/archive/").unwrap();
    assert_eq!(start, "https://registry.acme.io/v1/modules/platform/eks/aws/1.2.0%2Bb1");
    let end = format!("/eks-1.2.0%2Bb1.zip?archive=zip&checksum=sha256:{hex}");
    assert!(rest.ends_with(&end) && rest.len() == 27 + end.len(), "{location}");
    // An alias, another spelling, and headers of proxies lead to the same.
    for (path, extra) in [
        ("/v1/modules/acme/eks/aws/1.2.0+b1/download", ("host", "evil")),
        ("/v1/modules/platform/eks/aws/v1.2.0%2bb1/download", ("x-forwarded-host", "evil")),
        ("/v1/modules/platform/eks/aws/1.2.0+b1/download?x=y", ("forwarded", "host=evil")),
    ] {
        let answer = registry.get(path, &[ANN, extra]).await;
        assert_eq!(
            (answer.header("x-terraform-get"), answer.header("cache-control")),
            (&*location, "no-store"),
            "{path}"
        );
    }
    let relative = Registry { service: Service { url: String::new(), ..registry.service }, ..registry };
    assert!(relative.location("1.0.0").await.starts_with("/v1/modules/platform/eks/aws/1.0.0/archive/"));
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
        (format!("{ADDRESS}/versions"), Some(BOB.1), 403, "Forbidden: no right to download this module"),
        (format!("{ADDRESS}/9.9.9/download"), Some(ANN.1), 404, "Not Found"),
        (format!("{ADDRESS}/1.3.0/download"), Some(ANN.1), 410, "Gone: version withdrawn"),
        ("/v1/modules/platform/eks/google-beta/versions".into(), None, 404, "Not Found"),
        ("/v1/modules/platform/e%6Bs/aws/versions".into(), Some(ANN.1), 404, "Not Found"),
        ("/".into(), None, 404, "Not Found"),
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
    assert_eq!((away.status, away.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "2"));
    assert!(away.phrase.starts_with("the Kubernetes API does not answer") && away.is_uncached_text());
}

#[tokio::test]
async fn whatever_is_no_valid_link_of_a_listed_version_is_the_same_403() {
    let registry = Registry::new();
    let (first, second) = (registry.link("1.0.0").await, registry.link("1.1.0").await);
    let link = |path: &str| path.split('/').nth_back(1).unwrap().to_owned();
    let (one, two) = (link(&first), link(&second));
    let archive = |rest: &str| format!("{ADDRESS}/1.0.0/archive/{rest}");
    let mut answers = Vec::new();
    for path in [
        archive(&format!("{two}/eks-1.0.0.zip")),
        archive(&format!("{one}/eks-1.1.0.zip")),
        archive(&format!("{one}/eks-1.0.0.ZIP")),
        archive(&format!("{one}/%65ks-1.0.0.zip")),
        archive(&format!("{one}/eks-1.0.0.zip%2f")),
        archive(&format!("{one}=/eks-1.0.0.zip")),
        archive(&format!("{one}/")),
        archive("../eks-1.0.0.zip"),
        archive("%2e%2e/eks-1.0.0.zip"),
        archive("/eks-1.0.0.zip"),
        first.replace("/platform/", "/acme/"),
        first.replace("/eks/", "/vpc/"),
        first.replace("/1.0.0/", "/9.9.9/"),
        first.replace("/1.0.0/", "/1.3.0/").replace("eks-1.0.0", "eks-1.3.0"),
    ] {
        for method in ["GET", "HEAD"] {
            let answer = registry.ask(method, &path, &[("authorization", "Basic eDp5")]).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
            assert!(answer.is_uncached_text());
            answers.push((answer.phrase, answer.body, answer.headers));
        }
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    for path in
        [format!("{first}/"), first.replace("/archive/", "//archive/"), first.replace("/v1/", "/v1//")]
    {
        assert_eq!(registry.get(&path, &[]).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    // A token is not needed, and one that comes is ignored.
    for headers in [&[][..], &[("authorization", "Basic eDp5")], &[("authorization", "Bearer wrong")]] {
        let answer = registry.get(&first, headers).await;
        assert_eq!(
            (answer.status, answer.header("cache-control")),
            (StatusCode::FOUND, "no-store, no-transform")
        );
    }
}

#[tokio::test]
async fn a_live_link_of_a_withdrawn_version_is_410_with_the_reason() {
    let registry = Registry::new();
    let link = registry.link("1.0.0").await;
    registry.serve(module("eks", "eks", &json!([{"version": "1.0.0", "withdrawn": "leaks keys"}])));
    for path in [link.clone(), format!("{ADDRESS}/1.0.0/download")] {
        let answer = registry.get(&path, &[ANN]).await;
        assert_eq!((answer.status, answer.phrase.as_str()), (StatusCode::GONE, "Gone: version withdrawn"));
        assert!(answer.text().contains("leaks keys") && answer.is_uncached_text());
    }
    assert_eq!(registry.get(&format!("{link}x"), &[]).await.status, StatusCode::FORBIDDEN);
    let none = registry.get(&format!("{ADDRESS}/versions"), &[ANN]).await;
    assert_eq!(none.status, StatusCode::NOT_FOUND, "never an empty list");
}

#[tokio::test]
async fn a_holder_that_appears_while_a_request_waits_is_reviewed_by_its_own_name() {
    let registry = Arc::new(Registry::of("", AccessSettings::default()));
    registry.server.permit("ann", "platform", "eks");
    let waiting = ["versions", "1.0.0", "1.0.0/download"].map(|path| {
        let registry = Arc::clone(&registry);
        tokio::spawn(async move { registry.get(&format!("{ADDRESS}/{path}"), &[ANN]).await.status })
    });
    while registry.server.counts() != (1, 1) {
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    registry.serve(module("secret", "eks", &json!([{"version": "1.0.0"}])));
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap(), StatusCode::FORBIDDEN);
    }
    assert_eq!(registry.server.0.lock().unwrap().accesses, ["ann platform/eks", "ann platform/secret"]);
    registry.server.permit("bob", "platform", "secret");
    assert_eq!(registry.get(&format!("{ADDRESS}/versions"), &[BOB]).await.status, StatusCode::OK);
}
