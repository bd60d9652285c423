//! What a user sees with kubectl alone: columns, conditions, Events, explanations, names.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use opendepot_testbed::Testbed;
use opendepot_testbed::github::{File, Quota};
use opendepot_testbed::s3::{S3Failure, S3Fault};
use serde_json::{Value, json};

use crate::support::generated::updates;
use crate::support::{World, condition, root, soon, testbed, whole_cluster};

const REQUESTED_AT: &str = "opendepot.defdev.io/requestedAt";

/// The rows of a table by NAME, each cell by its column's head. No cell may reach into the next column.
fn table(text: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut lines = text.lines();
    let head = lines.next().unwrap_or_default();
    let starts: Vec<usize> = (0..head.len())
        .filter(|&at| !head[at..].starts_with(' ') && (at == 0 || head[..at].ends_with("  ")))
        .collect();
    let cells = |line: &str| -> Vec<String> {
        let ends = starts.iter().skip(1).copied().chain([usize::MAX]);
        let cell = |(&start, end): (&usize, usize)| {
            assert!(
                start == 0 || line.is_char_boundary(start) && line[..start.min(line.len())].ends_with(' '),
                "{text}"
            );
            line.get(start..end.min(line.len())).unwrap_or_default().trim().to_owned()
        };
        starts.iter().zip(ends).map(cell).collect()
    };
    let heads = cells(head);
    let rows = lines.map(|line| heads.iter().cloned().zip(cells(line)).collect::<BTreeMap<_, _>>());
    rows.map(|row| (row["NAME"].clone(), row)).collect()
}

fn row<'a>(
    table: &'a BTreeMap<String, BTreeMap<String, String>>,
    name: &str,
    columns: &[&str],
) -> Vec<&'a str> {
    columns.iter().map(|column| table[name][*column].as_str()).collect()
}

/// A namespace with a Module that is ready, one that waits, and one that failed.
async fn three_states(bed: &'static Testbed) -> World {
    let world = World::named(bed, "platform").await;
    let github = &bed.github;
    bed.s3.create_bucket("acme-modules").await.unwrap();
    let module = |name: &str, provider: &str, versions: &[&str]| {
        let repository = github.repository(&format!("example-org/{name}")).unwrap();
        let files = |v: &&str| ((*v).to_owned(), vec![File::new("main.tf", format!("# {v}\n"))]);
        repository.releases(versions.iter().map(files)).unwrap();
        let module =
            world.module(name).config("provider", json!(provider)).s3("bucket", json!("acme-modules"));
        (module.config("repoUrl", json!(repository.url())).versions(versions), repository)
    };
    let (network, _) = module("terraform-aws-network", "aws", &["v1.4.0", "v1.5.0", "v2.0.0"]);
    let (eks, private) = module("terraform-aws-eks", "aws", &["v21.10.1", "v21.11.0", "v21.12.0"]);
    let (project, missing) = module("terraform-google-project", "google", &["v1.0.0"]);
    missing.delete();
    let private = private.private(true);
    let app = github.app(&[&private.name()]).unwrap();
    world.app_secret("opendepot-github-application-secret", &app);
    let eks = eks.config("githubClientConfig", json!({"useAuthenticatedClient": true}));
    world.apply(&eks.clone().versions(&["v21.10.1", "v21.11.0"]));
    world.module_ready("terraform-aws-eks").await;
    github.set_quota(Quota::Installation(app.installation), 0, Duration::from_mins(50));
    world.apply(&[&eks, &network, &project].map(|module| format!("---\n{module}\n")).concat());
    for (name, reason) in [
        ("terraform-aws-network", "Synced"),
        ("terraform-aws-eks", "RateLimited"),
        ("terraform-google-project", "RepositoryNotFound"),
    ] {
        world.module_when(name, |m| condition(m, "Ready")["reason"] == reason).await;
    }
    world
}

