//! What git itself packs, which is what GitHub serves.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use super::*;

fn git(dir: &Path, args: &[&str]) -> Vec<u8> {
    let output = Command::new("git")
        .arg("-C")
        .arg(dir)
        .args([
            "-c",
            "user.name=Test",
            "-c",
            "user.email=test@example.com",
            "-c",
            "core.bigFileThreshold=50k",
        ])
        .args(args)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Makes a repository and returns its files as they are to be published.
fn repository(dir: &Path) -> BTreeMap<String, Published> {
    let long = format!("modules/{}/main.tf", ["a-rather-long-folder-name"; 8].join("/"));
    // The last is above the threshold from which git streams a file, with its sizes behind it.
    let large = "0123456789".repeat(10_000);
    let mut published = BTreeMap::new();
    for (path, data) in
        [("main.tf", "# main"), (long.as_str(), "# deep"), ("größe.tf", "# ü"), ("large.txt", &large)]
    {
        fs::create_dir_all(dir.join(path).parent().unwrap()).unwrap();
        fs::write(dir.join(path), data).unwrap();
        published.insert(path.to_owned(), Published { data: data.into(), mode: 0o644 });
    }
    fs::write(dir.join("run.sh"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(dir.join("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    published.insert("run.sh".into(), Published { data: "#!/bin/sh\n".into(), mode: 0o755 });
    fs::create_dir(dir.join("examples")).unwrap();
    for (path, target, source) in [
        ("examples/main.tf", "../main.tf", "main.tf"),
        ("run", "run.sh", "run.sh"),
        ("deep.tf", long.as_str(), long.as_str()),
    ] {
        symlink(target, dir.join(path)).unwrap();
        published.insert(path.into(), published[source].clone());
    }
    symlink("nowhere", dir.join("dangling")).unwrap();
    git(dir, &["init", "--quiet"]);
    git(dir, &["add", "."]);
    git(dir, &["commit", "--quiet", "--message", "test"]);
    published
}

#[test]
fn both_archives_of_a_commit_become_the_same_module() {
    let dir = tempfile::tempdir().unwrap();
    let published = repository(dir.path());
    let commit = String::from_utf8(git(dir.path(), &["rev-parse", "HEAD"])).unwrap();
    for format in FORMATS {
        let mut outputs = ["--format=zip", "--format=tar.gz"].map(|packing| {
            let raw = git(dir.path(), &["archive", packing, "--prefix=module-1.2.3/", "HEAD"]);
            let (normalised, bytes) = run(&raw, format, &Limits::default()).unwrap();
            assert_eq!(normalised.commit.as_deref(), Some(commit.trim()));
            assert_eq!(normalised.digest.to_string(), h1(&published));
            assert_eq!(normalised.report.skipped_links.total, 1);
            assert_eq!(unpack(&bytes, format), published);
            bytes
        });
        assert_eq!(std::mem::take(&mut outputs[0]), outputs[1]);
    }
}
