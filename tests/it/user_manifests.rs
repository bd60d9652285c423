//! The user's own words, run: the manifests and commands of the seed, on the real module that they name.

use aws_sdk_s3::types::ChecksumMode;
use opendepot_testbed::github::{Repository, real_repositories};
use serde_json::{Value, json};

use crate::support::archives::{git_tree, h1, sha256, tree};
use crate::support::{
    USER_MANIFESTS, World, condition, modules_in, real_modules, root, shared, user_modules,
};

const SYSTEM: &str = "opendepot-system";
const EKS: &str = "terraform-aws-modules/terraform-aws-eks";

fn eks(version: &str) -> String {
    format!("terraform-aws-eks-{version}")
}

fn resource_versions(versions: &[Value]) -> Vec<(String, String)> {
    let text = |v: &Value, field: &str| v["metadata"][field].as_str().unwrap().to_owned();
    versions.iter().map(|v| (text(v, "name"), text(v, "resourceVersion"))).collect()
}

/// The commands in a text, as one line each.
fn commands_in(text: &str) -> Vec<String> {
    let joined = text.replace("\\\n", " ");
    let lines = joined.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    lines.filter(|line| line.starts_with("kubectl patch ")).collect()
}

/// The first command of the seed that begins so.
fn seed_command(begins: &str) -> String {
    let commands = commands_in(&std::fs::read_to_string(root().join(USER_MANIFESTS)).unwrap());
    commands
        .into_iter()
        .find(|line| line.starts_with(begins))
        .unwrap_or_else(|| panic!("the seed says {begins}"))
}

#[test]
fn what_the_tests_keep_of_the_seed_is_what_it_says() {
    // Where the whole of it is not at hand, as on GitHub, what is kept of it is used all the same.
    let Ok(seed) = std::fs::read_to_string(shared("seed.txt")) else { return };
    assert_eq!(user_modules(), modules_in(&seed));
    let kept = commands_in(&std::fs::read_to_string(root().join(USER_MANIFESTS)).unwrap());
    // Those inside the workflow begin with more space, and take the version from a variable.
    let said: Vec<_> =
        commands_in(&seed).into_iter().filter(|command| !command.contains("my-module")).collect();
    assert_eq!(kept, said);
}

