//! Selects the HTTP client of a request: through the proxy of `HTTP_PROXY` and `HTTPS_PROXY`, direct, or with small buffers.
//! Limits what is kept of an answer.
//!
//! The credential endpoints of instances and pods have link-local addresses, which reach another machine from a proxy: requests
//! fail or return the proxy's credentials, and the proxy sees the token. So they bypass the proxy, regardless of `NO_PROXY`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::config::http::{HttpRequest, HttpResponse};
use aws_sdk_s3::config::{HttpClient, RuntimeComponents};
use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::result::ConnectorError;
use http::Uri;
use http_body_util::Limited;
use hyper_util::client::proxy::matcher::Matcher;
use url::{Host, Url};

use super::plain_http;

/// The longest answer that is collected in memory, in bytes.
const LONGEST_ANSWER: usize = 256 << 10;

/// A client that uses the proxy, and one that does not.
#[derive(Clone, Debug)]
pub(super) struct ProxyRouter {
    pub proxied: SharedHttpConnector,
    pub direct: SharedHttpConnector,
    /// The proxies of the environment, if requests over plain HTTP that use none of them are sent with small buffers instead.
    pub small_buffers: Option<Arc<Matcher>>,
    /// Time limit for an answer to begin, with the connection. Requests for credentials have one.
    pub limit: Option<Duration>,
}

impl HttpClient for ProxyRouter {
    fn http_connector(&self, settings: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        let connect = settings.connect_timeout().unwrap_or_default();
        let limit = settings.read_timeout().map(|read| connect + read);
        SharedHttpConnector::new(Self { limit, ..self.clone() })
    }
}

impl HttpConnector for ProxyRouter {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let reads_object = reads_object(request.uri());
        let proxies = self.small_buffers.as_ref();
        let answer = if proxies.is_some_and(|proxies| is_plain_and_direct(request.uri(), proxies)) {
            HttpConnectorFuture::new(plain_http::send(request))
        } else if is_link_local(request.uri()) {
            self.direct.call(request)
        } else {
            self.proxied.call(request)
        };
        let limit = self.limit;
        HttpConnectorFuture::new(async move {
            let answer = match limit {
                Some(limit) => tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| {
                    Err(ConnectorError::timeout(format!("no answer within {limit:?}").into()))
                }),
                None => answer.await,
            };
            answer.map(|answer| {
                let is_streamed = reads_object && answer.status().is_success();
                without_foreign_clock(if is_streamed { answer } else { bounded(answer) })
            })
        })
    }
}

/// Whether a request uses neither TLS nor one of these proxies.
fn is_plain_and_direct(url: &str, proxies: &Matcher) -> bool {
    url.starts_with("http://") && url.parse().is_ok_and(|url: Uri| proxies.intercept(&url).is_none())
}

/// Whether the request is a `GetObject`. The SDK streams the answer to it, and collects all others.
fn reads_object(url: &str) -> bool {
    url.split_once('?').is_some_and(|(_, query)| query.split('&').any(|pair| pair == "x-id=GetObject"))
}

/// An answer whose body fails once it is too long.
fn bounded(mut answer: HttpResponse) -> HttpResponse {
    let body = answer.take_body();
    *answer.body_mut() = SdkBody::from_body_1_x(Limited::new(body, LONGEST_ANSWER));
    answer
}

/// Answers of S3 and of STS have an ID.
const IDS: [&str; 2] = ["x-amz-request-id", "x-amzn-requestid"];

/// The SDK signs its next requests by the clock of the last answer, unless that is from a cache. A proxy or gateway in front of
/// the store may have another clock than the store, and then the store would reject those requests. So an answer without an ID
/// is marked as one from a cache.
fn without_foreign_clock(mut answer: HttpResponse) -> HttpResponse {
    if !IDS.iter().any(|id| answer.headers().contains_key(id)) {
        answer.headers_mut().insert("age", "0");
    }
    answer
}

