//! The `module` block for a version: by registry address, or by the address of its object in S3. Pure.

use serde::Serialize;

use crate::api::state::{ListedVersion, ModuleListing};
use crate::domain::text::percent_encoded;
use crate::domain::{Endpoint, ObjectLocation, Release};

/// What consumers write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Block {
    pub label: String,
    pub source: String,
    /// `None` for an address in S3, for which Terraform and OpenTofu allow no version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

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

impl Block {
    /// By the registry address. `folder`: a folder in the module.
    pub fn of_registry(host: &str, address: &str, release: &Release, folder: Option<&str>) -> Self {
        let label = label(address.split('/').nth(1).unwrap_or(address));
        let source = format!("{host}/{address}{}", subfolder(folder));
        Self { label, source, version: Some(release.to_string()) }
    }

    /// By the address of the object. `folder`: a folder in the module.
    pub fn of_object(module: &str, location: &ObjectLocation, folder: Option<&str>) -> Self {
        let key: Vec<String> = location.key.split('/').map(|part| percent_encoded(part, is_plain)).collect();
        let (bucket, key, region) = (&location.bucket, key.join("/"), &location.region);
        let folder = subfolder(folder);
        let is_other_store =
            |endpoint: &&str| endpoint.parse::<Endpoint>().is_ok_and(|endpoint| !endpoint.belongs_to_aws());
        let source = match location.endpoint.as_deref().filter(is_other_store) {
            None => format!("s3::https://s3-{region}.amazonaws.com/{bucket}/{key}{folder}"),
            Some(endpoint) => {
                let endpoint = endpoint.trim_end_matches('/');
                format!("s3::{endpoint}/{bucket}/{key}{folder}?region={region}")
            }
        };
        Self { label: label(module), source, version: None }
    }

    /// Whether clients ignore the endpoint unless the address contains keys.
    pub fn needs_keys(&self) -> bool {
        self.source.starts_with("s3::") && self.source.contains("?region=")
    }
}

impl std::fmt::Display for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { label, source, version } = self;
        let source = escaped(source);
        writeln!(f, "module \"{label}\" {{")?;
        match version {
            Some(version) => write!(f, "  source  = \"{source}\"\n  version = \"{}\"\n}}", escaped(version)),
            None => write!(f, "  source = \"{source}\"\n}}"),
        }
    }
}

/// The end of a source address that names a folder in the module.
fn subfolder(folder: Option<&str>) -> String {
    folder.map(|folder| format!("//{}", folder.trim_matches('/'))).unwrap_or_default()
}

/// Characters that a URL's path may contain unencoded (RFC 3986, unreserved).
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// A name as the label of a block: an identifier of HCL.
fn label(name: &str) -> String {
    let name = name.replace(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_', "_");
    if name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') { name } else { format!("_{name}") }
}

/// A text in a string of HCL.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace("${", "$${").replace("%{", "%%{")
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

    fn location(endpoint: Option<&str>, key: &str) -> ObjectLocation {
        ObjectLocation {
            bucket: "modules".into(),
            key: key.into(),
            region: "us-west-2".into(),
            endpoint: endpoint.map(str::to_owned),
            force_path_style: None,
        }
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

    #[test]
    fn blocks_are_hcl_that_can_be_copied() {
        let block = Block::of_registry("registry.acme.io", "platform/eks/aws", &release("v1.0.0"), None);
        let expected =
            "module \"eks\" {\n  source  = \"registry.acme.io/platform/eks/aws\"\n  version = \"1.0.0\"\n}";
        assert_eq!(block.to_string(), expected);
        let block = Block::of_object("1.net", &location(None, "a b/net/x.zip"), Some("/modules/one/"));
        let source = "s3::https://s3-us-west-2.amazonaws.com/modules/a%20b/net/x.zip//modules/one";
        assert_eq!(block.to_string(), format!("module \"_1_net\" {{\n  source = \"{source}\"\n}}"));
        let block = Block::of_object("net", &location(Some("https://minio.example.com/"), "net/x.zip"), None);
        assert_eq!(block.source, "s3::https://minio.example.com/modules/net/x.zip?region=us-west-2");
        assert!(
            block.needs_keys() && !Block::of_object("net", &location(None, "net/x.zip"), None).needs_keys()
        );
        assert_eq!(escaped("a\"${b}\\"), "a\\\"$${b}\\\\");
    }
}
