//! Stores, looks up, reads and deletes objects in S3 and compatible stores.
//!
//! [`Storage`] is the only entry point: it selects the client for an [`ObjectLocation`], applies the circuit breaker and the
//! upload back-off, and repeats a request without the headers that a store rejects. The callers decide whether an object belongs
//! to a Version, when to retry and what a status contains. Credentials come from the AWS SDK's default chain only.

mod circuit_breaker;
mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod object;
mod ownership;
mod policy;
mod redaction;
mod repetition;
mod s3;
#[cfg(test)]
mod tests;
mod upload_backoff;
mod uploads;

use std::pin::Pin;
use std::time::{Duration, Instant};

use aws_sdk_s3::Client;
use reqwest::Certificate;
use secrecy::SecretString;

pub use error::{Cause, Operation, StorageError, advice_on_credentials};
pub use object::{Body, Encryption, Found, PutOutcome, Upload};
pub use ownership::Ownership;
pub use policy::{LocationNotAllowed, StorageRule, StorageRuleError, StorageRules};
pub use repetition::{StillWanted, always};
pub use s3::get::{Object, ObjectBody};
pub use s3::http::CaError;
pub use upload_backoff::UploadDelayed;

use crate::domain::{Endpoint, ObjectLocation};
use circuit_breaker::CircuitBreakers;
use repetition::Repetitions;
use s3::client::{Clients, REQUEST_TIMEOUT};
use s3::get;
use s3::headers::{Omitted, RejectedHeaders};
use s3::requests;
use upload_backoff::UploadBackoff;

/// Access to objects at any [`ObjectLocation`]. All methods take `&self`; share it in an `Arc`.
#[derive(Debug)]
pub struct Storage {
    clients: Clients,
    breakers: CircuitBreakers,
    rejected_headers: RejectedHeaders,
    backoff: UploadBackoff,
}

impl Storage {
    /// Reads the AWS configuration (environment and profile). Credentials are loaded by the first request.
    ///
    /// # Errors
    /// [`CaError`] if there is neither a root of the system nor one in `roots`, which are trusted in addition.
    pub async fn new(roots: &[Certificate]) -> Result<Self, CaError> {
        Ok(Self::with_clients(Clients::new(roots, false).await?))
    }

    /// As [`Self::new`], but requests over plain HTTP have small buffers: the registry streams many objects.
    pub async fn for_signed_urls(roots: &[Certificate]) -> Result<Self, CaError> {
        Ok(Self::with_clients(Clients::new(roots, true).await?))
    }

    fn with_clients(clients: Clients) -> Self {
        Self {
            clients,
            breakers: CircuitBreakers::default(),
            rejected_headers: RejectedHeaders::default(),
            backoff: UploadBackoff::default(),
        }
    }

    /// The endpoint of requests that name none, as the environment or the AWS profile spells it. `None`: AWS.
    pub fn default_endpoint(&self) -> Option<&str> {
        self.clients.default_endpoint.as_deref()
    }

    /// Looks up an object. `None` if it does not exist, or if its bucket does not.
    pub async fn head(&self, location: &ObjectLocation) -> Result<Option<Found>, StorageError> {
        self.send(Operation::Head, location, Box::pin(self.head_with_fallback(location))).await
    }

    /// Looks up an object without its checksum, which S3 returns only if the encryption key can be used.
    pub async fn head_without_checksum(
        &self,
        location: &ObjectLocation,
    ) -> Result<Option<Found>, StorageError> {
        let request = async {
            let client = self.clients.get(location)?;
            let omitted = Omitted { checksum_mode: true, ..Omitted::default() };
            let result = requests::head(&client, location, omitted).await;
            with_reason(&client, location, result).await
        };
        self.send(Operation::Head, location, Box::pin(request)).await
    }

    /// Checks that the bucket exists, which a HEAD of an object does not show.
    ///
    /// # Errors
    /// [`StorageError`], with [`Cause::BucketMissing`] if it does not.
    pub async fn bucket_exists(&self, location: &ObjectLocation) -> Result<(), StorageError> {
        let request = async {
            let client = self.clients.get(location)?;
            let result = requests::head_bucket(&client, location).await;
            with_reason(&client, location, result).await
        };
        self.send(Operation::Head, location, Box::pin(request)).await
    }

    /// Confirms that an object which a HEAD does not find does not exist.
    ///
    /// # Errors
    /// [`StorageError`], unless S3 itself has answered that the object does not exist.
    pub async fn confirm_missing(&self, location: &ObjectLocation) -> Result<(), StorageError> {
        self.send(Operation::Head, location, Box::pin(self.missing_by_get(location))).await
    }

    /// Opens an object, or its bytes from the first to the last of `range`, in one attempt. `None` if it does not exist.
    pub async fn get(
        &self,
        location: &ObjectLocation,
        range: Option<(u64, u64)>,
    ) -> Result<Option<Object>, StorageError> {
        let get = move |client, omitted| async move { get::get(&client, location, range, omitted).await };
        let request = self.read_with_fallback(Operation::Get, location, get);
        self.send(Operation::Get, location, Box::pin(request)).await
    }

    /// A URL with which anyone can read the object for this long from now on. No request is sent, except to load credentials.
    ///
    /// # Errors
    /// [`StorageError`] if there are no credentials.
    pub async fn sign(
        &self,
        location: &ObjectLocation,
        valid: Duration,
    ) -> Result<SecretString, StorageError> {
        let signed = async { get::sign(&self.clients.get(location)?, location, valid).await };
        signed.await.map_err(|cause| self.error(Operation::Get, location, cause))
    }

