//! Modules and Versions as the API server may hand them out: `spec` and `status` of any shape.
#![no_main]

use opendepot::api::state::{ModuleState, VersionState};
use opendepot::api::target::{Target, satisfies_spec, throttled_request};
use opendepot::api::{Module, ModuleConfig, Version};
use opendepot::domain::object_key;
use opendepot::module::fuzzing::decide;
use serde_json::{Value, json};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Ok(Value::Object(mut object)) = serde_json::from_str(text) else { return };
    let owner = json!({"apiVersion": "opendepot.defdev.io/v1alpha1", "kind": "Module", "name": "network", "uid": "m", "controller": true});
    object.insert(
        "metadata".into(),
        json!({
            "name": "network-1.0.0", "namespace": "acme", "uid": "m", "generation": 1, "resourceVersion": "1",
            "finalizers": ["opendepot.defdev.io/stored-object"], "ownerReferences": [owner],
        }),
    );
    let raw = Value::Object(object);
    // One odd object must not blind a controller.
    let lean: VersionState = serde_json::from_value(raw.clone()).expect("whatever is stored");
    let _: ModuleState = serde_json::from_value(raw.clone()).expect("whatever is stored");
    let _ =
        (lean.repository_key(), satisfies_spec(&lean), throttled_request(&lean), Target::of(&lean).is_ok());
    if let Ok(version) = serde_json::from_value::<Version>(raw.clone())
        && let Some(config) = &version.spec.module_config_ref
    {
        check(config);
    }
    if let Ok(module) = serde_json::from_value::<Module>(raw.clone()) {
        check(&module.spec.module_config);
        if let Ok(mut object) = serde_json::from_value(raw) {
            decide(&mut object, &lean);
        }
    }
});

/// A configuration is refused with a reason, or can be worked with.
fn check(config: &ModuleConfig) {
    let resolved = config.resolved("network");
    assert_eq!(resolved.resolved("network"), resolved, "resolving twice changes nothing");
    match config.check("network") {
        Ok(checked) => {
            assert!(
                object_key(checked.s3.key.as_deref(), checked.name, "a.zip").is_ok()
                    || checked.name.len() > 256
            );
            assert!(!checked.repository.host().is_empty());
        }
        Err(invalid) => assert!(!invalid.to_string().is_empty()),
    }
}
