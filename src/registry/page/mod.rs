//! Pages for people, rendered on the server and without scripts, and the API that finds modules.
//!
//! | file | content |
//! |---|---|
//! | `pages` | what pages need |
//! | `path` | the paths of pages |
//! | `answers` | answers that several pages give |
//! | `seer` | the identity of a request for a page |
//! | `visible` | the Modules that pages show to an identity |
//! | `unsent` | the bound on the memory of answers that are being sent |
//! | `shown` | how dates, sizes and reasons are shown |
//! | `shell`, `style.css` | what all pages share |
//! | `login` | the page on which people sign in and out |
//! | `list` | the list of modules, as a page and as JSON |
//! | `module`, `parts` | a version of a module: README, inputs, outputs, requirements, resources |
//! | `usage` | the block that installs a version |
//! | `versions` | all versions, and why some are missing |
//! | `compare` | what changed between two versions |

mod answers;
mod compare;
mod list;
mod login;
mod module;
mod pages;
mod parts;
pub mod path;
mod seer;
mod shell;
mod shown;
mod unsent;
mod usage;
mod versions;
mod visible;

use std::sync::Arc;

use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, Method, Response, StatusCode, Uri};

use self::answers::{NO_DOCS, NO_HOST, NO_MODULE, NO_VERSION, not_found, refused, stated_host};
use self::module::View;
use self::path::{PagePath, Query};
use self::seer::Seer;
use self::shell::{Page, Viewer, message, robots, style};
use super::auth::{Asked, Denied, Right};
use super::docs::{NoDocs, Packed};
use super::http::{Body, Peer};
use super::index::{Entry, ServedModule};
use super::{responses, session};
use crate::domain::{Address, Release};

pub use self::pages::Pages;
pub use self::unsent::Unsent;

/// The path and query that a browser requested.
fn requested(uri: &Uri) -> &str {
    uri.path_and_query().map_or("/", PathAndQuery::as_str)
}

impl Pages {
    /// The answer to a request for a page.
    pub async fn answer(
        &self,
        page: PagePath,
        uri: &Uri,
        method: &Method,
        headers: &HeaderMap,
        peer: Peer,
    ) -> Response<Body> {
        if method != Method::GET {
            return responses::method_not_allowed(session::methods(uri.path()).unwrap_or("GET"));
        }
        let answer = self.complete(page, uri, headers, peer).await;
        match self.unsent.count(answer, peer).await {
            Some(answer) => answer,
            None => refused(Denied::SENDING, &Viewer::at(requested(uri), None)),
        }
    }

    /// The whole answer, in memory.
    async fn complete(&self, page: PagePath, uri: &Uri, headers: &HeaderMap, peer: Peer) -> Response<Body> {
        match page {
            PagePath::Style => style(),
            PagePath::Robots => robots(),
            PagePath::Login(back) => self.login(&back, headers, peer).await,
            PagePath::ListJson(_) | PagePath::CompareJson(..) => {
                let answer = async { self.shown(page, headers, &self.client(headers, peer).await?).await };
                answer.await.unwrap_or_else(responses::denied)
            }
            _ => {
                let path = requested(uri);
                let seer = match self.seer(path, headers, peer).await {
                    Ok(seer) => Seer { viewer: seer.viewer.accepting(uri, headers), ..seer },
                    Err(denied) => return refused(denied, &Viewer::at(path, None)),
                };
                let answer = self.shown(page, headers, &seer).await;
                answer.unwrap_or_else(|denied| refused(denied, &seer.viewer))
            }
        }
    }

    /// A page or JSON, for an identity that is known.
    async fn shown(
        &self,
        page: PagePath,
        headers: &HeaderMap,
        seer: &Seer,
    ) -> Result<Response<Body>, Denied> {
        match page {
            PagePath::Module(address, release, folder) => {
                self.module(address, release.as_ref(), &folder, headers, seer).await
            }
            PagePath::Versions(address, query) => self.versions(address, &query, seer).await,
            PagePath::Compare(address, versions) => self.compare(address, &versions, false, seer).await,
            PagePath::CompareJson(address, versions) => self.compare(address, &versions, true, seer).await,
            PagePath::List(query) => self.list(&query, seer).await,
            PagePath::ListJson(query) => self.list_json(&query, seer).await,
            PagePath::Style | PagePath::Robots | PagePath::Login(_) => Ok(responses::no_such_path()),
        }
    }

