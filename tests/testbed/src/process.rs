//! Children that end when the process that started them ends, in whatever way: return, panic, Ctrl-C, SIGKILL.
//!
//! A shell in a process group of its own starts the command and then waits on a pipe that only we hold open. The
//! kernel closes that pipe when we are gone, and the shell ends the command. Nothing has to be cleaned up by us.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::background::lock;

/// `$1` is the log, the rest is the command. Prints the command's process id, and its exit code when it has one.
const SUPERVISOR: &str = r#"
trap '' PIPE
exec 3<&0
log=$1; shift
"$@" </dev/null >>"$log" 2>&1 3<&- &
child=$!
echo "$child"
{
  while read -r _; do :; done
  kill -CONT "$child"; kill -TERM "$child"
  for _ in 1 2 3 4 5 6 7 8 9 10; do sleep 0.1; kill -0 "$child" || exit; done
  kill -KILL "$child"
} <&3 >/dev/null 2>&1 &
watcher=$!
exec 3<&-
wait "$child" 2>/dev/null
code=$?
echo "$code"
kill "$watcher"
"#;

/// `$1` is a folder that is removed when all of its users had time to end.
const JANITOR: &str = r#"while read -r _; do :; done; sleep 2; rm -rf "$1""#;

/// What to start.
#[derive(Debug, Clone)]
pub struct Spec {
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    log: PathBuf,
}

impl Spec {
    /// `program`, whose standard output and error are appended to the file `log`. It sees only `PATH` and what
    /// [`Self::env`] adds.
    pub fn new(program: impl Into<PathBuf>, log: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), args: Vec::new(), env: Vec::new(), log: log.into() }
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// One more environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }
}

/// A running command. It is ended when this is dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: u32,
    log: PathBuf,
    exit: Arc<Mutex<Option<i32>>>,
    lifeline: Mutex<Option<ChildStdin>>,
}

impl Process {
    /// Starts what `spec` says.
    pub fn spawn(spec: &Spec) -> Result<Self> {
        let name = spec.program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut command = Command::new("/bin/sh");
        command
            .arg("-c")
            .arg(SUPERVISOR)
            .arg("supervisor")
            .arg(&spec.log)
            .arg(&spec.program)
            .args(&spec.args);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(spec.env.iter().cloned());
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut shell = command.spawn().with_context(|| format!("cannot start a shell for {name}"))?;
        let lifeline = shell.stdin.take();
        let mut lines = BufReader::new(shell.stdout.take().context("no pipe from the shell")?).lines();
        let pid = lines.next().context("the shell ended at once")??;
        let pid = pid.parse().with_context(|| format!("{pid:?} is no process id"))?;
        let exit = Arc::new(Mutex::new(None));
        let code = exit.clone();
        // Also reaps the shell, so that no zombie stays.
        std::thread::spawn(move || {
            let last = lines.map_while(Result::ok).last();
            *lock(&code) = Some(last.and_then(|line| line.parse().ok()).unwrap_or(-1));
            let _ = shell.wait();
        });
        Ok(Self { name, pid, log: spec.log.clone(), exit, lifeline: Mutex::new(lifeline) })
    }

