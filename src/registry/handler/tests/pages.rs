//! Pages as browsers get them.

use std::io::Read as _;

use super::*;
use crate::registry::docs::{Docs, Folder, Input, Output, Provider, Resource, ResourceMode};

pub(super) const PAGE: &str = "/modules/platform/eks/aws";

fn documented(path: &str, inputs: &[(&str, Option<&str>)]) -> Folder {
    let input = |(name, default): &(&str, Option<&str>)| Input {
        name: (*name).into(),
        type_: Some("map(object({\n  a = string\n}))".into()),
        default: default.map(Into::into),
        description: Some("<b>bold</b> & more".into()),
        ..Input::default()
    };
    Folder { path: path.into(), inputs: inputs.iter().map(input).collect(), ..Folder::default() }
}

/// A registry whose archives are documented.
pub(super) fn registry() -> Registry {
    let registry = Registry::new();
    // Documentation is kept by checksum and commit.
    let versions = json!([
        {"version": "1.0.0"}, {"version": "v1.1.0", "deprecated": "use 1.2"}, {"version": "1.2.0+b1"},
        {"version": "1.3.0", "withdrawn": "CVE-2026-1"}, {"version": "2.0.0-rc.1"},
    ]);
    let (object, mut stored) = module("eks", "eks", &versions);
    for (number, version) in stored.iter_mut().enumerate() {
        version["status"]["source"] =
            json!({"url": "https://github.com/acme/eks", "ref": "v1", "commit": format!("c0ffee{number}")});
    }
    registry.serve((object, stored));
    let module = registry.service.pages.index.get(&"platform/eks/aws".parse().unwrap()).unwrap();
    for version in &module.versions {
        let is_old = version.release.to_string() == "1.0.0";
        let inputs = [("old", Some("1")), ("name", None), ("tags", Some("{}"))];
        let mut root = documented("", if is_old { &inputs[..1] } else { &inputs[1..] });
        root.readme = Some(
            "# EKS\n\n<script>alert(1)</script>\n\n[usage](docs/x.md) ![x](https://i.example/x.png)".into(),
        );
        root.outputs = vec![Output { name: "arn".into(), sensitive: Some(true), ..Output::default() }];
        root.providers = vec![Provider {
            name: "aws".into(),
            source: Some("hashicorp/aws".into()),
            version: Some(">= 5".into()),
            aliases: vec!["aws.east".into()],
            ..Provider::default()
        }];
        root.resources = vec![Resource {
            mode: ResourceMode::Managed,
            type_: "aws_eks_cluster".into(),
            name: "this".into(),
        }];
        let folders = vec![
            root,
            documented("modules/karpenter", &[("queue", None)]),
            documented("examples/complete", &[]),
        ];
        registry.service.pages.library.put(version, Docs { folders, is_cut: false });
    }
    registry
}

