//! Reads a file in HCL's native syntax (`.tf`, `.tofu`).

use hcl_edit::Span as _;
use hcl_edit::expr::{Array, Expression, Object, ObjectKey};
use hcl_edit::parser::{Error, parse_body};
use hcl_edit::structure::{Block, Body};
use hcl_edit::template::{Element, Template};

use super::model::{Folder, Input, ModuleCall, Output, Provider, Resource, ResourceMode};
use super::pieces::{Piece, pieces};
use super::text::{cut, dedented, is_alias, is_identifier};
use crate::domain::text::plural;

/// What one file declares, and what of it could not be read.
pub(super) fn read(source: &str) -> (Folder, Option<String>) {
    let source = source.strip_prefix('\u{feff}').unwrap_or(source);
    let mut folder = Folder::default();
    if add_all(source, &mut folder).is_ok() {
        return (folder, None);
    }
    let pieces = pieces(source);
    let mut failed = pieces.iter().filter_map(|piece| {
        let error = add_all(piece.text, &mut folder).err()?;
        piece.is_shown().then(|| place(piece, &error))
    });
    let first = failed.next();
    let more = failed.count();
    let why = first.map(|first| match more {
        0 => first,
        more => format!("{first}; {} could not be read either", plural(more, "more block")),
    });
    (folder, why)
}

/// Adds what the blocks of a text declare.
fn add_all(source: &str, folder: &mut Folder) -> Result<(), Error> {
    for block in parse_body(source)?.blocks() {
        Written { source, body: &block.body }.add(block, folder);
    }
    Ok(())
}

/// Where a piece cannot be read.
fn place(piece: &Piece<'_>, error: &Error) -> String {
    let place = error.location();
    let (line, column) = (piece.line + place.line() - 1, place.column());
    format!("what begins in line {} could not be read: error in line {line}, column {column}", piece.line)
}

/// The body of a block, with the text that it was read from.
#[derive(Clone, Copy)]
struct Written<'a> {
    source: &'a str,
    body: &'a Body,
}

impl<'a> Written<'a> {
    fn add(self, block: &Block, folder: &mut Folder) {
        let labels: Vec<&str> = block.labels.iter().map(hcl_edit::structure::BlockLabel::as_str).collect();
        // Terraform refuses other names, and they would break the code that callers copy.
        if !labels.iter().all(|label| is_identifier(label)) {
            return;
        }
        match (block.ident.as_str(), labels.as_slice()) {
            ("variable", [name]) => folder.inputs.push(self.input(name)),
            ("output", [name]) => folder.outputs.push(self.output(name)),
            ("module", [name]) => folder.calls.push(self.call(name)),
            ("resource", [kind, name]) => self.add_resource(ResourceMode::Managed, kind, name, folder),
            ("data", [kind, name]) => self.add_resource(ResourceMode::Data, kind, name, folder),
            ("ephemeral", [kind, name]) => self.add_resource(ResourceMode::Ephemeral, kind, name, folder),
            ("provider", [name]) => folder.providers.push(Provider::named(name)),
            ("terraform", []) => self.add_settings(folder),
            _ => {}
        }
    }

    fn input(self, name: &str) -> Input {
        Input {
            name: name.into(),
            type_: self.written("type").map(|written| match written.trim_matches('"') {
                // The quoted form of Terraform 0.11.
                quoted @ ("string" | "list" | "map" | "any") => quoted.to_owned(),
                _ => written,
            }),
            default: self.written("default"),
            description: self.string("description"),
            sensitive: self.flag("sensitive"),
            nullable: self.flag("nullable"),
            ephemeral: self.flag("ephemeral"),
            deprecated: self.string("deprecated"),
        }
    }

    fn output(self, name: &str) -> Output {
        Output {
            name: name.into(),
            description: self.string("description"),
            sensitive: self.flag("sensitive"),
            ephemeral: self.flag("ephemeral"),
            deprecated: self.string("deprecated"),
        }
    }

    fn call(self, name: &str) -> ModuleCall {
        ModuleCall { name: name.into(), source: self.string("source"), version: self.string("version") }
    }

    fn add_resource(self, mode: ResourceMode, kind: &str, name: &str, folder: &mut Folder) {
        folder.resources.push(Resource { mode, type_: kind.into(), name: name.into() });
        // `provider = aws.east`; without it, the type begins with the provider's name.
        let written = self.written("provider");
        let written = written.as_deref().map(|text| text.trim_matches('"'));
        let provider = written.and_then(|text| text.split('.').next()).or_else(|| kind.split('_').next());
        folder.providers.extend(provider.filter(|name| is_identifier(name)).map(Provider::named));
    }

    fn add_settings(self, folder: &mut Folder) {
        folder.required_version.extend(self.string("required_version"));
        for required in self.body.get_blocks("required_providers") {
            for attribute in required.body.attributes() {
                let named = Provider::named(attribute.key.as_str());
                let provider = match &attribute.value {
                    Expression::Object(object) => Provider {
                        source: entry(object, "source").map(|source| self.text(source)),
                        version: entry(object, "version").map(|version| self.text(version)),
                        aliases: self.aliases(object, &named.name),
                        ..named
                    },
                    // The form of Terraform 0.12.
                    version => Provider { version: Some(self.text(version)), ..named },
                };
                folder.providers.push(provider);
            }
        }
    }

    /// The other configurations of a provider that a caller has to pass.
    fn aliases(self, object: &Object, provider: &str) -> Vec<String> {
        let listed = entry(object, "configuration_aliases").and_then(Expression::as_array);
        let written = listed.into_iter().flat_map(Array::iter).map(|alias| self.raw(alias));
        written.filter(|alias| is_alias(alias, provider)).collect()
    }

    fn value(self, key: &str) -> Option<&'a Expression> {
        self.body.get_attribute(key).map(|attribute| &attribute.value)
    }

    /// The expression of an attribute, as it is written.
    fn written(self, key: &str) -> Option<String> {
        self.value(key).map(|value| self.raw(value))
    }

    fn raw(self, value: &Expression) -> String {
        value.span().and_then(|span| self.source.get(span)).map(dedented).unwrap_or_default()
    }

    /// The string that an attribute is.
    fn string(self, key: &str) -> Option<String> {
        self.value(key).map(|value| self.text(value))
    }

    fn text(self, value: &Expression) -> String {
        let text = match value {
            Expression::String(text) => Some(text.value().clone()),
            Expression::StringTemplate(template) => literal(template),
            Expression::HeredocTemplate(heredoc) => literal(&heredoc.template),
            _ => None,
        };
        text.map_or_else(|| self.raw(value), |text| cut(text.trim().to_owned()))
    }

    /// A flag, which may be the text `true` or `false`.
    fn flag(self, key: &str) -> Option<bool> {
        let value = self.value(key)?;
        value.as_bool().or_else(|| value.as_str().and_then(|text| text.parse().ok()))
    }
}

fn entry<'a>(object: &'a Object, key: &str) -> Option<&'a Expression> {
    let value = object.iter().find(|(name, _)| match name {
        ObjectKey::Ident(ident) => ident.as_str() == key,
        ObjectKey::Expression(expression) => expression.as_str() == Some(key),
    });
    value.map(|(_, value)| value.expr())
}

/// The text of a template in which nothing is computed.
fn literal(template: &Template) -> Option<String> {
    template
        .iter()
        .map(|element| match element {
            Element::Literal(text) => Some(text.value().as_str()),
            Element::Interpolation(_) | Element::Directive(_) => None,
        })
        .collect()
}
