//! Terraform judges what is stored: it installs the objects straight from S3 and works with them.

use opendepot_testbed::github::File;
use opendepot_testbed::terraform::{Terraform, source};
use serde_json::{Value, json};

use crate::support::World;
use crate::support::archives::{Tree, folder_tree, sha256};

const MAIN: &str = r#"
variable "name" {
  type = string
}
resource "terraform_data" "greeting" {
  input = "hello ${var.name}"
}
"#;

/// A small module, published as zip and as tar.gz, each under a Module of its own; and the two Versions.
async fn published(world: &World, files: &[File]) -> [Value; 2] {
    let repository = world.bed.github.repository(&world.repository("small")).unwrap();
    repository.release("v1.0.0", files).unwrap();
    for format in ["zip", "tar"] {
        let module = world.module(&format!("small-{format}"));
        let module = module.config("repoUrl", json!(repository.url())).config("fileFormat", json!(format));
        world.apply(&module.versions(&["1.0.0"]));
    }
    [world.version_ready("small-zip-1.0.0").await, world.version_ready("small-tar-1.0.0").await]
}

/// A configuration that installs a Version's object as the module `small`.
fn configured(world: &World, version: &Value) -> Terraform {
    let place = &version["status"]["storage"];
    let (bucket, key) = (place["bucket"].as_str().unwrap(), place["key"].as_str().unwrap());
    let source = source(&world.bed.s3, bucket, key, None);
    let terraform = Terraform::new().unwrap();
    terraform
        .configure(&format!("module \"small\" {{\n  source = {source:?}\n  name = \"world\"\n}}\n"))
        .unwrap();
    terraform
}

fn files(entries: &[(&str, bool, &str)]) -> Tree {
    entries.iter().map(|(path, run, text)| ((*path).to_owned(), (*run, text.as_bytes().to_vec()))).collect()
}

#[tokio::test]
async fn it_plans_with_a_module_from_a_zip_and_from_a_tar() {
    let world = World::new("tf-plan").await;
    let _operator = world.operator().await;
    for version in published(&world, &[File::new("main.tf", MAIN)]).await {
        let terraform = configured(&world, &version);
        terraform.run(&["init", "-no-color", "-input=false"]).unwrap();
        let plan = terraform.run(&["plan", "-no-color", "-input=false"]).unwrap();
        assert!(plan.contains("module.small.terraform_data.greeting will be created"), "{plan}");
        assert!(plan.contains("hello world") && plan.contains("Plan: 1 to add"), "{plan}");
    }
}

#[tokio::test]
async fn it_installs_links_as_what_they_point_to_and_keeps_execute_bits() {
    let world = World::new("tf-links").await;
    let _operator = world.operator().await;
    let script = "#!/bin/sh\necho ready\n";
    let module = [
        File::new("shared/main.tf", MAIN),
        File::link("main.tf", "shared/main.tf"),
        File::executable("scripts/check.sh", script),
        File::link("check", "scripts/check.sh"),
    ];
    let expected = files(&[
        ("shared/main.tf", false, MAIN),
        ("main.tf", false, MAIN),
        ("scripts/check.sh", true, script),
        ("check", true, script),
    ]);
    for version in published(&world, &module).await {
        let terraform = configured(&world, &version);
        terraform.run(&["get", "-no-color"]).unwrap();
        assert_eq!(folder_tree(&terraform.module("small")), expected);
    }
}

#[tokio::test]
async fn one_tag_gives_the_same_bytes_each_time_and_one_digest_in_each_format() {
    let world = World::new("tf-bytes").await;
    let _operator = world.operator().await;
    let files =
        [File::new("main.tf", MAIN), File::executable("run.sh", "#!/bin/sh\n"), File::link("l", "main.tf")];
    let versions = published(&world, &files).await;
    for (format, version) in ["zip", "tar"].into_iter().zip(&versions) {
        let again = world.module(&format!("again-{format}"));
        let again = again.config("repoUrl", version["status"]["source"]["url"].clone());
        world.apply(&again.config("fileFormat", json!(format)).versions(&["v1.0.0"]));
        let again = world.version_ready(&format!("again-{format}-1.0.0")).await;
        let (one, two) = (world.stored(version).await, world.stored(&again).await);
        assert_eq!(sha256(&one), sha256(&two), "{format}");
        assert_eq!(version["status"]["checksum"], again["status"]["checksum"], "{format}");
        assert_ne!(version["status"]["storage"]["key"], again["status"]["storage"]["key"], "{format}");
    }
    let [zip, tar] = versions;
    assert_eq!(zip["status"]["contentDigest"], tar["status"]["contentDigest"]);
    assert_ne!(zip["status"]["checksum"], tar["status"]["checksum"]);
}
