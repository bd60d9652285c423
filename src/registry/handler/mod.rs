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

use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, Request, Response, StatusCode};
use bytes::Bytes;

use self::counted::Counted;
use self::log::DownloadLine;
use super::aliases::Aliases;
use super::answers::detail::detail;
use super::answers::encoded::answer_once;
use super::archive::Downloads;
use super::auth::{Access, Asked, Denied, Identity};
use super::client::{ClientInfo, loggable};
use super::http::{Body, Handler, Peer};
use super::index::{Index, ServedModule};
use super::key_file::CurrentKeys;
use super::metrics::{Endpoint, RegistryMetrics};
use super::page::Pages;
use super::page::path::{PagePath, page};
use super::path::{self, Route};
use super::responses;
use super::session::{self, Action, Sessions};
use crate::domain::{Address, Release};

/// Everything that answers need.
pub struct Service {
    /// The served modules.
    pub index: Arc<Index>,
    /// Who may download.
    pub access: Arc<Access>,
    /// Second names of namespaces.
    pub aliases: Aliases,
    /// The keys of archive links.
    pub keys: CurrentKeys,
    /// Sessions of people.
    pub sessions: Arc<Sessions>,
    /// Answers to valid links.
    pub downloads: Downloads,
    /// Pages for people.
    pub pages: Pages,
    /// `--url` without a slash at its end; empty if it is not known.
    pub url: String,
    /// Counts.
    pub metrics: RegistryMetrics,
    /// Whether downloads are counted per module.
    pub module_metrics: bool,
}

impl Handler for Service {
    async fn handle(&self, request: Request<Bytes>, peer: Peer) -> Response<Body> {
        let mut counted = Counted::start(&self.metrics);
        let (parts, body) = request.into_parts();
        let answer = match session::action(&parts.method, parts.uri.path()) {
            Some(action) => {
                counted.endpoint = Endpoint::Login;
                self.sign_in(action, &parts, &body, peer).await
            }
            None => self.answer(&parts, peer, &mut counted.endpoint).await,
        };
        counted.answered(answer.status());
        answer
    }

    fn unhandled(&self, status: StatusCode) {
        self.metrics.answered(Endpoint::Other, status.as_u16(), Duration::ZERO);
    }

    fn largest_body(&self, head: &Parts) -> u64 {
        session::largest_form(&head.method, head.uri.path())
    }
}

impl Service {
    /// `endpoint` is set before anything is waited for.
    async fn answer(&self, request: &Parts, peer: Peer, endpoint: &mut Endpoint) -> Response<Body> {
        let Parts { uri, method, headers, .. } = request;
        let Some(route) = path::route(uri.path()) else {
            if let Some(page) = page(uri.path(), uri.query()) {
                *endpoint = of_page(&page);
                return self.pages.answer(page, uri, method, headers, peer).await;
            }
            let Some(methods) = session::methods(uri.path()) else { return responses::no_such_path() };
            *endpoint = Endpoint::Login;
            return responses::method_not_allowed(methods);
        };
        *endpoint = endpoint_of(&route);
        let is_archive = matches!(route, Route::Archive(_));
        if method != Method::GET && !(method == Method::HEAD && is_archive) {
            return responses::method_not_allowed(if is_archive { "GET, HEAD" } else { "GET" });
        }
        let answer = match route {
            Route::Discovery => Ok(responses::discovery(self.sessions.discovery())),
            Route::Versions(address) => self.versions(address, headers, peer).await,
            Route::Module(address, release) => self.module(address, release, headers, peer).await,
            Route::Download(address, release) => Ok(self.download(address, &release, headers, peer).await),
            Route::Archive(archive) => Ok(self.archive(&archive, method, headers, peer).await),
        };
        answer.unwrap_or_else(responses::denied)
    }

