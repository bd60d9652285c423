//! Repositories that hold what a module cannot: names that no system agrees on, links to nothing, submodules, Git LFS
//! pointers. Git itself packs them here, as GitHub does.

use http::Method;
use opendepot_testbed::github::{File, Format, Repository};
use opendepot_testbed::s3::{S3Failure, S3Fault};
use opendepot_testbed::terraform::{Terraform, source};
use serde_json::{Value, json};

use crate::support::archives::{Tree, folder_tree, tree};
use crate::support::failing::Then::{Retried, Stalled};
use crate::support::failing::{file, zip};
use crate::support::{World, soon};

const MAIN: &str = "resource \"terraform_data\" \"this\" {}\n";
const LFS: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";

/// A name that git allows and a module cannot have.
fn odd(path: &[u8]) -> File {
    File::new("", "odd\n").at(path)
}

/// Something of everything that cannot be stored as it is, and what can.
fn odd_release() -> Vec<File> {
    vec![
        File::new("main.tf", MAIN),
        File::new("größe.md", "plain\n"),
        odd(b"Icon\r"),
        odd(b"docs/caf\xe9.md"),
        odd(b"caf\xe9/deep/notes.txt"),
        odd(b"examples\\old.md"),
        odd("evil\u{202e}\u{1b}".as_bytes()),
        odd(b"main.tf\n"),
        odd(b"odd.TF\n"),
        // No file system has it, so that no consumer could unpack the archive.
        odd("z".repeat(256).as_bytes()),
        File::link("docs/main.tf", "../none.tf\n"),
        File::link("docs/name.tf", "../main.tf\n"),
        File::link("docs/latin.md", b"caf\xe9.md"),
        File::link("CLAUDE.md", "AGENTS.md"),
        File::link("vpc", "vendor/vpc"),
        File::link("copy.md", "main.tf"),
        File::new(
            ".gitmodules",
            "[submodule \"vpc\"]\n\tpath = vendor/vpc\n\turl = https://github.com/o/vpc\n",
        ),
        File::submodule("vendor/vpc", "4b825dc642cb6eb9a060e54bf8d69288fbee4904"),
        File::new("lambda.zip", LFS),
        File::executable("bin/tool", LFS),
    ]
}

fn stored_files() -> Tree {
    let files = [
        (
            ".gitmodules",
            false,
            "[submodule \"vpc\"]\n\tpath = vendor/vpc\n\turl = https://github.com/o/vpc\n",
        ),
        ("bin/tool", true, LFS),
        ("copy.md", false, MAIN),
        ("größe.md", false, "plain\n"),
        ("lambda.zip", false, LFS),
        ("main.tf", false, MAIN),
    ];
    files.iter().map(|(path, run, text)| ((*path).to_owned(), (*run, text.as_bytes().to_vec()))).collect()
}

fn installed(world: &World, version: &Value) -> Tree {
    let place = &version["status"]["storage"];
    let (bucket, key) = (place["bucket"].as_str().unwrap(), place["key"].as_str().unwrap());
    let source = source(&world.bed.s3, bucket, key, None);
    let terraform = Terraform::new().unwrap();
    terraform.configure(&format!("module \"odd\" {{\n  source = {source:?}\n}}\n")).unwrap();
    terraform.run(&["get", "-no-color"]).unwrap();
    folder_tree(&terraform.module("odd"))
}

#[tokio::test]
async fn what_a_module_cannot_have_is_left_out_and_said_once() {
    let world = World::new("odd").await;
    let repository = world.bed.github.repository(&world.repository("odd")).unwrap();
    repository.release("v1.0.0", &odd_release()).unwrap();
    let _operator = world.operator_with(&["--verify-interval", "1s"]).await;
    for format in ["zip", "tar"] {
        let module =
            world.module(format).config("fileFormat", json!(format)).config("immutable", json!(true));
        world.apply(&module.config("repoUrl", json!(repository.url())).versions(&["1.0.0"]));
    }
    let words: [(&str, &[&str]); 4] = [
        (
            "FilesSkipped",
            &[
                "8 files are",
                r"Icon\r, ",
                r"caf\xe9/deep/notes.txt",
                r"docs/caf\xe9.md",
                r"examples\\old.md and 3 more",
            ],
        ),
        (
            "LinksSkipped",
            &[
                "5 symbolic links are",
                "CLAUDE.md -> AGENTS.md (points to nothing)",
                r"docs/main.tf -> ../none.tf\n (points to an impossible file name)",
                "vpc -> vendor/vpc (points into a git submodule",
            ],
        ),
        ("SubmodulesEmpty", &["1 git submodule is", "vendor/vpc"]),
        ("LfsPointers", &["2 files are", "the first is bin/tool"]),
    ];
    let mut digests = Vec::new();
    for format in ["zip", "tar"] {
        let name = format!("{format}-1.0.0");
        let version = world.version_ready(&name).await;
        assert_eq!(tree(&world.stored(&version).await), stored_files(), "{format}");
        assert_eq!(installed(&world, &version), stored_files(), "{format}");
        for (reason, words) in words {
            let notes = world.events(&name, reason).await;
            assert!(words.iter().all(|word| notes[0].contains(word)), "{notes:?}");
            assert!(!notes[0].chars().any(|c| c.is_control() || c == '\u{202e}'), "{notes:?}");
        }
        digests.push(version["status"]["contentDigest"].clone());
    }
    assert_eq!(digests[0], digests[1]);

    // Neither a verification nor a sync that finds the same content is a violation, or news.
    let heads = world.bed.s3.requests(&world.name).len();
    let verified = || async {
        let now = world.bed.s3.requests(&world.name).len();
        anyhow::ensure!(now >= heads + 4, "{now} requests");
        Ok(())
    };
    soon(verified).await;
    for (reason, _) in words {
        assert_eq!(world.events("zip-1.0.0", reason).await.len(), 1, "{reason}");
    }
    let of = "--field-selector=involvedObject.name=zip-1.0.0,type=Warning";
    let events: Value = serde_json::from_str(&world.kubectl(&["get", "events", of, "-o", "json"])).unwrap();
    let counts: Vec<&Value> = events["items"].as_array().unwrap().iter().map(|e| &e["series"]).collect();
    assert_eq!(counts, [&Value::Null; 4], "each kind is said once");
}

