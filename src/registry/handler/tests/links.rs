//! Locations and archive links.

use std::time::Instant;

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::FutureExt as _;

use super::*;

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
async fn whatever_is_no_valid_link_of_a_listed_version_is_the_same_403() {
    let registry = &Registry::new();
    let (first, second) = (registry.link("1.0.0").await, registry.link("1.1.0").await);
    let link = |path: &str| path.split('/').nth_back(1).unwrap().to_owned();
    let (one, two) = (link(&first), link(&second));
    let archive = |rest: &str| format!("{ADDRESS}/1.0.0/archive/{rest}");
    let mut answers = Vec::new();
    let paths = [
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
    ];
    // All at once, since some of them wait.
    let asked = paths.iter().flat_map(|path| {
        ["GET", "HEAD"].map(move |method| async move {
            (path, registry.ask(method, path, &[("authorization", "Basic eDp5")]).await)
        })
    });
    for (path, answer) in futures::future::join_all(asked).await {
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
        assert!(answer.is_uncached_text());
        answers.push((answer.phrase, answer.body, answer.headers));
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
    let all = registry.get(&format!("{ADDRESS}/versions"), &[ANN]).await;
    assert_eq!(all.status, StatusCode::GONE, "never an empty list");
}

#[tokio::test]
async fn a_link_that_another_replica_has_made_waits_for_what_this_one_has_not_seen() {
    let registry = Registry::new();
    let link = registry.link("1.0.0").await;
    let current = || module("eks", "eks", &json!([{"version": "1.0.0"}]));
    let mut replaced = current();
    replaced.1[0]["status"]["checksum"] = json!(STANDARD.encode([8; 32]));
    for late in [module("eks", "eks", &json!([{"version": "1.1.0"}])), replaced] {
        registry.serve(late);
        let mut waiting = Box::pin(registry.get(&link, &[]));
        assert!(futures::poll!(&mut waiting).is_pending());
        registry.serve(module("vpc", "vpc", &json!([{"version": "1.0.0"}])));
        assert!(futures::poll!(&mut waiting).is_pending(), "another module was updated");
        registry.serve(current());
        assert_eq!(waiting.await.status, StatusCode::FOUND);
    }
}

#[tokio::test]
async fn a_part_of_the_waits_is_for_links_of_one_client_and_none_that_cannot_become_valid() {
    let registry = Registry::new();
    let link = registry.link("1.0.0").await;
    let one = link.split('/').nth_back(1).unwrap();
    let made = |expiry: u64| {
        let mut bytes = URL_SAFE_NO_PAD.decode(one).unwrap();
        bytes[..4].copy_from_slice(&u32::try_from(expiry).unwrap().to_be_bytes());
        link.replace(one, &URL_SAFE_NO_PAD.encode(bytes))
    };
    let now = u64::try_from(jiff::Timestamp::now().as_second()).unwrap();
    for (expiry, waits) in [(now - 1, false), (now + 60, true), (now + 890, true), (now + 1000, false)] {
        let answer = registry.get(&made(expiry), &[]).now_or_never();
        assert_eq!(answer.is_none(), waits, "{expiry}, and now is {now}");
    }
    let forged = made(now + 60);
    let mut waiting: Vec<_> = (0..64).map(|_| Box::pin(registry.get(&forged, &[]))).collect();
    for waiting in &mut waiting {
        assert!(futures::poll!(waiting).is_pending());
    }
    let one_more = registry.get(&forged, &[]).now_or_never().expect("it does not wait");
    assert_eq!(one_more.status, StatusCode::FORBIDDEN);
    assert_eq!(registry.get(&link, &[]).await.status, StatusCode::FOUND);
    let start = Instant::now();
    assert_eq!(waiting.remove(0).await.status, StatusCode::FORBIDDEN);
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    assert!(registry.get(&forged, &[]).now_or_never().is_none(), "one has ended");
}
