//! What happens to a module that is not changed: it is left alone while it is suspended, looked at on an interval, and
//! reported truthfully while S3 is out of reach.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::Method;
use opendepot_testbed::github::{Failure, Fault, File};
use opendepot_testbed::operator::Operator;
use opendepot_testbed::s3::{S3Failure, S3Fault};
use serde_json::{Value, json};

use crate::support::archives::sha256;
use crate::support::requests::main_tf;
use crate::support::{World, condition, key, ready, soon};

/// A world whose repository `NAME/mod` has so many versions `v1.N.0`.
async fn world_with(name: &str, versions: usize) -> World {
    let world = World::new(name).await;
    let repository = world.bed.github.repository(&world.repository("mod")).unwrap();
    let files = |n| vec![File::new("main.tf", format!("# {n}\n"))];
    repository.releases((0..versions).map(|n| (format!("v1.{n}.0"), files(n)))).unwrap();
    world
}

/// The Module of all of them.
async fn publish_all(world: &World, versions: usize) -> Vec<Value> {
    let listed: Vec<String> = (0..versions).map(|n| format!("1.{n}.0")).collect();
    world.apply(&world.module("mod").versions(&listed.iter().map(String::as_str).collect::<Vec<_>>()));
    world.module_ready("mod").await;
    world.versions().await.unwrap()
}

/// Waits until the objects were looked at this many times from now on.
async fn looked_at(world: &World, times: usize) {
    let before = world.counts("mod");
    world.until("looks at the objects", || (world.counts("mod") - before).heads >= times).await;
}

fn suspended(object: &Value) -> bool {
    let ready = condition(object, "Ready");
    ready["reason"] == "Suspended" && ready["observedGeneration"] == object["metadata"]["generation"]
}

#[tokio::test]
async fn while_a_module_is_suspended_nothing_happens() {
    let world = world_with("suspend-module", 5).await;
    let operator = world.operator_with(&["--verify-interval", "1s"]).await;
    let before = publish_all(&world, 3).await;
    world.patch("module/mod", &json!({"spec": {"suspend": true}}));
    let module = world.module_when("mod", suspended).await;
    assert_eq!(
        (&module["status"]["synced"], &module["status"]["versions"]["summary"]),
        (&json!(true), &json!("3/3"))
    );
    for version in &before {
        let version = world.version_when(version["metadata"]["name"].as_str().unwrap(), suspended).await;
        assert_eq!(
            (&version["spec"]["moduleSuspended"], &version["status"]["synced"]),
            (&json!(true), &json!(true))
        );
    }
    world.quiet().await;
    let shown = |v: &[Value]| -> Vec<Value> { v.iter().map(|v| json!([v["spec"], v["status"]])).collect() };
    let (fetched, versions) = (world.counts("mod").github, shown(&world.versions().await.unwrap()));
    world.bed.s3.forget_requests(&world.name);

    // One more, one less, fewer by a limit, another place, a force; an object that is lost; and a restart.
    let entries =
        json!([{"version": "1.1.0"}, {"version": "1.2.0"}, {"version": "1.3.0"}, {"version": "1.4.0"}]);
    let config = json!({"versionHistoryLimit": 1, "name": "other"});
    let writes = world
        .writes_during(async {
            world.bed.s3.delete(&world.name, &key(&before[0])).await.unwrap();
            world.bed.s3.forget_requests(&world.name);
            world.patch(
                "module/mod",
                &json!({"spec": {"versions": entries, "moduleConfig": config, "forceSync": true}}),
            );
            world.module_when("mod", suspended).await;
            world.request("version/mod-1.1.0", "now");
            operator.restart().await.unwrap();
        })
        .await;
    assert!(writes.iter().all(|w| w.resource == "modules" && w.subresource == "status"), "{writes:#?}");
    assert_eq!(shown(&world.versions().await.unwrap()), versions);
    assert_eq!((world.counts("mod").github, world.bed.s3.requests(&world.name).len()), (fetched, 0));

    // All of it is done when work resumes.
    world.patch("module/mod", &json!({"spec": {"suspend": false}}));
    world.versions_are(&["mod-1.4.0"]).await;
    let module = world.module_when("mod", |m| ready(m) && m["spec"]["forceSync"] == false).await;
    assert_eq!(module["status"]["versions"]["summary"], "1/1");
    assert_eq!(world.objects_are(1).await, [key(&world.version_ready("mod-1.4.0").await)]);

    // And a suspended Module can be deleted.
    world.patch("module/mod", &json!({"spec": {"suspend": true}}));
    world.version_when("mod-1.4.0", suspended).await;
    world.kubectl(&["delete", "module", "mod"]);
    world.versions_are(&[]).await;
    world.objects_are(0).await;
}

