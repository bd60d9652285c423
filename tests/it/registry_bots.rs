//! The requests that Renovate and Dependabot make, and what they read from the answers.
//!
//! Renovate: `lib/modules/datasource/terraform-module`; Dependabot: `registry_client.rb`. Both find the module API by service
//! discovery.

use reqwest::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, USER_AGENT};
use serde_json::{Value, json};

use crate::support::World;
use crate::support::registry_files::answered;
use crate::support::token_registry::Registry;

/// The JSON of an answer, and its status.
async fn asked(
    registry: &Registry,
    url: &str,
    headers: &[(reqwest::header::HeaderName, &str)],
) -> (u16, Value) {
    let request = || {
        let request = registry.client.get(url);
        headers.iter().fold(request, |request, (name, value)| request.header(name, *value))
    };
    let answer = answered(request).await.unwrap();
    let status = answer.status().as_u16();
    let gzip = answer.headers().get("content-encoding").is_some_and(|encoding| encoding == "gzip");
    let body = answer.bytes().await.unwrap();
    let mut text = Vec::new();
    if gzip {
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&*body), &mut text).unwrap();
    } else {
        text.extend_from_slice(&body);
    }
    (status, serde_json::from_slice(&text).unwrap_or_default())
}

#[tokio::test]
async fn renovate_and_dependabot_find_versions_and_the_repository() {
    let world = World::new("bots").await;
    world.tagged("net", &["v1.0.0", "v1.1.0"]);
    let _operator = world.operator().await;
    let url = format!("https://github.com/{}.git", world.repository("net"));
    world.apply(&world.module("net").config("repoUrl", json!(url)).versions(&["1.0.0", "v1.1.0"]));
    let registry = world.registry().await;
    let token = world.consumer(&registry, "bot");
    let name = world.address("net").await;
    world.module_ready("net").await;
    registry.lists(&name, &token, 2).await;
    let bearer = format!("Bearer {token}");
    let repository = format!("https://github.com/{}", world.repository("net"));
    let base = format!("https://{}", registry.host);
    let renovate = [
        (USER_AGENT, "RenovateBot/42.1.0 (https://github.com/renovatebot/renovate)"),
        (ACCEPT, "application/json"),
        (ACCEPT_ENCODING, "gzip, deflate, br"),
        (AUTHORIZATION, bearer.as_str()),
    ];
    let dependabot = [
        (
            USER_AGENT,
            "dependabot-core/0.330.0 excon/1.2.5 ruby/3.4.4 (x86_64-linux) (+https://github.com/dependabot/dependabot-core)",
        ),
        (AUTHORIZATION, bearer.as_str()),
    ];
    for (bot, headers) in [("renovate", &renovate[..]), ("dependabot", &dependabot)] {
        let (status, services) =
            asked(&registry, &format!("{base}/.well-known/terraform.json"), headers).await;
        let modules = services["modules.v1"].as_str().unwrap();
        assert!(status == 200 && modules.starts_with('/') && modules.ends_with('/'), "{bot}: {services}");
        let versions = format!("{base}{modules}{name}/versions");
        let (status, body) = asked(&registry, &versions, headers).await;
        let listed: Vec<&str> = body["modules"][0]["versions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|version| version["version"].as_str().unwrap())
            .collect();
        assert_eq!((status, listed), (200, vec!["1.1.0", "1.0.0"]), "{bot}");
        // Renovate shows release notes of an http(s) URL.
        assert_eq!(body["modules"][0]["source"], repository, "{bot}");
        // Renovate's other form and Dependabot's request for the repository have no version.
        for path in [format!("{name}/1.0.0"), name.clone()] {
            let (status, module) = asked(&registry, &format!("{base}{modules}{path}"), headers).await;
            assert_eq!((status, module["source"].as_str()), (200, Some(repository.as_str())), "{bot} {path}");
            assert_eq!(module["versions"], json!(["1.1.0", "1.0.0"]), "{bot} {path}");
            let of_module =
                ["namespace", "name", "provider"].map(|part| module[part].as_str().unwrap()).join("/");
            assert_eq!(of_module, name, "{bot} {path}");
            assert!(module["published_at"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{module}");
        }
        // Dependabot takes a 401 for a private registry without credentials, Renovate a 404 for no package.
        let anonymous: Vec<_> = headers.iter().filter(|(name, _)| name != AUTHORIZATION).cloned().collect();
        assert_eq!(asked(&registry, &versions, &anonymous).await.0, 401, "{bot}");
        let unknown = format!("{base}{modules}{}/none/aws/versions", world.name);
        assert_eq!(asked(&registry, &unknown, headers).await.0, 404, "{bot}");
    }
    // Before that request, Dependabot looks for a repository in the place of the archive. The name of a file with this extension
    // is all that it reads: it would send further requests to any other URL.
    let download = registry.get(&format!("/v1/modules/{name}/1.1.0/download"), Some(&token)).await;
    assert_eq!(download.status(), 204);
    let place: reqwest::Url = download.headers()["x-terraform-get"].to_str().unwrap().parse().unwrap();
    assert!(place.as_str().starts_with(&base) && place.path().to_lowercase().ends_with(".zip"), "{place}");
}
