//! One spelling for each store, so that a place that is written in another way is no other place.
//!
//! In: an endpoint as a spec or a status spells it, and the region beside it. Out: its canonical form; none where requests
//! go that name no endpoint. Pure, but for what [`use_default_endpoint`] was given when the process started.

use std::sync::OnceLock;

use super::Endpoint;

static DEFAULT: OnceLock<Endpoint> = OnceLock::new();

/// Sets where requests go that name no endpoint: `AWS_ENDPOINT_URL_S3`, which is the same for the whole process. Without
/// it that is AWS. Only the first call counts.
pub fn use_default_endpoint(endpoint: Option<&Endpoint>) {
    if let Some(endpoint) = endpoint {
        let _ = DEFAULT.set(endpoint.clone());
    }
}

/// An endpoint in its canonical form: host in lower case, no default port, no slash at the end; none where it only spells
/// out the default. One that is no URL stays as it is spelled: nothing is ever stored there.
pub fn canonical_endpoint(endpoint: Option<&str>, region: &str) -> Option<String> {
    canonical(endpoint, region, DEFAULT.get())
}

fn canonical(endpoint: Option<&str>, region: &str, default: Option<&Endpoint>) -> Option<String> {
    let text = endpoint.filter(|text| !text.is_empty())?;
    let Ok(endpoint) = text.parse::<Endpoint>() else { return Some(text.to_owned()) };
    let is_default = match default {
        Some(default) => endpoint == *default,
        None => endpoint.is_aws(region),
    };
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
        ] {
            for service in ["s3", "s3.dualstack", "s3-fips", "s3-fips.dualstack"] {
                let endpoint = format!("https://{service}.{region}.{domain}/");
                assert_eq!(canonical(Some(&endpoint), region, None), None, "{endpoint}");
            }
            for other in
                ["amazonaws.com", "amazonaws.com.cn", "amazonaws.eu"].iter().filter(|d| **d != domain)
            {
                let endpoint = format!("https://s3.{region}.{other}");
                assert_eq!(canonical(Some(&endpoint), region, None), Some(endpoint.clone()), "another store");
            }
        }
    }
}
