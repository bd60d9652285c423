//! Two namespaces of one operator, and so of one AWS identity: whatever one of them writes to reach what the other has, it
//! gets a condition, and the other's objects, statuses and credentials are as before.

use std::net::TcpListener;

use kube::api::{Patch, PatchParams};
use opendepot_testbed::github::{File, Hop};
use opendepot_testbed::operator::Operator;
use serde_json::{Value, json};

use crate::support::failing::Then::Stalled;
use crate::support::{World, condition, ready, whole_cluster};

const REQUESTED_AT: &str = "opendepot.defdev.io/requestedAt";

/// What one namespace has published, as it was before the other came.
struct Published {
    world: World,
    module: Value,
    version: Value,
    objects: Vec<(String, Vec<u8>, String)>,
}

impl Published {
    /// A Module `net` with 1.0.0, immutable, with one request handled, all in the namespace's own bucket.
    async fn publish(world: World, key: &str) -> Self {
        world.released("net").release("v2.0.0", &[File::new("main.tf", "# next\n")]).unwrap();
        let module = world.module("net").config("immutable", json!(true)).s3("key", json!(key));
        world.apply(&module.versions(&["1.0.0"]));
        world.module_ready("net").await;
        world.request("version/net-1.0.0", "token-of-the-owner");
        world.version_when("net-1.0.0", |v| v["status"]["lastHandledRequest"] == "token-of-the-owner").await;
        world.quiet().await;
        let (module, version) = (world.module_ready("net").await, world.version_ready("net-1.0.0").await);
        let objects = objects(&world).await;
        Self { world, module, version, objects }
    }

    fn place(&self) -> &Value {
        &self.version["status"]["storage"]
    }

    /// A Version of another namespace that names this one's object as its own.
    fn aimed_at(&self, by: &World, name: &str) -> Value {
        let mut version = by.inline(name);
        version["spec"]["moduleConfigRef"] = self.version["spec"]["moduleConfigRef"].clone();
        version["spec"]["fileName"] = self.version["spec"]["fileName"].clone();
        version
    }

    /// Nothing was written to what is here, not even the same once more.
    async fn is_unharmed(&self) {
        let now = [
            self.world.get_module("net").await.unwrap(),
            self.world.get_version("net-1.0.0").await.unwrap().expect("it is there"),
        ];
        assert_eq!(now, [self.module.clone(), self.version.clone()]);
        let now = objects(&self.world).await;
        let mine = now.iter().filter(|(key, ..)| self.objects.iter().any(|(own, ..)| own == key));
        assert!(mine.eq(self.objects.iter()), "the objects were rewritten or deleted");
    }
}

/// Key, bytes, and what HEAD says of when and as whose they were stored.
async fn objects(world: &World) -> Vec<(String, Vec<u8>, String)> {
    let mut objects = Vec::new();
    for key in world.bed.s3.keys(&world.name).await.unwrap() {
        let head = world.bed.s3.client().head_object().bucket(&world.name).key(&key).send().await.unwrap();
        let bytes = world.bed.s3.get(&world.name, &key).await.unwrap();
        let mut metadata: Vec<_> = head.metadata().into_iter().flatten().collect();
        metadata.sort();
        objects.push((key, bytes, format!("{:?} {metadata:?}", head.last_modified())));
    }
    objects
}

/// Two namespaces, and one operator for both.
async fn tenants(name: &str, args: impl Fn(&World, &World) -> Vec<String>) -> (World, World, Operator) {
    let (owner, other) = (World::new(name).await, World::new(&format!("{name}-other")).await);
    let args = [vec!["--namespace".to_owned(), other.name.clone()], args(&owner, &other)].concat();
    let operator = owner.operator_with(&args.iter().map(String::as_str).collect::<Vec<_>>()).await;
    (owner, other, operator)
}

