//! S3: versitygw, a production gateway over plain files, behind a proxy that counts requests and can fail them.
//!
//! Objects are plain files under [`S3::data_dir`], so a test can lose or damage one with the file system.

mod faults;
mod front;
mod proxy;
mod stores;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
};
use aws_sdk_s3::primitives::ByteStream;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;

pub use self::faults::{S3Failure, S3Fault};
pub use self::front::S3Tls;
use self::proxy::Shared;
pub use self::stores::Store;
use crate::background::{Task, eventually, lock};
use crate::port::{Port, free_port};
use crate::process::{Folder, Process, Spec};
use crate::servers::{Server, binaries};

/// The region of every bucket of [`S3::start`].
pub const REGION: &str = "us-west-2";

/// One request that S3 was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Request {
    /// `PUT` of an object is `PutObject`, `HEAD` is `HeadObject`, and so on.
    pub method: Method,
    /// The bucket.
    pub bucket: String,
    /// The key; empty for requests about the bucket.
    pub key: String,
    /// The checksum that a PUT carries.
    pub sha256: Option<String>,
    /// Whether the signature covers the SHA-256 of the body.
    pub signed_body: bool,
    /// Whether a HEAD asks for the checksum.
    pub checksum_mode: bool,
    /// Whether a PUT is only to make an object, not to replace one.
    pub create_only: bool,
    /// The answer's status. None when there is none yet, or the connection broke first.
    pub status: Option<u16>,
    /// When it arrived.
    pub at: SystemTime,
}

/// Who may use S3.
#[derive(Debug, Clone)]
pub struct S3User {
    /// `AWS_ACCESS_KEY_ID`.
    pub access_key: String,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret_key: String,
}

impl S3User {
    fn new() -> Self {
        let random = || uuid::Uuid::new_v4().simple().to_string();
        Self { access_key: format!("TEST{}", &random()[..16].to_uppercase()), secret_key: random() }
    }
}

/// A running S3. It ends when this is dropped.
pub struct S3 {
    folder: Folder,
    binary: PathBuf,
    region: String,
    has_versions: bool,
    root: S3User,
    front: Port,
    back: SocketAddr,
    shared: Arc<Shared>,
    running: Mutex<Option<(Process, Task)>>,
}

impl S3 {
    /// Starts one, without buckets.
    pub async fn start() -> Result<Self> {
        Self::start_as(S3User::new(), REGION, false).await
    }

    /// Starts another one, in another region, which knows the same user who may do everything.
    pub async fn another(&self, region: &str) -> Result<Self> {
        Self::start_as(self.root.clone(), region, false).await
    }

    /// Another one in the same region, with a bucket that has versioning. It knows the same user who may do everything.
    pub async fn another_with_versions(&self, bucket: &str) -> Result<Self> {
        use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
        let s3 = Self::start_as(self.root.clone(), &self.region, true).await?;
        s3.create_bucket(bucket).await?;
        let enabled = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
        let put = s3.client().put_bucket_versioning().bucket(bucket).versioning_configuration(enabled);
        put.send().await.with_context(|| format!("cannot version bucket {bucket}"))?;
        Ok(s3)
    }

    async fn start_as(root: S3User, region: &str, has_versions: bool) -> Result<Self> {
        let [binary] = tokio::task::spawn_blocking(|| binaries([Server::Versitygw])).await??;
        let s3 = Self {
            folder: Folder::new("s3")?,
            binary,
            region: region.to_owned(),
            has_versions,
            root,
            front: Port::new()?,
            back: SocketAddr::from(([127, 0, 0, 1], free_port()?)),
            shared: Arc::default(),
            running: Mutex::default(),
        };
        s3.resume().await?;
        Ok(s3)
    }

    /// Ends an outage: the same data on the same port.
    pub async fn resume(&self) -> Result<()> {
        let gateway = Process::spawn(&self.spec()?)?;
        eventually(Duration::from_mins(1), || async {
            gateway.check_alive()?;
            tokio::net::TcpStream::connect(self.back).await.context("versitygw does not listen yet").map(drop)
        })
        .await?;
        let proxy = front::start(&self.front, None, self.back, self.shared.clone())?;
        *lock(&self.running) = Some((gateway, proxy));
        Ok(())
    }

    /// Begins an outage: connections break, and new ones are refused.
    pub async fn stop(&self) -> Result<()> {
        let running = lock(&self.running).take();
        let (gateway, proxy) = running.context("S3 is stopped already")?;
        self.front.refuse()?;
        drop(proxy);
        gateway.stop().await
    }

    fn spec(&self) -> Result<Spec> {
        let spec = Spec::new(&self.binary, self.folder.path().join("versitygw.log"))
            .env("ROOT_ACCESS_KEY", &self.root.access_key)
            .env("ROOT_SECRET_KEY", &self.root.secret_key)
            .args(["--quiet", "--keep-alive", "--region", &self.region, "--port"])
            .arg(self.back.to_string())
            .arg("--iam-dir")
            .arg(self.folder.sub("users")?)
            .args(["posix", "--sidecar"])
            .arg(self.folder.sub("metadata")?);
        let versions = if self.has_versions {
            vec!["--versioning-dir".into(), self.folder.sub("versions")?]
        } else {
            Vec::new()
        };
        Ok(spec.args(versions).arg(self.folder.sub("data")?))
    }

