//! HEAD, PUT and DELETE of one object. In: a [`ObjectLocation`], and for a PUT the spooled file. Out: what S3 now holds, or a
//! [`StorageError`]. One call is one request (its retries, and those without headers that the store refuses): nothing is
//! listed, read back or looked up besides.

use std::error::Error;
use std::path::Path;
use std::pin::Pin;
use std::time::{Duration, Instant};

use aws_config::timeout::TimeoutConfig;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumMode, ServerSideEncryption};

use super::headers::Omitted;
use super::payload::SignedBody;
use super::refusals::Attempt;
use super::stated::{found, state};
use super::verdict::{Answer, presentable, verdict};
use super::{Cause, Operation, Ownership, Storage, StorageError};
use crate::domain::ObjectLocation;
use crate::domain::object_key::content_type;

/// What one PUT takes, and with it the largest object whose SHA-256 S3 itself verifies.
const MAX_OBJECT_BYTES: u64 = 5 << 30;
/// An upload slower than this is given up (after a minute's allowance), for the SDK stops watching once the last byte is
/// sent and would wait for the answer for ever.
const MIN_BYTES_PER_SECOND: u64 = 256 << 10;

/// An object as HEAD shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Length in bytes.
    pub size: u64,
    /// SHA-256 of the object in base64: the one that S3 keeps or, where it keeps none, that our metadata states of an
    /// object of this size.
    pub sha256: Option<String>,
    /// Whose it says it is.
    pub ownership: Option<Ownership>,
    /// When it was stored, by S3's clock, in seconds since 1970.
    pub stored_at: Option<i64>,
}

/// A file to store.
#[derive(Clone, Debug)]
pub struct Upload<'a> {
    /// The spooled archive. It must not change until the PUT is done.
    pub file: &'a Path,
    /// Its length in bytes.
    pub size: u64,
    /// Its SHA-256 in base64, which S3 verifies before it stores anything.
    pub sha256: &'a str,
    /// Whose the object will say it is.
    pub ownership: &'a Ownership,
    /// How S3 encrypts it.
    pub encryption: &'a Encryption,
    /// Store only where there is no object yet (`If-None-Match: *`).
    pub create_only: bool,
}

/// Server-side encryption. Both empty: the bucket's own default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Encryption {
    /// `AES256`, `aws:kms` or `aws:kms:dsse`.
    pub server_side_encryption: Option<String>,
    /// The KMS key's id or ARN.
    pub kms_key_id: Option<String>,
}

/// How a PUT ended, when nothing failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    /// The object is stored, and its checksum verified by S3.
    Stored,
    /// `create_only`, and there is an object already: a look at it tells whose. It may be this very upload's: a retry
    /// after a lost answer meets what the first attempt stored.
    AlreadyExists,
}

/// A PUT that is not worth preparing.
#[derive(Debug)]
pub struct HeldBack {
    /// What others met.
    pub error: StorageError,
    /// Only in other folders: here, nothing was tried yet.
    pub elsewhere: bool,
    /// They met it several times in a row.
    pub confirmed: bool,
    /// When one of them may find out more.
    pub pause: Duration,
}

