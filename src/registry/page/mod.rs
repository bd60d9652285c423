//! Pages for people, rendered on the server and without scripts, and the API that finds modules.
//!
//! | file | content |
//! |---|---|
//! | `path` | the paths of pages |
//! | `visible` | which Modules an identity sees |
//! | `shown` | how dates, sizes and reasons are shown |
//! | `shell`, `style.css` | what all pages share |
//! | `login` | signing in and out |
//! | `list` | the list of modules, as a page and as JSON |
//! | `module`, `parts` | a version of a module: README, inputs, outputs, requirements, resources |
//! | `versions` | all versions, and why some are missing |
//! | `compare` | what changed between two versions |

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

use self::login::Offer;
use self::module::View;
use self::path::{Filter, PagePath, Query};
use self::shell::{Page, Viewer, message, style, with_forms};
use super::aliases::Aliases;
use super::auth::{Access, Asked, Denied, Identity, Kind};
use super::docs::{Comparison, Library, NoDocs};
use super::http::answer::{answer, error, retry_after, set};
use super::http::{Body, Peer};
use super::index::{Entry, Index, ServedVersion};
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

type Page404 = (&'static str, &'static str);
const NO_MODULE: Page404 = ("No such module", "There is no module at this address, or you may not see it.");
const NO_VERSION: Page404 =
    ("No such version", "There is no such version of this module, or it is not stored yet.");

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
            let sentence = "Only GET is answered here.\n";
            let mut answer = error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed", sentence);
            set(&mut answer, header::ALLOW, "GET");
            return answer;
        }
        if page == PagePath::Style {
            return style();
        }
        if let PagePath::Login(back) = &page {
            return self.login(back, headers, peer).await;
        }
        let is_json = matches!(page, PagePath::ListJson(..) | PagePath::CompareJson(..));
        // A session counts for pages only, never below /v1.
        let identified = if is_json {
            self.access.identify(headers, peer.network()).await.map(|identity| Seer::new(identity, peer))
        } else {
            self.seer(headers, peer).await
        };
        let found = match identified {
            Ok(seer) => self.page(page, headers, &seer).await,
            Err(denied) => Err(denied),
        };
        match found {
            Ok(answer) => answer,
            Err(denied) if is_json => super::responses::denied(denied),
            Err(denied) => refused(denied),
        }
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
        let mut answer = page.answer(refused.status, refused.phrase);
        if let Some(seconds) = refused.retry_after {
            answer = retry_after(answer, seconds);
        }
        answer
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

    async fn page(&self, page: PagePath, headers: &HeaderMap, seer: &Seer) -> Result<Response<Body>, Denied> {
        match page {
            PagePath::Style | PagePath::Login(_) => Ok(style()),
            PagePath::List(query) => self.list(&query, seer).await,
            PagePath::ListJson(filter, query) => {
                let entries = self.entries(&filter, &query, seer).await?;
                Ok(json(list::json(&entries, &query)))
            }
            PagePath::Module(address, release, folder) => {
                self.module(address, release.as_ref(), &folder, headers, seer).await
            }
            PagePath::Versions(address, query) => self.versions(address, &query, seer).await,
            PagePath::Compare(address, versions) => self.compare(address, &versions, seer, false).await,
            PagePath::CompareJson(address, versions) => self.compare(address, &versions, seer, true).await,
        }
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

    /// The Module that claims an address, for an identity that may download it.
    async fn entry(&self, address: &Address, seer: &Seer) -> Result<Option<Arc<Entry>>, Denied> {
        let holder = self.index.get(address).map(|module| module.object.clone());
        self.authorise(address, holder.as_deref(), seer).await?;
        let Some(entry) = self.index.claimant(address) else { return Ok(None) };
        // A Module that is not served, or has got the address since, may have another name than the one that was reviewed.
        if entry.object != holder.unwrap_or_else(|| address.name.as_str().into()) {
            self.authorise(address, Some(&entry.object), seer).await?;
        }
        Ok(Some(entry))
    }

    async fn authorise(&self, address: &Address, holder: Option<&str>, seer: &Seer) -> Result<(), Denied> {
        let Address { namespace, name, system } = address;
        let asked = Asked { namespace, name, system, holder };
        self.access.may_download(&seer.identity, seer.peer.network(), asked).await
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
        let Some(entry) = self.entry(&address, seer).await? else { return Ok(not_found(seer, NO_MODULE)) };
        let version = entry.served.as_ref().and_then(|module| {
            let version = match release {
                Some(release) => module.stored(release),
                None => module.latest(),
            };
            Some((module, version?))
        });
        let Some((module, version)) = version else {
            // Nothing is stored: the page says why.
            return Ok(match release {
                Some(_) => not_found(seer, NO_VERSION),
                None => self.versions_page(&entry, &address, &Query::default(), seer),
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
            Some(entry) => self.versions_page(&entry, &address, query, seer),
            None => not_found(seer, NO_MODULE),
        })
    }

    #[expect(clippy::unused_self, reason = "like the other pages")]
    fn versions_page(&self, entry: &Entry, address: &Address, query: &Query, seer: &Seer) -> Response<Body> {
        let main = versions::page(entry, entry.served.as_deref(), address, query);
        let title = format!("Versions of {address}");
        Page { title: &title, words: "", viewer: &seer.viewer, main }.answer(StatusCode::OK, "OK")
    }

    async fn compare(
        &self,
        address: Address,
        [from, to]: &[Release; 2],
        seer: &Seer,
        is_json: bool,
    ) -> Result<Response<Body>, Denied> {
        let address = self.aliases.canonical(address);
        let entry = self.entry(&address, seer).await?;
        let Some(module) = entry.as_ref().and_then(|entry| entry.served.as_ref()) else {
            return Ok(if is_json {
                super::responses::module_not_found()
            } else {
                not_found(seer, NO_MODULE)
            });
        };
        let (Some(old), Some(new)) = (module.stored(from), module.stored(to)) else {
            return Ok(if is_json {
                super::responses::version_not_found()
            } else {
                not_found(seer, NO_VERSION)
            });
        };
        let releases = [&old.release, &new.release];
        Ok(match self.comparison(old, new).await {
            Ok(comparison) if is_json => json(compare::json(&address, releases, &comparison)),
            Ok(comparison) => {
                let main = compare::page(&address, releases, &comparison);
                let title = format!("{address} {from} to {to}");
                Page { title: &title, words: "", viewer: &seer.viewer, main }.answer(StatusCode::OK, "OK")
            }
            Err(why) if is_json => {
                let sentence = format!("{why}\n");
                error(StatusCode::SERVICE_UNAVAILABLE, "documentation not available", sentence)
            }
            Err(why) => message(
                &seer.viewer,
                StatusCode::SERVICE_UNAVAILABLE,
                "documentation not available",
                "These versions cannot be compared",
                &why.to_string(),
            ),
        })
    }

    async fn comparison(&self, old: &ServedVersion, new: &ServedVersion) -> Result<Comparison, NoDocs> {
        let (old, new) = (self.library.docs(old).await?, self.library.docs(new).await?);
        let compared = tokio::task::spawn_blocking(move || super::docs::compare(&old.docs(), &new.docs()));
        compared.await.map_err(|_| NoDocs::Unreadable)
    }
}

fn not_found(seer: &Seer, (title, sentence): Page404) -> Response<Body> {
    message(&seer.viewer, StatusCode::NOT_FOUND, "Not Found", title, sentence)
}

/// A page for a client that is not known, or may not see it: the same for what exists and what does not.
fn refused(denied: Denied) -> Response<Body> {
    let viewer = Viewer::default();
    let answer = super::responses::denied(denied);
    let (phrase, title, sentence) = match denied {
        Denied::Unauthenticated(phrase) => (phrase, "Sign in to see this page", phrase),
        Denied::Forbidden => (
            "Forbidden",
            "You may not see this page",
            "The module does not exist, or you have no right to get modules/download in its namespace.",
        ),
        Denied::Malformed(phrase) => (phrase, "This request cannot be read", phrase),
        Denied::TooMany { phrase, .. } | Denied::Unavailable { phrase, .. } => (phrase, "Not now", phrase),
    };
    let mut page = message(&viewer, answer.status(), phrase, title, sentence);
    if let Some(seconds) = answer.headers().get(header::RETRY_AFTER) {
        page.headers_mut().insert(header::RETRY_AFTER, seconds.clone());
    }
    page
}

fn json(body: Vec<u8>) -> Response<Body> {
    let mut answer = answer(StatusCode::OK, "OK", body);
    set(&mut answer, header::CONTENT_TYPE, "application/json");
    set(&mut answer, header::CACHE_CONTROL, "private, no-cache");
    set(&mut answer, header::VARY, "Authorization, Accept-Encoding");
    set(&mut answer, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    answer
}

/// `Host`, if that is a host that an address may begin with. It is shown to the one who sent it only.
fn stated_host(headers: &HeaderMap) -> Option<String> {
    let host = headers.get(header::HOST)?.to_str().ok()?;
    let (name, port) = host.rsplit_once(':').unwrap_or((host, "443"));
    let is_name = !name.is_empty()
        && name.len() <= 253
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
    (is_name && port.parse::<u16>().is_ok()).then(|| host.to_owned())
}
