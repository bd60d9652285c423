//! Archives from a local server, and a `go` that writes down what it is asked to build.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::digest::{SHA512, digest};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::Server::{Controllers, Etcd, KubeApiserver, KubeControllerManager, Kubectl, Tofu, Versitygw};
use super::archives::{Archive, ENVTEST, OPENTOFU, VERSITYGW, hexadecimal};
use super::setup::{Missing, downloads};
use super::*;
use crate::process::Folder;
use crate::programs::write_script;

const GO: &str = r#"#!/bin/sh
echo "$@" >> "$0.log"
if [ "$1" = list ]; then printf 'a\nb\nc\n'; exit; fi
while [ "$1" != -o ]; do shift; done
for name in kube-apiserver kube-controller-manager kubectl server versitygw; do echo built > "$2/$name"; done
printf 'go: downloading x v1\na\nb\nc\n' >&2
"#;

/// What the local server does with a request.
#[derive(Clone, Copy)]
enum Site {
    Answers,
    CutsOff,
    NotFound,
}

/// Serves the bytes for each path, and counts requests.
fn serve(site: Site, bytes: Vec<u8>) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let requests = Arc::clone(&count);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            requests.fetch_add(1, Ordering::SeqCst);
            answer(stream.unwrap(), site, &bytes);
        }
    });
    (url, count)
}

fn answer(mut stream: TcpStream, site: Site, bytes: &[u8]) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    let status = if matches!(site, Site::NotFound) { "404 Not Found" } else { "200 OK" };
    let sent = if matches!(site, Site::CutsOff) { &bytes[..bytes.len() / 2] } else { bytes };
    let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", bytes.len());
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(sent).unwrap();
}

/// An archive as envtest has it, and what is pinned for it.
fn envtest() -> (Vec<u8>, Archive) {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let mut add = |path: &str, text: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        archive.append_data(&mut header, path, text.as_bytes()).unwrap();
    };
    add("controller-tools/envtest/etcd", "downloaded etcd");
    add("controller-tools/envtest/README", "not a program");
    add("etcd", "elsewhere");
    add("controller-tools/envtest/kube-apiserver", "downloaded kube-apiserver");
    add("controller-tools/envtest/kubectl", "downloaded kubectl");
    let bytes = archive.into_inner().unwrap().finish().unwrap();
    let sum = digest(&SHA512, &bytes);
    let mut pinned = Archive::of(Etcd, "x86_64").unwrap();
    pinned.checksum = hexadecimal(sum.as_ref()).leak();
    (bytes, pinned)
}

fn setup(folder: &Folder, site: &str) -> Setup {
    let go = folder.path().join("go");
    write_script(&go, GO).unwrap();
    Setup { assets: None, cache: folder.path().join("cache"), site: Some(site.to_owned()), go: go.into() }
}

