//! A process of its own that reads the documentation of one archive, with limits on its memory and on its time.
//!
//! Archives are untrusted, and a parser may make a hundred megabytes of some kilobytes: of a Markdown table with short rows, of
//! unclosed tags, of a long chain of names. Such an archive ends the child, not the registry.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};

use super::cache::{LARGEST, NoDocs};
use super::folders::{DocsFailure, read};
use super::markdown::Links;
use super::packed::Packed;
use crate::domain::text::cut;

/// The memory of a child besides its program and its stack, in bytes. The largest README and files that are read need three quarters.
/// Two at once fit into 256 MiB with a registry without hundreds of slow clients.
const MEMORY: u64 = 80 << 20;
/// The longest answer, in bytes: it contains the documentation as Base64.
const LONGEST_ANSWER: u64 = LARGEST as u64 * 3 / 2;
/// The longest text that is logged of what a child reports before it ends, in bytes.
const LONGEST_REPORT: u64 = 1 << 10;

/// The arguments of a child: `opendepot read-documentation`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The archive.
    archive: PathBuf,
    /// The folder in which it is unpacked.
    spool_dir: PathBuf,
    /// Seconds that reading may take.
    seconds: u64,
    /// Where relative links lead to.
    links: String,
}

/// What a child prints.
type ChildOutput = Result<Packed, DocsFailure>;

/// Reads an archive and prints its documentation as JSON: the work of the child.
///
/// # Errors
/// If the limits cannot be set, or the answer is not read.
pub fn run(arguments: &Arguments) -> std::io::Result<()> {
    limit(arguments.seconds)?;
    let deadline = Instant::now() + Duration::from_secs(arguments.seconds);
    let links = Links { base: arguments.links.clone() };
    let docs = read(&arguments.archive, &arguments.spool_dir, deadline);
    let answer: ChildOutput = docs.map(|docs| Packed::pack(docs, &links)).and_then(not_too_large);
    let mut output = std::io::stdout().lock();
    serde_json::to_writer(&mut output, &answer)?;
    output.flush()
}

fn not_too_large(packed: Packed) -> ChildOutput {
    let size = packed.size();
    if size <= LARGEST {
        Ok(packed)
    } else {
        Err(DocsFailure::new(NoDocs::TooLarge, format!("it has {size} bytes")))
    }
}

/// Limits this process. The processor time also ends a child whose registry was killed.
#[cfg(not(windows))]
fn limit(seconds: u64) -> std::io::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    for (resource, most) in [(Resource::Core, 0), (Resource::Cpu, seconds + 1), (Resource::Data, MEMORY)] {
        // A lower limit of the machine cannot be raised.
        let most = Some(getrlimit(resource).maximum.map_or(most, |hard| hard.min(most)));
        setrlimit(resource, Rlimit { current: most, maximum: most })?;
    }
    Ok(())
}

#[cfg(windows)]
fn limit(_seconds: u64) -> std::io::Result<()> {
    Ok(())
}

/// The documentation of `archive`, read by a child, which has ended when this returns.
pub(super) async fn documentation(
    archive: &Path,
    spool_dir: &Path,
    links: &Links,
    time: Duration,
) -> Result<Packed, NoDocs> {
    let failed = |error: std::io::Error| {
        tracing::warn!(%error, "no process could be started to read the documentation of an archive, or its answer was lost");
        NoDocs::Disk
    };
    let mut child = start(archive, spool_dir, links, time).map_err(failed)?;
    let ended = tokio::time::timeout(time + Duration::from_secs(1), answer(&mut child)).await;
    if !matches!(ended, Ok(Ok(_))) {
        // An error means that it has ended meanwhile.
        let _ = child.kill().await;
    }
    let Ok(ended) = ended else { return Err(NoDocs::TooSlow) };
    let (status, answer, report) = ended.map_err(failed)?;
    let report = cut(&report, 300);
    match serde_json::from_slice::<ChildOutput>(&answer) {
        Ok(Ok(packed)) => {
            if !report.is_empty() {
                tracing::warn!(report, "a part of the documentation of an archive could not be read");
            }
            Ok(packed)
        }
        Ok(Err(DocsFailure { why, cause })) => {
            if why == NoDocs::Disk {
                tracing::warn!(
                    cause,
                    "the documentation of an archive could not be read: the spool folder failed"
                );
            } else {
                tracing::info!(cause, "the documentation of an archive could not be read");
            }
            Err(why)
        }
        Err(_) => {
            tracing::warn!(%status, report, "the process that read the documentation of an archive has failed");
            Err(why_it_failed(status))
        }
    }
}

fn start(archive: &Path, spool_dir: &Path, links: &Links, time: Duration) -> std::io::Result<Child> {
    // The running program, even if its file was replaced by another release.
    let program = if cfg!(target_os = "linux") { "/proc/self/exe".into() } else { std::env::current_exe()? };
    let mut command = Command::new(program);
    command
        .args(["read-documentation", "--"])
        .args([archive, spool_dir])
        .arg(time.as_secs().to_string())
        .arg(&links.base);
    // No secret of the registry is in its environment.
    command.env_clear().env("RUST_BACKTRACE", "0");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command.spawn()
}

/// What a child prints until it ends, and the beginning of what it reports on standard error.
async fn answer(child: &mut Child) -> std::io::Result<(ExitStatus, Vec<u8>, String)> {
    let answer = beginning(child.stdout.take(), LONGEST_ANSWER);
    let report = beginning(child.stderr.take(), LONGEST_REPORT);
    let (answer, report) = tokio::try_join!(answer, report)?;
    Ok((child.wait().await?, answer, String::from_utf8_lossy(&report).into_owned()))
}

/// At most `longest` bytes of a pipe, which is closed then.
async fn beginning(pipe: Option<impl AsyncRead + Unpin>, longest: u64) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(longest).read_to_end(&mut text).await?;
    }
    Ok(text)
}

/// Only a panic, and a lack of memory or stack within the limits, are about the archive. Any other signal is that of the limit of
/// processor time, of a machine without memory, of a disk, or of a user.
#[cfg(not(windows))]
fn why_it_failed(status: ExitStatus) -> NoDocs {
    use std::os::unix::process::ExitStatusExt as _;

    use rustix::process::Signal;

    let aborts = [Signal::ABORT, Signal::SEGV].map(Signal::as_raw);
    match (status.code(), status.signal()) {
        (Some(101), _) => NoDocs::Unreadable,
        (_, Some(signal)) if aborts.contains(&signal) => NoDocs::Unreadable,
        (_, Some(_)) => NoDocs::TooSlow,
        _ => NoDocs::Disk,
    }
}

#[cfg(windows)]
fn why_it_failed(_status: ExitStatus) -> NoDocs {
    NoDocs::Unreadable
}

#[cfg(all(test, not(windows)))]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    #[test]
    fn only_what_is_about_the_archive_is_kept() {
        for (status, why) in [
            (101 << 8, NoDocs::Unreadable),
            (6, NoDocs::Unreadable),
            (11, NoDocs::Unreadable),
            (7, NoDocs::TooSlow),
            (1 << 8, NoDocs::Disk),
            (2 << 8, NoDocs::Disk),
            (9, NoDocs::TooSlow),
            (15, NoDocs::TooSlow),
        ] {
            assert_eq!(why_it_failed(ExitStatus::from_raw(status)), why, "{status}");
        }
    }
}
