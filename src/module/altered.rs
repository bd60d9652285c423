//! Differences between a write and what the API server stored: a mutating admission policy or webhook may set another value, and
//! a CRD of another release drops a field. Pure.
//!
//! The next plan contains the same change again. Therefore the write counts as refused: it is repeated with growing pauses, and
//! reported.

use kube::api::DynamicObject;
use serde_json::Value;

use super::edit::{Change, Edit};
use super::view::ModuleView;
use crate::api::MODULE_REQUEST;
use crate::api::state::VersionState;
use crate::controller::client::merge_diff;

/// The message for the status if `stored`, the answer to a change, lacks a part of it.
pub(super) fn altered(module: &ModuleView, change: &Change, stored: &DynamicObject) -> Option<String> {
    let stored: VersionState = serde_json::from_value(serde_json::to_value(stored).ok()?).ok()?;
    let field = change.edits.iter().find_map(|edit| lost(module, edit, &stored))?;
    Some(format!(
        "Version {} cannot be changed: the API server stored another {field} than the operator sent. Check for a mutating \
         admission policy or webhook that changes Versions, and for CRDs from another release.",
        change.target.name
    ))
}

/// The field that an edit writes, if the Version is not as the edit makes it; of a configuration, the first one that differs.
fn lost(module: &ModuleView, edit: &Edit, stored: &VersionState) -> Option<String> {
    let (digest, request) = (stored.expected_digest.as_deref(), stored.annotation(MODULE_REQUEST));
    let (is_stored, field) = match edit {
        Edit::SetConfig(_) if stored.config.as_deref() == Some(&module.resolved) => return None,
        Edit::SetConfig(_) => {
            let sent = serde_json::to_value(&module.resolved).unwrap_or_default();
            let stored = stored.config.as_deref().and_then(|config| serde_json::to_value(config).ok());
            let diff = stored.and_then(|stored| merge_diff(&stored, &sent)).unwrap_or_default();
            return Some(format!("spec.moduleConfigRef{}", first_path(&diff)));
        }
        Edit::SetPolicy { retain } => (stored.retain == *retain, "spec.moduleConfigRef.deletionPolicy"),
        Edit::SetSuspended(suspended) => (stored.module_suspended == *suspended, "spec.moduleSuspended"),
        Edit::PinDigest(expected) => (digest == Some(expected.as_str()), "spec.expectedDigest"),
        Edit::UnpinDigest => (digest.is_none(), "spec.expectedDigest"),
        Edit::Request(token) => (request == Some(token.as_str()), "annotation"),
        Edit::Adopt => (module.manages(stored), "owner or finalizer"),
    };
    (!is_stored).then(|| field.to_owned())
}

/// The path to the first value of a merge patch, such as `.storageConfig.s3.bucket`.
fn first_path(diff: &Value) -> String {
    let first = diff.as_object().and_then(|fields| fields.iter().next());
    first.map_or_else(String::new, |(name, value)| format!(".{name}{}", first_path(value)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::FINALIZER;
    use crate::module::edit::VersionRef;
    use crate::module::file_name::FileName;

    fn module() -> ModuleView {
        let module = json!({"metadata": {"name": "network", "namespace": "acme", "uid": "uid"}, "spec": {"moduleConfig": {
            "repoUrl": "https://github.com/acme/network", "storageConfig": {"s3": {"bucket": "shelf", "region": "us-west-2"}},
        }}});
        ModuleView::take_from(&mut serde_json::from_value(module).unwrap())
    }

    /// An edit that is lost, what the answer has instead, and the field that the message names.
    type Lost = (Edit, Box<dyn FnOnce(&mut Value)>, &'static str);

    /// The message after these edits, whose answer has this difference.
    fn after(edits: Vec<Edit>, difference: impl FnOnce(&mut Value)) -> Option<String> {
        let module = module();
        let owner = json!({"apiVersion": "opendepot.defdev.io/v1alpha1", "kind": "Module", "name": "network", "uid": "uid",
            "controller": true});
        let mut stored = json!({
            "metadata": {"name": "network-1.0.0", "namespace": "acme", "finalizers": [FINALIZER], "ownerReferences": [owner],
                "annotations": {MODULE_REQUEST: "token"}},
            "spec": {"type": "Module", "version": "1.0.0", "expectedDigest": "h1:a", "moduleConfigRef": module.resolved},
        });
        difference(&mut stored);
        let target =
            VersionRef { name: "network-1.0.0".into(), uid: "u".into(), resource_version: "1".into() };
        altered(&module, &Change { target, edits }, &serde_json::from_value(stored).unwrap())
    }

    #[test]
    fn an_answer_that_lacks_what_was_sent_names_the_version_and_the_field() {
        let s3 = "/spec/moduleConfigRef/storageConfig/s3";
        let set = |path: &'static str, field: &'static str, value: Value| {
            move |stored: &mut Value| stored.pointer_mut(path).unwrap()[field] = value
        };
        let config = || Edit::SetConfig(FileName::Fresh);
        let lost: [Lost; 9] = [
            (
                config(),
                Box::new(set(s3, "bucket", json!("other"))),
                "spec.moduleConfigRef.storageConfig.s3.bucket",
            ),
            (
                config(),
                Box::new(set(s3, "serverSideEncryption", json!("AES256"))),
                "spec.moduleConfigRef.storageConfig.s3.serverSideEncryption",
            ),
            (config(), Box::new(set("/spec", "moduleConfigRef", json!(5))), "spec.moduleConfigRef"),
            (
                Edit::SetPolicy { retain: false },
                Box::new(set("/spec/moduleConfigRef", "deletionPolicy", json!("Retain"))),
                "spec.moduleConfigRef.deletionPolicy",
            ),
            (
                Edit::SetSuspended(false),
                Box::new(set("/spec", "moduleSuspended", json!(true))),
                "spec.moduleSuspended",
            ),
            (
                Edit::PinDigest("h1:a".into()),
                Box::new(set("/spec", "expectedDigest", json!("h1:b"))),
                "spec.expectedDigest",
            ),
            (Edit::UnpinDigest, Box::new(|_: &mut Value| ()), "spec.expectedDigest"),
            (
                Edit::Request("token".into()),
                Box::new(set("/metadata", "annotations", json!({}))),
                "annotation",
            ),
            (Edit::Adopt, Box::new(set("/metadata", "finalizers", json!([]))), "owner or finalizer"),
        ];
        for (edit, difference, field) in lost {
            // An edit that was stored does not hide another.
            let message = after(vec![Edit::SetSuspended(field == "spec.moduleSuspended"), edit], difference);
            let expected = format!(
                "Version network-1.0.0 cannot be changed: the API server stored another {field} than"
            );
            assert!(message.as_ref().is_some_and(|message| message.starts_with(&expected)), "{message:?}");
        }
    }

    #[test]
    fn an_answer_with_all_that_was_sent_is_no_refusal_whatever_else_it_has() {
        let edits = vec![
            Edit::Adopt,
            Edit::SetConfig(FileName::Keep),
            Edit::SetPolicy { retain: false },
            Edit::SetSuspended(false),
            Edit::PinDigest("h1:a".into()),
            Edit::Request("token".into()),
        ];
        let label = |stored: &mut Value| stored["metadata"]["labels"] = json!({"team": "network"});
        assert_eq!(after(edits, label), None);
    }
}
