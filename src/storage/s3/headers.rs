//! Checksum and condition headers that some stores reject, and what to leave out for those.
//!
//! A rejected request is repeated with one kind of header less at a time. If a repetition succeeds, its missing headers are left
//! out for an hour: at once if the answers have a code of S3 or name a header, else only if the next request has the same result.
//! A single answer without both may come from a proxy that fails for a moment, and must not disable checksums or conditions.
//!
//! This never applies to AWS, whose rejections have other reasons.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::domain::{Endpoint, Mutex};
use crate::storage::{Cause, Operation};

/// How long headers are left out. Then they are tried again, since a store may have been upgraded.
const REMEMBERED_FOR: Duration = Duration::from_hours(1);
/// Bounds the memory; flags name the endpoints. A forgotten one costs only a few requests.
const MAX_ENDPOINTS: usize = 64;

/// The headers that a request is sent without.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::storage) struct Omitted {
    /// `x-amz-checksum-mode`, of a HEAD or GET.
    pub checksum_mode: bool,
    /// `x-amz-checksum-sha256`, of a PUT.
    pub checksum: bool,
    /// `if-none-match`, of a PUT.
    pub condition: bool,
}

/// One request, and its repetitions with fewer headers.
#[derive(Debug)]
pub(in crate::storage) struct Attempts {
    operation: Operation,
    /// Whether the request has a condition.
    conditional: bool,
    /// `None` is AWS.
    endpoint: Option<Endpoint>,
    /// What to leave out now.
    pub omitted: Omitted,
    /// What was suspected before the first attempt.
    suspected: Omitted,
    rejections: Vec<(Omitted, Cause)>,
}

/// What each endpoint rejects.
#[derive(Debug, Default)]
pub(in crate::storage) struct RejectedHeaders(Mutex<HashMap<Endpoint, Known>>);

#[derive(Clone, Copy, Debug)]
struct Known {
    /// Left out of each request.
    rejected: Omitted,
    /// Left out before one request succeeded, for a reason that may have been transient.
    suspected: Omitted,
    since: Instant,
}

impl Omitted {
    fn and(self, other: Self) -> Self {
        self.combined(other, |a, b| a || b)
    }

    fn common(self, other: Self) -> Self {
        self.combined(other, |a, b| a && b)
    }

    fn without(self, other: Self) -> Self {
        self.combined(other, |a, b| a && !b)
    }

    fn combined(self, other: Self, rule: fn(bool, bool) -> bool) -> Self {
        Self {
            checksum_mode: rule(self.checksum_mode, other.checksum_mode),
            checksum: rule(self.checksum, other.checksum),
            condition: rule(self.condition, other.condition),
        }
    }

    fn names(self) -> Vec<&'static str> {
        let names = [
            (self.checksum_mode, "x-amz-checksum-mode"),
            (self.checksum, "x-amz-checksum-sha256"),
            (self.condition, "if-none-match"),
        ];
        names.into_iter().filter_map(|(omitted, name)| omitted.then_some(name)).collect()
    }
}

impl RejectedHeaders {
    /// The attempts of a request, the first without the headers that the endpoint is known to reject.
    pub(crate) fn attempts(
        &self,
        operation: Operation,
        endpoint: Option<Endpoint>,
        conditional: bool,
    ) -> Attempts {
        let known = endpoint.as_ref().and_then(|endpoint| self.known(endpoint, Instant::now()));
        let (omitted, suspected) =
            known.map_or_else(Default::default, |known| (known.rejected, known.suspected));
        Attempts { operation, conditional, endpoint, omitted, suspected, rejections: Vec::new() }
    }

    /// Records that the last attempt succeeded.
    pub(crate) fn record(&self, attempts: Attempts) {
        let carried = attempts.carried();
        let Attempts { endpoint: Some(endpoint), omitted, suspected, rejections, .. } = attempts else {
            return;
        };
        if rejections.is_empty() {
            // The store accepts these headers, so they are no longer suspected.
            if let Some(known) = self.0.lock().get_mut(&endpoint) {
                known.suspected = known.suspected.without(carried);
            }
            return;
        }
        let named = rejections.iter().all(|(_, cause)| has_code(cause) || names_header(cause));
        let rejected = if named { omitted } else { omitted.common(suspected) };
        tracing::warn!(
            endpoint = endpoint.as_str(),
            headers = omitted.names().join(", "),
            remembered = rejected != Omitted::default(),
            "the store rejects these headers; the request was repeated without them"
        );
        self.remember(endpoint, rejected, omitted, Instant::now());
    }

    /// What was left out of the last requests to the endpoint that succeeded.
    pub(crate) fn left_out(&self, endpoint: &Endpoint) -> Omitted {
        self.known(endpoint, Instant::now()).map(|known| known.suspected).unwrap_or_default()
    }

