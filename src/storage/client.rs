//! [`Storage`] and its S3 clients. In: the environment's AWS configuration, and the PEM roots of `--ca-file`. Out: one
//! client per region, endpoint and addressing style, all sharing one connection pool and one set of credentials. Nothing
//! here touches the network before the first request.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_config::environment::region::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    RequestChecksumCalculation, ResponseChecksumValidation, RuntimeComponents, SharedHttpClient,
    StalledStreamProtectionConfig,
};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, ConnectorBuilder};
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use thiserror::Error;

use super::Cause;
use super::headers::Refused;
use super::outage::Outages;
use super::proxy::Routed;
use super::refusals::Refusals;
use crate::domain::names::{is_bucket_name, is_region};
use crate::domain::{Endpoint, ObjectLocation};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For one attempt at a HEAD or DELETE, from fetching credentials to the answer.
const SHORT_TIMEOUT: Duration = Duration::from_secs(10);
/// For all attempts at it: others wait for the turn that it holds.
const SHORT_TOTAL: Duration = Duration::from_secs(20);
/// How long an upload may stand still: the SDK's own 5 s make a busy store abort and repeat uploads.
const STALL_GRACE: Duration = Duration::from_secs(30);
/// The caller's back-off does the rest.
const ATTEMPTS: u32 = 3;
/// Specs choose regions and endpoints, so the cache must not grow with them.
const MAX_CLIENTS: usize = 64;

/// Objects in S3, wherever a [`ObjectLocation`] points. Cheap to share behind an `Arc`; all methods take `&self`.
#[derive(Debug)]
pub struct Storage {
    sdk: SdkConfig,
    clients: Mutex<HashMap<ClientKey, Client>>,
    /// Where requests go that name no endpoint, if not to AWS.
    default_endpoint: Option<String>,
    pub(super) outages: Outages,
    pub(super) refused: Refused,
    pub(super) refusals: Refusals,
}

/// What makes one client differ from another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ClientKey {
    region: String,
    endpoint: Option<Endpoint>,
    force_path_style: bool,
}

/// Why the PEM roots of `--ca-file` cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CaError {
    /// The text has no certificate.
    #[error("holds no certificate: give a file with one or more `-----BEGIN CERTIFICATE-----` blocks")]
    Empty,
    /// A block is damaged, or holds no usable root.
    #[error("certificate {number} cannot be read: {problem}")]
    Certificate {
        /// Which one, from 1.
        number: usize,
        /// What is wrong with it.
        problem: String,
    },
}

impl Storage {
    /// Reads the AWS configuration (environment and profile) and checks the roots. Credentials are looked for when the
    /// first request needs them.
    ///
    /// # Errors
    /// [`CaError`] when `ca_pem`, which is trusted besides the system's roots, holds no usable certificates.
    pub async fn new(ca_pem: Option<&[u8]>) -> Result<Self, CaError> {
        // The default region chain would ask the instance's metadata service, which takes seconds where there is none.
        // Each place names its own region; this one only serves the credential providers (STS).
        let region = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
            .or_else(ProfileFileRegionProvider::new())
            .or_else("us-east-1");
        let sdk = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http_client(ca_pem)?)
            .region(region)
            .load()
            .await;
        let of_s3 = std::env::var("AWS_ENDPOINT_URL_S3").ok().filter(|url| !url.is_empty());
        let default_endpoint = of_s3.or_else(|| sdk.endpoint_url().map(str::to_owned));
        Ok(Self { default_endpoint, ..Self::with_config(sdk) })
    }

    fn with_config(sdk: SdkConfig) -> Self {
        Self {
            sdk,
            clients: Mutex::default(),
            default_endpoint: None,
            outages: Outages::default(),
            refused: Refused::default(),
            refusals: Refusals::default(),
        }
    }

    /// The endpoint of a store other than AWS that requests for this place go to.
    pub(super) fn endpoint(&self, place: &ObjectLocation) -> Option<Endpoint> {
        let endpoint: Endpoint = place.endpoint.as_ref().or(self.default_endpoint.as_ref())?.parse().ok()?;
        (!endpoint.belongs_to_aws()).then_some(endpoint)
    }

    /// The client for a place, or why no request could be meant for it.
    pub(super) fn client(&self, place: &ObjectLocation) -> Result<Client, Cause> {
        let key = ClientKey::of(place)?;
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
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

    fn build(&self, key: &ClientKey) -> Client {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_attempt_timeout(SHORT_TIMEOUT)
            .operation_timeout(SHORT_TOTAL)
            .build();
        // Without an endpoint of its own, the place inherits `AWS_ENDPOINT_URL_S3` through `from`.
        let mut config = aws_sdk_s3::config::Builder::from(&self.sdk)
            .region(Region::new(key.region.clone()))
            .force_path_style(key.force_path_style)
            // A checksum that we did not ask for turns the upload into `aws-chunked`, which some stores cannot read.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
            .timeout_config(timeouts)
            .stalled_stream_protection(
                StalledStreamProtectionConfig::enabled().grace_period(STALL_GRACE).build(),
            );
        if let Some(endpoint) = &key.endpoint {
            config = config.endpoint_url(endpoint.as_str());
        }
        Client::from_conf(config.build())
    }
}

