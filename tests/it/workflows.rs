//! The release workflows and the action, run as a GitHub runner runs them, with no more rights than the example gives.

use opendepot_testbed::github::{File, Repository};
use opendepot_testbed::operator::Operator;
use opendepot_testbed::workflow::{JobOutcome, Runner};
use serde_json::{Value, json};

use crate::support::{World, condition, root, user_modules};

pub(crate) const PUBLISH: &str = "publish.yaml";
pub(crate) const APPEND: &str = "append.yaml";
pub(crate) const ACTION: &str = "publish-with-action.yaml";

/// Steps that need a cloud: [`runner`] has done their work.
const CLOUD: [&str; 2] = ["Configure AWS credentials", "Setup kubeconfig"];

/// A runner with the rights of a service account in the namespace of this test.
async fn runner(world: &World, service_account: &str) -> Runner {
    let kubernetes = &world.bed.kubernetes;
    let rights = kubernetes.kubeconfig_for_service_account(&world.name, service_account).await.unwrap();
    let runner = Runner::new().unwrap().with_cluster(kubernetes.kubectl_path(), rights).unwrap();
    let action = root().join(".github/actions/publish");
    runner.skipping(&CLOUD).with_action("opendepot/opendepot/.github/actions/publish@v", action)
}

/// A world with the repository of the workflows, a runner and an operator.
pub(crate) struct Stage {
    pub world: World,
    pub runner: Runner,
    repository: Repository,
    operator: Operator,
}

impl Stage {
    pub(crate) async fn new(name: &str, tags: &[&str]) -> Self {
        let world = World::new(name).await;
        let operator = world.operator().await;
        let repository = world.with_releases("terraform-aws-my-module", tags);
        world.runner();
        let runner = runner(&world, "runner").await;
        let stage = Self { world, runner, repository, operator };
        stage.manifest("");
        stage
    }

    /// The manifest that the workflow with the action finds in its repository, with more of `moduleConfig`.
    fn manifest(&self, more: &str) {
        let module = self.workflow(PUBLISH);
        let module = module.split("<<'EOF'\n").nth(1).unwrap().split("          EOF").next().unwrap();
        let module: String = module.lines().map(|line| format!("{}\n", &line[10..])).collect();
        let provider = "    provider: aws\n";
        assert!(module.contains(provider), "{module}");
        let module = module.replace(provider, &format!("{provider}{more}"));
        std::fs::write(self.runner.workspace().join("module.yaml"), module).unwrap();
    }

    /// A workflow of the examples, for this test's namespace, bucket and repository.
    pub(crate) fn workflow(&self, name: &str) -> String {
        let text = std::fs::read_to_string(root().join("examples/workflows").join(name)).unwrap();
        let name = &self.world.name;
        text.replace("opendepot-system", name).replace("opendepot-modules", name).replace("my-org", name)
    }

    fn release(&self, workflow: &str, tag: &str) -> JobOutcome {
        self.release_of(&self.workflow(workflow), tag)
    }

    fn release_of(&self, workflow: &str, tag: &str) -> JobOutcome {
        self.runner.run(workflow, None, &json!({"release": {"tag_name": tag}})).unwrap()
    }

    pub(crate) fn published(&self, workflow: &str, tag: &str) -> JobOutcome {
        let outcome = self.release(workflow, tag);
        assert!(outcome.success, "{workflow} {tag}: {}", outcome.log);
        outcome
    }

    /// What the Module lists.
    pub(crate) async fn listed(&self) -> Vec<String> {
        let module = self.world.get_module("my-module").await.unwrap();
        let versions = module["spec"]["versions"].as_array().unwrap();
        versions.iter().map(|v| v["version"].as_str().unwrap().to_owned()).collect()
    }
}

fn workflows(folder: &str) -> Vec<(String, Value)> {
    let files = std::fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let yaml = files.filter(|path| path.extension().is_some_and(|e| e == "yaml" || e == "yml"));
    yaml.map(|path| {
        let text = std::fs::read_to_string(&path).unwrap();
        (path.display().to_string(), serde_yaml::from_str(&text).unwrap())
    })
    .collect()
}

