//! Changes of `moduleConfig`: what moves an object, in which order, through crashes and second thoughts; and what does not.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;

use http::Method;
use opendepot_testbed::github::{Failure, Fault, File, Hop};
use opendepot_testbed::s3::{S3Failure, S3Fault, S3Request};
use serde_json::{Value, json};

use crate::support::archives::sha256;
use crate::support::moving::{Move, place};
use crate::support::{ModuleFixture, condition};

/// What a change does to a Module.
type Change = fn(ModuleFixture, Value) -> ModuleFixture;

/// Stored, then seen at the new place, then deleted at the old one, and nothing deleted besides.
fn in_order(log: &[S3Request], old: &Value, new: &Value) {
    let at = |r: &S3Request| (r.bucket.clone(), r.key.clone());
    let step = |method: Method, place: (String, String), from: usize| {
        let found = log
            .iter()
            .skip(from)
            .position(|r| r.method == method && at(r) == place && matches!(r.status, Some(200..300)));
        from + found.unwrap_or_else(|| panic!("no {method} of {place:?} after {from} in {log:#?}")) + 1
    };
    let stored = step(Method::PUT, place(new), 0);
    let seen = step(Method::HEAD, place(new), stored);
    step(Method::DELETE, place(old), seen);
    // A DELETE without an answer is sent again.
    let deleted: BTreeSet<_> = log.iter().filter(|r| r.method == Method::DELETE).map(at).collect();
    let early = log[..seen].iter().any(|r| r.method == Method::DELETE);
    assert!(deleted.len() == 1 && !early, "{log:#?}");
}

#[tokio::test]
async fn what_decides_bytes_or_place_moves_each_version_old_object_last() {
    let moves = Move::new("moves").await;
    let world = &moves.world;
    let fork = world.released("fork");
    for repository in [&moves.repository, &fork] {
        for tag in ["v1.0.0", "v1.1.0"] {
            repository.release(tag, &[File::new("main.tf", format!("# {tag}\n"))]).unwrap();
        }
    }
    let localhost = world.bed.s3.endpoint().replace("127.0.0.1", "localhost");
    let _operator = world.operator_with(&["--s3-endpoint", &localhost]).await;
    let mut module = world.module("mod").versions(&["v1.0.0", "1.1.0"]);
    let names = ["mod-1.0.0", "mod-1.1.0"];
    world.apply(&module);
    world.module_ready("mod").await;
    let mut before = world.versions().await.unwrap();

    let watched = world.watched().await;
    let table: [(&str, Change, Value); 6] = [
        ("bucket", |m, v| m.s3("bucket", v), json!(moves.other)),
        ("prefix", |m, v| m.s3("key", v), json!("team/modules")),
        ("endpoint", |m, v| m.s3("endpoint", v), json!(localhost)),
        ("format", |m, v| m.config("fileFormat", v), json!("tar")),
        ("name", |m, v| m.config("name", v), json!("renamed")),
        ("repository", |m, v| m.config("repoUrl", v), json!(fork.url())),
    ];
    for (what, change, value) in table {
        module = change(module, value);
        moves.forget();
        world.apply(&module);
        world.module_ready("mod").await;
        let after = world.versions().await.unwrap();
        moves.only(&after.iter().collect::<Vec<_>>()).await;
        let log = moves.log();
        for (name, (old, new)) in names.iter().zip(before.iter().zip(&after)) {
            assert_eq!(new["metadata"]["name"], *name);
            let keys = [place(old).1, place(new).1];
            let own: Vec<_> = log.iter().filter(|r| keys.contains(&r.key)).cloned().collect();
            in_order(&own, old, new);
            assert_eq!(new["status"]["contentDigest"], old["status"]["contentDigest"], "{what}");
            assert_eq!(new["status"]["objects"], json!([new["status"]["storage"]]), "{what}");
            assert_eq!(new["metadata"]["uid"], old["metadata"]["uid"], "{what}");
        }
        before = after;
    }
    let (key, url) = (place(&before[0]).1, &before[0]["status"]["source"]["url"]);
    let placed = key.starts_with("team/modules/renamed/") && key.trim_end_matches(".tar.gz") != key;
    assert!(placed && *url == fork.url(), "{key} {url}");
    // Configuration and file name change in one write: no state has one without the other.
    let states = watched.states(world, "Version/mod-1.0.0").await;
    let mut pairs: Vec<_> =
        states.iter().map(|v| [&v["spec"]["moduleConfigRef"], &v["spec"]["fileName"]]).collect();
    pairs.dedup();
    assert_eq!(pairs.len(), 7, "{pairs:#?}");
    watched.is_by_the_book(world).await;
}

