//! `spec.fileName` of a Version that a user wrote: what it says of the archive's format, and what it does not say.

use serde_json::json;

use crate::support::failing::Then::Stalled;
use crate::support::{World, ready};

#[tokio::test]
async fn a_name_that_ends_as_the_other_format_is_refused() {
    let world = World::new("name-other").await;
    let _operator = world.operator().await;
    for (name, file_name, format) in
        [("zip-as-tar", "a.ZIP", "tar"), ("tar-as-zip", "a.tar.gz", "zip"), ("tgz-as-zip", "a.tgz", "zip")]
    {
        world.released(name);
        let mut version = world.inline(name);
        version["spec"]["fileName"] = json!(file_name);
        version["spec"]["moduleConfigRef"]["fileFormat"] = json!(format);
        world.apply(&version);
    }
    for name in ["zip-as-tar", "tar-as-zip", "tgz-as-zip"] {
        world.failed(name, "InvalidSpec", Stalled, &["fileName", "fileFormat"]).await;
        assert_eq!(world.served(name), 0);
    }
    world.objects_are(0).await;
    world.patch("version/zip-as-tar", &json!({"spec": {"moduleConfigRef": {"fileFormat": "zip"}}}));
    world.patch("version/tar-as-zip", &json!({"spec": {"fileName": "a.zip"}}));
    world.kubectl(&["delete", "version", "tgz-as-zip"]);
    world.version_ready("zip-as-tar").await;
    world.version_ready("tar-as-zip").await;
    assert_eq!(world.objects_are(2).await, ["tar-as-zip/a.zip", "zip-as-tar/a.ZIP"]);
}

#[tokio::test]
async fn a_change_of_format_is_noticed_where_the_name_does_not_tell_it() {
    let world = World::new("name-neutral").await;
    world.released("mod");
    let _operator = world.operator().await;
    let mut version = world.inline("mod");
    version["spec"]["fileName"] = json!("a.bin");
    world.apply(&version);
    let stored = world.version_ready("mod").await;
    assert!(world.stored(&stored).await.starts_with(b"PK"), "a zip");
    world.count_from_now("mod");
    world.patch("version/mod", &json!({"spec": {"moduleConfigRef": {"deletionPolicy": "Retain"}}}));
    world.version_when("mod", |v| ready(v) && v["metadata"]["generation"] == 2).await;
    world.patch("version/mod", &json!({"spec": {"moduleConfigRef": {"deletionPolicy": "Delete"}}}));
    world.version_when("mod", |v| ready(v) && v["metadata"]["generation"] == 3).await;
    assert_eq!(
        (world.served("mod"), world.sent("")),
        (0, 0),
        "what does not change the object fetches nothing"
    );
    world.patch("version/mod", &json!({"spec": {"moduleConfigRef": {"fileFormat": "tar"}}}));
    let moved = world
        .version_when("mod", |v| {
            ready(v) && v["status"]["storage"]["key"] != stored["status"]["storage"]["key"]
        })
        .await;
    assert!(world.stored(&moved).await.starts_with(&[0x1f, 0x8b]), "a tar.gz");
    assert_eq!(moved["status"]["contentDigest"], stored["status"]["contentDigest"]);
    assert_eq!((world.served("mod"), world.objects_are(1).await.len()), (1, 1));
}
