//! Bounds on what the API server answers, whatever is stored there: how deeply objects are nested, what they contain that nothing
//! reads, how large the page of a list is, and how soon a watch may end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::{Method, Request, Response, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited, StreamBody};
use hyper::body::Frame;
use kube::Client;
use kube::client::Body;
use tower::{BoxError, service_fn};

use super::json_pruner::JsonPruner;

/// The largest text of a page with more than [`FEW`] objects, in bytes. Lists are in memory page by page, more than twice.
const LARGEST_PAGE: usize = 4 << 20;
/// The objects of a page where they are large. The API server stores none that is larger than 1.5 MiB.
const FEW: u32 = 5;
/// A watch that ends sooner has failed.
const SHORTEST_WATCH: Duration = Duration::from_secs(1);

type ResponseBody = UnsyncBoxBody<Bytes, BoxError>;

/// The same client with bounded answers.
pub(super) fn bounded(client: Client) -> Client {
    let namespace = client.default_namespace().to_owned();
    let are_large = Arc::new(AtomicBool::new(false));
    let service = move |request| {
        let (client, are_large) = (client.clone(), Arc::clone(&are_large));
        async move { send(&client, &are_large, request).await }
    };
    Client::new(service_fn(service), namespace)
}

async fn send(
    client: &Client,
    are_large: &AtomicBool,
    request: Request<Body>,
) -> Result<Response<ResponseBody>, BoxError> {
    if let Some(smaller) = with_few(&request) {
        return page(client, are_large, request, smaller).await;
    }
    let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
    let pruner = JsonPruner::of(request.uri().path());
    let answer = client.send(request).await?;
    let lasts = is_watch && answer.status().is_success();
    Ok(answer.map(|body| if lasts { watch_body(body, pruner) } else { pruned(body, pruner) }))
}

/// A page of a list. One that is too large is requested again with fewer objects, and so are the pages after it, until their
/// objects are small.
async fn page(
    client: &Client,
    are_large: &AtomicBool,
    request: Request<Body>,
    smaller: Uri,
) -> Result<Response<ResponseBody>, BoxError> {
    let (mut parts, _) = request.into_parts();
    let pruner = JsonPruner::of(parts.uri.path());
    if !are_large.load(Ordering::Relaxed) {
        let answer = client.send(Request::from_parts(parts.clone(), Body::empty())).await?;
        let (head, body) = answer.into_parts();
        match at_most(LARGEST_PAGE, pruned(body, pruner.clone())).collect().await {
            Ok(page) => return Ok(Response::from_parts(head, whole(page.to_bytes()))),
            Err(error) if error.is::<LengthLimitError>() => {}
            Err(error) => return Err(error),
        }
    }
    parts.uri = smaller;
    let (head, body) = client.send(Request::from_parts(parts, Body::empty())).await?.into_parts();
    let page = pruned(body, pruner).collect().await?.to_bytes();
    // A tenth, because the usual page of Versions has ten times as many.
    are_large.store(page.len() > LARGEST_PAGE / 10, Ordering::Relaxed);
    Ok(Response::from_parts(head, whole(page)))
}

/// The address of a page with [`FEW`] objects, if this requests one with more.
fn with_few(request: &Request<Body>) -> Option<Uri> {
    let (path, query) = (request.uri().path(), request.uri().query()?);
    let limit = query.split('&').find(|parameter| parameter.starts_with("limit="))?;
    let is_more = limit.trim_start_matches("limit=").parse::<u32>().is_ok_and(|limit| limit > FEW);
    if request.method() != Method::GET || !is_more {
        return None;
    }
    format!("{path}?{}", query.replacen(limit, &format!("limit={FEW}"), 1)).parse().ok()
}

fn whole(page: Bytes) -> ResponseBody {
    Full::new(page).map_err(BoxError::from).boxed_unsync()
}

/// A body that fails with a [`LengthLimitError`] if it has more bytes than this.
fn at_most(bytes: usize, body: ResponseBody) -> ResponseBody {
    Limited::new(body, bytes).boxed_unsync()
}

/// A body without deep nesting and ignored fields.
fn pruned(body: Body, mut pruner: JsonPruner) -> ResponseBody {
    // Without the wrapper of kube, which the outer client adds.
    let cause = |error: kube::Error| match error {
        kube::Error::Service(cause) => cause,
        other => BoxError::from(other),
    };
    body.map_frame(move |frame| frame.map_data(|chunk| pruner.prune(chunk))).map_err(cause).boxed_unsync()
}

/// The body of a watch, which fails if it ends at once: kube starts the next watch without a pause, except after a failure.
fn watch_body(body: Body, pruner: JsonPruner) -> ResponseBody {
    let start = Instant::now();
    let failure = move || {
        let is_short = start.elapsed() < SHORTEST_WATCH;
        is_short
            .then(|| BoxError::from("the watch ended in less than a second: a proxy in between may end it"))
    };
    let end = stream::once(async move { failure().map(Err::<Bytes, _>) }).filter_map(std::future::ready);
    let text = pruned(body, pruner).into_data_stream().map_err(move |error| failure().unwrap_or(error));
    StreamBody::new(text.chain(end).map_ok(Frame::data)).boxed_unsync()
}

#[cfg(test)]
mod tests;