/// Whether the host is a link-local address, or in AWS's IPv6 network for such endpoints.
fn is_link_local(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else { return false };
    let address = match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::V4(address),
        Some(Host::Ipv6(address)) => address.to_canonical(),
        _ => return false,
    };
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        // AWS's network is `fd00:ec2::/32`.
        IpAddr::V6(address) => address.is_unicast_link_local() || address.segments()[..2] == [0xfd00, 0x0ec2],
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::domain::text::causes;

    #[test]
    fn only_the_clock_of_the_store_counts() {
        for (header, is_marked) in [
            ("x-amz-request-id", false),
            ("x-amzn-RequestId", false),
            ("server", true),
            ("x-request-id", true),
        ] {
            let answer = http::Response::builder().header("date", "now").header(header, "1");
            let answer = HttpResponse::try_from(answer.body(SdkBody::empty()).unwrap()).unwrap();
            let answer = without_foreign_clock(answer);
            assert_eq!(answer.headers().contains_key("age"), is_marked, "{header}");
            assert_eq!(answer.headers().get("date"), Some("now"), "a delay may be measured by it");
        }
    }

    /// A store that answers everything with this status and so many bytes.
    #[derive(Debug)]
    struct Store(u16, usize);

    impl HttpConnector for Store {
        fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
            let body = SdkBody::from(vec![0_u8; self.1]);
            HttpConnectorFuture::ready(Ok(HttpResponse::new(self.0.try_into().unwrap(), body)))
        }
    }

    /// A server that does not answer.
    #[derive(Debug)]
    struct Silent;

    impl HttpConnector for Silent {
        fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
            HttpConnectorFuture::new(std::future::pending())
        }
    }

    #[tokio::test]
    async fn an_answer_that_is_late_is_reported_with_its_limit() {
        let (silent, limit) = (SharedHttpConnector::new(Silent), Some(Duration::from_millis(5)));
        let router = ProxyRouter { proxied: silent.clone(), direct: silent, small_buffers: None, limit };
        let error = router.call(HttpRequest::get("http://169.254.169.254/").unwrap()).await.unwrap_err();
        assert!(error.is_timeout() && causes(&error).ends_with("no answer within 5ms"), "{error:?}");
    }

    #[tokio::test]
    async fn only_the_answer_with_an_object_may_be_long() {
        let object = "http://minio:9000/modules/vpc/a.zip?x-id=GetObject";
        for (url, status, length, is_whole) in [
            (object, 200, LONGEST_ANSWER + 1, true),
            (object, 206, LONGEST_ANSWER + 1, true),
            (
                "https://modules.s3.us-west-2.amazonaws.com/a.zip?a=b&x-id=GetObject",
                200,
                LONGEST_ANSWER + 1,
                true,
            ),
            (object, 500, LONGEST_ANSWER, true),
            (object, 500, LONGEST_ANSWER + 1, false),
            (object, 301, LONGEST_ANSWER + 1, false),
            ("http://minio:9000/modules/vpc/a.zip?x-id=PutObject", 200, LONGEST_ANSWER + 1, false),
            ("http://minio:9000/modules/x-id=GetObject?x-id=DeleteObject", 200, LONGEST_ANSWER + 1, false),
            ("http://minio:9000/modules/a.zip?x-id=GetObjectAttributes", 200, LONGEST_ANSWER + 1, false),
            ("http://169.254.169.254/latest/meta-data/", 200, LONGEST_ANSWER, true),
            ("http://169.254.169.254/latest/meta-data/", 200, LONGEST_ANSWER + 1, false),
        ] {
            let store = SharedHttpConnector::new(Store(status, length));
            let router =
                ProxyRouter { proxied: store.clone(), direct: store, small_buffers: None, limit: None };
            let answer = router.call(HttpRequest::get(url).unwrap()).await.unwrap();
            let read = answer.into_body().collect().await.ok().map(|body| body.to_bytes().len());
            assert_eq!(read, is_whole.then_some(length), "{url} {status}");
        }
    }

    #[test]
    fn a_plain_request_without_a_proxy_has_small_buffers() {
        let none = Matcher::builder().build();
        let one = Matcher::builder().http("http://proxy:3128").no(".svc,10.0.0.0/8").build();
        for (url, without, with) in [
            ("http://minio.storage.svc:9000/modules/a.zip?x-id=GetObject", true, true),
            ("http://10.1.2.3:9000/modules/a.zip", true, true),
            ("http://minio.example.com/modules/a.zip", true, false),
            ("https://minio.storage.svc:9000/modules/a.zip", false, false),
        ] {
            let found = [&none, &one].map(|proxies| is_plain_and_direct(url, proxies));
            assert_eq!(found, [without, with], "{url}");
        }
    }

    #[test]
    fn only_link_local_addresses_are_asked_without_a_proxy() {
        for url in [
            "http://169.254.169.254/latest/meta-data/",
            "http://169.254.170.2/v2/credentials/x",
            "http://169.254.170.23/v1/credentials",
            "http://169.254.170.23:80/v1/credentials",
            "https://169.254.0.1:8443/",
            "http://[fd00:ec2::254]/latest/api/token",
            "http://[fd00:ec2::23]/v1/credentials",
            "http://[fe80::1]/",
            "http://[::ffff:169.254.169.254]/",
        ] {
            assert!(is_link_local(url), "{url}");
        }
        for url in [
            "https://s3.us-west-2.amazonaws.com/modules/a.zip",
            "https://sts.us-west-2.amazonaws.com/",
            "http://169.255.169.254/",
            "http://10.0.0.1/",
            "http://127.0.0.1:9000/",
            "http://169.254.169.254.example.com/",
            "http://[fd00:ec3::254]/",
            "http://[fd01:ec2::254]/",
            "/latest/api/token",
            "",
        ] {
            assert!(!is_link_local(url), "{url}");
        }
    }
}
