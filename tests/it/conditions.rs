//! Conditions by the book: kstatus and the API conventions, in every state that a watch sees, and what people do with
//! them: `kubectl wait`, and reading a message.

use std::time::Duration;

use http::Method;
use kube::api::{Patch, PatchParams};
use opendepot::api::condition::MAX_MESSAGE;
use opendepot_testbed::github::{Failure, Fault, File, Format, Hop, Repository};
use opendepot_testbed::s3::{S3Failure, S3Fault};
use serde_json::{Value, json};

use crate::support::requests::message;
use crate::support::watched::Watched;
use crate::support::{World, condition, key, ready, soon};

fn files(text: &str) -> [File; 1] {
    [File::new("main.tf", format!("# {text}\n"))]
}

/// Whether a condition holds, at the object's generation.
fn holds(object: &Value, type_: &str) -> bool {
    let condition = condition(object, type_);
    condition["status"] == "True" && condition["observedGeneration"] == object["metadata"]["generation"]
}

/// The Module `mod` of a rich life, and all that is seen of it.
struct Life {
    world: World,
    repository: Repository,
    watched: Watched,
}

impl Life {
    async fn new(name: &str) -> Self {
        let world = World::new(name).await;
        let repository = world.released("mod");
        let watched = world.watched().await;
        Self { world, repository, watched }
    }

    fn versions(&self, versions: &[&str]) {
        let listed: Vec<Value> = versions.iter().map(|v| json!({"version": v})).collect();
        self.world.patch("module/mod", &json!({"spec": {"versions": listed}}));
    }

    fn fault(&self, failure: S3Failure, method: Method) {
        self.world.bed.s3.inject(S3Fault::new(&self.world.name, failure).method(method));
    }

    fn mend(&self) {
        self.world.bed.s3.clear_faults(&self.world.name);
        self.world.bed.github.clear_faults(&self.world.repository("mod")).unwrap();
    }

    /// Fails in two ways at once: one version's tag is missing, another's archive is none. Both are mended in turn.
    async fn fails_and_stalls(&self) {
        let world = &self.world;
        self.repository.release("v1.2.0", &files("two")).unwrap();
        self.repository.replace_archive("v1.2.0", Format::Zip, b"<html>".to_vec()).unwrap();
        world.apply(&world.module("mod").versions(&["1.0.0", "1.1.0", "1.2.0"]));
        let reported = |m: &Value| {
            m["status"]["versions"]
                == json!({"desired": 3, "synced": 1, "failed": 2, "pruned": 0, "summary": "1/3"})
        };
        let module = world.module_when("mod", reported).await;
        assert_eq!(condition(&module, "Ready")["reason"], "VersionsFailed");
        assert!(holds(&module, "Reconciling"), "the missing tag may still appear");
        let expected = "1 of 3 versions stored, 2 failed; first 1.1.0: TagNotFound: repository ";
        assert!(message(&module).starts_with(expected), "{}", message(&module));
        let stalled = world.version_when("mod-1.2.0", |v| holds(v, "Stalled")).await;
        assert_eq!(condition(&stalled, "Stalled")["reason"], "NotAnArchive");
        assert!(holds(&world.get_version("mod-1.1.0").await.unwrap().unwrap(), "Reconciling"));

        self.repository.release("v1.1.0", &files("one")).unwrap();
        world.version_ready("mod-1.1.0").await;
        let module = world.module_when("mod", |m| holds(m, "Stalled")).await;
        let expected = "2 of 3 versions stored, 1 failed; first 1.2.0: NotAnArchive: ";
        assert!(message(&module).starts_with(expected), "{}", message(&module));
        assert_eq!(module["status"]["latestVersion"], "1.1.0");
        self.repository.restore_archives();
        world.patch("version/mod-1.2.0", &json!({"spec": {"forceSync": true}}));
        world.module_ready("mod").await;
    }

    /// GitHub asks to wait: the status names the time, and it is kept.
    async fn waits(&self) {
        let world = &self.world;
        self.repository.release("v1.3.0", &files("three")).unwrap();
        let limit = Failure::SecondaryLimit(429, Some(Duration::from_secs(15)));
        world.bed.github.inject(Fault::on(&world.repository("mod"), limit).times(1));
        self.versions(&["1.0.0", "1.1.0", "1.2.0", "1.3.0"]);
        let ready = world.version_ready("mod-1.3.0").await;
        let states = self.watched.states(world, "Version/mod-1.3.0").await;
        let waited = states.iter().find(|v| condition(v, "Ready")["reason"] == "RateLimited");
        let waiting = message(waited.expect("it said that it waits"));
        let until = waiting.split_once("until ").unwrap().1.split_whitespace().next().unwrap().to_owned();
        assert!(
            until.len() == 20 && until.parse::<jiff::Timestamp>().is_ok(),
            "a whole second, UTC: {waiting}"
        );
        let states = self.watched.states(world, "Module/mod").await;
        let ends_by_itself = |m: &Value| message(m).contains(&until) && holds(m, "Reconciling");
        assert!(states.iter().any(ends_by_itself), "the Module names the time too: {states:#?}");
        let since = condition(&ready, "Ready")["lastTransitionTime"].as_str().unwrap().to_owned();
        assert!(since >= until, "ready since {since}, asked to wait until {until}");
        world.module_ready("mod").await;
    }

