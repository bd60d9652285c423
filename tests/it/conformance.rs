//! The texts that tell users what to do, run as they stand: the seed and the examples. What is run is taken out of the text,
//! in its order; a line that looks runnable and is not known fails the test. (The commands of
//! the README and the documents are run by docs.rs.)

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::ensure;
use opendepot_testbed::github::{App, File, Hop, real_repositories};
use opendepot_testbed::instructions::{Found, Part, documents, markdown, plain, yaml_file};
use opendepot_testbed::operator::Operator;
use opendepot_testbed::programs::write_script;
use opendepot_testbed::{Testbed, eventually};
use serde_json::{Value, json};

use crate::support::archives::sha256;
use crate::support::{World, condition, ready, real_modules, root, shared, whole_cluster};

const SYSTEM: &str = "opendepot-system";
const BUCKET: &str = "opendepot-modules";
const SECRET: &str = "opendepot-github-application-secret";
const TAG: &str = "${{ github.event.release.tag_name }}";
/// How long a text's step may take: a Secret that is made late is found within a minute, and the operator of the text before
/// may hold its Lease for 15 s.
const PATIENCE: Duration = Duration::from_mins(5);

/// A reader who does what a text says, on a cluster with the operator.
struct Reader {
    world: World,
    operator: Operator,
    folder: tempfile::TempDir,
    app: App,
    /// What readers put in place of what the text cannot know.
    stand_ins: Vec<(&'static str, String)>,
    /// The releases that set the workflows off.
    releases: Vec<&'static str>,
}

impl Reader {
    /// `flags` are those that the text starts the operator with.
    async fn new(bed: &'static Testbed, found: &[Found]) -> Self {
        let world = World::named(bed, SYSTEM).await;
        // It may be there from the text before.
        drop(bed.s3.create_bucket(BUCKET).await);
        let app = bed.github.app(&[]).unwrap();
        let stand_ins = vec![
            ("123456", app.id.to_string()),
            ("7654321", app.installation.to_string()),
            ("https://minio.example.com", bed.s3.endpoint()),
            ("us-east-1", "us-west-2".to_owned()),
        ];
        let folder = tempfile::tempdir().unwrap();
        for part in ["crds", "deploy", "examples"] {
            symlink(root().join(part), folder.path().join(part)).unwrap();
        }
        std::fs::write(folder.path().join("app.pem"), &app.pkcs1_pem).unwrap();
        // A runner has the AWS CLI; of it, a kubeconfig is asked for, which is there already.
        let aws = folder.path().join("bin/aws");
        std::fs::create_dir(folder.path().join("bin")).unwrap();
        write_script(&aws, "#!/bin/sh\n[ \"$1 $2\" = \"eks update-kubeconfig\" ]\n").unwrap();
        let flags = found.iter().filter_map(|found| match &found.part {
            Part::Flags(flags) => Some(flags.iter().map(|flag| filled_in(&stand_ins, flag))),
            _ => None,
        });
        let operator = bed.operator().args(["--log-level", "debug"]).args(flags.flatten());
        let operator = operator.start_ready().await.unwrap();
        Self { world, operator, folder, app, stand_ins, releases: vec!["v1.1.0", "v1.0.0"] }
    }

    /// Does all that a text says, and looks after each part whether what it says has come about.
    async fn follow(&mut self, found: &[Found]) {
        for Found { at, part } in found {
            println!("{at}");
            let fetches = self.fetches();
            match part {
                Part::Manifests(text) => self.apply(at, text),
                Part::Command(command) => {
                    self.presumed(command).await;
                    self.world.shell_in(self.folder.path(), &filled_in(&self.stand_ins, command));
                }
                Part::Step(script) => self.step(at, script),
                Part::Verb(verb) => drop(self.world.shell(&format!("{verb} --help"))),
                Part::Flags(_) => {}
            }
            self.settled(at).await;
            let forces = matches!(part, Part::Command(command) if command.contains("forceSync"));
            assert!(!forces || self.fetches() > fetches, "{at}: a forced sync fetches");
        }
    }

    fn fetches(&self) -> usize {
        let github = &self.world.bed.github;
        github.requests_where(|r| r.hop == Hop::Codeload && r.status == Some(200)).len()
    }

