//! The architecture invariants of `src/lib.rs`, checked on the imports of production code.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use opendepot::controller::failure::Reason;

use crate::support::root;

/// The layers from the lowest to the highest. Modules of one layer do not import each other, except where [`SIDEWAYS`] says so.
const LAYERS: [&[&str]; 8] = [
    &["domain", "workdir"],
    &["observe"],
    &["archive", "github", "storage"],
    &["api"],
    &["controller"],
    &["module", "version", "registry"],
    &["startup", "command"],
    &["cli", "operator", "serve"],
];
/// Both servers are composed from the flags.
const SIDEWAYS: [(&str, &str); 3] = [("command", "startup"), ("operator", "cli"), ("serve", "cli")];
/// What a module does not import although it is in a lower layer. `version` has no type of a Module, so it reads none.
const NEVER: [(&str, &str); 6] = [
    ("module", "github"),
    ("module", "storage"),
    ("registry", "github"),
    ("version", "api::module"),
    ("version", "api::state::listing"),
    ("version", "api::state::module"),
];

/// Path of a file below `src`, and the paths (`version::publish`) that its production code imports.
type Imports = BTreeMap<String, BTreeSet<String>>;

#[test]
fn no_import_points_up_or_sideways() {
    let layer = |module: &str| LAYERS.iter().position(|layer| layer.contains(&module));
    let mut wrong = Vec::new();
    for (file, imports) in imports() {
        let from = file.split("::").next().unwrap();
        if matches!(from, "lib" | "main") {
            continue;
        }
        let own = layer(from).unwrap_or_else(|| panic!("{file} is in no layer: add its module to LAYERS"));
        for import in imports {
            let to = import.split("::").next().unwrap();
            let allowed =
                from == to || layer(to).is_some_and(|to| to < own) || SIDEWAYS.contains(&(from, to));
            let is_denied = NEVER.iter().any(|(module, path)| {
                from == *module && format!("{import}::").starts_with(&format!("{path}::"))
            });
            if !allowed || is_denied {
                wrong.push(format!("{file} imports {import}"));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// What each line of the JSON log has already. Parsers differ on which of two equal keys they keep, or reject the line.
const TAKEN: [&str; 5] = ["level", "message", "span", "target", "timestamp"];

#[test]
fn no_field_of_a_log_line_has_the_name_of_another() {
    let mut wrong = Vec::new();
    for (file, code) in sources() {
        let events = statements(&code, "tracing::");
        // The fields come before the text.
        let fields = events.iter().filter_map(|event| event.split_once("!(")?.1.split('"').next());
        let names = fields
            .flat_map(|fields| fields.split(','))
            .map(|field| field.split('=').next().unwrap().trim().trim_start_matches(['%', '?']));
        wrong.extend(names.filter(|name| TAKEN.contains(name)).map(|name| format!("{file}: {name}")));
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn each_reason_occurs_outside_of_its_table() {
    let sources = sources();
    let is_in = |text: &str, path: &str| {
        let ends = |(at, _): (usize, &str)| !text[at + path.len()..].starts_with(char::is_alphanumeric);
        text.match_indices(path).any(ends)
    };
    let occurs = |reason: &Reason| {
        sources.iter().any(|(file, text)| {
            let is_own = file == "controller::failure::rules" && is_in(text, &format!("Self::{reason}"));
            is_own || is_in(text, &format!("Reason::{reason}"))
        })
    };
    let unused: Vec<&Reason> = Reason::ALL.iter().filter(|reason| !occurs(reason)).collect();
    assert!(unused.is_empty(), "documented, and never the reason of anything: {unused:?}");
}

#[test]
fn the_architecture_page_names_each_file() {
    let page = std::fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let is_named = |file: &str| {
        let mut folders = Path::new(file).ancestors().skip(1).filter(|folder| *folder != Path::new("src"));
        page.contains(&format!("`{file}`"))
            || folders.any(|folder| page.contains(&format!("`{}/`", folder.display())))
    };
    let paths = sources().into_iter().map(|(file, _)| format!("src/{}.rs", file.replace("::", "/")));
    // A path without a file is that of a folder's `mod.rs`.
    let files = paths.filter(|file| root().join(file).exists() && !file.ends_with("fuzzing.rs"));
    let missing: Vec<String> = files.filter(|file| file != "src/lib.rs" && !is_named(file)).collect();
    assert!(missing.is_empty(), "docs/architecture.md says nothing of {missing:#?}");
}

#[test]
fn there_are_no_import_circles_between_files() {
    let imports = imports();
    let files: BTreeSet<&str> = imports.keys().map(String::as_str).collect();
    let edges: BTreeMap<&str, BTreeSet<&str>> = imports
        .iter()
        .map(|(file, imports)| {
            let targets = imports.iter().filter_map(|import| file_of(import, &files));
            (file.as_str(), targets.filter(|target| *target != file).collect())
        })
        .collect();
    let circles: Vec<String> = files
        .iter()
        .filter(|file| reachable(file, &edges).contains(**file))
        .map(|file| format!("{file} -> {:?}", edges[file]))
        .collect();
    assert!(circles.is_empty(), "files that import themselves through others:\n{}", circles.join("\n"));
}

#[test]
fn leaves_know_nothing_of_kubernetes() {
    for (file, text) in sources() {
        let leaf = ["domain", "archive", "github", "storage"].iter().any(|leaf| file.starts_with(leaf));
        let kubernetes = ["kube::", "k8s_openapi"].iter().any(|name| text.contains(name));
        assert!(!leaf || !kubernetes, "{file} names a Kubernetes crate");
    }
}

/// The longest path that names a file: `version::publish::publish` is in the file `version::publish`.
fn file_of<'a>(import: &str, files: &BTreeSet<&'a str>) -> Option<&'a str> {
    let mut path = import;
    loop {
        if let Some(file) = files.get(path) {
            return Some(file);
        }
        path = path.rsplit_once("::")?.0;
    }
}

fn reachable<'a>(from: &str, edges: &BTreeMap<&str, BTreeSet<&'a str>>) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    let mut open: Vec<&str> = edges[from].iter().copied().collect();
    while let Some(file) = open.pop() {
        if seen.insert(file) {
            open.extend(&edges[file]);
        }
    }
    seen
}

fn imports() -> Imports {
    let sources = sources();
    let re_exports: BTreeMap<String, String> =
        sources.iter().flat_map(|(file, text)| re_exports(file, text)).collect();
    let imports = |(file, text): &(String, String)| {
        let code = without_re_exports(text);
        let absolute = expressions(&code).into_iter().filter_map(|path| resolved(file, &path));
        let children = sources
            .iter()
            .filter(|(child, _)| names_child(file, child, &code))
            .map(|(child, _)| child.clone());
        let paths =
            absolute.chain(children).map(|path| re_exports.get(&path).cloned().unwrap_or(path)).collect();
        (file.clone(), paths)
    };
    sources.iter().map(imports).collect()
}

/// Whether the code of `file` uses its child module, as in `child::function()`.
fn names_child(file: &str, child: &str, code: &str) -> bool {
    let Some(name) = child.strip_prefix(file).and_then(|rest| rest.strip_prefix("::")) else { return false };
    let path = format!("{name}::");
    let starts = |at: usize| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
    !name.contains("::") && code.match_indices(&path).any(|(at, _)| starts(at))
}

/// The names that a file gives its children's items, with the path of the child's item: `storage::Cause` is
/// `storage::error::Cause`.
fn re_exports(file: &str, text: &str) -> Vec<(String, String)> {
    let mut names = Vec::new();
    for statement in statements(text, "pub use ") {
        let path = statement.trim_start_matches("self::");
        if path.starts_with("crate::") || path.starts_with("super::") {
            continue;
        }
        let mut paths = Vec::new();
        expand(file, path, &mut paths);
        for path in paths {
            let name = path.rsplit("::").next().unwrap();
            names.push((format!("{file}::{name}"), path.clone()));
        }
    }
    names
}

fn without_re_exports(text: &str) -> String {
    statements(text, "pub use ")
        .iter()
        .fold(text.to_owned(), |code, statement| code.replace(statement.as_str(), ""))
}

/// The rest of each statement that starts with `start`, up to its semicolon.
fn statements(text: &str, start: &str) -> Vec<String> {
    let rest = |(at, _)| text[at + start.len()..].split(';').next().map(str::to_owned);
    text.match_indices(start).filter_map(rest).collect()
}

/// Production code by module path, without comments and tests.
fn sources() -> Vec<(String, String)> {
    let mut all = Vec::new();
    collect(&root().join("src"), "", &mut all);
    assert!(all.len() > 50, "{} files", all.len());
    all
}

fn collect(folder: &Path, prefix: &str, all: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "tests" {
                collect(&path, &format!("{prefix}{name}::"), all);
            }
        } else if name != "tests" {
            let module = if name == "mod" {
                prefix.trim_end_matches("::").to_owned()
            } else {
                format!("{prefix}{name}")
            };
            all.push((module, production(&std::fs::read_to_string(&path).unwrap())));
        }
    }
}