#[tokio::test]
async fn get_and_describe_say_what_is_the_case_as_the_readme_shows() {
    let (_turn, bed) = whole_cluster().await;
    let operator = bed.operator().start_ready().await.unwrap();
    let world = three_states(bed).await;
    world.quiet().await;

    let said = world.kubectl(&["get", "modules"]);
    let modules = table(&said);
    let columns = ["PROVIDER", "LATEST", "SYNCED", "READY", "REASON"];
    assert_eq!(modules["terraform-aws-eks"].len(), 7, "{said}");
    for (name, expected) in [
        ("terraform-aws-network", ["aws", "2.0.0", "3/3", "True", "Synced"]),
        ("terraform-aws-eks", ["aws", "21.11.0", "2/3", "False", "RateLimited"]),
        ("terraform-google-project", ["google", "", "0/1", "False", "RepositoryNotFound"]),
    ] {
        assert_eq!(row(&modules, name, &columns), expected, "{said}");
    }
    assert!(said.lines().all(|line| line.len() < 100), "it fits on a screen:\n{said}");
    let wide = table(&world.kubectl(&["get", "modules", "-o", "wide"]));
    assert_eq!(wide["terraform-aws-eks"]["SOURCE"], "https://github.com/example-org/terraform-aws-eks");

    let versions = table(&world.kubectl(&["get", "versions", "-o", "wide"]));
    let stored = world.version_ready("terraform-aws-network-2.0.0").await;
    let columns = ["VERSION", "SYNCED", "READY", "REASON", "SIZE", "CHECKSUM", "COMMIT"];
    let status = &stored["status"];
    let (checksum, commit) =
        (status["checksum"].as_str().unwrap(), status["source"]["commit"].as_str().unwrap());
    let expected =
        ["v2.0.0", "true", "True", "Synced", &status["archiveSizeBytes"].to_string(), checksum, commit];
    assert_eq!(row(&versions, "terraform-aws-network-2.0.0", &columns), expected);
    let expected = ["v1.0.0", "false", "False", "RepositoryNotFound", "", "", ""];
    assert_eq!(row(&versions, "terraform-google-project-1.0.0", &columns), expected);

    // Events are written behind the work.
    for reason in ["Progressing", "RepositoryNotFound"] {
        world.events("terraform-google-project", reason).await;
    }
    readme_shows(&transcript(&world));
    world.kubectl(&["delete", "modules", "--all"]);
    drop(operator);
}

/// What the README shows: two commands, and of the second's output what matters.
fn transcript(world: &World) -> String {
    let name = "terraform-google-project";
    let modules = world.kubectl(&["get", "modules"]);
    let described = world.kubectl(&["describe", "module", name]);
    let lines: Vec<&str> = described.lines().collect();
    let at = |start: &str| lines.iter().position(|line| line.starts_with(start)).unwrap();
    let (status, events) = (at("Status:"), at("Events:"));
    let ready = &lines[status..status + 9];
    assert!(ready[8].ends_with("Ready"), "{described}");
    format!(
        "```sh\nkubectl get modules.opendepot.defdev.io -n platform\n```\n\n```text\n{modules}```\n\n\
         ```sh\nkubectl describe modules.opendepot.defdev.io {name} -n platform\n```\n\n```text\n…\n{}\n…\n{}\n```\n",
        ready.join("\n"),
        lines[events..].join("\n")
    )
}

/// Ages and times differ from run to run, and with them the columns' widths.
fn timeless(text: &str) -> String {
    let word = |word: &str| {
        let digits = word.trim_end_matches(['s', 'm', 'h']);
        let age = !digits.is_empty()
            && digits.len() < word.len()
            && digits.chars().all(|c| c.is_ascii_alphanumeric());
        let time = word.len() == 20 && word.ends_with('Z') && word.starts_with("20");
        if time || age && digits.starts_with(|c: char| c.is_ascii_digit()) {
            "…".to_owned()
        } else {
            word.to_owned()
        }
    };
    let line = |line: &str| line.split_whitespace().map(word).collect::<Vec<_>>().join(" ");
    text.lines()
        .map(line)
        .collect::<Vec<_>>()
        .join("\n")
        .replace("21.12.0", "21.11.0")
        .replace("21.10.1", "21.11.0")
}

/// Compares the block in the README that this file writes, or writes it.
fn readme_shows(transcript: &str) {
    let path = root().join("README.md");
    let readme = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = readme.split_once(GENERATED).expect("the README has a place for it");
    let (kept, after) = rest.split_once(GENERATED_END).unwrap();
    if updates() {
        std::fs::write(&path, format!("{before}{GENERATED}{transcript}{GENERATED_END}{after}")).unwrap();
        return;
    }
    assert_eq!(
        timeless(kept),
        timeless(transcript),
        "run UPDATE_GENERATED=1 cargo test --test it kubectl::get"
    );
}

/// The lines before and after the blocks that are made from a run.
const GENERATED: &str = "<!-- made by tests/it/kubectl.rs -->\n";
const GENERATED_END: &str = "<!-- end of the generated part -->\n";

