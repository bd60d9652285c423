//! Whether a Version is one that its Module stored. Pure.

use serde_json::Value;

use crate::api::state::VersionState;
use crate::domain::Release;

/// Why the object of a Version is not the Module's, as in the registry: another object may have the name.
pub(super) fn objection(version: &VersionState, module: &Value, release: &Release) -> Option<&'static str> {
    let uid = module.pointer("/metadata/uid").and_then(Value::as_str);
    let owner = version.module().map(|owner| owner.uid.as_str());
    if version.is_terminating() {
        Some("is being deleted")
    } else if owner.is_none() || owner != uid || !version.is_release(release) {
        Some("belongs to another Module, or to none")
    } else if version.status.synced && !version.has_finalizer {
        Some("lacks the operator's finalizer")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::{FINALIZER, GROUP, VERSION};

    #[test]
    fn only_the_object_that_the_module_stored_counts() {
        let module = json!({"metadata": {"uid": "one"}});
        let own = json!({
            "metadata": {"name": "net-1.0.0", "finalizers": [FINALIZER], "ownerReferences": [{
                "apiVersion": format!("{GROUP}/{VERSION}"), "kind": "Module", "name": "net", "uid": "one",
                "controller": true,
            }]},
            "spec": {"type": "Module", "version": "v1.0.0"},
            "status": {"synced": true},
        });
        let foreign = Some("belongs to another Module, or to none");
        for (field, value, expected) in [
            ("/status", json!({"synced": true}), None),
            ("/metadata/finalizers", json!([]), Some("lacks the operator's finalizer")),
            ("/metadata/ownerReferences", json!([]), foreign),
            ("/metadata/ownerReferences/0/uid", json!("two"), foreign),
            ("/spec/version", json!("1.0.1"), foreign),
            ("/spec/type", json!("Provider"), foreign),
        ] {
            let mut version = own.clone();
            *version.pointer_mut(field).unwrap() = value;
            let state: VersionState = serde_json::from_value(version).unwrap();
            assert_eq!(objection(&state, &module, &Release::parse("1.0.0").unwrap()), expected, "{field}");
        }
        let mut going = own;
        going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        let state: VersionState = serde_json::from_value(going).unwrap();
        let found = objection(&state, &module, &Release::parse("1.0.0").unwrap());
        assert_eq!(found, Some("is being deleted"));
    }
}
