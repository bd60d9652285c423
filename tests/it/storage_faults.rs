//! S3 that is not there, refuses, fails, loses answers, or holds what is not ours. Each gives a reason that says what to
//! do, and what passes recovers by itself.

use futures::future::join_all;
use http::Method;
use kube::api::PostParams;
use opendepot::api::Version;
use opendepot_testbed::s3::{S3Failure, S3Fault};
use serde_json::{Value, json};

use crate::support::archives::sha256;
use crate::support::failing::Then::{Retried, Stalled};
use crate::support::{SOON, World, condition, key};
use crate::write_once::{delete_versions, gone, patch};

/// A Version that stored just one object, whose checksum is that of its bytes.
async fn stored_once(world: &World, version: &Value) {
    let bucket = version["status"]["storage"]["bucket"].as_str().unwrap();
    assert_eq!(
        world.bed.s3.keys(bucket).await.unwrap(),
        [version["status"]["storage"]["key"].as_str().unwrap()]
    );
    let bytes = world.stored(version).await;
    assert_eq!(version["status"]["checksum"], sha256(&bytes));
    assert_eq!(version["status"]["archiveSizeBytes"], bytes.len());
    assert_eq!(version["status"]["objects"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_bucket_that_is_made_later_is_used_without_being_asked() {
    let world = World::new("no-bucket").await;
    world.released("net");
    let bucket = format!("{}-later", world.name);
    let operator = world.operator().await;
    world.apply(&world.inline_of("net", &world.module("net").s3("bucket", json!(bucket))));
    let words = [&*format!("bucket {bucket} does not exist"), "create it"];
    world.failed("net", "BucketNotFound", Retried, &words).await;
    world.warned_once("net", "BucketNotFound").await;
    world.nothing_stored_nor_told(&operator, &[]).await;

    world.bed.s3.create_bucket(&bucket).await.unwrap();
    let version = world.version_ready("net").await;
    stored_once(&world, &version).await;
    world.warned_once("net", "BucketNotFound").await;
}

#[tokio::test]
async fn a_refusal_names_the_right_that_is_missing_and_ends_when_it_is_given() {
    let world = World::new("denied").await;
    let s3 = &world.bed.s3;
    let bucket = &*world.name;
    let denied = || S3Failure::Answer(403, "AccessDenied");
    // Keys are `<name>/…`, so each Version has faults of its own.
    let cases = [
        ("head", S3Fault::new(bucket, denied()), "look up", "s3:GetObject"),
        ("put", S3Fault::new(bucket, denied()).method(Method::PUT), "store", "s3:PutObject"),
        ("list", S3Fault::new(bucket, S3Failure::HideMissing), "look up", "s3:ListBucket on the bucket"),
    ];
    let operator = world.operator().await;
    for (name, fault, ..) in &cases {
        s3.inject(fault.clone().prefix(&format!("{name}/")));
        world.released(name);
        world.apply(&world.inline(name));
    }
    for (name, _, verb, right) in &cases {
        let place = format!("cannot {verb} s3://{bucket}/{name}/");
        world.failed(name, "StorageAccessDenied", Retried, &[&place, right]).await;
        world.warned_once(name, "StorageAccessDenied").await;
    }
    world.nothing_stored_nor_told(&operator, &[&s3.root().secret_key]).await;
    s3.clear_faults(bucket);
    for (name, ..) in &cases {
        world.version_ready(name).await;
    }
    assert_eq!(s3.keys(bucket).await.unwrap().len(), cases.len());
}

#[tokio::test]
async fn a_user_of_s3_without_rights_recovers_when_a_policy_gives_them() {
    let world = World::new("no-rights").await;
    let s3 = &world.bed.s3;
    let user = s3.create_user().unwrap();
    world.released("net");
    let builder = world.builder().env("AWS_ACCESS_KEY_ID", &user.access_key);
    let operator = builder.env("AWS_SECRET_ACCESS_KEY", &user.secret_key).start_ready().await.unwrap();
    world.apply(&world.inline("net"));
    world.failed("net", "StorageAccessDenied", Retried, &["the operator's role needs"]).await;
    world.nothing_stored_nor_told(&operator, &[&user.secret_key]).await;

    // Just the rights that the documentation asks for.
    let (all, objects) = (format!("arn:aws:s3:::{}", world.name), format!("arn:aws:s3:::{}/*", world.name));
    let principal = json!({"AWS": [user.access_key]});
    let policy = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": principal, "Action": ["s3:ListBucket"], "Resource": [all]},
        {"Effect": "Allow", "Principal": principal, "Resource": [objects],
         "Action": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]},
    ]});
    let put = s3.client().put_bucket_policy().bucket(&world.name).policy(policy.to_string());
    put.send().await.unwrap();
    let version = world.version_ready("net").await;
    stored_once(&world, &version).await;
    world.kubectl(&["delete", "version", "net"]);
    world.objects_are(0).await;
}

