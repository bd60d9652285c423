//! Whether an endpoint is AWS itself, however its URL is spelled. Pure.

use url::Url;

use super::Endpoint;

impl Endpoint {
    /// Whether S3 itself answers there, under whichever of its names: of a region, accelerated, or in a private network.
    /// Customers' machines and load balancers have names under the same domain.
    pub(super) fn belongs_to_aws(&self) -> bool {
        let host = Url::parse(self.as_str())
            .ok()
            .and_then(|url| url.host_str().map(str::to_owned))
            .unwrap_or_default();
        let ours = host.strip_suffix(".amazonaws.com").or_else(|| host.strip_suffix(".amazonaws.com.cn"));
        ours.is_some_and(|labels| {
            let mut labels = labels.split('.');
            labels.clone().any(|label| label == "s3" || label.starts_with("s3-"))
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
        ] {
            assert!(belongs(url), "{url}");
        }
        for url in [
            "https://s3.us-west-004.backblazeb2.com",
            "https://storage.googleapis.com",
            "https://s3.amazonaws.com.example.com",
            "https://s3.example.com",
            "https://s3.compute.amazonaws.com",
            "http://s3-proxy-1.us-east-1.elb.amazonaws.com",
            "https://abc.execute-api.us-east-1.amazonaws.com",
            "http://127.0.0.1:9000",
        ] {
            assert!(!belongs(url), "{url}");
        }
    }
}
