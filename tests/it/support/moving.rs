//! What the tests of moves share: a Module that may be stored in two buckets, and the requests that its moves cost.

use anyhow::ensure;
use http::Method;
use opendepot_testbed::github::{Hop, Repository};
use opendepot_testbed::s3::S3Request;
use serde_json::{Value, json};

use super::archives::sha256;
use super::{ModuleFixture, World, soon};

/// A world whose Module `mod` may be stored in two buckets: that of the test, and another.
pub(crate) struct Move {
    pub world: World,
    pub other: String,
    pub repository: Repository,
}

impl Move {
    /// A fresh one.
    pub(crate) async fn new(name: &str) -> Self {
        let world = World::new(name).await;
        let repository = world.released("mod");
        let other = format!("{}-other", world.name);
        world.bed.s3.create_bucket(&other).await.unwrap();
        Self { world, other, repository }
    }

    /// The Module in a bucket.
    pub(crate) fn module(&self, bucket: &str) -> ModuleFixture {
        self.world.module("mod").versions(&["v1.0.0"]).s3("bucket", json!(bucket))
    }

    /// The same, published.
    pub(crate) async fn published(&self) -> Value {
        self.world.apply(&self.module(&self.world.name));
        self.world.module_ready("mod").await;
        self.world.version_ready("mod-1.0.0").await
    }

    /// Applies a Module and waits until all that it wants is where it wants it, and nothing else is on record.
    pub(crate) async fn moved(&self, module: &ModuleFixture) -> Value {
        self.world.apply(module);
        self.arrived().await
    }

    /// Waits for the same.
    pub(crate) async fn arrived(&self) -> Value {
        self.world.module_ready("mod").await;
        let version = self.world.version_ready("mod-1.0.0").await;
        assert_eq!(version["status"]["objects"], json!([version["status"]["storage"]]), "what is on record");
        version
    }

    /// The objects in both buckets are these Versions', and no others.
    pub(crate) async fn only(&self, versions: &[&Value]) {
        let s3 = &self.world.bed.s3;
        let mut there = Vec::new();
        for bucket in [&self.world.name, &self.other] {
            there.extend(s3.keys(bucket).await.unwrap().into_iter().map(|key| (bucket.clone(), key)));
        }
        let mut expected: Vec<_> = versions.iter().map(|v| place(v)).collect();
        there.sort();
        expected.sort();
        assert_eq!(there, expected, "the objects in both buckets");
        for version in versions {
            let bytes = self.world.stored(version).await;
            assert_eq!(version["status"]["checksum"], sha256(&bytes));
        }
    }

    /// What S3 was asked of objects in both buckets, in order.
    pub(crate) fn log(&self) -> Vec<S3Request> {
        let s3 = &self.world.bed.s3;
        let mut all = [s3.requests(&self.world.name), s3.requests(&self.other)].concat();
        all.retain(|r| !r.key.is_empty());
        all.sort_by_key(|r| r.at);
        all
    }

    /// Counts from now on.
    pub(crate) fn forget(&self) {
        self.world.bed.github.forget_requests(&self.world.repository("mod")).unwrap();
        self.world.bed.s3.forget_requests(&self.world.name);
        self.world.bed.s3.forget_requests(&self.other);
    }

    /// Ends all faults.
    pub(crate) fn mend(&self) {
        self.world.bed.github.clear_faults(&self.world.repository("mod")).unwrap();
        self.world.bed.s3.clear_faults(&self.world.name);
        self.world.bed.s3.clear_faults(&self.other);
    }

    /// How many archives were asked for.
    pub(crate) fn fetches(&self) -> usize {
        let requests = self.world.bed.github.requests(&self.world.repository("mod")).unwrap();
        requests.iter().filter(|r| r.hop == Hop::Codeload).count()
    }

    /// Waits until a bucket holds so many objects.
    pub(crate) async fn holds(&self, bucket: &str, count: usize) {
        soon(|| async {
            let keys = self.world.bed.s3.keys(bucket).await?;
            ensure!(keys.len() == count, "{bucket} holds {keys:?}");
            Ok(())
        })
        .await;
    }

    /// Waits until a bucket was asked something for the `nth` time.
    pub(crate) async fn asked(&self, nth: usize, method: &Method, bucket: &str) {
        let count = || self.log().iter().filter(|r| r.method == *method && r.bucket == bucket).count();
        self.world.until(&format!("{method} in {bucket}"), || count() >= nth).await;
    }
}

/// Where a Version says that its object is.
pub(crate) fn place(version: &Value) -> (String, String) {
    let text = |field: &str| version["status"]["storage"][field].as_str().unwrap_or_default().to_owned();
    (text("bucket"), text("key"))
}
