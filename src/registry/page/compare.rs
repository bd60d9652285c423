//! What changed between two versions, as a page and as JSON.

use http::{Response, StatusCode};
use maud::{Markup, html};
use serde::Serialize;

use super::answers::{NO_DOCS, NO_MODULE, NO_VERSION, json, not_found};
use super::pages::Pages;
use super::parts::code;
use super::requester::Requester;
use super::shell::{Page, Viewer, message};
use super::versions::{crumbs, link};
use crate::domain::text::plural;
use crate::domain::{Address, Release};
use crate::registry::auth::Denied;
use crate::registry::docs::{Change, Comparison, ModuleChanges, NoDocs, Presence};
use crate::registry::http::Body;
use crate::registry::http::answer::{error, with_remedy};
use crate::registry::responses;

impl Pages {
    /// What changed between two versions, as a page or as JSON.
    pub(super) async fn compare(
        &self,
        address: Address,
        [from, to]: &[Release; 2],
        is_json: bool,
        requester: &Requester,
    ) -> Result<Response<Body>, Denied> {
        let (address, viewer) = (self.aliases.canonical(address), &requester.viewer);
        let entry = self.entry(&address, &[from, to], requester).await?;
        let Some(module) = entry.as_ref().and_then(|entry| entry.served.as_ref()) else {
            return Ok(if is_json { responses::module_not_found() } else { not_found(viewer, NO_MODULE) });
        };
        let (Some(old), Some(new)) = (module.stored(from), module.stored(to)) else {
            return Ok(if is_json { responses::version_not_found() } else { not_found(viewer, NO_VERSION) });
        };
        // As they are stored: a request may spell them in another way.
        let (from, to, shown_to) = (old.release.clone(), new.release.clone(), viewer.clone());
        let show = move |comparison: &Comparison| {
            if is_json {
                return json(to_json(&address, [&from, &to], comparison));
            }
            let title = format!("{address} {from} to {to}");
            let main = page(&address, [&from, &to], comparison);
            Page { title: &title, words: "", viewer: &shown_to, main }.answer(StatusCode::OK, "OK")
        };
        let namespace = self.index.beside_others(&module.address.namespace);
        let compared = self.library.compare(namespace, old, new, requester.peer, show).await;
        Ok(compared.unwrap_or_else(|why| not_compared(why, is_json, viewer)))
    }
}

/// Why two versions are not compared. That is an error of the registry only where another attempt can succeed.
fn not_compared(why: NoDocs, is_json: bool, viewer: &Viewer) -> Response<Body> {
    let (seconds, sentence) = (why.retry_after(), why.to_string());
    let status = match seconds {
        Some(_) => StatusCode::SERVICE_UNAVAILABLE,
        None if is_json => StatusCode::NOT_FOUND,
        None => StatusCode::OK,
    };
    let answer = if is_json {
        error(status, NO_DOCS, format!("{sentence}\n"))
    } else {
        message(viewer, status, NO_DOCS, "These versions cannot be compared", &sentence)
    };
    with_remedy(answer, seconds)
}

fn page(address: &Address, [from, to]: [&Release; 2], comparison: &Comparison) -> Markup {
    let all = || comparison.modules.iter().flat_map(|module| &module.changes);
    let breaking = all().filter(|change| change.is_breaking).count();
    let is_requirement = |change: &Change| matches!(change.subject, "terraform" | "provider");
    let requires_other = all().any(|change| is_requirement(change) && !change.is_breaking);
    html! {
        (crumbs(address))
        h1 { "From " a href=(link(address, from)) { (from) } " to " a href=(link(address, to)) { (to) } }
        @if comparison.is_empty() {
            p {
                "No input, output, requirement, resource or call of a module changed. Descriptions, validations and other \
                 expressions are not compared."
            }
        } @else if breaking > 0 {
            p.notice.warn role="note" { (plural(breaking, "change")) " may require changes to configurations that call this module." }
        } @else if comparison.is_whole() {
            p.notice role="note" {
                "No input, output or resource changed in a way that requires changes to configurations that call this module."
            }
        }
        @if requires_other {
            p.notice.warn role="note" {
                "This module requires other versions or providers than before: check that your configuration permits them."
            }
        }
        @if comparison.is_cut {
            p.notice.warn role="note" {
                "A version exceeds the limits of the comparison: changes may be missing, such as additions and removals."
            }
        }
        @for module in &comparison.modules { (changes(module)) }
    }
}

