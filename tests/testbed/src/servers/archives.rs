//! Archives with built programs, as their own projects publish them. Each is checked by the checksum below before anything of
//! it is used.
//!
//! A new version needs its checksums here: of envtest from `envtest-releases.yaml` in kubernetes-sigs/controller-tools, of the
//! others from the file of checksums beside the release.

use std::fmt::Write as _;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use aws_lc_rs::digest::{Context as Digest, SHA256, SHA512};
use flate2::read::GzDecoder;

use super::Server;
use crate::progress::Progress;

/// Kubernetes' version in the archive that the users of envtest know. It is the newest one; patches of it have none.
pub(super) const ENVTEST: &str = "1.37.0";
pub(super) const VERSITYGW: &str = "1.8.0";
pub(super) const OPENTOFU: &str = "1.12.6";

/// An archive below the server of the releases, for a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Archive {
    pub name: String,
    path: String,
    /// SHA-512 or SHA-256 in hexadecimal digits: what its project publishes.
    pub checksum: &'static str,
    /// The folder in the archive that has the programs.
    folder: String,
    pub programs: &'static [Server],
    /// About so many, for the time that is left.
    megabytes: u32,
}

impl Archive {
    /// The one that has this program, for a processor as Rust names it.
    pub(super) fn of(server: Server, processor: &str) -> Option<Self> {
        let arm = match processor {
            "x86_64" => false,
            "aarch64" => true,
            _ => return None,
        };
        match server {
            Server::KubeApiserver | Server::Kubectl | Server::Etcd => Some(Self::envtest(arm)),
            Server::Versitygw => Some(Self::versitygw(arm)),
            Server::Tofu => Some(Self::opentofu(arm)),
            _ => None,
        }
    }

    fn envtest(arm: bool) -> Self {
        let (processor, checksum) = if arm {
            (
                "arm64",
                "ae6a670502988200b0131c943758cfd3d3a58cf4e6247ef7f0e6a6467f1cd9a333c802e86101f0446b1b92a0e327387224e1e44fe1a4693da0929c6e529cfe9a",
            )
        } else {
            (
                "amd64",
                "1d1c453633b72c161a5d5a886cde7ac850be1a2ac796a9e1d4ffacacc64868295bdd2d57aa66cd0c158f5ce510f5dfe3fbc61ac21bd3dcfb875bd70658aa663a",
            )
        };
        let name = format!("envtest-v{ENVTEST}-linux-{processor}");
        let path =
            format!("kubernetes-sigs/controller-tools/releases/download/envtest-v{ENVTEST}/{name}.tar.gz");
        let programs = &[Server::KubeApiserver, Server::Kubectl, Server::Etcd];
        Self { name, path, checksum, folder: "controller-tools/envtest".to_owned(), programs, megabytes: 60 }
    }

    fn versitygw(arm: bool) -> Self {
        let (processor, checksum) = if arm {
            ("arm64", "b34051d33f5a9c457f790896acb7bd7d7e15ad8d92efb70616b924f37e401910")
        } else {
            ("x86_64", "2ba2c734d10d2c4e651d03182cb4b246656bc735a2f282db7b0b73fba6073467")
        };
        let name = format!("versitygw_v{VERSITYGW}_Linux_{processor}");
        let path = format!("versity/versitygw/releases/download/v{VERSITYGW}/{name}.tar.gz");
        Self { folder: name.clone(), name, path, checksum, programs: &[Server::Versitygw], megabytes: 15 }
    }

    fn opentofu(arm: bool) -> Self {
        let (processor, checksum) = if arm {
            ("arm64", "9bd0228a81bcd0c88f7045c74378f45a815779f19897191dff7d9efba9976b9e")
        } else {
            ("amd64", "50a6106fa4de523d09c87af85f3db1dd47535fc005727fdca6852146476b88ec")
        };
        let name = format!("tofu_{OPENTOFU}_linux_{processor}");
        let path = format!("opentofu/opentofu/releases/download/v{OPENTOFU}/{name}.tar.gz");
        Self { name, path, checksum, folder: String::new(), programs: &[Server::Tofu], megabytes: 35 }
    }

