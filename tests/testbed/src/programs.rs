//! Programs of this machine, and scripts.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// The whole path of a program that is in the `PATH`.
///
/// A command with a `PATH` of its own and a program without a path is forked, and that copies the page tables of this
/// process, which is large. All others are spawned, which copies nothing.
pub fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| name.into())
}

/// Writes an executable script.
///
/// A child process writes it. While this process starts a child in another thread, that child has a copy of each of our
/// descriptors, and a file that is open for writing cannot be executed.
///
/// # Errors
/// When the file cannot be written.
pub fn write_script(path: &Path, text: &str) -> Result<()> {
    let mut writer = Command::new("/bin/sh")
        .args(["-c", "cat >\"$0\" && chmod 755 \"$0\""])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .context("cannot start sh")?;
    let written = writer.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(text.as_bytes()));
    let status = writer.wait().context("cannot wait for sh")?;
    written.with_context(|| format!("cannot write {}", path.display()))?;
    ensure!(status.success(), "cannot write {}: {status}", path.display());
    Ok(())
}
