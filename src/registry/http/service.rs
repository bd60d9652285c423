//! From a connection's requests to the handler.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt as _;
use http::request::Parts;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body as HttpBody, Incoming};

use super::activity::Activity;
use super::answer::{Body, closing, error};
use super::limits::{Limits, MinimumRate};
use super::peer::{Peer, TrustedProxies};
use super::rules::{check, refusal};
use super::stop::Stop;

/// Answers requests.
pub trait Handler: Send + Sync + 'static {
    /// The answer to a request, whose body is empty unless [`largest_body`](Self::largest_body) permits one. It is dropped if
    /// the client closes the connection.
    fn handle(
        &self,
        request: Request<Bytes>,
        peer: Peer,
    ) -> impl Future<Output = Response<Body>> + Send + use<'_, Self>;

    /// The largest body that is expected with a request, in bytes.
    fn largest_body(&self, _head: &Parts) -> u64 {
        0
    }

    /// Called for an answer that is not one of [`handle`](Self::handle): for a request that breaks a rule for all, or after a
    /// panic.
    fn unhandled(&self, _status: StatusCode) {}
}

/// What all connections share.
pub(super) struct Shared<H> {
    pub handler: Arc<H>,
    pub limits: Limits,
    pub proxies: TrustedProxies,
    pub stop: Stop,
}

/// Answers one request. `socket` is the address that the connection came from.
pub(super) async fn respond<H: Handler>(
    shared: Arc<Shared<H>>,
    activity: Arc<Activity>,
    socket: IpAddr,
    request: Request<Incoming>,
) -> Response<impl HttpBody<Data = Bytes, Error = axum::Error>> {
    activity.begun();
    let mut answer = match checked(&shared, &activity, request).await {
        Ok(request) => handled(&shared, request, socket).await,
        Err(refused) => {
            shared.handler.unhandled(refused.status());
            closing(*refused)
        }
    };
    if shared.stop.draining() && !answer.headers().contains_key(header::CONNECTION) {
        answer = closing(answer);
    }
    if let Some(rate) = answer.extensions_mut().remove::<MinimumRate>() {
        activity.paced(rate);
    }
    // It is dropped with the body, whether or not that was sent to its end.
    let answered = Answered(activity);
    answer.map(|body| {
        body.map_err(move |error| {
            let _ = &answered;
            error
        })
    })
}

async fn handled<H: Handler>(shared: &Shared<H>, request: Request<Bytes>, socket: IpAddr) -> Response<Body> {
    let peer = shared.proxies.peer(socket, request.headers());
    let answer = async { shared.handler.handle(request, peer).await };
    AssertUnwindSafe(answer).catch_unwind().await.unwrap_or_else(|_| {
        let (status, phrase) = (StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error");
        shared.handler.unhandled(status);
        closing(error(status, phrase, "The registry has a defect; its log has the details.\n"))
    })
}

/// Checks the rules for every request, and reads its body.
async fn checked<H: Handler>(
    shared: &Shared<H>,
    activity: &Activity,
    request: Request<Incoming>,
) -> Result<Request<Bytes>, Box<Response<Body>>> {
    let (head, body) = request.into_parts();
    let most = shared.handler.largest_body(&head);
    check(&head, most)?;
    if body.is_end_stream() {
        return Ok(Request::from_parts(head, Bytes::new()));
    }
    activity.awaits_body();
    let read = Limited::new(body, usize::try_from(most).unwrap_or(usize::MAX)).collect();
    let read = tokio::time::timeout(shared.limits.headers, read).await;
    activity.begun();
    match read {
        Ok(Ok(body)) => Ok(Request::from_parts(head, body.to_bytes())),
        Ok(Err(_)) => refusal(
            StatusCode::BAD_REQUEST,
            "Bad Request: incomplete body",
            "The request's body ended too early.\n",
        ),
        Err(_) => {
            refusal(StatusCode::REQUEST_TIMEOUT, "Request Timeout", "The request's body took too long.\n")
        }
    }
}

/// Records the end of an answer when it is dropped.
struct Answered(Arc<Activity>);

impl Drop for Answered {
    fn drop(&mut self) {
        self.0.answered();
    }
}
