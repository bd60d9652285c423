//! Kubernetes Events: the story that `kubectl describe` tells.
//!
//! In: a note about an object. Out: an Event, some time later, or none: a full queue or a refusing API server must never
//! hold up or fail a reconcile. Callers send one when something changed, not each time it is found unchanged.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc;

use crate::crd::condition::cut;

/// Events that wait to be written. More than that are dropped: they are a convenience, memory is not.
const QUEUE: usize = 256;
/// Longest note that the API server takes is 1,024 bytes.
const LONGEST_NOTE: usize = 1000;

/// Sends Events in the background.
#[derive(Clone)]
pub struct Events(mpsc::Sender<(Event, ObjectReference)>);

impl Events {
    /// Starts the background task, which ends with the last sender.
    pub fn start(client: Client) -> Self {
        let (sender, mut queue) = mpsc::channel::<(Event, ObjectReference)>(QUEUE);
        let reporter = Reporter { controller: "opendepot".into(), instance: std::env::var("POD_NAME").ok() };
        let recorder = Recorder::new(client, reporter);
        tokio::spawn(async move {
            while let Some((event, object)) = queue.recv().await {
                if let Err(error) = recorder.publish(&event, &object).await {
                    tracing::debug!(%error, "an Event was not written");
                }
            }
        });
        Self(sender)
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
        if self.0.try_send((event, object.clone())).is_err() {
            tracing::debug!(reason, "the queue of Events is full: one is left out");
        }
    }
}