/// What changed in the root or in a submodule.
fn changes(module: &ModuleChanges) -> Markup {
    html! {
        section {
            h2 { @if module.path.is_empty() { "Root module" } @else { code { (module.path) } } }
            @for file in &module.unreadable {
                p.notice.warn role="note" { (file) " could not be read: what it declares is not compared." }
            }
            @match module.presence {
                Presence::Added => p { span.state { "added" } " This submodule is new." },
                Presence::Removed => p { span.state.bad { "removed" } " This submodule no longer exists." },
                Presence::Both => {
                    @if !module.changes.is_empty() {
                        ul.changes { @for change in &module.changes { li { (line(change)) } } }
                    }
                }
            }
        }
    }
}

fn line(change: &Change) -> Markup {
    let is_change = !matches!(change.what, "added" | "removed");
    html! {
        p {
            span.subject { (change.subject) } " " @if !change.name.is_empty() { code { (change.name) } " " }
            (change.what) @if is_change { " changed" }
            @if change.is_breaking { " " span.state.bad { "needs attention" } }
        }
        @if is_change || change.before.is_some() || change.after.is_some() {
            dl.code {
                @for (title, value) in [("Before", &change.before), ("After", &change.after)] {
                    @if is_change || value.is_some() {
                        dt { (title) } dd { (code(value.as_deref().unwrap_or("none"))) }
                    }
                }
            }
        }
    }
}

#[derive(Serialize)]
struct CompareBody<'a> {
    id: String,
    from: String,
    to: String,
    #[serde(flatten)]
    comparison: &'a Comparison,
}

fn to_json(address: &Address, [from, to]: [&Release; 2], comparison: &Comparison) -> Vec<u8> {
    let (id, from, to) = (address.to_string(), from.to_string(), to.to_string());
    serde_json::to_vec(&CompareBody { id, from, to, comparison }).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::docs::{Docs, Folder, Provider, Unreadable, compare_unpacked};

    fn version(paths: &[&str], unreadable: &[&str]) -> Docs {
        let file = |file: &&str| Unreadable { file: (*file).into(), why: String::new() };
        let folder = |path: &&str| Folder {
            path: (*path).into(),
            unreadable: unreadable.iter().map(file).collect(),
            ..Folder::default()
        };
        Docs { folders: paths.iter().map(folder).collect(), is_cut: false }
    }

    fn page_of(old: &Docs, new: &Docs) -> String {
        let address: Address = "platform/eks/aws".parse().unwrap();
        let [from, to] = ["1.0.0", "2.0.0"].map(|text| Release::parse(text).unwrap());
        page(&address, [&from, &to], &compare_unpacked(old, new)).into_string()
    }

    #[test]
    fn a_page_says_that_nothing_changed_only_if_that_is_known() {
        let (with, without) = (version(&["", "modules/a"], &[]), version(&[""], &[]));
        let unread = version(&[""], &["x.tf"]);
        let cut = Docs { is_cut: true, ..without.clone() };
        let calm = ["No input, output, requirement", "No input, output or resource"];
        for (old, new, sentence) in [
            (&without, &without, "No input, output, requirement, resource or call of a module changed."),
            (&without, &with, "No input, output or resource changed in a way that requires changes"),
            (&with, &without, "1 change may require changes to configurations that call this module."),
            (&without, &unread, "x.tf could not be read: what it declares is not compared."),
            (&without, &cut, "A version exceeds the limits of the comparison"),
        ] {
            let page = page_of(old, new);
            assert!(page.contains(sentence), "{sentence} is not in {page}");
            let is_calm = calm.iter().any(|one| sentence.contains(one));
            assert_eq!(calm.iter().any(|one| page.contains(one)), is_calm, "{page}");
            assert!(!page.contains("requires other"), "{page}");
        }
    }

    #[test]
    fn changed_requirements_are_for_the_caller_to_check() {
        let requiring = |terraform: &str, source: &str, version: &str| {
            let (source, version) = (Some(source.into()), Some(version.into()));
            let aws = Provider { name: "aws".into(), source, version, ..Provider::default() };
            let folder = Folder {
                required_version: vec![terraform.into()],
                providers: vec![aws],
                ..Folder::default()
            };
            Docs { folders: vec![folder], is_cut: false }
        };
        let old = requiring(">= 1.0", "hashicorp/aws", ">= 5.0");
        for new in [
            requiring(">= 1.11", "hashicorp/aws", ">= 5.0"),
            requiring(">= 1.0", "acme/aws", ">= 5.0"),
            requiring(">= 1.0", "hashicorp/aws", ">= 6.0"),
        ] {
            let page = page_of(&old, &new);
            assert!(page.contains("requires other versions or providers than before"), "{page}");
        }
    }
}