impl ClientKey {
    fn of(place: &ObjectLocation) -> Result<Self, Cause> {
        if !is_bucket_name(&place.bucket) {
            return Err(Cause::InvalidBucket);
        }
        if !is_region(&place.region) {
            return Err(Cause::InvalidAddress("the region is no region's name; write one such as us-west-2"));
        }
        let endpoint = place.endpoint.as_deref().map(str::parse).transpose().map_err(|_| {
            Cause::InvalidAddress("the endpoint is no URL; write one such as https://minio.storage.svc:9000")
        })?;
        Ok(Self { region: place.region.clone(), endpoint, force_path_style: place.path_style() })
    }
}

/// The SDK's own default client, with more roots and one pool for all. `build_https` would drop the proxy silently.
fn http_client(ca_pem: Option<&[u8]>) -> Result<SharedHttpClient, CaError> {
    let mut roots = TrustStore::default();
    if let Some(pem) = ca_pem {
        check_roots(pem)?;
        roots = roots.with_pem_certificate(pem);
    }
    let proxied = client_through(ProxyConfig::from_env(), roots.clone());
    let direct = client_through(ProxyConfig::disabled(), roots);
    Ok(SharedHttpClient::new(Routed { proxied, direct }))
}

fn client_through(proxy: ProxyConfig, roots: TrustStore) -> SharedHttpClient {
    Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = ConnectorBuilder::default()
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .proxy_config(proxy.clone());
        // Building a context only ever moves its parts together; were that to change, the system's roots remain.
        if let Ok(context) = TlsContext::builder().with_trust_store(roots.clone()).build() {
            connector = connector.tls_context(context);
        }
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        connector.build()
    })
}

