//! Bad input: hostile and broken archives, and whatever GitHub may answer instead of one. Each gives a reason that says
//! what was wrong, nothing is stored, and the versions beside it are published as if nothing were.

use std::time::Duration;

use opendepot_testbed::github::{Failure, Fault, File, Format, Hop, Repository};
use serde_json::json;
use tar::EntryType;

use crate::support::failing::Then::{Retried, Stalled};
use crate::support::failing::{Entry, Then, file, spooled, tar_gz, zip};
use crate::support::{World, condition, soon};

const MIB: usize = 1 << 20;

/// An archive, and what becomes of it: a reason, who acts, and a word of the message; or it is published.
struct Case {
    archive: Archive,
    outcome: Option<(&'static str, Then, &'static str)>,
}

enum Archive {
    /// These bytes, whatever was asked for.
    Bytes(Vec<u8>),
    /// These entries, as zip and as tar.gz.
    Both(Vec<Entry>),
    /// These entries, as tar.gz only.
    Tar(Vec<Entry>),
}

/// Bytes that nothing compresses.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

fn numbered(count: usize) -> Vec<Entry> {
    const NAMES: [&str; 10] = ["r/0", "r/1", "r/2", "r/3", "r/4", "r/5", "r/6", "r/7", "r/8", "r/9"];
    NAMES[..count].iter().map(|name| file(name)).collect()
}

/// For `--max-unpacked-size 1MiB --max-entries 8 --max-archive-size 256KiB`.
fn cases() -> Vec<Case> {
    use Archive::{Both, Bytes, Tar};
    let fails = |archive, reason, word| Case { archive, outcome: Some((reason, Stalled, word)) };
    let good = |archive| Case { archive, outcome: None };
    let unsafe_ = |entries: Vec<Entry>, word| {
        let entries = [vec![file("r/main.tf")], entries].concat();
        fails(Both(entries), "ArchiveUnsafe", word)
    };
    let special = |entry| fails(Tar(vec![file("r/main.tf"), entry]), "ArchiveUnsafe", "`r/odd`");
    let zeros = |length| vec![Entry::File("r/zeros", vec![0; length])];
    let (long_tar, long_zip) = (tar_gz(&numbered(8)), zip(&numbered(8)));
    vec![
        good(Both(vec![Entry::Folder("r/"), file("r/main.tf")])),
        fails(Bytes(b"<!DOCTYPE html><p>Sign in".to_vec()), "NotAnArchive", "HTML page"),
        Case { archive: Bytes(Vec::new()), outcome: Some(("ArchiveCorrupt", Retried, "it is empty")) },
        Case {
            archive: Bytes(b"PK\x03".to_vec()),
            outcome: Some(("ArchiveCorrupt", Retried, "after 3 bytes")),
        },
        fails(Bytes(b"version https://git-lfs".to_vec()), "NotAnArchive", "`version https://`"),
        fails(Both(Vec::new()), "ArchiveEmpty", "contains no file"),
        fails(
            Both(vec![Entry::Folder("r/"), Entry::Folder("r/modules/")]),
            "ArchiveEmpty",
            "contains no file",
        ),
        fails(Bytes(long_tar[..long_tar.len() / 2].to_vec()), "ArchiveCorrupt", "truncated or corrupt"),
        fails(Bytes(long_zip[..long_zip.len() / 2].to_vec()), "ArchiveCorrupt", "truncated or corrupt"),
        fails(
            Bytes([zip(&numbered(2)), zip(&numbered(3))].concat()),
            "ArchiveCorrupt",
            "truncated or corrupt",
        ),
        unsafe_(vec![file("r/C:/main.tf")], "drive letter"),
        unsafe_(vec![file("r/../../etc/passwd")], "`r/../../etc/passwd`, which contains `..`"),
        unsafe_(vec![file("/etc/passwd")], "absolute path `/etc/passwd`"),
        unsafe_(vec![file("elsewhere/main.tf")], "one top folder"),
        unsafe_(vec![Entry::Link("r/key", "../../../root/.ssh/id_rsa")], "outside the module"),
        unsafe_(vec![Entry::Link("r/key", "/root/.ssh/id_rsa")], "`/root/.ssh/id_rsa`"),
        unsafe_(vec![file("r/a/b"), file("r/a")], "both as a file and as a folder"),
        special(Entry::Special("r/odd", EntryType::Link, "r/main.tf")),
        special(Entry::Special("r/odd", EntryType::Char, "")),
        special(Entry::Special("r/odd", EntryType::Fifo, "")),
        good(Both(zeros(MIB))),
        fails(Both(zeros(MIB + 1)), "ArchiveTooLarge", "--max-unpacked-size"),
        fails(Both(zeros(16 * MIB)), "ArchiveTooLarge", "--max-unpacked-size"),
        good(Both(numbered(8))),
        fails(Both(numbered(9)), "ArchiveTooLarge", "--max-entries"),
        fails(Both(vec![Entry::File("r/noise", noise(300 << 10))]), "ArchiveTooLarge", "--max-archive-size"),
    ]
}

