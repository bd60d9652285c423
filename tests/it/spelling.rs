//! Places that are spelled in another way: no other place, so nothing is fetched, nothing moves, and all stay ready.

use http::Method;
use serde_json::{Value, json};

use crate::support::moving::{Move, place};
use crate::support::{ModuleFixture, condition, ready};

/// What a change does to a Module.
type Change = fn(ModuleFixture, Value) -> ModuleFixture;

fn followed(version: &Value) -> bool {
    ready(version) && version["status"]["observedGeneration"] == version["metadata"]["generation"]
}

#[tokio::test]
async fn however_a_place_is_spelled_nothing_moves_and_nothing_is_fetched() {
    let moves = Move::new("spelling").await;
    let world = &moves.world;
    moves
        .repository
        .release("1.1.0", &[opendepot_testbed::github::File::new("main.tf", "# 1.1.0\n")])
        .unwrap();
    let endpoint = world.bed.s3.endpoint();
    let localhost = endpoint.replace("127.0.0.1", "localhost");
    let _operator = world.operator_with(&["--s3-endpoint", &localhost]).await;
    let names = ["mod-1.0.0", "mod-1.1.0"];
    let mut module = world.module("mod").versions(&["v1.0.0", "1.1.0"]);
    world.apply(&module);
    world.module_ready("mod").await;
    let before = world.versions().await.unwrap();
    moves.forget();
    let watched = world.watched().await;

    let s3 = |version: &Value, field: &str| {
        version["spec"]["moduleConfigRef"]["storageConfig"]["s3"][field].clone()
    };
    let url = moves.repository.url();
    let table: [(&str, Change, Value); 9] = [
        ("endpoint", |m, v| m.s3("endpoint", v), json!(endpoint)),
        ("endpoint", |m, v| m.s3("endpoint", v), json!(format!("{endpoint}/"))),
        ("forcePathStyle", |m, v| m.s3("forcePathStyle", v), json!(false)),
        ("forcePathStyle", |m, v| m.s3("forcePathStyle", v), Value::Null),
        ("forcePathStyle", |m, v| m.s3("forcePathStyle", v), json!(true)),
        ("endpoint", |m, v| m.s3("endpoint", v), Value::Null),
        ("fileFormat", |m, v| m.config("fileFormat", v), json!("zip")),
        ("name", |m, v| m.config("name", v), json!("mod")),
        ("repoUrl", |m, v| m.config("repoUrl", v), json!(format!("{url}.git/"))),
    ];
    for (field, change, value) in table {
        module = change(module, value.clone());
        world.apply(&module);
        for name in names {
            let spelled = |v: &Value| {
                let config = &v["spec"]["moduleConfigRef"];
                let now = if config[field].is_null() { s3(v, field) } else { config[field].clone() };
                now == value && followed(v)
            };
            let version = world.version_when(name, spelled).await;
            assert_eq!(version["status"]["storage"][field], s3(&version, field), "{field}: {value}");
            assert_eq!(
                version["status"]["objects"],
                json!([version["status"]["storage"]]),
                "{field}: {value}"
            );
        }
        world.module_ready("mod").await;
    }
    let after = world.versions().await.unwrap();
    for (before, after) in before.iter().zip(&after) {
        assert_eq!((place(after), &after["spec"]["fileName"]), (place(before), &before["spec"]["fileName"]));
        assert_eq!(after["status"]["lastSyncTime"], before["status"]["lastSyncTime"]);
    }
    assert_eq!(world.bed.github.requests(&world.repository("mod")).unwrap().len(), 0);
    let log = moves.log();
    assert!(log.iter().all(|r| r.method == Method::HEAD), "{log:#?}");
    for name in names {
        for state in watched.states(world, &format!("Version/{name}")).await {
            assert_eq!(condition(&state, "Ready")["status"], "True", "{state:#}");
        }
    }
}

#[tokio::test]
async fn upper_case_in_the_host_is_no_other_store_for_a_version_of_its_own_either() {
    let moves = Move::new("spelling-host").await;
    let world = &moves.world;
    let localhost = world.bed.s3.endpoint().replace("127.0.0.1", "localhost");
    let shouted = localhost.replace("localhost", "LOCALHOST") + "/";
    let _operator = world.operator_with(&["--s3-endpoint", &localhost]).await;
    let module = |endpoint: &str| world.module("mod").versions(&["v1.0.0"]).s3("endpoint", json!(endpoint));
    world.apply(&module(&localhost));
    world.module_ready("mod").await;
    let alone = world
        .module("alone")
        .config("repoUrl", json!(moves.repository.url()))
        .s3("endpoint", json!(localhost));
    let mut inline = world.inline_of("alone", &alone);
    // With a file name of its own, which nothing may change.
    inline["spec"]["fileName"] = json!("one.zip");
    world.apply(&inline);
    let before = [world.version_ready("mod-1.0.0").await, world.version_ready("alone").await];
    moves.forget();

    world.apply(&module(&shouted));
    let s3 = json!({"spec": {"moduleConfigRef": {"storageConfig": {"s3": {"endpoint": shouted}}}}});
    world.patch("version/alone", &s3);
    for (name, before) in ["mod-1.0.0", "alone"].into_iter().zip(&before) {
        let spelled = |v: &Value| v["status"]["storage"]["endpoint"] == json!(shouted) && followed(v);
        let version = world.version_when(name, spelled).await;
        assert_eq!(place(&version), place(before));
    }
    world.module_ready("mod").await;
    assert_eq!(world.bed.github.requests(&world.repository("mod")).unwrap().len(), 0);
    let log = moves.log();
    assert!(log.iter().all(|r| r.method == Method::HEAD), "{log:#?}");
}
