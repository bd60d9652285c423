use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};

use super::super::credentials::tests::Hanging;
use super::super::http::tests::without_proxy;
use super::*;

fn clients(credentials: SharedCredentialsProvider) -> Clients {
    let sdk = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(without_proxy(&[]))
        .identity_cache(IdentityCache::no_cache())
        .credentials_provider(credentials);
    Clients::with_config(sdk.build())
}

pub(in crate::storage) fn clients_with_keys() -> Clients {
    clients(SharedCredentialsProvider::new(Credentials::new("id", "secret", None, None, "test")))
}

pub(in crate::storage) fn clients_without_keys() -> Clients {
    let config = ProviderConfig::without_region().with_http_client(without_proxy(&[]));
    let missing =
        ProfileFileCredentialsProvider::builder().configure(&config).profile_name("no-such-profile");
    let missing = missing.build();
    clients(SharedCredentialsProvider::new(missing))
}

pub(in crate::storage) fn clients_with_a_source_that_hangs() -> Clients {
    let source = SharedCredentialsProvider::new(Hanging::default());
    clients(SharedCredentialsProvider::new(CredentialsCache::new(source)))
}

fn location() -> ObjectLocation {
    ObjectLocation {
        bucket: "modules".into(),
        key: "vpc/a.zip".into(),
        region: "us-west-2".into(),
        endpoint: Some("http://minio:9000".into()),
        force_path_style: Some(true),
    }
}

#[tokio::test]
async fn clients_with_more_roots_can_be_made() {
    let root = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/root.pem"));
    let clients = Clients::new(&[Certificate::from_pem(root).unwrap()], false).await.expect("good roots");
    assert!(clients.get(&location()).is_ok());
}

#[tokio::test]
async fn a_region_has_no_line_break() {
    let region = trimmed(RegionProviderChain::first_try(Region::new("us-west-2\n"))).await;
    assert_eq!(region, Some(Region::new("us-west-2")));
}

#[test]
fn one_endpoint_has_one_client_however_it_is_spelled() {
    let clients = clients_with_keys();
    let count = || clients.cache.lock().len();
    let parsed = || clients.endpoints.lock().len();
    for endpoint in ["http://minio:9000", "http://MINIO:9000/"] {
        assert!(clients.get(&ObjectLocation { endpoint: Some(endpoint.into()), ..location() }).is_ok());
    }
    assert_eq!((count(), parsed()), (1, 2));
    for number in 0..2 * MAX_CLIENTS {
        let endpoint = Some(format!("http://minio:{number}"));
        assert!(clients.endpoint(&ObjectLocation { endpoint, ..location() }).is_some());
        assert!(parsed() <= MAX_CLIENTS);
    }
    for number in 0..2 * MAX_CLIENTS {
        assert!(clients.get(&ObjectLocation { region: format!("region-{number}"), ..location() }).is_ok());
        assert!(count() <= MAX_CLIENTS);
    }
}

/// The SDK signs the host as it is spelled, and a proxy may send the canonical one.
#[test]
fn the_default_endpoint_is_signed_as_it_is_sent() {
    let mut clients = clients_with_keys();
    clients.default_endpoint = Some("https://MinIO:443/".to_owned());
    let url =
        |location: &ObjectLocation| clients.key(location).unwrap().endpoint.unwrap().as_str().to_owned();
    assert_eq!(url(&ObjectLocation { endpoint: None, ..location() }), "https://minio");
    assert_eq!(url(&location()), "http://minio:9000", "a location's own one takes precedence");
}

#[test]
fn aws_is_no_other_store_however_it_is_named() {
    let mut clients = clients_with_keys();
    let other = |clients: &Clients, endpoint: Option<&str>| {
        clients.other_store(&ObjectLocation { endpoint: endpoint.map(str::to_owned), ..location() }).is_some()
    };
    assert!(!other(&clients, None) && other(&clients, Some("http://minio:9000")));
    for endpoint in [
        "https://s3.us-west-2.amazonaws.com",
        "https://s3.eusc-de-east-1.amazonaws.eu",
        "https://s3.cn-north-1.amazonaws.com.cn/",
        "https://bucket.vpce-1a2b3c.s3.us-east-1.vpce.amazonaws.com",
        "https://s3-fips.dualstack.us-gov-west-1.amazonaws.com",
    ] {
        assert!(!other(&clients, Some(endpoint)), "{endpoint}");
        clients.default_endpoint = Some(endpoint.to_owned());
        assert!(!other(&clients, None), "{endpoint} by the environment");
    }
    clients.default_endpoint = Some("http://minio:9000".to_owned());
    assert!(other(&clients, None));
}

#[test]
fn no_request_is_made_for_a_name_that_could_reach_elsewhere() {
    let clients = clients_with_keys();
    let refused = |location: ObjectLocation| clients.get(&location).map(drop).expect_err("refused");
    for bucket in
        ["", "a/b", "..", "Modules", "arn:aws:s3:us-west-2:1:accesspoint/x", "modules?x", "-modules"]
    {
        assert_eq!(
            refused(ObjectLocation { bucket: bucket.into(), ..location() }),
            Cause::InvalidBucket,
            "{bucket}"
        );
    }
    for region in ["", "us-west-2.evil.net/", "us west", "us#"] {
        let cause = refused(ObjectLocation { region: region.into(), ..location() });
        assert!(matches!(cause, Cause::InvalidAddress(_)), "{region}");
    }
    let cause = refused(ObjectLocation { endpoint: Some("https://user:secret@minio".into()), ..location() });
    assert!(matches!(cause, Cause::InvalidAddress(_)));
}