    fn known(&self, endpoint: &Endpoint, now: Instant) -> Option<Known> {
        let known = self.0.lock();
        known.get(endpoint).copied().filter(|known| now.duration_since(known.since) < REMEMBERED_FOR)
    }

    fn remember(&self, endpoint: Endpoint, rejected: Omitted, suspected: Omitted, now: Instant) {
        let before = self.known(&endpoint, now);
        let mut all = self.0.lock();
        if all.len() >= MAX_ENDPOINTS && !all.contains_key(&endpoint) {
            all.clear();
        }
        let mut known = before.unwrap_or(Known { rejected, suspected, since: now });
        if known.rejected == Omitted::default() {
            known.since = now;
        }
        known.rejected = known.rejected.and(rejected);
        known.suspected = known.suspected.and(suspected);
        all.insert(endpoint, known);
    }
}

impl Attempts {
    /// Records a rejection. `Ok`: send the request again without what `omitted` contains now.
    pub(crate) fn rejected(&mut self, cause: Cause) -> Result<(), Cause> {
        self.rejections.push((self.omitted, cause));
        let next =
            next(self.operation, self.conditional, &self.rejections).filter(|_| self.endpoint.is_some());
        self.omitted = next.ok_or_else(|| self.reported())?;
        Ok(())
    }

    /// The headers of the last attempt.
    fn carried(&self) -> Omitted {
        let put = self.operation == Operation::Put;
        let all = Omitted {
            checksum_mode: matches!(self.operation, Operation::Head | Operation::Get),
            checksum: put,
            condition: put && self.conditional,
        };
        all.without(self.omitted)
    }

    /// The rejection to report: the first, unless it named a header. Then that header was the reason of the first, and the last
    /// rejection has another one.
    fn reported(&mut self) -> Cause {
        let named = self.rejections.first().is_some_and(|(_, first)| names_header(first));
        let last =
            self.rejections.last().is_some_and(|(_, last)| !may_be_about_headers(self.operation, last));
        let at = if named || last { self.rejections.len().saturating_sub(1) } else { 0 };
        self.rejections.swap_remove(at).1
    }
}

/// What to leave out of the next request after these rejections: one kind of header at a time. A store that rejects the
/// checksum may still apply the condition, without which an object could be overwritten.
fn next(operation: Operation, conditional: bool, rejections: &[(Omitted, Cause)]) -> Option<Omitted> {
    let (known, first) = rejections.first()?;
    let (_, last) = rejections.last()?;
    if !may_be_about_headers(operation, last) {
        return None;
    }
    let checksum = Omitted { checksum: true, ..*known };
    let condition = Omitted { condition: known.condition || conditional, ..*known };
    let both = checksum.and(condition);
    let order = match operation {
        Operation::Head | Operation::Get => vec![Omitted { checksum_mode: true, ..*known }],
        Operation::Delete => Vec::new(),
        // A different answer: the omitted header was rejected, and another one is too.
        Operation::Put if rejections.len() == 2 && !is_alike(first, last) => vec![both],
        Operation::Put if mentions(first, &["if-none-match", "precondition", "conditional"]) => {
            vec![condition, checksum, both]
        }
        Operation::Put => vec![checksum, condition, both],
    };
    order.into_iter().find(|omitted| !rejections.iter().any(|(tried, _)| tried == omitted))
}

/// Whether a header may be the reason. The answer to a HEAD has no body, so only its status counts.
fn may_be_about_headers(operation: Operation, cause: &Cause) -> bool {
    match cause {
        Cause::Other { status: Some(400 | 501), .. } => !mentions(cause, &["encryption", "kms", "quota"]),
        Cause::CredentialsInvalid { code } => code == "SignatureDoesNotMatch",
        Cause::AccessDenied { detail } => operation == Operation::Head && detail.is_empty(),
        _ => false,
    }
}

/// Whether two answers are the same, except for messages beside a code: those may contain the ID of the request.
fn is_alike(one: &Cause, other: &Cause) -> bool {
    match (one, other) {
        (
            Cause::Other { status, code: Some(code), .. },
            Cause::Other { status: other_status, code: Some(other_code), .. },
        ) => (status, code) == (other_status, other_code),
        _ => one == other,
    }
}

/// Whether the answer has a code of S3: a proxy sends none.
fn has_code(cause: &Cause) -> bool {
    matches!(cause, Cause::Other { code: Some(_), .. } | Cause::CredentialsInvalid { .. })
}

fn names_header(cause: &Cause) -> bool {
    mentions(cause, &["x-amz-checksum", "if-none-match", "header"])
}

fn mentions(cause: &Cause, words: &[&str]) -> bool {
    let Cause::Other { detail, .. } = cause else { return false };
    let detail = detail.to_ascii_lowercase();
    words.iter().any(|word| detail.contains(word))
}

#[cfg(test)]
mod tests;
