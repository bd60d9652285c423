//! Addresses and versions as both clients take them, and whose module they get.

use std::path::PathBuf;

use kube::api::{Patch, PatchParams};
use opendepot_testbed::terraform::Terraform;
use serde_json::{Value, json};

use crate::support::registry::{Depot, SYSTEM, archive, metric};
use crate::support::token_registry::{Registry, installed};
use crate::support::{ModuleFixture, SOON, World, condition, ready, soon};

const INIT: [&str; 3] = ["init", "-no-color", "-input=false"];

/// Installs the module of an address with each client, as `module "it"`: what they say, and the folder.
fn install(
    registry: &Registry,
    clients: &[Terraform],
    address: &str,
    constraint: &str,
) -> Vec<anyhow::Result<PathBuf>> {
    let run = |client: &Terraform| {
        client.forget().unwrap();
        client.configure(&registry.module("it", address, constraint)).unwrap();
        let said = client.run(&INIT)?;
        assert!(!said.contains("Warning"), "{}: {said}", client.name());
        Ok(client.module("it"))
    };
    clients.iter().map(run).collect()
}

/// Both clients install a module whose `main.tf` is this.
fn installs(registry: &Registry, clients: &[Terraform], address: &str, constraint: &str, main: &str) {
    for result in install(registry, clients, address, constraint) {
        let folder = result.unwrap_or_else(|error| panic!("{address} {constraint}: {error:#}"));
        assert_eq!(std::fs::read_to_string(folder.join("main.tf")).unwrap(), main, "{address} {constraint}");
    }
}

fn fails(registry: &Registry, clients: &[Terraform], address: &str, constraint: &str) {
    for (result, client) in install(registry, clients, address, constraint).into_iter().zip(clients) {
        let error = result.expect_err("it cannot be installed");
        assert!(!client.module("it").exists(), "{address} {constraint}: {error:#}");
    }
}

/// A Module of one version, whose `main.tf` is its tag, that is called so in its address.
fn called(world: &World, object: &str, name: &str, repository: &str) -> ModuleFixture {
    let url = format!("https://github.com/{}", world.repository(repository));
    world.module(object).config("name", json!(name)).config("repoUrl", json!(url)).versions(&["1.0.0"])
}

async fn addressed(world: &World, object: &str, name: &str) -> String {
    let address = format!("{}/{name}/aws", world.name);
    world
        .module_when(object, |m| {
            ready(m) && m["status"]["synced"] == true && m["status"]["address"] == address
        })
        .await;
    address
}

#[tokio::test]
async fn every_name_that_the_clients_take_can_be_installed() {
    let world = World::new("names").await;
    world.tagged("one", &["v1.0.0"]);
    let _operator = world.operator().await;
    let alias = format!("Acme_1={}", world.name);
    let registry = world.registry_with(&["--namespace-alias", &alias]).await;
    let token = world.consumer(&registry, "ci");
    let clients = registry.clients(&token);
    let long = "a".repeat(64);
    let text = "# v1.0.0\n";
    world.apply(&called(&world, "case", "My-Mod_1", "one"));
    world.apply(&called(&world, "long", &long, "one"));
    world.apply(&called(&world, "too-long", &format!("{long}a"), "one"));
    world.apply(&called(&world, "dots", "net.work", "one"));
    let case = addressed(&world, "case", "My-Mod_1").await;
    registry.lists(&case, &token, 1).await;
    installs(&registry, &clients, &case, "1.0.0", text);
    installs(&registry, &clients, "Acme_1/My-Mod_1/aws", "1.0.0", text);
    fails(&registry, &clients, &case.to_lowercase(), "1.0.0");
    fails(&registry, &clients, "acme_1/My-Mod_1/aws", "1.0.0");
    let long = addressed(&world, "long", &long).await;
    registry.lists(&long, &token, 1).await;
    installs(&registry, &clients, &long, "1.0.0", text);
    for (object, reason) in [("too-long", "NameNotAddressable"), ("dots", "NameNotAddressable")] {
        world.module_when(object, |m| condition(m, "Addressable")["reason"] == reason).await;
    }
    // The clients ask for nothing, and so the registry never hears of it.
    let listings = "opendepot_registry_requests_total{endpoint=\"versions\",code=\"404\"}";
    let others = "opendepot_registry_requests_total{endpoint=\"other\",code=\"404\"}";
    let before = (metric(&registry.process, listings).await, metric(&registry.process, others).await);
    for name in [&format!("{}a", "a".repeat(64)), "net.work"] {
        fails(&registry, &clients, &format!("{}/{name}/aws", world.name), "1.0.0");
    }
    let after = (metric(&registry.process, listings).await, metric(&registry.process, others).await);
    assert!((before.0 - after.0).abs() < 0.5 && (before.1 - after.1).abs() < 0.5, "{before:?} {after:?}");
    // The annotation gives a name, and moves nothing.
    for (object, name) in [("dots", "network"), ("case", "renamed")] {
        let change = format!("opendepot.defdev.io/registry-name={name}");
        world.kubectl(&["annotate", &format!("modules.opendepot.defdev.io/{object}"), &change]);
        let address = addressed(&world, object, name).await;
        registry.lists(&address, &token, 1).await;
        installs(&registry, &clients, &address, "1.0.0", text);
    }
    fails(&registry, &clients, &case, "1.0.0");
}

