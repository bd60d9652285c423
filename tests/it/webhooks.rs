//! Webhooks that are slow or hang: what they are asked for, and nothing else, waits for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kube::api::{Patch, PatchParams};
use opendepot::api::{FINALIZER, Module};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::refusals::creates;
use crate::support::{ModuleFixture, World, condition, whole_cluster};

/// A webhook for one namespace that takes connections and never answers.
struct Silent {
    name: String,
    calls: Arc<AtomicUsize>,
    _listens: JoinSet<()>,
}

impl Silent {
    /// For these operations (`CREATE`) on these resources. After `seconds`, the API server refuses the request, or with `ignored`
    /// carries it out.
    async fn on(
        world: &World,
        (operations, resources): (&[&str], &[&str]),
        (seconds, ignored): (u32, bool),
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (calls, mut listens) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
        let counted = Arc::clone(&calls);
        listens.spawn(async move {
            let mut kept = Vec::new();
            while let Ok((connection, _)) = listener.accept().await {
                kept.push(connection);
                counted.fetch_add(1, Ordering::SeqCst);
            }
        });
        let name = format!("hang-{}-{}", world.name, operations[0].to_lowercase());
        world.apply(&json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": name},
            "webhooks": [{
                "name": "hang.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None",
                "timeoutSeconds": seconds, "failurePolicy": if ignored { "Ignore" } else { "Fail" },
                "clientConfig": {"url": format!("https://127.0.0.1:{port}/")},
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": world.name}},
                "objectSelector": {"matchExpressions": [
                    {"key": "opendepot.defdev.io/module", "operator": "NotIn", "values": ["good"]}]},
                "rules": [{"apiGroups": ["opendepot.defdev.io", "events.k8s.io"], "apiVersions": ["*"],
                    "operations": operations, "resources": resources}],
            }],
        }));
        Self { name, calls, _listens: listens }
    }

    async fn is_asked(&self, world: &World) {
        world.until("the webhook hangs", || self.calls.load(Ordering::SeqCst) > 0).await;
    }

    fn end(self, world: &World) {
        world.kubectl(&["delete", "validatingwebhookconfiguration", &self.name]);
    }
}

/// Publishes the Module `good`, which the webhook does not concern, sooner than the others get their answers.
async fn good_is_published(world: &World, good: ModuleFixture) {
    let begun = Instant::now();
    world.apply(&good.versions(&["1.0.0"]));
    world.module_ready("good").await;
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(25), "a Module that is not concerned was ready after {took:?}");
}

#[tokio::test]
async fn one_that_hangs_for_eight_modules_holds_up_no_other() {
    let world = World::new("webhook").await;
    world.tagged("good", &["1.0.0"]);
    // The longest time that a webhook may have.
    let hangs = Silent::on(&world, (&["CREATE"], &["versions"]), (30, false)).await;
    let _operator = world.operator().await;
    let all: Vec<String> = (0..100).map(|n| format!("1.{n}.0")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let mark = world.bed.kubernetes.audit().position().unwrap();
    for number in 0..8 {
        world.apply(&world.module(&format!("hung-{number}")).versions(&all));
    }
    hangs.is_asked(&world).await;
    good_is_published(&world, world.module("good")).await;
    let refused = |m: &Value| condition(m, "Ready")["reason"] == "VersionRefused";
    for number in 0..8 {
        world.module_when(&format!("hung-{number}"), refused).await;
    }
    let (asked, given) = creates(&world, mark);
    assert!(given == 1 && asked <= 8 * 20 + 1, "{asked} requests");
    hangs.end(&world);
}

/// Whatever write it hangs on: of Modules, of Versions, of their status, or of Events. Both have the same bucket.
#[tokio::test]
async fn one_that_hangs_in_a_namespace_holds_up_no_other_namespace() {
    let (_turn, bed) = whole_cluster().await;
    let (hung, world) = (World::on(bed, "webhook-hung").await, World::on(bed, "webhook-other").await);
    world.tagged("good", &["1.0.0"]);
    let _operator = bed.operator().env("OPENDEPOT_LEADER_ELECT", "false").start_ready().await.unwrap();
    let of_events = Silent::on(&hung, (&["CREATE"], &["events"]), (25, false)).await;
    // There are no such repositories.
    let failing = (0..8).map(|number| {
        let module = hung.module(&format!("failing-{number}")).versions(&["1.0.0"]);
        format!("---\n{module}\n")
    });
    hung.apply(&failing.collect::<String>());
    of_events.is_asked(&hung).await;
    let concerned = (&["UPDATE"][..], &["modules", "modules/status", "versions", "versions/status"][..]);
    let hangs = Silent::on(&hung, concerned, (25, false)).await;
    let both = (0..40).map(|number| {
        let module = hung.module(&format!("hung-{number}")).versions(&["1.0.0"]);
        let mut inline = hung.inline_of(&format!("inline-{number}"), &module);
        if number % 2 == 0 {
            // The first write of such a Version is that of its status.
            inline["metadata"]["finalizers"] = json!([FINALIZER]);
        }
        format!("---\n{module}\n---\n{inline}\n")
    });
    hung.apply(&both.collect::<String>());
    hangs.is_asked(&hung).await;
    good_is_published(&world, world.module("good").s3("bucket", json!(hung.name))).await;
    world.events("good-1.0.0", "Synced").await;
    hangs.end(&hung);
    of_events.end(&hung);
    for world in [&hung, &world] {
        world.kubectl(&[
            "delete",
            "modules.opendepot.defdev.io,versions.opendepot.defdev.io",
            "--all",
            "--timeout=180s",
        ]);
    }
}

/// The list takes 13 s. No single answer is slow.
#[tokio::test]
async fn a_long_list_behind_a_slow_webhook_does_not_delay_its_own_status() {
    let world = World::new("webhook-status").await;
    let _operator = world.operator().await;
    let hook = Silent::on(&world, (&["CREATE"], &["versions"]), (1, true)).await;
    let all: Vec<String> = (0..100).map(|n| format!("1.{n}.0")).collect();
    // There is no such repository.
    world.apply(&world.module("slow").versions(&all.iter().map(String::as_str).collect::<Vec<_>>()));
    let failing =
        |m: &Value| condition(m, "Ready")["message"].as_str().is_some_and(|m| m.contains("failed; first"));
    world.module_when("slow", failing).await;
    let made = world.versions().await.unwrap().len();
    assert!(made < all.len(), "the status waited for the last of {made} Versions");
    hook.end(&world);
}

/// A long list takes minutes to make behind a slow webhook; a suspension does not wait for its end.
#[tokio::test]
async fn a_module_that_is_suspended_while_its_versions_are_made_gets_no_more() {
    let world = World::new("webhook-slow").await;
    let slow = Silent::on(&world, (&["CREATE"], &["versions"]), (1, true)).await;
    let _operator = world.operator().await;
    let all: Vec<String> = (0..300).map(|n| format!("1.{n}.0")).collect();
    let mark = world.bed.kubernetes.audit().position().unwrap();
    world.apply(&world.module("mod").versions(&all.iter().map(String::as_str).collect::<Vec<_>>()));
    slow.is_asked(&world).await;
    let suspend = Patch::Merge(json!({"spec": {"suspend": true}}));
    world.api::<Module>().patch("mod", &PatchParams::default(), &suspend).await.unwrap();
    world.module_when("mod", |m| condition(m, "Ready")["reason"] == "Suspended").await;
    world.quiet().await;
    let (asked, _) = creates(&world, mark);
    assert!(asked < 200, "{asked} of 300 Versions were made of a Module that is suspended");
    slow.end(&world);
}
