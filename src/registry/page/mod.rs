//! Pages for people, rendered on the server and without scripts, and the API that finds modules.
//!
//! | file | content |
//! |---|---|
//! | `pages` | what pages need |
//! | `path` | the paths of pages |
//! | `answers` | answers that several pages give |
//! | `requester` | the identity of a request for a page |
//! | `visible` | the Modules that pages show to an identity |
//! | `send_budget` | the bound on the memory of answers that are being sent |
//! | `display` | how dates, sizes and reasons are shown |
//! | `shell`, `style.css` | what all pages share |
//! | `login` | the page on which people sign in and out |
//! | `list` | the list of modules, as a page and as JSON |
//! | `module`, `parts` | a version of a module: README, inputs, outputs, requirements, resources |
//! | `usage` | the block that installs a version |
//! | `versions` | all versions, and why some are missing |
//! | `compare` | what changed between two versions |

mod answers;
mod compare;
mod display;
mod list;
mod login;
mod module;
mod pages;
mod parts;
pub mod path;
mod requester;
mod send_budget;
mod shell;
mod usage;
mod versions;
mod visible;

use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Response, StatusCode, Uri};

use self::answers::{NO_DOCS, NO_HOST, NO_MODULE, NO_VERSION, not_found, refused, stated_host, to_list};
use self::module::View;
use self::path::{PagePath, Query};
use self::requester::Requester;
use self::shell::{Page, Viewer, message, robots, style};
use super::auth::{Denied, ModuleRef, Right};
use super::docs::{NoDocs, Packed};
use super::http::{Body, Peer};
use super::index::{Entry, ServedModule};
use super::{responses, session};
use crate::domain::{Address, Release};