#[tokio::test]
async fn an_object_moves_to_a_store_in_another_region() {
    let moves = Move::new("move-store").await;
    let (world, here) = (&moves.world, &moves.world.bed.s3);
    let there = here.another("eu-central-1").await.unwrap();
    there.create_bucket(&world.name).await.unwrap();
    let _operator = world.operator_with(&["--s3-endpoint", &there.endpoint()]).await;
    let published = moves.published().await;
    let bytes = world.stored(&published).await;
    // The bucket has the same name in both.
    let module = moves.module(&world.name).s3("endpoint", json!(there.endpoint()));
    let version = moves.moved(&module.s3("region", json!("eu-central-1"))).await;
    assert_eq!(here.keys(&world.name).await.unwrap(), [""; 0]);
    assert_eq!(there.keys(&world.name).await.unwrap(), [place(&version).1]);
    assert_eq!(there.get(&world.name, &place(&version).1).await.unwrap(), bytes);
    let version = moves.moved(&moves.module(&world.name)).await;
    assert_eq!(there.keys(&world.name).await.unwrap(), [""; 0]);
    moves.only(&[&version]).await;
}

#[tokio::test]
async fn a_region_that_is_wrong_costs_nothing_but_the_attempt() {
    let moves = Move::new("move-region").await;
    let world = &moves.world;
    let _operator = world.operator().await;
    let before = moves.published().await;
    world.apply(&moves.module(&world.name).s3("region", json!("eu-central-1")));
    // Only a GET shows that, and this S3 does not say which region is right.
    let message = world.version_fails("mod-1.0.0", "BucketMisconfigured").await;
    assert!(message.contains("correct the region"), "{message}");
    moves.only(&[&before]).await;
    let version = world.get_version("mod-1.0.0").await.unwrap().unwrap();
    assert_eq!(version["status"]["synced"], true, "the object is still stored as recorded");
    let module = world.module_when("mod", |m| condition(m, "Ready")["reason"] == "BucketMisconfigured").await;
    assert_eq!(
        (&module["status"]["synced"], &module["status"]["versions"]["summary"]),
        (&json!(false), &json!("0/1"))
    );
    assert_eq!(module["status"]["latestVersion"], "1.0.0", "it is a release all the same");
    let after = moves.moved(&moves.module(&world.name)).await;
    moves.only(&[&after]).await;
}

#[tokio::test]
async fn with_retain_a_move_leaves_the_old_object_and_strikes_it_from_the_record() {
    let moves = Move::new("move-retain").await;
    let world = &moves.world;
    let _operator = world.operator().await;
    let before = moves.published().await;
    moves.forget();
    let retain = moves.module(&moves.other).config("deletionPolicy", json!("Retain"));
    let after = moves.moved(&retain).await;
    assert_eq!(place(&after).0, moves.other);
    moves.only(&[&before, &after]).await;
    assert!(moves.log().iter().all(|r| r.method != Method::DELETE));
}

/// A point of a move at which the operator can be stopped: the request that is under way.
#[derive(Clone, Copy, Debug)]
enum Point {
    Look,
    Fetch,
    Put,
    PutDone,
    Verify,
    LookBack,
    Delete,
    DeleteDone,
}

const POINTS: [Point; 8] = [
    Point::Look,
    Point::Fetch,
    Point::Put,
    Point::PutDone,
    Point::Verify,
    Point::LookBack,
    Point::Delete,
    Point::DeleteDone,
];

