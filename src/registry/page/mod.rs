//! Pages for people, rendered on the server and without scripts, and the API that finds modules.
//!
//! | file | content |
//! |---|---|
//! | `path` | the paths of pages |
//! | `answers` | answers that several pages give |
//! | `visible` | which Modules an identity sees |
//! | `shown` | how dates, sizes and reasons are shown |
//! | `shell`, `style.css` | what all pages share |
//! | `login` | signing in and out |
//! | `list` | the list of modules, as a page and as JSON |
//! | `module`, `parts` | a version of a module: README, inputs, outputs, requirements, resources |
//! | `versions` | all versions, and why some are missing |
//! | `compare` | what changed between two versions |

mod answers;
mod compare;
mod list;
mod login;
mod module;
mod parts;
pub mod path;
mod shell;
mod shown;
mod versions;
mod visible;

use std::sync::Arc;

use axum::http::{HeaderMap, Method, Response, StatusCode, header};

use self::answers::{NO_DOCS, NO_MODULE, NO_VERSION, json, not_found, refused, stated_host};
use self::login::Offer;
use self::module::View;
use self::path::{Filter, PagePath, Query};
use self::shell::{Page, Viewer, message, style, with_forms};
use super::aliases::Aliases;
use super::auth::{Access, Asked, Denied, Identity, Kind};
use super::docs::{Comparison, Library, NoDocs};
use super::http::answer::{error, may_retry};
use super::http::{Body, Peer};
use super::index::{Entry, Index, ServedVersion};
use super::responses;
use super::session::{Refused, Sessions};
use crate::domain::{Address, Release};

/// Everything that pages need.
pub struct Pages {
    /// All Modules.
    pub index: Arc<Index>,
    /// Who may download.
    pub access: Arc<Access>,
    /// Second names of namespaces.
    pub aliases: Aliases,
    /// Sessions of people.
    pub sessions: Arc<Sessions>,
    /// Documentation of archives.
    pub library: Library,
    /// `HOST[:PORT]` of `--url`.
    pub host: Option<String>,
}

/// The page with the forms.
struct LoginPage<'a>(Page<'a>);

impl LoginPage<'_> {
    fn answer(self, status: StatusCode, phrase: &'static str) -> Response<Body> {
        with_forms(self.0.answer(status, phrase))
    }
}

/// Who looks at a page.
struct Seer {
    identity: Arc<Identity>,
    viewer: Viewer,
    peer: Peer,
}

impl Seer {
    fn new(identity: Arc<Identity>, peer: Peer) -> Self {
        let user = (identity.kind != Kind::Anonymous).then(|| identity.user.clone());
        Self { identity, viewer: Viewer { user }, peer }
    }
}

/// Why two versions are not compared.
enum NotCompared {
    UnknownModule,
    UnknownVersion,
    Docs(NoDocs),
}

impl Pages {
    /// The answer to a request for a page.
    pub async fn answer(
        &self,
        page: PagePath,
        method: &Method,
        headers: &HeaderMap,
        peer: Peer,
    ) -> Response<Body> {
        if method != Method::GET {
            return responses::method_not_allowed(false);
        }
        match page {
            PagePath::Style => style(),
            PagePath::Login(back) => self.login(&back, headers, peer).await,
            PagePath::ListJson(filter, query) => self.list_json(&filter, &query, headers, peer).await,
            PagePath::CompareJson(address, versions) => {
                self.compare_json(address, &versions, headers, peer).await
            }
            PagePath::List(query) => {
                let page = async { self.list(&query, &self.seer(headers, peer).await?).await };
                page.await.unwrap_or_else(refused)
            }
            PagePath::Module(address, release, folder) => {
                let page = async {
                    let seer = self.seer(headers, peer).await?;
                    self.module(address, release.as_ref(), &folder, headers, &seer).await
                };
                page.await.unwrap_or_else(refused)
            }
            PagePath::Versions(address, query) => {
                let page = async { self.versions(address, &query, &self.seer(headers, peer).await?).await };
                page.await.unwrap_or_else(refused)
            }
            PagePath::Compare(address, versions) => {
                let page = async { self.compare(address, &versions, &self.seer(headers, peer).await?).await };
                page.await.unwrap_or_else(refused)
            }
        }
    }

    /// Who sends a request of the API: a session counts for pages only.
    async fn client(&self, headers: &HeaderMap, peer: Peer) -> Result<Seer, Denied> {
        Ok(Seer::new(self.access.identify(headers, peer.network()).await?, peer))
    }