#[tokio::test]
async fn keys_that_s3_does_not_know_are_told_from_a_missing_right() {
    let world = World::new("bad-keys").await;
    world.released("net");
    let wrong = "wrong-secret-access-key-0123456789";
    let operator = world.builder().env("AWS_SECRET_ACCESS_KEY", wrong).start_ready().await.unwrap();
    world.apply(&world.inline("net"));
    let words = ["S3 rejects the operator's credentials (SignatureDoesNotMatch)"];
    world.failed("net", "StorageCredentialsInvalid", Retried, &words).await;
    world.nothing_stored_nor_told(&operator, &[wrong]).await;
    // The answer to a HEAD has no body. That to a GET shows that no header is the reason.
    let requests = world.bed.s3.requests(&world.name).into_iter().filter(|r| !r.key.is_empty());
    let methods: Vec<Method> = requests.map(|r| r.method).take(2).collect();
    assert_eq!(methods, [Method::HEAD, Method::GET]);
}

#[tokio::test]
async fn a_file_with_keys_is_read_again_until_they_work() {
    let world = World::new("late-keys").await;
    world.released("net");
    let root = world.bed.s3.root();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("credentials");
    let builder = world.builder().env("AWS_ACCESS_KEY_ID", "").env("AWS_SECRET_ACCESS_KEY", "");
    let builder = builder.env("AWS_EC2_METADATA_DISABLED", "true").env("AWS_SHARED_CREDENTIALS_FILE", &file);
    // Half a file: it is being written.
    std::fs::write(&file, "[default\naws_access_key_id = x\n").unwrap();
    let _operator = builder.start_ready().await.unwrap();
    world.apply(&world.inline("net"));
    let words = ["could not parse profile file", "correct the AWS profile"];
    world.failed("net", "StorageCredentialsInvalid", Retried, &words).await;
    // A kind that is not supported.
    std::fs::write(&file, "[default]\ncredential_process = /bin/cat keys.json\n").unwrap();
    let export = "aws configure export-credentials --format env";
    world.version_when("net", |v| v["status"]["syncStatus"].as_str().unwrap().contains(export)).await;
    let whole = format!(
        "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
        root.access_key, root.secret_key
    );
    std::fs::write(&file, whole).unwrap();
    world.request("version/net", "written");
    world.version_ready("net").await;
}

