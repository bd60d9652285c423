//! Where this machine gets programs from, and has them.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::archives::Archive;
use super::build::{self, Build};
use super::{Server, hashed, pinned, source};
use crate::kubernetes;
use crate::progress::Progress;

/// The server of the archives.
const SITE: &str = "https://github.com";

/// What decides where programs are, and how those that are missing are got.
#[derive(Debug)]
pub(super) struct Setup {
    /// `$KUBEBUILDER_ASSETS`
    pub assets: Option<PathBuf>,
    pub cache: PathBuf,
    /// Where archives are. Without it, everything is built.
    pub site: Option<String>,
    pub go: OsString,
}

/// Programs to get.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Missing {
    pub archives: Vec<(Archive, Vec<Server>)>,
    /// By their group.
    pub builds: Vec<(&'static str, Vec<Server>)>,
}

impl Missing {
    fn add(&mut self, server: Server, archive: Option<Archive>) {
        let Some(archive) = archive else { return self.build(server) };
        match self.archives.iter_mut().find(|(known, _)| *known == archive) {
            Some((_, programs)) => programs.push(server),
            None => self.archives.push((archive, vec![server])),
        }
    }

    fn build(&mut self, server: Server) {
        match self.builds.iter_mut().find(|(group, _)| *group == server.group()) {
            Some((_, programs)) => programs.push(server),
            None => self.builds.push((server.group(), vec![server])),
        }
    }

    /// Adds what is to do to what is planned.
    pub(super) fn plan(&self, progress: &Progress) {
        for (archive, _) in &self.archives {
            progress.plan(&archive.label(), archive.takes());
        }
        for (_, programs) in &self.builds {
            progress.plan(&build::label(programs), build::takes(programs));
        }
    }
}

impl Setup {
    pub(super) fn of_this_machine() -> Result<Self> {
        kubernetes::chosen()?;
        let var = |name| std::env::var_os(name).filter(|value: &OsString| !value.is_empty());
        let wanted = var("OPENDEPOT_TEST_SERVERS").map(|value| value.to_string_lossy().into_owned());
        let site = downloads(wanted.as_deref(), var("CI").is_some())?.then(|| SITE.to_owned());
        let assets = var("KUBEBUILDER_ASSETS").map(PathBuf::from);
        Ok(Self { assets, cache: super::cache()?, site, go: "go".into() })
    }

    /// The program, where it is already: one of the user's, one built from source, or one from an archive. Those of an older
    /// Kubernetes are always built: the others could be of another version.
    pub(super) fn find(&self, server: Server) -> Result<Option<PathBuf>> {
        let asset =
            self.assets.as_ref().filter(|_| !server.is_older()).map(|assets| assets.join(server.name()));
        let built = self.folder(server)?.join(server.name());
        let downloaded = self.archive(server).map(|archive| archive.program(&self.cache, server));
        Ok([asset, Some(built), downloaded].into_iter().flatten().find(|path| path.is_file()))
    }

    /// The whole controller manager where it is built, or where everything is to be built. No archive has it, and building it
    /// takes as long as building all other servers.
    pub(super) fn controllers(&self) -> Result<Server> {
        let real = Server::KubeControllerManager;
        let wanted = self.site.is_none() || real.is_older() || self.find(real)?.is_some();
        Ok(if wanted { real } else { Server::Controllers })
    }

    pub(super) fn missing(&self, wanted: &[Server]) -> Result<Missing> {
        let mut missing = Missing::default();
        for server in wanted {
            if self.find(*server)?.is_none() {
                missing.add(*server, self.archive(*server));
            }
        }
        Ok(missing)
    }

    /// Downloads and builds. When an archive cannot be had, its programs and those of the remaining ones are built.
    pub(super) fn get(&self, missing: Missing, progress: &Progress) -> Result<()> {
        let mut builds = Missing { builds: missing.builds, ..Missing::default() };
        let mut refused = false;
        for (archive, programs) in missing.archives {
            if !refused {
                progress.begin(&archive.label(), archive.takes());
                match self.fetch(&archive, progress) {
                    Ok(()) => continue,
                    Err(error) => progress.say(&format!("{error:#}; building from source instead")),
                }
                refused = true;
                builds.builds.iter().for_each(|(_, planned)| progress.cancel(&build::label(planned)));
            }
            progress.cancel(&archive.label());
            for server in programs {
                builds.build(server);
            }
        }
        for (_, programs) in builds.builds {
            let [first, ..] = programs[..] else { continue };
            progress.begin(&build::label(&programs), build::takes(&programs));
            let (go, source, folder) = (&self.go, &source(first.module()), &self.folder(first)?);
            Build { go, source, folder, progress }.run(&programs)?;
        }
        Ok(())
    }

    fn fetch(&self, archive: &Archive, progress: &Progress) -> Result<()> {
        let site = self.site.as_ref().context("archives are not to be downloaded")?;
        archive.fetch(site, &self.cache, progress)?;
        progress.say(&format!("downloaded {}", archive.name));
        Ok(())
    }

    /// The archive that has this program, where archives are wanted.
    fn archive(&self, server: Server) -> Option<Archive> {
        self.site.as_ref().filter(|_| !server.is_older())?;
        Archive::of(server, std::env::consts::ARCH)
    }

    /// The folder of this program, if it is built.
    fn folder(&self, server: Server) -> Result<PathBuf> {
        Ok(self.cache.join(hashed(server.group(), &pinned(server)?)?))
    }
}

/// Whether archives are downloaded: `OPENDEPOT_TEST_SERVERS`, or else everywhere but in CI, whose results are about what the
/// `go.mod` files pin.
pub(super) fn downloads(wanted: Option<&str>, ci: bool) -> Result<bool> {
    match wanted {
        None => Ok(!ci && cfg!(target_os = "linux")),
        Some("download") => Ok(true),
        Some("build") => Ok(false),
        Some(other) => bail!("OPENDEPOT_TEST_SERVERS is {other:?}: set it to `build` or `download`"),
    }
}