/// Type and reason of the Events about an object, oldest first, and how often each was sent.
fn story(world: &World, object: &str) -> Vec<(String, String, i64)> {
    let (kind, name) = object.split_once('/').unwrap();
    let of = format!("--field-selector=involvedObject.kind={kind},involvedObject.name={name}");
    let list: Value = serde_json::from_str(&world.kubectl(&["get", "events", &of, "-o", "json"])).unwrap();
    let mut events = list["items"].as_array().unwrap().clone();
    events.sort_by_key(|e| e["eventTime"].as_str().unwrap_or_default().to_owned());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    events
        .iter()
        .map(|e| (text(&e["type"]), text(&e["reason"]), e["series"]["count"].as_i64().unwrap_or(1)))
        .collect()
}

#[tokio::test]
async fn events_tell_each_turn_of_the_story_once_however_many_attempts_there_were() {
    let world = World::new("story").await;
    let repository = world.bed.github.repository(&world.repository("net")).unwrap();
    let one = repository.release("v0.9.0", &[File::new("main.tf", "# one\n")]).unwrap();
    let _operator = world.operator().await;
    world.apply(&world.module("net").config("immutable", json!(true)).versions(&["v1.0.0"]));
    let ends_as = async |reason: &str| {
        let handled = |v: &Value| {
            condition(v, "Ready")["reason"] == reason
                && v["status"]["lastHandledRequest"] == v["metadata"]["annotations"][REQUESTED_AT]
        };
        world.version_when("net-1.0.0", handled).await;
        world.module_when("net", |m| condition(m, "Ready")["reason"] == reason).await;
    };
    ends_as("TagNotFound").await;
    world.request("version/net-1.0.0", "again");
    ends_as("TagNotFound").await;
    assert!(
        world.bed.github.requests(&repository.name()).unwrap().len() >= 2 * 4,
        "two attempts, two spellings"
    );
    repository.tag("v1.0.0", &one).unwrap();
    // Without a request, which would be a second sync if the operator tried again before it came.
    ends_as("Synced").await;
    let two = repository.release("v0.9.1", &[File::new("main.tf", "# two\n")]).unwrap();
    repository.tag("v1.0.0", &two).unwrap();
    world.request("version/net-1.0.0", "moved");
    ends_as("ImmutableContentChanged").await;
    repository.tag("v1.0.0", &one).unwrap();
    world.request("version/net-1.0.0", "back");
    ends_as("Synced").await;

    let turn = |type_: &str, reason: &str, times| (type_.to_owned(), reason.to_owned(), times);
    let recorded = || async {
        let warned = |times| {
            [turn("Warning", "TagNotFound", times), turn("Warning", "ImmutableContentChanged", times)]
        };
        let [late, moved] = warned(1);
        let version = [late.clone(), turn("Normal", "Synced", 2), moved.clone()];
        let module = [turn("Normal", "Progressing", 1), late, turn("Normal", "Synced", 2), moved];
        let stories = (story(&world, "Version/net-1.0.0"), story(&world, "Module/net"));
        anyhow::ensure!(stories == (version.to_vec(), module.to_vec()), "{stories:?}");
        Ok(())
    };
    // Events are written behind the work.
    soon(recorded).await;
}

#[tokio::test]
async fn what_a_module_has_said_is_not_said_again_for_another_count() {
    let world = World::new("counts").await;
    let repository = world.bed.github.repository(&world.repository("net")).unwrap();
    let commit = repository.release("v0.9.0", &[File::new("main.tf", "")]).unwrap();
    let _operator = world.operator().await;
    world.apply(&world.module("net").versions(&["v1.0.0", "v1.1.0", "v1.2.0"]));
    let failed = async |count: i64| {
        let all_said = |m: &Value| {
            m["status"]["versions"]["failed"] == count && condition(m, "Ready")["reason"] == "TagNotFound"
        };
        world.module_when("net", all_said).await
    };
    failed(3).await;
    for (tag, left) in [("v1.0.0", 2), ("v1.1.0", 1)] {
        repository.tag(tag, &commit).unwrap();
        world.request(&format!("version/net-{}", &tag[1..]), "there");
        let module = failed(left).await;
        let stored = format!("{} of 3 versions stored, {left} failed", 3 - left);
        assert!(condition(&module, "Ready")["message"].as_str().unwrap().starts_with(&stored));
    }
    world.quiet().await;
    // Events are written behind the work.
    for reason in ["Progressing", "TagNotFound"] {
        world.events("net", reason).await;
    }
    let reasons: Vec<_> =
        story(&world, "Module/net").into_iter().map(|(_, reason, times)| (reason, times)).collect();
    assert_eq!(reasons, [("Progressing".to_owned(), 1), ("TagNotFound".to_owned(), 1)]);
}