#[tokio::test]
async fn versions_are_chosen_as_the_clients_order_them_and_none_makes_a_warning() {
    let world = World::new("versions").await;
    // The largest that the schema accepts.
    let huge = "1.0.9999999999999999999";
    let versions = ["1.0.0+b1", "1.0.0+b2", "1.1.0-rc.1", huge, "0.9.0"];
    let tags = versions.map(|version| format!("v{version}"));
    world.tagged("net", &tags.each_ref().map(String::as_str));
    let _operator = world.operator().await;
    world.apply(&world.module("net").versions(&versions));
    let registry = world.registry().await;
    let token = world.consumer(&registry, "ci");
    let address = world.address("net").await;
    let module = world.module_ready("net").await;
    let message = condition(&module, "Addressable")["message"].as_str().unwrap().to_owned();
    assert!(message.contains(huge), "{message}");
    soon(|| async {
        let listed = registry.versions(&address, &token).await?;
        anyhow::ensure!(listed == ["1.1.0-rc.1", "1.0.0+b2", "1.0.0+b1", "0.9.0"], "{listed:?}");
        Ok(())
    })
    .await;
    let clients = registry.clients(&token);
    for (constraint, version) in [
        (">= 0.9.0", "1.0.0+b2"),
        ("1.0.0", "1.0.0+b2"),
        ("1.0.0+b1", "1.0.0+b2"),
        ("1.1.0-rc.1", "1.1.0-rc.1"),
        ("< 1.0.0", "0.9.0"),
    ] {
        installs(&registry, &clients, &address, constraint, &format!("# v{version}\n"));
        for client in &clients {
            assert_eq!(installed(client, "it"), version, "{} {constraint}", client.name());
        }
    }
    for (path, sentence) in [
        ("1.0.0%2Bb1", "Clients install "),
        ("versions", "no client can parse it: a number in it is greater"),
    ] {
        let page = registry.get(&format!("/modules/{address}/{path}"), Some(&token)).await;
        let page = page.text().await.unwrap();
        assert!(page.contains(sentence), "{path}: {page}");
    }
    let located = registry.get(&format!("/v1/modules/{address}/{huge}/download"), Some(&token)).await;
    assert_eq!(located.status(), 404);
}