#[tokio::test]
async fn a_version_s_own_suspension_survives_its_module_s_resume() {
    let world = world_with("suspend-version", 2).await;
    let _operator = world.operator_with(&["--verify-interval", "1s"]).await;
    let before = publish_all(&world, 2).await;
    world.patch("version/mod-1.0.0", &json!({"spec": {"suspend": true}}));
    world.version_when("mod-1.0.0", suspended).await;
    let module = world.module_ready("mod").await;
    assert_eq!(module["status"]["versions"]["summary"], "2/2", "what is stored is stored");

    // Neither a force nor a move nor its object's loss moves it; the other one continues.
    world.bed.s3.delete(&world.name, &key(&before[0])).await.unwrap();
    world.patch("version/mod-1.0.0", &json!({"spec": {"forceSync": true}}));
    world.patch("module/mod", &json!({"spec": {"moduleConfig": {"name": "renamed"}}}));
    let there = |v: &Value| ready(v) && key(v).starts_with("renamed/");
    world.version_when("mod-1.1.0", there).await;
    let module = world.module_when("mod", suspended).await;
    let message = condition(&module, "Ready")["message"].as_str().unwrap();
    assert_eq!(message, "1 of 2 versions stored, 1 suspended by spec.suspend of the Version; first 1.0.0.");
    for resting in ["Reconciling", "Stalled"] {
        assert_eq!(
            condition(&module, resting)["status"],
            "False",
            "a Module that waits for its resumption rests"
        );
    }

    // The Module's suspension begins and ends, and this one stays.
    for suspend in [true, false] {
        world.patch("module/mod", &json!({"spec": {"suspend": suspend}}));
        let heard =
            |v: &Value| suspended(v) && v["spec"]["moduleSuspended"].as_bool().unwrap_or(false) == suspend;
        let version = world.version_when("mod-1.0.0", heard).await;
        assert_eq!(version["spec"]["suspend"], true, "it is the user's");
    }
    world.version_when("mod-1.1.0", there).await;
    let fetched = world.counts("mod").github;
    world.quiet().await;
    world.objects_are(1).await;
    assert_eq!(world.counts("mod").github, fetched);

    world.patch("version/mod-1.0.0", &json!({"spec": {"suspend": false}}));
    world.version_when("mod-1.0.0", |v| there(v) && v["spec"]["forceSync"] == false).await;
    world.module_ready("mod").await;
    world.objects_are(2).await;

    // A suspended Version can be deleted; its Module makes it again.
    world.patch("version/mod-1.0.0", &json!({"spec": {"suspend": true}}));
    let old = world.version_when("mod-1.0.0", suspended).await;
    world.kubectl(&["delete", "version", "mod-1.0.0"]);
    world.version_when("mod-1.0.0", |v| ready(v) && v["metadata"]["uid"] != old["metadata"]["uid"]).await;
    world.objects_are(2).await;
}

#[tokio::test]
async fn a_module_whose_configuration_cannot_be_used_can_still_be_suspended() {
    let world = world_with("suspend-broken", 1).await;
    let _operator = world.operator().await;
    publish_all(&world, 1).await;
    // 512 characters are all that the schema counts; S3 counts bytes.
    let long = "ü".repeat(512);
    world.patch("module/mod", &json!({"spec": {"moduleConfig": {"storageConfig": {"s3": {"key": long}}}}}));
    world.module_when("mod", |m| condition(m, "Stalled")["reason"] == "InvalidSpec").await;
    world.patch("module/mod", &json!({"spec": {"suspend": true}}));
    world.module_when("mod", suspended).await;
    world.version_when("mod-1.0.0", suspended).await;
    world.objects_are(1).await;
}

