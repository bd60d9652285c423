//! The steps of an upload: permit, PUT, and verification of the stored object.

use std::time::{Duration, Instant};

use super::repetition::Repetitions;
use super::s3::requests;
use super::upload_backoff::UploadPermit;
use super::{
    Cause, Encryption, Found, Operation, PutOutcome, StillWanted, Storage, StorageError, Upload,
    UploadDelayed,
};
use crate::domain::ObjectLocation;

/// Pauses before an upload that a HEAD does not find is looked up again: a replicated store, or a cache in front of it, may show
/// objects late.
const APPEARS_LATE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(2)];

impl Storage {
    /// Permits the preparation of an upload. The permit is held until the upload has ended. `requested`: by a user.
    ///
    /// # Errors
    /// [`UploadDelayed`] while the store rejects such uploads and another one is testing whether it still does.
    pub fn may_store(
        &self,
        location: &ObjectLocation,
        encryption: &Encryption,
        requested: bool,
    ) -> Result<UploadPermit<'_>, UploadDelayed> {
        let error = |cause| self.error(Operation::Put, location, cause);
        self.backoff.permit(location, encryption, requested, Instant::now(), error)
    }

    /// Stores a file with one PUT that carries its length, SHA-256 and publisher. If the store rejects the condition
    /// (`create_only`), a HEAD right before the PUT replaces it. The PUT is repeated only while it is still wanted.
    ///
    /// # Errors
    /// [`StorageError`]. Unless S3 rejected the request, the object may have been stored nevertheless.
    pub async fn put(
        &self,
        location: &ObjectLocation,
        upload: &Upload<'_>,
        still_wanted: StillWanted<'_>,
    ) -> Result<PutOutcome, StorageError> {
        let put = Box::pin(async {
            // Without a limit: an archive would have to be fetched again.
            let repetitions = Repetitions::new(still_wanted, Duration::MAX);
            let result = self.put_with_fallback(location, upload, repetitions).await;
            self.backoff.record(location, upload.encryption, &result, Instant::now());
            result
        });
        self.send(Operation::Put, location, put).await
    }

    /// Looks up an object that was just stored and checks that it is the upload. Repeated differences below a prefix defer
    /// further uploads.
    ///
    /// # Errors
    /// [`StorageError`], with [`Cause::StoredDifferently`] if S3 shows another object or none.
    pub async fn verify(
        &self,
        location: &ObjectLocation,
        encryption: &Encryption,
        sha256: &str,
        size: u64,
    ) -> Result<Found, StorageError> {
        let mut found = self.head(location).await?;
        for pause in APPEARS_LATE {
            if found.is_some() {
                break;
            }
            tokio::time::sleep(pause).await;
            found = self.head(location).await?;
        }
        let what = match found {
            Some(found) if !found.is_intact(sha256, size) => "another checksum or size than what was sent",
            Some(found) if found.proves_nothing() => {
                "neither a SHA-256 nor the metadata that was sent, which the store has to keep"
            }
            Some(found) => {
                self.verified(location, encryption);
                return Ok(found);
            }
            None => "no object",
        };
        let cause = Cause::StoredDifferently { what, repeated: false };
        let cause = self.backoff.reject(location, encryption, &cause, Instant::now());
        Err(self.error(Operation::Put, location, cause))
    }

    /// Records that S3 shows an upload as it was sent, perhaps to a later attempt.
    pub fn verified(&self, location: &ObjectLocation, encryption: &Encryption) {
        self.backoff.verified(location, encryption);
    }

    /// Records that a PUT was rejected because of an object that a HEAD afterwards does not find. Like other rejections, this
    /// defers further uploads. Returns the error.
    pub fn refused_without_object(&self, location: &ObjectLocation, encryption: &Encryption) -> StorageError {
        let cause = Cause::unavailable(412, "a PUT reports an existing object that a HEAD does not find");
        let cause = self.backoff.reject(location, encryption, &cause, Instant::now());
        self.error(Operation::Put, location, cause)
    }

    async fn put_with_fallback(
        &self,
        location: &ObjectLocation,
        upload: &Upload<'_>,
        mut repetitions: Repetitions<'_>,
    ) -> Result<PutOutcome, Cause> {
        let client = self.clients.get(location)?;
        let endpoint = self.clients.other_store(location);
        let mut attempts = self.rejected_headers.attempts(Operation::Put, endpoint, upload.create_only);
        loop {
            // The caller checked too, but before a download that may have taken minutes.
            let unconditional = upload.create_only && attempts.omitted.condition;
            if unconditional && self.head_with_fallback(location).await?.is_some() {
                return Ok(PutOutcome::AlreadyExists);
            }
            match requests::put(&client, location, upload, attempts.omitted).await {
                Ok(outcome) => {
                    self.rejected_headers.record(attempts);
                    return Ok(outcome);
                }
                Err(cause) if repetitions.after(&cause).await => {}
                Err(cause) => {
                    let last = cause.clone();
                    attempts.rejected(cause)?;
                    if !repetitions.is_wanted().await {
                        return Err(last);
                    }
                }
            }
        }
    }
}
