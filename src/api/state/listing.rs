//! A Module as the registry keeps it: its address, and its list of versions.
//!
//! The operator's own cache drops the list, which may have 5,000 entries.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::address::claim;
use super::{RawObject, condition, is_true, list, text};
use crate::api::claim::NotAddressable;
use crate::api::condition::MAX_MESSAGE;
use crate::api::{DESCRIPTION, Module};
use crate::domain::text::cut;
use crate::domain::{Address, ArchiveFormat, Release};

/// The longest `deprecated`, `withdrawn` or description, in characters.
const LONGEST_NOTICE: usize = 256;

/// A Module as the registry keeps it.
#[derive(Resource, Clone, Debug, PartialEq)]
#[resource(inherit = "Module")]
pub struct ModuleListing {
    /// Name, namespace, UID, resourceVersion, generation and timestamps only.
    pub metadata: ObjectMeta,
    /// The address that its spec claims.
    pub claim: Result<Address, NotAddressable>,
    /// `status.address`: the address that it holds.
    pub held: Option<Box<str>>,
    /// Whether another Module holds the address, according to the condition `Addressable`.
    pub is_refused: bool,
    /// `Addressable`'s message, if it is not True. It may end with a command.
    pub refusal: Option<Box<str>>,
    /// `spec.moduleConfig.fileFormat`.
    pub format: ArchiveFormat,
    /// The versions that it lists, each once, in ascending order of precedence.
    pub versions: Box<[ListedVersion]>,
    /// The annotation `opendepot.defdev.io/description`, as one line.
    pub description: Option<Box<str>>,
}

/// One entry of `spec.versions`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedVersion {
    pub release: Release,
    /// Why consumers should move to another version.
    pub deprecated: Option<Box<str>>,
    /// Why it is no longer served.
    pub withdrawn: Option<Box<str>>,
}

impl ModuleListing {
    /// The address at which it is served: that which it claims and holds.
    pub fn address(&self) -> Option<&Address> {
        let claim = self.claim.as_ref().ok().filter(|_| !self.is_terminating())?;
        let held = self.held.as_deref()?;
        (claim.to_string() == held).then_some(claim)
    }

    /// The entry of a release.
    pub fn listed(&self, release: &Release) -> Option<&ListedVersion> {
        let found = self.versions.binary_search_by(|listed| listed.release.precedence(release)).ok()?;
        self.versions.get(found)
    }
}

impl<'de> Deserialize<'de> for ModuleListing {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let RawObject { metadata, spec, status } = RawObject::deserialize(deserializer)?;
        let config = spec.get("moduleConfig").unwrap_or(&Value::Null);
        let annotations = metadata.annotations.as_ref();
        let addressable = condition(&status, "Addressable");
        let refusal = text(addressable, "message").filter(|_| is_true(addressable) == Some(false));
        Ok(Self {
            claim: claim(metadata.names(), annotations, config),
            held: text(&status, "address").map(Into::into),
            is_refused: text(addressable, "reason") == Some("AddressTaken"),
            refusal: refusal.map(|message| cut(message, MAX_MESSAGE).into()),
            format: config
                .get("fileFormat")
                .and_then(|format| ArchiveFormat::deserialize(format).ok())
                .unwrap_or_default(),
            versions: listed(list(&spec, "versions")),
            description: annotations.and_then(|all| all.get(DESCRIPTION)).and_then(|text| line(text)),
            metadata: metadata.pruned(),
        })
    }
}

/// The entries that are versions, each once: two spellings of a version are merged, with their notices.
fn listed(entries: &[Value]) -> Box<[ListedVersion]> {
    let mut all: Vec<ListedVersion> = entries
        .iter()
        .filter_map(|entry| {
            let release = Release::parse(text(entry, "version")?).ok()?;
            let notice = |key| text(entry, key).and_then(line);
            Some(ListedVersion { release, deprecated: notice("deprecated"), withdrawn: notice("withdrawn") })
        })
        .collect();
    all.sort_by(|a, b| a.release.precedence(&b.release));
    all.dedup_by(|later, first| {
        if later.release != first.release {
            return false;
        }
        first.deprecated = first.deprecated.take().or_else(|| later.deprecated.take());
        first.withdrawn = first.withdrawn.take().or_else(|| later.withdrawn.take());
        true
    });
    all.into()
}

/// A text of the publisher as one line of bounded length, whatever was stored before the schema had the field. `None` if it is
/// blank.
fn line(text: &str) -> Option<Box<str>> {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let plain: String = plain.take(LONGEST_NOTICE).collect();
    Some(plain.trim()).filter(|text| !text.is_empty()).map(Into::into)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn module(value: Value) -> ModuleListing {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn two_spellings_are_one_version_and_empty_notices_are_none() {
        let module = module(json!({"metadata": {"name": "eks", "namespace": "platform"}, "spec": {
        "moduleConfig": {"provider": "aws"},
        "versions": [
            {"version": "v1.10.0", "deprecated": "use 2.x"},
            {"version": "1.9.0", "withdrawn": ""},
            {"version": "1.10.0", "withdrawn": "CVE\n2026"},
            {"version": "latest"}, {"version": 3}, null,
        ]}}));
        let all: Vec<_> = module
            .versions
            .iter()
            .map(|v| (v.release.to_string(), v.deprecated.as_deref(), v.withdrawn.as_deref()))
            .collect();
        assert_eq!(
            all,
            [("1.9.0".to_owned(), None, None), ("1.10.0".to_owned(), Some("use 2.x"), Some("CVE 2026"))]
        );
        assert!(module.listed(&Release::parse("v1.10.0").unwrap()).is_some());
        assert!(module.listed(&Release::parse("1.10.1").unwrap()).is_none());
    }

    #[test]
    fn a_module_is_served_only_at_the_address_that_it_claims_and_holds() {
        let with = |held: Value, deleted: Value| {
            module(json!({
                "metadata": {"name": "eks", "namespace": "platform", "deletionTimestamp": deleted},
                "spec": {"moduleConfig": {"provider": "aws"}},
                "status": {"address": held},
            }))
        };
        let served = |held, deleted| with(held, deleted).address().map(ToString::to_string);
        assert_eq!(served(json!("platform/eks/aws"), json!(null)), Some("platform/eks/aws".into()));
        assert_eq!(served(json!("platform/other/aws"), json!(null)), None);
        assert_eq!(served(json!(null), json!(null)), None);
        assert_eq!(served(json!("platform/eks/aws"), json!("2026-11-27T00:00:00Z")), None);
    }

    #[test]
    fn a_message_is_kept_only_while_it_says_why_there_is_no_address_and_never_whole_if_it_is_long() {
        let with = |status: &str, message: &str| {
            let condition = json!({"type": "Addressable", "status": status, "reason": "AddressTaken", "message": message});
            module(json!({"status": {"conditions": [condition]}})).refusal
        };
        assert_eq!(with("False", "held by b").as_deref(), Some("held by b"));
        assert_eq!(with("True", "no client can parse 1.x"), None);
        let long = with("False", &"é".repeat(100_000)).unwrap();
        assert!(long.len() <= MAX_MESSAGE && long.ends_with('…'), "{}", long.len());
    }

    #[test]
    fn an_odd_object_is_read_nevertheless() {
        for odd in [json!({}), json!({"spec": 3, "status": []}), json!({"spec": {"versions": {"a": 1}}})] {
            let module = module(odd);
            assert!(module.address().is_none() && module.versions.is_empty());
        }
    }
}
