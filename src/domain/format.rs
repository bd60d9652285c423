//! Archive formats that Terraform and OpenTofu can unpack.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a module is packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ArchiveFormat {
    /// A zip archive, `.zip`.
    #[default]
    Zip,
    /// A gzip-compressed tar archive, `.tar.gz`.
    Tar,
}

impl ArchiveFormat {
    /// The file extension that Terraform recognises the format by, without its leading dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Zip => "zip",
            Self::Tar => "tar.gz",
        }
    }

    /// As manifests write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Zip => "zip",
            Self::Tar => "tar",
        }
    }

    /// Whether a file name, or a key, ends as this format does.
    pub fn is_extension_of(self, file_name: &str) -> bool {
        let ending = format!(".{}", self.extension());
        file_name.to_ascii_lowercase().ends_with(&ending)
    }

    /// Whether a file name ends as one of the other format does. A name that ends in neither way says nothing.
    pub fn conflicts_with(self, file_name: &str) -> bool {
        let others: &[&str] = match self {
            Self::Zip => &[".tar.gz", ".tgz", ".tar"],
            Self::Tar => &[".zip"],
        };
        let file_name = file_name.to_ascii_lowercase();
        others.iter().any(|ending| file_name.ends_with(ending))
    }
}