    /// The command's process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal by its name: `TERM`, `KILL`, `STOP`, `CONT`.
    pub fn signal(&self, name: &str) -> Result<()> {
        if let Some(code) = self.exit_code() {
            bail!("{} has ended already, with code {code}", self.name);
        }
        let kill = format!("kill -{name} {}", self.pid);
        let output = Command::new("sh").args(["-c", &kill]).output().context("cannot run a shell")?;
        if !output.status.success() {
            bail!("{kill} ({}): {}", self.name, String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    /// How the command ended, or `None` while it runs. A command that a signal ended has 128 plus the signal.
    pub fn exit_code(&self) -> Option<i32> {
        *lock(&self.exit)
    }

    /// Waits until the command has ended by itself, and says with which code.
    ///
    /// # Errors
    /// When it still runs after `deadline`.
    pub async fn exited(&self, deadline: Duration) -> Result<i32> {
        let start = Instant::now();
        loop {
            if let Some(code) = self.exit_code() {
                return Ok(code);
            }
            if start.elapsed() > deadline {
                bail!("{} still runs after {deadline:?}", self.name);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends the command (TERM, and KILL after a second) and waits for that.
    pub async fn stop(&self) -> Result<()> {
        lock(&self.lifeline).take();
        self.exited(Duration::from_secs(30)).await.map(drop)
    }

    /// Everything that the command has printed.
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
    }

    /// The last lines of [`Self::log`], for error messages.
    pub(crate) fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Fails, with the log's last lines, when the command has ended.
    pub(crate) fn check_alive(&self) -> Result<()> {
        match self.exit_code() {
            None => Ok(()),
            Some(code) => bail!("{} ended with code {code}:\n{}", self.name, self.log_tail()),
        }
    }
}

/// A temporary folder that is removed a moment after the process that made it has ended, in whatever way.
///
/// With `OPENDEPOT_TEST_KEEP` set it stays, for a look at the logs.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    _lifeline: Option<ChildStdin>,
}

impl Folder {
    /// Makes one.
    pub fn new(name: &str) -> Result<Self> {
        let made = tempfile::Builder::new().prefix(&format!("opendepot-{name}-")).tempdir();
        let path = made.context("cannot make a temporary folder")?.keep();
        if std::env::var_os("OPENDEPOT_TEST_KEEP").is_some() {
            eprintln!("keeping {}", path.display());
            return Ok(Self { path, _lifeline: None });
        }
        let mut command = Command::new("sh");
        command.arg("-c").arg(JANITOR).arg("janitor").arg(&path).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut shell = command.spawn().context("cannot start a shell")?;
        let lifeline = shell.stdin.take();
        std::thread::spawn(move || shell.wait());
        Ok(Self { path, _lifeline: lifeline })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A folder inside it, made when it is missing.
    pub fn sub(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(folder: &Folder, text: &str) -> Process {
        let spec =
            Spec::new("/bin/sh", folder.path().join("log")).args(["-c", text]).env("GREETING", "hello");
        Process::spawn(&spec).expect("a shell starts")
    }

    #[tokio::test]
    async fn tells_output_and_exit_code() {
        let folder = Folder::new("process").expect("a folder");
        let process = script(&folder, "echo $GREETING; exit 7");
        assert_eq!(process.exited(Duration::from_secs(30)).await.expect("it ends"), 7);
        assert_eq!(process.log(), "hello\n");
    }

    #[tokio::test]
    async fn ends_a_child_that_ignores_terminate_or_is_stopped() {
        let folder = Folder::new("process").expect("a folder");
        let process = script(&folder, "trap '' TERM; echo ready; while :; do sleep 0.1; done");
        let ready = crate::eventually(Duration::from_secs(30), || async {
            anyhow::ensure!(process.log() == "ready\n", "the trap is not set");
            Ok(())
        });
        ready.await.expect("it gets ready");
        process.signal("STOP").expect("it can be stopped");
        process.stop().await.expect("it ends");
        assert_eq!(process.exit_code(), Some(128 + 9));
    }

    #[tokio::test]
    async fn ends_a_child_when_the_holder_of_its_pipe_is_killed() {
        let folder = Folder::new("process").expect("a folder");
        let mut holder =
            Command::new("sleep").arg("60").stdout(Stdio::piped()).spawn().expect("sleep starts");
        let mut supervisor = Command::new("sh");
        supervisor
            .args(["-c", SUPERVISOR, "supervisor"])
            .arg(folder.path().join("log"))
            .args(["sleep", "60"]);
        supervisor.stdin(holder.stdout.take().expect("a pipe")).stdout(Stdio::piped());
        let mut supervisor = supervisor.spawn().expect("the supervisor starts");
        let mut lines = BufReader::new(supervisor.stdout.take().expect("a pipe")).lines();
        let pid = lines.next().expect("a line").expect("a process id");
        assert!(Path::new("/proc").join(&pid).exists());

        holder.kill().expect("the holder can be killed");
        supervisor.wait().expect("the supervisor ends");
        holder.wait().expect("the holder ends");
        assert_eq!(lines.next().expect("a line").expect("an exit code"), "143");
        assert!(!Path::new("/proc").join(&pid).exists());
    }
}