#[test]
fn no_workflow_puts_an_expression_into_a_command() {
    let mut all = workflows("examples/workflows");
    all.extend(workflows(".github/workflows"));
    all.extend(workflows(".github/actions/publish"));
    assert!(all.len() >= 6, "{}", all.len());
    for (name, workflow) in all {
        let jobs = workflow["jobs"].as_object().cloned().unwrap_or_default();
        let jobs = jobs.values().chain([&workflow["runs"]]).filter(|job| !job.is_null());
        // A job without steps is another workflow, called.
        for step in jobs.filter_map(|job| job["steps"].as_array()).flatten() {
            let run = step["run"].as_str().unwrap_or_default();
            assert!(!run.contains("${{"), "{name}: pass it by env: {run}");
        }
        if name.contains("workflows") {
            assert!(workflow["permissions"].is_object(), "{name}: permissions are said, and for all jobs");
            assert!(!workflow["concurrency"].is_null(), "{name}: what may run at the same time is said");
        }
    }
}

#[test]
fn every_job_that_assumes_the_aws_role_is_one_that_the_role_trusts() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let trusted = |text: &str| {
        let (_, subject) = text.split_once("repo:acme/terraform-aws-eks:environment:").unwrap();
        subject.chars().take_while(char::is_ascii_alphanumeric).collect::<String>()
    };
    let environment = trusted(&read("examples/aws/settings.sh"));
    for path in ["docs/aws.md", "examples/aws/release-trust-policy.json"] {
        assert_eq!(trusted(&read(path)), environment, "{path}");
    }
    let mut found = 0;
    for (name, workflow) in workflows("examples/workflows") {
        for (job, content) in workflow["jobs"].as_object().unwrap() {
            let steps = content["steps"].as_array().unwrap();
            let is_aws = |step: &Value| {
                step["uses"]
                    .as_str()
                    .is_some_and(|uses| uses.starts_with("aws-actions/configure-aws-credentials@"))
            };
            if steps.iter().any(is_aws) {
                assert_eq!(content["environment"], environment.as_str(), "{name}: {job}");
                found += 1;
            }
        }
    }
    assert_eq!(found, 3);
}

#[tokio::test]
async fn releases_follow_one_another_and_a_run_may_be_repeated() {
    let stage = Stage::new("releases", &["v1.0.0", "v1.1.0"]).await;
    stage.published(PUBLISH, "v1.0.0");
    stage.published(PUBLISH, "v1.1.0");
    let before = stage.world.version_ready("my-module-1.0.0").await;
    let again = stage.published(PUBLISH, "v1.0.0");
    assert!(again.log.contains("The version is already listed."), "{}", again.log);
    assert_eq!(stage.listed().await, ["v1.0.0", "v1.1.0"]);
    stage.world.objects_are(2).await;
    let after = stage.world.version_ready("my-module-1.0.0").await;
    assert_eq!(after["metadata"]["resourceVersion"], before["metadata"]["resourceVersion"]);
    assert_eq!(after["status"]["source"]["ref"], "refs/tags/v1.0.0");
}

