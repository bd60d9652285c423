//! Files that only GitHub reads, compared with what GitHub documents: issue forms, dependabot.yml and CODEOWNERS. A form with an
//! error is not offered, and an entry of Dependabot with one is skipped, without a failed run. Actionlint checks the workflows.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::support::root;

const TEMPLATES: &str = ".github/ISSUE_TEMPLATE";

fn parse(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap();
    serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What is wrong with the keys of a mapping.
fn keys(of: &Value, required: &[&str], optional: &[&str]) -> Vec<String> {
    let Some(of) = of.as_object() else { return vec![format!("{of} is no mapping")] };
    let missing = required.iter().filter(|key| of.get(**key).is_none_or(Value::is_null));
    let unknown =
        of.keys().filter(|key| !required.contains(&key.as_str()) && !optional.contains(&key.as_str()));
    missing
        .map(|key| format!("{key} is missing"))
        .chain(unknown.map(|key| format!("{key} is unknown")))
        .collect()
}

/// Type of an element, required attributes, optional ones. An element of type markdown has neither `id` nor `validations`.
const ELEMENTS: [(&str, &[&str], &[&str]); 6] = [
    ("markdown", &["value"], &[]),
    ("textarea", &["label"], &["description", "placeholder", "value", "render"]),
    ("input", &["label"], &["description", "placeholder", "value"]),
    ("dropdown", &["label", "options"], &["description", "multiple", "default"]),
    ("checkboxes", &["label", "options"], &["description"]),
    ("upload", &["label"], &["description"]),
];

fn wrong_in_element(element: &Value) -> Vec<String> {
    let kind = element["type"].as_str().unwrap_or_default();
    let Some((_, required, optional)) = ELEMENTS.iter().find(|(name, ..)| *name == kind) else {
        return vec![format!("type {kind:?} is unknown")];
    };
    let own: &[&str] = if kind == "markdown" { &[] } else { &["id", "validations"] };
    let mut wrong = keys(element, &["type", "attributes"], own);
    wrong.extend(keys(&element["attributes"], required, optional));
    if let Some(validations) = element.get("validations") {
        wrong.extend(keys(validations, &["required"], &[]));
        if !validations["required"].is_boolean() {
            wrong.push("validations.required is no boolean".to_owned());
        }
    }
    let id = element["id"].as_str().unwrap_or("id");
    if id.is_empty() || id.contains(|c: char| !c.is_ascii_alphanumeric() && !"-_".contains(c)) {
        wrong.push(format!("id {id:?} has other characters than letters, digits, - and _"));
    }
    wrong
}

fn wrong_in_form(form: &Value) -> Vec<String> {
    let mut wrong =
        keys(form, &["name", "description", "body"], &["assignees", "labels", "projects", "title", "type"]);
    let body = form["body"].as_array().map(Vec::as_slice).unwrap_or_default();
    if body.iter().all(|element| element["type"] == "markdown") {
        wrong.push("body has no element that can be filled in".to_owned());
    }
    for (number, element) in body.iter().enumerate() {
        wrong.extend(wrong_in_element(element).into_iter().map(|error| format!("body {number}: {error}")));
    }
    for pointer in ["/id", "/attributes/label"] {
        let values: Vec<&str> =
            body.iter().filter_map(|element| element.pointer(pointer)?.as_str()).collect();
        if values.iter().collect::<BTreeSet<_>>().len() != values.len() {
            wrong.push(format!("two elements have the same {pointer}"));
        }
    }
    wrong
}

#[test]
fn github_offers_every_issue_form() {
    let mut names = BTreeSet::new();
    let mut forms = 0;
    for entry in std::fs::read_dir(root().join(TEMPLATES)).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap().to_owned();
        let value = parse(&path);
        if file == "config.yml" {
            assert_eq!(keys(&value, &["blank_issues_enabled"], &["contact_links"]), [""; 0], "{file}");
            assert!(value["blank_issues_enabled"].is_boolean());
            for link in value["contact_links"].as_array().unwrap() {
                assert_eq!(keys(link, &["name", "url", "about"], &[]), [""; 0], "{file}");
                assert!(link["url"].as_str().unwrap().starts_with("https://"), "{link}");
            }
            continue;
        }
        // GitHub reads no config.yaml.
        assert!(path.extension().is_some_and(|end| end == "yaml") && !file.starts_with("config"), "{file}");
        assert_eq!(wrong_in_form(&value), [""; 0], "{file}");
        assert!(names.insert(value["name"].as_str().unwrap().to_owned()), "{file}: two forms have this name");
        forms += 1;
    }
    assert!(forms >= 3, "{forms}");
}

#[test]
fn an_issue_form_with_an_error_is_found() {
    let form = |body: &str| {
        serde_yaml::from_str::<Value>(&format!("name: Bug\ndescription: A defect\nbody: {body}")).unwrap()
    };
    let good = "[{type: input, id: a, attributes: {label: A}, validations: {required: true}}]";
    assert_eq!(wrong_in_form(&form(good)), [""; 0]);
    let cases = [
        ("[{type: text, attributes: {label: A}}]", "type \"text\" is unknown"),
        ("[{type: input, attributes: {description: A}}]", "label is missing"),
        ("[{type: input, attributes: {label: A, render: text}}]", "render is unknown"),
        ("[{type: input, attributes: {label: A}, validations: {required: 'true'}}]", "no boolean"),
        ("[{type: input, id: a b, attributes: {label: A}}]", "other characters"),
        ("[{type: markdown, id: a, attributes: {value: A}}]", "id is unknown"),
        ("[{type: markdown, attributes: {value: A}}]", "no element that can be filled in"),
        (
            "[{type: input, attributes: {label: A}}, {type: textarea, attributes: {label: A}}]",
            "same /attributes/label",
        ),
        ("[]", "no element that can be filled in"),
    ];
    for (body, words) in cases {
        let wrong = wrong_in_form(&form(body));
        assert!(wrong.iter().any(|error| error.contains(words)), "{body}: {wrong:?}");
    }
    assert_eq!(
        wrong_in_form(&serde_json::json!({"name": "Bug", "body": form(good)["body"]})),
        ["description is missing"]
    );
}

