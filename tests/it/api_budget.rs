//! What things cost, counted from the API server's audit log and the request logs of GitHub and S3.

use std::time::{Duration, Instant};

use opendepot_testbed::control_plane::AuditEntry;
use opendepot_testbed::eventually;
use serde_json::json;

use crate::support::requests::main_tf;
use crate::support::{World, ready};

/// Writes by resource, with their subresource: `versions`, `versions/status`, …
fn count(writes: &[AuditEntry], verb: &str, resource: &str) -> usize {
    let name = |w: &AuditEntry| {
        if w.subresource.is_empty() {
            w.resource.clone()
        } else {
            format!("{}/{}", w.resource, w.subresource)
        }
    };
    writes.iter().filter(|w| (verb.is_empty() || w.verb == verb) && name(w) == resource).count()
}

#[tokio::test]
async fn publishing_one_version_costs_what_the_specification_allows() {
    let world = World::new("cost-one").await;
    let repository = world.repository("tagged");
    let tagged = world.bed.github.repository(&repository).unwrap();
    tagged.release("1.0.0", &main_tf("# one\n")).unwrap();
    tagged.release("v2.0.0", &main_tf("# two\n")).unwrap();
    let _operator = world.operator().await;

    // As written: redirect and archive. With the other spelling: both once more.
    for (version, requests) in [("1.0.0", 2), ("2.0.0", 4)] {
        world.bed.github.forget_requests(&repository).unwrap();
        world.bed.s3.forget_requests(&world.name);
        let name = format!("cost{}", &version[..1]);
        let module = world
            .module(&name)
            .config("repoUrl", json!(format!("https://github.com/{repository}")))
            .versions(&[version]);
        let writes = world
            .writes_during(async {
                world.apply(&module);
                world.module_ready(&name).await;
            })
            .await;
        assert_eq!(count(&writes, "create", "versions"), 1, "{writes:#?}");
        assert!(
            count(&writes, "patch", "versions") + count(&writes, "", "versions/status") <= 3,
            "{writes:#?}"
        );
        assert!(
            count(&writes, "patch", "modules") == 1 && count(&writes, "", "modules/status") <= 4,
            "{writes:#?}"
        );
        assert_eq!(world.bed.github.requests(&repository).unwrap().len(), requests, "{version}");
        assert_eq!(world.counts("tagged").puts, 1);
        assert!(world.counts("tagged").heads <= 3);
        let writes = world.writes_during(async { drop(world.kubectl(&["delete", "module", &name])) }).await;
        assert_eq!(count(&writes, "patch", "modules"), 1, "to take the finalizer off: {writes:#?}");
    }
}

#[tokio::test]
async fn an_inline_version_works_by_itself_and_costs_one_write_more() {
    let world = World::new("cost-inline").await;
    world
        .bed
        .github
        .repository(&world.repository("alone"))
        .unwrap()
        .release("v1.0.0", &main_tf("# inline\n"))
        .unwrap();
    let _operator = world.operator().await;
    let config = world.module("alone").0["spec"]["moduleConfig"].clone();
    let version = json!({
        "apiVersion": "opendepot.defdev.io/v1alpha1", "kind": "Version",
        "metadata": {"name": "one-off", "namespace": world.name},
        "spec": {"type": "Module", "version": "v1.0.0", "moduleConfigRef": config},
    });
    let writes = world
        .writes_during(async {
            world.apply(&version);
            world.version_ready("one-off").await;
        })
        .await;
    assert!(writes.len() <= 4 && count(&writes, "patch", "versions") == 1, "{writes:#?}");
    let key = world.objects_are(1).await.remove(0);
    assert!(key.starts_with("one-off/") && key.rsplit('.').next() == Some("zip"), "{key}");
    world.kubectl(&["delete", "version.opendepot.defdev.io", "one-off"]);
    world.objects_are(0).await;
}

#[tokio::test]
async fn a_hundred_versions_rest_append_and_restart() {
    let world = World::new("cost-hundred").await;
    let repository = world.repository("many");
    let versions: Vec<String> = (0..100).map(|n| format!("1.{n}.0")).collect();
    let many = world.bed.github.repository(&repository).unwrap();
    many.releases(versions.iter().map(|v| (v.clone(), main_tf(&format!("# {v}\n"))))).unwrap();
    many.release("2.0.0", &main_tf("# appended\n")).unwrap();
    let operator = world.operator().await;
    let listed: Vec<&str> = versions.iter().map(String::as_str).collect();
    let module = world.module("many").versions(&listed);

    let started = Instant::now();
    let mut took = Duration::ZERO;
    let writes = world
        .writes_during(async {
            world.apply(&module);
            // Other tests run at the same time.
            let all = eventually(Duration::from_mins(5), || async {
                let module = world.get_module("many").await?;
                anyhow::ensure!(ready(&module), "{:#}", module["status"]);
                Ok(())
            });
            all.await.unwrap();
            took = started.elapsed();
        })
        .await;
    assert_eq!(count(&writes, "create", "versions"), 100);
    assert!(count(&writes, "patch", "versions") + count(&writes, "", "versions/status") <= 300);
    let seconds = usize::try_from(took.as_secs()).unwrap() + 1;
    // Counts alone are written more and more seldom.
    let most = if seconds <= 60 { seconds.min(15) } else { 24 * seconds.div_ceil(180) };
    assert!(
        count(&writes, "", "modules/status") <= most + 3,
        "{} in {took:?}",
        count(&writes, "", "modules/status")
    );
    assert_eq!(world.bed.github.requests(&repository).unwrap().len(), 200);
    assert_eq!((world.counts("many").puts, world.objects_are(100).await.len()), (100, 100));
    assert!(world.counts("many").heads <= 300);
    println!("100 versions: {took:?}, {} API writes, memory {:?}", writes.len(), operator.memory().unwrap());

    // At rest, at re-apply and after a restart: nothing.
    world.bed.github.forget_requests(&repository).unwrap();
    world.bed.s3.forget_requests(&world.name);
    let silent = async || {
        assert!(world.bed.github.requests(&repository).unwrap().is_empty());
        assert_eq!(world.counts("many").puts, 0);
    };
    let writes = world.writes_during(async { world.apply(&module) }).await;
    assert!(writes.is_empty(), "{writes:#?}");
    silent().await;
    let writes = world
        .writes_during(async {
            operator.restart().await.unwrap();
        })
        .await;
    assert!(writes.is_empty(), "{writes:#?}");
    silent().await;

    // One more costs one create and a bounded number of status writes.
    let append = r#"[{"op":"add","path":"/spec/versions/-","value":{"version":"2.0.0"}}]"#;
    let started = Instant::now();
    let writes = world
        .writes_during(async {
            world.kubectl(&["patch", "module", "many", "--type=json", "-p", append]);
            world.module_when("many", |m| ready(m) && m["status"]["versions"]["summary"] == "101/101").await;
        })
        .await;
    let seconds = usize::try_from(started.elapsed().as_secs()).unwrap() + 1;
    assert_eq!(count(&writes, "create", "versions"), 1);
    assert!(
        count(&writes, "", "versions/status") <= 3 && count(&writes, "patch", "versions") == 0,
        "{writes:#?}"
    );
    assert!(count(&writes, "", "modules/status") <= seconds + 3, "{writes:#?}");
    println!("append one to 100: {} API writes", writes.len());
}
