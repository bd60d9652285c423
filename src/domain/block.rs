//! The `module` block for a version: by registry address, or by the address of its object in S3. Pure.

use serde::Serialize;

use super::endpoint::Endpoint;
use super::location::ObjectLocation;
use super::release::Release;
use super::text::path_segment;

/// What consumers write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Block {
    pub label: String,
    pub source: String,
    /// `None` for an address in S3, for which Terraform and OpenTofu allow no version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

impl Block {
    /// By the registry address. `folder`: a folder in the module.
    pub fn of_registry(host: &str, address: &str, release: &Release, folder: Option<&str>) -> Self {
        let label = label(address.split('/').nth(1).unwrap_or(address), folder);
        let source = format!("{host}/{address}{}", subfolder(folder));
        Self { label, source, version: Some(release.to_string()) }
    }

    /// By the address of the object. `folder`: a folder in the module.
    pub fn of_object(module: &str, location: &ObjectLocation, folder: Option<&str>) -> Self {
        let key: Vec<String> = location.key.split('/').map(path_segment).collect();
        let (bucket, key, region) = (&location.bucket, key.join("/"), &location.region);
        let label = label(module, folder);
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
        Self { label, source, version: None }
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
    folder.map(|folder| format!("//{folder}")).unwrap_or_default()
}

/// The label of a block: the name of the folder or the module, as an identifier of HCL.
fn label(module: &str, folder: Option<&str>) -> String {
    let name = folder.and_then(|folder| folder.rsplit('/').next()).unwrap_or(module);
    let name = name.replace(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_', "_");
    if name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') { name } else { format!("_{name}") }
}

/// A text in a string of HCL.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace("${", "$${").replace("%{", "%%{")
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn blocks_are_hcl_that_can_be_copied() {
        let block = Block::of_registry("registry.acme.io", "platform/eks/aws", &release("v1.0.0"), None);
        let expected =
            "module \"eks\" {\n  source  = \"registry.acme.io/platform/eks/aws\"\n  version = \"1.0.0\"\n}";
        assert_eq!(block.to_string(), expected);
        let block = Block::of_object("net", &location(None, "a b/net/x.zip"), Some("modules/1.one"));
        let source = "s3::https://s3-us-west-2.amazonaws.com/modules/a%20b/net/x.zip//modules/1.one";
        assert_eq!(block.to_string(), format!("module \"_1_one\" {{\n  source = \"{source}\"\n}}"));
        let block = Block::of_object("net", &location(Some("https://minio.example.com/"), "net/x.zip"), None);
        assert_eq!(block.source, "s3::https://minio.example.com/modules/net/x.zip?region=us-west-2");
        assert!(
            block.needs_keys() && !Block::of_object("net", &location(None, "net/x.zip"), None).needs_keys()
        );
        assert_eq!(escaped("a\"${b}\\"), "a\\\"$${b}\\\\");
    }
}