#[tokio::test]
async fn a_lost_or_damaged_object_is_restored_and_a_clean_look_writes_nothing() {
    let world = world_with("verify", 1).await;
    let operator = world.operator_with(&["--verify-interval", "1s"]).await;
    let version = publish_all(&world, 1).await.remove(0);
    let (key, bytes) = (key(&version), world.stored(&version).await);
    let s3 = &world.bed.s3;
    let writes = world.writes_during(async { looked_at(&world, 3).await }).await;
    assert!(writes.is_empty(), "a clean verification writes nothing: {writes:#?}");
    let looked_at = world.version_ready("mod-1.0.0").await;
    assert_eq!(looked_at["status"], version["status"]);

    let mut since = version["status"]["lastSyncTime"].as_str().unwrap().to_owned();
    let other = || Some(vec![b'x'; bytes.len()]);
    for (what, damaged, with_sha256) in [
        ("lost", None, false),
        ("cut short", Some(b"damaged".to_vec()), true),
        ("other bytes", other(), true),
        // As `aws s3 cp` stores them: of the same size, without a SHA-256 and without our metadata.
        ("other bytes without a SHA-256", other(), false),
    ] {
        // Times have whole seconds.
        let second = || async {
            let now = jiff::Timestamp::now().to_string();
            anyhow::ensure!(
                now.as_str() > since.as_str() && !now.starts_with(&since[..19]),
                "the same second"
            );
            Ok(())
        };
        soon(second).await;
        match damaged {
            None => s3.delete(&world.name, &key).await.unwrap(),
            Some(damaged) => {
                let put = s3.client().put_object().bucket(&world.name).key(&key);
                let put = put.set_checksum_sha256(with_sha256.then(|| sha256(&damaged)));
                if !with_sha256 {
                    // This store keeps the metadata of an object that is replaced, and S3 does not.
                    operator.kill().await.unwrap();
                    s3.delete(&world.name, &key).await.unwrap();
                }
                put.body(damaged.into()).send().await.unwrap();
                if !with_sha256 {
                    operator.restart().await.unwrap();
                }
            }
        }
        let repaired = |v: &Value| ready(v) && v["status"]["lastSyncTime"].as_str().unwrap() > since.as_str();
        let repaired = world.version_when("mod-1.0.0", repaired).await;
        assert_eq!(s3.get(&world.name, &key).await.unwrap(), bytes, "{what}");
        assert_eq!(repaired["status"]["checksum"], version["status"]["checksum"], "{what}");
        assert_eq!(repaired["status"]["objects"], version["status"]["objects"], "{what}");
        since = repaired["status"]["lastSyncTime"].as_str().unwrap().to_owned();
    }
}

#[tokio::test]
async fn an_answer_of_another_server_is_no_loss() {
    let world = world_with("verify-pages", 1).await;
    let _operator = world.operator_with(&["--verify-interval", "1s"]).await;
    let version = publish_all(&world, 1).await.remove(0);
    let fetched = world.counts("mod").github;
    for status in [404, 200] {
        world.bed.s3.inject(S3Fault::new(&world.name, S3Failure::Page(status)));
        world.version_fails("mod-1.0.0", "StorageUnavailable").await;
        let failing = world.get_version("mod-1.0.0").await.unwrap().unwrap();
        assert_eq!(failing["status"]["synced"], true, "HTTP {status}");
        world.bed.s3.clear_faults(&world.name);
        world.version_ready("mod-1.0.0").await;
    }
    assert_eq!((world.counts("mod").github, world.counts("mod").puts), (fetched, 1));
    assert_eq!(world.stored(&version).await, world.stored(&world.version_ready("mod-1.0.0").await).await);
}

#[tokio::test]
async fn an_object_that_is_damaged_while_a_refetch_fails_is_not_called_stored() {
    let world = world_with("verify-failing", 1).await;
    let _operator = world.operator().await;
    let version = publish_all(&world, 1).await.remove(0);
    world.bed.github.inject(Fault::on(&world.repository("mod"), Failure::Status(502)));
    world.patch("version/mod-1.0.0", &json!({"spec": {"forceSync": true}}));
    world.version_fails("mod-1.0.0", "GitHubUnavailable").await;
    let failing = world.get_version("mod-1.0.0").await.unwrap().unwrap();
    assert_eq!(failing["status"]["synced"], true, "the object is intact");
    world.bed.s3.put(&world.name, &key(&version), b"damaged".to_vec()).await.unwrap();
    world.request("version/mod-1.0.0", "now");
    world.version_when("mod-1.0.0", |v| v["status"]["synced"] == false).await;
    world.bed.github.clear_faults(&world.repository("mod")).unwrap();
    let healed = world.version_ready("mod-1.0.0").await;
    assert_eq!(healed["status"]["checksum"], version["status"]["checksum"]);
}