#[tokio::test]
async fn the_seed_from_the_first_apply_to_the_last_delete() {
    if !real_modules() {
        return;
    }
    let world = World::at(SYSTEM).await;
    let github = &world.bed.github;
    world.bed.s3.create_bucket("opendepot-modules").await.unwrap();
    let repository = github.alias(EKS, EKS).unwrap().private(true);
    let app = github.app(&[EKS]).unwrap();
    world.apply(&json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "opendepot-github-application-secret", "namespace": SYSTEM},
        "stringData": {"githubAppID": app.id.to_string(), "githubInstallID": app.installation.to_string(), "githubPrivateKey": app.pkcs1_pem},
    }));
    let operator = world.operator().await;
    let [first, _, full] = &user_modules()[..] else { panic!("the seed has three Modules") };

    // The first Module: three Versions, dots kept, each with what git has at its tag.
    world.apply(first);
    let module = world.module_ready("terraform-aws-eks").await;
    assert_eq!(module["status"]["versions"]["summary"], "3/3");
    assert_eq!(module["status"]["latestVersion"], "21.12.0");
    world.versions_are(&[&eks("21.10.1"), &eks("21.11.0"), &eks("21.12.0")]).await;
    for version in world.versions().await.unwrap() {
        is_what_git_has(&world, &repository, &version).await;
    }
    assert_eq!(github.token_requests(app.installation).len(), 1, "one token for all");

    // The patch appends, the full list changes nothing that is settled.
    world.shell(&seed_command("kubectl patch module terraform-aws-eks -n opendepot-system --type json"));
    world.version_ready(&eks("21.13.0")).await;
    world.module_ready("terraform-aws-eks").await;
    let settled = resource_versions(&world.versions().await.unwrap());
    // The full list leaves `immutable` and the credentials out: what changes is configuration, not content.
    let same = full.replace("    storageConfig:", "    immutable: true\n    githubClientConfig:\n      useAuthenticatedClient: true\n    storageConfig:");
    let writes = world.writes_during(async { world.apply(&same) }).await;
    assert_eq!(resource_versions(&world.versions().await.unwrap()), settled);
    assert!(writes.iter().all(|w| w.resource == "modules"), "{writes:?}");
    let writes = world.writes_during(async { world.apply(&same) }).await;
    assert!(writes.is_empty(), "applying the same again: {writes:?}");

    // As it stands, without credentials, it is refused for the next fetch only: what is stored stays.
    world.bed.github.forget_requests(EKS).unwrap();
    world.apply(full);
    world.module_ready("terraform-aws-eks").await;
    assert!(github.requests(EKS).unwrap().is_empty(), "no fetch for a change of credentials");

    // forceSync, both commands, and the field is reset to false.
    world.apply(&same);
    world.module_ready("terraform-aws-eks").await;
    github.forget_requests(EKS).unwrap();
    world.shell(&seed_command("kubectl patch module terraform-aws-eks -n opendepot-system --type merge"));
    world
        .module_when("terraform-aws-eks", |m| {
            m["spec"]["forceSync"] == false && condition(m, "Ready")["status"] == "True"
        })
        .await;
    assert_eq!(
        github.requests(EKS).unwrap().iter().filter(|r| r.status == Some(200)).count(),
        4,
        "one fetch per version"
    );

    // Removing an entry removes its Version and its object; an empty list removes all.
    let gone = world.get_version(&eks("21.10.1")).await.unwrap().unwrap();
    world.kubectl(&[
        "patch",
        "module",
        "terraform-aws-eks",
        "--type=json",
        "-p",
        r#"[{"op":"remove","path":"/spec/versions/0"}]"#,
    ]);
    world.versions_are(&[&eks("21.11.0"), &eks("21.12.0"), &eks("21.13.0")]).await;
    let keys = world.bed.s3.keys("opendepot-modules").await.unwrap();
    assert!(
        keys.len() == 3 && !keys.contains(&gone["status"]["storage"]["key"].as_str().unwrap().to_owned())
    );
    world.patch("module/terraform-aws-eks", &json!({"spec": {"versions": []}}));
    world.versions_are(&[]).await;
    assert!(world.bed.s3.keys("opendepot-modules").await.unwrap().is_empty());
    let empty = world.module_ready("terraform-aws-eks").await;
    assert_eq!(empty["status"]["versions"]["summary"], "0/0");

    // Deleting the Module deletes what it published.
    world.patch("module/terraform-aws-eks", &json!({"spec": {"versions": [{"version": "21.18.0"}]}}));
    world.version_ready(&eks("21.18.0")).await;
    world.kubectl(&["delete", "module", "terraform-aws-eks"]);
    world.versions_are(&[]).await;
    assert!(world.bed.s3.keys("opendepot-modules").await.unwrap().is_empty());
    assert!(
        !operator.log().contains("PRIVATE KEY") && !operator.log().contains("ghs_"),
        "no secret in the log"
    );
}

async fn is_what_git_has(world: &World, repository: &Repository, version: &Value) {
    let status = &version["status"];
    let tag = format!("v{}", version["spec"]["version"].as_str().unwrap().trim_start_matches('v'));
    let bytes = world.stored(version).await;
    let expected = git_tree(&real_repositories().join(format!("{EKS}.git")), &tag);
    assert!(tree(&bytes) == expected, "{tag}: the object's tree is not git's");
    assert_eq!(status["checksum"], sha256(&bytes));
    let place = |field: &str| status["storage"][field].as_str().unwrap().to_owned();
    let head = world.bed.s3.client().head_object().bucket(place("bucket")).key(place("key"));
    let head = head.checksum_mode(ChecksumMode::Enabled).send().await.unwrap();
    assert_eq!(head.checksum_sha256(), status["checksum"].as_str(), "S3's own checksum");
    assert_eq!(status["contentDigest"], h1(&expected));
    assert_eq!(status["archiveSizeBytes"], bytes.len());
    assert_eq!(status["source"]["url"], format!("https://github.com/{EKS}"));
    assert_eq!(status["source"]["ref"], format!("refs/tags/{tag}"));
    assert_eq!(status["source"]["commit"], repository.commit_of(&tag).unwrap());
    assert!(status["lastSyncTime"].is_string());
}