    async fn seer(&self, headers: &HeaderMap, peer: Peer) -> Result<Seer, Denied> {
        let identity = self.sessions.identify(&self.access, headers, peer.network()).await?;
        Ok(Seer::new(identity, peer))
    }

    async fn login(&self, back: &str, headers: &HeaderMap, peer: Peer) -> Response<Body> {
        let has_session = self.sessions.token(headers).is_some();
        // Without a session there is no identity, and a session that has ended is none.
        let seer = if has_session { self.seer(headers, peer).await.ok() } else { None };
        let viewer = seer.map(|seer| seer.viewer).unwrap_or_default();
        self.login_page(&viewer, back, None).answer(StatusCode::OK, "OK")
    }

    /// The page after an attempt to sign in or out that failed.
    pub fn sign_in_failed(&self, refused: &Refused, headers: &HeaderMap) -> Response<Body> {
        let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !accepts.contains("text/html") {
            return refused.plain();
        }
        let viewer = Viewer::default();
        let page = self.login_page(&viewer, "/", Some(&refused.sentence));
        may_retry(page.answer(refused.status, refused.phrase), refused.retry_after)
    }

    fn login_page<'a>(&self, viewer: &'a Viewer, back: &str, refused: Option<&str>) -> LoginPage<'a> {
        let offer = Offer {
            user: viewer.user.as_deref(),
            back,
            has_provider: self.sessions.is_sso(),
            has_forms: self.sessions.has_forms(),
            refused,
        };
        LoginPage(Page { title: "Sign in", words: "", viewer, main: offer.render() })
    }

    async fn entries(&self, filter: &Filter, query: &Query, seer: &Seer) -> Result<Vec<Arc<Entry>>, Denied> {
        let canonical = |namespace: &String| self.aliases.canonical_namespace(namespace).to_owned();
        let namespace = filter.namespace.as_ref().map(canonical);
        let filter = Filter { namespace, ..filter.clone() };
        // What does not match is not reviewed.
        let selected = list::selected(self.index.entries(), &filter, query);
        visible::visible(&self.access, &seer.identity, seer.peer.network(), selected).await
    }

    async fn list(&self, query: &Query, seer: &Seer) -> Result<Response<Body>, Denied> {
        let entries = self.entries(&Filter::default(), query, seer).await?;
        let main = list::page(&entries, query);
        Ok(Page { title: "Modules", words: &query.words, viewer: &seer.viewer, main }
            .answer(StatusCode::OK, "OK"))
    }

    async fn list_json(
        &self,
        filter: &Filter,
        query: &Query,
        headers: &HeaderMap,
        peer: Peer,
    ) -> Response<Body> {
        let entries = async { self.entries(filter, query, &self.client(headers, peer).await?).await };
        match entries.await {
            Ok(entries) => json(list::json(&entries, query)),
            Err(denied) => responses::denied(denied),
        }
    }

    /// The Module that claims an address, for an identity that may download it.
    async fn entry(&self, address: &Address, seer: &Seer) -> Result<Option<Arc<Entry>>, Denied> {
        let (identity, network) = (&seer.identity, seer.peer.network());
        let holder = self.index.get(address).map(|module| module.object.clone());
        let asked = Asked::at(address, holder.as_deref());
        self.access.may_download(identity, network, asked).await?;
        let Some(entry) = self.index.claimant(address) else { return Ok(None) };
        // A Module that is not served, or has got the address since, may have another name than the one that was reviewed.
        if *entry.object != *asked.object() {
            self.access.may_download(identity, network, Asked::at(address, Some(&entry.object))).await?;
        }
        Ok(Some(entry))
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
        let Some(entry) = self.entry(&address, seer).await? else {
            return Ok(not_found(&seer.viewer, NO_MODULE));
        };
        let served = entry.served.as_ref();
        let Some((module, version)) =
            served.and_then(|module| Some((module, module.stored_or_latest(release)?)))
        else {
            // Nothing is stored: the page says why.
            return Ok(match release {
                Some(_) => not_found(&seer.viewer, NO_VERSION),
                None => versions_page(&entry, &address, &Query::default(), seer),
            });
        };
        let docs = self.library.docs(version).await;
        let shown = docs.as_ref().ok().and_then(|packed| packed.folder(folder));
        let host = self.host.clone().or_else(|| stated_host(headers)).unwrap_or_default();
        let view = View {
            entry: &entry,
            module,
            version,
            folder,
            host: &host,
            docs: docs.as_deref().map_err(|error| *error),
            shown: shown.as_ref(),
        };
        let status = if docs.is_ok() && shown.is_none() { StatusCode::NOT_FOUND } else { StatusCode::OK };
        let title = format!("{address} {}", version.release);
        Ok(Page { title: &title, words: "", viewer: &seer.viewer, main: view.render() }.answer(status, "OK"))
    }

    async fn versions(&self, address: Address, query: &Query, seer: &Seer) -> Result<Response<Body>, Denied> {
        let address = self.aliases.canonical(address);
        Ok(match self.entry(&address, seer).await? {
            Some(entry) => versions_page(&entry, &address, query, seer),
            None => not_found(&seer.viewer, NO_MODULE),
        })
    }

    async fn compare(
        &self,
        address: Address,
        versions: &[Release; 2],
        seer: &Seer,
    ) -> Result<Response<Body>, Denied> {
        let address = self.aliases.canonical(address);
        Ok(match self.compared(&address, versions, seer).await? {
            Ok(([from, to], comparison)) => {
                let main = compare::page(&address, [&from, &to], &comparison);
                let title = format!("{address} {from} to {to}");
                Page { title: &title, words: "", viewer: &seer.viewer, main }.answer(StatusCode::OK, "OK")
            }
            Err(NotCompared::UnknownModule) => not_found(&seer.viewer, NO_MODULE),
            Err(NotCompared::UnknownVersion) => not_found(&seer.viewer, NO_VERSION),
            Err(NotCompared::Docs(why)) => {
                let (title, sentence) = ("These versions cannot be compared", why.to_string());
                message(&seer.viewer, StatusCode::SERVICE_UNAVAILABLE, NO_DOCS, title, &sentence)
            }
        })
    }

    async fn compare_json(
        &self,
        address: Address,
        versions: &[Release; 2],
        headers: &HeaderMap,
        peer: Peer,
    ) -> Response<Body> {
        let address = self.aliases.canonical(address);
        let compared = async { self.compared(&address, versions, &self.client(headers, peer).await?).await };
        match compared.await {
            Ok(Ok(([from, to], comparison))) => json(compare::json(&address, [&from, &to], &comparison)),
            Ok(Err(NotCompared::UnknownModule)) => responses::module_not_found(),
            Ok(Err(NotCompared::UnknownVersion)) => responses::version_not_found(),
            Ok(Err(NotCompared::Docs(why))) => {
                error(StatusCode::SERVICE_UNAVAILABLE, NO_DOCS, format!("{why}\n"))
            }
            Err(denied) => responses::denied(denied),
        }
    }

    /// What changed between two versions, and how these are spelled.
    async fn compared(
        &self,
        address: &Address,
        [from, to]: &[Release; 2],
        seer: &Seer,
    ) -> Result<Result<([Release; 2], Comparison), NotCompared>, Denied> {
        let entry = self.entry(address, seer).await?;
        let Some(module) = entry.as_ref().and_then(|entry| entry.served.as_ref()) else {
            return Ok(Err(NotCompared::UnknownModule));
        };
        let (Some(old), Some(new)) = (module.stored(from), module.stored(to)) else {
            return Ok(Err(NotCompared::UnknownVersion));
        };
        let releases = [old.release.clone(), new.release.clone()];
        let comparison = self.comparison(old, new).await.map_err(NotCompared::Docs);
        Ok(comparison.map(|comparison| (releases, comparison)))
    }

    async fn comparison(&self, old: &ServedVersion, new: &ServedVersion) -> Result<Comparison, NoDocs> {
        let (old, new) = (self.library.docs(old).await?, self.library.docs(new).await?);
        let compared = tokio::task::spawn_blocking(move || super::docs::compare(&old.docs(), &new.docs()));
        compared.await.map_err(|_| NoDocs::Unreadable)
    }
}

fn versions_page(entry: &Entry, address: &Address, query: &Query, seer: &Seer) -> Response<Body> {
    let main = versions::page(entry, entry.served.as_deref(), address, query);
    let title = format!("Versions of {address}");
    Page { title: &title, words: "", viewer: &seer.viewer, main }.answer(StatusCode::OK, "OK")
}
