//! The default chain of the SDK, which reads changed files again.
//!
//! The SDK's own provider parses the AWS profile once, so it never uses keys that are mounted or replaced later.

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwapOption;
use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::provider_config::ProviderConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::credential_feature::AwsCredentialFeature as Feature;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::future;
use aws_sdk_s3::config::{Credentials, ProvideCredentials};
use http::HeaderValue;

use super::proxy::ProxyRouter;

/// Builds the default chain for each time that credentials are loaded.
#[derive(Debug)]
pub(super) struct DefaultChain {
    http: ProxyRouter,
    /// Region, timeouts and retries of requests for credentials.
    sdk: SdkConfig,
    /// A chain that is used again: the provider of an instance returns its last credentials during an outage of the metadata
    /// service. Once they have ended, it is built again: if the clock was set back, it keeps a session that the service rejects.
    kept: ArcSwapOption<DefaultCredentialsChain>,
}

impl DefaultChain {
    pub(super) fn new(sdk: SdkConfig, http: ProxyRouter) -> Self {
        Self { http, sdk, kept: ArcSwapOption::empty() }
    }

    async fn build(&self) -> DefaultCredentialsChain {
        let sdk = &self.sdk;
        let region = sdk.region().cloned();
        let mut config = ProviderConfig::without_region()
            .with_http_client(self.http.clone())
            .with_behavior_version(Some(BehaviorVersion::latest()))
            .with_use_fips(sdk.use_fips())
            .with_use_dual_stack(sdk.use_dual_stack())
            .with_region(region.clone());
        if let Some(retries) = sdk.retry_config() {
            config = config.with_retry_config(retries.clone());
        }
        if let Some(timeouts) = sdk.timeout_config() {
            config = config.with_timeout_config(timeouts.clone());
        }
        let mut builder = DefaultCredentialsChain::builder().configure(config);
        // Without a region, the builder would query the metadata service for one.
        builder.set_region(region);
        builder.build().await
    }

    async fn credentials(&self) -> Result<Credentials, CredentialsError> {
        let chain = match self.kept.load_full() {
            Some(chain) => chain,
            None => Arc::new(self.build().await),
        };
        let loaded = chain.provide_credentials().await;
        let is_kept = loaded.as_ref().is_ok_and(|loaded| are_of_instance(loaded, SystemTime::now()));
        self.kept.store(is_kept.then_some(chain));
        loaded.and_then(usable)
    }
}

impl ProvideCredentials for DefaultChain {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.credentials())
    }
}

/// Fails if a value cannot be part of a header: the SDK would panic. A Secret's value often ends with a line break.
fn usable(credentials: Credentials) -> Result<Credentials, CredentialsError> {
    for (name, value) in [
        ("access key ID (AWS_ACCESS_KEY_ID)", Some(credentials.access_key_id())),
        ("session token (AWS_SESSION_TOKEN)", credentials.session_token()),
    ] {
        if value.is_some_and(|value| HeaderValue::from_str(value).is_err()) {
            return Err(CredentialsError::invalid_configuration(format!(
                "the {name} contains a line break or another character that a header cannot have; store only the value"
            )));
        }
    }
    Ok(credentials)
}

/// Whether credentials are those of an instance, without a profile, and have not ended.
fn are_of_instance(credentials: &Credentials, now: SystemTime) -> bool {
    let features = credentials.get_property::<Vec<Feature>>();
    features.is_some_and(|features| matches!(features.as_slice(), [Feature::CredentialsImds]))
        && credentials.expiry().is_none_or(|end| now < end)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::text::causes;

    #[test]
    fn a_value_with_a_line_break_is_named_and_not_shown() {
        let credentials =
            |id: &str, token: Option<&str>| Credentials::new(id, "s", token.map(str::to_owned), None, "test");
        assert!(usable(credentials("AKIA", Some("x/y="))).is_ok());
        for (id, token, name) in [
            ("hunter2\n", None, "AWS_ACCESS_KEY_ID"),
            ("AKIA", Some("hunter2\r\nhunter2"), "AWS_SESSION_TOKEN"),
        ] {
            let text = causes(&usable(credentials(id, token)).unwrap_err());
            assert!(text.contains(name) && text.contains("not properly configured"), "{text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn only_the_chain_of_an_instance_is_kept() {
        let end = SystemTime::now();
        let credentials = |features: &[Feature]| {
            let mut credentials = Credentials::new("id", "secret", None, Some(end), "test");
            credentials.set_property(features.to_vec());
            credentials
        };
        let before = end - Duration::from_secs(1);
        assert!(are_of_instance(&credentials(&[Feature::CredentialsImds]), before));
        assert!(!are_of_instance(&credentials(&[Feature::CredentialsImds]), end));
        for features in [
            &[][..],
            &[Feature::CredentialsEnvVars],
            &[Feature::CredentialsProfile],
            &[Feature::CredentialsImds, Feature::CredentialsProfileNamedProvider],
        ] {
            assert!(!are_of_instance(&credentials(features), before), "{features:?}");
        }
        assert!(!are_of_instance(&Credentials::new("id", "secret", None, None, "test"), before));
    }
}