    /// While an object is on its way neither the Module nor the Version is Ready, and both say what is in progress.
    async fn moves(&self) {
        let world = &self.world;
        self.fault(S3Failure::Hold, Method::PUT);
        world.patch("module/mod", &json!({"spec": {"moduleConfig": {"name": "renamed"}}}));
        let moving = |m: &Value| holds(m, "Reconciling") && m["status"]["synced"] == false;
        let module = world.module_when("mod", moving).await;
        assert_eq!(condition(&module, "Ready")["reason"], "Progressing");
        assert_eq!(module["status"]["latestVersion"], "1.3.0", "a release that is being moved is still one");
        let version = world.version_when("mod-1.0.0", |v| holds(v, "Reconciling")).await;
        assert_eq!(condition(&version, "Ready")["reason"], "Publishing");
        assert_eq!(version["status"]["synced"], true, "the old object is still stored as recorded");
        self.mend();
        world.module_ready("mod").await;
        world.objects_are(4).await;
    }

    async fn loses_an_object(&self) {
        let world = &self.world;
        let version = world.version_ready("mod-1.0.0").await;
        world.bed.github.inject(Fault::on(&world.repository("mod"), Failure::Hold).at(Hop::Codeload));
        world.bed.s3.delete(&world.name, &key(&version)).await.unwrap();
        let lost = world.version_when("mod-1.0.0", |v| condition(v, "Ready")["reason"] == "Restoring").await;
        assert!(holds(&lost, "Reconciling") && lost["status"]["synced"] == false);
        let module = world.module_when("mod", |m| holds(m, "Reconciling")).await;
        assert_eq!(
            (message(&module), &module["status"]["synced"]),
            ("3 of 4 versions stored, 1 in progress.", &json!(false))
        );
        self.mend();
        world.module_ready("mod").await;
    }

    async fn rests_and_goes_on(&self) {
        let world = &self.world;
        let resting = |o: &Value| {
            condition(o, "Ready")["reason"] == "Suspended" && !holds(o, "Reconciling") && !holds(o, "Stalled")
        };
        for object in ["module/mod", "version/mod-1.1.0"] {
            world.patch(object, &json!({"spec": {"suspend": true}}));
            world.version_when("mod-1.1.0", resting).await;
            world.patch(object, &json!({"spec": {"suspend": false}}));
            world.version_ready("mod-1.1.0").await;
            world.module_ready("mod").await;
        }
        for change in [
            json!({"immutable": true}),
            json!({"deletionPolicy": "Retain"}),
            json!({"deletionPolicy": "Delete"}),
        ] {
            world.patch("module/mod", &json!({"spec": {"moduleConfig": change}}));
            world.module_ready("mod").await;
        }
        world.patch("module/mod", &json!({"spec": {"forceSync": true}}));
        world.module_when("mod", |m| ready(m) && m["spec"]["forceSync"] == false).await;
        world.patch("version/mod-1.1.0", &json!({"spec": {"forceSync": true}}));
        world.version_when("mod-1.1.0", |v| ready(v) && v["spec"]["forceSync"] == false).await;
        world.module_ready("mod").await;
    }

    /// A Version that S3 does not let go keeps its Module from being Ready, which says why.
    async fn removes(&self) {
        let world = &self.world;
        self.fault(S3Failure::Answer(403, "AccessDenied"), Method::DELETE);
        self.versions(&["1.0.0", "1.1.0", "1.2.0"]);
        let refused = |m: &Value| message(m).contains("StorageAccessDenied");
        let module = world.module_when("mod", refused).await;
        let expected = "3 of 3 versions stored, 1 cannot be removed; first 1.3.0: StorageAccessDenied: ";
        assert!(
            message(&module).starts_with(expected) && holds(&module, "Reconciling"),
            "{}",
            message(&module)
        );
        assert_eq!(module["status"]["synced"], true, "all that is wanted is stored");
        self.mend();
        world.module_ready("mod").await;
        world.objects_are(3).await;
    }
}

