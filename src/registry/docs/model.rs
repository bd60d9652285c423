//! What an archive documents.

use serde::{Deserialize, Serialize};

/// The documentation of an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Docs {
    /// The root first, then submodules, then examples, each group sorted by path.
    pub folders: Vec<Folder>,
    /// Whether folders or files were left out, because there are too many.
    pub is_cut: bool,
}

#[cfg(test)]
impl Docs {
    /// The folder at `path`; the root for `""`.
    pub fn folder(&self, path: &str) -> Option<&Folder> {
        self.folders.iter().find(|folder| folder.path == path)
    }
}

/// The documentation of a folder: the root module, a submodule or an example.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Folder {
    /// Relative to the root, such as `modules/karpenter`; empty for the root.
    pub path: String,
    /// README.md, as it is written.
    pub readme: Option<String>,
    /// `required_version` of each `terraform` block.
    pub required_version: Vec<String>,
    /// Sorted by name.
    pub providers: Vec<Provider>,
    /// Sorted by name.
    pub inputs: Vec<Input>,
    /// Sorted by name.
    pub outputs: Vec<Output>,
    /// Sorted by mode, type and name.
    pub resources: Vec<Resource>,
    /// Sorted by name.
    pub calls: Vec<ModuleCall>,
    /// Files that could not be read, or not all of them.
    pub unreadable: Vec<Unreadable>,
}

/// A `variable` block.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    pub name: String,
    /// The type constraint, as it is written.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
    /// The default, as it is written. An input without one is required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Whether its value is hidden in output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sensitive: Option<bool>,
    /// Whether it may be null.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nullable: Option<bool>,
    /// Whether its value is kept out of state and plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ephemeral: Option<bool>,
    /// What to use instead, if it is deprecated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deprecated: Option<String>,
}

impl Input {
    /// Whether a caller has to set it.
    pub fn is_required(&self) -> bool {
        self.default.is_none()
    }
}

/// An `output` block.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Whether its value is hidden in output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sensitive: Option<bool>,
    /// Whether its value is kept out of state and plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ephemeral: Option<bool>,
    /// What to use instead, if it is deprecated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deprecated: Option<String>,
}

/// A provider that a module requires, or whose resources it has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Provider {
    /// Its name within the module.
    pub name: String,
    /// Its source address, such as `hashicorp/aws`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The version constraint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Configurations of it that a caller has to pass: `aws` for the default one, aliases such as `aws.east`. Sorted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// Whether this is a `provider` block, until the files of a folder are put together.
    #[serde(skip)]
    pub is_block: bool,
}

/// Whether a resource is created or read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResourceMode {
    /// A `resource` block.
    #[default]
    Managed,
    /// A `data` block.
    Data,
    /// An `ephemeral` block.
    Ephemeral,
}

/// A `resource`, `data` or `ephemeral` block.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Resource {
    pub mode: ResourceMode,
    /// Its type, such as `aws_eks_cluster`.
    #[serde(rename = "type")]
    pub type_: String,
    pub name: String,
}

/// A `module` block.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleCall {
    pub name: String,
    /// The source, as it is written, without quotes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The version constraint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// A file that could not be read, or not all of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unreadable {
    /// Its name within its folder.
    pub file: String,
    /// Why: a phrase of ours, which contains nothing of the file but a position.
    pub why: String,
}