#[tokio::test]
async fn hostile_archives_are_refused_and_the_good_ones_beside_them_published() {
    let world = World::new("hostile").await;
    let github = &world.bed.github;
    let repository = github.repository(&world.repository("hostile")).unwrap();
    let cases = cases();
    let versions: Vec<String> = (0..cases.len()).map(|at| format!("1.0.{at}")).collect();
    repository.releases(versions.iter().map(|v| (format!("v{v}"), vec![File::new("main.tf", "")]))).unwrap();
    for (case, version) in cases.iter().zip(&versions) {
        let (zip, tar) = match &case.archive {
            Archive::Bytes(bytes) => (bytes.clone(), bytes.clone()),
            Archive::Both(entries) => (zip(entries), tar_gz(entries)),
            Archive::Tar(entries) => (tar_gz(entries), tar_gz(entries)),
        };
        repository.replace_archive(&format!("v{version}"), Format::Zip, zip).unwrap();
        repository.replace_archive(&format!("v{version}"), Format::TarGz, tar).unwrap();
    }
    let limits = ["--max-unpacked-size", "1MiB", "--max-entries", "8", "--max-archive-size", "256KiB"];
    let operator = world.operator_with(&limits).await;
    let names: Vec<&str> = versions.iter().map(String::as_str).collect();
    for format in ["zip", "tar"] {
        let module = world.module(format).config("fileFormat", json!(format)).versions(&names);
        world.apply(&module.config("repoUrl", json!(repository.url())));
    }

    let mut good = Vec::new();
    for format in ["zip", "tar"] {
        for (case, version) in cases.iter().zip(&versions) {
            let name = format!("{format}-{version}");
            if let Some((reason, then, word)) = case.outcome {
                world.failed(&name, reason, then, &[word]).await;
                world.warned_once(&name, reason).await;
            } else {
                let version = world.version_ready(&name).await;
                good.push(version["status"]["storage"]["key"].as_str().unwrap().to_owned());
            }
        }
        let module = world
            .module_when(format, |m| {
                m["status"]["versions"]["synced"] == 3
                    && m["status"]["versions"]["failed"] == cases.len() - 3
                    && condition(m, "Ready")["reason"] == "VersionsFailed"
            })
            .await;
        assert_eq!(module["status"]["synced"], false);
    }
    good.sort();
    assert_eq!(world.bed.s3.keys(&world.name).await.unwrap(), good, "only the good ones are stored");
    soon(|| async {
        anyhow::ensure!(spooled(&operator).is_empty(), "{:?} is left on disk", spooled(&operator));
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_forced_sync_of_a_stalled_version_is_one_attempt_and_goes_back_to_false() {
    let world = World::new("forced").await;
    let repository = world.released("forced");
    repository.replace_archive("v1.0.0", Format::Zip, "not an archive").unwrap();
    let operator = world.operator().await;
    world.apply(&world.inline("forced"));
    world.failed("forced", "NotAnArchive", Stalled, &[]).await;
    world.bed.github.forget_requests(&repository.name()).unwrap();

    world.patch("version/forced", &json!({"spec": {"forceSync": true}}));
    world.version_when("forced", |v| v["spec"]["forceSync"] == false).await;
    let version = world.failed("forced", "NotAnArchive", Stalled, &["not an archive"]).await;
    assert!(version["status"]["pendingForce"].is_null(), "{}", version["status"]);
    world.quiet().await;
    let requests = world.bed.github.requests(&repository.name()).unwrap();
    let fetched = requests.iter().filter(|r| r.status == Some(200)).count();
    assert_eq!(fetched, 1, "one attempt: {requests:?}");
    world.warned_once("forced", "NotAnArchive").await;
    world.nothing_stored_nor_told(&operator, &[]).await;

    repository.restore_archives();
    world.patch("version/forced", &json!({"spec": {"forceSync": true}}));
    world.version_ready("forced").await;
    world.version_when("forced", |v| v["spec"]["forceSync"] == false).await;
}

/// A repository, what GitHub does with requests for it, and what becomes of that: a reason, who acts, words of the message.
type Answer<'a> = (&'a str, Option<(Hop, Failure)>, &'static str, Then, Vec<&'a str>);

#[tokio::test]
async fn whatever_github_answers_instead_of_an_archive_is_told_apart() {
    let world = World::new("answers").await;
    let github = &world.bed.github;
    let elsewhere = format!("elsewhere-{}.example", world.name);
    let fault = |failure| Some((Hop::Codeload, failure));
    let at_site = |failure| Some((Hop::Site, failure));
    let not_found = "does not exist or is private";
    let cases: Vec<Answer> = vec![
        ("missing", None, "RepositoryNotFound", Stalled, vec![not_found, "check repoUrl"]),
        ("private", None, "RepositoryNotFound", Stalled, vec![not_found, "useAuthenticatedClient"]),
        ("html", fault(Failure::Html), "NotAnArchive", Stalled, vec!["HTML page", "any proxy"]),
        ("empty", fault(Failure::EmptyBody), "ArchiveCorrupt", Retried, vec!["it is empty", "fetched again"]),
        (
            "cut-short",
            fault(Failure::TruncatedBody),
            "DownloadIncomplete",
            Retried,
            vec!["ended early, after"],
        ),
        ("endless", fault(Failure::EndlessBody), "ArchiveTooLarge", Stalled, vec!["--max-archive-size"]),
        ("bomb", None, "ArchiveTooLarge", Stalled, vec!["more than 200 times", "export-ignore"]),
        ("broken", at_site(Failure::Status(502)), "GitHubUnavailable", Retried, vec!["github.com", "502"]),
        (
            "no-archive",
            fault(Failure::Status(500)),
            "GitHubUnavailable",
            Retried,
            vec!["codeload.github.com", "500"],
        ),
        (
            "uneven",
            fault(Failure::Status(400)),
            "GitHubUnavailable",
            Retried,
            vec!["codeload.github.com", "400: Bad Request"],
        ),
        (
            "cut-off",
            at_site(Failure::Cut),
            "GitHubUnavailable",
            Retried,
            vec!["no answer from https://github.com/"],
        ),
        ("blocked", at_site(Failure::Status(451)), "AccessForbidden", Stalled, vec!["github.com", "451"]),
        ("odd", at_site(Failure::Status(418)), "UnexpectedAnswer", Retried, vec!["github.com", "418"]),
        (
            "lured",
            fault(Failure::RedirectTo(elsewhere.clone())),
            "GitHubUnavailable",
            Retried,
            vec![&elsewhere],
        ),
    ];
    let operator = world.operator_with(&["--max-archive-size", "256KiB"]).await;
    for (name, fault, ..) in &cases {
        if *name != "missing" {
            let repository = world.released(name).private(*name == "private");
            if *name == "bomb" {
                let zeros = Entry::File("r/zeros", vec![0; 80 * MIB]);
                repository.replace_archive("v1.0.0", Format::Zip, zip(&[zeros])).unwrap();
            }
        }
        if let Some((hop, failure)) = fault {
            github.inject(Fault::on(&world.repository(name), failure.clone()).at(*hop));
        }
        world.apply(&world.inline(name));
    }
    for (name, _, reason, then, words) in &cases {
        world.failed(name, reason, *then, words).await;
    }
    world.nothing_stored_nor_told(&operator, &[]).await;
    let metrics = operator.metrics().await.unwrap();
    assert!(metrics.contains("RepositoryNotFound") && metrics.contains("DownloadIncomplete"), "{metrics}");

    // Transient faults end by themselves; Versions that require a correction are published once a user asks.
    for (name, fault, ..) in &cases {
        github.clear_faults(&world.repository(name)).unwrap();
        if fault.is_some() {
            world.request(&format!("version/{name}"), "mended");
        }
    }
    for (name, fault, ..) in &cases {
        if fault.is_some() {
            world.version_ready(name).await;
        }
    }
}

#[tokio::test]
async fn a_tag_that_comes_late_is_published_by_itself_and_its_absence_told_once() {
    let world = World::new("late").await;
    let github = &world.bed.github;
    let cases = [("site", false, false), ("rest", true, false), ("rest-redirect", true, true)];
    let mut names = Vec::new();
    for (name, authenticated, redirects) in cases {
        let repository = github.repository(&world.repository(name)).unwrap();
        repository.release("v0.9.0", &[File::new("main.tf", "")]).unwrap();
        // A branch of that name is no release.
        repository.branch("v1.0.0", &[File::new("main.tf", "# a branch\n")]).unwrap();
        drop(repository.clone().private(authenticated).missing_tag_redirects(redirects));
        names.push((name, authenticated, repository));
    }
    let private: Vec<String> = names.iter().map(|(_, _, r)| r.name()).collect();
    let token = github.personal_token(&private.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
    world.secret("opendepot-github-application-secret", &[("githubToken", &token)]);
    let operator = world.operator().await;
    for (name, authenticated, _) in &names {
        let config = json!({"useAuthenticatedClient": authenticated});
        world.apply(&world.inline_of(name, &world.module(name).config("githubClientConfig", config)));
    }
    for (name, _, repository) in &names {
        let url = repository.url();
        world.failed(name, "TagNotFound", Retried, &[&url, "no tag 1.0.0 or v1.0.0", "push the tag"]).await;
    }
    world.nothing_stored_nor_told(&operator, &[&token]).await;

    // The second attempt comes by itself, and is no news.
    for (_, _, repository) in &names {
        let asked = || async {
            let requests = github.requests(&repository.name()).unwrap();
            let first = requests.first().unwrap().path.clone();
            let attempts = requests.iter().filter(|r| r.path == first).count();
            anyhow::ensure!(attempts >= 2, "{attempts} attempts");
            Ok(())
        };
        soon(asked).await;
        repository.release("v1.0.0", &[File::new("main.tf", "# at last\n")]).unwrap();
    }
    for (name, ..) in &names {
        world.warned_once(name, "TagNotFound").await;
        let version = world.version_ready(name).await;
        assert_eq!(version["status"]["source"]["ref"], "refs/tags/v1.0.0");
    }
    world.nothing_told(&operator, &[&token]);
}

#[tokio::test]
async fn a_tag_that_was_deleted_costs_no_stored_object() {
    let world = World::new("deleted").await;
    let repository = world.released("net");
    let operator = world.operator().await;
    world.apply(&world.inline("net"));
    let stored = world.version_ready("net").await;
    let bytes = world.stored(&stored).await;

    repository.delete_tag("v1.0.0").unwrap();
    world.request("version/net", "again");
    let message = world.version_fails("net", "TagNotFound").await;
    assert!(message.contains("no tag v1.0.0 or 1.0.0"), "{message}");
    let version = world.get_version("net").await.unwrap().unwrap();
    for field in ["synced", "checksum", "contentDigest", "source", "storage", "objects", "lastSyncTime"] {
        assert_eq!(version["status"][field], stored["status"][field], "{field}");
    }
    assert_eq!(version["status"]["synced"], true);
    assert_eq!(version["status"]["lastHandledRequest"], "again");
    assert_eq!(world.stored(&version).await, bytes);
    drop(operator);
}

/// A repository with a release of each version.
fn released(world: &World, name: &str, versions: &[&str]) -> Repository {
    let repository = world.bed.github.repository(&world.repository(name)).unwrap();
    let files = |v: &&str| ((*v).to_owned(), vec![File::new("main.tf", format!("# {v}\n"))]);
    repository.releases(versions.iter().map(files)).unwrap();
    repository
}

/// A repository whose archives never come, with more Versions than there are slots, beside a good Module.
async fn a_hanging_repository_delays_no_other(name: &str, failure: Failure) {
    let world = World::new(name).await;
    let github = &world.bed.github;
    let versions: Vec<String> = (0..8).map(|at| format!("1.0.{at}")).collect();
    let versions: Vec<&str> = versions.iter().map(String::as_str).collect();
    let [bad, good] = ["bad", "good"].map(|name| released(&world, name, &versions));
    github.inject(Fault::on(&bad.name(), failure).at(Hop::Codeload));
    let operator = world.operator().await;
    world.apply(&world.module("bad").versions(&versions));
    soon(|| async {
        let requests = github.requests(&bad.name()).unwrap();
        anyhow::ensure!(requests.iter().any(|r| r.hop == Hop::Codeload), "{requests:?}");
        Ok(())
    })
    .await;

    world.apply(&world.module("good").versions(&versions));
    world.module_ready("good").await;
    // What was asked of a repository before the first hanging request was given up.
    let first = github.requests(&bad.name()).unwrap().into_iter().find(|r| r.hop == Hop::Codeload).unwrap();
    let given_up = first.at + Duration::from_secs(30);
    let early = |repository: &Repository| {
        let requests = github.requests(&repository.name()).unwrap().into_iter();
        requests.filter(|r| r.hop == Hop::Codeload && r.at < given_up).count()
    };
    assert!(early(&good) > 0, "the good Module waited for the one that hangs");
    assert!(early(&bad) <= 2, "{} of 4 slots are held by a repository that never answered", early(&bad));
    assert_eq!(world.bed.s3.keys(&world.name).await.unwrap().len(), versions.len());
    let code = operator.terminate(Duration::from_mins(1)).await.unwrap();
    assert_eq!(code, 0, "{}", operator.log());
    assert!(operator.log().contains("aborted work in flight"), "a stop does not wait for what hangs");
}

/// A repository that has answered once, and whose archives then do not come.
async fn a_repository_that_stops_answering_delays_no_other(name: &str, failure: Failure) {
    let world = World::new(name).await;
    let github = &world.bed.github;
    let versions: Vec<String> = (0..9).map(|at| format!("1.0.{at}")).collect();
    let versions: Vec<&str> = versions.iter().map(String::as_str).collect();
    let [bad, good] = ["bad", "good"].map(|name| released(&world, name, &versions));
    let operator = world.operator().await;
    world.apply(&world.module("bad").versions(&versions[..1]));
    world.module_ready("bad").await;
    github.inject(Fault::on(&bad.name(), failure).at(Hop::Codeload));
    github.forget_requests(&bad.name()).unwrap();
    world.apply(&world.module("bad").versions(&versions));
    let codeload = |repository: &Repository| {
        let requests = github.requests(&repository.name()).unwrap().into_iter();
        requests.filter(|r| r.hop == Hop::Codeload).map(|r| r.at).collect::<Vec<_>>()
    };
    soon(|| async {
        let held = codeload(&bad).len();
        anyhow::ensure!(held >= 4, "{held} of 4 permits are in use");
        Ok(())
    })
    .await;

    world.apply(&world.module("good").versions(&versions));
    world.module_ready("good").await;
    let (bad, good) = (codeload(&bad), codeload(&good));
    let waited = good[0].duration_since(bad[0]).unwrap();
    assert!(waited < Duration::from_secs(25), "the good Module waited for {waited:?}");
    let code = operator.terminate(Duration::from_mins(1)).await.unwrap();
    assert_eq!(code, 0, "{}", operator.log());
}

#[tokio::test]
async fn a_repository_that_hangs_after_a_success_delays_no_other() {
    a_repository_that_stops_answering_delays_no_other("hangs-later", Failure::Hang).await;
}

#[tokio::test]
async fn a_repository_whose_archives_come_byte_by_byte_delays_no_other() {
    a_repository_that_stops_answering_delays_no_other("trickles", Failure::TrickledBody).await;
}

#[tokio::test]
async fn a_repository_that_never_answers_delays_no_other() {
    a_hanging_repository_delays_no_other("hangs", Failure::Hang).await;
}

#[tokio::test]
async fn a_repository_whose_archives_stop_half_way_delays_no_other() {
    a_hanging_repository_delays_no_other("stalls", Failure::StalledBody).await;
}
