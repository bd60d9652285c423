//! Plain English: words that hide a subject or a fact, and the texts that must not contain them.

use std::path::{Path, PathBuf};

use crate::support::root;

/// Words and phrases, in lower case. CONTRIBUTING.md lists them for authors.
const BANNED: [&str; 14] = [
    "nobody",
    "somebody",
    "anybody",
    "whoever",
    "told",
    "tells",
    "lies",
    "goes",
    "for ever",
    "a person",
    "strangers",
    "shall",
    "of late",
    "for want of",
];

/// Files and folders that are checked, with all that they contain: prose, comments, strings and names.
const ROOTS: [&str; 20] = [
    "CHANGELOG.md",
    "CODE_OF_CONDUCT.md",
    "CONTRIBUTING.md",
    "README.md",
    "SECURITY.md",
    "SUPPORT.md",
    "src",
    "tests",
    "docs",
    "deploy",
    "examples",
    "hack",
    "benches",
    "fuzz/fuzz_targets",
    ".ci",
    ".github",
    "Cargo.toml",
    "Dockerfile",
    "clippy.toml",
    "deny.toml",
];

/// Texts that are not checked: the path begins with this, from the line that begins with this on, and the reason.
const EXEMPT: [(&str, &str, &str); 5] = [
    ("docs/api.md", "", "generated from doc comments in src/"),
    ("deploy/helm/opendepot/files/crds/", "", "generated from doc comments in src/"),
    ("CHANGELOG.md", "## [0.1.0]", "the history of a release is not changed"),
    ("tests/it/words.rs", "", "has the words"),
    ("CONTRIBUTING.md", "**Banned words.**", "lists the words"),
];

/// The files below a path, or the file itself.
fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = std::fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut found: Vec<_> = entries.flat_map(|entry| files(&entry.unwrap().path())).collect();
    found.sort();
    found
}

/// The part of a file that is checked.
fn checked<'a>(name: &str, text: &'a str) -> &'a str {
    let exempt = EXEMPT.iter().filter(|(path, ..)| name.starts_with(path));
    let ends = exempt.map(|(path, from, _)| {
        let whole = (from.is_empty() || text.starts_with(from)).then_some(0);
        whole
            .or_else(|| text.find(&format!("\n{from}")))
            .unwrap_or_else(|| panic!("{path} has no line {from}"))
    });
    &text[..ends.min().unwrap_or(text.len())]
}

/// The banned words in a text, with their lines. A phrase may continue on the next line, after the mark of a comment.
fn banned(text: &str) -> Vec<(usize, &'static str)> {
    let words: Vec<(usize, String)> = text
        .lines()
        .enumerate()
        .flat_map(|(at, line)| {
            let words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            words.filter(|word| !word.is_empty()).map(move |word| (at + 1, word.to_lowercase()))
        })
        .collect();
    let mut found = Vec::new();
    for phrase in BANNED {
        let parts: Vec<&str> = phrase.split(' ').collect();
        let begins = words.windows(parts.len()).filter(|w| w.iter().map(|(_, word)| word).eq(&parts));
        found.extend(begins.map(|w| (w[0].0, phrase)));
    }
    found.sort_unstable();
    found
}

#[test]
fn no_text_contains_a_banned_word() {
    let mut found = Vec::new();
    for file in ROOTS.iter().flat_map(|path| files(&root().join(path))) {
        let name = file.strip_prefix(root()).unwrap().display().to_string();
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        let words = banned(checked(&name, &text));
        found.extend(words.iter().map(|(line, word)| format!("{name}:{line}: {word}")));
    }
    assert!(found.is_empty(), "CONTRIBUTING.md says what to write instead:\n{}", found.join("\n"));
}

#[test]
fn banned_words_are_found_in_every_form_and_nothing_else() {
    let text = "Nobody's file\n# waits for a\n#   person, for\n// want\n// of time\nsupplies told_by personal goes_on";
    assert_eq!(banned(text), [(1, "nobody"), (2, "a person"), (3, "for want of")]);
}

#[test]
fn authors_can_read_the_list() {
    let page = std::fs::read_to_string(root().join("CONTRIBUTING.md")).unwrap().replace('\n', " ");
    assert!(page.contains(&BANNED.join(", ")), "CONTRIBUTING.md lists the same words in the same order");
}