    /// Where clients reach it, for `AWS_ENDPOINT_URL_S3`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.front.address())
    }

    /// Who may do everything.
    pub fn root(&self) -> &S3User {
        &self.root
    }

    /// Makes a user who has no rights but those that a bucket's policy gives (see [`Self::client`]).
    pub fn create_user(&self) -> Result<S3User> {
        let user = S3User::new();
        let output = std::process::Command::new(&self.binary)
            .args(["admin", "--region", &self.region, "--endpoint-url", &format!("http://{}", self.back)])
            .args(["--access", &self.root.access_key, "--secret", &self.root.secret_key, "create-user"])
            .args(["--access", &user.access_key, "--secret", &user.secret_key, "--role", "user"])
            .output()
            .context("cannot run versitygw admin")?;
        ensure!(
            output.status.success(),
            "cannot make an S3 user: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(user)
    }

    /// A client of the user who may do everything, for the caller's runtime.
    pub fn client(&self) -> Client {
        self.client_of(&self.root)
    }

    /// A client of `user`, for the caller's runtime.
    pub fn client_of(&self, user: &S3User) -> Client {
        let credentials = Credentials::new(&user.access_key, &user.secret_key, None, None, "testbed");
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(self.region.clone()))
            .endpoint_url(self.endpoint())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .credentials_provider(credentials)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .force_path_style(true);
        Client::from_conf(config.build())
    }

    /// Makes a bucket.
    pub async fn create_bucket(&self, bucket: &str) -> Result<()> {
        let made = self.client().create_bucket().bucket(bucket).send().await;
        made.map(drop).with_context(|| format!("cannot make bucket {bucket}"))
    }

    /// The keys in a bucket, in order.
    pub async fn keys(&self, bucket: &str) -> Result<Vec<String>> {
        let mut pages = self.client().list_objects_v2().bucket(bucket).into_paginator().send();
        let mut keys = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.with_context(|| format!("cannot list bucket {bucket}"))?;
            keys.extend(page.contents().iter().filter_map(|object| object.key().map(ToOwned::to_owned)));
        }
        Ok(keys)
    }

    /// An object's bytes.
    pub async fn get(&self, bucket: &str, key: &str) -> Result<Vec<u8>> {
        let object = self.client().get_object().bucket(bucket).key(key).send().await;
        let object = object.with_context(|| format!("cannot get {bucket}/{key}"))?;
        Ok(object.body.collect().await?.to_vec())
    }

    /// Stores an object.
    pub async fn put(&self, bucket: &str, key: &str, bytes: impl Into<Vec<u8>>) -> Result<()> {
        let body = ByteStream::from(bytes.into());
        let stored = self.client().put_object().bucket(bucket).key(key).body(body).send().await;
        stored.map(drop).with_context(|| format!("cannot put {bucket}/{key}"))
    }

    /// Stores an object with its SHA-256, as the operator does.
    pub async fn put_with_sha256(&self, bucket: &str, key: &str, bytes: impl Into<Vec<u8>>) -> Result<()> {
        let bytes = bytes.into();
        let sha256 = STANDARD.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes));
        let put = self.client().put_object().bucket(bucket).key(key).checksum_sha256(sha256);
        let stored = put.body(ByteStream::from(bytes)).send().await;
        stored.map(drop).with_context(|| format!("cannot put {bucket}/{key}"))
    }

    /// Deletes an object.
    pub async fn delete(&self, bucket: &str, key: &str) -> Result<()> {
        let gone = self.client().delete_object().bucket(bucket).key(key).send().await;
        gone.map(drop).with_context(|| format!("cannot delete {bucket}/{key}"))
    }

    /// The folder that has a folder for each bucket, which has a file for each object.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The file that holds an object.
    pub fn object_file(&self, bucket: &str, key: &str) -> PathBuf {
        self.data_dir().join(bucket).join(key)
    }

    /// The requests about a bucket so far, by whomever, also those of the methods above.
    pub fn requests(&self, bucket: &str) -> Vec<S3Request> {
        self.shared.requests.select(|request| request.bucket == bucket)
    }

    /// Forgets the requests about a bucket.
    pub fn forget_requests(&self, bucket: &str) {
        self.shared.requests.forget(|request| request.bucket == bucket);
    }

    /// Lets requests fail from now on.
    pub fn inject(&self, fault: S3Fault) {
        self.shared.faults.add(fault);
    }

    /// Ends all faults of a bucket. A request that hangs stays so until its client gives up.
    pub fn clear_faults(&self, bucket: &str) {
        self.shared.faults.clear(bucket);
    }

    /// Lets a bucket answer as that kind of store from now on.
    pub fn behave_as(&self, bucket: &str, store: Store) {
        lock(&self.shared.stores).insert(bucket.to_owned(), store);
    }

    /// What the gateway has printed.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("versitygw.log")).unwrap_or_default()
    }
}
