//! What texts ask their readers to do: manifests, shell commands, steps of release workflows.
//!
//! In: a text for people. Out: everything in it that can be run, in its order, or an error that names a line that looks
//! runnable and is not supported here. Nothing is left out silently.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

/// Something that a text asks its reader to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// Manifests to apply, as YAML.
    Manifests(String),
    /// A line for a shell.
    Command(String),
    /// A step of a release workflow: a script with GitHub's expressions in it.
    Step(String),
    /// What a command is called, in the middle of a sentence: `kubectl VERB`.
    Verb(String),
    /// How the operator is to be started.
    Flags(Vec<String>),
}

/// A part and its position.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// `FILE:LINE`.
    pub at: String,
    /// What to do.
    pub part: Part,
}

/// Actions that prepare a runner and change nothing that matters here.
const PREPARING: [&str; 2] = ["actions/checkout@", "aws-actions/configure-aws-credentials@"];
/// Commands that CI runs by itself.
const ELSEWHERE: [&str; 2] = ["cargo run --example quickstart", "cargo test"];
/// First words of lines that are commands.
const PROGRAMS: [&str; 14] = [
    "kubectl",
    "helm",
    "aws",
    "terraform",
    "tofu",
    "git",
    "gh",
    "curl",
    "docker",
    "cargo",
    "opendepot",
    "export",
    "sudo",
    "$",
];

/// The lines of one text.
struct Lines<'a> {
    file: &'a str,
    all: Vec<&'a str>,
    at: usize,
}

impl<'a> Lines<'a> {
    fn new(file: &'a str, text: &'a str) -> Self {
        Self { file, all: text.lines().collect(), at: 0 }
    }

    fn peek(&self) -> Option<&'a str> {
        self.all.get(self.at).copied()
    }

    fn here(&self) -> String {
        format!("{}:{}", self.file, self.at + 1)
    }

    /// The lines from here on as long as `belongs` says so.
    fn take_while(&mut self, belongs: impl Fn(&str) -> bool) -> String {
        let start = self.at;
        while self.peek().is_some_and(&belongs) {
            self.at += 1;
        }
        self.all[start..self.at].join("\n")
    }

    /// The line here, with those that a backslash at its end joins to it.
    fn command(&mut self) -> Result<String> {
        let mut command = String::new();
        loop {
            let line = self.peek().with_context(|| format!("{}: a command without an end", self.here()))?;
            self.at += 1;
            match line.trim().strip_suffix('\\') {
                Some(more) => command = command + more + " ",
                None => return Ok(command + line.trim()),
            }
        }
    }
}

/// A text without any marks for what is code, such as a page copied from a browser.
pub fn plain(file: &str, text: &str) -> Result<Vec<Found>> {
    let (mut lines, mut found) = (Lines::new(file, text), Vec::new());
    while let Some(line) = lines.peek() {
        let at = lines.here();
        let next =
            lines.all.get(lines.at + 1..).unwrap_or_default().iter().find(|line| !line.trim().is_empty());
        if line.trim().is_empty() {
            lines.at += 1;
        } else if line.starts_with("apiVersion:") {
            let manifest = lines.take_while(|line| !line.trim().is_empty());
            found.push(Found { at, part: Part::Manifests(manifest) });
        } else if line.starts_with("name: ") && next.is_some_and(|next| next.starts_with("on:")) {
            let is_key = |line: &str| line.split_once(':').is_some_and(|(key, _)| !key.contains(' '));
            let workflow =
                lines.take_while(|line| line.trim().is_empty() || line.starts_with(' ') || is_key(line));
            found.extend(workflow_steps(&at, &workflow)?);
        } else if line.starts_with("- name: ") {
            let steps = lines.take_while(|line| line.starts_with(' ') || line.starts_with("- "));
            found.extend(steps_of(&at, &yaml(&at, &steps)?)?);
        } else if line.starts_with("kubectl ") {
            found.push(Found { at, part: Part::Command(lines.command()?) });
        } else {
            let comment = line.strip_prefix("# ").is_some_and(|words| !looks_runnable(words));
            ensure!(comment || !looks_runnable(line), "{at}: this cannot be run here: {line}");
            lines.at += 1;
        }
    }
    Ok(found)
}

/// Whether a line is no sentence: indented, a YAML key, a list's item, or a program's name.
fn looks_runnable(line: &str) -> bool {
    let first = line.split_whitespace().next().unwrap_or_default();
    let key = first.strip_suffix(':').is_some_and(|key| !key.is_empty());
    line.starts_with([' ', '\t', '-', '{', '#']) || key || PROGRAMS.contains(&first)
}