pub(super) fn has_all(text: &str, expected: &[&str]) {
    for part in expected {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[tokio::test]
async fn the_page_of_a_module_shows_what_a_caller_needs() {
    let registry = registry();
    let answer = registry.get(PAGE, &[ANN]).await;
    assert_eq!(answer.status, StatusCode::OK);
    let page = answer.text();
    has_all(
        &page,
        &[
            "source  = &quot;registry.acme.io/platform/eks/aws&quot;",
            "version = &quot;1.2.0+b1&quot;",
            "# name = …",
            "# providers = { aws.east = aws.… }",
            "<code>aws.east</code>",
            "id=\"input_tags\"",
            "&lt;b&gt;bold&lt;/b&gt; &amp; more",
            "id=\"output_arn\"",
            "hashicorp/aws",
            "aws_eks_cluster",
            "href=\"/modules/platform/eks/aws/1.2.0%2Bb1/modules/karpenter\"",
            "href=\"/modules/platform/eks/aws/1.2.0%2Bb1/examples/complete\"",
            "href=\"https://i.example/x.png\"",
            "withdrawn",
            "CVE-2026-1",
            "compare/1.1.0...1.2.0%2Bb1",
        ],
    );
    assert!(!page.contains("<script") && !page.contains("<img"), "{page}");
    let folder = registry.get(&format!("{PAGE}/1.1.0/modules/karpenter"), &[ANN]).await.text();
    has_all(
        &folder,
        &["platform/eks/aws//modules/karpenter&quot;", "# queue = …", "Deprecated. ", "use 1.2"],
    );
    let withdrawn = registry.get(&format!("{PAGE}/1.3.0"), &[ANN]).await.text();
    has_all(&withdrawn, &["Withdrawn. ", "CVE-2026-1", "A withdrawn version cannot be installed."]);
    assert!(!withdrawn.contains("class=\"snippet\""), "{withdrawn}");
}

#[tokio::test]
async fn nothing_runs_on_a_page_and_nothing_is_kept() {
    let registry = registry();
    for path in [PAGE, "/", "/modules/platform/eks/aws/versions", "/modules/no/such/one", "/style.css"] {
        let answer = registry.get(path, &[ANN]).await;
        let policy = answer.header("content-security-policy");
        assert!(
            policy.starts_with("default-src 'none';") && policy.contains("frame-ancestors 'none'"),
            "{path}: {policy}"
        );
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(answer.header(name), value, "{path}");
        }
        if path != "/style.css" {
            assert_eq!(answer.header("cache-control"), "no-store", "{path}");
        }
        assert!(!answer.text().contains("style="), "{path}");
    }
}

#[tokio::test]
async fn crawlers_open_the_page_of_a_module_only_once() {
    let answer = Registry::new().get("/robots.txt", &[]).await;
    assert_eq!((answer.status, answer.header("content-type")), (StatusCode::OK, "text/plain; charset=utf-8"));
    assert_eq!(answer.text(), "User-agent: *\nDisallow: /modules/*/*/*/\n");
}

#[tokio::test]
async fn pages_show_what_the_identity_may_download() {
    let registry = registry();
    let list = |text: String| text.matches("href=\"/modules/platform/").count();
    assert_eq!(list(registry.get("/", &[ANN]).await.text()), 1);
    assert_eq!(list(registry.get("/?q=EKS+platform", &[ANN]).await.text()), 1);
    assert_eq!(list(registry.get("/?q=s3", &[ANN]).await.text()), 0);
    let bob = registry.get("/", &[BOB]).await;
    assert_eq!((bob.status, list(bob.text())), (StatusCode::OK, 0));
    let (known, unknown) =
        (registry.get(PAGE, &[BOB]).await, registry.get("/modules/platform/no/aws", &[BOB]).await);
    assert_eq!((known.status, unknown.status), (StatusCode::FORBIDDEN, StatusCode::FORBIDDEN));
    // Each has a link that leads back to the path that was asked for.
    assert_eq!(known.text().replace("%2Feks%2F", "%2Fno%2F"), unknown.text());
    assert!(known.text().contains(">bob</a>"), "{}", known.text());
    let anonymous = registry.get("/", &[]).await;
    assert_eq!(
        (anonymous.status, anonymous.header("www-authenticate")),
        (StatusCode::UNAUTHORIZED, "Bearer")
    );
    assert!(anonymous.text().contains("Sign in"));
}

#[tokio::test]
async fn the_list_is_json_as_in_the_public_registry() {
    let registry = registry();
    for path in [
        "/v1/modules",
        "/v1/modules/search?q=eks",
        "/v1/modules/search?q=eks&namespace=platform&provider=aws",
        "/v1/modules?namespace=acme",
        "/v1/modules/platform?namespace=other",
        "/v1/modules/acme/eks?limit=5",
    ] {
        let json = registry.get(path, &[ANN]).await.json();
        let module = &json["modules"][0];
        assert_eq!(module["id"], "platform/eks/aws/1.2.0+b1", "{path}: {json}");
        assert_eq!((&module["provider"], &module["name"]), (&json!("aws"), &json!("eks")));
        assert_eq!(json["meta"]["current_offset"], 0);
    }
    for path in [
        "/v1/modules?offset=1",
        "/v1/modules/search?q=s3",
        "/v1/modules/other",
        "/v1/modules?provider=google",
        "/v1/modules/search?q=eks&namespace=other",
    ] {
        assert_eq!(registry.get(path, &[ANN]).await.json()["modules"], json!([]), "{path}");
    }
    assert_eq!(registry.get("/v1/modules", &[BOB]).await.json()["modules"], json!([]));
    assert_eq!(registry.get("/v1/modules", &[]).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_module_that_is_not_served_says_why() {
    let registry = registry();
    let (mut taken, _) = module("second", "eks", &json!([{"version": "1.0.0"}]));
    taken["status"] =
        json!({"conditions": [{"type": "Addressable", "status": "False", "reason": "AddressTaken"}]});
    taken["spec"]["moduleConfig"]["provider"] = json!("azurerm");
    registry.serve((taken, Vec::new()));
    registry.server.permit("ann", "platform", "second");
    let list = registry.get("/", &[ANN]).await.text();
    has_all(&list, &["address taken by another Module", "AddressTaken"]);
    let page = registry.get("/modules/platform/eks/azurerm", &[ANN]).await;
    assert_eq!(page.status, StatusCode::OK);
    has_all(&page.text(), &["Not served: address taken by another Module (AddressTaken). ", "not stored"]);
    let (mut nowhere, _) = module("third", "third", &json!([]));
    nowhere["spec"]["moduleConfig"]["provider"] = json!(null);
    registry.serve((nowhere, Vec::new()));
    registry.server.permit("ann", "platform", "third");
    has_all(&registry.get("/", &[ANN]).await.text(), &["not addressable", "ProviderMissing"]);
    let (mut leaving, _) = module("fourth", "fourth", &json!([]));
    leaving["metadata"]["deletionTimestamp"] = json!("2026-11-27T05:00:00Z");
    registry.serve((leaving, Vec::new()));
    registry.server.permit("ann", "platform", "fourth");
    let page = registry.get("/modules/platform/fourth/aws", &[ANN]).await.text();
    has_all(&page, &["Not served: being deleted. ", "removed its Versions"]);
    // The right to a Module of the asked name is none to the one that claims it.
    registry.server.permit("bob", "platform", "eks");
    assert_eq!(registry.get("/modules/platform/eks/azurerm", &[BOB]).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn pages_are_compressed_unless_they_repeat_what_the_request_says() {
    let registry = registry();
    let gzip = ("accept-encoding", "br, gzip");
    for (path, is_compressed) in [
        (PAGE.to_owned(), true),
        ("/".to_owned(), true),
        (format!("{PAGE}/versions"), true),
        (format!("{PAGE}?x=y"), false),
        ("/?q=eks".to_owned(), false),
        // Longer than a path that signing in leads back to.
        (format!("/?q={}", "%C3%A9".repeat(250)), false),
        (format!("{PAGE}/1.1.0/modules/guess"), false),
        ("/modules/platform/guess/aws".to_owned(), false),
        ("/login?return=/guess".to_owned(), false),
    ] {
        let answer = registry.get(&path, &[ANN, gzip]).await;
        assert_eq!(answer.header("content-encoding") == "gzip", is_compressed, "{path}: {}", answer.status);
        assert_eq!(answer.header("vary"), "Accept-Encoding", "{path}");
        if is_compressed {
            let plain = registry.get(&path, &[ANN]).await;
            let mut text = String::new();
            flate2::read::GzDecoder::new(answer.body.as_slice()).read_to_string(&mut text).unwrap();
            assert_eq!((plain.header("content-encoding"), text), ("", plain.text()), "{path}");
        }
    }
}

#[tokio::test]
async fn pages_are_read_only() {
    let registry = registry();
    for method in ["POST", "PUT", "DELETE", "HEAD"] {
        let answer = registry.ask(method, "/", &[ANN]).await;
        assert_eq!(
            (answer.status, answer.header("allow")),
            (StatusCode::METHOD_NOT_ALLOWED, "GET"),
            "{method}"
        );
    }
    for (path, methods) in
        [("/login", "GET, POST"), ("/logout", "POST"), ("/login/start", "GET"), ("/login/callback", "GET")]
    {
        let answer = registry.ask("PUT", path, &[]).await;
        assert_eq!(
            (answer.status, answer.header("allow")),
            (StatusCode::METHOD_NOT_ALLOWED, methods),
            "{path}"
        );
    }
    assert_eq!(registry.get("/logout", &[]).await.status, StatusCode::METHOD_NOT_ALLOWED);
}
