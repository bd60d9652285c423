//! Reasons of failed requests to S3.

use jiff::Timestamp;

use super::{Class, Failure, Reason};
use crate::domain::time::whole_second_after;
use crate::storage::{Cause, LocationNotAllowed, Operation, StorageError};

impl From<LocationNotAllowed> for Failure {
    fn from(error: LocationNotAllowed) -> Self {
        let reason = match error {
            LocationNotAllowed::Storage { .. } => Reason::StorageNotAllowed,
            LocationNotAllowed::Endpoint(_) | LocationNotAllowed::BadEndpoint(_) => {
                Reason::EndpointNotAllowed
            }
        };
        Self::new(reason, error.to_string())
    }
}

impl StorageError {
    fn reason(&self) -> Reason {
        match &self.cause {
            Cause::BucketMissing => Reason::BucketNotFound,
            Cause::InvalidBucket | Cause::InvalidAddress(_) | Cause::WrongRegion { .. } => {
                Reason::BucketMisconfigured
            }
            // Retried, because they are resolved in AWS, where no change of a Kubernetes object shows it.
            Cause::AccessDenied { .. } => Reason::StorageAccessDenied,
            Cause::CredentialsMissing
            | Cause::CredentialsUnavailable { .. }
            | Cause::CredentialsInvalid { .. } => Reason::StorageCredentialsInvalid,
            Cause::Kms { .. } => Reason::EncryptionKeyUnusable,
            Cause::SlowDown { .. } => Reason::StorageThrottled,
            Cause::ChecksumMismatch | Cause::StoredDifferently { .. } => Reason::ChecksumMismatch,
            Cause::EntityTooLarge => Reason::ArchiveTooLarge,
            Cause::File { .. } => Reason::SpoolFailed,
            Cause::BodyTooLarge | Cause::Retained { .. } => Reason::StorageRefused,
            // Not an outage: the store does not support the request. S3 itself does not answer 403 or 404 with such codes.
            Cause::Other { status: Some(400..=402 | 405..=408 | 410..=499 | 501), code: Some(_), .. }
                if self.operation != Operation::Head =>
            {
                Reason::StorageRefused
            }
            Cause::Conflict | Cause::Unavailable { .. } | Cause::Network { .. } | Cause::Other { .. } => {
                Reason::StorageUnavailable
            }
        }
    }

    /// Converts the error. `now` turns a pause that S3 requested into a time.
    pub fn into_failure(self, now: Timestamp) -> Failure {
        let failure = Failure::new(self.reason(), self.to_string());
        if let Cause::StoredDifferently { repeated: true, .. } = self.cause {
            return Failure { class: Class::Stalled, ..failure };
        }
        let Some(pause) = self.cause.retry_after() else { return failure };
        let until = now.checked_add(pause).unwrap_or(now);
        let message = format!("{}, not before {}", failure.message, whole_second_after(until));
        Failure { class: Class::RetryAfter(until), message, ..failure }
    }
}

#[cfg(test)]
pub(super) fn put_failed(cause: Cause) -> StorageError {
    let location = crate::domain::ObjectLocation {
        bucket: "modules".into(),
        key: "vpc/a.zip".into(),
        region: "us-west-2".into(),
        endpoint: None,
        force_path_style: None,
    };
    StorageError { operation: Operation::Put, location: Box::new(location), cause }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_second(1_000_000).unwrap()
    }

    #[test]
    fn what_a_store_says_it_does_not_do_is_no_outage() {
        use Operation::{Delete, Head, Put};
        let failure = |operation, status, code: Option<&str>| {
            let cause =
                Cause::Other { status: Some(status), code: code.map(str::to_owned), detail: String::new() };
            let failure = StorageError { operation, ..put_failed(cause) }.into_failure(now());
            (failure.reason, failure.class)
        };
        for (operation, status, code) in [
            (Put, 400, "InvalidArgument"),
            (Put, 501, "NotImplemented"),
            (Put, 405, "MethodNotAllowed"),
            (Delete, 400, "InvalidRequest"),
            (Put, 402, "QuotaExceeded"),
        ] {
            assert_eq!(failure(operation, status, Some(code)), (Reason::StorageRefused, Class::Stalled));
        }
        for (operation, status, code) in [
            (Put, 400, None),
            (Put, 501, None),
            (Head, 400, None),
            (Delete, 404, Some("DefaultBackend")),
            (Delete, 403, Some("Forbidden")),
            (Put, 302, Some("Found")),
            (Put, 409, Some("Conflict")),
        ] {
            assert_eq!(
                failure(operation, status, code),
                (Reason::StorageUnavailable, Class::Retry),
                "{status}"
            );
        }
        for (operation, status) in [(Head, 302), (Put, 301), (Delete, 308)] {
            assert_eq!(
                failure(operation, status, None),
                (Reason::StorageUnavailable, Class::Retry),
                "a redirect by a proxy shows nothing of an object that is to be deleted"
            );
        }
        assert!(!Reason::needs_fetch("StorageRefused"));
        // No change of the archive resolves these.
        for cause in [Cause::BodyTooLarge, Cause::Retained { detail: String::new() }] {
            let failure = put_failed(cause).into_failure(now());
            assert_eq!((failure.reason, failure.class), (Reason::StorageRefused, Class::Stalled));
        }
    }

    #[test]
    fn a_store_that_fails_may_request_a_pause_and_is_not_throttling() {
        let pause = Duration::from_mins(1);
        let detail = "SlowDownWrite: Resource requested is unwritable".to_owned();
        let down = Cause::Unavailable { status: 503, retry_after: Some(pause), detail };
        let failure = put_failed(down).into_failure(now());
        assert_eq!(
            (failure.reason, failure.class),
            (Reason::StorageUnavailable, Class::RetryAfter(now() + pause))
        );
        for word in ["SlowDownWrite: Resource", "this is retried, not before 1970-01-12T13:47:40Z"] {
            assert!(failure.message.contains(word), "{}", failure.message);
        }
    }
}