#[tokio::test]
async fn an_outage_passes_without_anybody_doing_anything() {
    let world = World::new("outage").await;
    let s3 = &world.bed.s3;
    let bucket = &*world.name;
    // A store that gives no answer for some seconds is asked less, for all objects of its bucket.
    let silent = format!("{bucket}-silent");
    s3.create_bucket(&silent).await.unwrap();
    let cases = [
        ("cut", &*silent, S3Failure::CutBefore, "StorageUnavailable", "no answer from S3"),
        ("error", bucket, S3Failure::Answer(500, "InternalError"), "StorageUnavailable", "HTTP 500"),
        ("busy", bucket, S3Failure::Answer(503, "SlowDown"), "StorageThrottled", "S3 throttles requests"),
        (
            "delayed",
            bucket,
            S3Failure::RetryAfter(503, "SlowDown", 3),
            "StorageThrottled",
            "S3 throttles requests",
        ),
    ];
    let operator = world.operator().await;
    for (name, bucket, failure, ..) in &cases {
        // A HEAD's 503 does not say why; a PUT's does.
        s3.inject(S3Fault::new(bucket, failure.clone()).prefix(&format!("{name}/")).method(Method::PUT));
        world.released(name);
        world.apply(&world.inline_of(name, &world.module(name).s3("bucket", json!(bucket))));
    }
    for (name, bucket, _, reason, word) in &cases {
        let place = format!("s3://{bucket}/{name}/");
        world.failed(name, reason, Retried, &[&place, word]).await;
    }
    world.nothing_stored_nor_told(&operator, &[&s3.root().secret_key]).await;
    assert_eq!(s3.keys(&silent).await.unwrap(), [""; 0]);
    for bucket in [bucket, &*silent] {
        s3.clear_faults(bucket);
    }
    for (name, _, _, reason, _) in &cases {
        world.version_ready(name).await;
        world.warned_once(name, reason).await;
    }
    for (bucket, count) in [(bucket, 3), (&*silent, 1)] {
        assert_eq!(s3.keys(bucket).await.unwrap().len(), count, "{bucket}");
    }
}

#[tokio::test]
async fn a_lost_answer_to_a_store_leaves_one_object_with_the_right_checksum() {
    let world = World::new("lost").await;
    let s3 = &world.bed.s3;
    world.released("net");
    // Once, so that the client's own retry meets the object; and for so long that a whole attempt is lost.
    for (times, expected) in [(1, vec![None, Some(412)]), (3, vec![None, None, None])] {
        let fault = S3Fault::new(&world.name, S3Failure::CutAfter).method(Method::PUT);
        s3.inject(fault.times(times));
        let operator = world.operator().await;
        world.apply(&world.inline("net"));
        let version = world.version_ready("net").await;
        stored_once(&world, &version).await;
        let puts = s3.requests(&world.name).into_iter();
        let puts = puts.filter(|r| r.method == Method::PUT && !r.key.is_empty());
        let statuses: Vec<Option<u16>> = puts.map(|r| r.status).collect();
        assert_eq!(statuses, expected, "stored by the first, and by no other");
        world.kubectl(&["delete", "version", "net"]);
        world.objects_are(0).await;
        s3.clear_faults(&world.name);
        s3.forget_requests(&world.name);
        operator.terminate(SOON).await.unwrap();
    }
}

#[tokio::test]
async fn an_object_that_is_not_ours_is_neither_overwritten_nor_deleted() {
    let world = World::new("foreign").await;
    let s3 = &world.bed.s3;
    world.released("net");
    let place = |name: &str, file: &str| {
        let mut version = world.inline_of(name, &world.module("net").config("name", json!("net")));
        version["spec"]["fileName"] = json!(file);
        version
    };
    s3.put(&world.name, "net/nobodys.zip", "a user's only copy").await.unwrap();
    let operator = world.operator().await;
    world.apply(&place("owner", "owned.zip"));
    let owner = world.version_ready("owner").await;
    let before = world.stored(&owner).await;
    world.apply(&place("unknown", "nobodys.zip"));
    world.apply(&place("other", "owned.zip"));
    let at = |file: &str| format!("s3://{}/net/{file}", world.name);
    let words = [&*at("nobodys.zip"), "was not stored by OpenDepot", "Choose another"];
    world.failed("unknown", "ObjectNotOurs", Stalled, &words).await;
    let owned_by = format!("belongs to Version owner in namespace {}", world.name);
    world.failed("other", "ObjectNotOurs", Stalled, &[&at("owned.zip"), &owned_by]).await;
    world.warned_once("other", "ObjectNotOurs").await;

    // Not even by force; and a deletion does not touch it.
    for name in ["unknown", "other"] {
        world.patch(&format!("version/{name}"), &json!({"spec": {"forceSync": true}}));
        world.version_when(name, |v| v["spec"]["forceSync"] == false).await;
        world.failed(name, "ObjectNotOurs", Stalled, &[]).await;
        world.kubectl(&["delete", "version", name]);
    }
    assert_eq!(s3.get(&world.name, "net/nobodys.zip").await.unwrap(), b"a user's only copy");
    assert_eq!(world.stored(&owner).await, before);
    assert_eq!(condition(&world.get_version("owner").await.unwrap().unwrap(), "Ready")["status"], "True");
    drop(operator);
}

