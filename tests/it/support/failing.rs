//! What the tests of failures share: inline Versions, Secrets, hostile archives, and how a failure has to look.

use std::io::{Cursor, Write as _};
use std::path::PathBuf;

use opendepot_testbed::github::{App, File, Repository};
use opendepot_testbed::operator::Operator;
use serde_json::{Value, json};

use super::{ModuleFixture, World, condition, soon};

/// Who has to act on a failure, as the conditions show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// A user.
    Stalled,
    /// The operator: it is retried.
    Retried,
}

impl World {
    /// A repository with the tag `v1.0.0`.
    pub(crate) fn released(&self, name: &str) -> Repository {
        let repository = self.bed.github.repository(&self.repository(name)).unwrap();
        repository.release("v1.0.0", &[File::new("main.tf", format!("# {name}\n"))]).unwrap();
        repository
    }

    /// A Version without a Module, of 1.0.0 of the repository of the same name.
    pub(crate) fn inline(&self, name: &str) -> Value {
        self.inline_of(name, &self.module(name))
    }

    /// A Version without a Module, configured as that Module is.
    pub(crate) fn inline_of(&self, name: &str, module: &ModuleFixture) -> Value {
        json!({
            "apiVersion": "opendepot.defdev.io/v1alpha1",
            "kind": "Version",
            "metadata": {"name": name, "namespace": self.name},
            "spec": {"type": "Module", "version": "1.0.0", "moduleConfigRef": module.0["spec"]["moduleConfig"]},
        })
    }

    /// A Version without a Module that uses the credentials of a Secret.
    pub(crate) fn authenticated(&self, name: &str, secret: &str) -> Value {
        let config = json!({"useAuthenticatedClient": true, "secretName": secret});
        self.inline_of(name, &self.module(name).config("githubClientConfig", config))
    }

    /// Applies a Secret with a GitHub App's credentials.
    pub(crate) fn app_secret(&self, name: &str, app: &App) {
        let (id, installation) = (app.id.to_string(), app.installation.to_string());
        let keys =
            [("githubAppID", &id), ("githubInstallID", &installation), ("githubPrivateKey", &app.pkcs1_pem)];
        self.secret(name, &keys.map(|(key, value)| (key, value.as_str())));
    }

    /// Applies a Secret.
    pub(crate) fn secret(&self, name: &str, pairs: &[(&str, &str)]) {
        let data: Value = pairs.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect();
        self.apply(&json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": name, "namespace": self.name}, "stringData": data,
        }));
    }

    /// Waits until a Version that has stored nothing fails with a reason, and checks all that its status says of it:
    /// the message has each of `words`.
    pub(crate) async fn failed(&self, name: &str, reason: &str, then: Then, words: &[&str]) -> Value {
        let version = self
            .version_when(name, |v| {
                let ready = condition(v, "Ready");
                // What is retried at first may require a user when it has failed again.
                let stalled = condition(v, "Stalled")["status"] == "True";
                ready["status"] == "False"
                    && ready["reason"] == reason
                    && stalled == (then == Then::Stalled)
                    && ready["observedGeneration"] == v["metadata"]["generation"]
            })
            .await;
        let holds = |type_: &str| condition(&version, type_)["status"] == "True";
        let expected = (then == Then::Stalled, then == Then::Retried);
        assert_eq!((holds("Stalled"), holds("Reconciling")), expected, "{name}: Stalled, Reconciling");
        let message = condition(&version, "Ready")["message"].as_str().unwrap();
        for word in words {
            assert!(message.contains(word), "{name}: {word:?} is not in: {message}");
        }
        let status = &version["status"];
        assert_eq!(status["syncStatus"], message);
        assert_eq!(status["synced"], false, "{name}");
        for absent in ["checksum", "contentDigest", "storage", "lastSyncTime"] {
            assert!(status[absent].is_null(), "{name}: {absent}");
        }
        version
    }

    /// Waits until there is a Warning about a Version, and checks that it is the only one, sent once, with that reason.
    pub(crate) async fn warned_once(&self, version: &str, reason: &str) {
        let warnings = || async {
            let events = self.all_events(version, "type=Warning").await?;
            anyhow::ensure!(!events.is_empty(), "no Event about {version}");
            Ok(events)
        };
        let warnings = soon(warnings).await;
        let brief: Vec<_> = warnings.iter().map(|e| (e.reason.as_deref(), e.series.is_some())).collect();
        assert_eq!(brief, [(Some(reason), false)], "{version}");
    }

    /// Nothing is in the bucket, and the log and every status in the namespace are without these.
    pub(crate) async fn nothing_stored_nor_told(&self, operator: &Operator, secrets: &[&str]) {
        assert_eq!(self.bed.s3.keys(&self.name).await.unwrap(), [""; 0]);
        self.nothing_told(operator, secrets);
    }

    /// The log, the objects and the Events of the namespace are without these, and without tokens of GitHub's.
    pub(crate) fn nothing_told(&self, operator: &Operator, secrets: &[&str]) {
        let texts = [operator.log(), self.kubectl(&["get", "modules,versions,events", "-o", "json"])];
        for text in &texts {
            for secret in secrets.iter().chain(&["ghs_", "ghp_", "PRIVATE KEY", "token="]) {
                let at =
                    text.find(secret).map(|at| &text[at.saturating_sub(200)..(at + 100).min(text.len())]);
                assert_eq!(at, None, "{secret:?} is shown");
            }
        }
    }
}

/// What is left of archives on the operator's disk.
pub(crate) fn spooled(operator: &Operator) -> Vec<PathBuf> {
    let files = |folder: PathBuf| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let spools = files(operator.home().join("tmp")).filter(|path| path.is_dir());
    spools.flat_map(files).filter(|path| !path.ends_with("in-use")).collect()
}

/// One entry of an archive. Paths are written as they are, however hostile.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    File(&'static str, Vec<u8>),
    Folder(&'static str),
    Link(&'static str, &'static str),
    /// Only a tar has those.
    Special(&'static str, tar::EntryType, &'static str),
}

/// A file with a few bytes.
pub(crate) fn file(path: &'static str) -> Entry {
    Entry::File(path, b"content\n".to_vec())
}

/// A tar.gz of these entries.
pub(crate) fn tar_gz(entries: &[Entry]) -> Vec<u8> {
    let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut builder = tar::Builder::new(gzip);
    for entry in entries {
        let (path, kind, target, content) = match entry {
            Entry::File(path, content) => (path, tar::EntryType::Regular, "", content.as_slice()),
            Entry::Folder(path) => (path, tar::EntryType::Directory, "", &b""[..]),
            Entry::Link(path, target) => (path, tar::EntryType::Symlink, *target, &b""[..]),
            Entry::Special(path, kind, target) => (path, *kind, *target, &b""[..]),
        };
        let mut header = tar::Header::new_gnu();
        // Not by the methods for it: they refuse what is hostile.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

/// A zip of these entries.
pub(crate) fn zip(entries: &[Entry]) -> Vec<u8> {
    let options = zip::write::SimpleFileOptions::default();
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for entry in entries {
        match entry {
            Entry::File(path, content) => {
                writer.start_file(*path, options).unwrap();
                writer.write_all(content).unwrap();
            }
            Entry::Folder(path) => writer.add_directory(*path, options).unwrap(),
            Entry::Link(path, target) => writer.add_symlink(*path, *target, options).unwrap(),
            Entry::Special(path, ..) => panic!("a zip has no {path}"),
        }
    }
    writer.finish().unwrap().into_inner()
}
