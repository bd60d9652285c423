//! The quickstart's output: headings, commands with their output, and checks.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};

/// Everything that was printed.
static PRINTED: Mutex<String> = Mutex::new(String::new());

/// Begins a step.
pub(crate) fn heading(text: &str) {
    say(format!("\n== {text}"));
}

/// A remark.
pub(crate) fn say(text: impl Display) {
    let text = format!("{text}\n");
    print!("{text}");
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
