use std::sync::atomic::AtomicUsize;

use kube::runtime::reflector;
use kube::runtime::watcher::Event;

use super::*;
use crate::api::state::ModuleState;
use crate::domain::Mutex;
use crate::observe::liveness::Liveness;

fn module(name: &str, resource_version: &str) -> ModuleState {
    let metadata =
        serde_json::json!({"name": name, "namespace": "acme", "resourceVersion": resource_version});
    serde_json::from_value(serde_json::json!({"metadata": metadata, "spec": {}})).unwrap()
}

fn reference(name: &str) -> ObjectRef<ModuleState> {
    ObjectRef::new(name).within("acme")
}

struct Bed {
    writer: reflector::store::Writer<ModuleState>,
    queue: mpsc::UnboundedSender<ObjectRef<ModuleState>>,
    listed: Vec<watch::Sender<bool>>,
    stop: watch::Sender<bool>,
}

impl Bed {
    fn start<F>(
        names: &[&str],
        reconcile: impl Fn(Arc<ModuleState>, Latest<ModuleState>) -> F + Send + 'static,
    ) -> (Self, tokio::task::JoinHandle<&'static str>)
    where
        F: Future<Output = Action> + Send + 'static,
    {
        let (cache, mut writer) = reflector::store();
        writer.apply_watcher_event(&Event::Init);
        for name in names {
            writer.apply_watcher_event(&Event::InitApply(module(name, "1")));
        }
        writer.apply_watcher_event(&Event::InitDone);
        let ((queue, requests), (stop, stopped)) = (mpsc::unbounded(), watch::channel(false));
        let (listed, all) = [watch::channel(true), watch::channel(true)].into_iter().unzip();
        let context = Arc::new(());
        let controller = Controller { name: "test", context, cache, listed: all, requests, stop: stopped };
        let heartbeat = Liveness::default().heartbeat("test");
        let run = controller.run(heartbeat, move |module, latest, _| reconcile(module, latest));
        (Self { writer, queue, listed, stop }, tokio::spawn(run))
    }

    fn request(&self, name: &str) {
        self.queue.unbounded_send(reference(name)).unwrap();
    }
}

async fn soon(what: impl Fn() -> bool) {
    let wait = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait).await.expect("it never became so");
}

/// Lets all tasks run until each of them waits for an event of the test.
async fn settled() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_panic_is_caught_and_the_object_requeued() {
    let reconcile = |module: Arc<ModuleState>| async move {
        assert!(module.name_any() != "odd", "an odd one");
        Action::await_change()
    };
    for (name, next) in [("odd", Action::requeue(Duration::from_mins(1))), ("even", Action::await_change())] {
        let outcome = guarded("module", Arc::new(reference(name)), Arc::new(module(name, "1")), reconcile);
        assert_eq!(outcome.await.1, next);
    }
}

#[tokio::test]
async fn nothing_is_reconciled_before_all_objects_are_listed() {
    let started = Arc::new(AtomicUsize::new(0));
    let starts = Arc::clone(&started);
    let (bed, _running) = Bed::start(&["a"], move |_, _| {
        starts.fetch_add(1, Ordering::Relaxed);
        std::future::ready(Action::await_change())
    });
    for listed in &bed.listed {
        listed.send_replace(false);
    }
    bed.request("a");
    for listed in &bed.listed {
        settled().await;
        assert_eq!(started.load(Ordering::Relaxed), 0);
        listed.send_replace(true);
    }
    soon(|| started.load(Ordering::Relaxed) == 1).await;
}

