//! Whether a client is redirected to the store, and under which name.

use std::str::FromStr;

use clap::ValueEnum;
use thiserror::Error;

use crate::domain::{Endpoint, EndpointError, ObjectLocation};

/// How archives reach clients: `--download`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DownloadMode {
    /// Redirect to AWS and to public endpoints; stream from others, which clients mostly cannot reach.
    #[default]
    Auto,
    /// Redirect to a signed URL of the store.
    Redirect,
    /// Stream through the registry.
    Stream,
}

/// One `--public-endpoint A=B`: clients reach the endpoint A as B.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicEndpoint {
    inside: Endpoint,
    outside: Endpoint,
}

/// What is wrong with a `--public-endpoint`, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PublicEndpointError {
    #[error("write INSIDE=OUTSIDE, such as http://minio.storage.svc:9000=https://s3.example.com")]
    NoPair,
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
}

impl FromStr for PublicEndpoint {
    type Err = PublicEndpointError;

    fn from_str(text: &str) -> Result<Self, PublicEndpointError> {
        let (inside, outside) = text.split_once('=').ok_or(PublicEndpointError::NoPair)?;
        Ok(Self { inside: inside.trim().parse()?, outside: outside.trim().parse()? })
    }
}

/// The rules of the flags.
#[derive(Debug)]
pub(super) struct DeliveryRules {
    pub mode: DownloadMode,
    pub public: Vec<PublicEndpoint>,
}

impl DeliveryRules {
    /// The location under the name that clients reach it by; `None` to stream. `endpoint` is the one that is set for the
    /// location, there or by the environment.
    pub(super) fn redirect(
        &self,
        location: &ObjectLocation,
        endpoint: Option<&Endpoint>,
    ) -> Option<ObjectLocation> {
        let public = self.public.iter().find(|public| Some(&public.inside) == endpoint);
        let aws = endpoint.is_none_or(|endpoint| endpoint.is_aws(&location.region));
        let redirected = match self.mode {
            DownloadMode::Auto => aws || public.is_some(),
            DownloadMode::Redirect => true,
            DownloadMode::Stream => false,
        };
        let endpoint = public.map(|public| public.outside.as_str().to_owned());
        redirected.then(|| ObjectLocation {
            endpoint: endpoint.or_else(|| location.endpoint.clone()),
            ..location.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIO: &str = "http://minio:9000";

    fn redirected(mode: DownloadMode, public: &[&str], endpoint: Option<&str>) -> Option<String> {
        let location = ObjectLocation {
            bucket: "modules".into(),
            key: "vpc/a.zip".into(),
            region: "us-west-2".into(),
            endpoint: endpoint.map(str::to_owned),
            force_path_style: Some(true),
        };
        let public = public.iter().map(|pair| pair.parse().unwrap()).collect();
        let endpoint = endpoint.map(|url| url.parse().unwrap());
        let to = DeliveryRules { mode, public }.redirect(&location, endpoint.as_ref())?;
        assert_eq!((&to.bucket, &to.key, to.force_path_style), (&location.bucket, &location.key, Some(true)));
        Some(to.endpoint.unwrap_or("aws".to_owned()))
    }

    #[test]
    fn clients_are_redirected_to_what_they_can_reach() {
        let outside = "https://s3.acme.io";
        let pair = format!("http://MINIO:9000/={outside}");
        let is = |text: &str| Some(text.to_owned());
        assert_eq!(redirected(DownloadMode::Auto, &[], None), is("aws"));
        let spelled_out = "https://s3.us-west-2.amazonaws.com";
        assert_eq!(redirected(DownloadMode::Auto, &[], Some(spelled_out)), is(spelled_out));
        assert_eq!(redirected(DownloadMode::Auto, &[], Some(MINIO)), None);
        let private = "https://bucket.vpce-1a2b3c.s3.us-west-2.vpce.amazonaws.com";
        assert_eq!(redirected(DownloadMode::Auto, &[], Some(private)), None, "a private network");
        assert_eq!(redirected(DownloadMode::Auto, &[&pair], Some(MINIO)), is(outside));
        assert_eq!(redirected(DownloadMode::Auto, &[&pair], Some("http://other:9000")), None);
        assert_eq!(redirected(DownloadMode::Redirect, &[], Some(MINIO)), is(MINIO));
        assert_eq!(redirected(DownloadMode::Redirect, &[&pair], Some(MINIO)), is(outside));
        assert_eq!(redirected(DownloadMode::Stream, &[&pair], Some(MINIO)), None);
        assert_eq!(redirected(DownloadMode::Stream, &[], None), None);
    }

    #[test]
    fn a_bad_pair_says_what_to_write() {
        for (text, expected) in [
            ("http://minio:9000", "INSIDE=OUTSIDE"),
            ("minio=https://s3.acme.io", "https://"),
            ("http://a=", "https://"),
        ] {
            let error = text.parse::<PublicEndpoint>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