/// The connector panics on roots that it cannot read, so they are read here first, by the same means.
fn check_roots(pem: &[u8]) -> Result<(), CaError> {
    let mut roots = RootCertStore::empty();
    for (index, certificate) in CertificateDer::pem_slice_iter(pem).enumerate() {
        let wrong = |problem: String| CaError::Certificate { number: index + 1, problem };
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() { Err(CaError::Empty) } else { Ok(()) }
}

#[cfg(test)]
pub(super) mod tests {
    use aws_config::profile::ProfileFileCredentialsProvider;
    use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};

    use super::*;

    const ROOT: &str = "\
-----BEGIN CERTIFICATE-----
MIIBdTCCARugAwIBAgIULr6OJuYmLVt/RAP3i79OAn2Gx5IwCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEUm9vdDAgFw0yNjExMjMxMjI3MDJaGA8yMTI2MTAzMDEyMjcw
MlowDzENMAsGA1UEAwwEUm9vdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABE4r
PxGjElcUnaOjHe3Yhho6JPBIz5li/85FYOGIKfAO3OO+X+LC67ksEv0tbioiHZ5R
hNO/h9lHgeaqA6bSoLWjUzBRMB0GA1UdDgQWBBTLdiQ7LeC1vzn40U9+aOeklX5I
wDAfBgNVHSMEGDAWgBTLdiQ7LeC1vzn40U9+aOeklX5IwDAPBgNVHRMBAf8EBTAD
AQH/MAoGCCqGSM49BAMCA0gAMEUCIQCJfgEzb6uGutSEBgLM/AllNJm5WsgW3C55
Qwoj5Ez8QgIgCtdUe70XA3YCadHdp64ZjQAUZURfbRxVWGx21zLnMHo=
-----END CERTIFICATE-----
";

    /// Without the environment's proxy: tests talk to loopback.
    fn storage(credentials: SharedCredentialsProvider) -> Storage {
        let direct = Builder::new().tls_provider(Provider::Rustls(CryptoMode::AwsLc)).build_https();
        let sdk = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(direct)
            .credentials_provider(credentials);
        Storage::with_config(sdk.build())
    }

    pub fn storage_with_keys() -> Storage {
        storage(SharedCredentialsProvider::new(Credentials::new("id", "secret", None, None, "test")))
    }

    pub fn storage_without_keys() -> Storage {
        let nobody = ProfileFileCredentialsProvider::builder().profile_name("no-such-profile").build();
        storage(SharedCredentialsProvider::new(nobody))
    }

    fn place() -> ObjectLocation {
        ObjectLocation {
            bucket: "modules".into(),
            key: "vpc/a.zip".into(),
            region: "us-west-2".into(),
            endpoint: Some("http://minio:9000".into()),
            force_path_style: Some(true),
        }
    }

    #[test]
    fn roots_are_checked_before_they_are_used() {
        assert_eq!(check_roots(ROOT.as_bytes()), Ok(()));
        assert_eq!(check_roots(ROOT.repeat(2).as_bytes()), Ok(()));
        assert_eq!(check_roots(b""), Err(CaError::Empty));
        assert_eq!(check_roots(b"no certificate"), Err(CaError::Empty));
        let no_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for damaged in [no_certificate, "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"] {
            let refused = check_roots(format!("{ROOT}{damaged}").as_bytes());
            assert!(matches!(refused, Err(CaError::Certificate { number: 2, .. })), "{refused:?}");
        }
    }

    #[tokio::test]
    async fn a_storage_with_more_roots_can_be_made() {
        let storage = Storage::new(Some(ROOT.as_bytes())).await.expect("good roots");
        assert!(storage.client(&place()).is_ok());
        assert_eq!(Storage::new(Some(b"")).await.map(drop), Err(CaError::Empty));
    }

    #[test]
    fn one_endpoint_has_one_client_however_it_is_spelled() {
        let storage = storage_with_keys();
        let count = || storage.clients.lock().expect("the clients").len();
        for endpoint in ["http://minio:9000", "http://MINIO:9000/"] {
            assert!(storage.client(&ObjectLocation { endpoint: Some(endpoint.into()), ..place() }).is_ok());
        }
        assert_eq!(count(), 1);
        for number in 0..2 * MAX_CLIENTS {
            assert!(
                storage.client(&ObjectLocation { region: format!("region-{number}"), ..place() }).is_ok()
            );
            assert!(count() <= MAX_CLIENTS);
        }
    }

    #[test]
    fn aws_is_no_other_store_however_it_is_named() {
        let mut storage = storage_with_keys();
        let other = |storage: &Storage, endpoint: Option<&str>| {
            storage.endpoint(&ObjectLocation { endpoint: endpoint.map(str::to_owned), ..place() }).is_some()
        };
        assert!(!other(&storage, None) && other(&storage, Some("http://minio:9000")));
        for endpoint in [
            "https://s3.us-west-2.amazonaws.com",
            "https://s3.eusc-de-east-1.amazonaws.eu",
            "https://s3.cn-north-1.amazonaws.com.cn/",
            "https://bucket.vpce-1a2b3c.s3.us-east-1.vpce.amazonaws.com",
            "https://s3-fips.dualstack.us-gov-west-1.amazonaws.com",
        ] {
            assert!(!other(&storage, Some(endpoint)), "{endpoint}");
            storage.default_endpoint = Some(endpoint.to_owned());
            assert!(!other(&storage, None), "{endpoint} by the environment");
        }
        storage.default_endpoint = Some("http://minio:9000".to_owned());
        assert!(other(&storage, None));
    }

    #[test]
    fn no_request_is_made_for_a_name_that_could_reach_elsewhere() {
        let storage = storage_with_keys();
        let refused = |place: ObjectLocation| storage.client(&place).map(drop).expect_err("refused");
        for bucket in
            ["", "a/b", "..", "Modules", "arn:aws:s3:us-west-2:1:accesspoint/x", "modules?x", "-modules"]
        {
            assert_eq!(
                refused(ObjectLocation { bucket: bucket.into(), ..place() }),
                Cause::InvalidBucket,
                "{bucket}"
            );
        }
        for region in ["", "us-west-2.evil.net/", "us west", "us#"] {
            let cause = refused(ObjectLocation { region: region.into(), ..place() });
            assert!(matches!(cause, Cause::InvalidAddress(_)), "{region}");
        }
        let cause = refused(ObjectLocation { endpoint: Some("https://user:secret@minio".into()), ..place() });
        assert!(matches!(cause, Cause::InvalidAddress(_)));
    }
}
