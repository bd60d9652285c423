//! The page of a version of a module, or of a folder of it.

use http::{Response, StatusCode};
use maud::{Markup, PreEscaped, html};

use super::display::{date, for_clients, meaning, short, size};
use super::parts::{inputs, outputs, requirements, resources};
use super::path::is_linkable;
use super::shell::{Page, Viewer};
use super::versions;
use crate::domain::Address;
use crate::domain::text::hex;
use crate::registry::docs::{NoDocs, Packed, ShownFolder};
use crate::registry::http::Body;
use crate::registry::index::{Entry, ServedModule, ServedVersion};

/// Versions in the switch of the page.
const SWITCH: usize = 30;

/// The contents of the page.
pub(super) struct View<'a> {
    pub entry: &'a Entry,
    pub module: &'a ServedModule,
    pub version: &'a ServedVersion,
    /// The folder; empty for the root.
    pub folder: &'a str,
    /// `HOST[:PORT]` for the snippet; `NO_HOST` if it is not known.
    pub host: &'a str,
    /// Whether messages of conditions are shown.
    pub reads: bool,
    pub docs: Result<&'a Packed, NoDocs>,
    pub shown: Option<&'a ShownFolder>,
}

impl View<'_> {
    /// The page: with status 404 if it is not known whether the version has this folder.
    pub(super) fn page(&self, viewer: &Viewer) -> Response<Body> {
        let (status, phrase) =
            if self.is_unknown() { (StatusCode::NOT_FOUND, "Not Found") } else { (StatusCode::OK, "OK") };
        let of_folder = if self.folder.is_empty() { String::new() } else { format!("{} · ", self.folder) };
        let title = format!("{of_folder}{} {}", self.module.address, self.version.release);
        Page { title: &title, words: "", viewer, main: self.render() }.answer(status, phrase)
    }

    /// Whether the documentation can be read and does not contain the folder.
    fn is_unknown(&self) -> bool {
        self.docs.is_ok() && self.shown.is_none()
    }

    fn render(&self) -> Markup {
        let address = &self.module.address;
        html! {
            (breadcrumbs(address, self.folder))
            div.title {
                h1 { @if self.folder.is_empty() { (address.name) } @else { (self.folder) } }
                (self.switch())
            }
            @if let Some(description) = self.entry.description.as_ref().filter(|_| self.folder.is_empty()) {
                p.lead { (description) }
            }
            (self.notices())
            div.columns {
                div.content {
                    @match (&self.docs, self.shown) {
                        (Err(error), _) => p.notice.bad role="status" { (error) },
                        (Ok(packed), Some(shown)) => (self.documented(packed, shown)),
                        (Ok(_), None) => p.notice {
                            "There is no documentation of this folder: only folders in modules/ and examples/ are documented. "
                            a href=(versions::link(address, &self.version.release)) { "Show the whole version" }
                        },
                    }
                    @if self.folder.is_empty() { (versions::section(self.entry, address, &self.version.release, self.reads)) }
                }
                aside.side aria-label="Use and facts" { @if !self.is_unknown() { (self.usage()) } (self.facts()) }
            }
        }
    }

    fn switch(&self) -> Markup {
        let latest = self.module.latest().map(|latest| &latest.release);
        html! {
            details.switch {
                summary { "Version " b { (self.version.release) }
                    @if latest == Some(&self.version.release) { span.state { "latest" } }
                }
                ul {
                    @for version in self.module.listed().take(SWITCH) {
                        li { a href=(self.link(version))
                            aria-current=[(version.release == self.version.release).then_some("page")] { (version.release) } }
                    }
                    li { a href={ "/modules/" (self.module.address) "/versions" } { "All versions" } }
                }
            }
        }
    }

    fn link(&self, version: &ServedVersion) -> String {
        versions::folder_link(&self.module.address, &version.release, self.folder)
    }

    /// A version with a link to its page.
    pub(super) fn linked(&self, version: &ServedVersion) -> Markup {
        html! { a href=(self.link(version)) { (version.release) } }
    }

    fn notices(&self) -> Markup {
        let version = self.version;
        let newer = self.module.latest().filter(|latest| {
            latest.release.precedence(&version.release).is_gt() && !latest.release.is_prerelease()
        });
        html! {
            @if let Some(reason) = &version.withdrawn {
                p.notice.bad role="note" { b { "Withdrawn. " } "This version cannot be installed: " (reason) }
            } @else if let Some(reason) = &version.deprecated {
                p.notice.warn role="note" { b { "Deprecated. " } (reason) }
            }
            @if let Some(problem) = version.problem.as_ref().filter(|_| version.withdrawn.is_none()) {
                p.notice.warn role="note" { b { (problem) ": " } (meaning(problem)) " " (for_clients(problem)) }
            }
            @if let Some(newer) = newer {
                p.notice role="note" { "There is a newer version: " (self.linked(newer)) " ("
                    a href=(versions::changes(&self.module.address, &version.release, &newer.release)) { "what changed" } ")" }
            }
        }
    }

    fn facts(&self) -> Markup {
        let (version, source) = (self.version, self.version.source.as_deref());
        let https = source.filter(|source| source.starts_with("https://"));
        let checksum = hex(&version.archive.sha256);
        html! {
            section aria-labelledby="facts" {
                h2 #facts { "Facts" }
                dl.facts {
                    @if let Some(time) = version.published { dt { "Published" } dd { (date(time)) } }
                    @if let Some(source) = https {
                        dt { "Source" } dd { a href=(source) rel="noopener noreferrer" { (source.trim_start_matches("https://")) } }
                    }
                    @if let Some(tag) = &version.tag { dt { "Tag" } dd { code { (tag.trim_start_matches("refs/tags/")) } } }
                    @if let Some(commit) = &version.commit {
                        dt { "Commit" }
                        dd {
                            @match https {
                                Some(source) => a href={ (source) "/tree/" (commit) } rel="noopener noreferrer" { code { (short(commit)) } },
                                None => code { (short(commit)) },
                            }
                        }
                    }
                    dt { "Archive" } dd { (version.format.extension()) ", " (size(version.archive.size)) }
                    dt { "SHA-256" } dd { code.long { (checksum) } }
                }
            }
        }
    }

    fn documented(&self, packed: &Packed, shown: &ShownFolder) -> Markup {
        let folder = &shown.folder;
        let below = |group: &str| -> Vec<_> {
            packed.paths().filter(|path| self.folder.is_empty() && path.starts_with(group)).collect()
        };
        let groups =
            [("submodules", "Submodules", below("modules/")), ("examples", "Examples", below("examples/"))];
        html! {
            (self.contents(shown, &groups))
            @if !folder.unreadable.is_empty() {
                div.notice.warn role="note" {
                    p { "Some files could not be read completely:" }
                    ul { @for file in &folder.unreadable { li { code { (file.file) } ": " (file.why) } } }
                }
            }
            @if packed.is_cut {
                p.notice.warn role="note" { "The documentation exceeds the registry's limits and is not complete." }
            }
            @if let Some(readme) = &shown.readme {
                section #readme aria-labelledby="readme-title" {
                    h2 #readme-title { "README" }
                    // Sanitised when it was read.
                    div.readme { (PreEscaped(readme)) }
                }
            }
            (inputs(folder))
            (outputs(folder))
            (requirements(folder))
            (resources(folder))
            @for (id, title, paths) in &groups { (self.folders(id, title, paths)) }
        }
    }

    /// Links to the sections of the page.
    fn contents(&self, shown: &ShownFolder, folders: &[(&str, &str, Vec<&str>)]) -> Markup {
        let folder = &shown.folder;
        let requires = !folder.providers.is_empty() || !folder.required_version.is_empty();
        // The section also lists the modules that it calls.
        let has_resources = !folder.resources.is_empty() || !folder.calls.is_empty();
        let mut links = vec![
            (shown.readme.is_some(), "readme", "README".to_owned()),
            (true, "inputs", format!("Inputs ({})", folder.inputs.len())),
            (true, "outputs", format!("Outputs ({})", folder.outputs.len())),
            (requires, "requirements", "Requirements".to_owned()),
            (has_resources, "resources", format!("Resources ({})", folder.resources.len())),
        ];
        links.extend(folders.iter().map(|(id, title, paths)| (!paths.is_empty(), *id, (*title).to_owned())));
        links.push((self.folder.is_empty(), "versions", "Versions".to_owned()));
        html! {
            nav.contents aria-label="On this page" {
                ul {
                    @for (_, id, title) in links.iter().filter(|(is_there, ..)| *is_there) {
                        li { a href={ "#" (id) } { (title) } }
                    }
                }
            }
        }
    }

    fn folders(&self, id: &str, title: &str, paths: &[&str]) -> Markup {
        let base = versions::link(&self.module.address, &self.version.release);
        html! {
            @if !paths.is_empty() {
                section id=(id) aria-labelledby={ (id) "-title" } {
                    h2 id={ (id) "-title" } { (title) " " span.number { (paths.len()) } }
                    ul.folders {
                        @for path in paths {
                            li { @if is_linkable(path) { a href={ (base) "/" (path) } { (path) } } @else { (path) } }
                        }
                    }
                }
            }
        }
    }
}

fn breadcrumbs(address: &Address, folder: &str) -> Markup {
    html! {
        nav.crumbs aria-label="Breadcrumb" {
            a href="/" { "Modules" }
            span aria-hidden="true" { "/" }
            a href={ "/?q=" (address.namespace) } { (address.namespace) }
            span aria-hidden="true" { "/" }
            @if folder.is_empty() { span { (address.name) } }
            @else { a href={ "/modules/" (address) } { (address.name) } }
            span aria-hidden="true" { "/" }
            span { (address.system) }
        }
    }
}