#[tokio::test]
async fn every_state_that_a_watch_sees_in_a_rich_life_is_by_the_book() {
    let life = Life::new("book").await;
    let world = &life.world;
    let operator = world.operator_with(&["--verify-interval", "2s"]).await;
    life.fails_and_stalls().await;
    life.waits().await;
    life.moves().await;
    life.loses_an_object().await;
    operator.kill().await.unwrap();
    operator.restart().await.unwrap();
    life.rests_and_goes_on().await;
    life.removes().await;
    world.apply(&world.inline("mod"));
    world.version_ready("mod").await;
    world.kubectl(&["delete", "version", "mod"]);
    world.kubectl(&["delete", "module", "mod"]);
    world.versions_are(&[]).await;
    life.watched.is_by_the_book(world).await;
}

#[tokio::test]
async fn kubectl_wait_for_ready_ends_when_all_is_done_also_right_after_a_change() {
    let world = World::new("wait").await;
    let repository = world.released("mod");
    repository.release("v1.1.0", &files("one")).unwrap();
    let _operator = world.operator().await;
    // Slow enough that a condition of before the change would be seen.
    world.bed.s3.inject(S3Fault::new(&world.name, S3Failure::Delay(Duration::from_millis(300))));
    let wait = |object: &str| {
        world.kubectl(&["wait", "--for=condition=Ready", object, "--timeout=120s"]);
    };
    let stored = async |names: &[&str], prefix: &str| {
        let keys = world.bed.s3.keys(&world.name).await.unwrap();
        let mut expected: Vec<String> = Vec::new();
        for version in world.versions().await.unwrap() {
            assert!(
                ready(&version) && names.contains(&version["metadata"]["name"].as_str().unwrap()),
                "{version:#}"
            );
            expected.push(key(&version));
        }
        expected.sort();
        assert_eq!(
            (expected.len(), keys.iter().all(|k| k.starts_with(prefix))),
            (names.len(), true),
            "{keys:?}"
        );
        assert_eq!(keys, expected, "in the bucket");
    };
    let both = ["mod-1.0.0", "mod-1.1.0"];
    world.apply(&world.module("mod").versions(&["1.0.0"]));
    wait("module/mod");
    stored(&both[..1], "mod/").await;
    for (change, names, prefix) in [
        (json!({"versions": [{"version": "1.0.0"}, {"version": "1.1.0"}]}), &both[..], "mod/"),
        (json!({"moduleConfig": {"name": "renamed"}}), &both[..], "renamed/"),
        (json!({"moduleConfig": {"deletionPolicy": "Retain"}}), &both[..], "renamed/"),
        (json!({"moduleConfig": {"deletionPolicy": "Delete"}}), &both[..], "renamed/"),
        (json!({"versions": [{"version": "1.1.0"}]}), &both[1..], "renamed/"),
    ] {
        world.patch("module/mod", &json!({"spec": change}));
        wait("module/mod");
        let reported = world.versions().await.unwrap();
        assert!(
            reported.iter().all(|v| change["moduleConfig"].as_object().is_none_or(|c| {
                c.iter().all(|(field, value)| v["spec"]["moduleConfigRef"][field] == *value)
            })),
            "{change}"
        );
        stored(names, prefix).await;
    }
    world.kubectl(&["delete", "module", "mod"]);
    world.versions_are(&[]).await;

    world.apply(&world.inline("mod"));
    wait("version.opendepot.defdev.io/mod");
    stored(&["mod"], "mod/").await;
    world.patch("version/mod", &json!({"spec": {"moduleConfigRef": {"name": "renamed"}}}));
    wait("version.opendepot.defdev.io/mod");
    stored(&["mod"], "renamed/").await;
}

#[tokio::test]
async fn an_object_that_nobody_has_looked_at_yet_is_not_taken_for_done() {
    let world = World::new("unseen").await;
    world.apply(&world.module("mod").versions(&["1.0.0"]));
    world.apply(&world.inline("mod"));
    let module = world.get_module("mod").await.unwrap();
    let version = world.get_version("mod").await.unwrap().unwrap();
    for object in [module, version] {
        // What kstatus takes for work in progress, and `kubectl wait` waits for.
        assert_eq!(object["status"], json!({"observedGeneration": -1}));
    }
}

#[tokio::test]
async fn messages_are_cut_so_that_they_can_be_read_in_a_terminal() {
    let world = World::new("long").await;
    world.released("mod");
    let _operator = world.operator().await;
    world.bed.s3.inject(S3Fault::new(&world.name, S3Failure::Answer(403, "AccessDenied")));
    world.apply(&world.module("mod").s3("key", json!("long/".repeat(100) + "end")).versions(&["1.0.0"]));
    let reported = world.version_fails("mod-1.0.0", "StorageAccessDenied").await;
    assert!(reported.len() <= MAX_MESSAGE && reported.ends_with('…'), "{} bytes: {reported}", reported.len());
    let module = world.module_when("mod", |m| condition(m, "Ready")["reason"] == "StorageAccessDenied").await;
    assert!(
        message(&module).len() <= 400
            && message(&module).starts_with("0 of 1 version stored, 1 failed; first 1.0.0: ")
    );
}