#[tokio::test]
async fn an_address_leads_to_the_module_that_holds_it_and_to_no_forged_version() {
    let world = World::new("holders").await;
    world.tagged("one", &["v1.0.0"]);
    let other = world.bed.github.repository(&world.repository("two")).unwrap();
    other.release("v1.0.0", &crate::support::requests::main_tf("# another\n")).unwrap();
    let _operator = world.operator().await;
    let registry = world.registry().await;
    let token = world.consumer(&registry, "ci");
    let clients = registry.clients(&token);
    // The older one has another name at first.
    world.apply(&called(&world, "older", "vpc", "two"));
    addressed(&world, "older", "vpc").await;
    let first = || called(&world, "first", "eks", "one");
    world.apply(&first());
    let eks = addressed(&world, "first", "eks").await;
    registry.lists(&eks, &token, 1).await;
    world.apply(&called(&world, "older", "eks", "two"));
    let is_taken = |m: &Value| condition(m, "Addressable")["reason"] == "AddressTaken";
    world.module_when("older", is_taken).await;
    installs(&registry, &clients, &eks, "1.0.0", "# v1.0.0\n");

    // Forged Versions: owned by the Module, but with another name than the controller gives, or not listed.
    let genuine = world.version_ready("first-1.0.0").await;
    let older = world.version_ready("older-1.0.0").await;
    for (name, version) in [("first-forged", "1.0.0"), ("first-9.9.9", "9.9.9")] {
        let mut forged = json!({
            "apiVersion": "opendepot.defdev.io/v1alpha1", "kind": "Version",
            "metadata": {
                "name": name, "namespace": world.name, "finalizers": ["opendepot.defdev.io/stored-object"],
                "ownerReferences": genuine["metadata"]["ownerReferences"],
            },
            "spec": genuine["spec"],
        });
        forged["spec"]["version"] = json!(version);
        forged["spec"]["suspend"] = json!(true);
        let api = world.api::<opendepot::api::Version>();
        let object = serde_json::from_value(forged).unwrap();
        api.create(&kube::api::PostParams::default(), &object).await.unwrap();
        let status = Patch::Merge(json!({"status": older["status"]}));
        match api.patch_status(name, &PatchParams::default(), &status).await {
            // The operator has removed it already.
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            written => drop(written.unwrap()),
        }
    }
    // What comes after them in the watch is there, so they were seen.
    let entry = json!([{"op": "add", "path": "/spec/versions/-", "value": {"version": "1.1.0"}}]);
    other.release("v1.1.0", &crate::support::requests::main_tf("# new\n")).unwrap();
    world.kubectl(&["patch", "modules.opendepot.defdev.io/older", "--type=json", "-p", &entry.to_string()]);
    world.version_ready("older-1.1.0").await;
    assert_eq!(registry.versions(&eks, &token).await.unwrap(), ["1.0.0"]);
    installs(&registry, &clients, &eks, "1.0.0", "# v1.0.0\n");

    // The operator removes them, and not the object of the other Module that their status names.
    for name in ["first-forged", "first-9.9.9"] {
        let object = format!("versions.opendepot.defdev.io/{name}");
        world.kubectl(&["delete", &object, "--wait=false", "--ignore-not-found"]);
        soon(|| async {
            anyhow::ensure!(world.get_version(name).await?.is_none(), "{name} is still there");
            Ok(())
        })
        .await;
    }
    assert!(!world.stored(&older).await.is_empty());

    // The holder is gone: no Module inherits the address.
    world.kubectl(&["delete", "modules.opendepot.defdev.io/first", "--wait=true"]);
    world
        .module_when("older", |m| {
            is_taken(m)
                && condition(m, "Addressable")["message"].as_str().unwrap().contains("No Module has it now")
        })
        .await;
    soon(|| async {
        let status = registry.get(&format!("/v1/modules/{eks}/versions"), Some(&token)).await.status();
        anyhow::ensure!(status == 404, "{status}");
        Ok(())
    })
    .await;
    fails(&registry, &clients, &eks, "1.0.0");
    // Created again, without a status, it gets its address back.
    world.apply(&first());
    addressed(&world, "first", "eks").await;
    registry.lists(&eks, &token, 1).await;
    installs(&registry, &clients, &eks, "1.0.0", "# v1.0.0\n");
    // So does one whose status was lost, as by a restore, while the other one claims the address too.
    world.kubectl(&[
        "patch",
        "modules.opendepot.defdev.io/first",
        "--subresource=status",
        "--type=json",
        "-p",
        r#"[{"op": "remove", "path": "/status"}]"#,
    ]);
    addressed(&world, "first", "eks").await;
    registry.lists(&eks, &token, 1).await;
    installs(&registry, &clients, &eks, "1.0.0", "# v1.0.0\n");
}

#[tokio::test]
async fn an_alias_wins_over_a_namespace_of_its_name_and_that_is_said() {
    let depot = Depot::new("alias-to").await;
    let namespace = World::new("alias-name").await.name;
    depot.publish("net", &[("1.0.0", archive("# of the alias\n", 0))]).await;
    let alias = format!("{namespace}={}", depot.world.name);
    let builder = || depot.builder().args(["--namespace", &namespace, "--namespace-alias", &alias]);
    let registry = builder().start_ready().await.unwrap();
    let url = format!("https://{}/v1/modules/{namespace}/net/{SYSTEM}/versions", registry.registry_address());
    assert_eq!(depot.get(&url, &[]).await.unwrap().status, 200);
    let shadowed = "opendepot_registry_modules{state=\"shadowed\"}";
    assert!(metric(&registry, shadowed).await < 0.5);

    let mut module = depot.world.module("net");
    module.0["metadata"]["namespace"] = json!(namespace);
    depot.world.apply(&module);
    soon(|| async {
        anyhow::ensure!(metric(&registry, shadowed).await > 0.5, "the Module was not seen");
        Ok(())
    })
    .await;
    let log = registry.log();
    assert!(log.contains("since a --namespace-alias has its name") && log.contains(&namespace), "{log}");
    let answer = depot.get(&url, &[]).await.unwrap();
    assert_eq!((answer.status, answer.text().contains("1.0.0")), (200, true));
    // The next one does not start.
    let refused = builder().start().unwrap();
    assert_ne!(refused.exited(SOON).await.unwrap(), 0);
    assert!(refused.log().contains("choose another alias"), "{}", refused.log());
}