#[tokio::test]
async fn a_running_reconcile_gets_the_newest_state_and_the_next_one_follows_it() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let (mut bed, _running) = Bed::start(&["a"], move |module, latest| {
        let log = Arc::clone(&log);
        async move {
            log.lock().push(format!("starts {}", module.resource_version().unwrap()));
            if module.resource_version().unwrap() == "1" {
                let newest = latest.next().await.unwrap().resource_version().unwrap();
                log.lock().push(format!("hears of {newest}"));
            }
            Action::await_change()
        }
    });
    bed.request("a");
    soon(|| seen.lock().len() == 1).await;
    bed.writer.apply_watcher_event(&Event::Apply(module("a", "2")));
    bed.request("a");
    soon(|| seen.lock().len() == 3).await;
    assert_eq!(*seen.lock(), ["starts 1", "hears of 2", "starts 2"]);
    bed.request("gone");
    bed.request("a");
    soon(|| seen.lock().len() == 4).await;
}

#[tokio::test]
async fn a_deleted_object_is_announced_to_its_reconcile() {
    let (gone, started) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counts, starts) = (Arc::clone(&gone), Arc::clone(&started));
    let (mut bed, _running) = Bed::start(&["a"], move |_, latest| {
        let (counts, starts) = (Arc::clone(&counts), Arc::clone(&starts));
        async move {
            starts.fetch_add(1, Ordering::Relaxed);
            counts.fetch_add(usize::from(latest.next().await.is_none()), Ordering::Relaxed);
            Action::await_change()
        }
    });
    bed.request("a");
    soon(|| started.load(Ordering::Relaxed) == 1).await;
    bed.writer.apply_watcher_event(&Event::Delete(module("a", "2")));
    bed.request("a");
    soon(|| gone.load(Ordering::Relaxed) == 1).await;
    assert_eq!(started.load(Ordering::Relaxed), 1, "nothing is left to reconcile");
}

#[tokio::test]
async fn reconciles_that_wait_are_not_polled_while_others_work() {
    const WAITING: usize = 1000;
    let (polls, rounds) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, worked) = (Arc::clone(&polls), Arc::clone(&rounds));
    let names: Vec<String> = (0..WAITING).map(|n| format!("waits-{n}")).chain(["busy".to_owned()]).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (bed, _running) = Bed::start(&names, move |module, _| {
        let (counted, worked) = (Arc::clone(&counted), Arc::clone(&worked));
        async move {
            if module.name_any() == "busy" {
                worked.fetch_add(1, Ordering::Relaxed);
                return Action::requeue(Duration::from_millis(1));
            }
            std::future::poll_fn(|_| {
                counted.fetch_add(1, Ordering::Relaxed);
                std::task::Poll::<Action>::Pending
            })
            .await
        }
    });
    for name in &names {
        bed.request(name);
    }
    soon(|| polls.load(Ordering::Relaxed) >= WAITING).await;
    let before = rounds.load(Ordering::Relaxed);
    soon(|| rounds.load(Ordering::Relaxed) > before + 20).await;
    assert_eq!(polls.load(Ordering::Relaxed), WAITING, "each is polled once");
}

#[tokio::test]
async fn a_stop_ends_the_loop_when_the_work_in_flight_is_done() {
    let (go, wait) = watch::channel(false);
    let started = Arc::new(AtomicUsize::new(0));
    let starts = Arc::clone(&started);
    let (bed, running) = Bed::start(&["a"], move |_, _| {
        let mut wait = wait.clone();
        let starts = Arc::clone(&starts);
        async move {
            starts.fetch_add(1, Ordering::Relaxed);
            let _ = wait.wait_for(|go| *go).await;
            Action::requeue(Duration::ZERO)
        }
    });
    bed.request("a");
    soon(|| started.load(Ordering::Relaxed) == 1).await;
    bed.request("a");
    bed.stop.send_replace(true);
    settled().await;
    assert!(!running.is_finished(), "work is in flight");
    go.send_replace(true);
    let ended = tokio::time::timeout(Duration::from_secs(10), running).await;
    assert_eq!(ended.expect("it ends").unwrap(), "test");
    assert_eq!(started.load(Ordering::Relaxed), 1, "nothing starts any more");
}
