//! Whether an endpoint is AWS itself, however its URL is spelled. Pure.

use url::Url;

use super::Endpoint;

/// The domains of AWS's partitions: commercial, China, the European Sovereign Cloud, and the isolated ones.
const DOMAINS: [&str; 9] = [
    "amazonaws.com",
    "amazonaws.com.cn",
    "amazonaws.eu",
    "api.aws",
    "api.amazonwebservices.com.cn",
    "api.amazonwebservices.eu",
    "c2s.ic.gov",
    "sc2s.sgov.gov",
    "csp.hci.ic.gov",
];
/// What S3's labels begin with, if not with a plain `s3`: FIPS, acceleration, access points, directory buckets.
const SERVICES: [&str; 2] = ["s3-", "s3express-"];

impl Endpoint {
    /// Whether S3 itself answers there, under whichever of its names: of a region, accelerated, or in a private network.
    /// Customers' machines and load balancers have names under the same domain.
    pub(super) fn belongs_to_aws(&self) -> bool {
        let host = Url::parse(self.as_str())
            .ok()
            .and_then(|url| url.host_str().map(str::to_owned))
            .unwrap_or_default();
        let host = host.strip_suffix('.').unwrap_or(&host);
        let ours = DOMAINS.iter().find_map(|domain| host.strip_suffix(domain)?.strip_suffix('.'));
        ours.is_some_and(|labels| {
            let mut labels = labels.split('.');
            let service = |label: &str| label == "s3" || SERVICES.iter().any(|name| label.starts_with(name));
            labels.clone().any(service)
                && !labels.any(|label| label == "elb" || label == "compute" || label.starts_with("compute-"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
