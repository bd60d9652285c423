//! Which objects of a controller are reconciled now, and which later. Pure.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

/// The longest pause. A longer one might overflow the clock.
const LONGEST_PAUSE: Duration = Duration::from_hours(24 * 365);

/// When an object is reconciled again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action {
    after: Option<Duration>,
}

impl Action {
    /// After this time, or when the object changes.
    pub fn requeue(after: Duration) -> Self {
        Self { after: Some(after) }
    }

    /// When the object changes.
    pub fn await_change() -> Self {
        Self { after: None }
    }
}

/// The objects that are being reconciled or are to be reconciled at a known time. One object is never reconciled twice at once.
#[derive(Debug)]
pub(crate) struct WorkQueue<K> {
    objects: HashMap<K, Entry>,
    timers: BTreeMap<Timer, K>,
    next_timer: u64,
}

/// A time, and a number that makes it unique.
type Timer = (Instant, u64);

#[derive(Debug)]
enum Entry {
    Running { again: bool },
    Scheduled(Timer),
}

impl<K> Default for WorkQueue<K> {
    fn default() -> Self {
        Self { objects: HashMap::new(), timers: BTreeMap::new(), next_timer: 0 }
    }
}

impl<K: Clone + Eq + Hash> WorkQueue<K> {
    /// Requests a reconcile. Returns whether it starts now; if one is running, the next one follows it.
    pub(crate) fn request(&mut self, object: &K) -> bool {
        if let Some(Entry::Running { again }) = self.objects.get_mut(object) {
            *again = true;
            return false;
        }
        let before = self.objects.insert(object.clone(), Entry::Running { again: false });
        if let Some(Entry::Scheduled(timer)) = before {
            self.timers.remove(&timer);
        }
        true
    }

    /// Ends a reconcile. Returns whether the next one starts now, because it was requested meanwhile.
    pub(crate) fn finish(&mut self, object: &K, next: Action, now: Instant) -> bool {
        if let Some(Entry::Running { again }) = self.objects.get_mut(object)
            && std::mem::take(again)
        {
            return true;
        }
        let Some(after) = next.after else {
            self.objects.remove(object);
            return false;
        };
        let timer = (now + after.min(LONGEST_PAUSE), self.next_timer);
        self.next_timer += 1;
        self.timers.insert(timer, object.clone());
        self.objects.insert(object.clone(), Entry::Scheduled(timer));
        false
    }

    /// When the next reconcile is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.timers.keys().next().map(|(due, _)| *due)
    }

    /// The next object whose reconcile is due. It counts as running from now on.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<K> {
        let due = self.timers.first_entry().filter(|entry| entry.key().0 <= now)?;
        let object = due.remove();
        self.objects.insert(object.clone(), Entry::Running { again: false });
        Some(object)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn second(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[tokio::test]
    async fn an_event_during_a_reconcile_starts_the_next_one_once_and_at_its_end() {
        let (mut queue, now) = (WorkQueue::default(), Instant::now());
        assert!(queue.request(&"a") && queue.request(&"b"));
        assert!(!queue.request(&"a") && !queue.request(&"a"));
        assert!(queue.finish(&"a", Action::requeue(second(9)), now));
        assert!(!queue.finish(&"a", Action::requeue(second(9)), now));
        assert_eq!(queue.next_due(), Some(now + second(9)));
    }

    #[tokio::test]
    async fn an_event_takes_the_place_of_a_reconcile_that_was_to_come_later() {
        let (mut queue, now) = (WorkQueue::default(), Instant::now());
        assert!(queue.request(&"a"));
        assert!(!queue.finish(&"a", Action::requeue(second(9)), now));
        assert!(queue.request(&"a"));
        assert!(!queue.finish(&"a", Action::await_change(), now));
        assert_eq!((queue.next_due(), queue.take_due(now + second(10))), (None, None));
        assert!(queue.objects.is_empty(), "an object at rest takes no memory");
    }

    #[tokio::test]
    async fn reconciles_are_due_in_the_order_of_their_times() {
        let (mut queue, now) = (WorkQueue::default(), Instant::now());
        for (object, pause) in [("late", 9), ("soon", 1), ("soon too", 1), ("never", u64::MAX)] {
            assert!(queue.request(&object));
            assert!(!queue.finish(&object, Action::requeue(second(pause)), now));
        }
        assert_eq!(queue.take_due(now), None);
        let due: Vec<_> = std::iter::from_fn(|| queue.take_due(now + second(9))).collect();
        assert_eq!(due, ["soon", "soon too", "late"]);
        assert!(!queue.request(&"late"), "it is running");
    }

    proptest! {
        #[test]
        fn no_request_is_lost_and_no_object_runs_twice(steps in prop::collection::vec((0..4_u8, 0..3_u8, 0..3_u64), 0..60)) {
            let mut queue = WorkQueue::default();
            let mut now = Instant::now();
            let (mut running, mut open) = ([false; 3], [false; 3]);
            for (step, object, pause) in steps {
                let at = usize::from(object);
                let starts = match step {
                    0 => {
                        open[at] = true;
                        queue.request(&object).then_some(object)
                    }
                    1 if running[at] => {
                        running[at] = false;
                        let next = if pause == 0 { Action::await_change() } else { Action::requeue(second(pause)) };
                        let again = queue.finish(&object, next, now);
                        prop_assert_eq!(again, open[at]);
                        again.then_some(object)
                    }
                    2 => {
                        now += second(1);
                        None
                    }
                    _ => queue.take_due(now),
                };
                if let Some(object) = starts {
                    let at = usize::from(object);
                    prop_assert!(!running[at], "{} runs twice", object);
                    (running[at], open[at]) = (true, false);
                }
                prop_assert!((0..3).all(|at| running[at] || !open[at]), "a request is lost");
            }
        }
    }
}
