//! The version of Kubernetes that the tests run on: the newest one, or an older one that the environment names.
//!
//! `hack/servers` pins the newest version, and a folder `hack/servers-MINOR` each older one.

use std::fs;
use std::sync::LazyLock;

use anyhow::{Context, Result};

use crate::servers::source;

/// The environment variable that names the version: `1.30`, for example.
pub const VARIABLE: &str = "OPENDEPOT_TEST_KUBERNETES";

/// The folder below `hack/` that pins the newest version.
pub(crate) const NEWEST: &str = "servers";

/// A version of Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kubernetes {
    /// With the patch: `1.30.14`.
    pub version: String,
    /// The folder below `hack/` whose `go.mod` pins it.
    pub module: String,
}

impl Kubernetes {
    /// The version without the patch: `1.30`.
    pub fn minor(&self) -> &str {
        self.version.rsplit_once('.').map_or(&self.version, |(minor, _)| minor)
    }

    fn pinned_by(module: &str) -> Result<Self> {
        let text = fs::read_to_string(source(module).join("go.mod"))
            .with_context(|| format!("cannot read hack/{module}/go.mod"))?;
        let version = required_by(&text)
            .with_context(|| format!("hack/{module}/go.mod does not require k8s.io/kubernetes"))?;
        Ok(Self { version: version.to_owned(), module: module.to_owned() })
    }
}

/// The version of Kubernetes that a `go.mod` requires, if it requires one.
pub(crate) fn required_by(go_mod: &str) -> Option<&str> {
    let version = go_mod.lines().find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes v"));
    // What follows is a comment of Go's own: `// indirect`.
    version.and_then(|rest| rest.split_whitespace().next())
}

/// The versions that the tests can run on, the newest one first, then the older ones in the order of their folders.
pub fn known() -> Result<Vec<Kubernetes>> {
    let mut modules = Vec::new();
    for folder in fs::read_dir(source("")).context("cannot read hack")? {
        modules.extend(folder?.file_name().into_string().ok().filter(|name| name.starts_with("servers")));
    }
    modules.sort();
    modules.iter().map(|module| Kubernetes::pinned_by(module)).collect()
}

/// The version that the environment names, or else the newest one.
pub fn chosen() -> Result<Kubernetes> {
    choose(std::env::var(VARIABLE).ok().as_deref(), known()?)
}

/// The folder below `hack/` of the version that the environment names, if that is an older one.
pub(crate) fn older() -> Option<&'static str> {
    static OLDER: LazyLock<Option<String>> =
        LazyLock::new(|| chosen().ok().map(|chosen| chosen.module).filter(|module| module != NEWEST));
    OLDER.as_deref()
}

fn choose(name: Option<&str>, known: Vec<Kubernetes>) -> Result<Kubernetes> {
    let minors = known.iter().map(Kubernetes::minor).collect::<Vec<_>>().join(", ");
    let wanted = |version: &Kubernetes| name.is_none_or(|name| name.is_empty() || version.minor() == name);
    known.into_iter().find(wanted).with_context(|| {
        format!(
            "{VARIABLE}={} is not a version that the tests can run on: use one of {minors}",
            name.unwrap_or_default()
        )
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_the_default_and_an_unknown_one_is_refused_with_the_known_ones() {
        let known = known().unwrap();
        assert!(known.len() > 1, "{known:?}");
        assert_eq!(choose(None, known.clone()).unwrap().module, "servers");
        assert_eq!(choose(Some(""), known.clone()).unwrap(), known[0]);
        for version in &known {
            assert_eq!(choose(Some(version.minor()), known.clone()).unwrap(), *version);
            let folder = if *version == known[0] {
                "servers".to_owned()
            } else {
                format!("servers-{}", version.minor())
            };
            assert_eq!(version.module, folder);
        }
        let minors = known.iter().map(Kubernetes::minor).collect::<Vec<_>>().join(", ");
        let error = choose(Some("1.2"), known).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "OPENDEPOT_TEST_KUBERNETES=1.2 is not a version that the tests can run on: use one of {minors}"
            )
        );
    }
}
