//! The quickstart's output: headings, commands with their output, and checks.

use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use opendepot_testbed::progress::Progress;

/// Everything that was printed.
static PRINTED: Mutex<String> = Mutex::new(String::new());
/// How far the whole is: on a terminal, a bar below what is printed.
static PROGRESS: LazyLock<Progress> = LazyLock::new(Progress::on_terminal);
/// The last part, which begins when all programs are there: its name, and how long it takes.
const STEPS: (&str, Duration) = ("running the steps", Duration::from_secs(15));
/// The headings in it.
const HEADINGS: u64 = 8;
static HEADING: AtomicU64 = AtomicU64::new(0);

/// How far the whole is.
pub(crate) fn progress() -> &'static Progress {
    &PROGRESS
}

/// Adds the steps to what is planned.
pub(crate) fn plan_steps() {
    PROGRESS.plan(STEPS.0, STEPS.1);
}

/// Begins the steps.
pub(crate) fn begin_steps() {
    PROGRESS.begin(STEPS.0, STEPS.1);
    HEADING.store(0, Ordering::Relaxed);
}

/// Begins a step.
pub(crate) fn heading(text: &str) {
    PROGRESS.advance(HEADING.fetch_add(1, Ordering::Relaxed), HEADINGS);
    say(format!("\n== {text}"));
}

/// A remark.
pub(crate) fn say(text: impl Display) {
    let text = format!("{text}\n");
    PROGRESS.above(|| print!("{text}"));
    PRINTED.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
}

/// A command, so that it can be copied into a shell.
pub(crate) fn command(program: &str, args: &[&str]) {
    say(format!("\n$ {}", line(program, args)));
}

/// The same, without the prompt.
pub(crate) fn line(program: &str, args: &[&str]) -> String {
    let words: Vec<String> = args.iter().map(|word| quoted(word)).collect();
    format!("{program} {}", words.join(" "))
}

/// The output of a command.
pub(crate) fn output(text: &str) {
    if !text.trim().is_empty() {
        say(text.trim_end());
    }
}

/// Everything that was printed until now.
pub(crate) fn printed() -> String {
    PRINTED.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// The error that ended the quickstart early.
pub(crate) fn failure(error: &anyhow::Error) {
    PROGRESS.end();
    eprintln!("\nquickstart: {error:#}");
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@".contains(c);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{word}'") }
}

/// The checks and their outcomes.
#[derive(Debug, Default)]
pub(crate) struct Proofs(Vec<(bool, String)>);

impl Proofs {
    /// Records the outcome of a check.
    pub(crate) fn check(&mut self, holds: bool, claim: impl Into<String>) {
        let claim = claim.into();
        say(claimed(holds, &claim));
        self.0.push((holds, claim));
    }

    /// Whether there was at least one check, and all passed.
    pub(crate) fn hold(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|(holds, _)| *holds)
    }

    /// Prints the number of checks, and those that failed.
    pub(crate) fn list(&self) {
        PROGRESS.end();
        let failed: Vec<_> = self.0.iter().filter(|(holds, _)| !holds).collect();
        match (self.0.len(), failed.len()) {
            (all, 0) => heading(&format!("All {all} checks passed")),
            (all, failed) => heading(&format!("{failed} of {all} checks failed")),
        }
        for (holds, claim) in failed {
            say(claimed(*holds, claim));
        }
    }
}

fn claimed(holds: bool, claim: &str) -> String {
    format!("  [{}] {claim}", if holds { "ok" } else { "FAILED" })
}
