//! Kubernetes Events: the story that `kubectl describe` tells.
//!
//! In: a note about an object. Out: an Event, some time later, or none: a full queue or a refusing API server must never
//! hold up or fail a reconcile. Callers send one when something changed, not each time it is found unchanged.
//!
//! A thousand versions published at once have a thousand Events to tell. Each costs the API server as much as a write of
//! a status, so they go at a pace of their own and leave it to the work; warnings go first.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::domain::text::cut;

/// Events of each kind that wait to be written. More than that are dropped: they are a convenience, memory is not.
const QUEUE: usize = 2048;
/// Longest note that the API server takes is 1,024 bytes.
const LONGEST_NOTE: usize = 1000;
/// The pace in the long run: 10 a second.
const STEP: Duration = Duration::from_millis(100);
/// How many go at once after a pause.
const BURST: u32 = 50;

type Told = (Event, ObjectReference);

/// Sends Events in the background.
#[derive(Clone)]
pub struct Events {
    warnings: mpsc::Sender<Told>,
    others: mpsc::Sender<Told>,
}

/// When the next Event may go: a burst, then one at each step.
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
        let (warnings, mut first) = mpsc::channel::<Told>(QUEUE);
        let (others, mut second) = mpsc::channel::<Told>(QUEUE);
        let reporter = Reporter { controller: "opendepot".into(), instance: std::env::var("POD_NAME").ok() };
        let recorder = Recorder::new(client, reporter);
        tokio::spawn(async move {
            let start = Instant::now();
            let mut pace = Pace(start.checked_sub(STEP * BURST).unwrap_or(start));
            loop {
                tokio::time::sleep_until(pace.next(Instant::now())).await;
                let told = tokio::select! {
                    biased;
                    Some(told) = first.recv() => told,
                    Some(told) = second.recv() => told,
                    else => return,
                };
                if let Err(error) = recorder.publish(&told.0, &told.1).await {
                    tracing::debug!(%error, "an Event was not written");
                }
            }
        });
        Self { warnings, others }
    }

    /// Something went as it should.
    pub fn normal(&self, object: &ObjectReference, reason: &str, action: &str, note: &str) {
        self.send(EventType::Normal, object, reason, action, note);
    }

    /// Something that a person should see.
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
            tracing::debug!(reason, "the queue of Events is full: one is left out");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_at_once_and_the_rest_at_a_pace() {
        let start = Instant::now() + Duration::from_hours(1);
        let mut pace = Pace(start - Duration::from_mins(30));
        for _ in 0..BURST {
            assert!(pace.next(start) <= start);
        }
        assert_eq!(pace.next(start), start + STEP);
        assert_eq!(pace.next(start), start + STEP * 2);
        // What was not used while nothing was told is no more than a burst.
        let later = start + Duration::from_mins(1);
        let at_once = (0..=BURST).filter(|_| pace.next(later) <= later).count();
        assert_eq!(at_once, BURST as usize);
    }
}
