//! Reads and writes of Modules and Versions as the API server stores them.
//!
//! Writes are merge patches that contain the resourceVersion on which they were decided; without a change, nothing is
//! written. Objects are read untyped, so that an unreadable object differs from a missing one.

use jiff::SignedDuration;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, ValidationDirective};
use kube::core::Status;
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::without_secrets::without_secrets;

/// The field manager of every write.
pub const FIELD_MANAGER: &str = "opendepot";

/// How long a watch may lag behind this process's own writes. After that, a created object that the cache lacks was deleted,
/// and an object that the cache has in an older version was restored together with etcd.
pub const WATCH_LAG: SignedDuration = SignedDuration::from_secs(10);

/// The objects of kind `K` in `namespace`, untyped.
pub fn objects<K: Resource<DynamicType = ()>>(client: &Client, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<K>(&()))
}

/// Parameters of every write. Without field validation: patches are serialised from types, and the validation costs the API
/// server as much as parsing the object again.
pub fn params() -> PatchParams {
    PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        field_validation: Some(ValidationDirective::Ignore),
        ..PatchParams::default()
    }
}

/// The message of a failed request, without secrets: that of the API server, or the causes of a failed connection.
pub fn explain(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 401 => {
            "the API server does not accept these credentials (Unauthorized)".to_owned()
        }
        // kube returns an empty status for each line of a watch that is no event, and for a failure whose JSON is no status.
        kube::Error::Api(status) if status.code == 0 && status.message.is_empty() => {
            "the API server, or a proxy in between, sent an answer that cannot be read".to_owned()
        }
        kube::Error::Api(status) if status.message.is_empty() => {
            format!("the API server returned HTTP {} without a message", status.code)
        }
        kube::Error::Api(status) => status.message.clone(),
        // Without kube's prefix, `ServiceError`.
        kube::Error::Service(cause) => without_secrets(&**cause),
        error => without_secrets(error),
    }
}

/// Whether a write failed because the object was changed or deleted since it was read. Not a failure: read it again.
pub fn is_outdated(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if is_outdated_status(status))
}

/// Whether the API server answers that an object was changed, deleted, or created meanwhile. A denial by a webhook does not
/// concern the object, whatever its code.
pub fn is_outdated_status(status: &Status) -> bool {
    (status.is_conflict() || status.is_not_found() || status.is_already_exists()) && !is_denied(status)
}

/// Whether the API server rejects this one request: by RBAC, a webhook, a quota or the schema. An unreachable webhook results
/// in 500, a slow one in 504, and one that denies chooses the code.
pub fn is_refusal(status: &Status) -> bool {
    matches!(status.code, 400..=428 | 430..=500 | 504) || is_denied(status)
}

/// Whether the API server itself is overloaded, starting, or cut off from its store. The request may succeed later.
pub fn is_outage(status: &Status) -> bool {
    matches!(status.code, 429 | 500..=599) && !is_denied(status)
}

/// Whether the object was changed since it was read.
pub fn is_conflict(status: &Status) -> bool {
    status.is_conflict() && !is_denied(status)
}

/// Whether an object no longer exists.
pub fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_not_found() && !is_denied(status))
}

/// Whether a webhook ("denied the request") or a `ValidatingAdmissionPolicy` ("denied request") denied a request. Both choose
/// the code: their 404 or 409 does not concern the object.
pub fn is_denied(status: &Status) -> bool {
    ["denied the request", "denied request"].iter().any(|words| status.message.contains(words))
}

/// Whether a JSON patch does not fit the object any more: a test failed, or an entry is gone. A violation of the schema has the
/// same code and reason, and names its causes.
pub fn is_failed_test(status: &Status) -> bool {
    let has_causes = status.details.as_ref().is_some_and(|details| !details.causes.is_empty());
    is_conflict(status) || status.code == 422 && !has_causes && !is_denied(status)
}

/// Whether one resourceVersion is older than another. Since Kubernetes 1.35 they are comparable numbers, and those of etcd
/// always were. False if one is not a number.
pub fn is_older(one: Option<&str>, than: Option<&str>) -> bool {
    let number = |version: Option<&str>| version?.parse::<u64>().ok();
    number(one).zip(number(than)).is_some_and(|(one, than)| one < than)
}

/// A parsed part of an object, or the parser's message.
pub fn part<T: DeserializeOwned>(object: &DynamicObject, field: &str) -> Result<T, String> {
    let empty = json!({});
    T::deserialize(object.data.get(field).unwrap_or(&empty))
        .map_err(|error| format!("{field} cannot be read: {error}"))
}

/// As [`part`], but moves the part out of the object, so that a long list is not copied.
pub fn take_part<T: DeserializeOwned>(object: &mut DynamicObject, field: &str) -> Result<T, String> {
    let part = object.data.get_mut(field).map_or_else(|| json!({}), Value::take);
    serde_json::from_value(part).map_err(|error| format!("{field} cannot be read: {error}"))
}

/// Writes the difference of two statuses, if any, and only if the object is unchanged since it was read. If a part of it was not
/// stored, the write counts as rejected: what depends on it must not be done.
pub async fn patch_status<T: Serialize>(
    api: &Api<DynamicObject>,
    name: &str,
    resource_version: Option<&str>,
    before: &T,
    after: &T,
) -> Result<Option<DynamicObject>, kube::Error> {
    let (before, after) = (to_value(before)?, to_value(after)?);
    let Some(change) = merge_diff(&before, &after) else { return Ok(None) };
    let patch = json!({"metadata": {"resourceVersion": resource_version}, "status": change});
    let stored = api.patch_status(name, &params(), &Patch::Merge(&patch)).await?;
    let Some(field) = dropped(&patch["status"], stored.data.get("status")) else { return Ok(Some(stored)) };
    let message = format!(
        "the CRD is not from the operator's release, so the API server dropped status.{field}; apply the CRDs of this release"
    );
    Err(kube::Error::Api(Box::new(Status { code: 422, ..Status::failure(&message, "FieldDropped") })))
}