#[tokio::test]
async fn a_wait_that_s3_asks_for_names_its_time_too() {
    let world = World::new("slow-down").await;
    world.released("mod");
    let _operator = world.operator().await;
    let slow = S3Fault::new(&world.name, S3Failure::RetryAfter(503, "SlowDown", 5)).method(Method::PUT);
    world.bed.s3.inject(slow);
    world.apply(&world.inline("mod"));
    let reported = world.version_fails("mod", "StorageThrottled").await;
    let until = reported.rsplit_once("not before ").unwrap().1.to_owned();
    assert!(until.len() == 20 && until.parse::<jiff::Timestamp>().is_ok(), "a whole second, UTC: {reported}");
    world.bed.s3.clear_faults(&world.name);
    let ready = world.version_ready("mod").await;
    let since = condition(&ready, "Ready")["lastTransitionTime"].as_str().unwrap().to_owned();
    assert!(since >= until, "ready since {since}, asked to wait until {until}");
}

#[tokio::test]
async fn a_retry_that_is_some_way_off_names_its_time_and_a_near_one_costs_no_write() {
    let world = World::new("next").await;
    let repository = world.released("mod");
    let operator = world.operator().await;
    world.apply(&world.module("mod").versions(&["1.0.0", "1.1.0"]));
    let near = world.version_fails("mod-1.1.0", "TagNotFound").await;
    assert!(!near.contains("Next attempt"), "{near}");
    // All else is done: what is written from here on is about the retries.
    world.version_ready("mod-1.0.0").await;
    let settled = |m: &Value| {
        condition(m, "Ready")["reason"] == "TagNotFound" && m["status"]["versions"]["synced"] == 1
    };
    let before = world.module_when("mod", settled).await;
    let fetches = || world.bed.github.requests(&world.repository("mod")).unwrap().len();
    let asked = fetches();
    let again = || async {
        anyhow::ensure!(fetches() >= asked + 2, "no further attempt");
        Ok(())
    };
    let writes = world.writes_during(async { soon(again).await }).await;
    assert!(writes.is_empty(), "{writes:#?}");

    // A tag that has been missing for six hours is looked for hourly; a new process has that from the status.
    let api = world.api::<opendepot::api::Version>();
    let mut status = world.get_version("mod-1.1.0").await.unwrap().unwrap()["status"].take();
    let earlier = jiff::Timestamp::now() - Duration::from_hours(7);
    for condition in status["conditions"].as_array_mut().unwrap() {
        condition["lastTransitionTime"] = json!(earlier.to_string()[..19].to_owned() + "Z");
    }
    api.patch_status("mod-1.1.0", &PatchParams::default(), &Patch::Merge(json!({"status": status})))
        .await
        .unwrap();
    operator.restart().await.unwrap();
    world.request("version/mod-1.1.0", "now");
    let reported = world.version_when("mod-1.1.0", |v| message(v).contains("Next attempt at ")).await;
    let at = message(&reported).split_once("Next attempt at ").unwrap().1.trim_end_matches('.').to_owned();
    let pause = at.parse::<jiff::Timestamp>().unwrap().duration_since(jiff::Timestamp::now());
    assert!(at.len() == 20 && (50..=67).contains(&pause.as_mins()), "{at} is {pause} from now");
    let since = condition(&reported, "Ready")["lastTransitionTime"].as_str().unwrap().to_owned();
    assert_eq!(since[..13], earlier.to_string()[..13], "it moves on a flip only");
    let module = world.module_when("mod", |m| message(m).contains(&at)).await;
    for type_ in ["Ready", "Reconciling", "Stalled"] {
        let since = |m| condition(m, type_)["lastTransitionTime"].clone();
        assert_eq!(since(&module), since(&before), "{type_} of the Module");
    }
    // A restart keeps to the time that it named.
    let asked = fetches();
    operator.restart().await.unwrap();
    world.quiet().await;
    assert_eq!(fetches(), asked);
    // A user who corrects the cause need not wait so long.
    repository.release("v1.1.0", &files("late")).unwrap();
    world.request("version/mod-1.1.0", "again");
    world.module_ready("mod").await;
}

/// Events of other objects have a name with the object's in it, which has no room here.
#[tokio::test]
async fn an_object_with_the_longest_name_has_events_too() {
    let world = World::new("longest").await;
    world.released("mod");
    let _operator = world.operator().await;
    let name = "m".repeat(253);
    world.apply(&world.inline_of(&name, &world.module("mod").config("name", json!("mod"))));
    world.version_ready(&name).await;
    let notes = world.events(&name, "Synced").await;
    assert_eq!(notes.len(), 1, "{notes:?}");
}
