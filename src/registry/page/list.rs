//! The list of modules: the page, and the JSON of the public registry's API.

use std::sync::Arc;

use http::{Response, StatusCode};
use maud::{Markup, html};
use serde::Serialize;
use url::form_urlencoded::Serializer;

use super::answers::json;
use super::display::date;
use super::pages::Pages;
use super::path::Query;
use super::requester::Requester;
use super::shell::Page;
use super::visible::{Visible, name_and_system, visible};
use crate::controller::failure::Reason;
use crate::domain::text::plural;
use crate::registry::auth::{Denied, Right};
use crate::registry::http::Body;
use crate::registry::index::{Entry, Missing, NotServed, ServedModule};

/// Modules on a page.
const PER_PAGE: usize = 50;
/// Modules in a JSON answer, unless the query sets a number up to [`MAX_PER_ANSWER`].
const PER_ANSWER: usize = 15;
const MAX_PER_ANSWER: usize = 100;

impl Pages {
    /// The page with the list.
    pub(super) async fn list(&self, query: &Query, requester: &Requester) -> Result<Response<Body>, Denied> {
        let listed = self.listed(query, requester).await?;
        let query = &query.within(listed.entries.len(), PER_PAGE);
        let shown = listed.entries.iter().skip(query.offset).take(PER_PAGE);
        let refused: Vec<Arc<Entry>> = shown.filter(|entry| entry.message.is_some()).cloned().collect();
        // If a review has no answer, the message is not shown.
        let readable = visible(&self.access, requester, Right::Read, refused).await.unwrap_or_default();
        let main = page(&listed, &readable.entries, query);
        let words = query.words.as_str();
        let title = if words.is_empty() { "Modules".to_owned() } else { format!("{words} · Modules") };
        let page = Page { title: &title, words, viewer: &requester.viewer, main };
        Ok(page.answer(StatusCode::OK, "OK"))
    }

    pub(super) async fn list_json(
        &self,
        query: &Query,
        requester: &Requester,
    ) -> Result<Response<Body>, Denied> {
        Ok(json(to_json(&self.listed(query, requester).await?, query)))
    }
}

/// The list as a page. The messages of `readable` are shown.
fn page(Visible { entries, is_part }: &Visible, readable: &[Arc<Entry>], query: &Query) -> Markup {
    let shown = entries.iter().skip(query.offset).take(PER_PAGE);
    let reads = |entry: &Arc<Entry>| readable.iter().any(|other| Arc::ptr_eq(entry, other));
    html! {
        h1 { @if query.words.is_empty() { "Modules" } @else { "Modules for “" (query.words) "”" } }
        p.count { (plural(entries.len(), "module")) }
        @if *is_part {
            p.notice.warn role="note" {
                "The registry could not check your permission for every module, so modules may be missing here. Search for the \
                 address of the module that you want: namespace, name and system."
            }
        } @else if entries.is_empty() {
            p {
                @if query.words.is_empty() {
                    "There is no module that you may install. Ask the platform team for the permission to get modules/download in a namespace."
                } @else {
                    "No module matches all of these words. The search covers addresses and descriptions. "
                    a href="/" { "Show all modules" }
                }
            }
        }
        ul.modules { @for entry in shown { li { (card(entry, reads(entry))) } } }
        (pager("/", query, entries.len(), PER_PAGE))
    }
}

fn card(entry: &Entry, reads: bool) -> Markup {
    let (name, system) = name_and_system(entry);
    let latest = entry.served.as_ref().and_then(|served| served.latest());
    html! {
        h2 {
            @match &entry.claim {
                // Its address leads to the namespace of the alias.
                _ if entry.not_served == Some(NotServed::Shadowed) => span { (entry.namespace) "/" wbr; (name) },
                Ok(address) => a href={ "/modules/" (address) } { (address.namespace) "/" wbr; (name) "/" wbr; (system) },
                Err(_) => span { (entry.namespace) "/" wbr; (name) },
            }
        }
        @if let Some(description) = &entry.description { p { (description) } }
        p.facts {
            @if let Some(latest) = latest {
                span { "latest " b { (latest.release) } }
                @if let Some(time) = latest.published { span { (date(time)) } }
            }
            @if let Some(served) = &entry.served { span { (plural(served.listed().count(), "version")) } }
            @if let Some(why) = entry.not_served {
                span.state.bad { (word(why)) }
                @if let Some(reason) = reason(entry) { span.state.bad { (reason) } }
            }
            @else if latest.is_none() { (unlisted(entry)) }
        }
        @if let Some(message) = entry.message.as_deref().filter(|_| reads) { p.why { (message) } }
    }
}

/// Why no version of a Module that is served is listed, in a few words.
fn unlisted(entry: &Entry) -> Markup {
    let is_left_out = |missing: &Missing| missing.withdrawn.is_none() && missing.why.is_stored();
    let is_withdrawn =
        |served: &ServedModule| !served.versions.is_empty() || served.reason_of_withdrawal().is_some();
    html! {
        @if entry.missing.iter().any(is_left_out) { span.state.bad { "not served" } }
        @else if entry.served.as_deref().is_some_and(is_withdrawn) { span.state.bad { "withdrawn" } }
        @else { span.state { "nothing stored yet" } }
    }
}