impl Storage {
    /// Looks at an object. `None` when it does not exist; a missing bucket looks the same.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn head(&self, place: &ObjectLocation) -> Result<Option<Found>, StorageError> {
        self.ask(Operation::Head, place, Box::pin(self.head_as_the_store_takes_it(place))).await
    }

    /// Looks whether the bucket is there. A look at an object cannot tell: a missing bucket looks like a missing object.
    ///
    /// # Errors
    /// [`StorageError`], with [`Cause::BucketMissing`] when it is not.
    pub async fn bucket_exists(&self, place: &ObjectLocation) -> Result<(), StorageError> {
        self.ask(Operation::Head, place, Box::pin(self.try_bucket(place))).await
    }

    /// The right to prepare a PUT, to be held until that is done. `asked`: somebody wants it now.
    ///
    /// # Errors
    /// [`HeldBack`], where the store has refused others and one at a time finds out whether it still does.
    pub fn may_store(
        &self,
        place: &ObjectLocation,
        encryption: &Encryption,
        asked: bool,
    ) -> Result<Attempt<'_>, HeldBack> {
        self.refusals.ask(place, encryption, asked, Instant::now()).map_err(|held| HeldBack {
            error: self.error(Operation::Put, place, held.cause),
            elsewhere: held.elsewhere,
            confirmed: held.confirmed,
            pause: held.pause,
        })
    }

    /// Stores a file with one PUT that carries its length, SHA-256 and owner. A store that refuses the checksum or the
    /// condition is asked without. In the condition's stead, a HEAD right before the PUT looks whether something is there.
    ///
    /// # Errors
    /// [`StorageError`]. Unless S3 refused, the object may have been stored all the same.
    pub async fn put(&self, place: &ObjectLocation, upload: &Upload<'_>) -> Result<PutOutcome, StorageError> {
        let put = Box::pin(async {
            let result = self.put_as_the_store_takes_it(place, upload).await;
            self.refusals.ended(place, upload.encryption, &result, Instant::now());
            result
        });
        self.ask(Operation::Put, place, put).await
    }

    async fn head_as_the_store_takes_it(&self, place: &ObjectLocation) -> Result<Option<Found>, Cause> {
        let mut tries = self.refused.tries(Operation::Head, self.endpoint(place), false);
        loop {
            match self.try_head(place, tries.omitted).await {
                Ok(found) => {
                    self.refused.succeeded(tries);
                    return Ok(found);
                }
                Err(cause) => tries.refused(cause)?,
            }
        }
    }

    async fn put_as_the_store_takes_it(
        &self,
        place: &ObjectLocation,
        upload: &Upload<'_>,
    ) -> Result<PutOutcome, Cause> {
        let mut tries = self.refused.tries(Operation::Put, self.endpoint(place), upload.create_only);
        loop {
            // The caller has looked too, but before a download that may have taken minutes.
            let unguarded = upload.create_only && tries.omitted.condition;
            if unguarded && self.head_as_the_store_takes_it(place).await?.is_some() {
                return Ok(PutOutcome::AlreadyExists);
            }
            match self.try_put(place, upload, tries.omitted).await {
                Ok(outcome) => {
                    self.refused.succeeded(tries);
                    return Ok(outcome);
                }
                Err(cause) => tries.refused(cause)?,
            }
        }
    }

    /// Deletes an object. One that is gone already, with its bucket or without, is a success.
    ///
    /// # Errors
    /// [`StorageError`]. Unless S3 refused, the object may have been deleted all the same.
    pub async fn delete(&self, place: &ObjectLocation) -> Result<(), StorageError> {
        self.ask(Operation::Delete, place, Box::pin(self.try_delete(place))).await
    }

    /// Sends a request, unless the store is known not to answer.
    async fn ask<T>(
        &self,
        operation: Operation,
        place: &ObjectLocation,
        request: Pin<Box<impl Future<Output = Result<T, Cause>>>>,
    ) -> Result<T, StorageError> {
        let result = async {
            let probe = self.outages.ask(place)?;
            let since = Instant::now();
            let result = request.await;
            probe.ended(&result, since.elapsed());
            result
        };
        result.await.map_err(|cause| self.error(operation, place, cause))
    }

    /// An error that knows where the request went, also where the place leaves that to the environment.
    fn error(&self, operation: Operation, place: &ObjectLocation, cause: Cause) -> StorageError {
        let endpoint = self.endpoint(place).map(|endpoint| endpoint.as_str().to_owned());
        StorageError { operation, place: Box::new(ObjectLocation { endpoint, ..place.clone() }), cause }
    }

    async fn try_head(&self, place: &ObjectLocation, omitted: Omitted) -> Result<Option<Found>, Cause> {
        let request = self.client(place)?.head_object().bucket(&place.bucket).key(&place.key);
        let mode = (!omitted.checksum_mode).then_some(ChecksumMode::Enabled);
        match request.set_checksum_mode(mode).send().await {
            Ok(head) => Ok(Some(found(&head))),
            Err(error) => judge(Operation::Head, place, &error).map(|()| None),
        }
    }

    async fn try_bucket(&self, place: &ObjectLocation) -> Result<(), Cause> {
        match self.client(place)?.head_bucket().bucket(&place.bucket).send().await {
            Ok(_) => Ok(()),
            // What says "no such object" of a key says "no such bucket" here.
            Err(error) => judge(Operation::Head, place, &error).and(Err(Cause::BucketMissing)),
        }
    }

    async fn try_put(
        &self,
        place: &ObjectLocation,
        upload: &Upload<'_>,
        omitted: Omitted,
    ) -> Result<PutOutcome, Cause> {
        let client = self.client(place)?;
        let (body, length) = open(upload).await?;
        let conditional = upload.create_only && !omitted.condition;
        let mut metadata = upload.ownership.to_metadata();
        state(&mut metadata, upload.sha256, upload.size);
        let encryption = upload.encryption;
        let timeouts = TimeoutConfig::builder()
            .operation_attempt_timeout(upload_timeout(upload.size))
            .disable_operation_timeout()
            .build();
        let mut request = client
            .put_object()
            .bucket(&place.bucket)
            .key(&place.key)
            .content_type(content_type(&place.key))
            .content_length(length)
            .set_checksum_sha256((!omitted.checksum).then(|| upload.sha256.to_owned()))
            .set_metadata(Some(metadata))
            .set_server_side_encryption(
                encryption.server_side_encryption.as_deref().map(ServerSideEncryption::from),
            )
            .set_ssekms_key_id(encryption.kms_key_id.clone())
            .set_if_none_match(conditional.then(|| "*".to_owned()))
            .body(body)
            .customize()
            .config_override(aws_sdk_s3::config::Builder::new().timeout_config(timeouts));
        if omitted.checksum {
            request = request.interceptor(SignedBody::new(upload.sha256));
        }
        match request.send().await {
            Ok(_) => Ok(PutOutcome::Stored),
            Err(error) => judge(Operation::Put, place, &error).map(|()| PutOutcome::AlreadyExists),
        }
    }

    async fn try_delete(&self, place: &ObjectLocation) -> Result<(), Cause> {
        let request = self.client(place)?.delete_object().bucket(&place.bucket).key(&place.key);
        match request.send().await {
            Ok(_) => Ok(()),
            Err(error) => judge(Operation::Delete, place, &error),
        }
    }
}