impl Point {
    /// Lets the operator come so far, and no further.
    fn stop(self, moves: &Move, from: &str, to: &str) {
        let hang = |bucket: &str, method| S3Fault::new(bucket, S3Failure::Hang).method(method);
        let done = |bucket: &str, method| S3Fault::new(bucket, S3Failure::HangAfter).method(method);
        let s3 = &moves.world.bed.s3;
        match self {
            Self::Look => s3.inject(hang(to, Method::HEAD)),
            Self::Fetch => {
                let repository = moves.world.repository("mod");
                moves.world.bed.github.inject(Fault::on(&repository, Failure::Hang).at(Hop::Codeload));
            }
            Self::Put => s3.inject(hang(to, Method::PUT)),
            Self::PutDone => s3.inject(done(to, Method::PUT)),
            Self::Verify => s3.inject(hang(to, Method::HEAD).after(1)),
            Self::LookBack => s3.inject(hang(from, Method::HEAD)),
            Self::Delete => s3.inject(hang(from, Method::DELETE)),
            Self::DeleteDone => s3.inject(done(from, Method::DELETE)),
        }
    }

    /// Waits until it has come so far.
    async fn reached(self, moves: &Move, from: &str, to: &str) {
        match self {
            Self::Look => moves.asked(1, &Method::HEAD, to).await,
            Self::Fetch => moves.world.until("a fetch", || moves.fetches() > 0).await,
            Self::Put => moves.asked(1, &Method::PUT, to).await,
            Self::PutDone => moves.holds(to, 1).await,
            Self::Verify => moves.asked(2, &Method::HEAD, to).await,
            Self::LookBack => moves.asked(1, &Method::HEAD, from).await,
            Self::Delete => moves.asked(1, &Method::DELETE, from).await,
            Self::DeleteDone => moves.holds(from, 0).await,
        }
    }

    /// How often the archive may be asked for, with what comes after the restart.
    fn fetches(self) -> usize {
        match self {
            Self::Fetch | Self::Put => 2,
            _ => 1,
        }
    }
}

#[tokio::test]
async fn a_crash_at_any_point_of_a_move_orphans_nothing_and_loses_nothing() {
    let moves = Move::new("move-crash").await;
    let operator = moves.world.operator().await;
    let published = moves.published().await;
    let (mut from, mut to) = (moves.world.name.clone(), moves.other.clone());
    for point in POINTS {
        moves.forget();
        point.stop(&moves, &from, &to);
        moves.world.apply(&moves.module(&to));
        point.reached(&moves, &from, &to).await;
        operator.kill().await.unwrap();
        moves.mend();
        operator.restart().await.unwrap();
        let version = moves.arrived().await;
        assert_eq!(place(&version).0, to, "{point:?}");
        moves.only(&[&version]).await;
        assert_eq!(version["status"]["contentDigest"], published["status"]["contentDigest"]);
        assert!(moves.fetches() <= point.fetches(), "{point:?}: {} fetches", moves.fetches());
        (from, to) = (to, from);
    }
}

#[tokio::test]
async fn a_version_removed_in_the_middle_of_a_move_leaves_nothing_at_either_place() {
    let moves = Move::new("move-remove").await;
    let world = &moves.world;
    let operator = world.operator().await;
    for point in [Point::Put, Point::PutDone, Point::Delete] {
        moves.published().await;
        moves.forget();
        point.stop(&moves, &world.name, &moves.other);
        world.apply(&moves.module(&moves.other));
        point.reached(&moves, &world.name, &moves.other).await;
        operator.kill().await.unwrap();
        world.patch("module/mod", &json!({"spec": {"versions": []}}));
        moves.mend();
        operator.restart().await.unwrap();
        world.versions_are(&[]).await;
        moves.only(&[]).await;
    }
}

#[tokio::test]
async fn killed_at_any_moment_a_move_ends_with_one_object_where_it_is_wanted() {
    let moves = Move::new("move-kill").await;
    let world = &moves.world;
    let operator = world.operator().await;
    let mut version = moves.published().await;
    let watched = world.watched().await;
    // Slow enough that most kills fall between two steps, also those that only the API server sees.
    for bucket in [&world.name, &moves.other] {
        world.bed.s3.inject(S3Fault::new(bucket, S3Failure::Delay(std::time::Duration::from_millis(30))));
    }
    for round in 0..12 {
        let to = if place(&version).0 == world.name { &moves.other } else { &world.name };
        world.apply(&moves.module(to));
        let moment = std::time::Duration::from_millis(u64::from(uuid::Uuid::new_v4().as_bytes()[0]) * 2);
        tokio::time::sleep(moment).await;
        operator.kill().await.unwrap();
        operator.restart().await.unwrap();
        version = moves.arrived().await;
        assert_eq!(place(&version).0, *to, "round {round}, killed after {moment:?}");
        moves.only(&[&version]).await;
    }
    watched.is_by_the_book(world).await;
}

