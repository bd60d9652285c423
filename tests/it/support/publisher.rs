//! What the tests of release workflows start from.

use opendepot_testbed::github::{File, Repository};

use super::{World, root};

impl World {
    /// A repository with a release for each of the tags.
    pub(crate) fn with_releases(&self, name: &str, tags: &[&str]) -> Repository {
        let repository = self.bed.github.repository(&self.repository(name)).unwrap();
        for tag in tags {
            repository.release(tag, &[File::new("main.tf", format!("# {tag}\n"))]).unwrap();
        }
        repository
    }

    /// Makes the service account `runner`, with the permissions of the example for release workflows and no others.
    pub(crate) fn runner(&self) {
        let role = std::fs::read_to_string(root().join("examples/release-workflow-rbac.yaml")).unwrap();
        self.apply(&role.replace("opendepot-system", &self.name));
        self.kubectl(&["create", "serviceaccount", "runner"]);
        let account = format!("--serviceaccount={}:runner", self.name);
        self.kubectl(&["create", "rolebinding", "runner", "--role=opendepot-publisher", &account]);
    }
}
