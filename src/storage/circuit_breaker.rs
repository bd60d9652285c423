//! Circuit breaker per bucket and region, for stores that do not answer.
//!
//! A request to an unreachable store blocks its caller for many seconds, and with it the permit that others wait for. While a
//! store does not answer, one request at a time tests whether it is back (half-open), and if that takes long, another one. All
//! others fail at once with the last error. If all failed requests were for one object, other objects are still read: that
//! object alone may hang.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::{Cause, Operation};
use crate::domain::{Mutex, ObjectLocation, canonical_endpoint};

/// Failures that took less time, such as refused connections, do not open the breaker.
pub(super) const SLOW_FAILURE: Duration = Duration::from_secs(4);
/// How long a request alone tests a store: an upload may last for minutes, while the store answers others.
const TEST: Duration = Duration::from_secs(5);

/// Canonical endpoint, region and bucket. A wrong region is another host at AWS, to which there may be no way: it is no reason to
/// hold back requests with the right one.
type StoreKey = (Option<String>, String, String);

/// The breakers that are open.
#[derive(Debug, Default)]
pub(super) struct CircuitBreakers(Mutex<HashMap<StoreKey, Open>>);

#[derive(Debug)]
struct Open {
    /// The key of all requests that have failed; `None` if they had different ones.
    key: Option<String>,
    /// Message of the last failure.
    detail: String,
    /// Since when the last request that tests the store has been under way.
    tested_since: Option<Instant>,
}

/// Permission to send a request.
#[derive(Debug)]
pub(super) struct RequestPermit<'a> {
    breakers: &'a CircuitBreakers,
    store: StoreKey,
    key: String,
    /// Since when the request tests the store, if it does.
    tests_since: Option<Instant>,
}

impl CircuitBreakers {
    /// Permits a request, or fails with the last error of the store.
    pub(super) fn permit(
        &self,
        operation: Operation,
        location: &ObjectLocation,
        now: Instant,
    ) -> Result<RequestPermit<'_>, Cause> {
        let endpoint = canonical_endpoint(location.endpoint.as_deref(), &location.region);
        let store = (endpoint, location.region.clone(), location.bucket.clone());
        // Only for reads: while a request of another kind hangs, requests to other stores may wait for its permit.
        let hangs_alone = |open: &Open| {
            operation == Operation::Get && open.key.as_ref().is_some_and(|key| *key != location.key)
        };
        let mut tests_since = None;
        if let Some(open) = self.0.lock().get_mut(&store).filter(|open| !hangs_alone(open)) {
            if open.tested_since.is_some_and(|since| now.duration_since(since) < TEST) {
                return Err(Cause::Network { detail: open.detail.clone() });
            }
            tests_since = Some(now);
            open.tested_since = tests_since;
        }
        Ok(RequestPermit { breakers: self, store, key: location.key.clone(), tests_since })
    }
}

impl RequestPermit<'_> {
    /// Records the result of the request, and how long it took.
    pub(super) fn record<T>(self, result: &Result<T, Cause>, took: Duration) {
        let slow = took >= SLOW_FAILURE;
        let mut all = self.breakers.0.lock();
        match (result, all.get_mut(&self.store)) {
            (Err(Cause::Network { detail }), Some(open)) => {
                // A test by another request continues.
                open.detail.clone_from(detail);
                if slow && open.key.as_ref() != Some(&self.key) {
                    open.key = None;
                }
            }
            (Err(Cause::Network { detail }), None) if slow => {
                let (key, detail) = (Some(self.key.clone()), detail.clone());
                all.insert(self.store.clone(), Open { key, detail, tested_since: None });
            }
            // Nothing was sent.
            (
                Err(
                    Cause::File { .. }
                    | Cause::InvalidAddress(_)
                    | Cause::CredentialsMissing
                    | Cause::CredentialsUnavailable { .. },
                ),
                _,
            ) => {}
            _ => drop(all.remove(&self.store)),
        }
    }
}