#[tokio::test]
async fn an_object_that_is_lost_while_its_version_is_wanted_elsewhere_is_not_called_stored() {
    let world = world_with("verify-elsewhere", 1).await;
    let _operator = world.operator_with(&["--verify-interval", "1s"]).await;
    let version = publish_all(&world, 1).await.remove(0);
    let (key, bytes) = (key(&version), world.stored(&version).await);
    let elsewhere = json!({"endpoint": "http://not-allowed.example"});
    world.patch("module/mod", &json!({"spec": {"moduleConfig": {"storageConfig": {"s3": elsewhere}}}}));
    world.version_fails("mod-1.0.0", "EndpointNotAllowed").await;
    world.quiet().await;
    let failing = world.get_version("mod-1.0.0").await.unwrap().unwrap();
    assert_eq!(failing["status"]["synced"], true, "the object is intact");
    let writes = world.writes_during(async { looked_at(&world, 3).await }).await;
    assert!(writes.is_empty(), "a clean verification writes nothing: {writes:#?}");

    let s3 = &world.bed.s3;
    for (what, there, owner) in [
        ("nothing", None, None),
        ("other bytes", Some(b"damaged".to_vec()), None),
        ("the bytes, of another Version", Some(bytes.clone()), Some("another")),
    ] {
        if let Some(there) = there {
            let put = s3.client().put_object().bucket(&world.name).key(&key).checksum_sha256(sha256(&there));
            let put = put.metadata("opendepot-namespace", &world.name);
            let put = put.metadata("opendepot-version-name", owner.unwrap_or("mod-1.0.0"));
            put.body(there.into()).send().await.unwrap();
        } else {
            s3.delete(&world.name, &key).await.unwrap();
        }
        let lost = world.version_when("mod-1.0.0", |v| v["status"]["synced"] == false).await;
        world.module_when("mod", |m| m["status"]["latestVersion"].is_null()).await;
        s3.delete(&world.name, &key).await.unwrap();
        s3.put_with_sha256(&world.name, &key, bytes.clone()).await.unwrap();
        let back = world.version_when("mod-1.0.0", |v| v["status"]["synced"] == true).await;
        world.module_when("mod", |m| m["status"]["latestVersion"] == "1.0.0").await;
        for same in ["conditions", "storage", "objects", "checksum"] {
            assert_eq!(lost["status"][same], failing["status"][same], "{what}: {same}");
            assert_eq!(back["status"][same], failing["status"][same], "{what}: {same}");
        }
    }
    assert_eq!(s3.keys(&world.name).await.unwrap(), [key]);
}

/// When each object was looked at, each time in milliseconds of the interval.
fn phases(world: &World, since: SystemTime, interval: Duration) -> BTreeMap<String, Vec<u128>> {
    let looks = world.bed.s3.requests(&world.name).into_iter();
    let looks = looks.filter(|r| r.method == Method::HEAD && !r.key.is_empty() && r.at > since);
    let phase = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap().as_millis() % interval.as_millis();
    let mut all: BTreeMap<String, Vec<u128>> = BTreeMap::new();
    for look in looks {
        all.entry(look.key).or_default().push(phase(look.at));
    }
    all
}

/// The same, once each of so many objects was looked at three times.
async fn all_looked_at(
    world: &World,
    since: SystemTime,
    interval: Duration,
    count: usize,
) -> BTreeMap<String, Vec<u128>> {
    soon(|| async {
        let phases = phases(world, since, interval);
        let often = phases.values().filter(|looks| looks.len() >= 3).count();
        anyhow::ensure!(often == count, "{often} of {count} were looked at three times");
        Ok(phases)
    })
    .await
}

