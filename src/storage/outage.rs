//! Stores that do not answer. In: how requests ended. Out: whether another one may be sent now.
//!
//! A request to a store that is cut off costs its caller many seconds, and with it the turn that others wait for. So, as
//! long as a store is silent, one request at a time finds out whether it is back, and all others fail at once, with the
//! words of the last one that waited.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::Cause;
use crate::domain::{ObjectLocation, canonical_endpoint};

/// A failure that came sooner has cost nobody a turn: a refused connection, one that was cut.
pub(super) const LONG: Duration = Duration::from_secs(4);

/// A store as requests see it: endpoint in its canonical form, and bucket.
type Store = (Option<String>, String);

/// The stores that are silent.
#[derive(Debug, Default)]
pub(super) struct Outages(Mutex<HashMap<Store, Outage>>);

#[derive(Debug)]
struct Outage {
    /// What broke, as the last request knows it.
    detail: String,
    /// Whether a request is under way that will find out more.
    probed: bool,
}

/// A request that may be sent.
#[derive(Debug)]
pub(super) struct Probe<'a> {
    outages: &'a Outages,
    store: Store,
    first: bool,
}

impl Outages {
    /// The right to send a request, or what another one met just now.
    pub fn ask(&self, place: &ObjectLocation) -> Result<Probe<'_>, Cause> {
        let endpoint = canonical_endpoint(place.endpoint.as_deref(), &place.region);
        let store = (endpoint, place.bucket.clone());
        let first = self.with(|all| match all.get_mut(&store) {
            Some(outage) if outage.probed => Err(Cause::Network { detail: outage.detail.clone() }),
            Some(outage) => {
                outage.probed = true;
                Ok(true)
            }
            None => Ok(false),
        })?;
        Ok(Probe { outages: self, store, first })
    }

    fn with<T>(&self, change: impl FnOnce(&mut HashMap<Store, Outage>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Probe<'_> {
    /// What came of it, and how long that took.
    pub fn ended<T>(self, result: &Result<T, Cause>, took: Duration) {
        self.outages.with(|all| match result {
            Err(Cause::Network { detail }) if took >= LONG || all.contains_key(&self.store) => {
                let outage = Outage { detail: detail.clone(), probed: false };
                all.insert(self.store.clone(), outage);
            }
            // Nothing was sent.
            Err(Cause::File { .. }) => {}
            _ => drop(all.remove(&self.store)),
        });
    }
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        // One that was given up leaves the question to the next.
        if self.first {
            self.outages.with(|all| {
                if let Some(outage) = all.get_mut(&self.store) {
                    outage.probed = false;
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
    fn one_at_a_time_asks_a_silent_store_and_the_others_fail_at_once() {
        let outages = Outages::default();
        let (one, two) = (outages.ask(&place("dead")).unwrap(), outages.ask(&place("dead")).unwrap());
        one.ended(&silent(), LONG);
        two.ended(&silent(), LONG);
        let probe = outages.ask(&place("dead")).unwrap();
        for _ in 0..3 {
            assert_eq!(outages.ask(&place("dead")).map(drop), silent());
        }
        assert!(outages.ask(&place("alive")).is_ok(), "others are not meant");
        probe.ended(&silent(), Duration::ZERO);
        let probe = outages.ask(&place("dead")).unwrap();
        drop(probe);
        let probe = outages.ask(&place("dead")).expect("one that was given up keeps nobody away");
        probe.ended(&Ok(()), LONG);
        let at_once: Vec<_> = (0..3).map(|_| outages.ask(&place("dead"))).collect();
        assert!(at_once.iter().all(Result::is_ok), "it answers again");
    }

    #[test]
    fn a_silent_store_is_silent_under_each_of_its_spellings() {
        let spelled = |endpoint: &str| ObjectLocation { endpoint: Some(endpoint.into()), ..place("dead") };
        let outages = Outages::default();
        outages.ask(&spelled("https://minio.example.com")).unwrap().ended(&silent(), LONG);
        let _probe = outages.ask(&spelled("https://MinIO.example.com:443/")).unwrap();
        for endpoint in ["https://minio.example.com", "HTTPS://minio.example.com/"] {
            assert_eq!(outages.ask(&spelled(endpoint)).map(drop), silent(), "{endpoint}");
        }
        for other in ["http://minio.example.com", "https://minio.example.com:9000"] {
            assert!(outages.ask(&spelled(other)).is_ok(), "{other}");
        }
        outages.ask(&place("dead")).unwrap().ended(&silent(), LONG);
        let _probe = outages.ask(&spelled("https://s3.us-west-2.amazonaws.com/")).unwrap();
        assert_eq!(outages.ask(&place("dead")).map(drop), silent(), "AWS, written out");
    }

    #[test]
    fn what_was_never_sent_says_nothing_about_the_store() {
        let outages = Outages::default();
        outages.ask(&place("dead")).unwrap().ended(&silent(), LONG);
        let unreadable = Err::<(), _>(Cause::File { detail: "no such file".into() });
        outages.ask(&place("dead")).unwrap().ended(&unreadable, LONG);
        let _probe = outages.ask(&place("dead")).expect("one finds out");
        assert_eq!(outages.ask(&place("dead")).map(drop), silent(), "it is silent still");
    }

    #[test]
    fn what_fails_quickly_or_with_an_answer_is_no_outage() {
        let outages = Outages::default();
        outages.ask(&place("flaky")).unwrap().ended(&silent(), Duration::from_secs(1));
        let slow = Err::<(), _>(Cause::Unavailable { status: 503, detail: String::new() });
        outages.ask(&place("flaky")).unwrap().ended(&slow, LONG);
        let both = (outages.ask(&place("flaky")), outages.ask(&place("flaky")));
        assert!(both.0.is_ok() && both.1.is_ok());
    }
}
