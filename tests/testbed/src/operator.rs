//! The operator and the registry as users run them: the built binary, in an environment of its own.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::background::lock;
use crate::port::free_port;
use crate::process::{Folder, Process, Spec};

/// How to start an operator.
#[derive(Debug, Clone)]
pub struct OperatorBuilder {
    binary: PathBuf,
    command: &'static str,
    env: Vec<(OsString, OsString)>,
    args: Vec<OsString>,
}

impl OperatorBuilder {
    /// `binary run`, with nothing but `PATH`, `HOME`, `TMPDIR` and a port of its own in its environment.
    pub fn new(binary: impl Into<PathBuf>) -> Self {
        Self { binary: binary.into(), command: "run", env: Vec::new(), args: Vec::new() }
    }

    /// `binary serve`: the registry, at a port of its own, with another one for what the kubelet and Prometheus ask.
    pub fn registry(binary: impl Into<PathBuf>) -> Self {
        Self { command: "serve", ..Self::new(binary) }
    }

    /// One more environment variable. The last one of a name counts.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Starts it, and does not wait until it is ready.
    pub fn start(self) -> Result<Operator> {
        ensure!(self.binary.is_file(), "there is no operator at {}: build it first", self.binary.display());
        let folder = Folder::new("operator")?;
        let (address, temporary) = (format!("127.0.0.1:{}", free_port()?), folder.sub("tmp")?);
        let registry = format!("127.0.0.1:{}", free_port()?);
        let ports = match self.command {
            "serve" => [("OPENDEPOT_LISTEN", &registry), ("OPENDEPOT_ADMIN_LISTEN", &address)].to_vec(),
            _ => [("OPENDEPOT_LISTEN", &address)].to_vec(),
        };
        let mut spec = Spec::new(&self.binary, folder.path().join("operator.log"))
            .env("HOME", folder.path())
            .env("TMPDIR", &temporary)
            .args([self.command])
            .args(self.args);
        for (name, value) in ports {
            spec = spec.env(name, value);
        }
        for (name, value) in self.env {
            spec = spec.env(name, value);
        }
        let started = (Process::spawn(&spec)?, Instant::now());
        Ok(Operator { address, registry, spec, folder, running: Mutex::new(started) })
    }

    /// Starts it, and waits until it is ready.
    pub async fn start_ready(self) -> Result<Operator> {
        let operator = self.start()?;
        operator.wait_ready().await?;
        Ok(operator)
    }
}

/// A running operator. It ends when this is dropped.
#[derive(Debug)]
pub struct Operator {
    address: String,
    registry: String,
    spec: Spec,
    folder: Folder,
    running: Mutex<(Process, Instant)>,
}

/// Memory in use, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Resident now.
    pub resident: u64,
    /// The most that was ever resident.
    pub peak: u64,
    /// Of what is resident now, the pages of files: those of the program.
    pub program: u64,
}

impl Memory {
    /// The peak, in which the program counts with at most 20 MiB. An unoptimised one has more resident, and grows with every
    /// command. A release is smaller: 20 MiB is an estimate of what is resident of its 27 MB.
    pub fn peak_of_release(&self) -> u64 {
        self.of_release(self.peak)
    }

    /// The same of what is resident now.
    pub fn resident_of_release(&self) -> u64 {
        self.of_release(self.resident)
    }

    fn of_release(&self, bytes: u64) -> u64 {
        bytes.saturating_sub(self.program) + self.program.min(20 << 20)
    }
}

impl Operator {
    /// Waits up to two minutes until `/readyz` says so, and returns how long that took from the start of the process.
    pub async fn wait_ready(&self) -> Result<Duration> {
        loop {
            lock(&self.running).0.check_alive()?;
            let took = lock(&self.running).1.elapsed();
            match self.http_get("/readyz").await {
                Ok((200, _)) => return Ok(took),
                answer if took > Duration::from_mins(2) => {
                    bail!("the operator is not ready after {took:?}: {answer:?}\n{}", self.log())
                }
                _ => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    /// SIGKILL, as a node that loses power.
    pub async fn kill(&self) -> Result<()> {
        self.signal("KILL")?;
        self.exited(Duration::from_mins(1)).await.map(drop)
    }

    /// SIGTERM, as Kubernetes does it. Returns the exit code.
    ///
    /// # Errors
    /// When it still runs after `deadline`.
    pub async fn terminate(&self, deadline: Duration) -> Result<i32> {
        self.signal("TERM")?;
        self.exited(deadline).await
    }

    /// Starts it again after it has ended: same arguments, same port, same log.
    pub async fn restart(&self) -> Result<Duration> {
        if lock(&self.running).0.exit_code().is_none() {
            self.kill().await?;
        }
        *lock(&self.running) = (Process::spawn(&self.spec)?, Instant::now());
        self.wait_ready().await
    }

    /// Sends a signal by its name: `STOP`, `CONT`, …
    pub fn signal(&self, name: &str) -> Result<()> {
        lock(&self.running).0.signal(name)
    }

    /// Waits until it has ended, and returns the exit code.
    pub async fn exited(&self, deadline: Duration) -> Result<i32> {
        let start = Instant::now();
        loop {
            if let Some(code) = lock(&self.running).0.exit_code() {
                return Ok(code);
            }
            ensure!(start.elapsed() < deadline, "the operator still runs after {deadline:?}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Where a registry is reached: `127.0.0.1:PORT`, which is a host that Terraform and OpenTofu take.
    pub fn registry_address(&self) -> &str {
        &self.registry
    }

    /// Where `/metrics` and the probes are served.
    pub fn admin_address(&self) -> &str {
        &self.address
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        lock(&self.running).0.pid()
    }

    /// Everything that it has printed since the first start.
    pub fn log(&self) -> String {
        lock(&self.running).0.log()
    }

    /// Its home, with its temporary folder `tmp` inside.
    pub fn home(&self) -> &Path {
        self.folder.path()
    }

    /// The memory that it uses.
    pub fn memory(&self) -> Result<Memory> {
        let path = format!("/proc/{}/status", self.pid());
        let status = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let field = |name: &str| -> Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
            Ok(number.with_context(|| format!("{path} has no {name}"))?.trim().parse::<u64>()? * 1024)
        };
        Ok(Memory { resident: field("VmRSS:")?, peak: field("VmHWM:")?, program: field("RssFile:")? })
    }

    /// What `/metrics` says.
    pub async fn metrics(&self) -> Result<String> {
        let (status, text) = self.http_get("/metrics").await?;
        ensure!(status == 200, "/metrics answered {status}: {text}");
        Ok(text)
    }

    /// Status and body of a path of its own HTTP server.
    pub async fn http_get(&self, path: &str) -> Result<(u16, String)> {
        let mut stream = TcpStream::connect(&self.address).await.context("the operator does not listen")?;
        // HTTP/1.0: no chunks, and the end of the connection is the end of the body.
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.address).as_bytes()).await?;
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer);
        tokio::time::timeout(Duration::from_secs(30), read).await.context("no answer after 30 s")??;
        let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
        let status = head.split(' ').nth(1).context("no HTTP status")?.parse()?;
        Ok((status, body.to_owned()))
    }
}
