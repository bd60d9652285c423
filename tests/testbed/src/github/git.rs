//! Real git repositories: written by `git fast-import`, read by `git for-each-ref` and `git archive`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::programs::program;

/// One entry of a commit's tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    path: Vec<u8>,
    mode: &'static str,
    content: Vec<u8>,
}

impl File {
    /// A plain file.
    pub fn new(path: &str, content: impl Into<Vec<u8>>) -> Self {
        Self { path: path.into(), mode: "100644", content: content.into() }
    }

    /// A file that may be executed.
    pub fn executable(path: &str, content: impl Into<Vec<u8>>) -> Self {
        Self { mode: "100755", ..Self::new(path, content) }
    }

    /// A symbolic link.
    pub fn link(path: &str, target: impl Into<Vec<u8>>) -> Self {
        Self { mode: "120000", ..Self::new(path, target) }
    }

    /// A submodule, at this commit of some other repository.
    pub fn submodule(path: &str, commit: &str) -> Self {
        Self { mode: "160000", ..Self::new(path, commit) }
    }

    /// The same at a path that need not be text.
    #[must_use]
    pub fn at(self, path: &[u8]) -> Self {
        Self { path: path.into(), ..self }
    }
}

/// The two kinds of archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// `zip`
    Zip,
    /// `tar.gz`
    TarGz,
}

impl Format {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Zip => "zip",
            Self::TarGz => "tar.gz",
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Zip => "application/zip",
            Self::TarGz => "application/x-gzip",
        }
    }
}

/// Full names of tags and branches, and the commits that they point to.
pub(super) type Refs = BTreeMap<String, String>;

fn git(dir: &Path) -> Command {
    let mut command = Command::new(program("git"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    // The machine's own settings, and its time zone, must not reach the bytes.
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null").env("TZ", "UTC");
    command.args(["-c", "safe.directory=*", "-C"]).arg(dir);
    command
}

fn run(mut command: Command, stdin: &[u8]) -> Result<Vec<u8>> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("cannot run git")?;
    if let Some(mut pipe) = child.stdin.take() {
        let _ = pipe.write_all(stdin);
    }
    let output = child.wait_with_output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} ended with {}: {}", output.status, complaint.trim());
    Ok(output.stdout)
}

pub(super) fn init(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    let mut command = git(dir);
    command.args(["init", "--quiet", "--bare", "--initial-branch=main", "."]);
    run(command, b"").map(drop)
}

pub(super) fn refs(dir: &Path) -> Result<Refs> {
    let mut command = git(dir);
    command.args([
        "for-each-ref",
        "--format=%(refname) %(objectname) %(*objectname) %(*objecttype)",
        "refs/tags",
        "refs/heads",
    ]);
    let listed = String::from_utf8(run(command, b"")?)?;
    // An annotated tag has its commit in the third column, unless it is a tag of a tag.
    let parsed = listed.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (name, object) = (words.next()?, words.next()?);
        let peeled = words.next().filter(|peeled| !peeled.is_empty());
        let commit = match (peeled, words.next()) {
            (Some(_), Some("tag")) => commit_of(dir, name),
            (Some(commit), _) => Ok(commit.to_owned()),
            (None, _) => Ok(object.to_owned()),
        };
        Some(commit.map(|commit| (name.to_owned(), commit)))
    });
    parsed.collect()
}

fn commit_of(dir: &Path, name: &str) -> Result<String> {
    let mut command = git(dir);
    command.args(["rev-parse", "--verify", &format!("{name}^{{commit}}")]);
    Ok(String::from_utf8(run(command, b"")?)?.trim().to_owned())
}

/// Makes an annotated tag of what `of` names: a commit, or another annotated tag.
pub(super) fn annotate(dir: &Path, tag: &str, of: &str) -> Result<()> {
    let ask = |args: &[&str]| -> Result<String> {
        let mut command = git(dir);
        command.args(args);
        Ok(String::from_utf8(run(command, b"")?)?.trim().to_owned())
    };
    let object = ask(&["rev-parse", "--verify", of])?;
    let kind = ask(&["cat-file", "-t", &object])?;
    let tagger = "Testbed <testbed@example.com> 1700000000 +0000";
    let text = format!("object {object}\ntype {kind}\ntag {tag}\ntagger {tagger}\n\nRelease {tag}\n");
    let mut command = git(dir);
    command.arg("mktag");
    let made = String::from_utf8(run(command, text.as_bytes())?)?;
    update_ref(dir, &format!("refs/tags/{tag}"), Some(made.trim()))
}

/// The branch of a commit.
pub(super) enum Place<'a> {
    /// The next on `main`, with this tag.
    Tag(&'a str),
    /// The next on this branch.
    Branch(&'a str),
}

/// Adds commits that each have exactly these files. `refs` are those of before; the same calls give the same commits.
pub(super) fn commit(dir: &Path, refs: &Refs, commits: &[(Place<'_>, Vec<File>)]) -> Result<()> {
    let mut stream = Vec::new();
    let mut started = Vec::new();
    for (number, (place, files)) in commits.iter().enumerate() {
        let branch = match place {
            Place::Tag(_) => "refs/heads/main".to_owned(),
            Place::Branch(name) => format!("refs/heads/{name}"),
        };
        let mark = number + 1;
        write!(stream, "commit {branch}\nmark :{mark}\n")?;
        write!(
            stream,
            "committer Testbed <testbed@example.com> {} +0000\ndata 5\nfiles\n",
            1_700_000_000 + number
        )?;
        if !started.contains(&branch) && refs.contains_key(&branch) {
            writeln!(stream, "from {branch}^0")?;
        }
        writeln!(stream, "deleteall")?;
        for file in files {
            let path = quote(&file.path);
            if file.mode == "160000" {
                stream.extend([b"M 160000 ", &file.content[..], b" ", path.as_bytes(), b"\n"].concat());
                continue;
            }
            write!(stream, "M {} inline {path}\ndata {}\n", file.mode, file.content.len())?;
            stream.extend_from_slice(&file.content);
            stream.push(b'\n');
        }
        if let Place::Tag(tag) = place {
            write!(stream, "reset refs/tags/{tag}\nfrom :{mark}\n\n")?;
        }
        started.push(branch);
    }
    let mut command = git(dir);
    command.args(["fast-import", "--quiet", "--force"]);
    run(command, &stream).map(drop)
}

pub(super) fn update_ref(dir: &Path, name: &str, commit: Option<&str>) -> Result<()> {
    let mut command = git(dir);
    match commit {
        Some(commit) => command.args(["update-ref", name, commit]),
        None => command.args(["update-ref", "-d", name]),
    };
    run(command, b"").map(drop)
}

/// As GitHub does: of the ref that was asked for, which may be an annotated tag.
pub(super) fn archive(dir: &Path, name: &str, format: Format, prefix: &str) -> Result<Vec<u8>> {
    let mut command = git(dir);
    command.args(["archive", &format!("--format={}", format.name()), &format!("--prefix={prefix}"), name]);
    run(command, b"")
}

/// As git reads it: every byte that is not plain is written as an octal number.
fn quote(path: &[u8]) -> String {
    let quoted = path.iter().map(|byte| match byte {
        b'"' | b'\\' | ..0x20 | 0x7f.. => format!("\\{byte:03o}"),
        plain => char::from(*plain).to_string(),
    });
    format!("\"{}\"", quoted.collect::<String>())
}
