//! How a version is used: the `module` block that installs it, or why no block does.

use maud::{Markup, html};

use super::answers::NO_HOST;
use super::module::View;
use crate::domain::Block;
use crate::registry::docs::Folder;
use crate::registry::index::ServedVersion;

impl View<'_> {
    /// The section about use. A withdrawn version has no block, since no client finds it.
    pub(super) fn usage(&self) -> Markup {
        html! {
            section aria-labelledby="use" {
                h2 #use { "Use" }
                @if self.version.withdrawn.is_some() { (self.not_installable()) } @else { (self.installable()) }
            }
        }
    }

    fn not_installable(&self) -> Markup {
        html! {
            p {
                "A withdrawn version cannot be installed."
                @if let Some(latest) = self.module.latest() { " The latest version is " (self.linked(latest)) "." }
            }
        }
    }

    fn installable(&self) -> Markup {
        html! {
            pre.snippet tabindex="0" { code { (self.snippet()) } }
            @if let Some(first) = self.installed_instead() {
                p.notice.warn role="note" {
                    "Clients install " (self.linked(first)) " with this block, because they ignore the build metadata after “+”."
                }
            }
            @if self.host == NO_HOST {
                p {
                    "Replace " code { (NO_HOST) } " with the address of this registry. If the registry runs with "
                    code { "--url" } ", this page shows the address."
                }
            }
        }
    }

    /// The version that clients install in place of this one: they compare no build metadata, and take the first of the list. A
    /// pre-release is installed only if the constraint is exactly its version.
    fn installed_instead(&self) -> Option<&ServedVersion> {
        let release = &self.version.release;
        let first = self.module.listed().find(|other| other.release.has_precedence_of(release))?;
        (first.release != *release && !release.is_prerelease()).then_some(first)
    }

    /// A `module` block that installs this version, with what it requires as comments.
    fn snippet(&self) -> String {
        let (address, release) = (self.module.address.to_string(), &self.version.release);
        let folder = Some(self.folder).filter(|folder| !folder.is_empty());
        let block = Block::of_registry(self.host, &address, release, folder).to_string();
        let required = self.shown.map(|shown| required(&shown.folder)).unwrap_or_default();
        if required.is_empty() {
            return block;
        }
        block.replacen("\n}", &format!("\n\n  # Required:\n  # {}\n}}", required.join("\n  # ")), 1)
    }
}

/// What a caller has to set, a line for each.
fn required(folder: &Folder) -> Vec<String> {
    let aliases = folder.providers.iter().flat_map(|provider| {
        provider.aliases.iter().map(move |configuration| passed(configuration, &provider.name))
    });
    let aliases: Vec<String> = aliases.collect();
    let providers = (!aliases.is_empty()).then(|| format!("providers = {{ {} }}", aliases.join(", ")));
    let inputs = folder.inputs.iter().filter(|input| input.is_required());
    providers.into_iter().chain(inputs.map(|input| format!("{} = …", input.name))).collect()
}

/// How a caller passes a configuration of a provider.
fn passed(configuration: &str, provider: &str) -> String {
    // The caller's default configuration has the same name.
    let alias = if configuration == provider { "" } else { ".…" };
    format!("{configuration} = {provider}{alias}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::docs::Provider;

    #[test]
    fn configurations_of_providers_are_required() {
        let aliases = vec!["aws.a".into(), "aws.b".into()];
        let aws = Provider { name: "aws".into(), aliases, ..Provider::default() };
        let aliases = vec!["oci".into(), "oci.home".into()];
        let oci = Provider { name: "oci".into(), aliases, ..Provider::default() };
        let folder = Folder { providers: vec![aws, oci], ..Folder::default() };
        let providers = "providers = { aws.a = aws.…, aws.b = aws.…, oci = oci, oci.home = oci.… }";
        assert_eq!(required(&folder), [providers]);
    }
}
