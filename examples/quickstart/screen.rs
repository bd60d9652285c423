//! The quickstart's output: headings, commands with their output, and checks.

use std::fmt::Display;

/// Begins a step.
pub fn heading(text: &str) {
    println!("\n== {text}");
}

/// A remark.
pub fn say(text: impl Display) {
    println!("{text}");
}

/// A command, so that it can be copied into a shell.
pub fn command(program: &str, args: &[&str]) {
    let words: Vec<String> = args.iter().map(|word| quoted(word)).collect();
    println!("\n$ {program} {}", words.join(" "));
}

/// The output of a command.
pub fn output(text: &str) {
    if !text.trim().is_empty() {
        println!("{}", text.trim_end());
    }
}

/// The error that ended the quickstart early.
pub fn failure(error: &anyhow::Error) {
    eprintln!("\nquickstart: {error:#}");
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@".contains(c);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{word}'") }
}

/// The checks and their outcomes.
#[derive(Debug, Default)]
pub struct Proofs(Vec<(bool, String)>);

impl Proofs {
    /// Records the outcome of a check.
    pub fn check(&mut self, holds: bool, claim: impl Into<String>) {
        let claim = claim.into();
        println!("{}", line(holds, &claim));
        self.0.push((holds, claim));
    }

    /// Whether there was at least one check, and all passed.
    pub fn hold(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|(holds, _)| *holds)
    }

    /// Prints all checks.
    pub fn list(&self) {
        heading(if self.0.is_empty() { "No check was made" } else { "Checks" });
        for (holds, claim) in &self.0 {
            println!("{}", line(*holds, claim));
        }
    }
}

fn line(holds: bool, claim: &str) -> String {
    format!("  [{}] {claim}", if holds { "ok" } else { "FAILED" })
}
