//! Parts of a module's page: inputs, outputs, requirements, resources.

use maud::{Markup, html};

use crate::registry::docs::{Folder, Input, Output, ResourceMode};

/// A type or default of more lines than this is folded.
const LINES: usize = 12;

pub(super) fn inputs(folder: &Folder) -> Markup {
    let (required, optional): (Vec<&Input>, Vec<&Input>) =
        folder.inputs.iter().partition(|input| input.is_required());
    html! {
        section #inputs aria-labelledby="inputs-title" {
            h2 #inputs-title { "Inputs " span.number { (folder.inputs.len()) } }
            @if folder.inputs.is_empty() { p { "There are no inputs." } }
            @for (title, inputs) in [("Required", required), ("Optional", optional)] {
                @if !inputs.is_empty() {
                    h3 { (title) }
                    @for input in inputs { (self::input(input)) }
                }
            }
        }
    }
}

fn input(input: &Input) -> Markup {
    let id = format!("input_{}", input.name);
    html! {
        article.item id=(id) aria-label=(input.name) {
            h4 {
                a href={ "#" (id) } { code { (input.name) } }
                @if input.sensitive == Some(true) { span.state { "sensitive" } }
                @if input.ephemeral == Some(true) { span.state { "ephemeral" } }
                @if input.nullable == Some(false) { span.state { "not null" } }
                @if input.deprecated.is_some() { span.state.bad { "deprecated" } }
            }
            @if let Some(notice) = &input.deprecated { p.notice.warn { (notice) } }
            @if let Some(description) = &input.description { p.text { (description) } }
            dl.code {
                dt { "Type" } dd { (code(input.type_.as_deref().unwrap_or("any"))) }
                @if let Some(default) = &input.default { dt { "Default" } dd { (code(default)) } }
            }
        }
    }
}

pub(super) fn outputs(folder: &Folder) -> Markup {
    html! {
        section #outputs aria-labelledby="outputs-title" {
            h2 #outputs-title { "Outputs " span.number { (folder.outputs.len()) } }
            @if folder.outputs.is_empty() { p { "There are no outputs." } }
            @for output in &folder.outputs { (self::output(output)) }
        }
    }
}

fn output(output: &Output) -> Markup {
    let id = format!("output_{}", output.name);
    html! {
        article.item id=(id) aria-label=(output.name) {
            h3 {
                a href={ "#" (id) } { code { (output.name) } }
                @if output.sensitive == Some(true) { span.state { "sensitive" } }
                @if output.ephemeral == Some(true) { span.state { "ephemeral" } }
                @if output.deprecated.is_some() { span.state.bad { "deprecated" } }
            }
            @if let Some(notice) = &output.deprecated { p.notice.warn { (notice) } }
            @if let Some(description) = &output.description { p.text { (description) } }
        }
    }
}

pub(super) fn requirements(folder: &Folder) -> Markup {
    html! {
        @if !folder.providers.is_empty() || !folder.required_version.is_empty() {
            section #requirements aria-labelledby="requirements-title" {
                h2 #requirements-title { "Requirements" }
                div.scroll tabindex="0" role="region" aria-labelledby="requirements-title" {
                    table {
                        thead { tr { th scope="col" { "Name" } th scope="col" { "Source" } th scope="col" { "Version" } } }
                        tbody {
                            @if !folder.required_version.is_empty() {
                                tr { th scope="row" { "Terraform" } td { "–" } td { code { (folder.required_version.join(", ")) } } }
                            }
                            @for provider in &folder.providers {
                                tr {
                                    th scope="row" {
                                        (provider.name)
                                        @for alias in &provider.aliases { " " code { (alias) } }
                                    }
                                    td { (provider.source.as_deref().unwrap_or("–")) }
                                    td { @if let Some(version) = &provider.version { code { (version) } } @else { "any" } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

pub(super) fn resources(folder: &Folder) -> Markup {
    let groups = [
        (ResourceMode::Managed, "Resources"),
        (ResourceMode::Data, "Data sources"),
        (ResourceMode::Ephemeral, "Ephemeral resources"),
    ];
    html! {
        @if !folder.resources.is_empty() || !folder.calls.is_empty() {
            section #resources aria-labelledby="resources-title" {
                h2 #resources-title { "Resources " span.number { (folder.resources.len()) } }
                @for (mode, title) in groups {
                    @let all: Vec<_> = folder.resources.iter().filter(|resource| resource.mode == mode).collect();
                    @if !all.is_empty() {
                        h3 { (title) }
                        ul.names { @for resource in all { li { code { (resource.type_) "." wbr; (resource.name) } } } }
                    }
                }
                @if !folder.calls.is_empty() {
                    h3 { "Modules that it calls" }
                    ul.names {
                        @for call in &folder.calls {
                            li { code { (call.name) } ": " (call.source.as_deref().unwrap_or("–"))
                                @if let Some(version) = &call.version { " " (version) } }
                        }
                    }
                }
            }
        }
    }
}

/// Code in a line or a block, folded where it is long.
pub(super) fn code(text: &str) -> Markup {
    let lines = text.lines().count();
    html! {
        @if lines > LINES {
            details { summary { (lines) " lines" } pre tabindex="0" { code { (text) } } }
        } @else if lines > 1 {
            pre tabindex="0" { code { (text) } }
        } @else {
            code { (text) }
        }
    }
}
