//! Registry addresses: one Module has each, it keeps it, and no other inherits it.

use opendepot_testbed::control_plane::AuditEntry;
use serde_json::{Value, json};

use crate::support::{ModuleFixture, World, condition, ready};

const CLAIM: &str = "opendepot.defdev.io/claim-address";
const NAME: &str = "opendepot.defdev.io/registry-name";

/// A Module without versions that claims this name.
fn claims(world: &World, object: &str, name: &str) -> ModuleFixture {
    world.module(object).config("name", json!(name))
}

fn address(module: &Value) -> &str {
    module["status"]["address"].as_str().unwrap_or_default()
}

fn addressable(module: &Value) -> (&str, &str) {
    let condition = condition(module, "Addressable");
    (condition["reason"].as_str().unwrap_or_default(), condition["message"].as_str().unwrap_or_default())
}

impl World {
    /// Waits until the condition `Addressable` of a Module has this reason, and a message with this text.
    async fn addressable_when(&self, module: &str, reason: &str, text: &str) -> Value {
        self.module_when(module, |m| {
            let (found, message) = addressable(m);
            found == reason && message.contains(text) && ready(m)
        })
        .await
    }

    fn annotate(&self, module: &str, change: &str) {
        self.kubectl(&["annotate", &format!("modules.opendepot.defdev.io/{module}"), change]);
    }
}

#[tokio::test]
async fn an_address_stays_with_its_holder_and_is_taken_over_only_on_request() {
    let world = World::new("address-holder").await;
    let _operator = world.operator().await;
    let eks = format!("{}/eks/aws", world.name);
    world.apply(&claims(&world, "first", "eks"));
    let first = world.addressable_when("first", "Addressable", &eks).await;
    assert_eq!(address(&first), eks);
    assert_eq!(condition(&first, "Addressable")["status"], "True");
    assert!(world.kubectl(&["get", "modules.opendepot.defdev.io", "-o", "wide"]).contains(&eks));

    // A Module that claims it too is Ready without it, and what asks for it too early does not count.
    world.apply(&claims(&world, "second", "vpc"));
    world.addressable_when("second", "Addressable", "vpc").await;
    world.apply(&claims(&world, "second", "eks"));
    let second = world.addressable_when("second", "AddressTaken", "Module first has").await;
    assert!(address(&second).is_empty() && second["status"]["refusedAddress"] == eks, "{second:#}");
    world.annotate("second", &format!("{CLAIM}={eks}"));
    world.addressable_when("second", "AddressTaken", "is void").await;
    world.kubectl(&["delete", "modules.opendepot.defdev.io/first"]);
    let second = world.addressable_when("second", "AddressTaken", "No Module has it now").await;
    assert!(address(&second).is_empty() && second["status"]["claimVoid"] == true, "{second:#}");

    // A holder that is created again gets it back.
    world.apply(&claims(&world, "first", "eks"));
    world.addressable_when("first", "Addressable", &eks).await;
    world.addressable_when("second", "AddressTaken", "Module first has").await;
    world.kubectl(&["delete", "modules.opendepot.defdev.io/first"]);
    world.addressable_when("second", "AddressTaken", "No Module has it now").await;

    // The commands of the message, one after the other at once.
    world.annotate("second", &format!("{CLAIM}-"));
    world.annotate("second", &format!("{CLAIM}={eks}"));
    let second = world.addressable_when("second", "Addressable", &eks).await;
    let status = &second["status"];
    assert_eq!((address(&second), &status["refusedAddress"]), (eks.as_str(), &Value::Null));
    assert_eq!(status["claimVoid"], Value::Null);
    world.apply(&claims(&world, "first", "eks"));
    world.addressable_when("first", "AddressTaken", "Module second has").await;
}

