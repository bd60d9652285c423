//! The AWS identity of the process: where its credentials come from, and whose they are.

use std::time::Duration;

use aws_config::timeout::TimeoutConfig;
use aws_credential_types::credential_feature::AwsCredentialFeature as Feature;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::ProvideCredentials as _;
use aws_sdk_sts::error::ProvideErrorMetadata as _;

use crate::domain::text::causes;
use crate::storage::redaction::presentable;
use crate::storage::{Cause, Storage};

/// The providers of the chain are tried one after the other, and the instance's is slow on machines without one.
const TIMEOUT: Duration = Duration::from_secs(15);

impl Storage {
    /// Loads the credentials, and describes where they come from.
    ///
    /// # Errors
    /// [`Cause::CredentialsMissing`] or [`Cause::CredentialsUnavailable`].
    pub async fn credentials_source(&self) -> Result<&'static str, Cause> {
        let source = &self.clients.credentials.as_ref().ok_or(Cause::CredentialsMissing)?.source;
        let loaded = tokio::time::timeout(TIMEOUT, source.provide_credentials()).await;
        let Ok(loaded) = loaded else {
            let detail = format!("no provider answered within {} s", TIMEOUT.as_secs());
            return Err(Cause::CredentialsUnavailable { detail });
        };
        let credentials = loaded.map_err(|error| match error {
            CredentialsError::CredentialsNotLoaded(_) => Cause::CredentialsMissing,
            error => Cause::CredentialsUnavailable { detail: presentable(&causes(&error)) },
        })?;
        let features = credentials.get_property::<Vec<Feature>>().map_or(&[][..], Vec::as_slice);
        Ok(features.iter().find_map(described).unwrap_or("the default chain"))
    }

    /// The ARN of the identity whose credentials these are, by STS of AWS.
    ///
    /// # Errors
    /// [`Cause`]: [`Cause::CredentialsInvalid`] if STS rejects them.
    pub async fn caller(&self) -> Result<String, Cause> {
        let timeouts = TimeoutConfig::builder().operation_timeout(TIMEOUT).build();
        let config = aws_sdk_sts::config::Builder::from(&self.clients.sdk).timeout_config(timeouts).build();
        let answer = aws_sdk_sts::Client::from_conf(config).get_caller_identity().send().await;
        let error = match answer {
            Ok(identity) => return Ok(identity.arn().unwrap_or("an identity without an ARN").to_owned()),
            Err(error) => error,
        };
        let detail = presentable(&causes(&error));
        let Some(response) = error.raw_response() else { return Err(Cause::Network { detail }) };
        let status = response.status().as_u16();
        Err(match error.code() {
            Some(code) if status == 403 || status == 400 => {
                Cause::CredentialsInvalid { code: presentable(code) }
            }
            code => Cause::Other { status: Some(status), code: code.map(presentable), detail },
        })
    }
}

fn described(feature: &Feature) -> Option<&'static str> {
    Some(match feature {
        Feature::CredentialsEnvVars => "AWS_ACCESS_KEY_ID",
        Feature::CredentialsEnvVarsStsWebIdToken | Feature::CredentialsStsAssumeRoleWebId => {
            "a web identity token (IRSA)"
        }
        Feature::CredentialsHttp => "the container endpoint (EKS Pod Identity, ECS)",
        Feature::CredentialsImds => "the instance profile",
        Feature::CredentialsProfile
        | Feature::CredentialsProfileSourceProfile
        | Feature::CredentialsProfileNamedProvider
        | Feature::CredentialsProfileStsWebIdToken
        | Feature::CredentialsProfileSso
        | Feature::CredentialsProfileProcess
        | Feature::CredentialsProfileLogin
        | Feature::CredentialsSso
        | Feature::CredentialsProcess
        | Feature::CredentialsLogin => "an AWS profile",
        Feature::CredentialsStsAssumeRole => "an assumed role",
        _ => return None,
    })
}