/// The file as a body that can be sent again from its start, and its length as S3 wants it.
async fn open(upload: &Upload<'_>) -> Result<(ByteStream, i64), Cause> {
    let unreadable = |detail: String| Cause::File { detail: presentable(&detail) };
    let found = tokio::fs::metadata(upload.file).await.map_err(|error| unreadable(error.to_string()))?.len();
    if found != upload.size {
        return Err(unreadable(format!("it has {found} bytes instead of {}", upload.size)));
    }
    let length =
        i64::try_from(found).ok().filter(|_| found <= MAX_OBJECT_BYTES).ok_or(Cause::EntityTooLarge)?;
    let body = ByteStream::from_path(upload.file).await.map_err(|error| unreadable(chain(&error)))?;
    Ok((body, length))
}

fn upload_timeout(size: u64) -> Duration {
    Duration::from_secs(60 + size / MIN_BYTES_PER_SECOND)
}

/// Tells what an error of the SDK means, as [`verdict`] does for the answers among them.
fn judge<E>(
    operation: Operation,
    place: &ObjectLocation,
    error: &SdkError<E, HttpResponse>,
) -> Result<(), Cause>
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let detail = presentable(&chain(error));
    match error {
        SdkError::ServiceError(_) | SdkError::ResponseError(_) => match error.raw_response() {
            Some(response) => verdict(operation, &place.region, &answer(response, error)),
            None => Err(Cause::Network { detail }),
        },
        SdkError::TimeoutError(_) => Err(Cause::Network { detail }),
        SdkError::DispatchFailure(_) => Err(undelivered(&chain(error), detail)),
        _ => Err(Cause::Other { status: None, code: None, detail }),
    }
}

