//! Answers requests: path, permission, index, answer.
//!
//! Permission is checked before a version is looked up, whether or not a Module holds the address. So no answer shows a client
//! without permission whether a module exists.

mod archives;
mod counted;
mod log;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};

use self::counted::Counted;
use self::log::DownloadLine;
use super::answers::detail::detail;
use super::answers::encoded::answer_once;
use super::archive::Downloads;
use super::auth::{Denied, Identity, ModuleRef};
use super::client::{ClientInfo, loggable};
use super::http::{Body, Handler, Peer};
use super::index::ServedModule;
use super::key_file::CurrentKeys;
use super::metrics::RegistryMetrics;
use super::page::Pages;
use super::page::path::{PagePath, page};
use super::path::{self, Route};
use super::responses;
use super::session::{self, SessionAction};
use crate::domain::{Address, Release};

/// Everything that answers need.
pub struct Service {
    /// Pages for people. The API has the same index, access control, aliases and sessions.
    pub pages: Pages,
    /// The keys of archive links.
    pub keys: CurrentKeys,
    /// Answers to valid links.
    pub downloads: Downloads,
    /// `--url` without a slash at its end; empty if it is not known.
    pub url: String,
    pub metrics: RegistryMetrics,
    /// Whether downloads are counted per module.
    pub module_metrics: bool,
}

impl Handler for Service {
    async fn handle(&self, request: Request<Bytes>, peer: Peer) -> Response<Body> {
        let (head, body) = request.into_parts();
        let request = Requested::of(&head.method, &head.uri);
        let counted = Counted::start(&self.metrics, request.endpoint());
        let answer = self.answer(request, &head, &body, peer).await;
        counted.answered(answer.status());
        answer
    }

    fn unhandled(&self, status: StatusCode) {
        self.metrics.answered("other", status.as_u16(), Duration::ZERO);
    }

    fn largest_body(&self, head: &Parts) -> u64 {
        session::largest_form(&head.method, head.uri.path())
    }
}

impl Service {
    async fn answer(&self, request: Requested<'_>, head: &Parts, body: &[u8], peer: Peer) -> Response<Body> {
        let Parts { uri, method, headers, .. } = head;
        let route = match request {
            Requested::SignIn(action) => return self.sign_in(action, head, body, peer).await,
            Requested::Api(route) => route,
            Requested::Page(page) => return self.pages.answer(page, uri, method, headers, peer).await,
            Requested::OtherMethod(methods) => return responses::method_not_allowed(methods),
            Requested::Unknown => return responses::no_such_path(),
        };
        let is_archive = matches!(route, Route::Archive(_));
        if method != Method::GET && !(method == Method::HEAD && is_archive) {
            return responses::method_not_allowed(if is_archive { "GET, HEAD" } else { "GET" });
        }
        let answer = match route {
            Route::Discovery => Ok(responses::discovery(self.pages.sessions.discovery())),
            Route::Versions(address) => self.versions(address, headers, peer).await,
            Route::Module(address, release) => self.module(address, release, headers, peer).await,
            Route::Download(address, release) => Ok(self.download(address, &release, headers, peer).await),
            Route::Archive(archive) => Ok(self.archive(&archive, method, headers, peer).await),
        };
        answer.unwrap_or_else(responses::denied)
    }

    async fn sign_in(&self, action: SessionAction, head: &Parts, body: &[u8], peer: Peer) -> Response<Body> {
        let (Pages { access, sessions, .. }, headers) = (&self.pages, &head.headers);
        let query = head.uri.query().unwrap_or_default();
        let result = match action {
            SessionAction::Login => sessions.login(access, headers, body, peer).await,
            SessionAction::Logout => sessions.logout(headers, body),
            SessionAction::Start => sessions.start(query),
            SessionAction::Callback => sessions.callback(access, headers, query, peer).await,
        };
        result.unwrap_or_else(|refused| {
            let back = sessions.back(action, headers, query, body);
            self.pages.sign_in_failed(&refused, &back, headers)
        })
    }

    async fn versions(
        &self,
        address: Address,
        headers: &HeaderMap,
        peer: Peer,
    ) -> Result<Response<Body>, Denied> {
        let address = self.pages.aliases.canonical(address);
        let identity = self.pages.access.identify(headers, peer).await?;
        let listing = |module: &Arc<ServedModule>| match &module.listing {
            Some(listing) => Some(listing.answer(headers)),
            None => module.reason_of_withdrawal().map(responses::withdrawn),
        };
        let found = self.find(&identity, peer, &address, listing).await?;
        Ok(found.unwrap_or_else(responses::module_not_found))
    }

