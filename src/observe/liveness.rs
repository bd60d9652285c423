//! Liveness of the operator's loops, for `/livez`.
//!
//! Each loop sends a heartbeat at least every [`BEAT`]. A loop that a defect blocks or ends sends none. Loops continue
//! while the API server is unavailable, since a restart would not help.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use crate::domain::Mutex;

/// Interval of heartbeats of an idle loop.
const BEAT: Duration = Duration::from_secs(5);
/// Time without a heartbeat after which a loop counts as dead. The kubelet restarts the pod after several failed probes.
const SILENCE: Duration = Duration::from_secs(30);

/// The loops of this process. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Liveness(Arc<Mutex<BTreeMap<String, Instant>>>);

/// The heartbeat of one loop.
#[derive(Debug)]
pub struct Heartbeat {
    pub name: String,
    all: Liveness,
    ticks: Interval,
}

impl Liveness {
    /// Registers a loop.
    pub fn heartbeat(&self, name: &str) -> Heartbeat {
        let mut ticks = interval(BEAT);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let heartbeat = Heartbeat { name: name.to_owned(), all: self.clone(), ticks };
        heartbeat.beat();
        heartbeat
    }

    /// Registers a loop of one scope. A loop that is stuck is reported although the same loop of another scope runs.
    pub fn heartbeat_in(&self, namespace: Option<&str>, name: &str) -> Heartbeat {
        self.heartbeat(&in_scope(namespace, name))
    }

    fn beat(&self, name: &str, now: Instant) {
        self.0.lock().insert(name.to_owned(), now);
    }

    /// Names of the loops without a recent heartbeat.
    pub fn silent(&self, now: Instant) -> Vec<String> {
        let all = self.0.lock();
        let silent = |last: &Instant| now.saturating_duration_since(*last) > SILENCE;
        all.iter().filter(|(_, last)| silent(last)).map(|(name, _)| name.clone()).collect()
    }
}

/// The name of a loop of one scope: the cluster, or a namespace.
fn in_scope(namespace: Option<&str>, name: &str) -> String {
    format!("{name} in {}", namespace.unwrap_or("all namespaces"))
}

impl Heartbeat {
    fn beat(&self) {
        self.all.beat(&self.name, Instant::now());
    }

    /// The next item of the loop's stream. Sends heartbeats while it waits.
    pub async fn next_of<T>(&mut self, stream: &mut (impl Stream<Item = T> + Unpin)) -> Option<T> {
        self.during(stream.next()).await
    }

    /// Waits for the loop's next step. Sends heartbeats meanwhile.
    pub async fn during<T>(&mut self, step: impl Future<Output = T>) -> T {
        let mut step = std::pin::pin!(step);
        loop {
            self.beat();
            tokio::select! {
                outcome = &mut step => return outcome,
                _ = self.ticks.tick() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_is_stuck_is_named() {
        let (liveness, start) = (Liveness::default(), Instant::now());
        liveness.beat("the stuck one", start);
        liveness.beat("the other one", start + BEAT);
        assert_eq!(liveness.silent(start + SILENCE), Vec::<String>::new());
        assert_eq!(liveness.silent(start + SILENCE + BEAT), ["the stuck one"]);
        liveness.beat("the stuck one", start + SILENCE);
        assert_eq!(liveness.silent(start + SILENCE + BEAT * 2), ["the other one"]);
    }

    #[tokio::test]
    async fn a_stuck_loop_of_one_namespace_is_not_hidden_by_that_of_another() {
        let liveness = Liveness::default();
        let _stuck = liveness.heartbeat_in(Some("team-a"), "the version controller");
        let healthy = liveness.heartbeat_in(Some("team-b"), "the version controller");
        let later = Instant::now() + SILENCE * 2;
        liveness.beat(&healthy.name, later);
        assert_eq!(liveness.silent(later), ["the version controller in team-a"]);
        assert_eq!(in_scope(None, "the watch of modules"), "the watch of modules in all namespaces");
    }

    #[tokio::test]
    async fn a_loop_that_only_waits_shows_that_it_is_alive() {
        let liveness = Liveness::default();
        let mut heartbeat = liveness.heartbeat("the waiting one");
        let long_ago = Instant::now().checked_sub(SILENCE * 2).unwrap_or_else(Instant::now);
        liveness.beat("the waiting one", long_ago);
        let mut nothing = futures::stream::pending::<()>();
        assert!(
            tokio::time::timeout(Duration::from_millis(1), heartbeat.next_of(&mut nothing)).await.is_err()
        );
        assert!(liveness.silent(Instant::now()).is_empty());
    }
}
