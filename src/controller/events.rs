//! Kubernetes Events, written in the background.
//!
//! A full queue or an API server that rejects Events never delays or fails a reconcile: such Events are dropped. Callers
//! send an Event when something changed, not each time it is found unchanged.
//!
//! An Event costs the API server as much as a write of a status, and a thousand versions published at once have a thousand
//! Events. Events are therefore rate-limited, and namespaces take turns. The warnings of a namespace are written first: those of
//! Modules, of which there are few, before those of other objects. The Events of one namespace are written one by one, beside those
//! of others: its webhooks may be slow.

mod waiting;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event as KubernetesEvent, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::Instant;

pub(crate) use self::waiting::Event;
use self::waiting::{Queued, Waiting};
use super::client;
use crate::domain::text::cut;
use crate::domain::time::doubled;
use crate::domain::{Mutex, hash_of};

/// Longest note in bytes. The API server accepts 1,024.
const LONGEST_NOTE: usize = 1000;
/// Longest name of an object to which a dot and a time in hexadecimal can be added.
const LONGEST_NAME: usize = 253 - 17;
/// Interval between Events after a burst: 10 a second.
const STEP: Duration = Duration::from_millis(100);
/// Number of Events that are written without an interval after a pause.
const BURST: u32 = 50;

/// How long an Event is repeated as one with a counter.
const REPEATED: Duration = Duration::from_mins(6);
/// Above this number of texts, all are forgotten, and their next Events are new ones.
const MAX_TEXTS: usize = 8192;
/// The first and the longest pause between attempts while the API server cannot store an Event.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How long an Event is retried.
const RETRY_TIME: Duration = Duration::from_mins(2);

/// The reporter of all Events.
const CONTROLLER: &str = "opendepot";

/// Sends Events in the background.
#[derive(Clone)]
pub struct Events(Arc<Outbox>);

/// The Events that wait, and the notification that another one may be written.
#[derive(Default)]
struct Outbox {
    waiting: Mutex<Waiting>,
    changed: Notify,
}

/// When the next Event may be written: a burst, then one per interval.
#[derive(Debug)]
struct EventPace(Instant);

impl EventPace {
    fn next(&mut self, now: Instant) -> Instant {
        let full = now.checked_sub(STEP * BURST).unwrap_or(now);
        self.0 = self.0.max(full) + STEP;
        self.0
    }
}

/// Writes Events. kube's recorder is not used: it keeps whole Events, some kilobytes for each text, and a storm has thousands.
struct Recorder {
    client: Client,
    /// The pod, if it is known.
    instance: String,
    /// The Events that may be repeated, by text: the API server allows no change of an Event's text.
    written: Mutex<HashMap<u64, WrittenEvent>>,
}

/// An Event that was written.
#[derive(Clone)]
struct WrittenEvent {
    name: Box<str>,
    count: i32,
    last: Instant,
}

impl Recorder {
    fn new(client: Client) -> Self {
        let pod = std::env::var("POD_NAME").ok().filter(|name| !name.is_empty());
        Self { client, instance: pod.unwrap_or_else(|| CONTROLLER.to_owned()), written: Mutex::default() }
    }

    /// The Event with this text, if it is repeated as one with a counter.
    fn repeated(&self, text: u64, now: Instant) -> Option<WrittenEvent> {
        let mut all = self.written.lock();
        if all.len() >= MAX_TEXTS {
            all.clear();
        }
        all.retain(|_, written| now.duration_since(written.last) < REPEATED);
        all.get(&text).cloned()
    }

    /// Writes an Event, or increases the count of the one with the same text.
    async fn publish(&self, queued: &Queued) -> Result<(), kube::Error> {
        let Queued { event, object, at } = queued;
        let now = Instant::now();
        let regarding = (&object.uid, &object.namespace, &object.name);
        let text = hash_of((regarding, event));
        let namespace = object.namespace.as_deref().unwrap_or("default");
        let api = Api::<KubernetesEvent>::namespaced(self.client.clone(), namespace);
        if let Some(WrittenEvent { name, count, .. }) = self.repeated(text, now) {
            let series = EventSeries { count: count + 1, last_observed_time: MicroTime(*at) };
            let patch = Patch::Merge(json!({ "series": series }));
            match api.patch(&name, &PatchParams::default(), &patch).await {
                Ok(_) => {
                    self.written.lock().insert(text, WrittenEvent { name, count: series.count, last: now });
                    return Ok(());
                }
                // It was deleted meanwhile.
                Err(error) if client::is_gone(&error) => {}
                Err(error) => return Err(error),
            }
        }
        let created = self.event(queued);
        let name = created.metadata.name.as_deref().unwrap_or_default().into();
        match api.create(&PostParams::default(), &created).await {
            // An earlier attempt was carried out, although its response was lost.
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            result => drop(result?),
        }
        self.written.lock().insert(text, WrittenEvent { name, count: 1, last: now });
        Ok(())
    }

