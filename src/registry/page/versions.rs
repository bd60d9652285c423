//! The versions of a module: those that are served, and why others are not.

use std::borrow::Cow;

use maud::{Markup, html};

use super::display::{date, meaning, short, size};
use super::list;
use super::path::Query;
use crate::domain::text::{hex, plural};
use crate::domain::{Address, Release};
use crate::registry::index::{Entry, Missing, NotServed, ServedVersion, WhyMissing};
use crate::registry::path::encoded;

/// Versions on the page of a module, and on a page of versions.
const NEWEST: usize = 10;
const PER_PAGE: usize = 100;

/// A version of the list.
#[derive(Clone, Copy)]
enum Row<'a> {
    Stored(&'a ServedVersion),
    Missing(&'a Missing),
}

impl<'a> Row<'a> {
    fn release(self) -> &'a Release {
        match self {
            Self::Stored(version) => &version.release,
            Self::Missing(missing) => &missing.release,
        }
    }
}

/// The page of a version.
pub(super) fn link(address: &Address, release: &Release) -> String {
    format!("/modules/{address}/{}", encoded(&release.to_string()))
}

/// The page of a folder of a version; an empty one is the root.
pub(super) fn folder_link(address: &Address, release: &Release, folder: &str) -> String {
    let folder = if folder.is_empty() { String::new() } else { format!("/{folder}") };
    format!("{}{folder}", link(address, release))
}

/// The page of what changed between two versions.
pub(super) fn changes(address: &Address, from: &Release, to: &Release) -> String {
    format!("/modules/{address}/compare/{}...{}", encoded(&from.to_string()), encoded(&to.to_string()))
}

/// The newest versions, on the page of a module. `reads`: whether messages are shown.
pub(super) fn section(entry: &Entry, address: &Address, current: &Release, reads: bool) -> Markup {
    let rows = rows(entry);
    html! {
        section #versions aria-labelledby="versions-title" {
            h2 #versions-title { "Versions " span.number { (rows.len()) } }
            (table(entry, address, &rows[..rows.len().min(NEWEST)], Some(current), reads))
            @if rows.len() > NEWEST { p { a href={ "/modules/" (address) "/versions" } { "All versions" } } }
        }
    }
}

/// The page of all versions. `reads`: whether messages are shown.
pub(super) fn page(entry: &Entry, address: &Address, query: &Query, reads: bool) -> Markup {
    let rows = rows(entry);
    let query = &query.within(rows.len(), PER_PAGE);
    let shown = &rows[query.offset..rows.len().min(query.offset + PER_PAGE)];
    html! {
        (crumbs(address))
        h1 { "Versions of " (address.name) }
        @if let Some(why) = entry.not_served { (not_served(entry, why, reads)) }
        p.count { (plural(rows.len(), "version")) }
        (table(entry, address, shown, None, reads))
        (list::pager(&format!("/modules/{address}/versions"), query, rows.len(), PER_PAGE))
    }
}

/// The page of a version that is listed and not served. `reads`: whether its message is shown.
pub(super) fn missing_page(entry: &Entry, address: &Address, missing: &Missing, reads: bool) -> Markup {
    html! {
        (crumbs(address))
        h1 { (address.name) " " (missing.release) }
        @if let Some(why) = entry.not_served { (not_served(entry, why, reads)) }
        ul.versions { li { (self::missing(missing, reads)) } }
        p { a href={ "/modules/" (address) "/versions" } { "All versions" } }
    }
}

/// The way from a page back to the module.
pub(super) fn crumbs(address: &Address) -> Markup {
    html! {
        nav.crumbs aria-label="Breadcrumb" {
            a href="/" { "Modules" } span aria-hidden="true" { "/" } a href={ "/modules/" (address) } { (address) }
        }
    }
}