#[tokio::test]
async fn a_second_change_before_the_first_has_ended_orphans_nothing_and_loses_nothing() {
    let moves = Move::new("move-twice").await;
    let world = &moves.world;
    let _operator = world.operator().await;
    let published = moves.published().await;
    let watched = world.watched().await;
    let missing = format!("{}-missing", world.name);

    // By way of a bucket that does not exist: to a third one, and back.
    for end in [&moves.other, &moves.other] {
        world.apply(&moves.module(&missing));
        world.version_fails("mod-1.0.0", "BucketNotFound").await;
        let stuck = world.get_version("mod-1.0.0").await.unwrap().unwrap();
        assert_eq!(
            (&stuck["status"]["synced"], stuck["status"]["objects"].as_array().unwrap().len()),
            (&json!(true), 2)
        );
        moves.only(&[&stuck]).await;
        let version = moves.moved(&moves.module(end)).await;
        moves.only(&[&version]).await;
    }
    // While the object is on its way to the second one: to a third one, and back.
    let third = moves.module(&world.name).s3("key", json!("third"));
    for (via, end) in [
        (&world.name, moves.module(&moves.other)),
        (&world.name, moves.module(&moves.other)),
        (&moves.other, third),
    ] {
        moves.forget();
        let slow = S3Failure::Delay(std::time::Duration::from_secs(2));
        world.bed.s3.inject(S3Fault::new(via, slow).method(Method::PUT));
        world.apply(&moves.module(via).s3("key", json!("via")));
        moves.asked(1, &Method::PUT, via).await;
        let version = moves.moved(&end).await;
        moves.only(&[&version]).await;
        moves.mend();
        assert_eq!(version["status"]["contentDigest"], published["status"]["contentDigest"]);
    }
    // All at once: only the last one counts.
    for key in ["a", "b", "c", "d"] {
        world.apply(&moves.module(&moves.other).s3("key", json!(key)));
    }
    let version = moves.arrived().await;
    assert!(place(&version).1.starts_with("d/mod/"), "{:?}", place(&version));
    moves.only(&[&version]).await;
    watched.is_by_the_book(world).await;
}

