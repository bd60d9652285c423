//! Every kubectl command that is shipped or printed: it names our kinds in full, and a field manager where it writes them.
//!
//! In: the texts of this repository that a user reads, copies or runs, and the operator's own messages. Why in full: other
//! software has kinds called Module and Version. Why a manager: Flux takes over what a manager wrote whose name begins
//! with `kubectl`, and removes what of that is not in Git (gitops.rs).

use std::path::{Path, PathBuf};

use opendepot::api::RELEASE_MANAGER;

use crate::support::root;

/// Verbs that write an object's fields.
const WRITES: [&str; 7] = ["annotate", "apply", "create", "edit", "label", "patch", "replace"];

/// What may be written without a manager: no Module and no Version is in it, or nothing is sent.
const OTHER_OBJECTS: [&str; 13] = [
    " namespace ",
    " secret ",
    " configmap ",
    " -f crds/",
    " -k crds",
    " -k deploy/",
    " -f examples/release-workflow-rbac.yaml",
    " -f examples/irsa.yaml",
    " --local ",
    " --dry-run=client ",
    " crd ",
    " deployment/",
    " namespaces ",
];

/// Names that other software gives its kinds too.
const SHORT: [&str; 4] = ["module", "modules", "version", "versions"];

/// What users read, copy or run, without what is generated from something else.
fn shipped() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders: Vec<PathBuf> =
        ["docs", "examples", "deploy", ".github", "src", "hack"].map(|folder| root().join(folder)).into();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if !entry.ends_with("tests.rs") && !entry.iter().any(|part| part == "tests") {
                files.push(entry);
            }
        }
    }
    let pages = std::fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path());
    files.extend(pages.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    files.sort();
    files
}

/// The commands in a text, each on one line, up to the end of the line or of the code that it is in.
fn commands(path: &Path) -> Vec<String> {
    let Ok(text) = std::fs::read_to_string(path) else { return Vec::new() };
    let mut text = text.split("#[cfg(test)]").next().unwrap().to_owned();
    if path.ends_with("publish.sh") {
        let manager = text.lines().find_map(|line| line.strip_prefix("MANAGER=")).unwrap().to_owned();
        text = text.replace("\"$MANAGER\"", &manager).replace("$GROUP", "opendepot.defdev.io");
        for before in ["$(", " ", "show "] {
            text = text.replace(&format!("{before}k "), &format!("{before}kubectl "));
        }
    }
    let text = text.replace("{MANAGER}", RELEASE_MANAGER).replace("{RELEASE_MANAGER}", RELEASE_MANAGER);
    let mut joined = String::new();
    for line in text.lines() {
        let comment = joined.ends_with(' ').then(|| line.trim_start().trim_start_matches("# ").trim_start());
        match comment.unwrap_or(line).strip_suffix('\\') {
            Some(more) => joined = joined + more.trim_end() + " ",
            None => joined = joined + comment.unwrap_or(line) + "\n",
        }
    }
    let starts = joined.match_indices("kubectl ").map(|(at, _)| &joined[at..]);
    let ends = |text: &str| text[1..].find(['\n', '`']).map_or(text.len(), |at| at + 1);
    let command = |text: &str| {
        text[..text[1..].find("kubectl ").map_or(ends(text), |at| ends(text).min(at + 1))].to_owned()
    };
    starts.map(command).collect()
}

/// The verb of a command, and the words after it.
fn parts(command: &str) -> Option<(&str, Vec<&str>)> {
    let mut words =
        command.split_whitespace().map(|word| word.trim_matches(['"', '\'', '(', ')', ';', ',', '.']));
    words.next();
    let verb = loop {
        let word = words.next()?;
        match word {
            "-n" => drop(words.next()),
            flag if flag.starts_with('-') => {}
            verb => break verb,
        }
    };
    Some((verb, words.collect()))
}

#[test]
fn commands_name_our_kinds_in_full() {
    let mut found = 0;
    for path in shipped() {
        for command in commands(&path) {
            let Some((_, words)) = parts(&command) else { continue };
            let kinds = words.iter().map(|word| word.split(['/', '=']).next().unwrap_or_default());
            for kind in kinds.flat_map(|word| word.split(',')) {
                let begins = kind.strip_suffix(".spec").or(kind.strip_suffix(".status")).unwrap_or(kind);
                assert!(!SHORT.contains(&begins), "{}: {command}", path.display());
                found += usize::from(kind.ends_with("s.opendepot.defdev.io"));
            }
        }
    }
    assert!(found > 40, "{found}");
}

#[test]
fn commands_that_write_a_module_or_version_name_their_field_manager() {
    let mut found = 0;
    for path in shipped() {
        for command in commands(&path) {
            let Some((verb, words)) = parts(&command) else { continue };
            let named = ["-f", "-k", "-p"].iter().any(|flag| words.contains(flag));
            let ours = words.iter().any(|word| word.contains(".opendepot.defdev.io"));
            let other = OTHER_OBJECTS.iter().any(|what| format!("{command} ").contains(what));
            if WRITES.contains(&verb) && (named || ours) && !other {
                let manager = command.split_once("--field-manager=").map(|(_, rest)| rest);
                let manager = manager.unwrap_or_else(|| panic!("{}: {command}", path.display()));
                assert!(!manager.starts_with("kubectl"), "{}: {command}", path.display());
                found += 1;
            }
        }
    }
    assert!(found > 25, "{found}");
    // The quickstart gives its commands as lists.
    let quickstart = std::fs::read_to_string(root().join("examples/quickstart/publish.rs")).unwrap();
    for line in
        quickstart.lines().filter(|line| WRITES.iter().any(|verb| line.contains(&format!("&[\"{verb}\""))))
    {
        assert!(line.contains("MANAGER"), "{line}");
    }
}

#[test]
fn no_command_needs_a_kubectl_that_is_newer_than_the_cluster() {
    for path in shipped() {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            !text.contains("--for=create"),
            "{}: kubectl has it from 1.31 on: wait in a loop",
            path.display()
        );
    }
}
