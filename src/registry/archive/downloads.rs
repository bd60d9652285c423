//! The answer to a request with a valid archive link.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use secrecy::ExposeSecret as _;

use super::Archive;
use super::delivery::{DeliveryRules, DownloadMode, PublicEndpoint};
use super::open::{Fault, Opened, ReadFailure, kind_and_fault, open, report};
use super::range::{Selection, select};
use super::stream::{Done, DownloadOutcome, Streamed};
use super::stream_permits::StreamPermits;
use crate::domain::ObjectLocation;
use crate::domain::object_key::content_type;
use crate::domain::text::hex;
use crate::registry::http::answer::{answer, error, set, set_text, with_remedy};
use crate::registry::http::entity_tag::is_cached;
use crate::registry::http::{Body, MinimumRate, Peer};
use crate::registry::metrics::RegistryMetrics;
use crate::storage::Storage;

/// How long a client may use the URL that it is redirected to.
const SIGNED_FOR: Duration = Duration::from_mins(2);
/// How long a request waits for its turn to be streamed.
const STREAM_WAIT: Duration = Duration::from_secs(30);
const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");
/// No proxy keeps an archive or a signed URL, or compresses what the client compares with a checksum.
const CACHING: &str = "no-store, no-transform";

/// Answers requests with valid links.
#[derive(Debug)]
pub struct Downloads {
    storage: Arc<Storage>,
    delivery: DeliveryRules,
    permits: Arc<StreamPermits>,
    metrics: RegistryMetrics,
}

/// A request whose link was checked.
#[derive(Clone, Copy, Debug)]
pub struct Download<'a> {
    pub archive: &'a Archive,
    /// GET or HEAD.
    pub method: &'a Method,
    pub headers: &'a HeaderMap,
    /// The link, by which streams are limited.
    pub link: &'a str,
    pub peer: Peer,
}

/// What a link permits to download: the archive, or the answer if it permits nothing.
pub type Permitted = Result<Archive, Box<Response<Body>>>;

impl Downloads {
    /// At most `streams` archives are streamed at once.
    pub fn new(
        storage: Arc<Storage>,
        mode: DownloadMode,
        public: Vec<PublicEndpoint>,
        streams: usize,
        metrics: RegistryMetrics,
    ) -> Self {
        let permits = Arc::new(StreamPermits::new(streams, STREAM_WAIT));
        Self { storage, delivery: DeliveryRules { mode, public }, permits, metrics }
    }

