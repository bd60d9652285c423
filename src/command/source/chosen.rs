//! The version for which a block is printed, and its address. Pure.

use crate::api::state::{ListedVersion, ModuleListing};
use crate::domain::{Address, Release};

/// The version to use: the given one, or the latest one that is stored and not withdrawn. `latest`: `status.latestVersion`.
///
/// # Errors
/// Why there is no version to use.
pub(super) fn chosen(
    module: &ModuleListing,
    latest: Option<&str>,
    given: Option<&Release>,
) -> Result<ListedVersion, String> {
    let latest_release = || latest.and_then(|text| Release::parse(text).ok());
    let release = given.cloned().or_else(latest_release);
    let release = release.ok_or("no version is stored, or all that are stored are withdrawn")?;
    let latest = latest.unwrap_or("none");
    let not_listed = || format!("it does not list {release}: the latest stored version is {latest}");
    module.listed(&release).cloned().ok_or_else(not_listed)
}

/// The address at which the registry serves a release.
///
/// # Errors
/// Why it does not serve it.
pub(super) fn served_address<'a>(
    module: &'a ModuleListing,
    release: &Release,
) -> Result<&'a Address, String> {
    if !release.fits_clients() {
        return Err(format!(
            "no client can parse {release}, so the registry does not list it: choose a version whose numbers \
             are at most {}",
            i64::MAX
        ));
    }
    module.address().ok_or_else(|| format!("it has no registry address: {}", why_no_address(module)))
}

fn why_no_address(module: &ModuleListing) -> String {
    match (module.refusal.as_deref(), &module.claim) {
        _ if module.is_terminating() => "it is being deleted, so choose another Module".to_owned(),
        (Some(message), _) => message.to_owned(),
        (None, Err(why)) => why.to_string(),
        (None, Ok(claim)) => {
            format!(
                "the operator has not set status.address to {claim} yet: check that it runs, and try again"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize as _;
    use serde_json::{Value, json};

    use super::*;

    fn chosen_of(module: &Value, given: Option<&str>) -> Result<ListedVersion, String> {
        let latest = module["status"]["latestVersion"].as_str();
        chosen(&ModuleListing::deserialize(module).unwrap(), latest, given.map(release).as_ref())
    }

    fn release(text: &str) -> Release {
        Release::parse(text).unwrap()
    }

    #[test]
    fn the_latest_stored_version_is_the_default() {
        let module = json!({
            "spec": {"versions": [
                {"version": "v1.0.0", "deprecated": "old", "withdrawn": ""}, {"version": "1.1.0", "withdrawn": " "},
            ]},
            "status": {"latestVersion": "1.1.0"},
        });
        let chosen = chosen_of(&module, Some("1.0.0")).unwrap();
        assert_eq!((chosen.deprecated.as_deref(), chosen.withdrawn), (Some("old"), None));
        // A blank notice is none.
        let latest = chosen_of(&module, None).unwrap();
        assert_eq!((latest.release, latest.withdrawn), (release("1.1.0"), None));
        let error = chosen_of(&module, Some("2.0.0")).unwrap_err();
        assert_eq!(error, "it does not list 2.0.0: the latest stored version is 1.1.0");
        let error = chosen_of(&json!({}), None).unwrap_err();
        assert_eq!(error, "no version is stored, or all that are stored are withdrawn");
    }

    #[test]
    fn only_what_the_registry_serves_has_an_address_and_each_refusal_has_advice() {
        let published = json!({
            "metadata": {"name": "net", "namespace": "team"},
            "spec": {"moduleConfig": {"provider": "aws"}},
            "status": {"address": "team/net/aws"},
        });
        let address = |field: &str, value: Value, text: &str| {
            let mut module = published.clone();
            module[field].as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
            let module = ModuleListing::deserialize(module).unwrap();
            served_address(&module, &release(text)).map(ToString::to_string)
        };
        assert_eq!(address("spec", json!({}), "1.0.0"), Ok("team/net/aws".into()));
        let refused = json!([{"type": "Addressable", "status": "False", "message": "held by b: rename it"}]);
        let renamed = json!({"annotations": {"opendepot.defdev.io/registry-name": "other"}});
        for (field, value, text, expected) in [
            ("spec", json!({}), "1.0.9223372036854775808", "numbers are at most 9223372036854775807"),
            ("spec", json!({"moduleConfig": {"provider": "google-beta"}}), "1.0.0", "such as googlebeta"),
            (
                "metadata",
                renamed,
                "1.0.0",
                "not set status.address to team/other/aws yet: check that it runs",
            ),
            (
                "metadata",
                json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}),
                "1.0.0",
                "choose another Module",
            ),
            ("status", json!({"address": null, "conditions": refused}), "1.0.0", "held by b: rename it"),
        ] {
            let error = address(field, value, text).unwrap_err();
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }

    #[test]
    fn a_notice_at_any_spelling_of_a_version_counts() {
        let module = json!({"spec": {"versions": [
            {"version": "1.10.1"}, {"version": "v1.10.1", "withdrawn": "wrong tag"},
        ]}});
        let chosen = chosen_of(&module, Some("1.10.1")).unwrap();
        assert_eq!(chosen.withdrawn.as_deref(), Some("wrong tag"));
    }
}
