//! Locations and archive links.

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
