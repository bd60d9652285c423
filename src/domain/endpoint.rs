//! Endpoints of S3-compatible stores, in one canonical spelling.
//!
//! Two URLs that differ in case, default port or a trailing slash name the same store. Everything here is pure except the
//! default endpoint, which [`use_default_endpoint`] sets once at start-up.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use thiserror::Error;
use url::Url;

use super::names::is_region;

/// The domains of AWS's partitions: commercial, China, the European Sovereign Cloud, and the isolated ones.
const DOMAINS: [&str; 10] = [
    "amazonaws.com",
    "amazonaws.com.cn",
    "amazonaws.eu",
    "api.aws",
    "api.amazonwebservices.com.cn",
    "api.amazonwebservices.eu",
    "c2s.ic.gov",
    "sc2s.sgov.gov",
    "csp.hci.ic.gov",
    "cloud.adc-e.uk",
];
/// Prefixes of S3's labels other than `s3` itself: FIPS, acceleration, access points, directory buckets.
const SERVICES: [&str; 2] = ["s3-", "s3express-"];

/// The base URL of an S3-compatible store, in one spelling: scheme and host in lower case, no default port, no slash at
/// the end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint(Arc<str>);

/// What is wrong with an endpoint. The URL is not repeated: it might hold a password.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the S3 endpoint {0}; write http(s)://HOST[:PORT][/PATH], such as https://minio.storage.svc:9000")]
pub struct EndpointError(&'static str);

impl Endpoint {
    /// The URL, without a slash at the end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is S3 itself, by any of its names: of a region, accelerated, or in a private network. Customers' machines
    /// and load balancers have names under the same domains.
    pub fn belongs_to_aws(&self) -> bool {
        let Ok(url) = Url::parse(self.as_str()) else { return false };
        let host = url.host_str().unwrap_or_default();
        let host = host.strip_suffix('.').unwrap_or(host);
        let ours = DOMAINS.iter().find_map(|domain| host.strip_suffix(domain)?.strip_suffix('.'));
        ours.is_some_and(|labels| {
            let mut labels = labels.split('.');
            let service = |label: &str| label == "s3" || SERVICES.iter().any(|name| label.starts_with(name));
            labels.clone().any(service)
                && !labels.any(|label| label == "elb" || label == "compute" || label.starts_with("compute-"))
        })
    }

    /// Whether this is AWS's own endpoint for the region, which requests use by default, or an older name of it. The region must
    /// not contain a dot: the host could then be a customer's machine under AWS's domain.
    pub fn is_aws(&self, region: &str) -> bool {
        let Some(host) = self.0.strip_prefix("https://") else { return false };
        let services = ["s3.", "s3-", "s3.dualstack.", "s3-fips.", "s3-fips.dualstack."];
        let is_of_region = |service: &&str| host == format!("{service}{region}.{}", domain(region));
        (is_region(region) && services.iter().any(is_of_region))
            || (region == "us-east-1" && matches!(host, "s3.amazonaws.com" | "s3-external-1.amazonaws.com"))
    }
}

/// The domain that requests for a region go to.
fn domain(region: &str) -> &'static str {
    let others = [
        ("cn-", "amazonaws.com.cn"),
        ("eusc-", "amazonaws.eu"),
        ("us-iso-", "c2s.ic.gov"),
        ("us-isob-", "sc2s.sgov.gov"),
        ("us-isof-", "csp.hci.ic.gov"),
        ("eu-isoe-", "cloud.adc-e.uk"),
    ];
    let other = others.into_iter().find(|(prefix, _)| region.starts_with(prefix));
    other.map_or("amazonaws.com", |(_, domain)| domain)
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let url = Url::parse(text).map_err(|_| EndpointError("is not a URL"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(EndpointError("is neither http:// nor https://"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(EndpointError(
                "contains a user name, but credentials come from the AWS credential chain",
            ));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(EndpointError("has a query or a fragment"));
        }
        Ok(Self(url.as_str().trim_end_matches('/').into()))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

static DEFAULT: OnceLock<Endpoint> = OnceLock::new();

/// Sets the endpoint of requests without one: that of the AWS configuration, the same for the whole process. Without it, they
/// are sent to AWS. Only the first call counts.
pub fn use_default_endpoint(endpoint: Option<&Endpoint>) {
    if let Some(endpoint) = endpoint {
        let _ = DEFAULT.set(endpoint.clone());
    }
}

/// An endpoint in its canonical form: host in lower case, no default port, no slash at the end. `None` if it is the default.
/// A text that is not a URL stays as it is: nothing is ever stored there.
pub fn canonical_endpoint(endpoint: Option<&str>, region: &str) -> Option<String> {
    canonical(endpoint, region, DEFAULT.get())
}

fn canonical(endpoint: Option<&str>, region: &str, default: Option<&Endpoint>) -> Option<String> {
    let text = endpoint.filter(|text| !text.is_empty())?;
    let Ok(endpoint) = text.parse::<Endpoint>() else { return Some(text.to_owned()) };
    let is_default = default.map_or_else(|| endpoint.is_aws(region), |default| endpoint == *default);
    (!is_default).then(|| endpoint.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_store_has_one_spelling() {
        let minio: Endpoint = "https://minio.example.com".parse().unwrap();
        let aws = "https://s3.us-west-2.amazonaws.com";
        // Endpoint, default endpoint, canonical form.
        let table = [
            (None, None, None),
            (Some(""), None, None),
            (Some("https://minio.example.com"), None, Some("https://minio.example.com")),
            (Some("https://minio.example.com/"), None, Some("https://minio.example.com")),
            (Some("https://MinIO.Example.COM:443/"), None, Some("https://minio.example.com")),
            (Some("HTTPS://minio.example.com"), None, Some("https://minio.example.com")),
            (Some("http://minio.example.com:80"), None, Some("http://minio.example.com")),
            (Some("http://minio.example.com:443"), None, Some("http://minio.example.com:443")),
            (Some("http://minio:9000/"), None, Some("http://minio:9000")),
            (Some("http://minio:9001"), None, Some("http://minio:9001")),
            (Some("not a URL"), None, Some("not a URL")),
            // What is written out although nothing would mean the same.
            (Some(aws), None, None),
            (Some("https://S3.us-west-2.amazonaws.com:443/"), None, None),
            (Some("https://s3.eu-west-1.amazonaws.com"), None, Some("https://s3.eu-west-1.amazonaws.com")),
            // An older name of the region, and two of another region.
            (Some("https://s3-us-west-2.amazonaws.com"), None, None),
            (Some("https://s3-eu-west-1.amazonaws.com"), None, Some("https://s3-eu-west-1.amazonaws.com")),
            (Some("https://s3.amazonaws.com"), None, Some("https://s3.amazonaws.com")),
            (Some("https://minio.EXAMPLE.com/"), Some(&minio), None),
            (None, Some(&minio), None),
            (Some(aws), Some(&minio), Some(aws)),
        ];
        for (endpoint, default, expected) in table {
            assert_eq!(
                canonical(endpoint, "us-west-2", default).as_deref(),
                expected,
                "{endpoint:?} {default:?}"
            );
        }
    }

    #[test]
    fn aws_has_one_spelling_in_each_of_its_partitions() {
        for (region, domain) in [
            ("eu-central-1", "amazonaws.com"),
            ("us-gov-west-1", "amazonaws.com"),
            ("cn-north-1", "amazonaws.com.cn"),
            ("eusc-de-east-1", "amazonaws.eu"),
            ("us-iso-east-1", "c2s.ic.gov"),
            ("us-isob-east-1", "sc2s.sgov.gov"),
            ("us-isof-south-1", "csp.hci.ic.gov"),
            ("eu-isoe-west-1", "cloud.adc-e.uk"),
        ] {
            for service in ["s3.", "s3-", "s3.dualstack.", "s3-fips.", "s3-fips.dualstack."] {
                let endpoint = format!("https://{service}{region}.{domain}/");
                assert_eq!(canonical(Some(&endpoint), region, None), None, "{endpoint}");
            }
            for other in
                ["amazonaws.com", "amazonaws.com.cn", "amazonaws.eu"].iter().filter(|d| **d != domain)
            {
                let endpoint = format!("https://s3.{region}.{other}");
                assert_eq!(canonical(Some(&endpoint), region, None), Some(endpoint.clone()), "another store");
            }
        }
        for host in ["s3.amazonaws.com", "s3-external-1.amazonaws.com", "s3-us-east-1.amazonaws.com"] {
            assert_eq!(canonical(Some(&format!("https://{host}")), "us-east-1", None), None, "{host}");
        }
        for other in ["http://s3.amazonaws.com", "https://s3-accelerate.amazonaws.com"] {
            assert_eq!(canonical(Some(other), "us-east-1", None).as_deref(), Some(other));
        }
    }

    #[test]
    fn s3_itself_is_told_from_others_under_its_domain() {
        let belongs = |url: &str| url.parse::<Endpoint>().expect(url).belongs_to_aws();
        for url in [
            "https://s3.us-west-2.amazonaws.com",
            "http://S3.amazonaws.com/",
            "https://s3-fips.dualstack.us-gov-west-1.amazonaws.com",
            "https://s3-accelerate.amazonaws.com",
            "https://bucket.vpce-1a2b3c.s3.us-east-1.vpce.amazonaws.com",
            "https://s3.cn-north-1.amazonaws.com.cn",
            "https://s3.dualstack.cn-northwest-1.amazonaws.com.cn",
            "https://s3.eusc-de-east-1.amazonaws.eu",
            "https://S3-FIPS.eusc-de-east-1.amazonaws.eu:443/",
            "https://bucket.vpce-1a2b3c.s3.eusc-de-east-1.vpce.amazonaws.eu",
            "https://vpce-1a2b3c.s3.cn-north-1.vpce.amazonaws.com.cn",
            "https://s3-fips.us-east-1.amazonaws.com",
            "https://s3.dualstack.us-west-2.amazonaws.com.",
            "https://s3express-usw2-az1.us-west-2.amazonaws.com",
            "https://ap-1.s3-accesspoint.us-west-2.amazonaws.com",
            "https://s3.us-iso-east-1.c2s.ic.gov",
        ] {
            assert!(belongs(url), "{url}");
        }
        for url in [
            "https://s3.us-west-004.backblazeb2.com",
            "https://storage.googleapis.com",
            "https://s3.amazonaws.com.example.com",
            "https://s3.example.com",
            "https://s3.compute.amazonaws.com",
            "https://s3.eusc-de-east-1.amazonaws.eu.example.com",
            "https://s3.notamazonaws.eu",
            "https://amazonaws.eu",
            "https://s3-proxy.eusc-de-east-1.elb.amazonaws.eu",
            "http://s3-proxy-1.us-east-1.elb.amazonaws.com",
            "https://abc.execute-api.us-east-1.amazonaws.com",
            "http://127.0.0.1:9000",
        ] {
            assert!(!belongs(url), "{url}");
        }
    }
}
