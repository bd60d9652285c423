//! The Events that wait to be written. Pure.

use std::collections::{HashMap, HashSet, VecDeque};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;

/// Length of each queue. Further Events are dropped to bound memory.
pub(super) const QUEUE: usize = 2048;
/// The part of a queue that one namespace may fill.
const SHARE: usize = QUEUE * 3 / 4;
/// The largest number of namespaces of which an Event is written at one time.
const AT_ONCE: usize = 8;

/// What an Event reports about its object.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Event {
    /// Whether manual action may be required.
    pub is_warning: bool,
    pub reason: String,
    /// Its action: Publish, Verify, Delete or Reconcile.
    pub action: &'static str,
    pub note: String,
}

impl Event {
    pub fn normal(reason: &str, action: &'static str, note: impl Into<String>) -> Self {
        Self { is_warning: false, reason: reason.to_owned(), action, note: note.into() }
    }

    pub fn warning(reason: &str, action: &'static str, note: impl Into<String>) -> Self {
        Self { is_warning: true, ..Self::normal(reason, action, note) }
    }
}

/// An Event that is to be written.
pub(super) struct Queued {
    pub event: Event,
    pub object: ObjectReference,
    pub at: Timestamp,
}

/// The Events that wait, in their order in each queue.
#[derive(Default)]
pub(super) struct Waiting {
    /// The most urgent one first.
    queues: [VecDeque<Queued>; 3],
    /// The namespaces of which an Event is being written.
    busy: HashSet<Option<String>>,
    /// The number of Events that had been taken when the last one of a namespace was.
    last_taken: HashMap<Option<String>, u64>,
    taken: u64,
}

impl Waiting {
    /// Adds an Event. Returns whether there was room for it.
    pub(super) fn push(&mut self, queued: Queued) -> bool {
        let urgency = match (queued.event.is_warning, queued.object.kind.as_deref()) {
            (true, Some("Module")) => 0,
            (true, _) => 1,
            (false, _) => 2,
        };
        let queue = &mut self.queues[urgency];
        let of_namespace = |other: &&Queued| other.object.namespace == queued.object.namespace;
        let has_room =
            queue.len() < SHARE || queue.len() < QUEUE && queue.iter().filter(of_namespace).count() < SHARE;
        if has_room {
            queue.push_back(queued);
        }
        has_room
    }

    /// Removes the next Event that may be written: of one namespace, one at a time, the most urgent first. Namespaces take turns, so
    /// that a long list of one delays no other.
    pub(super) fn take(&mut self) -> Option<Queued> {
        let Self { queues, busy, last_taken, taken } = self;
        if busy.len() >= AT_ONCE {
            return None;
        }
        let all = queues.iter().enumerate().flat_map(|(urgency, queue)| {
            queue.iter().enumerate().map(move |(at, queued)| (urgency, at, &queued.object.namespace))
        });
        let free = all.filter(|(.., namespace)| !busy.contains(*namespace));
        // The first of several, which is the most urgent one.
        let (urgency, at, _) = free.min_by_key(|(.., namespace)| last_taken.get(*namespace))?;
        let next = queues[urgency].remove(at)?;
        if last_taken.len() >= QUEUE {
            last_taken.clear();
        }
        *taken += 1;
        last_taken.insert(next.object.namespace.clone(), *taken);
        busy.insert(next.object.namespace.clone());
        Some(next)
    }

    /// Records that an Event is written, or given up.
    pub(super) fn written(&mut self, queued: &Queued) {
        self.busy.remove(&queued.object.namespace);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An Event `TYPE/KIND/NAMESPACE/NAME`.
    fn event(text: &str) -> Queued {
        let parts: Vec<&str> = text.split('/').collect();
        let [kind, namespace, name] = [1, 2, 3].map(|part| Some(parts[part].to_owned()));
        let event = Event { is_warning: parts[0] == "Warning", ..Event::normal(text, "Reconcile", "") };
        let object = ObjectReference { kind, namespace, name, ..ObjectReference::default() };
        Queued { event, object, at: Timestamp::UNIX_EPOCH }
    }

    #[test]
    fn an_event_waits_for_those_of_its_namespace_and_more_urgent_ones() {
        let mut waiting = Waiting::default();
        for text in [
            "Normal/Version/a/1",
            "Normal/Version/b/1",
            "Warning/Version/a/2",
            "Warning/Module/a/3",
            "Normal/Version/b/2",
            "Warning/Version/a/4",
        ] {
            assert!(waiting.push(event(text)));
        }
        // Whether an Event of the namespace b is written before, and the next one.
        for (done, next) in [
            (false, Some("Warning/Module/a/3")),
            (false, Some("Normal/Version/b/1")),
            (false, None),
            (true, Some("Normal/Version/b/2")),
            (true, None),
        ] {
            if done {
                waiting.written(&event("Normal/Version/b/1"));
            }
            assert_eq!(waiting.take().map(|queued| queued.event.reason).as_deref(), next);
        }
        for next in ["Warning/Version/a/2", "Warning/Version/a/4", "Normal/Version/a/1"] {
            waiting.written(&event("Normal/Version/a/1"));
            assert_eq!(waiting.take().unwrap().event.reason, next);
        }
    }

    #[test]
    fn namespaces_take_turns_whatever_their_events_are() {
        let mut waiting = Waiting::default();
        for text in [
            "Warning/Version/a/1",
            "Warning/Version/a/2",
            "Normal/Version/a/6",
            "Warning/Version/a/5",
            "Warning/Version/b/2",
            "Warning/Version/b/4",
            "Warning/Version/c/3",
            "Normal/Version/d/7",
            "Normal/Version/d/8",
        ] {
            waiting.push(event(text));
        }
        for next in ["a/1", "b/2", "c/3", "d/7", "a/2", "b/4", "d/8", "a/5", "a/6"] {
            let queued = waiting.take().unwrap();
            assert!(queued.event.reason.ends_with(next), "{next}: {}", queued.event.reason);
            waiting.written(&queued);
        }
    }

    #[test]
    fn one_namespace_leaves_room_and_few_are_written_to_at_once() {
        let mut waiting = Waiting::default();
        let mut fill = |namespace: &str| {
            (0..2 * QUEUE)
                .take_while(|_| waiting.push(event(&format!("Normal/Version/{namespace}/1"))))
                .count()
        };
        assert_eq!([fill("a"), fill("a"), fill("b"), fill("c")], [SHARE, 0, QUEUE - SHARE, 0]);
        assert!(waiting.push(event("Warning/Version/a/1")), "another queue");
        let mut waiting = Waiting::default();
        for number in 0..=AT_ONCE {
            waiting.push(event(&format!("Normal/Version/{number}/1")));
        }
        let taken: Vec<Queued> = std::iter::from_fn(|| waiting.take()).collect();
        assert_eq!(taken.len(), AT_ONCE);
        waiting.written(&taken[3]);
        assert_eq!(waiting.take().unwrap().object.namespace, Some(AT_ONCE.to_string()));
    }
}