    /// Where a program of it is, once it was unpacked.
    pub(super) fn program(&self, cache: &Path, server: Server) -> PathBuf {
        self.unpacked(cache).join(server.name())
    }

    /// The checksum is part of the name: another archive is another folder.
    fn unpacked(&self, cache: &Path) -> PathBuf {
        cache.join(format!("{}-{}", self.name, self.checksum.get(..16).unwrap_or(self.checksum)))
    }

    /// What is done with it, for people.
    pub(super) fn label(&self) -> String {
        format!("downloading {}", self.name)
    }

    /// At two megabytes a second.
    pub(super) fn takes(&self) -> Duration {
        Duration::from_secs(u64::from(self.megabytes / 2))
    }

    /// Downloads, checks and unpacks it, unless that was done.
    pub(super) fn fetch(&self, site: &str, cache: &Path, progress: &Progress) -> Result<()> {
        let target = self.unpacked(cache);
        fs::create_dir_all(cache).with_context(|| format!("cannot make {}", cache.display()))?;
        let guard =
            File::create(target.with_extension("lock")).context("cannot make the lock of a download")?;
        guard.lock().context("cannot take the lock of a download")?;
        if target.exists() {
            return Ok(());
        }
        // Removed when this ends early. On the same disk as the target.
        let work = tempfile::Builder::new().prefix(".download-").tempdir_in(cache)?;
        let (archive, programs) = (work.path().join("archive"), work.path().join("programs"));
        download(&format!("{site}/{}", self.path), &archive, |bytes| {
            progress.advance(bytes, u64::from(self.megabytes) * 1_000_000);
        })?;
        self.check(&archive)?;
        self.unpack(&archive, &programs)?;
        // Renamed last: an interrupted download is never mistaken for a good one.
        fs::rename(&programs, &target).with_context(|| format!("cannot make {}", target.display()))
    }

    fn check(&self, archive: &Path) -> Result<()> {
        let (name, algorithm) =
            if self.checksum.len() == 128 { ("SHA-512", &SHA512) } else { ("SHA-256", &SHA256) };
        let mut sum = Summed(Digest::new(algorithm));
        io::copy(&mut File::open(archive)?, &mut sum)?;
        let found = hexadecimal(sum.0.finish().as_ref());
        ensure!(found == self.checksum, "the {name} of {} is {found}, not {}", self.name, self.checksum);
        Ok(())
    }

    fn unpack(&self, archive: &Path, into: &Path) -> Result<()> {
        fs::create_dir(into)?;
        let mut missing = self.programs.to_vec();
        let mut archive = tar::Archive::new(GzDecoder::new(File::open(archive)?));
        for entry in archive.entries()? {
            let mut entry = entry?;
            let path = entry.path()?.into_owned();
            let here = |server: &Server| path == Path::new(&self.folder).join(server.name());
            let Some(found) = missing.iter().position(here) else { continue };
            let target = into.join(missing.swap_remove(found).name());
            io::copy(&mut entry, &mut File::create_new(&target)?)?;
            fs::set_permissions(&target, Permissions::from_mode(0o755))?;
        }
        let missing = missing.first().map(|server| server.name());
        ensure!(missing.is_none(), "{} has no {}", self.path, missing.unwrap_or_default());
        Ok(())
    }
}

pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

struct Summed(Digest);

impl io::Write for Summed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// With curl, which knows the proxies and authorities of this machine. Ends soon where there is no network.
fn download(url: &str, to: &Path, mut so_far: impl FnMut(u64)) -> Result<()> {
    let mut curl = Command::new("curl")
        .args(["--fail", "--silent", "--show-error", "--location", "--proto-redir", "=https"])
        .args(["--connect-timeout", "5", "--speed-time", "20", "--speed-limit", "20000", "--output"])
        .arg(to)
        .arg(url)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run curl")?;
    let started = Instant::now();
    while curl.try_wait()?.is_none() {
        so_far(to.metadata().map_or(0, |file| file.len()));
        std::thread::sleep(Duration::from_millis(if started.elapsed().as_secs() == 0 { 10 } else { 200 }));
    }
    let ended = curl.wait_with_output()?;
    if !ended.status.success() {
        bail!("{url}: {}", String::from_utf8_lossy(&ended.stderr).trim());
    }
    Ok(())
}