    /// Applies manifests as they stand. A Secret's placeholders are filled in, as its comments tell.
    fn apply(&self, at: &str, text: &str) {
        self.given(text);
        let mut documents = documents(at, text).unwrap();
        for document in &documents {
            let kind = document["kind"].as_str().unwrap_or_default();
            assert!(["Module", "Version", "Secret"].contains(&kind), "{at}: no expectation for a {kind:?}");
        }
        let secrets: Vec<&mut Value> = documents.iter_mut().filter(|d| d["kind"] == "Secret").collect();
        let mut text = filled_in(&self.stand_ins, text);
        if !secrets.is_empty() {
            for secret in secrets {
                let data = &mut secret["stringData"];
                data["githubAppID"] = json!(self.app.id.to_string());
                data["githubInstallID"] = json!(self.app.installation.to_string());
                data["githubPrivateKey"] = json!(self.app.pkcs1_pem);
            }
            text = documents.iter().map(|document| format!("---\n{document}\n")).collect();
        }
        self.world.apply(&text);
    }

    /// Runs a step of a workflow, set off by the next release.
    fn step(&mut self, at: &str, script: &str) {
        let tag = if script.contains(TAG) { self.releases.pop().expect("one more release") } else { "" };
        let script = script.replace(TAG, tag);
        assert!(!script.contains("${{"), "{at}: an expression without a value in {script}");
        self.given(&script);
        self.world.shell_in(self.folder.path(), &script);
    }

    /// The repositories that a text names, with the tags that it speaks of. Those that are real are there.
    fn given(&self, text: &str) {
        let mut named = Vec::new();
        for url in text.split_whitespace().filter_map(|word| word.strip_prefix("https://github.com/")) {
            let repository = url.trim_matches('"');
            named.push(repository.to_owned());
            if real_repositories().join(format!("{repository}.git")).is_dir() {
                continue;
            }
            let Ok(made) = self.world.bed.github.repository(repository) else { continue };
            let words: Vec<&str> = text.split_whitespace().collect();
            let versions =
                words.windows(2).filter(|pair| pair[0] == "version:").map(|pair| pair[1].trim_matches('"'));
            for tag in versions.chain(self.releases.iter().copied()) {
                made.release(tag, &[File::new("main.tf", format!("# {repository} {tag}\n"))]).unwrap();
            }
            drop(made.private(text.contains("useAuthenticatedClient: true")));
        }
        let all: Vec<&str> = named.iter().map(String::as_str).collect();
        if !all.is_empty() {
            self.world.bed.github.set_repositories(&self.app, &all).unwrap();
        }
    }

    /// A command may speak of a Version that the text has not made: as if it was appended before.
    async fn presumed(&self, command: &str) {
        // The seed has the singular.
        let kinds = ["version.opendepot.defdev.io", "versions.opendepot.defdev.io"];
        let mut words = command.split_whitespace().skip_while(|word| !kinds.contains(word));
        let Some(name) = words.nth(1) else { return };
        if self.world.get_version(name).await.unwrap().is_some() {
            return;
        }
        let (module, version) = name.rsplit_once('-').unwrap();
        let append = json!([{"op": "add", "path": "/spec/versions/-", "value": {"version": version}}]);
        self.world.kubectl(&["patch", "module", module, "--type=json", "-p", &append.to_string()]);
        self.settled(name).await;
    }

    /// Waits until each Module has what it wants, and the bucket holds what its Versions say. Only a Secret that the text
    /// has still to make is waited for later.
    async fn settled(&self, at: &str) {
        let world = &self.world;
        let list = |kind: &str| -> anyhow::Result<Vec<Value>> {
            let list = world.bed.kubectl(&["get", kind, "-n", SYSTEM, "-o", "json"])?.ok()?;
            let list: Value = serde_json::from_str(&list)?;
            Ok(list["items"].as_array().cloned().unwrap_or_default())
        };
        let no_secret = list("secrets").unwrap().is_empty();
        let late = |object: &Value| no_secret && condition(object, "Ready")["reason"] == "SecretNotFound";
        let settled = || async {
            let (modules, versions) = (list("modules")?, list("versions")?);
            for object in modules.iter().chain(&versions) {
                let done = ready(object)
                    && object["status"]["synced"] == true
                    && object["spec"]["forceSync"] == false;
                ensure!(done || late(object), "{}: {:#}", object["metadata"]["name"], object["status"]);
            }
            for module in &modules {
                let name = module["metadata"]["name"].as_str().unwrap();
                for wanted in module["spec"]["versions"].as_array().unwrap() {
                    let wanted = wanted["version"].as_str().unwrap().trim_start_matches('v');
                    let is_it = |v: &&Value| v["metadata"]["name"] == format!("{name}-{wanted}");
                    ensure!(versions.iter().any(|v| is_it(&v)), "there is no Version {name}-{wanted}");
                }
            }
            Ok(versions)
        };
        let versions = eventually(PATIENCE, settled).await.unwrap_or_else(|error| panic!("{at}: {error:#}"));
        for version in versions.iter().filter(|version| !late(version)) {
            let bytes = world.stored(version).await;
            assert_eq!(
                version["status"]["checksum"],
                sha256(&bytes),
                "{at}: {}",
                version["metadata"]["name"]
            );
        }
    }