    fn event(&self, Queued { event, object, at }: &Queued) -> KubernetesEvent {
        let type_ = if event.is_warning { "Warning" } else { "Normal" };
        KubernetesEvent {
            action: Some(event.action.to_owned()),
            event_time: Some(MicroTime(*at)),
            metadata: ObjectMeta {
                name: Some(event_name(object, *at)),
                namespace: object.namespace.clone(),
                ..ObjectMeta::default()
            },
            note: Some(event.note.clone()),
            reason: Some(event.reason.clone()),
            regarding: Some(object.clone()),
            reporting_controller: Some(CONTROLLER.to_owned()),
            reporting_instance: Some(self.instance.clone()),
            type_: Some(type_.to_owned()),
            ..KubernetesEvent::default()
        }
    }

    /// Writes an Event. Retries while the API server is unavailable or overloaded.
    async fn deliver(&self, queued: &Queued) {
        let end = Instant::now() + RETRY_TIME;
        for failures in 1.. {
            let Err(error) = self.publish(queued).await else { return };
            let pause = doubled(PAUSES.0, failures, PAUSES.1);
            if !is_transient(&error) || Instant::now() + pause > end {
                tracing::debug!(error = client::explain(&error), "cannot write an Event");
                return;
            }
            tokio::time::sleep(pause).await;
        }
    }
}

/// The name of the object, a dot, and the time in hexadecimal, as client-go names Events; a random one if that is too long.
fn event_name(object: &ObjectReference, at: Timestamp) -> String {
    let name = object.name.as_deref().unwrap_or(CONTROLLER);
    if name.len() > LONGEST_NAME {
        return uuid::Uuid::new_v4().to_string();
    }
    format!("{name}.{:x}", at.as_nanosecond())
}

/// Whether the API server is unavailable or overloaded. A failing webhook affects the Events of some namespaces only, and must
/// not delay those of the others.
fn is_transient(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return true };
    client::is_outage(status) && !status.message.contains("webhook")
}

impl Outbox {
    /// Waits for the next Event that may be written.
    async fn next(&self) -> Queued {
        loop {
            let next = self.waiting.lock().take();
            match next {
                Some(queued) => return queued,
                None => self.changed.notified().await,
            }
        }
    }
}

impl Events {
    /// Starts the background task, which ends with the process.
    pub fn start(client: Client) -> Self {
        let (outbox, recorder) = (Arc::<Outbox>::default(), Arc::new(Recorder::new(client)));
        let events = Self(Arc::clone(&outbox));
        tokio::spawn(async move {
            let start = Instant::now();
            let mut pace = EventPace(start.checked_sub(STEP * BURST).unwrap_or(start));
            loop {
                tokio::time::sleep_until(pace.next(Instant::now())).await;
                let queued = outbox.next().await;
                let (outbox, recorder) = (Arc::clone(&outbox), Arc::clone(&recorder));
                tokio::spawn(async move {
                    recorder.deliver(&queued).await;
                    outbox.waiting.lock().written(&queued);
                    outbox.changed.notify_one();
                });
            }
        });
        events
    }

    /// Logs an Event about an object, which the API server keeps for an hour only, and adds it to its queue.
    pub fn send<K: Resource>(&self, object: &K, kind: &K::DynamicType, event: Event) {
        let event = Event { note: cut(&event.note, LONGEST_NOTE), ..event };
        let Event { is_warning, reason, action, note } = &event;
        if *is_warning {
            tracing::warn!(reason, action, note, "Warning Event");
        } else {
            tracing::info!(reason, action, note, "Normal Event");
        }
        let queued = Queued { event, object: object.object_ref(kind), at: Timestamp::now() };
        if self.0.waiting.lock().push(queued) {
            self.0.changed.notify_one();
        } else {
            tracing::debug!("dropped the Event: the queue is full");
        }
    }
}

#[cfg(test)]
mod tests;
