//! What the quickstart prints: headings, commands with their output, and what is proved.

use std::fmt::Display;

/// Begins a part of the story.
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

/// What a command said.
pub fn output(text: &str) {
    if !text.trim().is_empty() {
        println!("{}", text.trim_end());
    }
}

/// Why the story ended early.
pub fn failure(error: &anyhow::Error) {
    eprintln!("\nquickstart: {error:#}");
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@".contains(c);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{word}'") }
}

/// What was checked, and whether it was so.
#[derive(Debug, Default)]
pub struct Proofs(Vec<(bool, String)>);

impl Proofs {
    /// Takes down the outcome of a check.
    pub fn check(&mut self, holds: bool, claim: impl Into<String>) {
        let claim = claim.into();
        println!("{}", line(holds, &claim));
        self.0.push((holds, claim));
    }

    /// Whether anything was checked, and all of it was so.
    pub fn hold(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|(holds, _)| *holds)
    }

    /// Prints all of them.
    pub fn list(&self) {
        heading(if self.0.is_empty() { "This run has proved nothing" } else { "What this run has proved" });
        for (holds, claim) in &self.0 {
            println!("{}", line(*holds, claim));
        }
    }
}

fn line(holds: bool, claim: &str) -> String {
    format!("  [{}] {claim}", if holds { "ok" } else { "NOT SO" })
}
