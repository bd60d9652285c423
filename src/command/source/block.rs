//! The `module` block for a version: by registry address, or by the address of its object in S3. Pure.

use serde::Serialize;
use serde_json::Value;

use crate::domain::text::percent_encoded;
use crate::domain::{Endpoint, ObjectLocation, Release};

/// What consumers write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Block {
    pub label: String,
    pub source: String,
    /// `None` for an address in S3, which Terraform and OpenTofu allow no version for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// The version to use, and what its entry of `spec.versions` contains about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chosen {
    pub release: Release,
    pub deprecated: Option<String>,
    pub withdrawn: Option<String>,
}

/// Why there is no version to use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoVersion {
    #[error("no version is stored, or all that are stored are withdrawn")]
    NoneStored,
    #[error("it does not list {version}: the latest stored version is {latest}")]
    NotListed { version: Release, latest: String },
}

impl Chosen {
    /// The given version, or the latest one that is stored and not withdrawn.
    ///
    /// # Errors
    /// [`NoVersion`] if the Module does not list it, or none is stored.
    pub(crate) fn of(module: &Value, given: Option<&Release>) -> Result<Self, NoVersion> {
        let latest = module.pointer("/status/latestVersion").and_then(Value::as_str);
        let release = match given {
            Some(release) => release.clone(),
            None => latest.and_then(|text| Release::parse(text).ok()).ok_or(NoVersion::NoneStored)?,
        };
        Self::listed(module, &release).ok_or_else(|| NoVersion::NotListed {
            version: release,
            latest: latest.unwrap_or("none").to_owned(),
        })
    }

    /// Both spellings of a version count, `v1.0.0` and `1.0.0`.
    fn listed(module: &Value, release: &Release) -> Option<Self> {
        let entries = module.pointer("/spec/versions").and_then(Value::as_array)?;
        let is_it = |entry: &&Value| {
            let version = entry["version"].as_str().map(Release::parse);
            version.is_some_and(|listed| listed.is_ok_and(|listed| listed == *release))
        };
        let found: Vec<&Value> = entries.iter().filter(is_it).collect();
        let notice = |field: &str| {
            let mut texts = found.iter().filter_map(|entry| entry[field].as_str());
            texts.find(|text| !text.is_empty()).map(str::to_owned)
        };
        let (deprecated, withdrawn) = (notice("deprecated"), notice("withdrawn"));
        (!found.is_empty()).then(|| Self { release: release.clone(), deprecated, withdrawn })
    }
}

impl Block {
    pub fn of_registry(host: &str, address: &str, release: &Release) -> Self {
        let label = label(address.split('/').nth(1).unwrap_or(address));
        Self { label, source: format!("{host}/{address}"), version: Some(release.to_string()) }
    }

    /// By the address of the object. `folder`: a folder in the module.
    pub fn of_object(module: &str, place: &ObjectLocation, folder: Option<&str>) -> Self {
        let key: Vec<String> = place.key.split('/').map(|part| percent_encoded(part, is_plain)).collect();
        let (bucket, key, region) = (&place.bucket, key.join("/"), &place.region);
        let folder = folder.map(|folder| format!("//{}", folder.trim_matches('/'))).unwrap_or_default();
        let other_store = place
            .endpoint
            .as_deref()
            .filter(|endpoint| endpoint.parse::<Endpoint>().is_ok_and(|endpoint| !endpoint.belongs_to_aws()));
        let source = match other_store {
            None => format!("s3::https://s3-{region}.amazonaws.com/{bucket}/{key}{folder}"),
            Some(endpoint) => {
                let endpoint = endpoint.trim_end_matches('/');
                format!("s3::{endpoint}/{bucket}/{key}{folder}?region={region}")
            }
        };
        Self { label: label(module), source, version: None }
    }
}

impl Block {
    /// Whether clients ignore the endpoint unless the address contains keys.
    pub fn needs_keys(&self) -> bool {
        self.source.starts_with("s3::") && self.source.contains("?region=")
    }
}

impl std::fmt::Display for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { label, source, version } = self;
        writeln!(f, "module \"{label}\" {{")?;
        match version {
            Some(version) => {
                writeln!(f, "  source  = \"{}\"\n  version = \"{}\"", escaped(source), escaped(version))?;
            }
            None => writeln!(f, "  source = \"{}\"", escaped(source))?,
        }
        f.write_str("}")
    }
}

/// Characters that a URL's path may contain unencoded (RFC 3986, unreserved).
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// A name as the label of a block: an identifier of HCL.
fn label(name: &str) -> String {
    let name: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '_' })
        .collect();
    if name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') { name } else { format!("_{name}") }
}

/// A text in a string of HCL.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace("${", "$${").replace("%{", "%%{")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn release(text: &str) -> Release {
        Release::parse(text).unwrap()
    }

    fn place(endpoint: Option<&str>, key: &str) -> ObjectLocation {
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
            "spec": {"versions": [{"version": "v1.0.0", "deprecated": "old", "withdrawn": ""}, {"version": "1.1.0"}]},
            "status": {"latestVersion": "1.1.0"},
        });
        let chosen = Chosen::of(&module, Some(&release("1.0.0"))).unwrap();
        assert_eq!((chosen.deprecated.as_deref(), chosen.withdrawn), (Some("old"), None));
        assert_eq!(Chosen::of(&module, None).unwrap().release, release("1.1.0"));
        let error = Chosen::of(&module, Some(&release("2.0.0"))).unwrap_err().to_string();
        assert_eq!(error, "it does not list 2.0.0: the latest stored version is 1.1.0");
        assert_eq!(Chosen::of(&json!({}), None), Err(NoVersion::NoneStored));
    }

    #[test]
    fn a_notice_at_any_spelling_of_a_version_counts() {
        let module = json!({"spec": {"versions": [
            {"version": "1.10.1"}, {"version": "v1.10.1", "withdrawn": "wrong tag"},
        ]}});
        let chosen = Chosen::of(&module, Some(&release("1.10.1"))).unwrap();
        assert_eq!(chosen.withdrawn.as_deref(), Some("wrong tag"));
    }

    #[test]
    fn blocks_are_hcl_that_can_be_copied() {
        let block = Block::of_registry("registry.acme.io", "platform/eks/aws", &release("v1.0.0"));
        let expected =
            "module \"eks\" {\n  source  = \"registry.acme.io/platform/eks/aws\"\n  version = \"1.0.0\"\n}";
        assert_eq!(block.to_string(), expected);
        let block = Block::of_object("1.net", &place(None, "a b/net/x.zip"), Some("/modules/one/"));
        let source = "s3::https://s3-us-west-2.amazonaws.com/modules/a%20b/net/x.zip//modules/one";
        assert_eq!(block.to_string(), format!("module \"_1_net\" {{\n  source = \"{source}\"\n}}"));
        let block = Block::of_object("net", &place(Some("https://minio.example.com/"), "net/x.zip"), None);
        assert_eq!(block.source, "s3::https://minio.example.com/modules/net/x.zip?region=us-west-2");
        assert!(block.needs_keys() && !Block::of_object("net", &place(None, "net/x.zip"), None).needs_keys());
        assert_eq!(escaped("a\"${b}\\"), "a\\\"$${b}\\\\");
    }
}