    async fn sign_in(&self, action: Action, head: &Parts, body: &[u8], peer: Peer) -> Response<Body> {
        let (access, headers, network) = (&self.access, &head.headers, peer.network());
        let query = head.uri.query().unwrap_or_default();
        let result = match action {
            Action::Login => self.sessions.login(access, headers, body, network).await,
            Action::Logout => self.sessions.logout(headers, body),
            Action::Start => self.sessions.start(query),
            Action::Callback => self.sessions.callback(access, headers, query, network).await,
        };
        result.unwrap_or_else(|refused| {
            let back = self.sessions.back(action, headers, query, body);
            self.pages.sign_in_failed(&refused, &back, headers)
        })
    }

    async fn versions(
        &self,
        address: Address,
        headers: &HeaderMap,
        peer: Peer,
    ) -> Result<Response<Body>, Denied> {
        let address = self.aliases.canonical(address);
        let identity = self.access.identify(headers, peer.network()).await?;
        let listing = |module: &Arc<ServedModule>| Some(module.listing.as_ref()?.answer(headers));
        match self.find(&identity, peer, &address, listing).await? {
            Some(answer) => Ok(answer),
            None => self.none_listed(&identity, peer, &address).await,
        }
    }

    async fn module(
        &self,
        address: Address,
        release: Option<Release>,
        headers: &HeaderMap,
        peer: Peer,
    ) -> Result<Response<Body>, Denied> {
        let address = self.aliases.canonical(address);
        let identity = self.access.identify(headers, peer.network()).await?;
        let json = |module: &Arc<ServedModule>| {
            if let Some(version) = module.stored_or_latest(release.as_ref()) {
                return Some(answer_once(detail(module, version), headers));
            }
            module.version(release.as_ref()?)?.err().map(responses::withdrawn)
        };
        match self.find(&identity, peer, &address, json).await? {
            Some(answer) => self.pages.unsent.count(answer, peer).await.ok_or(Denied::SENDING),
            None if release.is_some() => Ok(responses::version_not_found()),
            None => self.none_listed(&identity, peer, &address).await,
        }
    }

    /// The answer for a module without a listed version.
    async fn none_listed(
        &self,
        identity: &Arc<Identity>,
        peer: Peer,
        address: &Address,
    ) -> Result<Response<Body>, Denied> {
        let module = self.index.get(address);
        let withdrawn =
            module.as_ref().and_then(|module| Some((&module.object, module.reason_of_withdrawal()?)));
        let Some((object, reason)) = withdrawn else { return Ok(responses::module_not_found()) };
        // Since permission was reviewed, another Module may have become the holder of the address.
        self.access.may_download(identity, peer.network(), Asked::at(address, Some(object))).await?;
        Ok(responses::withdrawn(reason))
    }

    async fn download(
        &self,
        address: Address,
        release: &Release,
        headers: &HeaderMap,
        peer: Peer,
    ) -> Response<Body> {
        let mut line = DownloadLine::start(self.aliases.canonical(address), release, ClientInfo::of(headers));
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
        let identity = self.access.identify(headers, peer.network()).await?;
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
        let holder = self.index.get(address).map(|module| module.object.clone());
        let asked = Asked::at(address, holder.as_deref());
        self.access.may_download(identity, peer.network(), asked).await?;
        let found = |module: &Arc<ServedModule>| Some((module.object.clone(), find(module)?));
        let Some((object, found)) = self.index.find(address, found).await else { return Ok(None) };
        // Since permission was reviewed, another Module may have become the holder of the address.
        if *object != *asked.object() {
            let asked = Asked::at(address, Some(&object));
            self.access.may_download(identity, peer.network(), asked).await?;
        }
        Ok(Some(found))
    }
}

fn of_page(page: &PagePath) -> Endpoint {
    match page {
        PagePath::Login(_) => Endpoint::Login,
        PagePath::ListJson(..) | PagePath::CompareJson(..) => Endpoint::Search,
        _ => Endpoint::Page,
    }
}

fn endpoint_of(route: &Route<'_>) -> Endpoint {
    match route {
        Route::Discovery => Endpoint::Discovery,
        Route::Versions(_) => Endpoint::Versions,
        Route::Module(..) => Endpoint::Module,
        Route::Download(..) => Endpoint::Download,
        Route::Archive(_) => Endpoint::Archive,
    }
}
