//! The policy in `examples/aws/s3-policy.json` gives the operator all that it needs, and nothing that it does not need.

use opendepot_testbed::s3::{S3Failure, S3Fault, S3User};
use serde_json::{Value, json};

use crate::support::failing::Then::Retried;
use crate::support::{World, ready, root};

/// The example's policy for this user and bucket, as the bucket's own policy.
fn policy(user: &S3User, bucket: &str) -> Value {
    let text = std::fs::read_to_string(root().join("examples/aws/s3-policy.json")).unwrap();
    let mut policy: Value = serde_json::from_str(&text.replace("opendepot-modules", bucket)).unwrap();
    for statement in policy["Statement"].as_array_mut().unwrap() {
        statement["Principal"] = json!({"AWS": [user.access_key]});
    }
    policy
}

/// Takes one action out of a policy; a statement without actions goes as a whole.
fn without(mut policy: Value, action: &str) -> Value {
    let statements = policy["Statement"].as_array_mut().unwrap();
    let before = statements.clone();
    for statement in statements.iter_mut() {
        statement["Action"].as_array_mut().unwrap().retain(|a| a != action);
    }
    statements.retain(|statement| statement["Action"] != json!([]));
    assert_ne!(*statements, before, "{action} is in the policy");
    policy
}

async fn grant(world: &World, bucket: &str, policy: &Value) {
    let put = world.bed.s3.client().put_bucket_policy().bucket(bucket).policy(policy.to_string());
    put.send().await.unwrap();
}

#[tokio::test]
async fn the_policy_of_the_examples_is_enough_for_a_whole_life() {
    let world = World::new("policy").await;
    let user = world.bed.s3.create_user().unwrap();
    // Narrowed to a prefix, as the documentation says how.
    let narrowed = policy(&user, &world.name).to_string().replace("/*\"", "/team/*\"");
    grant(&world, &world.name, &serde_json::from_str(&narrowed).unwrap()).await;
    world.released("net");
    let operator = world.builder().env("AWS_ACCESS_KEY_ID", &user.access_key);
    let operator = operator.env("AWS_SECRET_ACCESS_KEY", &user.secret_key);
    let _operator = operator.args(["--verify-interval", "1s"]).start_ready().await.unwrap();
    world.apply(&world.module("net").s3("key", json!("team")).versions(&["1.0.0"]));
    let stored = world.version_ready("net-1.0.0").await;

    world.patch("module/net", &json!({"spec": {"moduleConfig": {"name": "moved"}}}));
    let place = |v: &Value| v["status"]["storage"]["key"].as_str().unwrap_or_default().to_owned();
    let moved = world.version_when("net-1.0.0", |v| ready(v) && place(v).starts_with("team/moved/")).await;
    assert_ne!(place(&stored), place(&moved));
    assert_eq!(world.objects_are(1).await, [place(&moved)]);

    world.bed.s3.delete(&world.name, &place(&moved)).await.unwrap();
    assert_eq!(world.objects_are(1).await, [place(&moved)], "a lost object is restored");
    world.version_ready("net-1.0.0").await;
    world.kubectl(&["delete", "module", "net"]);
    world.versions_are(&[]).await;
    world.objects_are(0).await;
}

#[tokio::test]
async fn without_any_one_of_its_actions_something_fails_and_names_it() {
    let world = World::new("lacking").await;
    let s3 = &world.bed.s3;
    let user = s3.create_user().unwrap();
    let bucket = |name: &str| format!("{}-{name}", world.name);
    for (name, action) in [
        ("get", "s3:GetObject"),
        ("put", "s3:PutObject"),
        ("list", "s3:ListBucket"),
        ("delete", "s3:DeleteObject"),
    ] {
        s3.create_bucket(&bucket(name)).await.unwrap();
        grant(&world, &bucket(name), &without(policy(&user, &bucket(name)), action)).await;
        world.released(name);
    }
    // What AWS says of a missing object to those who may not list; this server tells them that it is missing.
    s3.inject(S3Fault::new(&bucket("list"), S3Failure::HideMissing));
    let operator = world.builder().env("AWS_ACCESS_KEY_ID", &user.access_key);
    let operator = operator.env("AWS_SECRET_ACCESS_KEY", &user.secret_key).start_ready().await.unwrap();
    for name in ["get", "put", "list", "delete"] {
        world.apply(&world.inline_of(name, &world.module(name).s3("bucket", json!(bucket(name)))));
    }
    for (name, right) in
        [("get", "s3:GetObject"), ("put", "s3:PutObject"), ("list", "s3:ListBucket on the bucket")]
    {
        world.failed(name, "StorageAccessDenied", Retried, &[&bucket(name), right]).await;
    }
    world.version_ready("delete").await;
    world.kubectl(&["delete", "version", "delete", "--wait=false"]);
    let message = world.version_fails("delete", "StorageAccessDenied").await;
    assert!(message.contains("s3:DeleteObject"), "{message}");
    world.nothing_told(&operator, &[&user.secret_key]);
    grant(&world, &bucket("delete"), &policy(&user, &bucket("delete"))).await;
    world.request("version/delete", "now");
    world.versions_are(&["get", "list", "put"]).await;
}