async fn write_status(world: &World, name: &str, status: &Value) {
    let api = opendepot::controller::client::objects::<opendepot::api::Version>(&world.client, &world.name);
    let patch = Patch::Merge(json!({"status": status}));
    api.patch_status(name, &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test]
async fn a_version_that_names_another_namespaces_object_gets_only_a_condition() {
    let (owner, other, operator) = tenants("aimed", |_, _| Vec::new()).await;
    let published = Published::publish(owner, "modules").await;
    let plain = published.aimed_at(&other, "plain");
    // With the name of the Version that made the object, and all that its metadata says.
    let mut twin = published.aimed_at(&other, "net-1.0.0");
    twin["metadata"]["labels"] = published.version["metadata"]["labels"].clone();
    twin["metadata"]["annotations"] = json!({REQUESTED_AT: "token-of-the-owner"});
    twin["spec"]["expectedDigest"] = published.version["status"]["contentDigest"].clone();
    let mut forced = published.aimed_at(&other, "forced");
    forced["spec"]["forceSync"] = json!(true);
    let mut retained = published.aimed_at(&other, "retained");
    retained["spec"]["moduleConfigRef"]["deletionPolicy"] = json!("Retain");
    // Other bytes, and another spelling of the same place.
    other.released("evil");
    let mut evil = published.aimed_at(&other, "evil");
    evil["spec"]["moduleConfigRef"]["repoUrl"] =
        other.inline("evil")["spec"]["moduleConfigRef"]["repoUrl"].clone();
    evil["spec"]["moduleConfigRef"]["storageConfig"]["s3"]["key"] = json!("modules/");
    evil["spec"]["moduleConfigRef"]["storageConfig"]["s3"]["endpoint"] =
        json!(format!("{}/", other.bed.s3.endpoint()));
    let attacks = [plain, twin, forced, retained, evil];
    for attack in &attacks {
        other.apply(attack);
    }
    let (bucket, key) =
        (published.place()["bucket"].as_str().unwrap(), published.place()["key"].as_str().unwrap());
    let owner_named = format!("belongs to Version net-1.0.0 in namespace {}", published.world.name);
    for attack in &attacks {
        let name = attack["metadata"]["name"].as_str().unwrap();
        let words = [&*format!("s3://{bucket}/{key}"), &owner_named, "neither overwritten nor deleted"];
        let version = other.failed(name, "ObjectNotOurs", Stalled, &words).await;
        assert!(version["status"]["objects"].is_null(), "{name}: nothing is on record as its own");
        other.warned_once(name, "ObjectNotOurs").await;
    }
    published.is_unharmed().await;
    assert_eq!(
        other.bed.github.requests(&other.repository("evil")).unwrap(),
        [],
        "nothing is fetched for it"
    );
    for attack in &attacks {
        other.kubectl(&["delete", "version", attack["metadata"]["name"].as_str().unwrap()]);
    }
    published.is_unharmed().await;
    other.nothing_told(&operator, &[&other.bed.s3.root().secret_key]);
}

#[tokio::test]
async fn a_status_that_lies_about_its_objects_deletes_and_replaces_none() {
    let (owner, other, _operator) = tenants("false-owner", |_, _| Vec::new()).await;
    let published = Published::publish(owner, "").await;
    let place = published.place().clone();

    // Left behind by a move that never was.
    other.released("moved");
    other.apply(&other.inline("moved"));
    let moved = other.version_ready("moved").await;
    let lie = json!({"objects": [place, moved["status"]["storage"]]});
    write_status(&other, "moved", &lie).await;
    let struck = |v: &Value| v["status"]["objects"] == json!([moved["status"]["storage"]]);
    other.version_when("moved", struck).await;
    published.is_unharmed().await;

    // Stored there already, with the right checksum or a wrong one.
    for (name, checksum) in
        [("same", published.version["status"]["checksum"].clone()), ("changed", json!("AAAA"))]
    {
        let mut version = published.aimed_at(&other, name);
        version["spec"]["suspend"] = json!(true);
        other.apply(&version);
        other.version_when(name, |v| condition(v, "Ready")["reason"] == "Suspended").await;
        let mut lie = published.version["status"].clone();
        lie["checksum"] = checksum;
        lie.as_object_mut().unwrap().remove("conditions");
        write_status(&other, name, &lie).await;
        other.patch(&format!("version/{name}"), &json!({"spec": {"suspend": false, "forceSync": true}}));
        other.version_when(name, |v| condition(v, "Ready")["reason"] == "ObjectNotOurs").await;
        other.kubectl(&["delete", "version", name]);
    }
    published.is_unharmed().await;
}

#[tokio::test]
async fn no_key_prefix_name_or_file_name_reaches_out_of_what_a_namespace_may_use() {
    let rules = |owner: &World, other: &World| {
        let rule =
            |namespace: &str, prefix: &str| format!("--allow-storage={namespace}={}/{prefix}", owner.name);
        vec![rule(&owner.name, "owner"), rule(&other.name, "other")]
    };
    let (owner, other, _operator) = tenants("prefixes", rules).await;
    let published = Published::publish(owner, "owner").await;
    let bucket = &published.world.name;
    let at = |name: &str, prefix: &str| {
        let module = other.module(name).s3("bucket", json!(bucket)).s3("key", json!(prefix));
        other.inline_of(name, &module)
    };
    let mut refused = 0;
    for (field, value) in [
        ("key", "other/../owner"),
        ("key", "other/.."),
        ("key", "./owner"),
        ("key", "/owner"),
        ("key", "other//owner"),
        ("key", "other\\..\\owner"),
        ("key", "other\n/../owner"),
        ("name", "../owner/net"),
        ("name", ".."),
        ("fileName", "../net.zip"),
        ("fileName", "..%2fnet.zip"),
        ("bucket", "arn:aws:s3:us-west-2:1:accesspoint/x"),
        ("bucket", "other/owner"),
        ("region", "us-west-2.evil.example"),
        ("secretName", "../../kube-system/secrets/x"),
    ] {
        let mut version = at("refused", "other");
        match field {
            "name" => version["spec"]["moduleConfigRef"]["name"] = json!(value),
            "fileName" => version["spec"]["fileName"] = json!(value),
            "secretName" => {
                version["spec"]["moduleConfigRef"]["githubClientConfig"] = json!({"secretName": value});
            }
            _ => version["spec"]["moduleConfigRef"]["storageConfig"]["s3"][field] = json!(value),
        }
        let output = other.bed.kubectl_with(&["apply", "-f", "-"], &version.to_string()).unwrap();
        assert!(!output.success() && output.stderr.contains(field), "{field} {value:?}: {}", output.stderr);
        refused += 1;
    }
    assert_eq!(refused, 15);
    for (name, prefix) in [
        ("theirs", "owner"),
        ("none", ""),
        ("case", "OTHER"),
        ("beside", "other-2"),
        ("above", "othe"),
        ("encoded", "%6Fther"),
        ("below-theirs", "owner/other"),
    ] {
        other.released(name);
        other.apply(&at(name, prefix));
        let flag = format!("--allow-storage {}={bucket}", other.name);
        other.failed(name, "StorageNotAllowed", Stalled, &[&flag]).await;
        assert_eq!(
            other.bed.github.requests(&other.repository(name)).unwrap(),
            [],
            "{name}: nothing is fetched"
        );
    }
    // What looks like a way up is a folder's name to S3, below the namespace's own prefix.
    other.released("literal");
    other.apply(&at("literal", "other/%2e%2e/owner"));
    let literal = other.version_ready("literal").await;
    assert!(literal["status"]["storage"]["key"].as_str().unwrap().starts_with("other/%2e%2e/owner/literal/"));
    published.is_unharmed().await;

    // A status that names a forbidden place keeps its own Version, with a condition, and reaches nothing.
    let lie = json!({"objects": [published.place(), literal["status"]["storage"]]});
    write_status(&other, "literal", &lie).await;
    other.kubectl(&["delete", "version", "literal", "--wait=false"]);
    let stuck = |v: &Value| condition(v, "Ready")["reason"] == "StorageNotAllowed";
    other.version_when("literal", |v| !v["metadata"]["deletionTimestamp"].is_null() && stuck(v)).await;
    other.patch("version/literal", &json!({"spec": {"moduleConfigRef": {"deletionPolicy": "Retain"}}}));
    other.kubectl(&["wait", "--for=delete", "version/literal", "--timeout=120s"]);
    published.is_unharmed().await;
}

#[tokio::test]
async fn a_token_is_given_to_nobody_who_does_not_hold_its_key() {
    let (owner, other, operator) = tenants("keys", |_, _| Vec::new()).await;
    let github = &owner.bed.github;
    let [first, second] = ["first", "second"].map(|name| owner.released(name).private(true));
    let app = github.app(&[&first.name(), &second.name()]).unwrap();
    let stranger = github.app(&[]).unwrap();
    owner.app_secret("app", &app);
    owner.apply(&owner.authenticated("first", "app"));
    owner.version_ready("first").await;
    assert_eq!(github.token_requests(app.installation).len(), 1);
    github.forget_requests(&first.name()).unwrap();

    // The numbers of the App and its installation are no secret; the key is.
    let (id, installation) = (app.id.to_string(), app.installation.to_string());
    other.secret(
        "guessed",
        &[
            ("githubAppID", &id),
            ("githubInstallID", &installation),
            ("githubPrivateKey", &stranger.pkcs1_pem),
        ],
    );
    let of_the_owner = |name: &str, secret: &str| {
        let mut version = other.authenticated(name, secret);
        version["spec"]["moduleConfigRef"]["repoUrl"] = json!(first.url());
        version
    };
    other.apply(&of_the_owner("guessed", "guessed"));
    other.apply(&of_the_owner("borrowed", "app"));
    let words =
        [&*format!("does not create a token for installation {installation} of App {id}"), "HTTP 401"];
    other.failed("guessed", "CredentialsRefused", Stalled, &words).await;
    let missing = format!("Secret app does not exist in namespace {}", other.name);
    other.failed("borrowed", "SecretNotFound", Stalled, &[&missing]).await;
    assert_eq!(github.requests(&first.name()).unwrap(), [], "the repository is not asked for with any token");

    // The owner's token is still the one, and still good.
    let minted = github.token_requests(app.installation).len();
    owner.apply(&owner.authenticated("second", "app"));
    owner.version_ready("second").await;
    assert_eq!(
        github.token_requests(app.installation).len(),
        minted,
        "refusing the other has cost it nothing"
    );
    let statuses = github.requests(&second.name()).unwrap();
    assert!(
        statuses.iter().filter(|r| r.hop == Hop::Api).all(|r| matches!(r.status, Some(302 | 404))),
        "{statuses:?}"
    );
    other.nothing_stored_nor_told(&operator, &[]).await;
}

#[tokio::test]
async fn an_endpoint_of_ones_own_sees_no_request_and_so_no_credential() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let own = format!("http://{}", listener.local_addr().unwrap());
    let (owner, other, operator) = tenants("catcher", |_, _| Vec::new()).await;
    let published = Published::publish(owner, "").await;
    let s3 = other.bed.s3.endpoint();
    for (name, endpoint) in [
        ("own", own.clone()),
        ("suffixed", format!("{s3}.evil.example")),
        ("like-aws", "https://s3.us-west-2.amazonaws.com.evil.example".to_owned()),
        ("other-region", "https://s3.eu-west-1.amazonaws.com".to_owned()),
    ] {
        other.released(name);
        other.apply(&other.inline_of(name, &other.module(name).s3("endpoint", json!(endpoint))));
        other.failed(name, "EndpointNotAllowed", Stalled, &[]).await;
    }
    for endpoint in
        [format!("{s3}@evil.example"), format!("{s3}/path"), format!("{s3}?x"), "ftp://evil".into()]
    {
        let version = other.inline_of("refused", &other.module("refused").s3("endpoint", json!(endpoint)));
        let output = other.bed.kubectl_with(&["apply", "-f", "-"], &version.to_string()).unwrap();
        assert!(output.stderr.contains("endpoint"), "{endpoint}: {}", output.stderr);
    }
    // Nor by way of a status: not to compare the bytes that are fetched with those of the recorded object, nor on the way out.
    other.released("lie");
    other.apply(&other.inline("lie"));
    let lie = other.version_ready("lie").await;
    let mut place = lie["status"]["storage"].clone();
    place["endpoint"] = json!(own);
    write_status(&other, "lie", &json!({"objects": [place], "storage": place, "checksum": "AAAA"})).await;
    other.patch("version/lie", &json!({"spec": {"forceSync": true}}));
    let synced = |v: &Value| ready(v) && v["spec"]["forceSync"] == false;
    let again = other.version_when("lie", synced).await;
    assert_eq!(again["status"]["storage"], lie["status"]["storage"]);
    write_status(&other, "lie", &json!({"objects": [place], "storage": place})).await;
    other.kubectl(&["delete", "version", "lie", "--wait=false"]);
    other
        .version_when("lie", |v| {
            !v["metadata"]["deletionTimestamp"].is_null()
                && condition(v, "Ready")["reason"] == "EndpointNotAllowed"
        })
        .await;
    let error = listener.accept().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "something was sent to the other endpoint");
    published.is_unharmed().await;
    other.nothing_told(&operator, &[&other.bed.s3.root().secret_key, &other.bed.s3.root().access_key]);
}