/// Ecosystem, and what its folder has to contain.
const ECOSYSTEMS: [(&str, &str); 5] = [
    ("cargo", "Cargo.toml"),
    ("gomod", "go.mod"),
    ("pip", "requirements.txt"),
    ("docker", "Dockerfile"),
    ("github-actions", "action.yml"),
];
const INTERVALS: [&str; 6] = ["daily", "weekly", "monthly", "quarterly", "semiannually", "yearly"];

#[test]
fn dependabot_updates_every_manifest() {
    let file = parse(&root().join(".github/dependabot.yml"));
    assert_eq!(keys(&file, &["version", "updates"], &["registries"]), [""; 0]);
    assert_eq!(file["version"], 2);
    let mut covered = BTreeSet::new();
    for update in file["updates"].as_array().unwrap() {
        let optional = [
            "directory",
            "directories",
            "cooldown",
            "groups",
            "ignore",
            "labels",
            "open-pull-requests-limit",
        ];
        assert_eq!(keys(update, &["package-ecosystem", "schedule"], &optional), [""; 0], "{update}");
        let ecosystem = update["package-ecosystem"].as_str().unwrap();
        let (_, manifest) = ECOSYSTEMS.iter().find(|(name, _)| *name == ecosystem).unwrap();
        assert_eq!(keys(&update["schedule"], &["interval"], &["day", "time", "timezone"]), [""; 0]);
        assert!(INTERVALS.contains(&update["schedule"]["interval"].as_str().unwrap()), "{update}");
        let one = update["directory"].as_str().map(str::to_owned);
        let several = update["directories"].as_array().map(Vec::as_slice).unwrap_or_default();
        assert_eq!(one.is_some(), several.is_empty(), "directory or directories: {update}");
        for directory in one.into_iter().chain(several.iter().map(|one| one.as_str().unwrap().to_owned())) {
            assert!(directory.starts_with('/'), "{directory}");
            let folder = root().join(directory.trim_start_matches('/'));
            // The root stands for .github/workflows.
            let is_workflows = ecosystem == "github-actions" && directory == "/";
            assert!(is_workflows || folder.join(manifest).is_file(), "{directory} has no {manifest}");
            covered.insert((ecosystem.to_owned(), directory));
        }
        for (name, group) in update["groups"].as_object().into_iter().flatten() {
            let known = ["patterns", "exclude-patterns", "dependency-type", "update-types", "applies-to"];
            assert_eq!(keys(group, &[], &known), [""; 0], "{name}");
            let types = group["update-types"].as_array().into_iter().flatten();
            assert!(
                types.clone().all(|one| ["major", "minor", "patch"].contains(&one.as_str().unwrap())),
                "{name}"
            );
        }
        if let Some(cooldown) = update.get("cooldown") {
            let days = ["semver-major-days", "semver-minor-days", "semver-patch-days", "include", "exclude"];
            assert_eq!(keys(cooldown, &["default-days"], &days), [""; 0]);
            assert!(cooldown["default-days"].as_u64().is_some_and(|days| (1..=90).contains(&days)));
        }
    }
    // Each manifest of the repository that names something to update.
    let mut expected: BTreeSet<_> =
        [("cargo", "/"), ("docker", "/"), ("github-actions", "/"), ("pip", "/hack/aws")]
            .map(|(ecosystem, folder)| (ecosystem.to_owned(), folder.to_owned()))
            .into();
    let folders =
        |parent: &str| std::fs::read_dir(root().join(parent)).unwrap().map(|entry| entry.unwrap().path());
    for path in folders("hack").filter(|path| path.join("go.mod").is_file()) {
        let name = path.file_name().unwrap().to_str().unwrap();
        // An older version of Kubernetes stays what it is.
        if !name.starts_with("servers-") {
            expected.insert(("gomod".to_owned(), format!("/hack/{name}")));
        }
    }
    for path in folders(".github/actions") {
        let text = std::fs::read_to_string(path.join("action.yml")).unwrap();
        if text.contains("uses: ") {
            let name = path.file_name().unwrap().to_str().unwrap();
            expected.insert(("github-actions".to_owned(), format!("/.github/actions/{name}")));
        }
    }
    let missing: Vec<_> = expected.difference(&covered).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn each_pattern_of_codeowners_has_an_owner() {
    let text = std::fs::read_to_string(root().join(".github/CODEOWNERS")).unwrap();
    let lines: Vec<&str> =
        text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')).collect();
    assert!(lines.iter().any(|line| line.starts_with("* ")), "every file has an owner");
    for line in lines {
        let (pattern, owners) = line.split_once(' ').unwrap_or_else(|| panic!("{line} names no owner"));
        // These work in .gitignore, and not here.
        assert!(!pattern.starts_with('!') && !pattern.contains('['), "{pattern}");
        let word = |word: &str| {
            !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        };
        for owner in owners.split_whitespace() {
            let is_name = owner.strip_prefix('@').is_some_and(|name| name.split('/').all(word));
            assert!(
                is_name && owner.matches('/').count() <= 1,
                "{owner} is neither @USER nor @ORGANISATION/TEAM"
            );
        }
        let path = pattern.trim_matches('/');
        assert!(path.contains('*') || root().join(path).exists(), "{pattern} names nothing");
    }
}
