//! The version for which a block is printed. Pure.

use crate::api::state::{ListedVersion, ModuleListing};
use crate::domain::Release;

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
    fn a_notice_at_any_spelling_of_a_version_counts() {
        let module = json!({"spec": {"versions": [
            {"version": "1.10.1"}, {"version": "v1.10.1", "withdrawn": "wrong tag"},
        ]}});
        let chosen = chosen_of(&module, Some("1.10.1")).unwrap();
        assert_eq!(chosen.withdrawn.as_deref(), Some("wrong tag"));
    }
}
