//! What a sync cost, counted where it arrives: archives that GitHub served, objects that S3 was sent. And short ways to
//! ask for one, to move what a tag holds, and to read what Events say.

use http::Method;
use k8s_openapi::api::core::v1::Event;
use kube::api::{Api, ListParams};
use opendepot_testbed::github::{File, Hop, Repository};
use serde_json::{Value, json};

use super::archives::{Tree, h1};
use super::{World, condition, soon};

/// The files of a module that has just a `main.tf`.
pub(crate) fn main_tf(text: &str) -> Vec<File> {
    vec![File::new("main.tf", text)]
}

/// The content digest of [`main_tf`].
pub(crate) fn digest_of(text: &str) -> String {
    h1(&Tree::from([("main.tf".to_owned(), (false, text.as_bytes().to_vec()))]))
}

/// The message of an object's `Ready`.
pub(crate) fn message(object: &Value) -> &str {
    condition(object, "Ready")["message"].as_str().unwrap_or_default()
}

/// How many requests GitHub and S3 have received. Subtract an earlier snapshot for what came since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Requests of any kind about the repository.
    pub github: usize,
    /// Archives that were served.
    pub fetches: usize,
    /// Objects that S3 was sent, stored or refused.
    pub puts: usize,
    /// Looks at objects.
    pub heads: usize,
    /// Objects that were to be deleted.
    pub deletes: usize,
}

impl std::ops::Sub for Counts {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            github: self.github - earlier.github,
            fetches: self.fetches - earlier.fetches,
            puts: self.puts - earlier.puts,
            heads: self.heads - earlier.heads,
            deletes: self.deletes - earlier.deletes,
        }
    }
}

impl World {
    /// The requests so far about a repository, and about objects in this test's bucket.
    pub(crate) fn counts(&self, repository: &str) -> Counts {
        self.counts_below(repository, "")
    }

    /// The same, of objects whose key begins with a prefix.
    pub(crate) fn counts_below(&self, repository: &str, prefix: &str) -> Counts {
        let github = self.bed.github.requests(&self.repository(repository)).unwrap();
        let mut s3 = self.bed.s3.requests(&self.name);
        s3.retain(|r| !r.key.is_empty() && r.key.starts_with(prefix));
        let count = |method: Method| s3.iter().filter(|r| r.method == method).count();
        Counts {
            github: github.len(),
            fetches: github.iter().filter(|r| r.hop == Hop::Codeload && r.status == Some(200)).count(),
            puts: count(Method::PUT),
            heads: count(Method::HEAD),
            deletes: count(Method::DELETE),
        }
    }

    /// A repository with these tags, each of which holds its own name.
    pub(crate) fn tagged(&self, name: &str, tags: &[&str]) -> Repository {
        let repository = self.bed.github.repository(&self.repository(name)).unwrap();
        repository.releases(tags.iter().map(|tag| (*tag, main_tf(&format!("# {tag}\n"))))).unwrap();
        repository
    }

    /// How many archives of a repository were served.
    pub(crate) fn served(&self, repository: &str) -> usize {
        self.counts(repository).fetches
    }

    /// How many objects whose key begins so were sent to this test's bucket, stored or refused.
    pub(crate) fn sent(&self, prefix: &str) -> usize {
        self.counts_below("mod", prefix).puts
    }

    /// Forgets what was counted so far, of one repository and of the whole bucket.
    pub(crate) fn count_from_now(&self, repository: &str) {
        self.bed.github.forget_requests(&self.repository(repository)).unwrap();
        self.bed.s3.forget_requests(&self.name);
    }

    /// Asks for a sync with `forceSync`, of `module/NAME` or `version/NAME`.
    pub(crate) fn force(&self, object: &str) {
        self.patch(object, &json!({"spec": {"forceSync": true}}));
    }

    /// Asks for a sync with the annotation, of `module/NAME` or `version/NAME`.
    pub(crate) fn request(&self, object: &str, token: &str) {
        let annotations = json!({"opendepot.defdev.io/requestedAt": token});
        self.merge(object, "kubectl-annotate", &json!({"metadata": {"annotations": annotations}}));
    }

    /// Waits until what is stored from now on is younger than all that is stored, also by a clock of whole seconds.
    pub(crate) async fn next_second(&self) {
        let (now, from) = (jiff::Timestamp::now, jiff::Timestamp::now().as_second());
        self.until("the next second", || now().as_second() > from).await;
    }

    /// Waits until something that is counted is so.
    pub(crate) async fn until(&self, what: &str, so: impl Fn() -> bool) {
        soon(|| async {
            anyhow::ensure!(so(), "{what}: not yet; S3 was sent {:#?}", self.bed.s3.requests(&self.name));
            Ok(())
        })
        .await;
    }

    /// Waits until a Version's `forceSync` was handled and is `false` again, in spec and status.
    pub(crate) async fn version_reset(&self, name: &str) -> Value {
        self.version_when(name, |v| {
            v["spec"]["forceSync"] == false
                && v["status"]["observedGeneration"] == v["metadata"]["generation"]
                && !v["status"]["pendingForce"].as_str().unwrap_or_default().starts_with("done")
        })
        .await
    }

    /// Waits until a Module's `forceSync` was handled and is `false` again, and the status speaks of that.
    pub(crate) async fn module_reset(&self, name: &str) -> Value {
        self.module_when(name, |m| {
            m["spec"]["forceSync"] == false
                && m["status"]["observedGeneration"] == m["metadata"]["generation"]
                && m["status"]["forceToken"].as_str().is_some_and(|token| token.starts_with("done:"))
        })
        .await
    }

    /// Waits until there is an Event with this reason about an object, and gives the notes of all such.
    pub(crate) async fn events(&self, object: &str, reason: &str) -> Vec<String> {
        let notes = || async {
            let events = self.all_events(object, &format!("reason={reason}")).await?;
            anyhow::ensure!(!events.is_empty(), "no Event {reason} about {object}");
            let notes = events.into_iter().map(|event| event.message.unwrap_or_default());
            Ok(notes.collect::<Vec<String>>())
        };
        soon(notes).await
    }

    /// The Events about an object with this field.
    pub(super) async fn all_events(&self, object: &str, field: &str) -> anyhow::Result<Vec<Event>> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), &self.name);
        let of = ListParams::default().fields(&format!("involvedObject.name={object},{field}"));
        Ok(events.list(&of).await?.items)
    }
}