impl Drop for RequestPermit<'_> {
    fn drop(&mut self) {
        // A request that failed or was cancelled leaves the test to the next one.
        if self.tests_since.is_some()
            && let Some(open) = self.breakers.0.lock().get_mut(&self.store)
            && open.tested_since == self.tests_since
        {
            open.tested_since = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(bucket: &str) -> ObjectLocation {
        ObjectLocation {
            bucket: bucket.into(),
            key: "a.zip".into(),
            region: "us-west-2".into(),
            endpoint: None,
            force_path_style: None,
        }
    }

    fn permit<'a>(
        breakers: &'a CircuitBreakers,
        location: &ObjectLocation,
    ) -> Result<RequestPermit<'a>, Cause> {
        breakers.permit(Operation::Head, location, Instant::now())
    }

    fn silent() -> Result<(), Cause> {
        Err(Cause::Network { detail: "no answer".into() })
    }

    #[test]
    fn one_request_at_a_time_tests_a_silent_store_and_the_others_fail_at_once() {
        let breakers = CircuitBreakers::default();
        let (one, two) =
            (permit(&breakers, &location("dead")).unwrap(), permit(&breakers, &location("dead")).unwrap());
        one.record(&silent(), SLOW_FAILURE);
        two.record(&silent(), SLOW_FAILURE);
        let probe = permit(&breakers, &location("dead")).unwrap();
        for _ in 0..3 {
            assert_eq!(permit(&breakers, &location("dead")).map(drop), silent());
        }
        assert!(permit(&breakers, &location("alive")).is_ok(), "other buckets are not affected");
        probe.record(&silent(), Duration::ZERO);
        let probe = permit(&breakers, &location("dead")).unwrap();
        drop(probe);
        let probe =
            permit(&breakers, &location("dead")).expect("a cancelled request leaves the test to the next");
        probe.record(&Ok(()), SLOW_FAILURE);
        let at_once: Vec<_> = (0..3).map(|_| permit(&breakers, &location("dead"))).collect();
        assert!(at_once.iter().all(Result::is_ok), "it answers again");
    }

    #[test]
    fn a_test_that_takes_long_does_not_hold_the_others_back() {
        let breakers = CircuitBreakers::default();
        permit(&breakers, &location("slow")).unwrap().record(&silent(), SLOW_FAILURE);
        let start = Instant::now();
        let at = |seconds| {
            breakers.permit(Operation::Put, &location("slow"), start + Duration::from_secs(seconds))
        };
        let upload = at(0).unwrap();
        assert_eq!(at(4).map(drop), silent());
        let second = at(5).expect("the first one has had its time");
        assert_eq!(at(9).map(drop), silent());
        // The end of the first one does not end the test of the second one.
        upload.record(&silent(), SLOW_FAILURE);
        assert_eq!(at(9).map(drop), silent());
        drop(at(10).expect("the second one has had its time too"));
        second.record(&Ok(()), SLOW_FAILURE);
        assert!((0..3).all(|_| at(10).is_ok()), "it answers again");
    }

    #[test]
    fn an_object_that_hangs_alone_keeps_no_other_from_being_read() {
        let breakers = CircuitBreakers::default();
        let get = |key: &str| {
            let location = ObjectLocation { key: key.into(), ..location("one") };
            breakers.permit(Operation::Get, &location, Instant::now())
        };
        get("a.zip").unwrap().record(&silent(), SLOW_FAILURE);
        let probe = get("a.zip").unwrap();
        assert_eq!(get("a.zip").map(drop), silent());
        let others = (get("b.zip").unwrap(), get("c.zip").unwrap());
        assert_eq!(
            permit(&breakers, &ObjectLocation { key: "b.zip".into(), ..location("one") }).map(drop),
            silent()
        );
        others.0.record(&Ok(()), Duration::ZERO);
        probe.record(&silent(), SLOW_FAILURE);
        let probe = get("a.zip").unwrap();
        // A quick failure is none of those that open a breaker.
        get("b.zip").unwrap().record(&silent(), Duration::ZERO);
        assert!(get("c.zip").is_ok());
        others.1.record(&silent(), SLOW_FAILURE);
        assert_eq!(get("d.zip").map(drop), silent(), "two objects hang: it is the store");
        probe.record(&Ok(()), SLOW_FAILURE);
        assert!(get("d.zip").is_ok());
    }

    #[test]
    fn a_store_has_one_breaker_however_its_endpoint_is_written() {
        let spelled = |endpoint: &str| ObjectLocation { endpoint: Some(endpoint.into()), ..location("dead") };
        let breakers = CircuitBreakers::default();
        permit(&breakers, &spelled("https://minio.example.com")).unwrap().record(&silent(), SLOW_FAILURE);
        let _probe = permit(&breakers, &spelled("https://MinIO.example.com:443/")).unwrap();
        for endpoint in ["https://minio.example.com", "HTTPS://minio.example.com/"] {
            assert_eq!(permit(&breakers, &spelled(endpoint)).map(drop), silent(), "{endpoint}");
        }
        for other in ["http://minio.example.com", "https://minio.example.com:9000"] {
            assert!(permit(&breakers, &spelled(other)).is_ok(), "{other}");
        }
        permit(&breakers, &location("dead")).unwrap().record(&silent(), SLOW_FAILURE);
        let _probe = permit(&breakers, &spelled("https://s3.us-west-2.amazonaws.com/")).unwrap();
        assert_eq!(permit(&breakers, &location("dead")).map(drop), silent(), "AWS, written out");
    }

    #[test]
    fn a_wrong_region_holds_back_no_request_with_the_right_one() {
        let breakers = CircuitBreakers::default();
        let wrong = ObjectLocation { region: "eu-west-1".into(), ..location("dead") };
        permit(&breakers, &wrong).unwrap().record(&silent(), SLOW_FAILURE);
        let _probe = permit(&breakers, &wrong).unwrap();
        assert_eq!(permit(&breakers, &wrong).map(drop), silent());
        assert!((0..2).all(|_| permit(&breakers, &location("dead")).is_ok()));
    }

    #[test]
    fn a_request_that_was_not_sent_changes_nothing() {
        let breakers = CircuitBreakers::default();
        permit(&breakers, &location("dead")).unwrap().record(&silent(), SLOW_FAILURE);
        for cause in [
            Cause::File { detail: "no such file".into() },
            Cause::CredentialsMissing,
            Cause::CredentialsUnavailable { detail: "no answer".into() },
        ] {
            permit(&breakers, &location("dead")).unwrap().record(&Err::<(), _>(cause), SLOW_FAILURE);
        }
        let _probe = permit(&breakers, &location("dead")).expect("one tests the store");
        assert_eq!(permit(&breakers, &location("dead")).map(drop), silent(), "it still does not answer");
    }

    #[test]
    fn quick_failures_and_answers_keep_the_breaker_closed() {
        let breakers = CircuitBreakers::default();
        permit(&breakers, &location("flaky")).unwrap().record(&silent(), Duration::from_secs(1));
        let slow = Err::<(), _>(Cause::unavailable(503, ""));
        permit(&breakers, &location("flaky")).unwrap().record(&slow, SLOW_FAILURE);
        let both = (permit(&breakers, &location("flaky")), permit(&breakers, &location("flaky")));
        assert!(both.0.is_ok() && both.1.is_ok());
    }
}