fn entries(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn an_archive_is_downloaded_once_and_only_its_programs_are_kept() {
    let folder = Folder::new("archives").unwrap();
    let (bytes, archive) = envtest();
    let (url, requests) = serve(Site::Answers, bytes);
    let setup = setup(&folder, &url);
    for _ in 0..2 {
        let missing =
            Missing { archives: vec![(archive.clone(), vec![Etcd, Kubectl])], ..Missing::default() };
        setup.get(missing, &Progress::lines()).unwrap();
    }
    assert_eq!(requests.load(Ordering::SeqCst), 1);
    let etcd = archive.program(&setup.cache, Etcd);
    assert_eq!(entries(etcd.parent().unwrap()), ["etcd", "kube-apiserver", "kubectl"]);
    assert_eq!(fs::read_to_string(&etcd).unwrap(), "downloaded etcd");
    assert_eq!(etcd.metadata().unwrap().permissions().mode() & 0o777, 0o755);
    assert!(!folder.path().join("go.log").exists(), "something was built");
}

#[test]
fn programs_of_an_archive_that_cannot_be_had_are_built() {
    let (bytes, archive) = envtest();
    let mut other = bytes.clone();
    other.push(0);
    let refused = || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    for url in [
        serve(Site::Answers, other).0,
        serve(Site::CutsOff, bytes.clone()).0,
        serve(Site::NotFound, bytes.clone()).0,
        refused(),
    ] {
        let folder = Folder::new("archives").unwrap();
        let setup = setup(&folder, &url);
        let versitygw = Archive::of(Versitygw, "x86_64").unwrap();
        let archives = vec![(archive.clone(), vec![Etcd, Kubectl]), (versitygw, vec![Versitygw])];
        let missing = Missing { archives, builds: vec![("servers", vec![KubeControllerManager])] };
        setup.get(missing, &Progress::lines()).unwrap();

        let asked = fs::read_to_string(folder.path().join("go.log")).unwrap();
        let builds: Vec<_> = asked.lines().filter(|line| line.starts_with("build ")).collect();
        let [build] = builds[..] else { panic!("{asked}") };
        let packages = [KubeControllerManager, Etcd, Kubectl, Versitygw].map(Server::package).join(" ");
        assert!(build.ends_with(&packages), "{build}");
        for server in [KubeControllerManager, Etcd, Kubectl, Versitygw] {
            let path = setup.find(server).unwrap().unwrap();
            assert_eq!(fs::read_to_string(path).unwrap(), "built\n", "{server:?}");
        }
        assert_eq!(setup.find(KubeApiserver).unwrap(), None, "not wanted");
        assert!(!archive.program(&setup.cache, Etcd).exists(), "of an archive that is not the pinned one");
    }
}

#[test]
fn what_is_missing_is_in_archives_as_far_as_they_are_published() {
    let folder = Folder::new("archives").unwrap();
    let mut setup = setup(&folder, "http://127.0.0.1:1");
    let wanted = [Etcd, KubeApiserver, KubeControllerManager, Kubectl, Versitygw, Tofu];
    let missing = setup.missing(&wanted).unwrap();
    let archives: Vec<_> = missing.archives.iter().map(|(_, programs)| programs.clone()).collect();
    assert_eq!(archives, [vec![Etcd, KubeApiserver, Kubectl], vec![Versitygw], vec![Tofu]]);
    assert_eq!(missing.builds, [("servers", vec![KubeControllerManager])]);

    assert_eq!(setup.controllers().unwrap(), Controllers);
    let missing = setup.missing(&[Controllers, Etcd]).unwrap();
    assert_eq!(missing.builds, [("controllers", vec![Controllers])]);

    setup.site = None;
    assert_eq!(setup.controllers().unwrap(), KubeControllerManager);
    let missing = setup.missing(&wanted).unwrap();
    assert_eq!(missing.archives, []);
    let servers = vec![Etcd, KubeApiserver, KubeControllerManager, Kubectl, Versitygw];
    assert_eq!(missing.builds, [("servers", servers), ("tofu", vec![Tofu])]);

    let assets = folder.sub("assets").unwrap();
    fs::write(assets.join("etcd"), "").unwrap();
    setup.assets = Some(assets.clone());
    assert_eq!(setup.find(Etcd).unwrap(), Some(assets.join("etcd")));
}

#[test]
fn ci_builds_from_source_unless_it_is_asked() {
    assert!(downloads(None, false).unwrap());
    assert!(!downloads(None, true).unwrap());
    assert!(downloads(Some("download"), true).unwrap());
    assert!(!downloads(Some("build"), false).unwrap());
    let error = downloads(Some("no"), false).unwrap_err().to_string();
    assert_eq!(error, "OPENDEPOT_TEST_SERVERS is \"no\": set it to `build` or `download`");
}

/// A new version needs new checksums: see `archives.rs`.
#[test]
fn archives_have_the_versions_that_are_built() {
    let pinned = |module: &str, package: &str| {
        let text = fs::read_to_string(source(module).join("go.mod")).unwrap();
        let begins = format!("{package} v");
        let line = text.lines().find_map(|line| line.trim().strip_prefix(&begins));
        line.unwrap().split(' ').next().unwrap().to_owned()
    };
    assert_eq!(pinned("servers", "github.com/versity/versitygw"), VERSITYGW);
    assert_eq!(pinned("tofu", "github.com/opentofu/opentofu"), OPENTOFU);
    let minor = |version: &str| version.rsplit_once('.').unwrap().0.to_owned();
    assert_eq!(minor(&pinned("servers", "k8s.io/kubernetes")), minor(ENVTEST));
    for processor in ["x86_64", "aarch64"] {
        let archive = Archive::of(Etcd, processor).unwrap();
        assert!(archive.checksum.len() == 128 && archive.name.contains(ENVTEST), "{archive:?}");
    }
    assert_eq!(Archive::of(Etcd, "riscv64"), None);
    assert_eq!(Archive::of(KubeControllerManager, "x86_64"), None);
}
