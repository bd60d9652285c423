//! Errors of the SDK as causes.

use std::error::Error;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use super::classify::{Answer, classify};
use crate::domain::ObjectLocation;
use crate::domain::text::causes;
use crate::storage::redaction::presentable;
use crate::storage::{Cause, Operation};

/// Classifies an error of the SDK: answers by [`classify`], everything else here.
pub(super) fn classify_error<E>(
    operation: Operation,
    location: &ObjectLocation,
    error: &SdkError<E, HttpResponse>,
) -> Result<(), Cause>
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let text = causes(error);
    if let Some(response) = error.raw_response() {
        let mut answer = answer(response, error);
        if response.status().is_success() {
            // A header that the SDK cannot read, which only its error names.
            answer.message = Some(&text);
        }
        return classify(operation, &location.region, &answer);
    }
    let detail = presentable(&text);
    Err(match error {
        SdkError::TimeoutError(_) => Cause::Network { detail },
        SdkError::DispatchFailure(_) => not_sent(&text, detail),
        _ => Cause::Other { status: None, code: None, detail },
    })
}

fn answer<'a, E: ProvideErrorMetadata>(
    response: &'a HttpResponse,
    error: &'a SdkError<E, HttpResponse>,
) -> Answer<'a> {
    let header = |name: &str| response.headers().get(name);
    // MinIO's answers to a HEAD have code and message in headers, the message in quotes.
    let (code, message) = (header("x-minio-error-code"), header("x-minio-error-desc"));
    // For a 404 without a document, the SDK sets a code of its own.
    let is_empty = response.body().bytes().is_some_and(<[u8]>::is_empty);
    Answer {
        status: response.status().as_u16(),
        code: error.code().filter(|code| !code.is_empty() && !is_empty).or(code),
        // Ceph sends an empty one.
        message: error.message().or(message).map(unquoted).filter(|message| !message.trim().is_empty()),
        bucket_region: header("x-amz-bucket-region"),
        location: header("location"),
        retry_after: header("retry-after"),
        retry_after_ms: header("x-amz-retry-after"),
        date: header("date"),
        has_id: header("x-amz-request-id").is_some(),
    }
}

fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}

/// The cause of a request that was not sent: no credentials, which only the SDK's messages show, or no connection.
fn not_sent(causes: &str, detail: String) -> Cause {
    let unavailable = [
        "the credentials provider was not properly configured",
        "credentials provider timed out",
        "an error occurred while loading credentials",
        "unexpected credentials error",
        "identity resolver timed out",
    ];
    if causes.contains("the credential provider was not enabled") {
        Cause::CredentialsMissing
    } else if unavailable.iter().any(|words| causes.contains(words)) {
        Cause::CredentialsUnavailable { detail }
    } else {
        Cause::Network { detail }
    }
}

#[cfg(test)]
mod tests {
    use aws_credential_types::provider::error::CredentialsError;

    use super::*;

    #[test]
    fn credentials_that_are_configured_wrongly_are_not_missing() {
        let cause = |error: CredentialsError| {
            let text = causes(&CredentialsError::provider_error(error));
            not_sent(&text, text.clone())
        };
        assert_eq!(cause(CredentialsError::not_loaded("no profile")), Cause::CredentialsMissing);
        let wrong = cause(CredentialsError::invalid_configuration("could not parse profile file"));
        let Cause::CredentialsUnavailable { detail } = wrong else { panic!("{wrong:?}") };
        assert!(detail.ends_with("not properly configured: could not parse profile file"), "{detail}");
    }
}
