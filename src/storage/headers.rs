//! Headers that some stores refuse: checksums and conditions. In: how a store answered a request that carried them. Out:
//! which of them to leave out when it is asked once more. The decision is pure; what worked is remembered by endpoint.
//!
//! AWS is never asked without: there, a refusal is about something else.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Cause, Operation};
use crate::domain::Endpoint;

/// For so long a store is asked without what it refused. Then it is asked with everything again, since a store may be
/// upgraded, and since a proxy's passing fault may have looked like a refusal.
const REMEMBERED_FOR: Duration = Duration::from_hours(1);
/// Flags choose the endpoints, and nothing breaks when one is forgotten.
const MAX_ENDPOINTS: usize = 64;

/// The headers that a request goes without.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Omitted {
    /// `x-amz-checksum-mode`, of a HEAD.
    pub checksum_mode: bool,
    /// `x-amz-checksum-sha256`, of a PUT.
    pub checksum: bool,
    /// `if-none-match`, of a PUT.
    pub condition: bool,
}

/// One request, asked until it is answered or nothing is left to leave out.
#[derive(Debug)]
pub(super) struct Tries {
    operation: Operation,
    /// Whether the request has a condition at all.
    conditional: bool,
    /// `None` is AWS itself.
    endpoint: Option<Endpoint>,
    /// What to leave out now.
    pub omitted: Omitted,
    refusals: Vec<(Omitted, Cause)>,
}

/// What each endpoint is known to refuse.
#[derive(Debug, Default)]
pub(super) struct Refused(Mutex<HashMap<Endpoint, (Omitted, Instant)>>);