#[tokio::test]
async fn verifications_are_spread_over_the_interval_and_a_restart_does_not_bunch_them() {
    const MANY: usize = 16;
    let interval = Duration::from_secs(8);
    let world = world_with("verify-spread", MANY).await;
    let operator = world.operator_with(&["--verify-interval", "8s"]).await;
    publish_all(&world, MANY).await;
    let before = all_looked_at(&world, SystemTime::now(), interval, MANY).await;
    let spread = |phases: &BTreeMap<String, Vec<u128>>| {
        // The widest part of the interval, seen as a circle, in which none is verified at first.
        let mut sorted: Vec<u128> = phases.values().map(|looks| looks[0]).collect();
        sorted.sort_unstable();
        sorted.push(sorted[0] + interval.as_millis());
        let gap = sorted.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert!(gap < interval.as_millis() * 6 / 10, "no look for {gap} ms: {phases:?}");
    };
    spread(&before);
    operator.restart().await.unwrap();
    let after = all_looked_at(&world, SystemTime::now(), interval, MANY).await;
    spread(&after);
    let apart = |a: u128, b: u128| a.abs_diff(b).min(interval.as_millis() - a.abs_diff(b));
    // A busy machine makes single looks late.
    let nearest = |key: &String, looks: &[u128]| {
        let of = |look: &u128| before[key].iter().map(|old| apart(*look, *old)).min();
        looks.iter().filter_map(of).min().unwrap()
    };
    let moved: Vec<_> = after.iter().map(|(key, looks)| nearest(key, looks)).collect();
    let kept = moved.iter().filter(|by| **by < interval.as_millis() / 8).count();
    assert!(kept > MANY / 2, "each keeps its moment, by how many ms not: {moved:?}");
}

#[tokio::test]
async fn with_an_interval_of_zero_nobody_looks_until_a_force_does() {
    let world = world_with("verify-never", 1).await;
    let operator = world.operator_with(&["--verify-interval", "0"]).await;
    let version = publish_all(&world, 1).await.remove(0);
    let bytes = world.stored(&version).await;
    world.bed.s3.delete(&world.name, &key(&version)).await.unwrap();
    world.bed.s3.forget_requests(&world.name);
    // Whatever else happens: a patch, a suspension, a restart, the Module's next version.
    world.patch("module/mod", &json!({"spec": {"moduleConfig": {"immutable": true}}}));
    world.module_ready("mod").await;
    for suspend in [true, false] {
        world.patch("module/mod", &json!({"spec": {"suspend": suspend}}));
        world.version_when("mod-1.0.0", |v| suspended(v) == suspend && (suspend || ready(v))).await;
    }
    operator.restart().await.unwrap();
    world.quiet().await;
    assert_eq!(world.bed.s3.requests(&world.name), []);
    world.objects_are(0).await;
    world.patch("module/mod", &json!({"spec": {"forceSync": true}}));
    world.objects_are(1).await;
    let version = world.version_ready("mod-1.0.0").await;
    assert_eq!(world.stored(&version).await, bytes);
}

/// An outage of this test's bucket, until it is ended.
fn outage(world: &World) {
    world.bed.s3.inject(S3Fault::new(&world.name, S3Failure::CutBefore));
}

fn out_of_reach(object: &Value) -> bool {
    let ready = condition(object, "Ready");
    ready["status"] == "False" && ready["message"].as_str().unwrap().contains("no answer from S3")
}

/// The statuses of `Ready` and its transition times, without repetitions.
fn transitions(states: &[Value]) -> Vec<(String, String)> {
    let text = |c: &Value, field: &str| c[field].as_str().unwrap_or_default().to_owned();
    let ready = states.iter().map(|s| condition(s, "Ready"));
    let mut all: Vec<_> = ready.map(|c| (text(c, "status"), text(c, "lastTransitionTime"))).collect();
    all.dedup();
    all
}

#[tokio::test]
async fn an_outage_is_one_flip_and_what_cannot_be_seen_stays_synced() {
    let world = world_with("outage-seen", 1).await;
    let _operator: Operator = world.operator_with(&["--verify-interval", "1s"]).await;
    let before = publish_all(&world, 1).await.remove(0);
    let watched = world.watched().await;
    outage(&world);
    world.version_when("mod-1.0.0", out_of_reach).await;
    let module = world.module_when("mod", out_of_reach).await;
    assert_eq!(
        (&module["status"]["synced"], &module["status"]["latestVersion"]),
        (&json!(true), &json!("1.0.0"))
    );
    // At least two more attempts, each of them three requests.
    looked_at(&world, 6).await;
    world.bed.s3.clear_faults(&world.name);
    let after = world.version_ready("mod-1.0.0").await;
    world.module_ready("mod").await;
    looked_at(&world, 2).await;
    for object in ["Version/mod-1.0.0", "Module/mod"] {
        let states = watched.states(&world, object).await;
        assert!(states.iter().all(|s| s["status"]["synced"] == true), "{object}");
        let flips = transitions(&states);
        let statuses: Vec<&str> = flips.iter().map(|(status, _)| status.as_str()).collect();
        assert_eq!(statuses, ["True", "False", "True"], "{object}: {flips:?}");
    }
    watched.is_by_the_book(&world).await;
    for same in ["lastSyncTime", "checksum", "objects", "storage", "source"] {
        assert_eq!(after["status"][same], before["status"][same], "{same}");
    }
    assert_eq!(world.counts("mod").puts, 1, "nothing was stored twice");
}