#[tokio::test]
async fn the_end_of_an_outage_is_told_as_its_beginning_is() {
    let world = World::new("outage-story").await;
    world.released("net");
    let _operator = world.operator_with(&["--verify-interval", "1s"]).await;
    world.apply(&world.inline("net"));
    world.version_ready("net").await;
    let denied = S3Failure::Answer(403, "AccessDenied");
    world.bed.s3.inject(S3Fault::new(&world.name, denied).method(Method::HEAD));
    world.version_fails("net", "StorageAccessDenied").await;
    world.bed.s3.clear_faults(&world.name);
    world.version_ready("net").await;
    let recorded = || async {
        let story = story(&world, "Version/net");
        let reasons: Vec<_> = story.iter().map(|(_, reason, times)| (reason.as_str(), *times)).collect();
        anyhow::ensure!(reasons == [("Synced", 1), ("StorageAccessDenied", 1), ("Synced", 1)], "{reasons:?}");
        Ok(())
    };
    soon(recorded).await;
}

#[tokio::test]
async fn names_and_short_names_are_nobody_elses() {
    let bed = testbed().await;
    let list = bed.kubectl(&["api-resources", "-o", "wide", "--no-headers"]).unwrap().ok().unwrap();
    let ours = ["module", "modules", "odm", "version", "versions", "odv", "opendepot"];
    let mut found = 0;
    for line in list.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let own = line.contains("opendepot.defdev.io/");
        let kind =
            words.iter().position(|word| ["true", "false"].contains(word)).map(|at| words[at + 1]).unwrap();
        // Plural, short names (with commas) and the kind, whose lower case is the singular.
        let names = [words[0], words[1], kind].map(str::to_lowercase);
        let taken = names.iter().flat_map(|name| name.split(',')).any(|name| ours.contains(&name));
        assert_eq!(taken, own, "{line}");
        found += usize::from(own);
    }
    assert!(found == 2 && list.lines().count() > 40, "{list}");
    for (short, plural) in [("odm", "modules"), ("odv", "versions")] {
        let explained = bed.kubectl(&["explain", short]).unwrap().ok().unwrap();
        assert!(
            explained.contains(&format!(
                "KIND:       {}",
                ["Module", "Version"][usize::from(plural == "versions")]
            ))
        );
    }
}

/// Every field of a schema: its path, and what is said about it.
fn fields(path: &str, schema: &Value, found: &mut Vec<(String, String)>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        found.push((path.clone(), field["description"].as_str().unwrap_or_default().to_owned()));
        fields(&path, field, found);
        fields(&path, &field["items"], found);
    }
}

#[tokio::test]
async fn every_field_explains_itself() {
    let bed = testbed().await;
    for (plural, definition) in opendepot::api::definitions() {
        let definition = serde_json::to_value(&definition).unwrap();
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
        let mut all = Vec::new();
        for part in ["spec", "status"] {
            fields(&format!("{plural}.{part}"), &schema[part], &mut all);
        }
        assert!(all.len() > 40, "{all:?}");
        for (path, description) in &all {
            assert!(description.len() > 7 && description.ends_with(['.', ')']), "{path}: {description:?}");
        }
        let recursive = bed
            .kubectl(&["explain", &format!("{plural}.opendepot.defdev.io.spec"), "--recursive"])
            .unwrap()
            .ok()
            .unwrap();
        for (path, _) in all.iter().filter(|(path, _)| path.contains(".spec.")) {
            let name = path.rsplit('.').next().unwrap();
            assert!(recursive.contains(&format!("{name}\t<")), "{path} is not in\n{recursive}");
        }
        // The deepest one, as kubectl finds it.
        let (deepest, description) = all.iter().max_by_key(|(path, _)| path.matches('.').count()).unwrap();
        let explained = bed.kubectl(&["explain", deepest]).unwrap().ok().unwrap();
        let first_words: String = description.split_whitespace().take(4).collect::<Vec<_>>().join(" ");
        assert!(
            explained.split_whitespace().collect::<Vec<_>>().join(" ").contains(&first_words),
            "{explained}"
        );
    }
}