impl Omitted {
    fn and(self, other: Self) -> Self {
        Self {
            checksum_mode: self.checksum_mode || other.checksum_mode,
            checksum: self.checksum || other.checksum,
            condition: self.condition || other.condition,
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

impl Refused {
    /// The tries of a request to an endpoint, which begin with what is known of it.
    pub fn tries(&self, operation: Operation, endpoint: Option<Endpoint>, conditional: bool) -> Tries {
        let omitted = endpoint.as_ref().map(|endpoint| self.of(endpoint, Instant::now())).unwrap_or_default();
        Tries { operation, conditional, endpoint, omitted, refusals: Vec::new() }
    }

    /// Remembers what had to be left out before the request succeeded.
    pub fn succeeded(&self, tries: Tries) {
        let Some(endpoint) = tries.endpoint.filter(|_| !tries.refusals.is_empty()) else { return };
        tracing::warn!(
            endpoint = endpoint.as_str(),
            headers = tries.omitted.names().join(", "),
            "the store refuses these headers and is asked without them"
        );
        self.remember(endpoint, tries.omitted, Instant::now());
    }

    fn of(&self, endpoint: &Endpoint, now: Instant) -> Omitted {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = known.get(endpoint).filter(|(_, since)| now.duration_since(*since) < REMEMBERED_FOR);
        fresh.map(|(omitted, _)| *omitted).unwrap_or_default()
    }

    fn remember(&self, endpoint: Endpoint, omitted: Omitted, now: Instant) {
        let before = self.of(&endpoint, now);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_ENDPOINTS && !known.contains_key(&endpoint) {
            known.clear();
        }
        let since =
            known.get(&endpoint).filter(|_| before != Omitted::default()).map_or(now, |known| known.1);
        known.insert(endpoint, (before.and(omitted), since));
    }
}

impl Tries {
    /// Takes a refusal. `Ok`: the request is to be sent once more, without what `omitted` says now.
    pub fn refused(&mut self, cause: Cause) -> Result<(), Cause> {
        self.refusals.push((self.omitted, cause));
        match self.endpoint.as_ref().and_then(|_| next(self.operation, self.conditional, &self.refusals)) {
            Some(omitted) => {
                self.omitted = omitted;
                Ok(())
            }
            None => Err(self.verdict()),
        }
    }

    /// The refusal that tells most. An answer that named a header of ours was about that one; what came after it is what
    /// stands in the way.
    fn verdict(&mut self) -> Cause {
        let named = self.refusals.first().is_some_and(|(_, first)| names_ours(first));
        let last = self.refusals.last().is_some_and(|(_, last)| !may_be_about_headers(self.operation, last));
        let at = if named || last { self.refusals.len().saturating_sub(1) } else { 0 };
        self.refusals.swap_remove(at).1
    }
}

/// What to leave out of the next request, after these were refused. One kind at a time: a store that refuses the checksum
/// still heeds the condition, without which an object could be overwritten.
fn next(operation: Operation, conditional: bool, refusals: &[(Omitted, Cause)]) -> Option<Omitted> {
    let (known, first) = refusals.first()?;
    let (_, last) = refusals.last()?;
    if !may_be_about_headers(operation, last) {
        return None;
    }
    let checksum = known.and(Omitted { checksum: true, ..Omitted::default() });
    let condition = known.and(Omitted { condition: conditional, ..Omitted::default() });
    let both = checksum.and(condition);
    let order = match operation {
        Operation::Head => vec![known.and(Omitted { checksum_mode: true, ..Omitted::default() })],
        Operation::Delete => Vec::new(),
        // Another answer than before: what was left out made a difference, and is not all that is refused.
        Operation::Put if refusals.len() == 2 && first != last => vec![both],
        Operation::Put if says(first, &["if-none-match", "precondition", "conditional"]) => {
            vec![condition, checksum, both]
        }
        Operation::Put => vec![checksum, condition, both],
    };
    order.into_iter().find(|omitted| !refusals.iter().any(|(tried, _)| tried == omitted))
}

/// Whether the headers may be why. A HEAD's refusal has no body, so it may be whatever the status allows.
fn may_be_about_headers(operation: Operation, cause: &Cause) -> bool {
    match cause {
        Cause::Other { status: Some(400 | 501), .. } => !says(cause, &["encryption", "kms"]),
        Cause::CredentialsInvalid { code } => code == "SignatureDoesNotMatch",
        Cause::AccessDenied { detail } => operation == Operation::Head && detail.is_empty(),
        _ => false,
    }
}

fn names_ours(cause: &Cause) -> bool {
    says(cause, &["x-amz-checksum", "if-none-match", "header"])
}

fn says(cause: &Cause, words: &[&str]) -> bool {
    let Cause::Other { detail, .. } = cause else { return false };
    let detail = detail.to_ascii_lowercase();
    words.iter().any(|word| detail.contains(word))
}

#[cfg(test)]
mod tests {
    use Operation::{Delete, Head, Put};

    use super::*;

    fn endpoint(host: &str) -> Endpoint {
        format!("https://{host}").parse().expect("an endpoint")
    }

    fn answer(status: u16, detail: &str) -> Cause {
        let code = detail.split(':').next().filter(|code| !code.is_empty()).map(str::to_owned);
        Cause::Other { status: Some(status), code, detail: detail.to_owned() }
    }

    fn signature() -> Cause {
        Cause::CredentialsInvalid { code: "SignatureDoesNotMatch".into() }
    }

    /// What a store has been sent, until it took the request or all was refused. A letter a header: m, c, i.
    fn asked(
        refused: &Refused,
        (operation, conditional): (Operation, bool),
        store: impl Fn(Omitted) -> Option<Cause>,
    ) -> (Vec<String>, Result<(), Cause>) {
        let mut tries = refused.tries(operation, Some(endpoint("store")), conditional);
        let mut sent = Vec::new();
        loop {
            let omitted = tries.omitted;
            let carried = [
                (operation == Head && !omitted.checksum_mode, 'm'),
                (operation == Put && !omitted.checksum, 'c'),
                (operation == Put && conditional && !omitted.condition, 'i'),
            ];
            sent.push(carried.iter().filter(|(yes, _)| *yes).map(|(_, letter)| letter).collect());
            match store(omitted) {
                None => {
                    refused.succeeded(tries);
                    return (sent, Ok(()));
                }
                Some(cause) => {
                    if let Err(cause) = tries.refused(cause) {
                        return (sent, Err(cause));
                    }
                }
            }
        }
    }

    #[test]
    fn one_kind_is_left_out_at_a_time_and_what_worked_is_remembered() {
        type Store = fn(Omitted) -> Option<Cause>;
        type Sent = &'static [&'static str];
        type Case = (&'static str, bool, Store, Sent, Sent);
        let unsupported = "InvalidArgument: Unsupported header 'x-amz-checksum-sha256' received";
        let unnamed = "NotImplemented: A header you provided implies functionality that is not implemented";
        let stores: [Case; 7] = [
            // Only the checksum is refused: the condition stays.
            (
                "checksum",
                true,
                |o| (!o.checksum).then(|| answer(400, "InvalidArgument")),
                &["ci", "i"],
                &["i"],
            ),
            ("without condition", false, |o| (!o.checksum).then(|| answer(501, "")), &["c", ""], &[""]),
            ("signature", true, |o| (!o.checksum).then(signature), &["ci", "i"], &["i"]),
            // Only the condition is.
            (
                "condition",
                true,
                |o| (!o.condition).then(|| answer(501, "NotImplemented")),
                &["ci", "i", "c"],
                &["c"],
            ),
            (
                "condition, named",
                true,
                |o| (!o.condition).then(|| answer(501, "NotImplemented: If-None-Match")),
                &["ci", "c"],
                &["c"],
            ),
            // Both are, by one answer or by two.
            (
                "both",
                true,
                |o| (!o.condition || !o.checksum).then(|| answer(400, "InvalidRequest")),
                &["ci", "i", "c", ""],
                &[""],
            ),
            (
                "one after the other",
                true,
                |o| match o {
                    Omitted { checksum: false, .. } => Some(answer(400, "InvalidArgument: x-amz-checksum")),
                    Omitted { condition: false, .. } => Some(answer(501, "NotImplemented")),
                    _ => None,
                },
                &["ci", "i", ""],
                &[""],
            ),
        ];
        for (name, conditional, store, first, then) in stores {
            let refused = Refused::default();
            assert_eq!(asked(&refused, (Put, conditional), store), (owned(first), Ok(())), "{name}");
            assert_eq!(asked(&refused, (Put, conditional), store), (owned(then), Ok(())), "{name}, again");
        }
        assert!(names_ours(&answer(400, unsupported)) && names_ours(&answer(501, unnamed)));
        let refused = Refused::default();
        for cause in [answer(400, ""), answer(501, ""), Cause::AccessDenied { detail: String::new() }] {
            let store = |o: Omitted| (!o.checksum_mode).then(|| cause.clone());
            assert_eq!(asked(&Refused::default(), (Head, false), store), (owned(&["m", ""]), Ok(())));
            asked(&refused, (Head, false), store).1.expect("an answer");
            assert_eq!(asked(&refused, (Head, false), store).0, [""]);
        }
    }

    fn owned(sent: &[&str]) -> Vec<String> {
        sent.iter().map(|&letters| letters.to_owned()).collect()
    }

    #[test]
    fn a_refusal_that_stays_says_why_and_nothing_is_remembered() {
        let refused = Refused::default();
        let all = ["ci", "i", "c", ""];
        assert_eq!(asked(&refused, (Put, true), |_| Some(signature())), (owned(&all), Err(signature())));
        let invalid = answer(400, "InvalidStorageClass");
        assert_eq!(asked(&refused, (Put, true), |_| Some(invalid.clone())).1, Err(invalid.clone()));
        assert_eq!(asked(&refused, (Head, false), |_| Some(answer(400, ""))).0, ["m", ""]);
        assert_eq!(asked(&refused, (Delete, false), |_| Some(invalid.clone())).0, [""]);
        // These are about something else.
        let denied = Cause::AccessDenied { detail: "AccessDenied".into() };
        let keys = Cause::CredentialsInvalid { code: "InvalidAccessKeyId".into() };
        let kms = answer(400, "InvalidArgument: kms key id with AES256");
        for cause in [denied.clone(), keys, kms, answer(404, "x"), Cause::BucketMissing] {
            assert_eq!(asked(&refused, (Put, true), |_| Some(cause.clone())), (owned(&["ci"]), Err(cause)));
        }
        // Past the header, another refusal waits.
        let store = |o: Omitted| {
            Some(if o.checksum { denied.clone() } else { answer(400, "Unsupported header 'x-amz-checksum'") })
        };
        assert_eq!(asked(&refused, (Put, true), store), (owned(&["ci", "i"]), Err(denied.clone())));
        let store =
            |o: Omitted| Some(if o.checksum { answer(400, "needs a checksum") } else { answer(400, "odd") });
        assert_eq!(asked(&refused, (Put, true), store).1, Err(answer(400, "odd")));
        assert_eq!(refused.of(&endpoint("store"), Instant::now()), Omitted::default());
    }

    #[test]
    fn aws_is_asked_once() {
        let refused = Refused::default();
        let mut tries = refused.tries(Put, None, true);
        assert_eq!(tries.refused(answer(400, "")), Err(answer(400, "")));
        refused.succeeded(tries);
        assert!(refused.0.lock().unwrap().is_empty());
    }

    #[test]
    fn what_is_remembered_adds_up_ends_and_is_bounded() {
        let refused = Refused::default();
        let (one, two) = (endpoint("one"), endpoint("two"));
        let now = Instant::now();
        let mode = Omitted { checksum_mode: true, ..Omitted::default() };
        let checksum = Omitted { checksum: true, ..Omitted::default() };
        refused.remember(one.clone(), mode, now);
        refused.remember(one.clone(), checksum, now + REMEMBERED_FOR / 2);
        assert_eq!(refused.of(&one, now), mode.and(checksum));
        assert_eq!(refused.of(&two, now), Omitted::default());
        assert_eq!(refused.of(&one, now + REMEMBERED_FOR), Omitted::default());
        refused.remember(one.clone(), checksum, now + REMEMBERED_FOR);
        assert_eq!(refused.of(&one, now + REMEMBERED_FOR), checksum, "what was long ago does not count");
        for number in 0..2 * MAX_ENDPOINTS {
            refused.remember(endpoint(&format!("host-{number}")), mode, now);
        }
        assert!(refused.0.lock().unwrap().len() <= MAX_ENDPOINTS);
    }
}