#[tokio::test]
async fn metadata_is_believed_only_where_it_names_this_very_version() {
    let (owner, other, _operator) = tenants("metadata", |_, _| Vec::new()).await;
    let published = Published::publish(owner, "").await;
    let repository = other.released("net");
    let (bucket, key) =
        (published.place()["bucket"].as_str().unwrap(), published.place()["key"].as_str().unwrap());
    let client = other.bed.s3.client();
    let as_owner = |namespace: &str, version: &str| {
        [("opendepot-namespace", namespace.to_owned()), ("opendepot-version-name", version.to_owned())]
    };
    // The owner's object with all it says of itself, and objects with metadata of another owner, at places of the other.
    let copy =
        client.copy_object().bucket(&other.name).key("net/copied.zip").copy_source(format!("{bucket}/{key}"));
    copy.send().await.unwrap();
    let forged = [
        ("neighbour", as_owner(&other.name, "another-owner")),
        ("namesake", as_owner(&published.world.name, "namesake")),
        ("prefix", as_owner(&other.name, "prefix-2")),
        ("swapped", as_owner("swapped", &other.name)),
    ];
    for (name, metadata) in &forged {
        let put = client.put_object().bucket(&other.name).key(format!("net/{name}.zip"));
        let put = metadata.iter().fold(put, |put, (key, value)| put.metadata(*key, value));
        put.body(b"a lie".to_vec().into()).send().await.unwrap();
    }
    let names: Vec<&str> = forged.iter().map(|(name, _)| *name).chain(["copied"]).collect();
    let before = objects(&other).await;
    for name in &names {
        let mut version = other.inline_of(name, &other.module("net").config("name", json!("net")));
        version["spec"]["fileName"] = json!(format!("{name}.zip"));
        other.apply(&version);
    }
    for name in &names {
        other.failed(name, "ObjectNotOurs", Stalled, &["belongs to Version"]).await;
        other.kubectl(&["delete", "version", name]);
    }
    assert_eq!(objects(&other).await, before);
    assert_eq!(other.bed.github.requests(&repository.name()).unwrap(), [], "nothing is fetched");
    published.is_unharmed().await;
}