#[tokio::test]
async fn a_404_or_200_of_somebody_who_is_not_s3_lets_no_object_go_astray() {
    let world = World::new("stranger").await;
    let cases = [
        ("backend", S3Failure::Answer(404, "DefaultBackend"), None),
        ("page", S3Failure::Page(200), None),
        ("page-for-delete", S3Failure::Page(200), Some(Method::DELETE)),
    ];
    let _operator = world.operator().await;
    for (name, ..) in &cases {
        world.released(name);
        world.apply(&world.inline(name));
    }
    for (name, failure, method) in &cases {
        world.version_ready(name).await;
        let fault = S3Fault::new(&world.name, failure.clone()).prefix(&format!("{name}/"));
        world.bed.s3.inject(match method {
            Some(method) => fault.method(method.clone()),
            None => fault,
        });
        world.kubectl(&["delete", "version", name, "--wait=false"]);
    }
    for (name, ..) in &cases {
        world.version_fails(name, "StorageUnavailable").await;
    }
    assert_eq!(world.bed.s3.keys(&world.name).await.unwrap().len(), cases.len());
    world.bed.s3.clear_faults(&world.name);
    world.versions_are(&[]).await;
    world.objects_are(0).await;
}

#[tokio::test]
async fn an_object_that_is_gone_holds_up_no_deletion_where_the_store_forbids_deletes() {
    let world = World::new("gone-locked").await;
    let s3 = &world.bed.s3;
    world.released("net");
    let _operator = world.operator().await;
    world.apply(&world.inline("net"));
    let version = world.version_ready("net").await;
    s3.client().delete_object().bucket(&world.name).key(key(&version)).send().await.unwrap();
    let forbidden = S3Failure::Answer(405, "MethodNotAllowed");
    s3.inject(S3Fault::new(&world.name, forbidden).method(Method::DELETE));
    world.kubectl(&["delete", "version", "net", "--wait=false"]);
    world.versions_are(&[]).await;
}

#[tokio::test]
async fn a_store_that_knows_no_conditions_is_asked_without() {
    let world = World::new("unconditional").await;
    world.released("net");
    let unknown = S3Failure::Answer(501, "NotImplemented");
    world.bed.s3.inject(S3Fault::new(&world.name, unknown).method(Method::PUT).times(1));
    let operator = world.operator().await;
    world.apply(&world.inline("net"));
    let version = world.version_ready("net").await;
    stored_once(&world, &version).await;
    let puts = world.bed.s3.requests(&world.name).into_iter().filter(|r| r.method == Method::PUT);
    assert_eq!(puts.filter(|r| !r.key.is_empty()).count(), 2);
    assert!(!operator.log().contains("Warning Event"), "it failed in between");
}

#[tokio::test]
async fn a_store_that_hangs_holds_up_no_other_whatever_it_is_asked_for() {
    let world = World::new("hangs").await;
    let names: Vec<String> = (0..24).map(|n| format!("old-{n}")).collect();
    for name in &names {
        world.released(name);
        world.apply(&world.inline(name));
    }
    let _operator = world.operator_with(&["--max-fetches", "2"]).await;
    for name in &names {
        world.version_ready(name).await;
    }
    let alive = format!("{}-alive", world.name);
    world.bed.s3.create_bucket(&alive).await.unwrap();
    world.released("net");
    let net = world.inline_of("net", &world.module("net").s3("bucket", json!(alive)));
    let net = serde_json::from_value(net).unwrap();
    // More deletions, and forced syncs, than there are turns, all of one dead store. They fail after 20 s.
    world.bed.s3.inject(S3Fault::new(&world.name, S3Failure::Hang));
    let (going, forced) = names.split_at(18);
    let again = json!({"metadata": {"annotations": {"opendepot.defdev.io/requestedAt": "again"}}});
    delete_versions(&world, going).await;
    join_all(forced.iter().map(|name| patch::<Version>(&world, name, &again))).await;
    world.api::<Version>().create(&PostParams::default(), &net).await.unwrap();
    world.version_ready("net").await;
    delete_versions(&world, &["net".to_owned()]).await;
    gone(&world, "net").await;
    assert_eq!(world.bed.s3.keys(&alive).await.unwrap(), [""; 0]);
    // It did not pass because another wait had ended.
    for version in world.versions().await.unwrap() {
        assert_ne!(
            condition(&version, "Ready")["reason"],
            "StorageUnavailable",
            "{}",
            version["metadata"]["name"]
        );
    }
}