#[tokio::test]
async fn the_current_object_is_never_deleted_however_its_place_is_spelled() {
    let moves = Move::new("move-spelling").await;
    let world = &moves.world;
    let endpoint = world.bed.s3.endpoint();
    let localhost = endpoint.replace("127.0.0.1", "localhost");
    let operator = world.operator_with(&["--s3-endpoint", &localhost]).await;
    // An inline Version keeps its key, since nothing gives it another file name.
    world.apply(&world.inline("mod"));
    let published = world.version_ready("mod").await;
    moves.forget();
    let s3 = |change: Value| json!({"spec": {"moduleConfigRef": {"storageConfig": {"s3": change}}}});
    for change in [
        json!({"endpoint": endpoint}),
        json!({"endpoint": format!("{endpoint}/")}),
        json!({"endpoint": localhost}),
        json!({"endpoint": null}),
        json!({"forcePathStyle": null}),
    ] {
        world.patch("version/mod", &s3(change.clone()));
        let version = world.version_ready("mod").await;
        assert_eq!(version["status"]["objects"], json!([version["status"]["storage"]]), "{change}");
        assert_eq!(place(&version), place(&published), "{change}");
    }
    // Only the region, which S3 refuses: nothing is released.
    world.patch("version/mod", &s3(json!({"region": "eu-central-1"})));
    world.version_fails("mod", "BucketMisconfigured").await;
    world.patch("version/mod", &s3(json!({"region": "us-west-2"})));
    let version = world.version_ready("mod").await;
    let asked = moves.log();
    let heads = asked.iter().filter(|r| r.method == Method::HEAD).count();
    let reasons = asked.iter().filter(|r| r.method == Method::GET && r.status != Some(200)).count();
    assert_eq!(heads + reasons, asked.len(), "{asked:#?}");
    moves.only(&[&version]).await;
    assert_eq!(moves.fetches(), 0, "the object there is taken as it is");
    assert_eq!(version["status"]["lastSyncTime"], published["status"]["lastSyncTime"]);

    // A move between two spellings that a crash interrupts; and a deletion leaves nothing, under either.
    world.bed.s3.inject(S3Fault::new(&world.name, S3Failure::Hang).method(Method::HEAD));
    world.patch("version/mod", &s3(json!({"endpoint": endpoint})));
    moves.asked(heads + 1, &Method::HEAD, &world.name).await;
    operator.kill().await.unwrap();
    moves.mend();
    operator.restart().await.unwrap();
    moves.only(&[&world.version_ready("mod").await]).await;

    // Another name of the same bucket, as the alias of an access point is one.
    let alias = format!("{}-alias", world.name);
    let data = world.bed.s3.data_dir();
    for folder in [data.with_file_name("metadata"), data] {
        symlink(&world.name, folder.join(&alias)).unwrap();
    }
    // A HEAD that a proxy answers with 404 does not show that nothing is left to delete.
    let missing = S3Failure::Answer(404, "NoSuchKey");
    world.bed.s3.inject(S3Fault::new(&world.name, missing).method(Method::HEAD).times(1));
    world.patch("version/mod", &s3(json!({"bucket": alias})));
    let renamed = world.version_when("mod", |v| {
        condition(v, "Ready")["status"] == "True" && place(v) == (alias.clone(), place(&published).1)
    });
    let renamed = renamed.await;
    assert_eq!(renamed["status"]["objects"], json!([renamed["status"]["storage"]]));
    assert_eq!(renamed["status"]["checksum"], sha256(&world.stored(&renamed).await));
    let notes = world.events("mod", "OneObject").await;
    assert!(notes.len() == 1 && notes[0].contains(&format!("s3://{}/", world.name)), "{notes:?}");
    world.kubectl(&["delete", "version", "mod"]);
    moves.only(&[]).await;

    // Nothing was stored under the first name.
    let denied = S3Failure::Answer(403, "AccessDenied");
    world.bed.s3.inject(S3Fault::new(&world.name, denied).method(Method::PUT));
    world.apply(&world.inline("mod"));
    world.version_fails("mod", "StorageAccessDenied").await;
    world.patch("version/mod", &s3(json!({"bucket": alias})));
    let stored = world.version_ready("mod").await;
    assert_eq!(stored["status"]["objects"], json!([stored["status"]["storage"]]));
    assert_eq!(stored["status"]["checksum"], sha256(&world.stored(&stored).await));
    moves.mend();
    world.kubectl(&["delete", "version", "mod"]);
    moves.only(&[]).await;
}

#[tokio::test]
async fn a_version_that_moves_back_gets_what_its_tag_holds_now() {
    let moves = Move::new("move-back").await;
    let world = &moves.world;
    let _operator = world.operator().await;
    let place_in = |bucket: &str| {
        let module =
            world.module("mod").s3("bucket", json!(bucket)).config("deletionPolicy", json!("Retain"));
        world.apply(&world.inline_of("mod", &module));
    };
    place_in(&world.name);
    let first = world.version_ready("mod").await;
    moves.repository.release("v1.0.0", &[File::new("main.tf", "# moved\n")]).unwrap();
    place_in(&moves.other);
    let second = world.version_ready("mod").await;
    assert_ne!(second["status"]["contentDigest"], first["status"]["contentDigest"]);
    place_in(&world.name);
    let back = world.version_ready("mod").await;
    assert_eq!(
        (place(&back).0, &back["status"]["contentDigest"]),
        (place(&first).0, &second["status"]["contentDigest"])
    );
    // What was retained there is other content: it keeps its key.
    assert_ne!(place(&back).1, place(&first).1);
    moves.only(&[&first, &second, &back]).await;
}