#[tokio::test]
async fn a_version_that_claims_another_namespaces_module_is_ignored() {
    // Under one watch for all namespaces.
    let (_turn, bed) = whole_cluster().await;
    let (owner, other) = (World::on(bed, "claims").await, World::on(bed, "claims-other").await);
    let _operator = bed.operator().start_ready().await.unwrap();
    let published = Published::publish(owner, "").await;
    let repository = other.bed.github.repository(&other.repository("net")).unwrap();
    repository.release("v9.0.0", &[File::new("main.tf", "# newer\n")]).unwrap();
    let mut claim = other.inline("net-9.0.0");
    claim["spec"]["version"] = json!("9.0.0");
    claim["spec"]["moduleConfigRef"]["repoUrl"] = json!(repository.url());
    claim["metadata"]["labels"] = published.version["metadata"]["labels"].clone();
    // Held, since Kubernetes' garbage collector deletes what names an owner in another namespace.
    claim["metadata"]["finalizers"] = json!(["opendepot.defdev.io/stored-object", "example.com/hold"]);
    claim["metadata"]["ownerReferences"] = published.version["metadata"]["ownerReferences"].clone();
    claim["metadata"]["annotations"] = json!({"opendepot.defdev.io/adopt": "net"});
    other.apply(&claim);
    write_status(&other, "net-9.0.0", &json!({"synced": true, "contentDigest": "h1:of-another"})).await;
    published.world.kubectl(&["annotate", "module", "net", "look=again"]);
    published.world.quiet().await;
    let module = published.world.get_module("net").await.unwrap();
    assert_eq!(module["status"], published.module["status"]);
    assert_eq!(published.world.get_version("net-1.0.0").await.unwrap().as_ref(), Some(&published.version));
    assert_eq!(objects(&published.world).await, published.objects);
    other.patch("version/net-9.0.0", &json!({"metadata": {"finalizers": null}}));

    // The deletion of a copy, by Kubernetes or by its tenant, does not affect the original.
    claim["metadata"]["name"] = json!("net-1.0.0");
    claim["metadata"].as_object_mut().unwrap().remove("finalizers");
    other.apply(&claim);
    other.kubectl(&["delete", "version", "net-1.0.0", "--ignore-not-found"]);
    let world = &published.world;
    world.patch("module/net", &json!({"spec": {"versions": [{"version": "1.0.0"}, {"version": "2.0.0"}]}}));
    world.module_when("net", |m| ready(m) && m["status"]["versions"]["summary"] == "2/2").await;
}
