//! Kubernetes Events, written in the background.
//!
//! A full queue or an API server that rejects Events never delays or fails a reconcile: such Events are dropped. Callers
//! send an Event when something changed, not each time it is found unchanged.
//!
//! An Event costs the API server as much as a write of a status, and a thousand versions published at once have a thousand
//! Events. Events are therefore rate-limited, and warnings are written first.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::domain::text::cut;

/// Length of each queue. Further Events are dropped to bound memory.
const QUEUE: usize = 2048;
/// Longest note in bytes. The API server accepts 1,024.
const LONGEST_NOTE: usize = 1000;
/// Interval between Events after a burst: 10 a second.
const STEP: Duration = Duration::from_millis(100);
/// Number of Events that are written without an interval after a pause.
const BURST: u32 = 50;

type Queued = (Event, ObjectReference);

/// Sends Events in the background.
#[derive(Clone)]
pub struct Events {
    warnings: mpsc::Sender<Queued>,
    others: mpsc::Sender<Queued>,
}

/// When the next Event may be written: a burst, then one per interval.
#[derive(Debug)]
struct Pace(Instant);

impl Pace {
    fn next(&mut self, now: Instant) -> Instant {
        let full = now.checked_sub(STEP * BURST).unwrap_or(now);
        self.0 = self.0.max(full) + STEP;
        self.0
    }
}

impl Events {
    /// Starts the background task, which ends with the last sender.
    pub fn start(client: Client) -> Self {
        let (warnings, mut first) = mpsc::channel::<Queued>(QUEUE);
        let (others, mut second) = mpsc::channel::<Queued>(QUEUE);
        let reporter = Reporter { controller: "opendepot".into(), instance: std::env::var("POD_NAME").ok() };
        let recorder = Recorder::new(client, reporter);
        tokio::spawn(async move {
            let start = Instant::now();
            let mut pace = Pace(start.checked_sub(STEP * BURST).unwrap_or(start));
            loop {
                tokio::time::sleep_until(pace.next(Instant::now())).await;
                let queued = tokio::select! {
                    biased;
                    Some(queued) = first.recv() => queued,
                    Some(queued) = second.recv() => queued,
                    else => return,
                };
                if let Err(error) = recorder.publish(&queued.0, &queued.1).await {
                    tracing::debug!(%error, "cannot write an Event");
                }
            }
        });
        Self { warnings, others }
    }

    pub fn normal(&self, object: &ObjectReference, reason: &str, action: &str, note: &str) {
        self.send(EventType::Normal, object, reason, action, note);
    }

    /// Reports something that may require manual action.
    pub fn warning(&self, object: &ObjectReference, reason: &str, action: &str, note: &str) {
        self.send(EventType::Warning, object, reason, action, note);
    }

    fn send(&self, type_: EventType, object: &ObjectReference, reason: &str, action: &str, note: &str) {
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(cut(note, LONGEST_NOTE)),
            action: action.to_owned(),
            secondary: None,
        };
        let queue = if event.type_ == EventType::Warning { &self.warnings } else { &self.others };
        if queue.try_send((event, object.clone())).is_err() {
            tracing::debug!(reason, "dropped an Event: the queue is full");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_written_at_once_and_the_rest_at_intervals() {
        let start = Instant::now() + Duration::from_hours(1);
        let mut pace = Pace(start - Duration::from_mins(30));
        for _ in 0..BURST {
            assert!(pace.next(start) <= start);
        }
        assert_eq!(pace.next(start), start + STEP);
        assert_eq!(pace.next(start), start + STEP * 2);
        // A pause allows no more than one burst.
        let later = start + Duration::from_mins(1);
        let at_once = (0..=BURST).filter(|_| pace.next(later) <= later).count();
        assert_eq!(at_once, BURST as usize);
    }
}