pub use self::pages::Pages;
pub use self::send_budget::SendBudget;

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
        match self.send_budget.count(answer, peer).await {
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
            PagePath::Shortened(words) => to_list(&words),
            PagePath::ListJson(_) | PagePath::CompareJson(..) => {
                let answer = async { self.shown(page, headers, &self.client(headers, peer).await?).await };
                answer.await.unwrap_or_else(responses::denied)
            }
            _ => {
                let path = requested(uri);
                let requester = match self.requester(path, headers, peer).await {
                    Ok(requester) => {
                        Requester { viewer: requester.viewer.accepting(uri, headers), ..requester }
                    }
                    Err(denied) => return refused(denied, &Viewer::at(path, None)),
                };
                let answer = self.shown(page, headers, &requester).await;
                answer.unwrap_or_else(|denied| refused(denied, &requester.viewer))
            }
        }
    }

    /// A page or JSON, for an identity that is known.
    async fn shown(
        &self,
        page: PagePath,
        headers: &HeaderMap,
        requester: &Requester,
    ) -> Result<Response<Body>, Denied> {
        match page {
            PagePath::Module(address, release, folder) => {
                self.module(address, release.as_ref(), &folder, headers, requester).await
            }
            PagePath::Versions(address, query) => self.versions(address, &query, requester).await,
            PagePath::Compare(address, versions) => self.compare(address, &versions, false, requester).await,
            PagePath::CompareJson(address, versions) => {
                self.compare(address, &versions, true, requester).await
            }
            PagePath::List(query) => self.list(&query, requester).await,
            PagePath::ListJson(query) => self.list_json(&query, requester).await,
            PagePath::Style | PagePath::Robots | PagePath::Login(_) | PagePath::Shortened(_) => {
                Ok(responses::no_such_path())
            }
        }
    }

    /// The Module that claims an address, for an identity that may download it. If it or a version is not known, it may be
    /// known in a moment: another replica may have listed it.
    async fn entry(
        &self,
        address: &Address,
        releases: &[&Release],
        requester: &Requester,
    ) -> Result<Option<Arc<Entry>>, Denied> {
        let (identity, peer) = (&requester.identity, requester.peer);
        let holder = self.index.get(address).map(|module| module.object.clone());
        let reviewed = ModuleRef::at(address, holder.as_deref());
        self.access.may_download(identity, peer, reviewed).await?;
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
        if *entry.object != *reviewed.object() {
            self.access.may_download(identity, peer, ModuleRef::at(address, Some(&entry.object))).await?;
        }
        Ok(Some(entry))
    }

    /// Whether the page of a Module shows messages of conditions. If that is not known, it shows reasons only.
    async fn reads(&self, entry: &Entry, requester: &Requester) -> bool {
        if !entry.has_messages() {
            return false;
        }
        let module =
            ModuleRef { namespace: &entry.namespace, name: "", system: "", holder: Some(&entry.object) };
        self.access.sees(&requester.identity, requester.peer, Right::Read, module).await.unwrap_or(false)
    }

    async fn module(
        &self,
        address: Address,
        release: Option<&Release>,
        folder: &str,
        headers: &HeaderMap,
        requester: &Requester,
    ) -> Result<Response<Body>, Denied> {
        let address = self.aliases.canonical(address);
        let Some(entry) = self.entry(&address, release.as_slice(), requester).await? else {
            return Ok(not_found(&requester.viewer, NO_MODULE));
        };
        let served = entry.served.as_ref();
        let Some((module, version)) =
            served.and_then(|module| Some((module, module.stored_or_latest(release)?)))
        else {
            // Nothing is stored: the page shows why.
            return Ok(match release {
                Some(release) => self.missing_page(&entry, &address, release, requester).await,
                None => self.versions_page(&entry, &address, &Query::default(), requester).await,
            });
        };
        // Before the documentation, which would take memory during a slow review.
        let reads = self.reads(&entry, requester).await;
        let host = self.host.clone().or_else(|| stated_host(headers)).unwrap_or_else(|| NO_HOST.to_owned());
        let show = {
            let (entry, module, version) = (Arc::clone(&entry), Arc::clone(module), version.clone());
            let (folder, viewer) = (folder.to_owned(), requester.viewer.clone());
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
        let shown = self.library.show(namespace, version, folder, requester.peer, show).await;
        Ok(shown.unwrap_or_else(|why| {
            let (status, title) = (StatusCode::SERVICE_UNAVAILABLE, "This page cannot be shown");
            message(&requester.viewer, status, NO_DOCS, title, &why.to_string())
        }))
    }

    /// The page of a version that is not served: why, if the Module lists it.
    async fn missing_page(
        &self,
        entry: &Entry,
        address: &Address,
        release: &Release,
        requester: &Requester,
    ) -> Response<Body> {
        let Some(missing) = entry.missing.iter().find(|missing| missing.release == *release) else {
            return not_found(&requester.viewer, NO_VERSION);
        };
        let main = versions::missing_page(entry, address, missing, self.reads(entry, requester).await);
        let title = format!("{address} {}", missing.release);
        let (status, phrase) = match missing.withdrawn {
            Some(_) => (StatusCode::GONE, "Gone: version withdrawn"),
            None => (StatusCode::NOT_FOUND, "Not Found"),
        };
        Page { title: &title, words: "", viewer: &requester.viewer, main }.answer(status, phrase)
    }

    async fn versions(
        &self,
        address: Address,
        query: &Query,
        requester: &Requester,
    ) -> Result<Response<Body>, Denied> {
        let address = self.aliases.canonical(address);
        Ok(match self.entry(&address, &[], requester).await? {
            Some(entry) => self.versions_page(&entry, &address, query, requester).await,
            None => not_found(&requester.viewer, NO_MODULE),
        })
    }

    async fn versions_page(
        &self,
        entry: &Entry,
        address: &Address,
        query: &Query,
        requester: &Requester,
    ) -> Response<Body> {
        let main = versions::page(entry, address, query, self.reads(entry, requester).await);
        let title = format!("Versions of {address}");
        Page { title: &title, words: "", viewer: &requester.viewer, main }.answer(StatusCode::OK, "OK")
    }
}

/// Whether a Module lists a version, stored or not.
fn lists(entry: &Entry, release: &Release) -> bool {
    let is_stored = entry.served.as_ref().is_some_and(|module| module.stored(release).is_some());
    is_stored || entry.missing.iter().any(|missing| missing.release == *release)
}
