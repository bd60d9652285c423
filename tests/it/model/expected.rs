//! What users want at any moment of a sequence, kept without any server.
//!
//! In: the steps that change a wish. Out: the manifests that say so, and the names and versions that there have to be
//! when all has settled.

use std::collections::BTreeMap;

use opendepot::api::object_name::version_object;
use opendepot::domain::Release;
use serde_json::{Value, json};

use super::steps::{Step, TAGS};

/// What one Module asks for.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "they are the Module's own switches")]
pub(super) struct Wish {
    pub there: bool,
    pub versions: Vec<String>,
    pub limit: usize,
    pub bucket: usize,
    pub prefix: Option<&'static str>,
    pub name: Option<&'static str>,
    pub tar: bool,
    pub repository: usize,
    pub immutable: bool,
    pub suspended: bool,
}

impl Wish {
    /// A wish for nothing, from the Module's own repository.
    pub(super) fn of(module: usize) -> Self {
        Self { repository: module, ..Self::default() }
    }

    /// Takes up what a step changes of it.
    pub(super) fn take(&mut self, step: &Step) {
        match step {
            Step::Append { version, spelled, .. } => {
                let version = spelling(*version, *spelled);
                if !self.versions.contains(&version) {
                    self.versions.push(version);
                }
            }
            Step::List { versions, .. } => {
                self.versions = versions.iter().map(|version| TAGS[*version].to_owned()).collect();
                self.versions.dedup();
                let mut seen = Vec::new();
                self.versions.retain(|v| {
                    !seen.contains(v) && {
                        seen.push(v.clone());
                        true
                    }
                });
            }
            Step::Remove { version, .. } => {
                let gone = Release::parse(TAGS[*version]).unwrap();
                self.versions.retain(|v| Release::parse(v).unwrap() != gone);
            }
            Step::Limit { limit, .. } => self.limit = *limit,
            Step::Move { bucket, prefix, .. } => (self.bucket, self.prefix) = (*bucket, *prefix),
            Step::Rename { name, .. } => self.name = *name,
            Step::Format { tar, .. } => self.tar = *tar,
            Step::Repository { repository, .. } => self.repository = *repository,
            Step::Immutable { immutable, .. } => self.immutable = *immutable,
            Step::Suspend { suspended, .. } => self.suspended = *suspended,
            _ => {}
        }
    }

    /// The versions that there have to be, by the name of their object: the newest of the list.
    pub(super) fn wanted(&self, module: &str) -> BTreeMap<String, Release> {
        let mut releases: Vec<Release> = self.versions.iter().map(|v| Release::parse(v).unwrap()).collect();
        releases.sort_by(|a, b| b.precedence(a));
        releases.dedup();
        if self.limit > 0 {
            releases.truncate(self.limit);
        }
        if !self.there {
            releases.clear();
        }
        releases.into_iter().map(|release| (version_object(module, &release), release)).collect()
    }

    /// How many of the list are left out.
    pub(super) fn pruned(&self, module: &str) -> usize {
        let all = Self { limit: 0, ..self.clone() };
        all.wanted(module).len() - self.wanted(module).len()
    }

    /// `spec.moduleConfig` but for what never changes.
    pub(super) fn config(&self, owner: &str, buckets: &[String]) -> Value {
        json!({
            "name": self.name,
            "provider": "aws",
            "repoUrl": format!("https://github.com/{owner}/{}", repository(self.repository)),
            "fileFormat": if self.tar { "tar" } else { "zip" },
            "immutable": self.immutable,
            "versionHistoryLimit": self.limit,
            "storageConfig": {"s3": {
                "bucket": buckets[self.bucket], "key": self.prefix, "region": "us-west-2", "forcePathStyle": true,
            }},
        })
    }
}

/// The name of a repository, and of the Module that it is made for.
pub(super) fn repository(number: usize) -> String {
    format!("mod-{number}")
}

/// A version as its tag is spelled, or the other way.
pub(super) fn spelling(version: usize, as_tagged: bool) -> String {
    let tag = TAGS[version];
    match (as_tagged, tag.strip_prefix('v')) {
        (true, _) => tag.to_owned(),
        (false, Some(bare)) => bare.to_owned(),
        (false, None) => format!("v{tag}"),
    }
}
