//! One S3 client per region, endpoint and addressing style. They share a connection pool and credentials.
//!
//! Nothing is sent before the first request.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_config::environment::region::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::interceptors::InterceptorContext;
use aws_sdk_s3::config::retry::{ClassifyRetry, RetryAction};
use aws_sdk_s3::config::{
    IdentityCache, RequestChecksumCalculation, ResponseChecksumValidation, SharedCredentialsProvider,
    StalledStreamProtectionConfig,
};
use aws_types::service_config::ServiceConfigKey;
use hyper_util::client::proxy::matcher::Matcher;
use reqwest::Certificate;

use super::credentials::CredentialsCache;
use super::default_chain::DefaultChain;
use super::http::{CaError, http_client};
use super::plain_http::CONNECT_TIMEOUT;
use super::proxy::ProxyRouter;
use crate::domain::names::{is_bucket_name, is_region};
use crate::domain::{Endpoint, EndpointError, Mutex, ObjectLocation};
use crate::storage::Cause;

/// One attempt at a HEAD or DELETE, including the loading of credentials.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// All attempts at a HEAD or DELETE. Meanwhile, other requests wait for the permit.
pub(in crate::storage) const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// How long an upload may make no progress. With the SDK's default of 5 s, uploads to a busy store are aborted and repeated.
const STALL_GRACE: Duration = Duration::from_secs(30);
/// Few, since the caller retries with back-off.
const ATTEMPTS: u32 = 3;
/// Specs name regions and endpoints, so the number of cached clients is bounded.
const MAX_CLIENTS: usize = 64;

/// The AWS configuration and the clients made from it.
#[derive(Debug)]
pub(in crate::storage) struct Clients {
    /// The AWS configuration that all clients share.
    pub(super) sdk: SdkConfig,
    /// The credentials of `sdk`, except in tests.
    pub(super) credentials: Option<CredentialsCache>,
    cache: Mutex<HashMap<ClientKey, Client>>,
    /// Endpoints by their spelling, each parsed once: the registry needs one for each download.
    endpoints: Mutex<HashMap<String, Endpoint>>,
    /// Endpoint of requests that name none, as the environment or the profile spells it, unless that is AWS.
    pub(in crate::storage) default_endpoint: Option<String>,
}

/// What distinguishes clients.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ClientKey {
    region: String,
    endpoint: Option<Endpoint>,
    force_path_style: bool,
}

impl Clients {
    /// Reads the AWS configuration (environment and profile). `small_buffers`: whether requests to S3
    /// over plain HTTP have them, unless they use a proxy.
    pub(crate) async fn new(roots: &[Certificate], small_buffers: bool) -> Result<Self, CaError> {
        let http = http_client(roots)?;
        let small_buffers = small_buffers.then(|| Arc::new(Matcher::from_system()));
        let objects = ProxyRouter { small_buffers, ..http.clone() };
        // The default region chain queries the instance's metadata service, which takes seconds on machines without one. Each
        // location names its region; this one is only used by the credential providers (STS).
        let region = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
            .or_else(ProfileFileRegionProvider::new())
            .or_else("us-east-1");
        let sdk = aws_config::defaults(BehaviorVersion::latest()).http_client(http.clone());
        let sdk = sdk.region(trimmed(region).await).load().await;
        let source = SharedCredentialsProvider::new(DefaultChain::new(sdk.clone(), http));
        let credentials = CredentialsCache::new(source);
        let sdk = sdk.into_builder().http_client(objects);
        let sdk = sdk.credentials_provider(SharedCredentialsProvider::new(credentials.clone()));
        let sdk = sdk.identity_cache(IdentityCache::no_cache()).build();
        Ok(Self { credentials: Some(credentials), ..Self::with_config(sdk) })
    }

    pub(crate) fn with_config(sdk: SdkConfig) -> Self {
        let default_endpoint = configured_endpoint(&sdk);
        let (cache, endpoints) = (Mutex::default(), Mutex::default());
        Self { sdk, credentials: None, cache, endpoints, default_endpoint }
    }

    /// Lets the next request load credentials again, since the store may reject these.
    pub(crate) fn renew_credentials(&self) {
        if let Some(credentials) = &self.credentials {
            credentials.renew(Instant::now());
        }
    }

    /// The endpoint that is set for this location, there or by the AWS configuration.
    pub(crate) fn endpoint(&self, location: &ObjectLocation) -> Option<Endpoint> {
        self.parsed(location.endpoint.as_ref().or(self.default_endpoint.as_ref())?).ok()
    }