#[tokio::test]
async fn first_releases_at_the_same_time_are_all_there() {
    let tags = ["v1.0.0", "v1.1.0", "v2.0.0"];
    let stage = Stage::new("at-once", &tags).await;
    let workflows = [PUBLISH, ACTION, PUBLISH];
    let outcomes: Vec<JobOutcome> = std::thread::scope(|scope| {
        let stage = &stage;
        let runs = tags.iter().zip(workflows).map(|(tag, name)| scope.spawn(|| stage.release(name, tag)));
        let runs: Vec<_> = runs.collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    for outcome in &outcomes {
        assert!(outcome.success, "{}", outcome.log);
    }
    let mut listed = stage.listed().await;
    listed.sort();
    assert_eq!(listed, tags);
    stage.world.objects_are(3).await;
}

#[tokio::test]
async fn a_module_made_by_the_seeds_own_apply_keeps_its_versions() {
    let stage = Stage::new("applied", &["v1.0.0", "v1.1.0", "v1.2.0", "v1.3.0"]).await;
    let seed = user_modules()[1]
        .replace("${{ github.event.release.tag_name }}", "v1.0.0")
        .replace("my-org", &stage.world.name)
        .replace("opendepot-system", &stage.world.name)
        .replace("opendepot-modules", &stage.world.name);
    stage.world.apply(&seed);
    stage.published(PUBLISH, "v1.1.0");
    stage.published(APPEND, "v1.2.0");
    stage.published(ACTION, "v1.3.0");
    assert_eq!(stage.listed().await, ["v1.0.0", "v1.1.0", "v1.2.0", "v1.3.0"]);
    stage.world.objects_are(4).await;
}

#[tokio::test]
async fn appending_wants_a_module_that_is_there() {
    let stage = Stage::new("append", &["1.0.0"]).await;
    let refused = stage.release(APPEND, "1.0.0");
    assert!(!refused.success && refused.log.contains("NotFound"), "{}", refused.log);
    assert!(!refused.log.contains("Not published"), "there is nothing to describe: {}", refused.log);
    let without = stage.workflow(ACTION).replace("          manifest: module.yaml\n", "");
    let refused = stage.release_of(&without, "1.0.0");
    assert!(!refused.success && refused.log.contains("There is no Module my-module"), "{}", refused.log);
}

#[tokio::test]
async fn a_hostile_tag_is_only_ever_text() {
    let stage = Stage::new("hostile", &["v1.0.0"]).await;
    stage.published(PUBLISH, "v1.0.0");
    for tag in [
        "v1.0.0$(touch${IFS}hacked)",
        "v1.0.0`touch${IFS}hacked`",
        "\"; touch hacked; \"",
        "'; touch hacked; '",
        "v1.0.0\"},{\"version\":\"9.9.9",
        "v1.0.0 --help",
        "--help",
        "${{ github.token }}",
        "latest",
        "",
    ] {
        for workflow in [PUBLISH, APPEND, ACTION] {
            let outcome = stage.release(workflow, tag);
            assert!(!outcome.success, "{workflow} {tag:?}: {}", outcome.log);
            let said = ["is not a version", "is not a semantic version"];
            assert!(said.iter().any(|words| outcome.log.contains(words)), "{workflow}: {}", outcome.log);
            let files = std::fs::read_dir(stage.runner.workspace()).unwrap().count();
            assert_eq!(files, 1, "{workflow} {tag:?} made a file");
        }
    }
    assert_eq!(stage.listed().await, ["v1.0.0"]);
}

#[tokio::test]
async fn a_failed_release_fails_with_the_reason() {
    let stage = Stage::new("reason", &["v1.0.0"]).await;
    // The failure is known before the runs, which wait for four seconds.
    stage.published(PUBLISH, "v1.0.0");
    let append = json!([{"op": "add", "path": "/spec/versions/-", "value": {"version": "v9.9.9"}}]);
    stage.world.kubectl(&["patch", "module", "my-module", "--type=json", "-p", &append.to_string()]);
    stage.world.version_fails("my-module-9.9.9", "TagNotFound").await;
    let hasty = |name: &str| {
        let text = stage.workflow(name);
        let hasty =
            text.replace("Ready --timeout=10m", "Ready --timeout=4s").replace("timeout: 10m", "timeout: 4s");
        assert_ne!(text, hasty);
        hasty
    };
    let words = "TagNotFound: repository https://github.com/";
    for workflow in [PUBLISH, APPEND, ACTION] {
        let outcome = stage.release_of(&hasty(workflow), "v9.9.9");
        assert!(!outcome.success);
        let error = outcome.log.lines().find(|line| line.starts_with("::error title=Not published::"));
        assert!(
            error.is_some_and(|e| e.contains(words) && e.contains("has no tag v9.9.9")),
            "{}",
            outcome.log
        );
        assert!(outcome.log.contains("Events:"), "the log has the Events: {}", outcome.log);
    }
}

#[tokio::test]
async fn the_action_tells_where_the_object_is_whatever_its_version_object_is_called() {
    let tag = "v1.0.0-RC.1+build.5";
    let stage = Stage::new("outputs", &[tag]).await;
    let outcome = stage.published(ACTION, tag);
    let versions = stage.world.versions().await.unwrap();
    let [version] = &versions[..] else { panic!("{versions:?}") };
    assert_ne!(version["metadata"]["name"], "my-module-1.0.0-RC.1+build.5");
    let status = &version["status"];
    let (key, checksum) = (status["storage"]["key"].as_str().unwrap(), status["checksum"].as_str().unwrap());
    let expected = format!("Stored as s3://{}/{key}, SHA-256 {checksum}\n", stage.world.name);
    assert_eq!(outcome.summary, expected);
    assert!(outcome.log.contains(&format!("contentDigest: {}", status["contentDigest"].as_str().unwrap())));
    // `opendepot publish` has the same outputs.
    let binary = format!("timeout: \"600\"\n          binary: {}", env!("CARGO_BIN_EXE_opendepot"));
    let workflow = stage.workflow(ACTION);
    assert!(workflow.contains("timeout: 10m"), "{workflow}");
    let again = stage.release_of(&workflow.replace("timeout: 10m", &binary), tag);
    assert!(again.success && again.log.contains("is already listed\n"), "{}", again.log);
    assert_eq!(again.summary, expected);
    let refused = stage.release_of(
        &workflow.replace("timeout: 10m", &binary).replace("module: my-module", "module: none"),
        tag,
    );
    assert!(!refused.success && refused.log.contains("::error title=Not published::"), "{}", refused.log);
}

#[tokio::test]
async fn the_action_stops_at_a_stalled_version_and_retries_when_run_again() {
    let stage = Stage::new("again", &["v1.0.0"]).await;
    stage.repository.delete();
    let outcome = stage.release(ACTION, "v1.0.0");
    assert!(!outcome.success, "{}", outcome.log);
    assert!(outcome.log.contains("::error title=Not published::RepositoryNotFound: "), "{}", outcome.log);
    // The next attempt would be an hour later.
    let repository = stage.world.bed.github.repository(&stage.repository.name()).unwrap();
    repository.release("v1.0.0", &[File::new("main.tf", "# back\n")]).unwrap();
    stage.published(ACTION, "v1.0.0");
}

#[tokio::test]
async fn the_action_says_what_keeps_a_module_from_publishing() {
    let stage = Stage::new("kept", &["v1.0.0", "v2.0.0"]).await;
    let refused = |words: &str, tag: &str| {
        let outcome = stage.release(ACTION, tag);
        let error = outcome.log.lines().find(|line| line.starts_with("::error title=Not published::"));
        assert!(!outcome.success && error.is_some_and(|e| e.contains(words)), "{words}: {}", outcome.log);
    };
    stage.manifest("    versionHistoryLimit: 1\n");
    stage.published(ACTION, "v2.0.0");
    refused("newest versions that versionHistoryLimit keeps", "v1.0.0");
    let mut taken = stage.world.inline("my-module-4.0.0");
    taken["spec"]["suspend"] = json!(true);
    stage.world.apply(&taken);
    refused("NameTaken: Version my-module-4.0.0 exists", "v4.0.0");
    stage.world.patch("module/my-module", &json!({"spec": {"suspend": true}}));
    refused("Suspended: Suspended by spec.suspend", "v3.0.0");
    let manifest = stage.runner.workspace().join("module.yaml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text.replacen("name: my-module", "name: another", 1)).unwrap();
    refused("contains opendepot.defdev.io/v1alpha1/Module/another: it must contain only", "v2.0.0");
}

/// Runners on macOS have bash 3.2: no `mapfile`, and with `set -u` an empty array is unset.
#[test]
fn the_action_needs_no_new_bash() {
    let script = std::fs::read_to_string(root().join(".github/actions/publish/publish.sh")).unwrap();
    for word in ["mapfile", "readarray", "declare -A", "local -n", "${!", "^^}", ",,}"] {
        assert!(!script.contains(word), "{word}");
    }
    let unguarded = script.replace("${selector[@]+\"${selector[@]}\"}", "");
    assert!(!unguarded.contains("[@]}"), "an array that may be empty: {unguarded}");
}

#[tokio::test]
async fn versions_whose_object_has_another_name_are_published_too() {
    let tags = ["v1.0.0-1735689600", "v1.0.0-a1b2c3d4e5", "v1.0.0-a-.b", "1.0.0--", "v1.0.0-RC.1+build.5"];
    let stage = Stage::new("hashed", &tags).await;
    for (workflow, tag) in [PUBLISH, APPEND, PUBLISH, APPEND, APPEND].into_iter().zip(tags) {
        stage.published(workflow, tag);
    }
    assert_eq!(stage.listed().await, tags);
    stage.world.objects_are(5).await;
    for version in stage.world.versions().await.unwrap() {
        let plain =
            format!("my-module-{}", version["spec"]["version"].as_str().unwrap().trim_start_matches('v'));
        assert_ne!(version["metadata"]["name"], plain);
    }
    // Modules whose name reads as if it had a version in it, or is too long for a label.
    let long = format!("my-module-{}", "x".repeat(60));
    for (workflow, tag, name) in [
        (PUBLISH, tags[0], "my-module-1.0.0"),
        (ACTION, tags[1], "my-module-1.0.0"),
        (PUBLISH, tags[2], &long),
    ] {
        let called = format!(": {name}\n");
        let manifest = stage.runner.workspace().join("module.yaml");
        let text = std::fs::read_to_string(&manifest).unwrap();
        std::fs::write(&manifest, text.replacen(": my-module\n", &called, 1)).unwrap();
        let outcome = stage.release_of(&stage.workflow(workflow).replace(": my-module\n", &called), tag);
        assert!(outcome.success, "{workflow}: {}", outcome.log);
        std::fs::write(&manifest, text).unwrap();
    }
    stage.world.objects_are(8).await;
}

#[tokio::test]
async fn a_pruned_version_is_reported_although_another_version_fails() {
    let stage = Stage::new("pruned", &["v1.0.0", "v2.0.0"]).await;
    stage.manifest("    versionHistoryLimit: 2\n");
    stage.published(ACTION, "v2.0.0");
    let append = json!([{"op": "add", "path": "/spec/versions/-", "value": {"version": "v3.0.0"}}]);
    stage.world.kubectl(&["patch", "module", "my-module", "--type=json", "-p", &append.to_string()]);
    stage.world.module_when("my-module", |m| condition(m, "Ready")["reason"] == "TagNotFound").await;
    let said = |outcome: &JobOutcome| {
        let error = outcome.log.lines().find(|line| line.starts_with("::error title=Not published::"));
        assert!(!outcome.success && error.is_some(), "{}", outcome.log);
        error.unwrap().to_owned()
    };
    let hasty = stage.workflow(ACTION).replace("timeout: 10m", "timeout: 30s");
    let error = said(&stage.release_of(&hasty, "v1.0.0"));
    assert!(error.contains("v1.0.0 is not among the newest versions"), "{error}");
    let hasty = stage.workflow(APPEND).replace("{1..60}", "{1..3}");
    let error = said(&stage.release_of(&hasty, "v1.0.0"));
    assert!(error.contains("No Version object was created. TagNotFound: "), "{error}");
}

#[tokio::test]
async fn a_run_that_moves_the_module_says_where_the_version_is_now() {
    let stage = Stage::new("moved", &["v1.0.0"]).await;
    let before = stage.published(ACTION, "v1.0.0").summary;
    let manifest = stage.runner.workspace().join("module.yaml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let moved = text.replace("region: us-west-2\n", "region: us-west-2\n        key: elsewhere\n");
    assert_ne!(moved, text);
    std::fs::write(&manifest, moved).unwrap();
    // The operator hears of the change only when the run has looked at the Module once more, or has ended.
    stage.operator.signal("STOP").unwrap();
    let audit = stage.world.bed.kubernetes.audit();
    let from = audit.position().unwrap();
    let runner = format!("system:serviceaccount:{}:runner", stage.world.name);
    let after = std::thread::scope(|scope| {
        let run = scope.spawn(|| stage.published(ACTION, "v1.0.0").summary);
        // kubectl reads an object before it patches it, which the run does twice.
        let reads =
            || audit.matching(from, |e| e.user == runner && e.verb == "get" && e.resource == "modules");
        while !run.is_finished() && reads().unwrap().len() < 3 {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        stage.operator.signal("CONT").unwrap();
        run.join().unwrap()
    });
    let bucket = format!("Stored as s3://{}/", stage.world.name);
    assert!(
        before.starts_with(&bucket) && after.starts_with(&format!("{bucket}elsewhere/my-module/")),
        "{after}"
    );
    let key = after[bucket.len()..].split(',').next().unwrap();
    let there = stage.world.bed.s3.keys(&stage.world.name).await.unwrap();
    assert!(there.iter().any(|stored| stored == key), "{key}: {there:?}");
}
