//! Links to archives, and the answers to them.

use http::{HeaderMap, Method, Response};

use super::Service;
use super::log::ArchiveLine;
use crate::domain::Address;
use crate::registry::archive::{Download, DownloadOutcome, Permitted};
use crate::registry::http::{Body, Peer};
use crate::registry::index::ServedVersion;
use crate::registry::link::{Permit, is_current, now};
use crate::registry::path::{self, ArchivePath};
use crate::registry::responses;

impl Service {
    /// The value of `X-Terraform-Get`. The checksum makes both clients refuse any other bytes.
    pub(super) fn location(&self, address: &Address, version: &ServedVersion) -> String {
        let sha256 = &version.archive.sha256;
        let permit = Permit { address, release: &version.release, sha256 };
        let link = self.keys.load().link(permit, now());
        let (base, file) = (&self.url, path::encoded(&file_name(address, version)));
        let (release, format) = (path::encoded(&version.release.to_string()), version.format.extension());
        let hex = crate::domain::text::hex(sha256);
        // The value of go-getter's `archive` is the extension.
        format!(
            "{base}{}{address}/{release}/archive/{link}/{file}?archive={format}&checksum=sha256:{hex}",
            path::MODULES
        )
    }

    /// An archive, for a valid link.
    pub(super) async fn archive(
        &self,
        path: &ArchivePath<'_>,
        method: &Method,
        headers: &HeaderMap,
        peer: Peer,
    ) -> Response<Body> {
        let line = ArchiveLine::start(path);
        let look = || self.version(path);
        // Another replica may have made the link for a version that this one has not seen yet. The clients do not retry.
        let found = if is_current(path.link, now()) {
            self.pages.index.find_unidentified(peer, look).await
        } else {
            look()
        };
        let archive = match permitted(found) {
            Ok(archive) => archive,
            Err(answer) => {
                line.write(DownloadOutcome::unopened(answer.status().as_u16()));
                return *answer;
            }
        };
        let download = Download { archive: &archive, method, headers, link: path.link, peer };
        // The operator may have moved or replaced the object, and this replica's watch may be a moment late.
        let changed = || {
            let current = permitted(self.version(path));
            (current.as_ref().ok() != Some(&archive)).then_some(current)
        };
        let superseded = self.pages.index.find_unidentified(peer, changed);
        self.downloads.answer(download, superseded, move |outcome| line.write(outcome)).await
    }

    /// The version that a valid link names.
    fn version(&self, path: &ArchivePath<'_>) -> Option<ServedVersion> {
        let module = self.pages.index.get(&path.address);
        let version = module.as_ref().and_then(|module| module.stored(&path.release));
        // A MAC is computed in any case, so that the duration does not reveal whether the version exists.
        let unknown = [0; 32];
        let sha256 = version.map_or(&unknown, |version| &version.archive.sha256);
        let permit = Permit { address: &path.address, release: &path.release, sha256 };
        let valid = self.keys.load().permits(path.link, permit, now());
        let named = |version: &&ServedVersion| file_name(&path.address, version) == path.file;
        version.filter(named).filter(|_| valid).cloned()
    }
}

/// What a link permits that names this version, or none.
fn permitted(version: Option<ServedVersion>) -> Permitted {
    let version = version.ok_or_else(responses::link_refused)?;
    match &version.withdrawn {
        Some(reason) => Err(Box::new(responses::withdrawn(reason))),
        None => Ok(version.archive.clone()),
    }
}

/// `NAME-VERSION.EXT`, for people: the clients do not use it.
fn file_name(address: &Address, version: &ServedVersion) -> String {
    format!("{}-{}.{}", address.name, version.release, version.format.extension())
}