#[tokio::test]
async fn a_version_that_never_came_as_far_as_its_bucket_is_deleted_without_it() {
    let world = World::new("never-stored").await;
    for name in ["mod", "inline"] {
        world.released(name);
    }
    let denied = S3Failure::Answer(403, "AccessDenied");
    world.bed.s3.inject(S3Fault::new(&world.name, denied));
    let operator = world.operator().await;
    world.apply(&world.module("mod").versions(&["v1.0.0"]));
    world.apply(&world.inline("inline"));
    for name in ["mod-1.0.0", "inline"] {
        world.version_fails(name, "StorageAccessDenied").await;
    }
    operator.restart().await.unwrap();
    world.kubectl(&[
        "delete",
        "--wait=false",
        "modules.opendepot.defdev.io/mod",
        "versions.opendepot.defdev.io/inline",
    ]);
    world.versions_are(&[]).await;
    let deletes = world.bed.s3.requests(&world.name).iter().filter(|r| r.method == Method::DELETE).count();
    assert_eq!(deletes, 0, "there was nothing to delete");
}

#[tokio::test]
async fn one_that_was_restored_into_an_outage_and_is_deleted_leaves_no_object() {
    let world = World::new("restored-dark").await;
    let s3 = &world.bed.s3;
    let mut manifests = Vec::new();
    for (name, file_name) in [("named", json!("named-1.0.0.zip")), ("derived", json!(null))] {
        world.released(name);
        let mut manifest = world.inline(name);
        manifest["spec"]["fileName"] = file_name;
        world.apply(&manifest);
        manifests.push(manifest);
    }
    let operator = world.operator().await;
    for name in ["named", "derived"] {
        world.version_ready(name).await;
    }
    // A cluster that is lost, and another one whose store is away at first.
    operator.terminate(SOON).await.unwrap();
    for name in ["named", "derived"] {
        world.patch(&format!("version/{name}"), &json!({"metadata": {"finalizers": null}}));
        world.kubectl(&["delete", "version", name]);
    }
    s3.inject(S3Fault::new(&world.name, S3Failure::Answer(503, "ServiceUnavailable")).method(Method::HEAD));
    for manifest in &manifests {
        world.apply(manifest);
    }
    operator.restart().await.unwrap();
    for name in ["named", "derived"] {
        world.version_fails(name, "StorageUnavailable").await;
    }
    world.kubectl(&["delete", "version", "named", "derived", "--wait=false"]);
    for name in ["named", "derived"] {
        let waits = |v: &Value| crate::support::requests::message(v).contains("The Version is kept until");
        world.version_when(name, waits).await;
    }
    assert_eq!(s3.keys(&world.name).await.unwrap().len(), 2);
    // The store is back, and the right to delete is missing.
    operator.terminate(SOON).await.unwrap();
    s3.clear_faults(&world.name);
    s3.inject(S3Fault::new(&world.name, S3Failure::Answer(403, "AccessDenied")).method(Method::DELETE));
    operator.restart().await.unwrap();
    for name in ["named", "derived"] {
        world.version_fails(name, "StorageAccessDenied").await;
    }
    s3.clear_faults(&world.name);
    world.versions_are(&[]).await;
    world.objects_are(0).await;
}