    /// The Secret that authenticated Modules need and that a text may leave out.
    fn has_the_default_secret(&self) {
        self.world.app_secret(SECRET, &self.app);
    }

    /// Leaves nothing behind for the next text.
    async fn leave(self) {
        self.world.kubectl(&["delete", "modules", "--all", "--timeout=60s"]);
        // Those that belong to no Module.
        self.world.kubectl(&["delete", "versions.opendepot.defdev.io", "--all", "--timeout=60s"]);
        self.world.versions_are(&[]).await;
        self.world.kubectl(&["delete", "secrets", "--all"]);
        self.world.nothing_told(&self.operator, &[]);
    }
}

fn filled_in(stand_ins: &[(&str, String)], text: &str) -> String {
    stand_ins.iter().fold(text.to_owned(), |text, (place, value)| text.replace(place, value))
}

#[tokio::test]
async fn the_seed_runs_as_it_is_written() {
    if !real_modules() {
        return;
    }
    // It is beside the modules; on GitHub only they are fetched, and user_manifests.rs runs what the tests keep of it.
    let Ok(text) = std::fs::read_to_string(shared("seed.txt")) else { return };
    let found = plain("seed.txt", &text).unwrap();
    let count = |is: fn(&Part) -> bool| found.iter().filter(|found| is(&found.part)).count();
    assert_eq!(count(|part| matches!(part, Part::Manifests(_))), 2);
    assert_eq!(count(|part| matches!(part, Part::Step(_))), 3);
    assert_eq!(count(|part| matches!(part, Part::Command(_))), 3);
    let (_turn, bed) = whole_cluster().await;
    let mut reader = Reader::new(bed, &found).await;
    reader.has_the_default_secret();
    reader.follow(&found).await;
    assert!(reader.releases.is_empty(), "both workflows were set off");
    let names =
        ["21.10.1", "21.11.0", "21.12.0", "21.13.0", "21.18.0"].map(|v| format!("terraform-aws-eks-{v}"));
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.splice(0..0, ["my-module-1.0.0", "my-module-1.1.0"]);
    reader.world.versions_are(&names).await;
    reader.leave().await;
}

/// Examples that need more than this cluster, each with the test that runs it, or what of it.
const ELSEWHERE: [(&str, &str); 10] = [
    ("examples/workflows/", "workflows.rs runs their steps"),
    ("examples/aws/", "least_rights.rs works under the policies, aws.rs runs the scripts"),
    ("examples/kind/", "kind.rs: nothing here runs a kubelet"),
    ("examples/argocd.yaml", "gitops.rs plays what Argo CD does with it"),
    ("examples/flux.yaml", "gitops.rs plays what Flux does with it"),
    ("examples/irsa.yaml", "deploy.rs renders the overlay that it belongs to"),
    ("examples/release-workflow-rbac.yaml", "workflows.rs gives its runner just these rights"),
    ("examples/github-enterprise.yaml", "rate_limits.rs publishes from a server of its own"),
    ("examples/personal-token.yaml", "credentials.rs fetches with one"),
    ("examples/sse-kms.yaml", "storage/client.rs: the S3 server here knows no KMS"),
];

/// All files of a folder, sorted.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn every_example_runs_as_it_is_written() {
    if !real_modules() {
        return;
    }
    let (_turn, bed) = whole_cluster().await;
    let mut run = 0;
    for path in files(&root().join("examples")) {
        let name = path.strip_prefix(root()).unwrap().display().to_string();
        if ELSEWHERE.iter().any(|(begins, _)| name.starts_with(begins)) {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let found = match path.extension().and_then(|extension| extension.to_str()) {
            Some("yaml" | "yml") => yaml_file(&name, &text),
            Some("md") => markdown(&name, &text, ""),
            // Programs: cargo builds them with the tests, and CI runs them.
            Some("rs") => continue,
            _ => panic!("{name} cannot be run here"),
        };
        let found = found.unwrap();
        let mut reader = Reader::new(bed, &found).await;
        reader.has_the_default_secret();
        reader.follow(&found).await;
        reader.leave().await;
        run += 1;
    }
    assert!(run >= 5, "{run} examples");
}