    async fn module(
        &self,
        address: Address,
        release: Option<Release>,
        headers: &HeaderMap,
        peer: Peer,
    ) -> Result<Response<Body>, Denied> {
        let address = self.pages.aliases.canonical(address);
        let identity = self.pages.access.identify(headers, peer).await?;
        let json = |module: &Arc<ServedModule>| {
            if let Some(version) = module.stored_or_latest(release.as_ref()) {
                return Some(answer_once(detail(module, version), headers));
            }
            let reason = match &release {
                Some(release) => module.version(release)?.err(),
                None => module.reason_of_withdrawal(),
            };
            reason.map(responses::withdrawn)
        };
        match self.find(&identity, peer, &address, json).await? {
            Some(answer) => self.pages.send_budget.count(answer, peer).await.ok_or(Denied::SENDING),
            None if release.is_some() => Ok(responses::version_not_found()),
            None => Ok(responses::module_not_found()),
        }
    }

    async fn download(
        &self,
        address: Address,
        release: &Release,
        headers: &HeaderMap,
        peer: Peer,
    ) -> Response<Body> {
        let address = self.pages.aliases.canonical(address);
        let mut line = DownloadLine::start(address, release, ClientInfo::of(headers));
        let answer = self.locate(&mut line, release, headers, peer).await.unwrap_or_else(responses::denied);
        if answer.status().is_success() {
            self.metrics.downloaded(line.client.name);
            if self.module_metrics {
                self.metrics.module_downloaded(&line.address);
            }
        }
        line.write(answer.status().as_u16());
        answer
    }

    /// The location of an archive, for an identity that may download the module.
    async fn locate(
        &self,
        line: &mut DownloadLine,
        release: &Release,
        headers: &HeaderMap,
        peer: Peer,
    ) -> Result<Response<Body>, Denied> {
        let identity = self.pages.access.identify(headers, peer).await?;
        line.user = loggable(&identity.user);
        let address = &line.address;
        let located = |module: &Arc<ServedModule>| {
            Some(match module.version(release)? {
                Ok(version) => responses::located(&self.location(address, version)),
                Err(reason) => responses::withdrawn(reason),
            })
        };
        let found = self.find(&identity, peer, address, located).await?;
        Ok(found.unwrap_or_else(responses::version_not_found))
    }

    /// What `find` finds at an address, if the identity may download the module there.
    async fn find<T>(
        &self,
        identity: &Arc<Identity>,
        peer: Peer,
        address: &Address,
        find: impl Fn(&Arc<ServedModule>) -> Option<T>,
    ) -> Result<Option<T>, Denied> {
        let holder = self.pages.index.get(address).map(|module| module.object.clone());
        let reviewed = ModuleRef::at(address, holder.as_deref());
        self.pages.access.may_download(identity, peer, reviewed).await?;
        let found = |module: &Arc<ServedModule>| Some((module.object.clone(), find(module)?));
        let Some((object, found)) = self.pages.index.find(address, found).await else { return Ok(None) };
        // Since permission was reviewed, another Module may have become the holder of the address.
        if *object != *reviewed.object() {
            let module = ModuleRef::at(address, Some(&object));
            self.pages.access.may_download(identity, peer, module).await?;
        }
        Ok(Some(found))
    }
}

/// What a request is for.
enum Requested<'a> {
    SignIn(SessionAction),
    Api(Route<'a>),
    Page(PagePath),
    /// A path of signing in, which has only these other methods.
    OtherMethod(&'static str),
    Unknown,
}

impl<'a> Requested<'a> {
    fn of(method: &Method, uri: &'a Uri) -> Self {
        let action = session::action(method, uri.path()).map(Self::SignIn);
        let route = || path::route(uri.path()).map(Self::Api);
        let page = || page(uri.path(), uri.query()).map(Self::Page);
        let other = || session::methods(uri.path()).map(Self::OtherMethod);
        action.or_else(route).or_else(page).or_else(other).unwrap_or(Self::Unknown)
    }

    /// The label in metrics.
    fn endpoint(&self) -> &'static str {
        match self {
            Self::SignIn(_) | Self::OtherMethod(_) | Self::Page(PagePath::Login(_)) => "login",
            Self::Page(PagePath::ListJson(..) | PagePath::CompareJson(..)) => "search",
            Self::Page(_) => "page",
            Self::Api(Route::Discovery) => "discovery",
            Self::Api(Route::Versions(_)) => "versions",
            Self::Api(Route::Module(..)) => "module",
            Self::Api(Route::Download(..)) => "download",
            Self::Api(Route::Archive(_)) => "archive",
            Self::Unknown => "other",
        }
    }
}