    /// Answers a request. If the recorded object is missing or another one, `superseded` finds out whether the link permits another
    /// archive now. `done` is called when the answer has ended, or its client is gone. If the client is gone before there is an
    /// answer, `done` is dropped.
    pub async fn answer(
        &self,
        download: Download<'_>,
        superseded: impl Future<Output = Option<Permitted>>,
        done: impl FnOnce(DownloadOutcome) + Send + 'static,
    ) -> Response<Body> {
        let Download { archive, method, headers, .. } = download;
        let etag = format!("\"sha256-{}\"", hex(&archive.sha256));
        if is_cached(headers, &etag) {
            let not_modified = answer(StatusCode::NOT_MODIFIED, "Not Modified", Body::empty());
            return ended(with_headers(not_modified, archive, &etag), "memory", done);
        }
        if method == Method::HEAD {
            let mut head = with_headers(Response::new(Body::empty()), archive, &etag);
            head.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(archive.size));
            return ended(head, "memory", done);
        }
        let location = archive.location.location();
        let endpoint = self.storage.endpoint(&location);
        if let Some(public) = self.delivery.redirect(&location, endpoint.as_ref()) {
            return ended(self.redirect(&public).await, "redirect", done);
        }
        let range = match select(headers, archive.size, &etag) {
            Selection::Whole => None,
            Selection::Part(first, last) => Some((first, last)),
            Selection::Unsatisfiable => return ended(unsatisfiable(archive.size), "memory", done),
        };
        self.stream(download, &etag, range, superseded, Box::new(done)).await
    }

    /// A redirect to the store. Nothing is sent there.
    async fn redirect(&self, location: &ObjectLocation) -> Response<Body> {
        let url = match self.storage.sign(location, SIGNED_FOR).await {
            Ok(url) => url,
            Err(error) => {
                let (kind, fault) = kind_and_fault(&error.cause);
                self.metrics.s3_error(kind);
                tracing::warn!(%error, "no signed URL could be made for an archive; check the registry's AWS credentials");
                return failed(fault);
            }
        };
        let Ok(mut url) = HeaderValue::from_str(url.expose_secret()) else {
            self.metrics.s3_error("other");
            return failed(Fault::Silent);
        };
        url.set_sensitive(true);
        let mut answer = answer(StatusCode::FOUND, "Found", Body::empty());
        answer.headers_mut().insert(header::LOCATION, url);
        set(&mut answer, header::CACHE_CONTROL, CACHING);
        answer
    }

    async fn stream(
        &self,
        download: Download<'_>,
        etag: &str,
        range: Option<(u64, u64)>,
        superseded: impl Future<Output = Option<Permitted>>,
        done: Done,
    ) -> Response<Body> {
        let archive = download.archive;
        let Some(permit) = self.permits.take(download.link, download.peer).await else {
            let sentence = "Too many archives are being downloaded; try again in a minute.";
            return ended(unavailable("too many downloads", sentence), "stream", done);
        };
        let Opened { first, rest, range } = match self.open(archive, range, superseded).await {
            Ok(opened) => opened,
            Err(answer) => return ended(answer, "stream", done),
        };
        let (status, length) = match range {
            Some((first, last)) => (StatusCode::PARTIAL_CONTENT, last - first + 1),
            None => (StatusCode::OK, archive.size),
        };
        let body = Streamed::new((first, rest), length, status.as_u16(), self.metrics.clone(), done, permit);
        let mut answer = with_headers(Response::new(Body::new(body)), archive, etag);
        *answer.status_mut() = status;
        if let Some((first, last)) = range {
            let bytes = format!("bytes {first}-{last}/{}", archive.size);
            set_text(&mut answer, header::CONTENT_RANGE, &bytes);
        }
        answer.extensions_mut().insert(MinimumRate::LOWEST);
        answer
    }

    /// Opens the object, or the one that has replaced it. Otherwise returns the answer.
    async fn open(
        &self,
        archive: &Archive,
        range: Option<(u64, u64)>,
        superseded: impl Future<Output = Option<Permitted>>,
    ) -> Result<Opened, Response<Body>> {
        let mut location = archive.location.location();
        let mut opened = open(&self.storage, archive, range, &self.metrics).await;
        if let Err(ReadFailure::Missing | ReadFailure::Differs) = opened {
            match superseded.await {
                Some(Ok(moved)) => {
                    location = moved.location.location();
                    opened = open(&self.storage, &moved, range, &self.metrics).await;
                }
                Some(Err(answer)) => return Err(*answer),
                None => {}
            }
        }
        opened.map_err(|error| {
            report(&error, &location, &self.metrics);
            failed(error.fault())
        })
    }
}

/// Reports an answer that has ended with its headers.
fn ended(answer: Response<Body>, mode: &'static str, done: impl FnOnce(DownloadOutcome)) -> Response<Body> {
    done(DownloadOutcome { mode, status: answer.status().as_u16(), bytes: 0 });
    answer
}

/// The headers that every answer about an archive has. None comes from the store.
fn with_headers(mut answer: Response<Body>, archive: &Archive, etag: &str) -> Response<Body> {
    set_text(&mut answer, header::ETAG, etag);
    set_text(&mut answer, REPR_DIGEST, &format!("sha-256=:{}:", STANDARD.encode(archive.sha256)));
    set(&mut answer, header::ACCEPT_RANGES, "bytes");
    set(&mut answer, header::CONTENT_TYPE, content_type(&archive.location.location().key));
    set(&mut answer, header::CACHE_CONTROL, CACHING);
    set(&mut answer, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    answer
}

fn unsatisfiable(size: u64) -> Response<Body> {
    let sentence = "The archive has no such bytes.\n";
    let mut answer = error(StatusCode::RANGE_NOT_SATISFIABLE, "Range Not Satisfiable", sentence);
    set_text(&mut answer, header::CONTENT_RANGE, &format!("bytes */{size}"));
    answer
}

/// Its sentences that advise another attempt name a minute too.
fn unavailable(phrase: &'static str, sentence: &str) -> Response<Body> {
    let answer = error(StatusCode::SERVICE_UNAVAILABLE, phrase, format!("{sentence}\n"));
    with_remedy(answer, Some(60))
}

fn failed(fault: Fault) -> Response<Body> {
    let phrase = match fault {
        Fault::Missing => "archive is being restored",
        Fault::Differs => "archive differs from what was published",
        Fault::Busy => "the store is busy",
        Fault::Refused => "the store refused",
        Fault::Silent => "the store does not answer",
    };
    unavailable(phrase, fault.sentence())
}
