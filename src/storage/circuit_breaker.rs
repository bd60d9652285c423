//! Circuit breaker per bucket, for stores that do not answer.
//!
//! A request to an unreachable store blocks its caller for many seconds, and with it the permit that others wait for. While a
//! store does not answer, one request at a time tests whether it is back (half-open). All others fail at once with the last
//! error.

use std::collections::HashMap;
use std::time::Duration;

use super::Cause;
use crate::domain::{Mutex, ObjectLocation, canonical_endpoint};

/// Failures that took less time, such as refused connections, do not open the breaker.
pub(super) const SLOW_FAILURE: Duration = Duration::from_secs(4);

/// Canonical endpoint and bucket.
type Store = (Option<String>, String);

/// The breakers that are open.
#[derive(Debug, Default)]
pub(super) struct CircuitBreakers(Mutex<HashMap<Store, Open>>);

#[derive(Debug)]
struct Open {
    /// Message of the last failure.
    detail: String,
    /// Whether a request is testing the store.
    half_open: bool,
}

/// Permission to send a request.
#[derive(Debug)]
pub(super) struct RequestPermit<'a> {
    breakers: &'a CircuitBreakers,
    store: Store,
    tests_store: bool,
}

impl CircuitBreakers {
    /// Permits a request, or fails with the last error of the store.
    pub(super) fn permit(&self, location: &ObjectLocation) -> Result<RequestPermit<'_>, Cause> {
        let endpoint = canonical_endpoint(location.endpoint.as_deref(), &location.region);
        let store = (endpoint, location.bucket.clone());
        let tests_store = self.with(|open| match open.get_mut(&store) {
            Some(open) if open.half_open => Err(Cause::Network { detail: open.detail.clone() }),
            Some(open) => {
                open.half_open = true;
                Ok(true)
            }
            None => Ok(false),
        })?;
        Ok(RequestPermit { breakers: self, store, tests_store })
    }

    fn with<T>(&self, change: impl FnOnce(&mut HashMap<Store, Open>) -> T) -> T {
        change(&mut self.0.lock())
    }
}

impl RequestPermit<'_> {
    /// Records the result of the request, and how long it took.
    pub(super) fn record<T>(self, result: &Result<T, Cause>, took: Duration) {
        self.breakers.with(|open| match result {
            Err(Cause::Network { detail }) if took >= SLOW_FAILURE || open.contains_key(&self.store) => {
                open.insert(self.store.clone(), Open { detail: detail.clone(), half_open: false });
            }
            // Nothing was sent.
            Err(Cause::File { .. }) => {}
            _ => drop(open.remove(&self.store)),
        });
    }
}

impl Drop for RequestPermit<'_> {
    fn drop(&mut self) {
        // A cancelled request leaves the test to the next one.
        if self.tests_store {
            self.breakers.with(|open| {
                if let Some(open) = open.get_mut(&self.store) {
                    open.half_open = false;
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(bucket: &str) -> ObjectLocation {
        ObjectLocation {
            bucket: bucket.into(),
            key: "a.zip".into(),
            region: "us-west-2".into(),
            endpoint: None,
            force_path_style: None,
        }
    }

    fn silent() -> Result<(), Cause> {
        Err(Cause::Network { detail: "no answer".into() })
    }

    #[test]
    fn one_request_at_a_time_tests_a_silent_store_and_the_others_fail_at_once() {
        let breakers = CircuitBreakers::default();
        let (one, two) = (breakers.permit(&place("dead")).unwrap(), breakers.permit(&place("dead")).unwrap());
        one.record(&silent(), SLOW_FAILURE);
        two.record(&silent(), SLOW_FAILURE);
        let probe = breakers.permit(&place("dead")).unwrap();
        for _ in 0..3 {
            assert_eq!(breakers.permit(&place("dead")).map(drop), silent());
        }
        assert!(breakers.permit(&place("alive")).is_ok(), "other buckets are not affected");
        probe.record(&silent(), Duration::ZERO);
        let probe = breakers.permit(&place("dead")).unwrap();
        drop(probe);
        let probe = breakers.permit(&place("dead")).expect("a cancelled request leaves the test to the next");
        probe.record(&Ok(()), SLOW_FAILURE);
        let at_once: Vec<_> = (0..3).map(|_| breakers.permit(&place("dead"))).collect();
        assert!(at_once.iter().all(Result::is_ok), "it answers again");
    }

    #[test]
    fn a_store_has_one_breaker_however_its_endpoint_is_written() {
        let spelled = |endpoint: &str| ObjectLocation { endpoint: Some(endpoint.into()), ..place("dead") };
        let breakers = CircuitBreakers::default();
        breakers.permit(&spelled("https://minio.example.com")).unwrap().record(&silent(), SLOW_FAILURE);
        let _probe = breakers.permit(&spelled("https://MinIO.example.com:443/")).unwrap();
        for endpoint in ["https://minio.example.com", "HTTPS://minio.example.com/"] {
            assert_eq!(breakers.permit(&spelled(endpoint)).map(drop), silent(), "{endpoint}");
        }
        for other in ["http://minio.example.com", "https://minio.example.com:9000"] {
            assert!(breakers.permit(&spelled(other)).is_ok(), "{other}");
        }
        breakers.permit(&place("dead")).unwrap().record(&silent(), SLOW_FAILURE);
        let _probe = breakers.permit(&spelled("https://s3.us-west-2.amazonaws.com/")).unwrap();
        assert_eq!(breakers.permit(&place("dead")).map(drop), silent(), "AWS, written out");
    }

    #[test]
    fn a_request_that_was_not_sent_changes_nothing() {
        let breakers = CircuitBreakers::default();
        breakers.permit(&place("dead")).unwrap().record(&silent(), SLOW_FAILURE);
        let unreadable = Err::<(), _>(Cause::File { detail: "no such file".into() });
        breakers.permit(&place("dead")).unwrap().record(&unreadable, SLOW_FAILURE);
        let _probe = breakers.permit(&place("dead")).expect("one tests the store");
        assert_eq!(breakers.permit(&place("dead")).map(drop), silent(), "it still does not answer");
    }

    #[test]
    fn quick_failures_and_answers_keep_the_breaker_closed() {
        let breakers = CircuitBreakers::default();
        breakers.permit(&place("flaky")).unwrap().record(&silent(), Duration::from_secs(1));
        let slow = Err::<(), _>(Cause::Unavailable { status: 503, detail: String::new() });
        breakers.permit(&place("flaky")).unwrap().record(&slow, SLOW_FAILURE);
        let both = (breakers.permit(&place("flaky")), breakers.permit(&place("flaky")));
        assert!(both.0.is_ok() && both.1.is_ok());
    }
}
