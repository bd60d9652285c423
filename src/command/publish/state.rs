//! What the objects in the cluster mean for a version that is being published. Pure.

use serde::Deserialize as _;
use serde_json::Value;

use crate::api::ModuleConfig;
use crate::api::state::{ListedVersion, ModuleListing, VersionState};
use crate::domain::Release;

/// The condition Ready of an object at its current generation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ready {
    pub status: String,
    pub reason: String,
    pub message: String,
    pub stalled: bool,
}

impl Ready {
    /// `None` while the status describes an earlier generation.
    pub(crate) fn of(object: &Value) -> Option<Self> {
        let generation = object["metadata"]["generation"].as_i64()?;
        if object["status"]["observedGeneration"] != generation {
            return None;
        }
        let conditions = object["status"]["conditions"].as_array()?;
        let condition = |type_: &str| conditions.iter().find(|condition| condition["type"] == type_);
        let ready = condition("Ready")?;
        let text = |field: &str| ready[field].as_str().unwrap_or_default().to_owned();
        Some(Self {
            status: text("status"),
            reason: text("reason"),
            message: text("message"),
            stalled: condition("Stalled").is_some_and(|stalled| stalled["status"] == "True"),
        })
    }

    /// `REASON: MESSAGE`
    pub(crate) fn sentence(&self) -> String {
        let remedy = if self.reason == "Suspended" { " To resume, set spec.suspend to false." } else { "" };
        format!("{}: {}{remedy}", self.reason, self.message)
    }
}

/// The versions that the Module lists. Two spellings of a version are one.
fn listed(module: &Value) -> Box<[ListedVersion]> {
    ModuleListing::deserialize(module).map(|module| module.versions).unwrap_or_default()
}

/// Whether the Module lists the version, in either spelling.
pub(crate) fn is_listed(module: &Value, release: &Release) -> bool {
    listed(module).iter().any(|listed| listed.release == *release)
}

/// The limit of `versionHistoryLimit`, if it excludes a version that is not published yet.
pub(crate) fn excluded_by_limit(module: &Value, release: &Release) -> Option<i64> {
    let limit = module.pointer("/spec/moduleConfig/versionHistoryLimit").and_then(Value::as_i64)?;
    let newer = listed(module).iter().filter(|listed| listed.release.precedence(release).is_gt()).count();
    let count = i64::try_from(newer).unwrap_or(i64::MAX);
    (limit > 0 && count >= limit).then_some(limit)
}

/// Whether the Version was created or adopted for this Module. One that is being deleted does not count: the operator will create
/// another.
pub(crate) fn is_of_module(version: &Value, module: &Value) -> bool {
    let Ok(version) = VersionState::deserialize(version) else { return false };
    let is_owned = version.module().is_some_and(|owner| module["metadata"]["uid"] == owner.uid);
    is_owned && version.has_finalizer && !version.is_terminating()
}

/// Why the Module does not create the Version, if it cannot without a manual action.
///
/// `InvalidSpec`, `RecordFull` and `Suspended` may concern another version, so the caller checks twice.
pub(crate) fn prevented(module: &Value, other_version: Option<&Value>) -> Option<String> {
    let ready = Ready::of(module)?;
    let prevented = match ready.reason.as_str() {
        // The name of a Version that is being deleted becomes free: the message is about another one.
        "NameTaken" => {
            other_version.is_some_and(|version| version["metadata"]["deletionTimestamp"].is_null())
        }
        "InvalidSpec" | "RecordFull" | "Suspended" => true,
        _ => false,
    };
    prevented.then(|| ready.sentence())
}

/// Whether the Version has the configuration of its Module, as far as it decides how the archive is fetched, the bytes and the
/// location of the object.
pub(crate) fn has_config_of(version: &Value, module: &Value, name: &str) -> bool {
    let config = |value: &Value| ModuleConfig::deserialize(value).ok().map(|config| config.resolved(name));
    let wanted = config(&module["spec"]["moduleConfig"]);
    let current = config(&version["spec"]["moduleConfigRef"]);
    // Conditions report a configuration that cannot be read.
    wanted.zip(current).is_none_or(|(wanted, current)| {
        wanted.placement() == current.placement()
            && wanted.authenticated() == current.authenticated()
            && wanted.secret_name() == current.secret_name()
    })
}

/// A step of the wait for a Version that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Stored,
    /// Manual action is needed.
    GivenUp(String),
    Waiting,
}

/// How far a Version is. `request`: the retry that was requested, whose outcome counts.
pub(crate) fn progress(version: &Value, request: Option<&str>) -> Progress {
    let Some(ready) = Ready::of(version) else { return Progress::Waiting };
    if ready.reason == "Suspended" {
        return Progress::GivenUp(ready.sentence());
    }
    let handled = version.pointer("/status/lastHandledRequest").and_then(Value::as_str);
    if request.is_some() && request != handled {
        return Progress::Waiting;
    }
    match ready.status.as_str() {
        "True" => Progress::Stored,
        _ if ready.stalled => Progress::GivenUp(ready.sentence()),
        _ => Progress::Waiting,
    }
}

