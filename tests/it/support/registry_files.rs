//! The files that a registry is started with, and clients that trust its certificate.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use hyper::ext::ReasonPhrase;
use opendepot_testbed::authority::Authority;
use reqwest::redirect::Policy;
use reqwest::{Certificate, ClientBuilder, RequestBuilder, Response};
use tempfile::TempDir;

use super::SOON;

/// The key for links.
pub(crate) const LINK_KEY: &str = "a-key-of-the-test-with-32-characters-or-more";

/// A certificate, its authority, and a key for links. They end when this is dropped.
pub(crate) struct Files {
    authority: Authority,
    folder: TempDir,
}

impl Files {
    pub(crate) fn new() -> Self {
        let files =
            Self { authority: Authority::new("registry").unwrap(), folder: tempfile::tempdir().unwrap() };
        std::fs::write(files.path("ca.pem"), files.authority.pem()).unwrap();
        std::fs::write(files.path("link.key"), format!("{LINK_KEY}\n")).unwrap();
        let identity = files.authority.server(&["127.0.0.1"]).unwrap();
        std::fs::write(files.path("tls.key"), &identity.key_pem).unwrap();
        std::fs::write(files.path("tls.crt"), &identity.certificate_pem).unwrap();
        files
    }

    /// One of them, or one that the test writes.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The flags for the certificate.
    pub(crate) fn tls(&self) -> [String; 4] {
        let path = |name: &str| self.path(name).to_str().unwrap().to_owned();
        ["--tls-cert-file".into(), path("tls.crt"), "--tls-key-file".into(), path("tls.key")]
    }

    /// The flags for the key of links.
    pub(crate) fn link_key(&self) -> [String; 2] {
        ["--link-key-file".into(), self.path("link.key").to_str().unwrap().to_owned()]
    }

    /// A client that trusts the certificate.
    pub(crate) fn client(&self) -> ClientBuilder {
        client_of(&self.authority)
    }
}

/// A client that trusts this authority alone, and shows redirects.
pub(crate) fn client_of(authority: &Authority) -> ClientBuilder {
    let ca = Certificate::from_pem(authority.pem().as_bytes()).unwrap();
    reqwest::Client::builder().tls_certs_only([ca]).redirect(Policy::none()).no_proxy()
}

/// The answer to a request, which is sent again while the API server takes longer for a review than the registry waits: such an
/// answer is about the machine that runs the tests.
pub(crate) async fn answered(request: impl Fn() -> RequestBuilder) -> reqwest::Result<Response> {
    let end = Instant::now() + SOON;
    loop {
        let answer = request().send().await?;
        if !lacks_a_review(&answer) || Instant::now() > end {
            return Ok(answer);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn lacks_a_review(answer: &Response) -> bool {
    let phrase = answer.extensions().get::<ReasonPhrase>().map_or(&b""[..], ReasonPhrase::as_bytes);
    let is_late = phrase.starts_with(b"the Kubernetes API") || phrase.starts_with(b"too many reviews");
    answer.status() == 503 && is_late
}