fn production(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    code.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// Every path that starts with `crate::`, `super::` or `self::`, its braces multiplied out.
fn expressions(text: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for root in ["crate::", "super::", "self::"] {
        for (at, _) in text.match_indices(root) {
            let inside =
                text[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':');
            if !inside {
                expand(root.trim_end_matches("::"), text[at + root.len()..].trim_start(), &mut paths);
            }
        }
    }
    paths
}

fn expand(prefix: &str, rest: &str, paths: &mut Vec<String>) {
    let Some(inner) = rest.strip_prefix('{') else {
        let word: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let path = format!("{prefix}::{word}");
        match rest[word.len()..].strip_prefix("::") {
            Some(rest) if rest.starts_with(|c: char| c.is_alphabetic() || c == '{') => {
                expand(&path, rest, paths);
            }
            _ => paths.push(path),
        }
        return;
    };
    let (mut depth, mut start) = (0, 0);
    for (at, char) in inner.char_indices() {
        match char {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                let item = inner[start..at].trim();
                if !item.is_empty() {
                    expand(prefix, item, paths);
                }
                start = at + 1;
                if char == '}' {
                    return;
                }
            }
            _ => {}
        }
    }
}

/// The path below the crate's root.
fn resolved(file: &str, path: &str) -> Option<String> {
    let mut module: Vec<&str> = file.split("::").collect();
    let mut segments = path.split("::").peekable();
    match segments.next()? {
        "crate" => module.clear(),
        "self" => {}
        _ => {
            module.pop();
            while segments.peek() == Some(&"super") {
                segments.next();
                module.pop();
            }
        }
    }
    module.extend(segments.filter(|segment| *segment != "self"));
    Some(module.join("::")).filter(|path| !path.is_empty())
}
