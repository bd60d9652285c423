//! Faults between a client and the S3 gateway.

use std::sync::Mutex;
use std::time::Duration;

use http::Method;

use crate::background::lock;
use crate::hold::{Held, Hold};

/// The fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum S3Failure {
    /// An error answer in S3's own form: HTTP status, and code such as `SlowDown`.
    Answer(u16, &'static str),
    /// An error answer with a `retry-after` in seconds.
    RetryAfter(u16, &'static str, u32),
    /// No fault, but late. The request continues to the next fault that applies.
    Delay(Duration),
    /// No fault, but late: until the fault is cleared. The request continues to the next fault that applies.
    Hold,
    /// The connection breaks before S3 sees the request.
    CutBefore,
    /// S3 does what was asked, and the connection breaks before its answer.
    CutAfter,
    /// The answer's body ends in the middle, and so does the connection.
    CutBody,
    /// No answer ever comes, and S3 does not see the request.
    Hang,
    /// S3 does what was asked, and no answer ever comes. The way to kill a client between the two: it does not retry at once, as
    /// after a broken connection.
    HangAfter,
    /// A missing object answers 403 `AccessDenied` instead of 404, as it does without the right to list the bucket.
    HideMissing,
    /// An HTML page with that status, as a proxy or a firewall in between gives it.
    Page(u16),
    /// HEAD shows another size than the object has.
    WrongSize,
    /// HEAD shows another SHA-256 than the object has.
    WrongChecksum,
    /// An answer without SHA-256 and user metadata, as of a store that keeps neither.
    NoMetadata,
}

/// A fault: which requests it meets, how often, and with what.
#[derive(Debug, Clone)]
pub struct S3Fault {
    bucket: String,
    prefix: String,
    method: Option<Method>,
    spared: u32,
    left: Option<u32>,
    failure: S3Failure,
    hold: Hold,
}

impl S3Fault {
    /// For each request to a bucket, until it is cleared.
    pub fn new(bucket: &str, failure: S3Failure) -> Self {
        Self {
            bucket: bucket.to_owned(),
            prefix: String::new(),
            method: None,
            spared: 0,
            left: None,
            failure,
            hold: Hold::default(),
        }
    }

    /// Only for keys that begin so.
    #[must_use]
    pub fn prefix(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.prefix);
        self
    }

    /// Only for one method, such as `Method::PUT`.
    #[must_use]
    pub fn method(mut self, method: Method) -> Self {
        self.method = Some(method);
        self
    }

    /// Not the first requests that it would meet: so many pass unharmed.
    #[must_use]
    pub fn after(mut self, requests: u32) -> Self {
        self.spared = requests;
        self
    }

    /// Only this many times.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.left = Some(times);
        self
    }

    fn meets(&self, method: &Method, bucket: &str, key: &str) -> bool {
        self.bucket == bucket
            && key.starts_with(&self.prefix)
            && self.method.as_ref().is_none_or(|wanted| wanted == method)
            && self.left != Some(0)
    }
}

/// The faults of one S3, in the order in which they were given.
#[derive(Debug, Default)]
pub(super) struct Faults(Mutex<Vec<S3Fault>>);

/// What a request has to go through.
#[derive(Debug, Default)]
pub(super) struct Fate {
    pub(super) delay: Duration,
    pub(super) held: Vec<Held>,
    pub(super) failure: Option<S3Failure>,
}

impl Faults {
    pub(super) fn add(&self, fault: S3Fault) {
        lock(&self.0).push(fault);
    }

    pub(super) fn clear(&self, bucket: &str) {
        lock(&self.0).retain(|fault| fault.bucket != bucket);
    }

    /// Takes one use of each fault that meets this request: delays add up, the first other failure is the last.
    pub(super) fn draw(&self, method: &Method, bucket: &str, key: &str) -> Fate {
        let mut fate = Fate::default();
        for fault in lock(&self.0).iter_mut().filter(|fault| fault.meets(method, bucket, key)) {
            if fault.spared > 0 {
                fault.spared -= 1;
                continue;
            }
            fault.left = fault.left.map(|left| left - 1);
            match &fault.failure {
                S3Failure::Delay(delay) => fate.delay += *delay,
                S3Failure::Hold => fate.held.push(fault.hold.held()),
                failure => {
                    fate.failure = Some(failure.clone());
                    break;
                }
            }
        }
        fate
    }
}

/// An error document as S3 writes it.
pub(super) fn error_document(code: &str, message: &str, path: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message>\
         <Resource>{path}</Resource><RequestId>testbed</RequestId></Error>"
    )
}
