//! The policies in `examples/aws` give the operator and the registry all that they need, and nothing that they do not need.

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use opendepot_testbed::s3::{S3Failure, S3Fault, S3User};
use opendepot_testbed::terraform::Terraform;
use serde_json::{Value, json};

use crate::support::failing::Then::Retried;
use crate::support::registry::{Depot, archive};
use crate::support::{World, ready, root};

/// The operator's policy for this user and bucket, as the bucket's own policy.
fn policy(user: &S3User, bucket: &str) -> Value {
    of_example("s3-policy.json", user, bucket)
}

/// The policy of an example for this user and bucket, as the bucket's own policy.
fn of_example(file: &str, user: &S3User, bucket: &str) -> Value {
    let text = std::fs::read_to_string(root().join("examples/aws").join(file)).unwrap();
    let mut policy: Value = serde_json::from_str(&text.replace("opendepot-modules", bucket)).unwrap();
    for statement in policy["Statement"].as_array_mut().unwrap() {
        statement["Principal"] = json!({"AWS": [user.access_key]});
    }
    policy
}

/// Takes one action out of a policy; a statement without actions is removed as a whole.
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
    // What AWS says of a missing object to those who may not list; this server answers that it is missing.
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

fn installs(client: &Terraform) {
    client.forget().unwrap();
    let done = client.run(&["init", "-no-color", "-input=false"]);
    done.unwrap_or_else(|error| panic!("{}: {error:#}", client.name()));
    assert!(client.module("it").join("main.tf").exists(), "{}", client.name());
}

/// The registry's policy.
fn reading(user: &S3User, bucket: &str) -> Value {
    let policy = of_example("registry-policy.json", user, bucket);
    let actions = policy["Statement"].as_array().unwrap().iter().map(|s| s["Action"].clone());
    let actions: Vec<Value> = actions.collect();
    assert_eq!(json!(actions), json!([["s3:ListBucket"], ["s3:GetObject"]]));
    policy
}

/// The code of an answer that is an error.
fn code<T, E: ProvideErrorMetadata>(answer: Result<T, SdkError<E>>) -> String {
    answer.err().and_then(|error| error.code().map(ToOwned::to_owned)).unwrap_or_default()
}

#[tokio::test]
async fn the_registrys_policy_is_enough_to_install_and_for_nothing_else() {
    let depot = Depot::new("policy-registry").await;
    let (bucket, s3) = (&depot.world.name, &depot.world.bed.s3);
    let main = "output \"greeting\" {\n  value = \"hello\"\n}\n";
    depot.publish("net", &[("1.0.0", archive(main, 1000)), ("1.1.0", archive(main, 0))]).await;
    let user = s3.create_user().unwrap();
    grant(&depot.world, bucket, &reading(&user, bucket)).await;
    let builder = |mode: &str| {
        let builder = depot.builder().args(["--download", mode]).env("AWS_ACCESS_KEY_ID", &user.access_key);
        builder.env("AWS_SECRET_ACCESS_KEY", &user.secret_key)
    };
    let redirecting = builder("redirect").start_ready().await.unwrap();
    let streaming = builder("stream").start_ready().await.unwrap();
    for registry in [&redirecting, &streaming] {
        for client in depot.installers(registry.registry_address(), "net", "1.0.0") {
            installs(&client);
        }
    }

    // Nothing can be written or deleted with it, by whatever means.
    let before = s3.keys(bucket).await.unwrap();
    let client = s3.client_of(&user);
    let key = "net/1.0.0.zip";
    let put =
        client.put_object().bucket(bucket).key(key).body(ByteStream::from_static(b"other")).send().await;
    let made = client.put_object().bucket(bucket).key("net/new.zip").send().await;
    let deleted = client.delete_object().bucket(bucket).key(key).send().await;
    let copied =
        client.copy_object().bucket(bucket).key("net/copy.zip").copy_source(format!("{bucket}/{key}"));
    let policy = client.delete_bucket_policy().bucket(bucket).send().await;
    let codes = [code(put), code(made), code(deleted), code(copied.send().await), code(policy)];
    assert_eq!(codes, ["AccessDenied"; 5]);
    assert_eq!(s3.keys(bucket).await.unwrap(), before);
    assert_eq!(s3.get(bucket, key).await.unwrap(), archive(main, 1000));

    // With the right to list, a missing object is distinguished from one that is refused.
    let base = format!("https://{}", streaming.registry_address());
    let answer = |version: &'static str| {
        let (depot, base) = (&depot, &base);
        async move {
            let url = depot.archive_url(base, "net", version).await.unwrap();
            let answer = depot.get(&url, &[]).await.unwrap();
            (answer.status, answer.text())
        }
    };
    s3.delete(bucket, "net/1.1.0.zip").await.unwrap();
    let (status, text) = answer("1.1.0").await;
    assert!(status == 503 && text.contains("is being restored"), "{status}: {text}");
    // What AWS answers without that right; this store shows that the object is missing.
    s3.inject(S3Fault::new(bucket, S3Failure::HideMissing));
    let (status, text) = answer("1.1.0").await;
    assert!(status == 503 && text.contains("cannot read the archive in the store"), "{status}: {text}");
    grant(&depot.world, bucket, &without(reading(&user, bucket), "s3:GetObject")).await;
    let (status, text) = answer("1.0.0").await;
    assert!(status == 503 && text.contains("cannot read the archive in the store"), "{status}: {text}");
    depot.world.nothing_told(&streaming, &[&user.secret_key]);
    depot.world.nothing_told(&redirecting, &[&user.secret_key]);
    crate::monitoring::has_the_metrics_of_the_registrys_rules(&streaming.metrics().await.unwrap());
    crate::monitoring::measures_itself(&streaming).await;
}