fn answer<'a, E: ProvideErrorMetadata>(
    response: &'a HttpResponse,
    error: &'a SdkError<E, HttpResponse>,
) -> Answer<'a> {
    let header = |name: &str| response.headers().get(name);
    Answer {
        status: response.status().as_u16(),
        code: error.code().filter(|code| !code.is_empty()),
        message: error.message(),
        bucket_region: header("x-amz-bucket-region"),
        retry_after: header("retry-after"),
        retry_after_ms: header("x-amz-retry-after"),
        date: header("date"),
    }
}

/// A request that never left: for want of credentials, which the SDK tells in words only, or of a connection.
fn undelivered(chain: &str, detail: String) -> Cause {
    let missing =
        ["the credential provider was not enabled", "the credentials provider was not properly configured"];
    let unavailable = [
        "credentials provider timed out",
        "an error occurred while loading credentials",
        "unexpected credentials error",
        "identity resolver timed out",
    ];
    if missing.iter().any(|words| chain.contains(words)) {
        Cause::CredentialsMissing
    } else if unavailable.iter().any(|words| chain.contains(words)) {
        Cause::CredentialsUnavailable { detail }
    } else {
        Cause::Network { detail }
    }
}

/// An error and what caused it, without repetitions: the SDK's own text is only "dispatch failure".
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut links: Vec<String> = Vec::new();
    for link in std::iter::successors(Some(error), |link| Error::source(*link)) {
        let text = link.to_string();
        if !links.last().is_some_and(|last| last.contains(&text)) {
            links.push(text);
        }
    }
    links.join(": ")
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::super::client::tests::{storage_with_keys, storage_without_keys};
    use super::*;

    fn place(endpoint: String) -> ObjectLocation {
        ObjectLocation {
            bucket: "modules".into(),
            key: "vpc/a.zip".into(),
            region: "us-west-2".into(),
            endpoint: Some(endpoint),
            force_path_style: Some(true),
        }
    }

    /// A server that reads one request and gives this answer; the task ends with what it read.
    async fn answering(answer: &'static str) -> (ObjectLocation, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut request = Vec::new();
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                stream.read_buf(&mut request).await.expect("a request");
            }
            stream.write_all(answer.as_bytes()).await.expect("an answer");
            stream.read_to_end(&mut request).await.ok();
            String::from_utf8_lossy(&request).to_ascii_lowercase()
        });
        (place(format!("http://{address}")), served)
    }

    #[tokio::test]
    async fn a_head_shows_size_checksum_and_owner() {
        let (place, served) = answering(
            "HTTP/1.1 200 OK\r\ncontent-length: 7\r\nx-amz-checksum-sha256: c2hh\r\nlast-modified: Thu, 01 Jan 1970 00:01:00 GMT\r\n\
             x-amz-meta-opendepot-namespace: team%20a\r\nx-amz-meta-opendepot-version-name: vpc-1.0.0\r\n\
             connection: close\r\n\r\n",
        )
        .await;
        let found = storage_with_keys().head(&place).await.expect("an answer").expect("an object");
        assert_eq!((found.size, found.sha256.as_deref(), found.stored_at), (7, Some("c2hh"), Some(60)));
        assert!(found.ownership.expect("an owner").names("team a", "vpc-1.0.0"));
        let request = served.await.expect("served");
        assert!(request.starts_with("head /modules/vpc/a.zip http/1.1"), "{request}");
        assert!(request.contains("x-amz-checksum-mode: enabled"), "{request}");
    }

    #[tokio::test]
    async fn a_put_announces_length_checksum_owner_and_condition() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(b"archive").expect("written");
        let ownership = Ownership {
            namespace: "team-a".into(),
            version_name: "vpc-1.0.0".into(),
            ..Ownership::default()
        };
        let encryption =
            Encryption { server_side_encryption: Some("aws:kms".into()), kms_key_id: Some("key-1".into()) };
        let upload = Upload {
            file: file.path(),
            size: 7,
            sha256: "c2hh",
            ownership: &ownership,
            encryption: &encryption,
            create_only: true,
        };
        let (place, served) =
            answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
        let outcome = storage_with_keys().put(&place, &upload).await.expect("stored");
        assert_eq!(outcome, PutOutcome::Stored);
        let request = served.await.expect("served");
        for line in [
            "put /modules/vpc/a.zip?x-id=putobject http/1.1",
            "content-length: 7",
            "content-type: application/zip",
            "if-none-match: *",
            "x-amz-checksum-sha256: c2hh",
            "x-amz-meta-opendepot-namespace: team-a",
            "x-amz-meta-opendepot-sha256: c2hh",
            "x-amz-meta-opendepot-size: 7",
            "x-amz-server-side-encryption: aws:kms",
            "x-amz-server-side-encryption-aws-kms-key-id: key-1",
        ] {
            assert!(request.contains(&format!("{line}\r\n")), "{line} in {request}");
        }
        assert!(!request.contains("aws-chunked") && !request.contains("crc"), "{request}");
        assert!(request.ends_with("\r\n\r\narchive"), "{request}");
    }

    /// What a store answers, given the method, whether the request has a condition, and how many came before.
    type Answers = fn(&str, bool, usize) -> &'static str;

    /// A server that answers each request on a connection of its own, as `answer` says to its method and headers; and what
    /// it was asked: the method, and with `if` the condition.
    async fn store(answer: Answers) -> (ObjectLocation, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let mut request = Vec::new();
                let length = loop {
                    stream.read_buf(&mut request).await.expect("a request");
                    let text = String::from_utf8_lossy(&request).to_ascii_lowercase();
                    let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                    let expected = if head.starts_with("put") { "archive".len() } else { 0 };
                    if body.len() >= expected {
                        break head.len();
                    }
                };
                let head = String::from_utf8_lossy(&request[..length]).to_ascii_lowercase();
                let method = head.split(' ').next().unwrap_or_default().to_owned();
                let conditional = head.contains("if-none-match");
                let before = seen.lock().expect("a list").len();
                seen.lock()
                    .expect("a list")
                    .push(format!("{method}{}", if conditional { " if" } else { "" }));
                stream.write_all(answer(&method, conditional, before).as_bytes()).await.expect("an answer");
            }
        });
        (place(format!("http://{address}")), asked)
    }

    const UNCONDITIONAL: &str = "HTTP/1.1 501 Not Implemented\r\ncontent-length: 72\r\nconnection: close\r\n\r\n\
        <Error><Code>NotImplemented</Code><Message>If-None-Match</Message></Error>";
    const DONE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    const MISSING: &str = "HTTP/1.1 404 Not Found\r\nconnection: close\r\n\r\n";
    const DENIED: &str = "HTTP/1.1 403 Forbidden\r\nconnection: close\r\n\r\n";

    /// Two PUTs of one file, each with the condition or without, and what the store was asked.
    async fn puts(answer: Answers, create_only: bool) -> (Vec<Result<PutOutcome, Cause>>, Vec<String>) {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(b"archive").expect("written");
        let (ownership, encryption) = (Ownership::default(), Encryption::default());
        let upload = Upload {
            file: file.path(),
            size: 7,
            sha256: "c2hh",
            ownership: &ownership,
            encryption: &encryption,
            create_only,
        };
        let (place, asked) = store(answer).await;
        let storage = storage_with_keys();
        let mut outcomes = Vec::new();
        for _ in 0..2 {
            outcomes.push(storage.put(&place, &upload).await.map_err(|error| error.cause));
        }
        let asked = asked.lock().expect("a list").clone();
        (outcomes, asked)
    }

    #[tokio::test]
    async fn where_the_condition_is_refused_a_look_right_before_the_put_takes_its_place() {
        type Case = (&'static str, bool, Answers, [PutOutcome; 2], &'static [&'static str]);
        use PutOutcome::{AlreadyExists, Stored};
        let cases: [Case; 5] = [
            (
                "nothing is there at first",
                true,
                |method, conditional, before| match (method, conditional) {
                    ("head", _) if before < 2 => MISSING,
                    ("put", true) => UNCONDITIONAL,
                    _ => DONE,
                },
                [Stored, AlreadyExists],
                &["put if", "head", "put", "head"],
            ),
            (
                "another writer was faster",
                true,
                |method, conditional, _| {
                    if (method, conditional) == ("put", true) { UNCONDITIONAL } else { DONE }
                },
                [AlreadyExists, AlreadyExists],
                &["put if", "head", "put if", "head"],
            ),
            (
                "it may be overwritten",
                false,
                |_, conditional, _| if conditional { UNCONDITIONAL } else { DONE },
                [Stored, Stored],
                &["put", "put"],
            ),
            ("the condition is heeded", true, |_, _, _| DONE, [Stored, Stored], &["put if", "put if"]),
            (
                "and says that one is there",
                true,
                |_, _, _| "HTTP/1.1 412 Precondition Failed\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
                [AlreadyExists, AlreadyExists],
                &["put if", "put if"],
            ),
        ];
        for (what, create_only, answer, expected, requests) in cases {
            let (outcomes, asked) = puts(answer, create_only).await;
            assert_eq!(outcomes, expected.map(Ok), "{what}");
            assert_eq!(asked, requests, "{what}");
        }
        // What cannot be looked at is not overwritten either.
        let (outcomes, asked) = puts(
            |method, conditional, _| match (method, conditional) {
                ("put", true) => UNCONDITIONAL,
                ("head", _) => DENIED,
                _ => DONE,
            },
            true,
        )
        .await;
        assert!(outcomes.iter().all(|o| matches!(o, Err(Cause::AccessDenied { .. }))), "{outcomes:?}");
        assert!(!asked.contains(&"put".to_owned()), "{asked:?}");
    }

    #[tokio::test]
    async fn the_file_must_be_what_was_announced() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let (ownership, encryption) = (Ownership::default(), Encryption::default());
        let upload = Upload {
            file: file.path(),
            size: 7,
            sha256: "c2hh",
            ownership: &ownership,
            encryption: &encryption,
            create_only: false,
        };
        let nowhere = place("http://127.0.0.1:1".into());
        let error = storage_with_keys().put(&nowhere, &upload).await.expect_err("refused");
        assert!(matches!(error.cause, Cause::File { .. }), "{error}");
        let gone = Upload { file: Path::new("/no/such/file"), ..upload.clone() };
        let error = storage_with_keys().put(&nowhere, &gone).await.expect_err("refused");
        assert!(matches!(error.cause, Cause::File { .. }), "{error}");
        file.as_file().set_len(MAX_OBJECT_BYTES + 1).expect("a sparse file");
        let huge = Upload { size: MAX_OBJECT_BYTES + 1, ..upload };
        let error = storage_with_keys().put(&nowhere, &huge).await.expect_err("refused");
        assert_eq!(error.cause, Cause::EntityTooLarge);
    }

    #[tokio::test]
    async fn headers_and_bodies_of_refusals_are_read() {
        let (place, _served) =
            answering("HTTP/1.1 301 Moved\r\nx-amz-bucket-region: eu-west-1\r\nconnection: close\r\n\r\n")
                .await;
        let error = storage_with_keys().head(&place).await.expect_err("refused");
        assert_eq!(error.cause, Cause::WrongRegion { right: Some("eu-west-1".into()) });
        let (place, _served) = answering(
            "HTTP/1.1 404 Not Found\r\ncontent-type: application/xml\r\ncontent-length: 73\r\nconnection: close\r\n\r\n\
             <Error><Code>NoSuchBucket</Code><Message>There is none</Message> </Error>",
        )
        .await;
        storage_with_keys().delete(&place).await.expect("gone with its bucket");
        let (place, _served) = answering(
            "HTTP/1.1 404 Not Found\r\ncontent-type: text/html\r\ncontent-length: 13\r\nconnection: close\r\n\r\n\
             <html></html>",
        )
        .await;
        let error = storage_with_keys().delete(&place).await.expect_err("not S3");
        assert!(matches!(error.cause, Cause::Other { status: Some(404), .. }), "{error}");
    }

    #[tokio::test]
    async fn an_answer_means_the_same_in_whatever_body_it_comes() {
        type Is = fn(&Result<PutOutcome, Cause>) -> bool;
        let cases: [(&str, Answers, Is); 7] = [
            (
                "a document with a namespace",
                |_, _, _| {
                    "HTTP/1.1 409 Conflict\r\ncontent-type: application/xml\r\nconnection: close\r\n\r\n\
                     <?xml version=\"1.0\"?>\n<Error xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                     <Code>ConditionalRequestConflict</Code><Message>Try again</Message></Error>"
                },
                |result| *result == Err(Cause::Conflict),
            ),
            (
                "no body",
                |_, _, _| "HTTP/1.1 412 Precondition Failed\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
                |result| *result == Ok(PutOutcome::AlreadyExists),
            ),
            (
                "a page: there is an object already",
                |_, _, _| "HTTP/1.1 412 Nope\r\ncontent-type: text/html\r\nconnection: close\r\n\r\n<html></html>",
                |result| *result == Ok(PutOutcome::AlreadyExists),
            ),
            (
                "a page: too many requests",
                |_, _, _| "HTTP/1.1 429 Slow\r\nretry-after: 7\r\nconnection: close\r\n\r\n<html></html>",
                |result| *result == Err(Cause::SlowDown { retry_after: Some(Duration::from_secs(7)) }),
            ),
            (
                "a page: not allowed",
                |_, _, _| "HTTP/1.1 403 No\r\ncontent-type: text/html\r\nconnection: close\r\n\r\n<html></html>",
                |result| matches!(result, Err(Cause::AccessDenied { .. })),
            ),
            (
                "another region, for now",
                |_, _, _| {
                    "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://127.0.0.1:1/elsewhere\r\n\
                     connection: close\r\n\r\n<Error><Code>TemporaryRedirect</Code></Error>"
                },
                |result| matches!(result, Err(Cause::Unavailable { status: 307, .. })),
            ),
            (
                "another region",
                |_, _, _| {
                    "HTTP/1.1 301 Moved Permanently\r\nlocation: http://127.0.0.1:1/elsewhere\r\n\
                     connection: close\r\n\r\n<Error><Code>PermanentRedirect</Code></Error>"
                },
                |result| matches!(result, Err(Cause::WrongRegion { right: None })),
            ),
        ];
        for (what, answer, is) in cases {
            let (outcomes, _) = puts(answer, true).await;
            assert!(is(&outcomes[0]), "{what}: {:?}", outcomes[0]);
        }
    }

    #[tokio::test]
    async fn missing_credentials_are_told_from_a_missing_connection() {
        let nowhere = place("http://127.0.0.1:1".into());
        let error = storage_without_keys().head(&nowhere).await.expect_err("no credentials");
        assert_eq!(error.cause, Cause::CredentialsMissing, "{error}");
        let error = storage_with_keys().delete(&nowhere).await.expect_err("no server");
        assert!(matches!(error.cause, Cause::Network { .. }), "{error}");
    }

    #[test]
    fn the_largest_upload_has_hours() {
        assert_eq!(upload_timeout(0), Duration::from_mins(1));
        assert_eq!(upload_timeout(MAX_OBJECT_BYTES), Duration::from_secs(60 + 20_480));
    }
}