/// Whether the last attempt failed before this run, so that a retry has to be requested.
pub(crate) fn failed_before(version: &Value) -> bool {
    Ready::of(version).is_some_and(|ready| {
        ready.status == "False" && ready.reason != "Publishing" && ready.reason != "Suspended"
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::{FINALIZER, GROUP, VERSION};

    fn release(text: &str) -> Release {
        Release::parse(text).unwrap()
    }

    fn object(observed: i64, status: &str, reason: &str, stalled: &str) -> Value {
        json!({
            "metadata": {"generation": 2},
            "status": {"observedGeneration": observed, "lastHandledRequest": "a", "conditions": [
                {"type": "Ready", "status": status, "reason": reason, "message": "why."},
                {"type": "Stalled", "status": stalled},
            ]},
        })
    }

    #[test]
    fn the_status_of_an_earlier_generation_or_request_does_not_count() {
        let given_up = |reason: &str| Progress::GivenUp(format!("{reason}: why."));
        for (object, request, expected) in [
            (object(2, "True", "Synced", "False"), None, Progress::Stored),
            (object(1, "True", "Synced", "False"), None, Progress::Waiting),
            (object(2, "False", "TagNotFound", "False"), None, Progress::Waiting),
            (object(2, "False", "ArchiveRefused", "True"), None, given_up("ArchiveRefused")),
            (object(2, "False", "ArchiveRefused", "True"), Some("b"), Progress::Waiting),
            (object(2, "False", "ArchiveRefused", "True"), Some("a"), given_up("ArchiveRefused")),
            (
                object(2, "False", "Suspended", "False"),
                Some("b"),
                Progress::GivenUp("Suspended: why. To resume, set spec.suspend to false.".to_owned()),
            ),
            (json!({"metadata": {"generation": 1}}), None, Progress::Waiting),
        ] {
            assert_eq!(progress(&object, request), expected, "{object} {request:?}");
        }
        assert!(failed_before(&object(2, "False", "TagNotFound", "False")));
        assert!(!failed_before(&object(2, "False", "Publishing", "False")));
        assert!(!failed_before(&object(1, "False", "TagNotFound", "False")));
    }

    #[test]
    fn a_version_below_the_newest_ones_is_excluded_and_spellings_are_one() {
        let module = |limit: i64| {
            json!({"spec": {"moduleConfig": {"versionHistoryLimit": limit}, "versions": [
                {"version": "1.0.0"}, {"version": "v2.0.0"}, {"version": "2.0.0"}, {"version": "3.0.0"}, {"version": "odd"},
            ]}})
        };
        assert!(is_listed(&module(0), &release("v1.0.0")) && !is_listed(&module(0), &release("1.0.1")));
        assert_eq!(excluded_by_limit(&module(2), &release("1.0.0")), Some(2));
        assert_eq!(excluded_by_limit(&module(3), &release("1.0.0")), None);
        assert_eq!(excluded_by_limit(&module(2), &release("2.0.0")), None);
        assert_eq!(excluded_by_limit(&module(0), &release("1.0.0")), None);
    }

    #[test]
    fn what_prevents_a_version_is_the_state_of_its_module() {
        let taken = object(2, "False", "NameTaken", "True");
        let (other, going) = (json!({}), json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
        assert_eq!(prevented(&taken, Some(&other)).as_deref(), Some("NameTaken: why."));
        assert_eq!(prevented(&taken, Some(&going)), None, "its name becomes free");
        assert_eq!(prevented(&taken, None), None);
        assert_eq!(prevented(&object(1, "False", "Suspended", "False"), Some(&other)), None);
        assert!(prevented(&object(2, "False", "Suspended", "False"), None).is_some());
        assert_eq!(prevented(&object(2, "False", "TagNotFound", "False"), Some(&other)), None);
    }

    #[test]
    fn a_version_of_a_deleted_module_of_the_same_name_is_another_modules() {
        let module = json!({"metadata": {"uid": "new"}});
        let version = |uid: &str| {
            json!({"metadata": {"finalizers": [FINALIZER], "ownerReferences": [{
                "apiVersion": format!("{GROUP}/{VERSION}"), "kind": "Module", "name": "net", "uid": uid,
                "controller": true,
            }]}})
        };
        assert!(is_of_module(&version("new"), &module) && !is_of_module(&version("old"), &module));
        let mut going = version("new");
        going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert!(!is_of_module(&going, &module));
        let mut bare = version("new");
        bare["metadata"]["finalizers"] = json!([]);
        assert!(!is_of_module(&bare, &module));
    }

    #[test]
    fn a_default_that_is_written_out_is_no_other_configuration() {
        let module = json!({"spec": {"moduleConfig": {"repoUrl": "https://github.com/a/net",
            "storageConfig": {"s3": {"bucket": "one", "region": "us-west-2"}}}}});
        let mut version = json!({"spec": {"moduleConfigRef": module["spec"]["moduleConfig"]}});
        version["spec"]["moduleConfigRef"]["name"] = json!("net");
        assert!(has_config_of(&version, &module, "net"));
        version["spec"]["moduleConfigRef"]["storageConfig"]["s3"]["bucket"] = json!("two");
        assert!(!has_config_of(&version, &module, "net"));
        let credentials = json!({"useAuthenticatedClient": true, "secretName": "app"});
        let mut corrected = module.clone();
        corrected["spec"]["moduleConfig"]["githubClientConfig"] = credentials;
        let before = json!({"spec": {"moduleConfigRef": module["spec"]["moduleConfig"]}});
        assert!(!has_config_of(&before, &corrected, "net"));
    }
}