#[tokio::test]
async fn what_no_client_accepts_is_named_and_the_annotation_moves_nothing() {
    let world = World::new("address-names").await;
    world.tagged("net.work", &["v1.0.0"]);
    let _operator = world.operator_with(&["--verify-interval", "0"]).await;
    let repository = format!("https://github.com/{}", world.repository("net.work"));
    world.apply(
        &world
            .module("net.work")
            .config("name", json!("net.work"))
            .config("repoUrl", json!(repository))
            .versions(&["v1.0.0"]),
    );
    world.module_ready("net.work").await;
    world.addressable_when("net.work", "NameNotAddressable", NAME).await;
    let version = world.version_ready("net.work-1.0.0").await;
    let before = world.counts("net.work");

    world.annotate("net.work", &format!("{NAME}=network"));
    let module = world.addressable_when("net.work", "Addressable", "/network/aws").await;
    let kept = address(&module).to_owned();
    // A claim of none keeps the address.
    world.kubectl(&[
        "annotate",
        "--overwrite",
        "modules.opendepot.defdev.io/net.work",
        &format!("{NAME}=a/b"),
    ]);
    let module = world.addressable_when("net.work", "RegistryNameInvalid", &kept).await;
    assert_eq!(address(&module), kept);
    world.annotate("net.work", &format!("{NAME}-"));
    world.addressable_when("net.work", "NameNotAddressable", &kept).await;
    let unchanged = world.get_version("net.work-1.0.0").await.unwrap().unwrap();
    assert_eq!((unchanged, world.counts("net.work")), (version, before), "an address moves no object");

    world.apply(&world.module("beta").config("provider", json!("google-beta")));
    world.addressable_when("beta", "ProviderNotAddressable", "google-beta").await;
    let mut none = world.module("none");
    none.0["spec"]["moduleConfig"].as_object_mut().unwrap().remove("provider");
    world.apply(&none);
    world.module_when("none", |m| addressable(m).0 == "ProviderMissing").await;
}

#[tokio::test]
async fn an_upgrade_costs_one_write_per_module_and_a_restart_none() {
    let world = World::new("address-upgrade").await;
    let operator = world.operator().await;
    for (object, name) in [("a", "same"), ("b", "same"), ("c", "other")] {
        world.apply(&claims(&world, object, name));
        world.module_when(object, |m| ready(m) && !addressable(m).0.is_empty()).await;
    }
    let holder = world.get_module("a").await.unwrap();
    assert_eq!(addressable(&holder).0, "Addressable");
    let at_rest = world.writes_during(async {}).await;
    assert!(at_rest.is_empty(), "{at_rest:#?}");
    operator.kill().await.unwrap();
    // As the release before left them.
    for object in ["a", "b", "c"] {
        let conditions: Vec<Value> = world.get_module(object).await.unwrap()["status"]["conditions"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|condition| condition["type"] != "Addressable")
            .cloned()
            .collect();
        let patch = json!({"status": {"address": null, "refusedAddress": null, "conditions": conditions}});
        let object = format!("modules.opendepot.defdev.io/{object}");
        world.kubectl(&["patch", &object, "--subresource=status", "--type=merge", "-p", &patch.to_string()]);
    }
    let mut operator = None;
    let writes = world
        .writes_during(async {
            operator = Some(world.operator().await);
            world.addressable_when("a", "Addressable", "/same/aws").await;
            world.addressable_when("b", "AddressTaken", "Module a").await;
            world.addressable_when("c", "Addressable", "/other/aws").await;
        })
        .await;
    let of = |name: &str| writes.iter().filter(|w: &&AuditEntry| w.name == name).count();
    assert_eq!((of("a"), of("c")), (1, 1), "{writes:#?}");
    // It may be reconciled before the older one has the address, and waits then.
    assert!((1..=2).contains(&of("b")), "{writes:#?}");
    operator.unwrap().kill().await.unwrap();
    let writes = world.writes_during(async { drop(world.operator().await) }).await;
    assert!(writes.is_empty(), "{writes:#?}");
    assert_eq!(
        world.get_module("b").await.unwrap()["status"]["refusedAddress"],
        format!("{}/same/aws", world.name)
    );
}
