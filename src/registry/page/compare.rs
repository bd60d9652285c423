//! What changed between two versions, as a page and as JSON.

use maud::{Markup, html};
use serde::Serialize;

use super::parts::code;
use super::versions::link;
use crate::domain::text::plural;
use crate::domain::{Address, Release};
use crate::registry::docs::{Change, Comparison, Presence};

/// The page.
pub(super) fn page(address: &Address, [from, to]: [&Release; 2], comparison: &Comparison) -> Markup {
    let breaking = comparison.modules.iter().flat_map(|module| &module.changes);
    let breaking = breaking.filter(|change| change.is_breaking).count();
    html! {
        nav.crumbs aria-label="Breadcrumb" {
            a href="/" { "Modules" } span aria-hidden="true" { "/" } a href={ "/modules/" (address) } { (address) }
        }
        h1 { "From " a href=(link(address, from)) { (from) } " to " a href=(link(address, to)) { (to) } }
        @if comparison.is_empty() {
            p { "Nothing changed for a caller: inputs, outputs, requirements and resources are the same." }
        } @else if breaking > 0 {
            p.notice.warn role="note" { (plural(breaking, "change")) " can need work in a configuration that calls this module." }
        } @else {
            p.notice role="note" { "A configuration that calls this module needs no change." }
        }
        @for module in &comparison.modules {
            section {
                h2 { @if module.path.is_empty() { "Root module" } @else { code { (module.path) } } }
                @match module.presence {
                    Presence::Added => p { span.state { "added" } " This submodule is new." },
                    Presence::Removed => p { span.state.bad { "removed" } " This submodule is gone." },
                    Presence::Both => ul.changes { @for change in &module.changes { li { (line(change)) } } },
                }
            }
        }
        p { a href={ "/v1/modules/" (address) "/compare/" (from) "..." (to) } { "As JSON" } }
    }
}

fn line(change: &Change) -> Markup {
    let what = match change.what {
        "added" | "removed" => change.what.to_owned(),
        what => format!("{what} changed"),
    };
    let is_change = !matches!(change.what, "added" | "removed");
    html! {
        p {
            span.subject { (change.subject) } " " @if !change.name.is_empty() { code { (change.name) } " " } (what)
            @if change.is_breaking { " " span.state.bad { "needs attention" } }
        }
        @if is_change || change.before.is_some() || change.after.is_some() {
            dl.code {
                @if is_change || change.before.is_some() {
                    dt { "Before" } dd { (code(change.before.as_deref().unwrap_or("none"))) }
                }
                @if is_change || change.after.is_some() {
                    dt { "After" } dd { (code(change.after.as_deref().unwrap_or("none"))) }
                }
            }
        }
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    id: String,
    from: String,
    to: String,
    #[serde(flatten)]
    comparison: &'a Comparison,
}

/// The JSON.
pub(super) fn json(address: &Address, [from, to]: [&Release; 2], comparison: &Comparison) -> Vec<u8> {
    let (id, from, to) = (address.to_string(), from.to_string(), to.to_string());
    serde_json::to_vec(&Answer { id, from, to, comparison }).unwrap_or_default()
}