/// The first field of a merge patch of the status that the stored one lacks. CRDs of other software drop what they do not know.
fn dropped<'a>(change: &'a Value, stored: Option<&Value>) -> Option<&'a String> {
    let sent = change.as_object()?.iter().filter(|(_, value)| !value.is_null());
    sent.map(|(field, _)| field)
        .find(|field| stored.is_none_or(|stored| stored.get(field.as_str()).is_none()))
}

/// Writes a merge patch of anything but the status, only if the object is unchanged since it was read.
pub async fn patch(
    api: &Api<DynamicObject>,
    name: &str,
    resource_version: Option<&str>,
    mut change: Value,
) -> Result<DynamicObject, kube::Error> {
    change["metadata"]["resourceVersion"] = json!(resource_version);
    api.patch(name, &params(), &Patch::Merge(change)).await
}

fn to_value<T: Serialize>(value: &T) -> Result<Value, kube::Error> {
    serde_json::to_value(value).map_err(kube::Error::SerdeError)
}

/// The JSON merge patch (RFC 7396) that turns `before` into `after`; `None` when they are equal.
pub fn merge_diff(before: &Value, after: &Value) -> Option<Value> {
    if before == after {
        return None;
    }
    let (Value::Object(old), Value::Object(new)) = (before, after) else { return Some(after.clone()) };
    let removed = old.keys().filter(|key| !new.contains_key(*key)).map(|key| (key.clone(), Value::Null));
    let changed = new.iter().filter_map(|(key, value)| {
        let change = old.get(key).map_or_else(|| Some(value.clone()), |old| merge_diff(old, value));
        Some((key.clone(), change?))
    });
    Some(Value::Object(removed.chain(changed).collect()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_code_of_a_denial_says_nothing_about_the_object() {
        let answer =
            |code, reason: &str, message: &str| Box::new(Status { code, ..Status::failure(message, reason) });
        let denied = "admission webhook \"guard.example\" denied the request: no";
        for (code, reason) in
            [(409, "Conflict"), (404, "NotFound"), (409, "AlreadyExists"), (413, "RequestEntityTooLarge")]
        {
            let status = answer(code, reason, denied);
            assert!(
                !is_outdated_status(&status) && is_refusal(&status) && is_denied(&status),
                "{code} {reason}"
            );
            let own = answer(code, reason, "the object has been modified");
            assert_eq!(is_outdated_status(&own), code != 413, "{code} {reason}");
            let error = kube::Error::Api(status);
            assert!(!is_outdated(&error) && !is_gone(&error), "{code} {reason}");
        }
    }

    #[test]
    fn an_event_that_cannot_be_read_is_no_status() {
        let status =
            serde_json::from_str(r#"{"type": "ADDED", "object": {"metadata": {"name": 7}}}"#).unwrap();
        let said = explain(&kube::Error::Api(Box::new(status)));
        assert_eq!(said, "the API server, or a proxy in between, sent an answer that cannot be read");
    }

    #[test]
    fn a_field_of_a_status_that_was_not_stored_is_found() {
        let change = json!({"conditions": [], "forceToken": "a", "synced": true, "syncStatus": null});
        let stored = json!({"conditions": [], "forceToken": "a", "synced": true, "fileName": "b"});
        assert_eq!(dropped(&change, Some(&stored)), None);
        let field = "forceToken".to_owned();
        assert_eq!(dropped(&change, Some(&json!({"conditions": [], "synced": true}))), Some(&field));
        assert!(dropped(&change, None).is_some());
    }

    #[test]
    fn versions_are_compared_as_numbers_or_not_at_all() {
        assert!(is_older(Some("9"), Some("10")));
        assert!(!is_older(Some("10"), Some("10")) && !is_older(Some("11"), Some("10")));
        assert!(!is_older(Some("a"), Some("b")) && !is_older(None, Some("1")) && !is_older(Some("1"), None));
    }

    fn apply(target: &mut Value, patch: &Value) {
        let Value::Object(changes) = patch else {
            *target = patch.clone();
            return;
        };
        if !target.is_object() {
            *target = json!({});
        }
        for (key, change) in changes {
            if change.is_null() {
                target.as_object_mut().unwrap().remove(key);
            } else {
                apply(&mut target[key], change);
            }
        }
    }

    fn json_without_null() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i8>().prop_map(Value::from),
            "[a-c]".prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map("[a-d]", inner, 0..4)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_patch_turns_one_into_the_other_and_equal_values_need_none(
            a in prop::collection::btree_map("[a-d]", json_without_null(), 0..4),
            b in prop::collection::btree_map("[a-d]", json_without_null(), 0..4),
        ) {
            let (a, b) = (Value::Object(a.into_iter().collect()), Value::Object(b.into_iter().collect()));
            let mut patched = a.clone();
            if let Some(patch) = merge_diff(&a, &b) {
                apply(&mut patched, &patch);
            }
            prop_assert_eq!(patched, b);
        }
    }
}
