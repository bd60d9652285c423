//! `opendepot source`, with the permission to get Modules and Versions and no other.

use opendepot_testbed::terraform::Terraform;
use serde_json::json;

use crate::support::command::opendepot;
use crate::support::{World, condition, key, soon};

#[tokio::test]
async fn the_block_names_the_address_or_the_object_that_is_stored() {
    let world = World::new("source").await;
    world.tagged("net", &["v1.0.0", "v1.1.0"]);
    let _operator = world.operator().await;
    world.kubectl(&["create", "serviceaccount", "reader"]);
    let reader = world.bed.kubernetes.kubeconfig_for_service_account(&world.name, "reader").await.unwrap();
    let source =
        |args: &[&str]| opendepot(&reader).run(&[&["source", "net", "-n", &world.name], args].concat());
    let refused = source(&[]).failed();
    assert!(refused.contains("your user has no permission to get Modules in the namespace"), "{refused}");
    let resources = "--resource=modules.opendepot.defdev.io,versions.opendepot.defdev.io";
    world.kubectl(&["create", "role", "reader", "--verb=get", resources]);
    let account = format!("--serviceaccount={}:reader", world.name);
    world.kubectl(&["create", "rolebinding", "reader", "--role=reader", &account]);
    soon(|| async {
        let refused = source(&[]).failed();
        anyhow::ensure!(refused.contains("there is no Module net in the namespace"), "{refused}");
        Ok(())
    })
    .await;

    world.apply(&world.module("net").versions(&["v1.0.0", "v1.1.0", "9.9.9"]));
    for name in ["net-1.0.0", "net-1.1.0"] {
        world.version_ready(name).await;
    }
    let module = world.module_when("net", |m| m["status"]["latestVersion"] == "1.1.0").await;
    let address = format!("{}/net/aws", world.name);
    assert_eq!(module["status"]["address"], json!(address));
    let expected =
        format!("module \"net\" {{\n  source  = \"registry.test/{address}\"\n  version = \"1.1.0\"\n}}\n");
    assert_eq!(source(&["--registry", "registry.test"]).ok(), expected);
    let version = world.version_ready("net-1.0.0").await;
    let (key, bucket) = (key(&version), &world.name);
    assert!(world.bed.s3.keys(bucket).await.unwrap().contains(&key));
    let block = source(&["v1.0.0", "--folder", "modules/one", "-o", "json"]);
    let expected = format!("s3::https://s3-us-west-2.amazonaws.com/{bucket}/{key}//modules/one");
    assert_eq!(block.json(), json!({"label": "one", "source": expected}));

    let missing = source(&["2.0.0"]).failed();
    assert!(missing.contains("it does not list 2.0.0: the latest stored version is 1.1.0"), "{missing}");
    world.version_when("net-9.9.9", |v| condition(v, "Ready")["reason"] == "TagNotFound").await;
    let failed = source(&["9.9.9"]).failed();
    assert!(
        failed.contains("version 9.9.9 is not stored: ") && failed.contains("has no tag 9.9.9"),
        "{failed}"
    );
    let not_there = source(&["9.9.9", "--registry", "registry.test"]).failed();
    assert!(not_there.contains("version 9.9.9 is not stored: "), "{not_there}");
    for folder in ["../up", "a//b", "a?b", ""] {
        assert_eq!(source(&["--folder", folder]).code, Some(2), "{folder}");
    }
    let endpoint = world.bed.s3.endpoint();
    let other = source(&["1.0.0", "--endpoint", &endpoint]);
    assert!(other.stderr.contains("only with keys in the address"), "{other:#?}");
    let root = world.bed.s3.root();
    let keys =
        format!("&aws_access_key_id={}&aws_access_key_secret={}\"\n", root.access_key, root.secret_key);
    let terraform = Terraform::new().unwrap();
    terraform.configure(&other.ok().replace("\"\n}", &format!("{keys}}}"))).unwrap();
    terraform.run(&["get", "-no-color"]).unwrap();
    assert!(terraform.module("net").join("main.tf").is_file());
    let notices =
        json!([{"version": "v1.0.0", "deprecated": "use 1.1"}, {"version": "v1.1.0", "withdrawn": "CVE"}]);
    world.patch("module/net", &json!({"spec": {"versions": notices}}));
    world.module_when("net", |m| m["status"]["latestVersion"] == "1.0.0").await;
    let deprecated = source(&["1.0.0", "--registry", "registry.test"]);
    assert!(
        deprecated.code == Some(0) && deprecated.stderr.contains("version 1.0.0 is deprecated: use 1.1"),
        "{deprecated:#?}"
    );
    let withdrawn = source(&["1.1.0", "--registry", "registry.test"]).failed();
    assert!(
        withdrawn.contains("version 1.1.0 is withdrawn, so the registry rejects downloads of it: CVE"),
        "{withdrawn}"
    );
    let instead = source(&["--registry", "registry.test"]).ok();
    assert!(instead.contains("  version = \"1.0.0\"\n"), "{instead}");
    // The status keeps the address, at which the registry no longer serves the Module.
    world.patch("module/net", &json!({"spec": {"moduleConfig": {"provider": "google-beta"}}}));
    world.module_when("net", |m| condition(m, "Addressable")["status"] == "False").await;
    let refused = source(&["1.0.0", "--registry", "registry.test"]).failed();
    assert!(refused.contains("has no registry address: ") && refused.contains("google-beta"), "{refused}");
}
