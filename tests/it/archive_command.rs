//! `opendepot archive`: it prints what the operator stores, and rejects what the operator rejects.

use std::process::Command;

use opendepot_testbed::github::{File, Format};
use serde_json::Value;

use crate::support::World;

#[tokio::test]
async fn the_result_is_what_the_operator_stores() {
    let world = World::new("archive").await;
    let repository = world.bed.github.repository(&world.repository("net")).unwrap();
    let files = [
        File::new("main.tf", "# net\n"),
        File::link("readme", "main.tf"),
        File::link("gone", "nothing"),
        File::submodule("vendor/lib", &"a".repeat(40)),
    ];
    repository.release("v1.0.0", &files).unwrap();
    let _operator = world.operator().await;
    world.apply(&world.module("net").versions(&["1.0.0"]));
    world.apply(
        &world
            .module("tar")
            .config("repoUrl", repository.url().into())
            .config("fileFormat", "tar".into())
            .versions(&["1.0.0"]),
    );
    let (zip, tar) = (world.version_ready("net-1.0.0").await, world.version_ready("tar-1.0.0").await);

    let folder = tempfile::tempdir().unwrap();
    let archive =
        |args: &[&str]| world.command().in_folder(folder.path()).run(&[&["archive"], args].concat());
    let url = repository.url();
    let printed = archive(&[&url, "1.0.0", "-o", "json", "--write", "stored.zip"]).json();
    let status = &zip["status"];
    for (field, of_version) in
        [("checksum", "checksum"), ("contentDigest", "contentDigest"), ("size", "archiveSizeBytes")]
    {
        assert_eq!(printed[field], status[of_version], "{printed:#}");
    }
    assert_eq!((&printed["tag"], &printed["commit"]), (&"v1.0.0".into(), &status["source"]["commit"]));
    assert_eq!(std::fs::read(folder.path().join("stored.zip")).unwrap(), world.stored(&zip).await);
    let reasons: Vec<&Value> = printed["warnings"].as_array().unwrap().iter().map(|w| &w["reason"]).collect();
    assert_eq!(reasons, ["LinksSkipped", "SubmodulesEmpty"], "{printed:#}");
    let text = archive(&[&world.repository("net"), "v1.0.0", "--format", "tar"]).ok();
    assert!(text.contains(&format!("checksum: {}\n", tar["status"]["checksum"].as_str().unwrap())), "{text}");
    assert!(text.contains("warning: LinksSkipped: 1 symbolic link is left out"), "{text}");

    // A branch, a full ref and a commit.
    let commit = repository.branch("feature/next", &files).unwrap();
    for name in ["feature/next", "refs/heads/feature/next", &commit] {
        let of_ref = archive(&[&url, name, "-o", "json"]).json();
        assert_eq!(of_ref["contentDigest"], printed["contentDigest"], "{of_ref:#}");
        let full = if name == commit { &commit } else { "refs/heads/feature/next" };
        assert_eq!(
            (&of_ref["ref"], &of_ref["commit"], &of_ref["tag"]),
            (&full.into(), &commit.as_str().into(), &Value::Null)
        );
    }
    let missing = archive(&[&url, "none"]).failed();
    assert!(missing.contains("has no branch or ref none: write a version's tag"), "{missing}");

    // A local archive of the commit, as a pull request has it, gives the same bytes.
    let made = Command::new("git")
        .args(["archive", "--format=zip", "--prefix=any/", "v1.0.0", "-o"])
        .arg(folder.path().join("head.zip"))
        .current_dir(repository.folder())
        .status()
        .unwrap();
    assert!(made.success());
    let local = archive(&["head.zip", "-o", "json"]).json();
    assert_eq!(
        (&local["checksum"], &local["contentDigest"]),
        (&printed["checksum"], &printed["contentDigest"])
    );

    let rejected = archive(&[&url, "2.0.0"]).failed();
    assert!(
        rejected.contains("opendepot: TagNotFound: repository") && rejected.contains("2.0.0 or v2.0.0"),
        "{rejected}"
    );
    repository.replace_archive("v1.0.0", Format::Zip, "<html>").unwrap();
    let rejected = archive(&[&url, "v1.0.0"]).failed();
    assert!(rejected.contains("opendepot: NotAnArchive: "), "{rejected}");
    repository.restore_archives();
    let repository = repository.private(true);
    let rejected = archive(&[&url, "v1.0.0"]).failed();
    assert!(rejected.contains("RepositoryNotFound") && rejected.contains("GITHUB_TOKEN"), "{rejected}");
    let token = world.bed.github.personal_token(&[&repository.name()]).unwrap();
    let with_token = world
        .command()
        .env("GITHUB_TOKEN", format!("{token}\n"))
        .run(&["archive", &url, "v1.0.0", "-o", "json"]);
    assert_eq!(with_token.json()["checksum"], printed["checksum"], "{with_token:#?}");
    let wrong = world.command().env("GITHUB_TOKEN", "ghp_wrong").run(&["archive", &url, "v1.0.0"]).failed();
    assert!(wrong.contains("CredentialsRefused: GitHub does not accept the token"), "{wrong}");
    assert!(!wrong.contains("ghp_wrong") && !wrong.contains("Secret"), "{wrong}");
    std::fs::create_dir(folder.path().join("folder.zip")).unwrap();
    for (args, expected) in [
        (&["net"][..], "\"net\" is not a repository: write OWNER/REPO"),
        (&["my-org/net"], "write the tag after the repository"),
        (&["head.zip", "v1.0.0"], "a local file has no tags: leave out v1.0.0"),
        (&["none.zip"], "cannot read or write none.zip"),
        (&["folder.zip"], "cannot read or write folder.zip: it is not a file"),
        (&["head.zip", "--max-entries", "1"], "ArchiveTooLarge"),
        (&[&*url, "v1.0.0", "--token", "two words"], "pass only the token, on one line"),
    ] {
        let error = archive(args).failed();
        assert!(error.contains(expected), "{error}");
    }
}
