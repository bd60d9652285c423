//! The forms of output that the commands share.

use std::error::Error;
use std::fmt::Display;
use std::io::Write as _;

use clap::ValueEnum;
use serde::Serialize;

/// The form of a command's output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Plain text.
    #[default]
    Text,
    /// A JSON document.
    Json,
}

/// Prints a result to standard output.
///
/// # Errors
/// If it cannot be serialised or written.
pub fn print(form: Output, result: &(impl Serialize + Display)) -> Result<(), Box<dyn Error>> {
    let text = match form {
        Output::Text => result.to_string(),
        Output::Json => serde_json::to_string_pretty(result)?,
    };
    writeln!(std::io::stdout().lock(), "{text}")?;
    Ok(())
}

/// Writes a line to standard error. If that fails, there is nowhere to report it, and the result of the command counts.
pub fn note(line: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