/// Why a Module is not served, in a few words.
pub(super) fn word(why: NotServed) -> &'static str {
    match why {
        NotServed::NotAddressable => "not addressable",
        NotServed::AddressTaken => "address taken by another Module",
        NotServed::Shadowed => "hidden by an alias",
        NotServed::Waiting => "waiting for its address",
        NotServed::Deleting => "being deleted",
    }
}

/// The reason of the condition of a Module that is not served.
pub(super) fn reason(entry: &Entry) -> Option<Reason> {
    match (entry.not_served?, &entry.claim) {
        (NotServed::AddressTaken, _) => Some(Reason::AddressTaken),
        (NotServed::NotAddressable, Err(why)) => Some(Reason::from(why)),
        _ => None,
    }
}

/// Links to the next and the previous part of a list.
pub(super) fn pager(path: &str, query: &Query, total: usize, per_page: usize) -> Markup {
    let link = |offset: usize| part(path, query, None, offset);
    let next = query.offset.saturating_add(per_page);
    html! {
        @if query.offset > 0 || next < total {
            nav.pager aria-label="Pages" {
                @if query.offset > 0 { a rel="prev" href=(link(query.offset.saturating_sub(per_page))) { "Previous" } }
                @if next < total { a rel="next" href=(link(next)) { "Next" } }
            }
        }
    }
}

/// The path and query of a part of a list.
fn part(path: &str, query: &Query, limit: Option<usize>, offset: usize) -> String {
    let words = Some(&query.words).filter(|words| !words.is_empty());
    // A path with a name has the namespace too.
    let namespace = query.namespace.as_ref().filter(|_| query.name.is_none());
    let mut text = Serializer::new(String::new());
    text.extend_pairs(limit.map(|limit| ("limit", limit.to_string())));
    text.append_pair("offset", &offset.to_string());
    for (name, value) in [("q", words), ("namespace", namespace), ("provider", query.provider.as_ref())] {
        text.extend_pairs(value.map(|value| (name, value)));
    }
    format!("{path}?{}", text.finish())
}

#[derive(Serialize)]
struct ListBody<'a> {
    meta: Meta,
    modules: Vec<Item<'a>>,
}

#[derive(Serialize)]
struct Meta {
    limit: usize,
    current_offset: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_offset: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev_offset: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev_url: Option<String>,
    /// Not in the public registry: whether modules may be missing, since there are too many to review the right to each.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    is_incomplete: bool,
}

#[derive(Serialize)]
struct Item<'a> {
    id: String,
    owner: &'a str,
    namespace: &'a str,
    name: &'a str,
    version: String,
    provider: &'a str,
    description: &'a str,
    source: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    published_at: Option<String>,
    downloads: u64,
    verified: bool,
}

/// The list as JSON, in the form of the public registry. Modules that are not served are left out.
fn to_json(Visible { entries, is_part }: &Visible, query: &Query) -> Vec<u8> {
    let served = entries.iter().filter_map(|entry| item(entry, entry.served.as_ref()?));
    let limit = query.limit.filter(|limit| *limit > 0).unwrap_or(PER_ANSWER).min(MAX_PER_ANSWER);
    let mut modules: Vec<Item<'_>> = served.skip(query.offset).take(limit + 1).collect();
    let next = query.offset.saturating_add(limit);
    let next_offset = (modules.len() > limit).then_some(next);
    modules.truncate(limit);
    let prev_offset = (query.offset > 0).then(|| query.offset.saturating_sub(limit));
    let path = match (&query.namespace, &query.name) {
        (Some(namespace), Some(name)) => format!("/v1/modules/{namespace}/{name}"),
        _ if query.words.is_empty() => "/v1/modules".to_owned(),
        _ => "/v1/modules/search".to_owned(),
    };
    let url = |offset| part(&path, query, Some(limit), offset);
    let meta = Meta {
        limit,
        current_offset: query.offset,
        next_offset,
        prev_offset,
        next_url: next_offset.map(url),
        prev_url: prev_offset.map(url),
        is_incomplete: *is_part,
    };
    serde_json::to_vec(&ListBody { meta, modules }).unwrap_or_default()
}

fn item<'a>(entry: &'a Entry, served: &'a ServedModule) -> Option<Item<'a>> {
    let (address, latest) = (&served.address, served.latest()?);
    Some(Item {
        id: format!("{address}/{}", latest.release),
        owner: &address.namespace,
        namespace: &address.namespace,
        name: &address.name,
        version: latest.release.to_string(),
        provider: &address.system,
        description: entry.description.as_deref().unwrap_or_default(),
        source: latest.source.as_deref().unwrap_or_default(),
        published_at: latest.published.map(|time| time.to_string()),
        // Prometheus has the counts.
        downloads: 0,
        verified: false,
    })
}