#[tokio::test]
async fn an_outage_in_the_middle_of_a_publish_or_a_move_is_told_and_ends_by_itself() {
    let world = world_with("outage-work", 2).await;
    let _operator = world.operator().await;
    publish_all(&world, 1).await;
    let watched = world.watched().await;
    outage(&world);
    let entries = json!([{"version": "1.0.0"}, {"version": "1.1.0"}]);
    world.patch("module/mod", &json!({"spec": {"versions": entries, "moduleConfig": {"name": "renamed"}}}));
    let moving = world.version_when("mod-1.0.0", out_of_reach).await;
    let new = world.version_when("mod-1.1.0", out_of_reach).await;
    assert_eq!((&moving["status"]["synced"], &new["status"]["synced"]), (&json!(true), &json!(false)));
    let shown = |m: &Value| out_of_reach(m) && m["status"]["versions"]["failed"] == 2;
    let module = world.module_when("mod", shown).await;
    let message = condition(&module, "Ready")["message"].as_str().unwrap();
    assert!(
        message.starts_with("0 of 2 versions stored, 2 failed; first 1.0.0: StorageUnavailable: "),
        "{message}"
    );
    assert_eq!(
        (&module["status"]["synced"], &module["status"]["latestVersion"]),
        (&json!(false), &json!("1.0.0"))
    );
    world.bed.s3.clear_faults(&world.name);
    world.module_ready("mod").await;
    assert_eq!(world.objects_are(2).await.iter().filter(|key| key.starts_with("renamed/")).count(), 2);
    for (object, expected) in [
        ("Version/mod-1.0.0", &["True", "False", "True"][..]),
        ("Version/mod-1.1.0", &["", "False", "True"]),
        ("Module/mod", &["True", "False", "True"]),
    ] {
        let flips = transitions(&watched.states(&world, object).await);
        assert_eq!(flips.iter().map(|(status, _)| status.as_str()).collect::<Vec<_>>(), expected, "{object}");
    }
    watched.is_by_the_book(&world).await;
}

#[tokio::test]
async fn an_object_that_was_cut_to_nothing_is_restored() {
    let world = World::new("cut").await;
    world.released("mod");
    let _operator = world.operator_with(&["--verify-interval", "1s"]).await;
    world.apply(&world.inline("mod"));
    let version = world.version_ready("mod").await;
    let bytes = world.stored(&version).await;
    let storage = &version["status"]["storage"];
    let (bucket, key) = (storage["bucket"].as_str().unwrap(), storage["key"].as_str().unwrap());
    // The store still states the checksum of what was there.
    let file = world.bed.s3.object_file(bucket, key);
    std::fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(0).unwrap();
    soon(|| async {
        anyhow::ensure!(std::fs::read(&file)? == bytes, "it is not whole");
        Ok(())
    })
    .await;
    world.version_ready("mod").await;
}

/// A refetch was refused, and is repeated in an hour at the earliest. The object is lost meanwhile.
#[tokio::test]
async fn an_object_that_is_lost_while_its_version_is_stalled_is_noticed() {
    let world = World::new("lost-stalled").await;
    let repository = world.released("mod");
    let _operator = world.operator_with(&["--verify-interval", "2s"]).await;
    let mut version = world.inline("mod");
    version["spec"]["moduleConfigRef"]["immutable"] = json!(true);
    world.apply(&version);
    world.version_ready("mod").await;
    let commit = repository.commit_of("v1.0.0").unwrap();
    repository.release("v1.0.0", &main_tf("# moved\n")).unwrap();
    world.force("version/mod");
    let stalled = |version: &Value| condition(version, "Ready")["reason"] == "ImmutableContentChanged";
    let version =
        world.version_when("mod", |version| stalled(version) && version["spec"]["forceSync"] == false).await;
    assert_eq!(version["status"]["synced"], true);
    world.bed.s3.delete(&world.name, &key(&version)).await.unwrap();
    world.version_when("mod", |version| version["status"]["synced"] == false && stalled(version)).await;
    world.events("mod", "Restoring").await;
    repository.tag("v1.0.0", &commit).unwrap();
    world.request("version/mod", "again");
    let back = world.version_ready("mod").await;
    assert_eq!(key(&back), key(&version));
}
