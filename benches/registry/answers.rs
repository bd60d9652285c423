//! Each answer beside a handler of the same HTTP stack that gives the same bytes without any work.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use opendepot::registry::archive::DownloadMode;
use opendepot::registry::http::answer::answer;
use opendepot::registry::http::{Body, Handler, Peer};
use opendepot_testbed::authority::Authority;

use crate::VERSIONS;
use crate::client::{CONNECTIONS, Server, request};
use crate::depot::{Depot, listen};
use crate::table::{Goal, heading, line, median};

/// How often the two sides take turns, and for how long each.
const TURNS: usize = 7;
const TIME: Duration = Duration::from_secs(1);

/// Gives one answer to every request.
struct Static {
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
}

impl Handler for Static {
    async fn handle(&self, _: Request<Bytes>, _: Peer) -> Response<Body> {
        let mut answer = answer(self.status, "OK", self.body.clone());
        answer.headers_mut().extend(self.headers.iter().cloned());
        answer
    }
}

pub(crate) async fn beside_a_static_handler(depot: &Depot) {
    for tls in [None, Some(&depot.authority)] {
        let name = if tls.is_some() { "TLS" } else { "plain HTTP" };
        heading(&format!("answers per second, {name}, {CONNECTIONS} clients"), "static");
        cases(depot, tls).await;
    }
}

async fn cases(depot: &Depot, tls: Option<&Authority>) {
    let real = depot.in_this_process(DownloadMode::Redirect, tls).await;
    let prefix = depot.module("mod0");
    let version = format!("1.{}.0", VERSIONS / 2);
    let archive = real.archive_path(&format!("{prefix}/{version}/download"), &depot.token).await;
    for (case, path, least) in [
        (format!("versions, {VERSIONS} of them"), format!("{prefix}/versions"), 80.0),
        ("download".into(), format!("{prefix}/{version}/download"), 60.0),
        ("archive, redirected".into(), archive, 25.0),
    ] {
        let request = request(&path, &depot.token, "gzip");
        let sample = real.once(&request).await;
        let alike = Static { status: sample.status, headers: sample.headers, body: sample.body };
        let alike = listen(Arc::new(alike), tls).await;
        let (best, ours, percent) = in_turns(&alike, &real, &request).await;
        line(&case, (&format!("{best:.0}/s"), &format!("{ours:.0}/s")), percent, "%", Goal::AtLeast(least));
    }
}

/// The medians of both sides, and of what the second has of the first in percent. They take turns, so that both meet the same
/// machine.
async fn in_turns(best: &Server, ours: &Server, request: &str) -> (f64, f64, f64) {
    let mut all = [const { Vec::new() }; 3];
    for _ in 0..TURNS {
        let (best, ours) = (best.load(request, TIME).await, ours.load(request, TIME).await);
        for (all, one) in all.iter_mut().zip([best, ours, 100.0 * ours / best]) {
            all.push(one);
        }
    }
    let [best, ours, percent] = all.map(median);
    (best, ours, percent)
}