#[tokio::test]
async fn what_an_archive_lacks_is_said_though_the_store_fails_right_after_the_upload() {
    let world = World::new("odd-unseen").await;
    let _operator = world.operator().await;
    let failed = S3Failure::Answer(500, "InternalError");
    let faults = [
        // The first HEAD comes before the fetch.
        ("unseen", S3Fault::new(&world.name, failed).method(Method::HEAD).after(1)),
        ("lost", S3Fault::new(&world.name, S3Failure::CutAfter).method(Method::PUT)),
    ];
    for (name, fault) in faults {
        let repository = world.bed.github.repository(&world.repository(name)).unwrap();
        repository.release("v1.0.0", &[File::new("main.tf", MAIN), File::new("lambda.zip", LFS)]).unwrap();
        world.bed.s3.inject(fault.prefix(&format!("{name}/")));
        world.apply(&world.inline(name));
        let notes = world.events(name, "LfsPointers").await;
        assert!(notes.len() == 1 && notes[0].contains("lambda.zip"), "{notes:?}");
        world.bed.s3.clear_faults(&world.name);
        world.version_ready(name).await;
        assert_eq!(world.served(name), 1, "{name}: the object is taken over");
        assert_eq!(world.events(name, "LfsPointers").await.len(), 1, "{name}");
    }
}

#[tokio::test]
async fn configuration_that_would_be_lost_and_links_that_leave_are_refused_by_name() {
    let world = World::new("odd-refused").await;
    let repository = world.bed.github.repository(&world.repository("odd")).unwrap();
    let main = File::new("main.tf", MAIN);
    let cases: [(File, &str); 6] = [
        (odd(b"caf\xe9.tf"), r"`caf\xe9.tf`, which is not UTF-8"),
        (odd(b"net\n/main.tf.json"), r"`net\n/main.tf.json`, which has a control character"),
        (odd(b"modules\\a.tofu"), r"`modules\\a.tofu`, which has a backslash"),
        (File::link("", "modules").at(b"odd\n"), r"`odd\n/a.tofu.json`"),
        (
            File::link("docs/up", "../../etc/passwd\n"),
            r"link `docs/up` points to `../../etc/passwd\n`, outside",
        ),
        (
            File::link("", "/etc/passwd\n").at("\u{202e}".as_bytes()),
            r"link `\u{202e}` points to `/etc/passwd\n`",
        ),
    ];
    let module = File::new("modules/a.tofu.json", "{}\n");
    let releases = cases.iter().enumerate().map(|(at, (odd, _))| {
        (format!("v1.0.{at}"), vec![main.clone(), module.clone(), odd.clone(), self::odd(b"Icon\r")])
    });
    repository.releases(releases).unwrap();
    let operator = world.operator().await;
    let versions: Vec<String> = (0..cases.len()).map(|at| format!("1.0.{at}")).collect();
    let versions: Vec<&str> = versions.iter().map(String::as_str).collect();
    for format in ["zip", "tar"] {
        let module = world.module(format).config("fileFormat", json!(format)).versions(&versions);
        world.apply(&module.config("repoUrl", json!(repository.url())));
    }
    for format in ["zip", "tar"] {
        for (version, (_, words)) in versions.iter().zip(&cases) {
            let name = format!("{format}-{version}");
            world.failed(&name, "ArchiveUnsafe", Stalled, &[words]).await;
            world.warned_once(&name, "ArchiveUnsafe").await;
        }
    }
    world.nothing_stored_nor_told(&operator, &["\u{202e}", "\\u202e"]).await;
}

/// Downloads of archives so far.
fn downloads(world: &World, repository: &Repository) -> usize {
    let requests = world.bed.github.requests(&repository.name()).unwrap();
    requests.iter().filter(|request| request.status == Some(200)).count()
}

#[tokio::test]
async fn a_corrupt_archive_that_comes_twice_is_fetched_again_only_on_request() {
    let world = World::new("corrupt").await;
    let repository = world.released("corrupt");
    let whole = zip(&[file("r/main.tf"), file("r/other.tf")]);
    repository.replace_archive("v1.0.0", Format::Zip, whole[..whole.len() / 2].to_vec()).unwrap();
    let operator = world.operator().await;
    world.apply(&world.inline("corrupt"));
    world.failed("corrupt", "ArchiveCorrupt", Stalled, &["the same bytes came twice"]).await;
    world.warned_once("corrupt", "ArchiveCorrupt").await;
    world.quiet().await;
    assert_eq!(downloads(&world, &repository), 2, "{}", operator.log());

    // Other bytes are another matter, and so is nothing at all, which says nothing about the archive.
    repository.replace_archive("v1.0.0", Format::Zip, Vec::new()).unwrap();
    world.request("version/corrupt", "empty");
    world.failed("corrupt", "ArchiveCorrupt", Retried, &["it is empty", "fetched again"]).await;
    world.request("version/corrupt", "empty again");
    world.version_when("corrupt", |v| v["status"]["lastHandledRequest"] == "empty again").await;
    world.failed("corrupt", "ArchiveCorrupt", Retried, &["it is empty"]).await;

    repository.restore_archives();
    world.request("version/corrupt", "mended");
    world.version_ready("corrupt").await;
}