#[tokio::test]
async fn an_old_object_that_cannot_be_deleted_is_named_until_it_can_be_or_may_stay() {
    let moves = Move::new("move-stuck").await;
    let world = &moves.world;
    let _operator = world.operator().await;
    let refuse = |bucket: &str| {
        let denied = S3Failure::Answer(403, "AccessDenied");
        world.bed.s3.inject(S3Fault::new(bucket, denied).method(Method::DELETE));
    };
    let before = moves.published().await;
    refuse(&world.name);
    world.apply(&moves.module(&moves.other));
    let message = world.version_fails("mod-1.0.0", "OldObjectKept").await;
    let (bucket, key) = place(&before);
    assert!(
        message.contains(&format!("s3://{bucket}/{key}")) && message.contains("s3:DeleteObject"),
        "{message}"
    );
    let after = world.get_version("mod-1.0.0").await.unwrap().unwrap();
    assert_eq!((&after["status"]["synced"], place(&after).0), (&json!(true), moves.other.clone()));
    moves.only(&[&before, &after]).await;
    moves.mend();
    moves.only(&[&moves.arrived().await]).await;

    let before = moves.arrived().await;
    refuse(&moves.other);
    world.apply(&moves.module(&world.name));
    world.version_fails("mod-1.0.0", "OldObjectKept").await;
    let after = moves.moved(&moves.module(&world.name).config("deletionPolicy", json!("Retain"))).await;
    moves.only(&[&before, &after]).await;
    moves.mend();
}

#[tokio::test]
async fn a_bucket_that_is_gone_holds_up_neither_move_nor_deletion() {
    let moves = Move::new("move-gone").await;
    let world = &moves.world;
    let _operator = world.operator().await;
    let lose = async |version: &Value| {
        let (bucket, key) = place(version);
        world.bed.s3.delete(&bucket, &key).await.unwrap();
        world.bed.s3.client().delete_bucket().bucket(bucket).send().await.unwrap();
    };
    lose(&moves.published().await).await;
    let there = moves.moved(&moves.module(&moves.other)).await;
    assert_eq!(place(&there).0, moves.other);
    lose(&there).await;
    world.kubectl(&["delete", "module", "mod"]);
    world.versions_are(&[]).await;
}

#[tokio::test]
async fn what_decides_neither_bytes_nor_place_costs_no_request() {
    let moves = Move::new("move-nothing").await;
    let world = &moves.world;
    let _operator = world.operator().await;
    let before = moves.published().await;
    moves.forget();
    let module = moves.module(&world.name);
    for (field, value) in [
        ("immutable", json!(true)),
        ("immutable", json!(false)),
        ("deletionPolicy", json!("Retain")),
        ("deletionPolicy", json!("Delete")),
        ("githubClientConfig", json!({"useAuthenticatedClient": true, "secretName": "nowhere"})),
        ("githubClientConfig", json!({"useAuthenticatedClient": false})),
        ("provider", json!("google")),
    ] {
        let after = moves.moved(&module.clone().config(field, value.clone())).await;
        assert_eq!(after["spec"]["moduleConfigRef"][field], value, "the Version has it");
        for same in ["storage", "checksum", "lastSyncTime", "source"] {
            assert_eq!(after["status"][same], before["status"][same], "{field}: {same}");
        }
    }
    assert!(moves.log().is_empty(), "{:#?}", moves.log());
    assert!(world.bed.github.requests(&world.repository("mod")).unwrap().is_empty());
    // A limit above the count is nothing that a Version needs to know.
    let module = module.config("provider", json!("google"));
    let writes = world
        .writes_during(async { drop(moves.moved(&module.config("versionHistoryLimit", json!(5))).await) });
    let writes = writes.await;
    assert!(!writes.is_empty() && writes.iter().all(|w| w.resource == "modules"), "{writes:#?}");
    moves.only(&[&before]).await;
}

#[tokio::test]
async fn an_old_object_without_metadata_goes_with_the_move_as_well() {
    let moves = Move::new("unlabelled").await;
    let world = &moves.world;
    moves.repository.release("v1.0.0", &[File::new("main.tf", "# one\n")]).unwrap();
    let _operator = world.operator().await;
    world.apply(&world.inline("mod"));
    let before = world.version_ready("mod").await;
    // As a tool leaves it that copies a bucket without metadata.
    let ((bucket, key), bytes) = (place(&before), world.stored(&before).await);
    world.bed.s3.delete(&bucket, &key).await.unwrap();
    world.bed.s3.put(&bucket, &key, bytes).await.unwrap();
    let prefix = json!({"spec": {"moduleConfigRef": {"storageConfig": {"s3": {"key": "team"}}}}});
    world.patch("version/mod", &prefix);
    let after = world
        .version_when("mod", |v| {
            v["status"]["storage"] != before["status"]["storage"] && condition(v, "Ready")["status"] == "True"
        })
        .await;
    moves.only(&[&after]).await;
}
