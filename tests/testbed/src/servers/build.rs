//! Programs built from source, as the `go.mod` files below `hack/` pin them.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::Server;
use crate::kubernetes::required_by;
use crate::progress::Progress;

/// The time in which a processor compiles a package, on average.
const PACKAGE: Duration = Duration::from_millis(330);

/// Old versions of Kubernetes contain the clients of cloud providers.
const TAGS: &str = "-tags=providerless";

/// Programs of one Go module, which are built at once: what they share is compiled once, and all processors link.
pub(super) struct Build<'a> {
    pub go: &'a OsStr,
    /// The folder with the `go.mod`.
    pub source: &'a Path,
    /// Where the programs go.
    pub folder: &'a Path,
    pub progress: &'a Progress,
}

impl Build<'_> {
    pub(super) fn run(&self, wanted: &[Server]) -> Result<()> {
        fs::create_dir_all(self.folder).with_context(|| format!("cannot make {}", self.folder.display()))?;
        let guard = File::create(self.folder.join(".lock")).context("cannot make the build lock")?;
        guard.lock().context("cannot take the build lock")?;
        let wanted: Vec<_> =
            wanted.iter().copied().filter(|server| !self.folder.join(server.name()).exists()).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let names = listed(&wanted);
        let packages: Vec<_> = wanted.iter().map(|server| server.package()).collect();
        let started = Instant::now();
        let unfinished = self.folder.join(".unfinished");
        fs::create_dir_all(&unfinished).context("cannot make a folder in the cache")?;
        self.compile(&names, &packages, &unfinished)?;
        // Renamed last: an interrupted build is never mistaken for a good one.
        for server in wanted {
            let (from, to) = (unfinished.join(server.built_as()), self.folder.join(server.name()));
            fs::rename(&from, &to).with_context(|| format!("cannot make {}", to.display()))?;
        }
        fs::remove_dir_all(&unfinished).context("cannot remove a folder in the cache")?;
        self.progress.say(&format!("built {names} in {} s", started.elapsed().as_secs()));
        Ok(())
    }

    fn compile(&self, names: &str, packages: &[&str], into: &Path) -> Result<()> {
        let all = self.packages(names, packages)?;
        self.progress.takes(on_all_processors(all.len()));
        let mut go = self.go();
        // Prints each package that it compiles.
        go.args(["build", "-v", "-trimpath", TAGS, "-ldflags", &ldflags(self.source)?, "-o"])
            .arg(into)
            .args(packages);
        let mut go = go.stderr(Stdio::piped()).spawn().with_context(|| no_go(names))?;
        let (mut compiled, mut said) = (0, String::new());
        for line in BufReader::new(go.stderr.take().context("no pipe from go")?).lines() {
            let line = line?;
            if all.contains(&line) {
                compiled += 1;
                self.progress.advance(compiled, all.len() as u64);
            } else if !line.starts_with("go: downloading ") {
                said = said + "\n" + &line;
            }
        }
        ensure!(go.wait()?.success(), "building {names} failed:{said}");
        Ok(())
    }

    /// All packages that the programs are made of. Downloads those that the machine does not have.
    fn packages(&self, names: &str, packages: &[&str]) -> Result<HashSet<String>> {
        let listed = self.go().args(["list", "-deps", TAGS]).args(packages).output();
        let listed = listed.with_context(|| no_go(names))?;
        if !listed.status.success() {
            bail!("building {names} failed:\n{}", String::from_utf8_lossy(&listed.stderr));
        }
        Ok(String::from_utf8_lossy(&listed.stdout).lines().map(str::to_owned).collect())
    }

    fn go(&self) -> Command {
        let mut go = Command::new(self.go);
        go.env("CGO_ENABLED", "0").current_dir(self.source).stdin(Stdio::null());
        go
    }
}

/// How long it takes if nothing is compiled yet, before that is known better.
pub(super) fn takes(servers: &[Server]) -> Duration {
    // What a program adds to the others.
    on_all_processors(700 + 480 * servers.len())
}

fn on_all_processors(packages: usize) -> Duration {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    PACKAGE.mul_f64(f64::from(u32::try_from(packages).unwrap_or(u32::MAX)))
        / u32::try_from(processors).unwrap_or(1)
}

/// What is done, for people.
pub(super) fn label(servers: &[Server]) -> String {
    format!("building {}", listed(servers))
}

/// Names, in a sentence.
fn listed(servers: &[Server]) -> String {
    let names: Vec<_> = servers.iter().map(|server| server.name()).collect();
    match names.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    }
}

fn no_go(names: &str) -> String {
    format!("cannot run go to build {names}: install Go, or set KUBEBUILDER_ASSETS")
}

/// Without these a Kubernetes server takes itself for v0.0.0. Programs that are not of Kubernetes ignore them.
fn ldflags(source: &Path) -> Result<String> {
    let text = fs::read_to_string(source.join("go.mod"))?;
    let Some(version) = required_by(&text) else { return Ok("-s -w".to_owned()) };
    let (major, rest) = version.split_once('.').context("k8s.io/kubernetes has an odd version")?;
    let minor = rest.split('.').next().unwrap_or_default();
    let base = "k8s.io/component-base/version";
    Ok(format!("-s -w -X {base}.gitVersion=v{version} -X {base}.gitMajor={major} -X {base}.gitMinor={minor}"))
}