/// Why a Module is not served.
fn not_served(entry: &Entry, why: NotServed, reads: bool) -> Markup {
    let message = entry.message.as_deref().filter(|_| reads);
    let known = if why == NotServed::Deleting {
        "The Module is removed as soon as the operator has removed its Versions."
    } else {
        "The condition Addressable of the Module has the details."
    };
    html! {
        div.notice.bad role="note" {
            p { b { "Not served: " (list::word(why)) @if let Some(reason) = list::reason(entry) { " (" (reason) ")" } ". " }
                (message.unwrap_or(known))
            }
        }
    }
}

/// All that the Module lists, the highest version first.
fn rows(entry: &Entry) -> Vec<Row<'_>> {
    let stored = entry.served.iter().flat_map(|module| &module.versions).map(Row::Stored);
    let mut rows: Vec<Row<'_>> = stored.chain(entry.missing.iter().map(Row::Missing)).collect();
    rows.sort_by(|a, b| b.release().precedence(a.release()));
    rows
}

fn table(
    entry: &Entry,
    address: &Address,
    rows: &[Row<'_>],
    current: Option<&Release>,
    reads: bool,
) -> Markup {
    let before = |version: &ServedVersion| {
        let mut from = entry.served.as_ref()?.listed().skip_while(|other| other.release != version.release);
        from.nth(1).map(|previous| &previous.release)
    };
    html! {
        ul.versions {
            @for row in rows {
                li {
                    @match row {
                        Row::Stored(version) => {
                            p {
                                a href=(link(address, &version.release))
                                    aria-current=[(current == Some(&version.release)).then_some("page")] { b { (version.release) } }
                                (state(version))
                            }
                            p.facts {
                                @if let Some(time) = version.published { span { (date(time)) } }
                                span { (size(version.archive.size)) }
                                @if let Some(commit) = &version.commit { span { code { (short(commit)) } } }
                                @let sha256 = hex(&version.archive.sha256);
                                span { code title=(sha256) { "sha256 " (short(&sha256)) "…" } }
                                @if let Some(previous) = before(version) {
                                    a href=(changes(address, previous, &version.release)) {
                                        "changes since " (previous)
                                    }
                                }
                            }
                        }
                        Row::Missing(missing) => (self::missing(missing, reads)),
                    }
                }
            }
        }
    }
}

fn state(version: &ServedVersion) -> Markup {
    html! {
        @if let Some(reason) = &version.withdrawn { " " span.state.bad { "withdrawn" } " " (reason) }
        @else if let Some(reason) = &version.deprecated { " " span.state.warn { "deprecated" } " " (reason) }
        @if let Some(problem) = &version.problem { " " span.state.warn { (problem) } }
    }
}

fn missing(missing: &Missing, reads: bool) -> Markup {
    let state = if missing.why.is_stored() { "not served" } else { "not stored" };
    html! {
        p {
            b { (missing.release) } " "
            @if missing.withdrawn.is_some() { span.state.bad { "withdrawn" } " " }
            span.state.bad { (state) }
            @if let WhyMissing::NotReady { reason, .. } = &missing.why { " " span.state { (reason) } }
        }
        p.facts { (sentence(missing)) }
        @if let (WhyMissing::NotReady { message, .. }, true) = (&missing.why, reads) { p.why { (message) } }
    }
}

/// Why a version is missing.
fn sentence(missing: &Missing) -> Cow<'_, str> {
    match (&missing.withdrawn, &missing.why) {
        (Some(reason), _) => Cow::from(&**reason),
        (None, WhyMissing::NoVersion) => {
            "No Version was created for it yet, or it is beyond versionHistoryLimit.".into()
        }
        (None, WhyMissing::Publishing) => "It is being published.".into(),
        (None, WhyMissing::NotAllowed) => {
            "It is stored at a location that --allow-storage or --s3-endpoint of this registry does not allow."
                .into()
        }
        (None, WhyMissing::NotServed) if !missing.release.fits_clients() => {
            "It is stored, but no client can parse it: a number in it is greater than 9223372036854775807."
                .into()
        }
        (None, WhyMissing::NotServed) => {
            "It is stored, but its Module or its location is not served here.".into()
        }
        (None, WhyMissing::NotReady { reason, .. }) => meaning(reason).into(),
    }
}