/// A page of Markdown. Blocks that `known` says are checked elsewhere are left to that.
pub fn markdown(file: &str, text: &str, known: &str) -> Result<Vec<Found>> {
    let (mut lines, mut found) = (Lines::new(file, text), Vec::new());
    while let Some(line) = lines.peek() {
        let at = lines.here();
        lines.at += 1;
        let Some(language) = line.trim().strip_prefix("```") else {
            found.extend(spans(&at, line));
            continue;
        };
        let elsewhere = lines.at >= 2 && lines.all[lines.at - 2] == known;
        let block = lines.take_while(|line| line.trim() != "```");
        lines.at += 1;
        match language {
            _ if elsewhere => {}
            "yaml" => found.push(Found { at, part: Part::Manifests(block) }),
            "console" => found.extend(console(&at, &block)?),
            other => bail!("{at}: this cannot run a block of {other:?}"),
        }
    }
    Ok(found)
}

/// Commands after a `$`; the other lines are what they print.
fn console(at: &str, block: &str) -> Result<Vec<Found>> {
    let (mut lines, mut found) = (Lines::new(at, block), Vec::new());
    while let Some(line) = lines.peek() {
        if !line.starts_with("$ ") {
            lines.at += 1;
            continue;
        }
        let command = lines.command()?;
        let command = command["$ ".len()..].to_owned();
        if command.starts_with("kubectl ") {
            found.push(Found { at: at.to_owned(), part: Part::Command(command) });
        } else {
            ensure!(
                ELSEWHERE.iter().any(|known| command.starts_with(known)),
                "{at}: this cannot be run here: {command}"
            );
        }
    }
    Ok(found)
}

/// `kubectl …` in the middle of a sentence.
fn spans(at: &str, line: &str) -> Vec<Found> {
    let code = line.split('`').skip(1).step_by(2).filter(|code| code.starts_with("kubectl "));
    let part = |code: &str| match code.split_whitespace().count() {
        2 => Part::Verb(code.to_owned()),
        _ => Part::Command(code.to_owned()),
    };
    code.map(|code| Found { at: at.to_owned(), part: part(code) }).collect()
}

/// A YAML file: manifests or a workflow, with commands in its comments.
pub fn yaml_file(file: &str, text: &str) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let words = line.trim_start_matches(['#', ' ']);
        let at = format!("{file}:{}", at + 1);
        if !line.starts_with('#') || !PROGRAMS.iter().any(|program| words.starts_with(&format!("{program} ")))
        {
            continue;
        }
        found.push(match words.strip_prefix("opendepot run ") {
            Some(flags) => {
                Found { at, part: Part::Flags(flags.split_whitespace().map(str::to_owned).collect()) }
            }
            None if words.starts_with("kubectl ") => Found { at, part: Part::Command(words.to_owned()) },
            None => bail!("{at}: this cannot be run here: {words}"),
        });
    }
    let at = format!("{file}:1");
    if text.lines().any(|line| line == "jobs:") {
        found.extend(workflow_steps(&at, text)?);
    } else {
        found.push(Found { at, part: Part::Manifests(text.to_owned()) });
    }
    Ok(found)
}

/// The scripts of a workflow, job by job.
fn workflow_steps(at: &str, text: &str) -> Result<Vec<Found>> {
    let workflow = yaml(at, text)?;
    let jobs = workflow["jobs"].as_object().with_context(|| format!("{at}: a workflow without jobs"))?;
    let mut found = Vec::new();
    for job in jobs.values() {
        found.extend(steps_of(at, &job["steps"])?);
    }
    Ok(found)
}

fn steps_of(at: &str, steps: &Value) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for step in steps.as_array().with_context(|| format!("{at}: no list of steps"))? {
        let action = step["uses"].as_str();
        match (action, step["run"].as_str()) {
            (None, Some(script)) => {
                // The environment of a step comes before its script.
                let env = step["env"].as_object().into_iter().flatten();
                let env =
                    env.map(|(name, value)| format!("export {name}={value}\n")).collect::<Vec<_>>().concat();
                found.push(Found { at: at.to_owned(), part: Part::Step(env + script) });
            }
            (Some(action), None) if PREPARING.iter().any(|known| action.starts_with(known)) => {}
            _ => bail!("{at}: this cannot run the step {step}"),
        }
    }
    ensure!(!found.is_empty(), "{at}: no step does anything");
    Ok(found)
}

/// The documents of a YAML text.
pub fn documents(at: &str, text: &str) -> Result<Vec<Value>> {
    let split = format!("\n{text}");
    let documents = split.split("\n---").map(str::trim).filter(|document| !document.is_empty());
    documents.map(|document| yaml(at, document)).collect()
}

fn yaml(at: &str, text: &str) -> Result<Value> {
    serde_yaml::from_str(text).map_err(|error| anyhow::anyhow!("{at}: this is no YAML: {error}\n{text}"))
}

#[cfg(test)]
mod tests;