    fn parsed(&self, text: &str) -> Result<Endpoint, EndpointError> {
        let mut endpoints = self.endpoints.lock();
        if let Some(endpoint) = endpoints.get(text) {
            return Ok(endpoint.clone());
        }
        let endpoint: Endpoint = text.parse()?;
        if endpoints.len() >= MAX_CLIENTS {
            endpoints.clear();
        }
        endpoints.insert(text.to_owned(), endpoint.clone());
        Ok(endpoint)
    }

    /// The endpoint that requests for this location are sent to, if that is not AWS.
    pub(crate) fn other_store(&self, location: &ObjectLocation) -> Option<Endpoint> {
        self.endpoint(location).filter(|endpoint| !endpoint.belongs_to_aws())
    }

    /// The client for a location, or why no request can be sent to it.
    pub(crate) fn get(&self, location: &ObjectLocation) -> Result<Client, Cause> {
        let key = self.key(location)?;
        let mut clients = self.cache.lock();
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        if clients.len() >= MAX_CLIENTS {
            clients.clear();
        }
        let client = self.build(&key);
        clients.insert(key, client.clone());
        Ok(client)
    }

    fn key(&self, location: &ObjectLocation) -> Result<ClientKey, Cause> {
        if !is_bucket_name(&location.bucket) {
            return Err(Cause::InvalidBucket);
        }
        if !is_region(&location.region) {
            return Err(Cause::InvalidAddress("the region is not valid; use one such as us-west-2"));
        }
        // The canonical spelling, also of the default: the SDK signs a host as it is spelled, and a proxy may send another one.
        let endpoint = location.endpoint.as_deref().or(self.default_endpoint.as_deref());
        let endpoint = endpoint.map(|text| self.parsed(text)).transpose();
        let endpoint = endpoint.map_err(|_| {
            Cause::InvalidAddress("the endpoint is not a URL; use one such as https://minio.storage.svc:9000")
        })?;
        Ok(ClientKey { region: location.region.clone(), endpoint, force_path_style: location.path_style() })
    }

    fn build(&self, key: &ClientKey) -> Client {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_attempt_timeout(ATTEMPT_TIMEOUT)
            .operation_timeout(REQUEST_TIMEOUT)
            .build();
        let mut config = aws_sdk_s3::config::Builder::from(&self.sdk)
            .region(Region::new(key.region.clone()))
            .force_path_style(key.force_path_style)
            // A checksum that the SDK adds turns the upload into `aws-chunked`, which some stores cannot read.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
            .retry_classifier(NamedDelay)
            .timeout_config(timeouts)
            .stalled_stream_protection(
                StalledStreamProtectionConfig::enabled().grace_period(STALL_GRACE).build(),
            );
        // `from` applies the default endpoint too, but also a variable that is empty.
        config.set_endpoint_url(key.endpoint.as_ref().map(|endpoint| endpoint.as_str().to_owned()));
        Client::from_conf(config.build())
    }
}

/// The region without a line break at its end, which would become part of STS's host name.
async fn trimmed(region: RegionProviderChain) -> Option<Region> {
    region.region().await.map(|region| Region::new(region.as_ref().trim().to_owned()))
}

/// Disables the SDK's retries if the store requests a delay: the caller waits, without the permit for a request.
#[derive(Debug)]
struct NamedDelay;

impl ClassifyRetry for NamedDelay {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let headers = context.response().map(HttpResponse::headers);
        let names = ["retry-after", "x-amz-retry-after"];
        if headers.is_some_and(|headers| names.iter().any(|name| headers.contains_key(*name))) {
            RetryAction::RetryForbidden
        } else {
            RetryAction::NoActionIndicated
        }
    }

    fn name(&self) -> &'static str {
        "a delay that the store requests"
    }
}

/// The S3 endpoint of the environment or the profile, by the rules of the SDK's own client, except that an empty one counts as
/// unset.
fn configured_endpoint(sdk: &SdkConfig) -> Option<String> {
    let key = ServiceConfigKey::builder().service_id("S3").env("AWS_ENDPOINT_URL").profile("endpoint_url");
    let of_s3 = sdk.service_config().and_then(|config| config.load_config(key.build().ok()?));
    let of_all = sdk.endpoint_url().map(str::to_owned);
    [of_s3, of_all].into_iter().flatten().find(|url| !url.is_empty())
}

#[cfg(test)]
pub(in crate::storage) mod tests;
