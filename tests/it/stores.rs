//! Stores other than AWS: each kind publishes, verifies, restores and deletes, whatever headers it refuses and whether or not
//! it gives checksums back. The store is the real gateway behind a proxy that answers as that kind is documented to.

use http::Method;
use opendepot_testbed::github::{Failure, Fault, Hop};
use opendepot_testbed::s3::{S3Request, Store};
use serde_json::{Value, json};

use crate::support::archives::sha256;
use crate::support::failing::Then::Stalled;
use crate::support::{SOON, World};

/// How a PUT was asked and answered: with a checksum, on condition that there is no object yet, status.
type Put = (bool, bool, u16);

fn puts(world: &World, prefix: &str) -> Vec<Put> {
    let put = |r: &S3Request| r.method == Method::PUT && r.key.starts_with(&format!("{prefix}/"));
    let requests = world.bed.s3.requests(&world.name).into_iter();
    let asked = |r: S3Request| {
        assert!(r.sha256.is_some() || r.signed_body, "the store can check what arrives: {r:?}");
        (r.sha256.is_some(), r.create_only, r.status.expect("the Version is stored"))
    };
    requests.filter(put).map(asked).collect()
}

/// The Version without what a new cluster gives it.
fn dumped(version: &Value) -> Value {
    let mut dumped = version.clone();
    for field in ["uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"] {
        dumped["metadata"][field] = Value::Null;
    }
    dumped["status"] = Value::Null;
    dumped
}

async fn all_of_a_life_on(store: Store, first: &[Put]) {
    let world = World::new(&format!("on-{store:?}").to_lowercase()).await;
    let s3 = &world.bed.s3;
    s3.behave_as(&world.name, store);
    let repository = world.released("net");
    world.released("dns");
    world.released("sns");
    let operator = world.operator_with(&["--verify-interval", "2s"]).await;

    // Publish: a rejection with a code of S3 counts at once.
    world.apply(&world.inline("net"));
    let version = world.version_ready("net").await;
    let bytes = world.stored(&version).await;
    assert_eq!(version["status"]["checksum"], sha256(&bytes));
    assert_eq!(puts(&world, "net"), first);
    world.apply(&world.inline("dns"));
    world.version_ready("dns").await;
    assert_eq!(puts(&world, "dns"), first[first.len() - 1..], "it is remembered");
    world.apply(&world.inline("sns"));
    world.version_ready("sns").await;
    assert_eq!(puts(&world, "sns"), first[first.len() - 1..], "it is remembered");
    let refused = s3.requests(&world.name).into_iter();
    let refused = refused.filter(|r| r.method == Method::HEAD && !matches!(r.status, None | Some(200 | 404)));
    assert!(refused.count() <= 2, "{:#?}", s3.requests(&world.name));

    // Verify: one that was replaced, and one that is lost.
    let key = version["status"]["storage"]["key"].as_str().unwrap().to_owned();
    s3.put(&world.name, &key, "shorter").await.unwrap();
    let there = || std::fs::read(s3.object_file(&world.name, &key)).ok();
    world.until("it is restored", || there().as_deref() == Some(&*bytes)).await;
    world.version_ready("net").await;
    s3.delete(&world.name, &key).await.unwrap();
    world.until("it is restored once more", || there().as_deref() == Some(&*bytes)).await;
    let version = world.version_ready("net").await;

    // Restore: the documented way, with the tag gone.
    operator.terminate(SOON).await.unwrap();
    world.patch("version/net", &json!({"metadata": {"finalizers": null}}));
    world.kubectl(&["delete", "version", "net"]);
    repository.delete_tag("v1.0.0").unwrap();
    world.count_from_now("net");
    world.apply(&dumped(&version));
    operator.restart().await.unwrap();
    let restored = world.version_ready("net").await;
    for field in ["checksum", "contentDigest", "archiveSizeBytes", "storage", "source"] {
        assert_eq!(restored["status"][field], version["status"][field], "{field}");
    }
    assert_eq!(world.bed.github.requests(&world.repository("net")).unwrap().len(), 0);
    assert_eq!(puts(&world, "net"), []);

    world.kubectl(&["delete", "version", "net", "dns", "sns"]);
    world.objects_are(0).await;
    let has_failed = |line: &str| line.contains("Warning Event") && !line.contains("Restoring");
    assert!(!operator.log().lines().any(has_failed), "{}", operator.log());
}

#[tokio::test]
async fn a_store_like_backblaze_b2_refuses_checksums_and_conditions() {
    let asked = [(true, true, 400), (false, true, 501), (false, false, 200)];
    all_of_a_life_on(Store::BackblazeB2, &asked).await;
}

#[tokio::test]
async fn a_store_like_cloudflare_r2_refuses_a_sha256_and_keeps_the_condition() {
    all_of_a_life_on(Store::CloudflareR2, &[(true, true, 501), (false, true, 200)]).await;
}

#[tokio::test]
async fn a_store_like_google_cloud_storage_calls_it_a_wrong_signature() {
    all_of_a_life_on(Store::GoogleCloudStorage, &[(true, true, 403), (false, true, 200)]).await;
}

#[tokio::test]
async fn a_store_like_ceph_takes_all_and_gives_no_checksum_back() {
    all_of_a_life_on(Store::Ceph, &[(true, true, 200)]).await;
}

#[tokio::test]
async fn a_store_like_minio_is_as_aws() {
    all_of_a_life_on(Store::MinIo, &[(true, true, 200)]).await;
}

#[tokio::test]
async fn a_store_that_refuses_only_conditions_keeps_the_checksum() {
    all_of_a_life_on(Store::Unconditional, &[(true, true, 501), (false, true, 501), (true, false, 200)])
        .await;
}

#[tokio::test]
async fn a_store_that_refuses_all_with_one_word_works_without() {
    let asked = [(true, true, 400), (false, true, 400), (true, false, 400), (false, false, 200)];
    all_of_a_life_on(Store::Bare, &asked).await;
}

#[tokio::test]
async fn what_appears_during_the_download_is_safe_where_a_store_knows_no_conditions() {
    let world = World::new("unguarded").await;
    let s3 = &world.bed.s3;
    s3.behave_as(&world.name, Store::Unconditional);
    world.released("net");
    world.released("dns");
    let _operator = world.operator().await;
    // Known from here on: the second is never asked with the condition.
    world.apply(&world.inline("net"));
    world.version_ready("net").await;
    world.bed.github.inject(Fault::on(&world.repository("dns"), Failure::Hold).at(Hop::Codeload));
    world.apply(&world.inline("dns"));
    let recorded = |v: &Value| v["status"]["objects"][0]["key"].is_string();
    let version = world.version_when("dns", recorded).await;
    let key = version["status"]["objects"][0]["key"].as_str().unwrap().to_owned();
    s3.put(&world.name, &key, "a user's only copy").await.unwrap();
    world.bed.github.clear_faults(&world.repository("dns")).unwrap();

    let at = format!("s3://{}/{key}", world.name);
    world.failed("dns", "ObjectNotOurs", Stalled, &[&at, "was not stored by OpenDepot"]).await;
    assert_eq!(s3.get(&world.name, &key).await.unwrap(), b"a user's only copy");
    assert_eq!(
        puts(&world, "dns"),
        [(false, false, 200)],
        "the one above: none that would have overwritten it"
    );
    let heads = |prefix: &str| {
        let requests = s3.requests(&world.name).into_iter();
        requests.filter(|r| r.method == Method::HEAD && r.key.starts_with(prefix)).count()
    };
    assert_eq!(heads("net/"), 3, "before the download, before the PUT, and after it");
}