    /// The endpoint that is set for a location, there or by the environment.
    pub fn endpoint(&self, location: &ObjectLocation) -> Option<Endpoint> {
        self.clients.endpoint(location)
    }

    /// Deletes an object. Success if the object, or its bucket, does not exist. The DELETE is repeated only while it is still
    /// wanted.
    ///
    /// # Errors
    /// [`StorageError`]. Unless S3 rejected the request, the object may have been deleted nevertheless.
    pub async fn delete(
        &self,
        location: &ObjectLocation,
        still_wanted: StillWanted<'_>,
    ) -> Result<(), StorageError> {
        let request = async {
            let client = self.clients.get(location)?;
            let mut repetitions = Repetitions::new(still_wanted, REQUEST_TIMEOUT);
            loop {
                match self.delete_once(&client, location).await {
                    Err(cause) if repetitions.after(&cause).await => {}
                    result => return result,
                }
            }
        };
        self.send(Operation::Delete, location, Box::pin(request)).await
    }

    /// Sends a DELETE. A success other than 204, or a 404 without S3's document, may be from a proxy or gateway, and is
    /// confirmed.
    async fn delete_once(&self, client: &Client, location: &ObjectLocation) -> Result<(), Cause> {
        match requests::delete(client, location).await {
            Ok(true) => Ok(()),
            Ok(false) | Err(Cause::Other { status: Some(404), .. }) => self.missing_by_get(location).await,
            Err(cause) => Err(cause),
        }
    }

    /// Confirms by a GET that an object does not exist. Anything in front of a store may answer 404 to a HEAD, or 200 to a
    /// DELETE, while S3's 404 to a GET has an error document.
    async fn missing_by_get(&self, location: &ObjectLocation) -> Result<(), Cause> {
        let get = |client, omitted| async move { get::get(&client, location, Some((0, 0)), omitted).await };
        let unconfirmed = |status, detail: &str| Err(Cause::unavailable(status, detail));
        match self.read_with_fallback(Operation::Get, location, get).await {
            Ok(None) | Err(Cause::BucketMissing) => Ok(()),
            Ok(Some(_)) => unconfirmed(
                200,
                "a GET finds the object, although the store answered before that it does not exist",
            ),
            Err(Cause::Other { status: Some(404), .. }) => unconfirmed(
                404,
                "not in S3's form: a proxy or gateway in front of the store may have sent it",
            ),
            Err(cause) => Err(cause),
        }
    }

    async fn head_with_fallback(&self, location: &ObjectLocation) -> Result<Option<Found>, Cause> {
        let head = |client, omitted| async move { requests::head(&client, location, omitted).await };
        self.read_with_fallback(Operation::Head, location, head).await
    }

    /// Whether the store rejected the condition of a PUT within the last hour.
    pub fn rejects_conditions(&self, location: &ObjectLocation) -> bool {
        let endpoint = self.clients.other_store(location);
        endpoint.is_some_and(|endpoint| self.rejected_headers.left_out(&endpoint).condition)
    }

    /// Sends a HEAD or GET, repeated without the headers that the store rejects. The answer to a HEAD has no body, so the first
    /// rejection without a reason is followed by one GET, which may return the reason.
    async fn read_with_fallback<T, R: Future<Output = Result<T, Cause>>>(
        &self,
        operation: Operation,
        location: &ObjectLocation,
        request: impl Fn(Client, Omitted) -> R,
    ) -> Result<T, Cause> {
        let client = self.clients.get(location)?;
        let endpoint = self.clients.other_store(location);
        let mut attempts = self.rejected_headers.attempts(operation, endpoint, false);
        let mut may_ask = operation == Operation::Head;
        loop {
            match request(client.clone(), attempts.omitted).await {
                Ok(answer) => {
                    self.rejected_headers.record(attempts);
                    return Ok(answer);
                }
                Err(cause) if may_ask && cause.lacks_reason() => {
                    may_ask = false;
                    if let Some(reason) = Box::pin(get::reason(&client, location)).await {
                        return Err(reason);
                    }
                    attempts.rejected(cause)?;
                }
                Err(cause) => attempts.rejected(cause)?,
            }
        }
    }

    /// Sends a request, unless the circuit breaker is open.
    async fn send<T>(
        &self,
        operation: Operation,
        location: &ObjectLocation,
        request: Pin<Box<impl Future<Output = Result<T, Cause>>>>,
    ) -> Result<T, StorageError> {
        let failed = |cause| self.error(operation, location, cause);
        let start = Instant::now();
        let permit = self.breakers.permit(operation, location, start).map_err(failed)?;
        let result = request.await;
        permit.record(&result, start.elapsed());
        if result.as_ref().is_err_and(|cause| cause.may_be_of_old_credentials(operation)) {
            self.clients.renew_credentials();
        }
        result.map_err(failed)
    }

    /// An error with the endpoint of the request, even if that comes from the environment, unless it is AWS's for the region.
    fn error(&self, operation: Operation, location: &ObjectLocation, cause: Cause) -> StorageError {
        let endpoint = self.clients.endpoint(location).filter(|endpoint| !endpoint.is_aws(&location.region));
        let endpoint = endpoint.map(|endpoint| endpoint.as_str().to_owned());
        StorageError { operation, location: Box::new(ObjectLocation { endpoint, ..location.clone() }), cause }
    }
}

/// The result of a HEAD. Its answer has no body, so a GET may return the reason of an error.
async fn with_reason<T>(
    client: &Client,
    location: &ObjectLocation,
    result: Result<T, Cause>,
) -> Result<T, Cause> {
    match result {
        Err(cause) if cause.lacks_reason() => {
            Err(Box::pin(get::reason(client, location)).await.unwrap_or(cause))
        }
        result => result,
    }
}