    /// The Module that claims an address, for an identity that may download it. If it or a version is not known, it may be
    /// known in a moment: another replica may have listed it.
    async fn entry(
        &self,
        address: &Address,
        releases: &[&Release],
        seer: &Seer,
    ) -> Result<Option<Arc<Entry>>, Denied> {
        let (identity, peer) = (&seer.identity, seer.peer);
        let holder = self.index.get(address).map(|module| module.object.clone());
        let asked = Asked::at(address, holder.as_deref());
        self.access.may_download(identity, peer, asked).await?;
        let mut entry = self.index.claimant(address);
        let lists_all = |entry: &Arc<Entry>| releases.iter().all(|release| lists(entry, release));
        if !entry.as_ref().is_some_and(lists_all) {
            let stores_all = |module: &Arc<ServedModule>| {
                releases.iter().all(|release| module.stored(release).is_some()).then_some(())
            };
            self.index.find(address, stores_all).await;
            entry = self.index.claimant(address);
        }
        let Some(entry) = entry else { return Ok(None) };
        // A Module that is not served, or has got the address since, may have another name than the one that was reviewed.
        if *entry.object != *asked.object() {
            self.access.may_download(identity, peer, Asked::at(address, Some(&entry.object))).await?;
        }
        Ok(Some(entry))
    }

    /// Whether the page of a Module shows messages of conditions. If that is not known, it shows reasons only.
    async fn reads(&self, entry: &Entry, seer: &Seer) -> bool {
        if !entry.has_messages() {
            return false;
        }
        let asked = Asked { namespace: &entry.namespace, name: "", system: "", holder: Some(&entry.object) };
        self.access.sees(&seer.identity, seer.peer, Right::Read, asked).await.unwrap_or(false)
    }

    async fn module(
        &self,
        address: Address,
        release: Option<&Release>,
        folder: &str,
        headers: &HeaderMap,
        seer: &Seer,
    ) -> Result<Response<Body>, Denied> {
        let address = self.aliases.canonical(address);
        let Some(entry) = self.entry(&address, release.as_slice(), seer).await? else {
            return Ok(not_found(&seer.viewer, NO_MODULE));
        };
        let served = entry.served.as_ref();
        let Some((module, version)) =
            served.and_then(|module| Some((module, module.stored_or_latest(release)?)))
        else {
            // Nothing is stored: the page shows why.
            return Ok(match release {
                Some(release) => self.missing_page(&entry, &address, release, seer).await,
                None => self.versions_page(&entry, &address, &Query::default(), seer).await,
            });
        };
        // Before the documentation, which would take memory during a slow review.
        let reads = self.reads(&entry, seer).await;
        let host = self.host.clone().or_else(|| stated_host(headers)).unwrap_or_else(|| NO_HOST.to_owned());
        let show = {
            let (entry, module, version) = (Arc::clone(&entry), Arc::clone(module), version.clone());
            let (folder, viewer) = (folder.to_owned(), seer.viewer.clone());
            move |docs: Result<Arc<Packed>, NoDocs>| {
                let shown = docs.as_ref().ok().and_then(|packed| packed.folder(&folder));
                let view = View {
                    entry: &entry,
                    module: &module,
                    version: &version,
                    folder: &folder,
                    host: &host,
                    reads,
                    docs: docs.as_deref().map_err(|error| *error),
                    shown: shown.as_ref(),
                };
                view.page(&viewer)
            }
        };
        let namespace = self.index.beside_others(&module.address.namespace);
        let shown = self.library.show(namespace, version, folder, seer.peer, show).await;
        Ok(shown.unwrap_or_else(|why| {
            let (status, title) = (StatusCode::SERVICE_UNAVAILABLE, "This page cannot be shown");
            message(&seer.viewer, status, NO_DOCS, title, &why.to_string())
        }))
    }

    /// The page of a version that is not served: why, if the Module lists it.
    async fn missing_page(
        &self,
        entry: &Entry,
        address: &Address,
        release: &Release,
        seer: &Seer,
    ) -> Response<Body> {
        let Some(missing) = entry.missing.iter().find(|missing| missing.release == *release) else {
            return not_found(&seer.viewer, NO_VERSION);
        };
        let main = versions::missing_page(entry, address, missing, self.reads(entry, seer).await);
        let title = format!("{address} {}", missing.release);
        let (status, phrase) = match missing.withdrawn {
            Some(_) => (StatusCode::GONE, "Gone: version withdrawn"),
            None => (StatusCode::NOT_FOUND, "Not Found"),
        };
        Page { title: &title, words: "", viewer: &seer.viewer, main }.answer(status, phrase)
    }

    async fn versions(&self, address: Address, query: &Query, seer: &Seer) -> Result<Response<Body>, Denied> {
        let address = self.aliases.canonical(address);
        Ok(match self.entry(&address, &[], seer).await? {
            Some(entry) => self.versions_page(&entry, &address, query, seer).await,
            None => not_found(&seer.viewer, NO_MODULE),
        })
    }

    async fn versions_page(
        &self,
        entry: &Entry,
        address: &Address,
        query: &Query,
        seer: &Seer,
    ) -> Response<Body> {
        let main = versions::page(entry, address, query, self.reads(entry, seer).await);
        let title = format!("Versions of {address}");
        Page { title: &title, words: "", viewer: &seer.viewer, main }.answer(StatusCode::OK, "OK")
    }
}

/// Whether a Module lists a version, stored or not.
fn lists(entry: &Entry, release: &Release) -> bool {
    let is_stored = entry.served.as_ref().is_some_and(|module| module.stored(release).is_some());
    is_stored || entry.missing.iter().any(|missing| missing.release == *release)
}
