//! Answers in GitHub's own forms.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use futures::stream;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};

use super::faults::Failure;

pub(super) type Body = BoxBody<Bytes, io::Error>;
pub(super) type Answer = Response<Body>;

/// The size of a chunk of an archive.
const CHUNK: usize = 64 * 1024;

fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed()
}

fn answer(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Result<Answer> {
    let mut answer = Response::new(whole(body));
    *answer.status_mut() = StatusCode::from_u16(status)?;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    Ok(answer)
}

/// A JSON document of the REST API.
pub(super) fn document(status: u16, value: &Value) -> Result<Answer> {
    answer(status, "application/json; charset=utf-8", value.to_string())
}

/// An error of the REST API.
pub(super) fn api_error(status: u16, message: &str) -> Result<Answer> {
    let documentation = "https://docs.github.com/rest";
    let status_text = status.to_string();
    document(
        status,
        &json!({ "message": message, "documentation_url": documentation, "status": status_text }),
    )
}

/// A line of plain text, as codeload writes its errors.
pub(super) fn text(status: u16, line: &str) -> Result<Answer> {
    answer(status, "text/plain; charset=utf-8", line.to_owned())
}

/// A web page.
pub(super) fn page(status: u16) -> Result<Answer> {
    let page = "<!DOCTYPE html>\n<html><head><title>GitHub</title></head><body><p>Looks like something went wrong!</p></body></html>\n";
    answer(status, "text/html; charset=utf-8", page)
}

/// What people see who have to sign in first.
pub(super) fn login() -> Result<Answer> {
    let page = "<!DOCTYPE html>\n<html><head><title>Sign in to GitHub</title></head><body><form action=\"/session\" method=\"post\"></form></body></html>\n";
    answer(200, "text/html; charset=utf-8", page)
}

/// What GitHub's front shows where too much comes from one address.
pub(super) fn abuse(status: u16) -> Result<Answer> {
    let page = "<!DOCTYPE html>\n<html><head><title>Rate limit &middot; GitHub</title></head><body><h1>Whoa there!</h1><p>You have triggered an abuse detection mechanism.</p></body></html>\n";
    answer(status, "text/html; charset=utf-8", page)
}

/// A redirect.
pub(super) fn redirect(status: u16, location: &str) -> Result<Answer> {
    let mut answer = answer(status, "text/html; charset=utf-8", Bytes::new())?;
    answer.headers_mut().insert(header::LOCATION, HeaderValue::from_str(location)?);
    Ok(answer)
}

/// An archive: in chunks and without a length, as codeload sends it.
pub(super) fn archive(bytes: &Bytes, content_type: &'static str, file: &str) -> Result<Answer> {
    let mut answer = answer(200, content_type, Bytes::new())?;
    *answer.body_mut() = chunks(bytes, End::Good);
    let disposition = HeaderValue::from_str(&format!("attachment; filename={file}"))?;
    answer.headers_mut().insert(header::CONTENT_DISPOSITION, disposition);
    Ok(answer)
}

/// Spoils an archive on its way.
pub(super) async fn spoil(archive: Answer, failure: &Failure) -> Result<Answer> {
    if archive.status() != StatusCode::OK {
        return Ok(archive);
    }
    if *failure == Failure::Html {
        return page(200);
    }
    let (parts, body) = archive.into_parts();
    let bytes = body.collect().await?.to_bytes();
    let half = bytes.slice(..bytes.len() / 2);
    let body = match failure {
        Failure::EmptyBody => chunks(&Bytes::new(), End::Good),
        Failure::TruncatedBody => chunks(&half, End::Broken),
        Failure::StalledBody => chunks(&half, End::Never),
        Failure::TrickledBody => chunks(&bytes, End::Slow),
        Failure::EndlessBody => chunks(&bytes, End::Repeated),
        _ => chunks(&bytes, End::Good),
    };
    Ok(Response::from_parts(parts, body))
}

#[derive(Clone, Copy)]
enum End {
    Good,
    Broken,
    Never,
    Repeated,
    /// The same end as [`Self::Good`], after one byte per second.
    Slow,
}

fn chunks(bytes: &Bytes, end: End) -> Body {
    let all = bytes.clone();
    let frames = stream::unfold(bytes.clone(), move |mut rest| {
        let all = all.clone();
        async move {
            if rest.is_empty() {
                match end {
                    End::Good | End::Slow => return None,
                    End::Broken => {
                        // Until then what came before is on its way: an error drops what is not.
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        return Some((Err(io::Error::other("cut")), rest));
                    }
                    End::Never => std::future::pending().await,
                    End::Repeated => rest = all,
                }
            }
            let mut size = CHUNK;
            if matches!(end, End::Slow) {
                tokio::time::sleep(Duration::from_secs(1)).await;
                size = 1;
            }
            let chunk = rest.split_to(rest.len().min(size));
            Some((Ok(Frame::data(chunk)), rest))
        }
    });
    BodyExt::boxed(StreamBody::new(frames))
}
